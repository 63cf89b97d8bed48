"""Runs a project's suite once, in one mode, and gets an outcome for every test, also when a test hangs or kills it.

The suite runs in a process of its own (suite_plugin.py is inside it). A test that takes longer than the project's limit
gets SIGABRT, so that faulthandler writes all stacks into the log, and then the whole process group SIGKILL; the test's
outcome is "hang", or "crash" if the process died by itself, and another process goes on with the tests that are left.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prepare import interpreter
from project import HERE, Project

POLL_SECONDS = 0.1
COLLECT_SECONDS_MAX = 180
END_SECONDS_MAX = 60
# A suite that hangs more often than this has told enough.
RESTARTS_MAX = 25
GOOD = frozenset({"passed", "xfailed", "xpassed", "skipped"})


@dataclass
class Test:
    outcome: str
    seconds: float = 0.0
    text: str = ""


@dataclass
class Result:
    mode: str
    tests: dict[str, Test] = field(default_factory=dict)
    loops: dict[str, int] = field(default_factory=dict)  # made, by class
    python: str = ""
    seconds: float = 0.0
    # What went wrong beside the tests: no end, or a bad one.
    troubles: list[str] = field(default_factory=list)

    def count(self, *outcomes: str) -> int:
        return sum(test.outcome in outcomes for test in self.tests.values())

    def bad(self) -> list[str]:
        return [name for name, test in self.tests.items() if test.outcome not in GOOD]


def _command(project: Project, python: Path, mode: str) -> list[str]:
    command = [str(python), "-X", "faulthandler"]
    if mode == "install":
        command += ["-m", "asynchrotron"]
    command += ["-m", "pytest", "-c", project.config, "-p", "suite_plugin", "-p", "no:cacheprovider"]
    command += ["--continue-on-collection-errors", "-o", "addopts=", "--tb=short", "-q"]
    for option in project.options:
        command += ["-o", option]
    return [*command, *project.arguments]


def _variables(project: Project, mode: str, services: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("PYTHON", "PYTEST", "SUITE_"))
    }
    # aiohttp and others behave differently under it, and it says something of the machine, not of the tests.
    kept.pop("CI", None)
    own = {"SUITE_MODE": mode, "SUITE_REBIND": " ".join(project.rebind), "PYTHONPATH": str(HERE)}
    own["SUITE_QUIET_LOGGERS"] = " ".join(project.quiet_loggers)
    for name, value in project.environment.items():
        own[name] = value.format(**services)
    return {**kept, **services, **own, "PYTHONDONTWRITEBYTECODE": "1"}


def _write_lines(path: Path, tests: Iterable[str]) -> str:
    path.write_text("".join(json.dumps(test) + "\n" for test in tests))
    return str(path)


# Set when the runner is told to end; every process of a suite is then ended, and nothing new is started.
stopping = threading.Event()


class Stopped(Exception):
    """The runner was told to end."""


class _Process:
    """One pytest process, watched through the lines it writes."""

    def __init__(self, command: list[str], variables: dict[str, str], project: Project, log: Path) -> None:
        self.project = project
        self.log = log
        self.running: str | None = None
        self.result = Result(mode=variables["SUITE_MODE"])
        self.collected = False
        self.finished = False
        self._lines = Path(variables["SUITE_OUTCOMES"])
        self._read = 0
        self._since = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=project.tree,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _take_line(self, line: dict[str, Any]) -> None:
        self._since = time.monotonic()
        if "start" in line:
            self.collected, self.running = True, line["start"]
        elif "end" in line:
            self.running = None
            self.result.tests[line["end"]] = Test(line["outcome"], line["seconds"], line["text"])
        else:
            self.finished = True
            self.result.loops = line["loops"]
            self.result.python = line["python"]

    def _look(self) -> None:
        if not self._lines.exists():
            return
        with self._lines.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
        self._read += len(whole[0]) + len(whole[1])
        for line in whole[0].splitlines():
            self._take_line(json.loads(line))

    def _patience(self) -> float:
        if self.running is not None:
            return self.project.seconds_per_test
        return END_SECONDS_MAX if self.collected else COLLECT_SECONDS_MAX

    def wait(self) -> None:
        try:
            while (status := self._process.poll()) is None:
                if stopping.wait(POLL_SECONDS):
                    raise Stopped
                self._look()
                if time.monotonic() - self._since > self._patience():
                    self._kill()
                    self._judge("hang")
                    return
            self._look()
            if status < 0 or not self.finished:
                self._judge("crash")
        finally:
            self._end_group()

    def _judge(self, how: str) -> None:
        tail = self.log.read_bytes()[-6000:].decode(errors="replace")
        if self.running is not None:
            self.result.tests[self.running] = Test(how, self.project.seconds_per_test, tail)
        else:
            when = "at its end" if self.finished else "between tests" if self.collected else "before its first test"
            self.result.troubles.append(f"{how} {when}, see {self.log.name}")

    def _kill(self) -> None:
        self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def _end_group(self) -> None:
        """Also what the tests started and left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def run(project: Project, mode: str, services: Mapping[str, str], only: Iterable[str] | None = None) -> Result:
    """Every test of the project in this mode, or only some."""
    began = time.monotonic()
    log = project.folder / f"{mode}{'' if only is None else '-again'}.log"
    log.write_bytes(b"")
    command = [word.format(**services) for word in _command(project, interpreter(project), mode)]
    total = Result(mode)
    with tempfile.TemporaryDirectory(prefix="suite-") as scratch:
        for attempt in range(RESTARTS_MAX):
            if stopping.is_set():
                raise Stopped
            variables = _variables(project, mode, services)
            variables["SUITE_OUTCOMES"] = str(Path(scratch) / f"outcomes-{attempt}")
            variables["SUITE_EXCEPT"] = _write_lines(Path(scratch) / "except", total.tests)
            variables["SUITE_SKIP"] = _write_lines(
                Path(scratch) / "skip", [pattern for entry in project.skip for pattern in entry.patterns]
            )
            if only is not None:
                variables["SUITE_ONLY"] = _write_lines(Path(scratch) / "only", only)
            process = _Process(command, variables, project, log)
            process.wait()
            total.tests.update(process.result.tests)
            for name, count in process.result.loops.items():
                total.loops[name] = total.loops.get(name, 0) + count
            total.python = process.result.python or total.python
            total.troubles += process.result.troubles
            # Something to go on with only if a test was stopped in the middle.
            if process.running is None:
                break
        else:
            total.troubles.append(f"gave up after {RESTARTS_MAX} tests that hung or crashed")
    total.seconds = time.monotonic() - began
    return total
