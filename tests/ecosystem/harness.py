"""Runs an ordinary asyncio program in a fresh process, on one loop or another, and judges how it ended.

The programs in programs/ know nothing of this: each has `async def main()`, asserts what it expects, reports one
line (programs/outcome.py), and ends with `asyncio.run(main())`. The modes:

    stock     python -X dev program          the control: the program and its library are right on stock asyncio
    loop      Runner(loop_factory=...)        our loop alone; asyncio's names stay what they were
    debug     the same under -X dev           asyncio debug mode, resource warnings
    install   python -m asynchrotron program  asyncio's names replaced before the program starts

To try the programs on another loop, ASYNCHROTRON_ECOSYSTEM_FACTORY=module:callable stands in for ours (then there
is no install mode).
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
STAND_IN = os.environ.get("ASYNCHROTRON_ECOSYSTEM_FACTORY")
FACTORY = STAND_IN or "asynchrotron:new_event_loop"
MODES = ("stock", "loop", "debug") if STAND_IN else ("stock", "loop", "debug", "install")

PROGRAM_SECONDS_MAX = 60
# What must not be on stderr even if the exit status is 0: each is something a loop or task swallowed.
COMPLAINTS = (
    "Traceback (most recent call last)",
    "was never awaited",
    "was destroyed but it is pending",
    "was never retrieved",
    "ResourceWarning",
    "Exception ignored",
    "Exception in callback",
    "Fatal error on transport",
)


@dataclass(frozen=True)
class Ended:
    exit_status: int
    stdout: str
    stderr: str
    timed_out: bool

    def __str__(self) -> str:
        how = "did not end in time" if self.timed_out else f"ended with status {self.exit_status}"
        return f"{how}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


@functools.cache
def why_not_importable() -> str | None:
    """Asked once, of a fresh process: the harness itself must never import the package."""
    attempt = subprocess.run(
        [sys.executable, "-c", f"import {FACTORY.partition(':')[0]}"], capture_output=True, text=True, check=False
    )
    return attempt.stderr if attempt.returncode else None


def command(mode: str, program: Path) -> list[str]:
    """The command line that runs a program in a mode."""
    interpreter = [sys.executable, "-X", "faulthandler", "-W", "always::ResourceWarning"]
    match mode:
        case "stock":
            return [*interpreter, "-X", "dev", str(program)]
        case "loop":
            return [*interpreter, str(HERE / "on_loop.py"), FACTORY, str(program)]
        case "debug":
            return [*interpreter, "-X", "dev", str(HERE / "on_loop.py"), FACTORY, str(program)]
        case "install":
            return [*interpreter, "-m", "asynchrotron", str(program)]
    raise ValueError(f"no such mode: {mode}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would change a program's behaviour behind its back."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy")
        and name not in {"PYTHONWARNINGS", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "SSLKEYLOGFILE"}
    }
    return {**kept, **(extra or {})}


def kill_group(process: "subprocess.Popen[Any]") -> None:
    """End, for good, a process we started in a session of its own, and whatever it started itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def give_up(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a program that hangs; first so that faulthandler shows where."""
    process.send_signal(signal.SIGABRT)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        kill_group(process)
        return process.communicate()
    finally:
        kill_group(process)


def run(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds_max: float = PROGRAM_SECONDS_MAX,
) -> Ended:
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(env),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        stdout, stderr = give_up(process)
        return Ended(process.returncode, stdout, stderr, timed_out=True)
    except BaseException:
        give_up(process)
        raise
    return Ended(process.returncode, stdout, stderr, timed_out=False)


def check(ended: Ended, mode: str) -> None:
    """The program succeeded, quietly, and on the loop the mode promises."""
    assert (ended.timed_out, ended.exit_status) == (False, 0), str(ended)
    for complaint in COMPLAINTS:
        assert complaint not in ended.stderr, f"{complaint!r} on stderr: {ended}"
    lines = ended.stdout.splitlines()
    assert lines, f"the program printed no result: {ended}"
    assert ran_on(lines[-1].rpartition(" on ")[2], mode), f"not the loop of mode {mode!r}: {ended}"


def ran_on(loop_class: str, mode: str) -> bool:
    if mode == "stock":
        return loop_class.startswith("asyncio.")
    return loop_class.startswith(FACTORY.partition(":")[0].partition(".")[0] + ".")
