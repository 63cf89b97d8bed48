"""Runs one measurement: a fresh process for a micro benchmark, a fresh server and a fresh client for a server."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cases import BENCH, Case, Crawl, Load, Micro, Server
from harness.loops import CONTENDERS, RUST_LIMIT

ROOT = BENCH.parent
LOAD_MANIFEST = BENCH / "load" / "Cargo.toml"
START_TIMEOUT_S = 30
RUN_TIMEOUT_S = 180


class Failure(Exception):
    """A measurement that could not be made; the text says why."""


@dataclass(frozen=True)
class Settings:
    python: str = sys.executable
    cores: tuple[int, int] = (0, 1)
    quick: bool = False
    target_s: float = 0.3
    warmup_ms: int = 300
    duration_ms: int = 1000
    load: Path | None = None
    limit: Path | None = None


@dataclass(frozen=True)
class Sample:
    cost: float  # ns of CPU per operation or message; bytes in the memory suite
    wall: float | None  # ns per operation or message
    extra: dict[str, Any]


def probe(settings: Settings, contender: str) -> dict[str, Any]:
    """Interpreter, versions and the types that really run; Failure if the contender cannot be imported here."""
    return _run_worker(settings, contender, [], {settings.cores[0]})


def measure(settings: Settings, case: Case, contender: str) -> Sample:
    if isinstance(case, Load):
        return _measure_load(settings, case, contender)
    if isinstance(case, Crawl):
        from harness.crawl import measure_crawl

        return measure_crawl(settings, case, contender)
    if isinstance(case, Server):
        return _measure_server(settings, case, contender)
    return _measure_micro(settings, case, contender)


def _measure_micro(settings: Settings, case: Micro, contender: str) -> Sample:
    arguments = [case.name, "--folder", case.folder, "--target-s", str(settings.target_s)]
    if settings.quick:
        arguments.append("--quick")
    report = _run_worker(settings, contender, arguments, set(settings.cores[: case.cores]))
    extra: dict[str, Any] = {
        name: report[name] for name in ("count", "system_share", "threads", "loop", "task") if name in report
    }
    return Sample(report["cost"], report.get("wall"), extra)


def _run_worker(settings: Settings, contender: str, arguments: list[str], cores: set[int]) -> dict[str, Any]:
    command = python_command(settings.python, contender, "worker.py", arguments)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False, preexec_fn=_pin(cores)
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"no result within {RUN_TIMEOUT_S} s") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise Failure(_last_line(done.stderr.replace(settings.python, "python")) or f"exit status {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def python_command(python: str, contender: str, program: str, arguments: list[str]) -> list[str]:
    chosen = CONTENDERS[contender]
    factory = ["--factory", chosen.factory] if chosen.factory else []
    return [python, *chosen.launcher, str(BENCH / program), *arguments, *factory]


@contextmanager
def _serving(settings: Settings, case: Server, contender: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A fresh server process, and its port."""
    if contender == RUST_LIMIT:
        command = [str(settings.limit), "--port", "0"]
    else:
        command = python_command(settings.python, contender, "serve.py", [case.server, "--size", str(case.size or 0)])
    with tempfile.TemporaryFile("w+") as errors:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=_pin({settings.cores[0]}),  # noqa: PLW1509  this process has one thread
        )
        try:
            yield server, _port(_first_line(server, errors))
        finally:
            server.kill()
            server.communicate()


def _measure_server(settings: Settings, case: Server, contender: str) -> Sample:
    with _serving(settings, case, contender) as (server, port):
        report = _run_load(settings, case, port, server)
        status = Path(f"/proc/{server.pid}/status").read_text()
    messages, wall_ns = report["messages"], report["wall_ns"]
    if messages == 0:
        raise Failure("no message was answered in the measured time")
    extra = {
        "messages": messages,
        "client_cpu_share": report["client_cpu_ns"] / wall_ns,
        "server_cpu_share": report["server_cpu_ns"] / wall_ns,
        "latency_ns": report["latency_ns"],
        "rss_bytes": _status_number(status, "VmRSS") * 1024,
        "threads": _status_number(status, "Threads"),
    }
    return Sample(report["server_cpu_ns"] / messages, wall_ns / messages, extra)


# Of what the first contender can take, per case: the rates at which everybody's latencies are measured.
RATE_SHARES = (0.5, 0.8)
_first_per_second: dict[str, float] = {}


def _measure_load(settings: Settings, case: Load, contender: str) -> Sample:
    """One server process: first as fast as it goes, then at each rate. CPU per request is that at the lowest rate."""
    with _serving(settings, case, contender) as (server, port):
        full = _run_load(settings, case, port, server)
        if not full["messages"]:
            raise Failure("no request was answered in the measured time")
        per_second = full["messages"] / full["wall_ns"] * 1e9
        reference = _first_per_second.setdefault(case.name, per_second)
        paced = []
        for share in RATE_SHARES:
            rate = max(1, int(reference * share))
            report = _run_load(settings, case, port, server, rate)
            if not report["messages"]:
                raise Failure(f"no request was answered at {rate} requests/s")
            cpu_ns = report["server_cpu_ns"] / report["messages"]
            measured = {name: report[name] for name in ("unanswered", "latency_ns")}
            paced.append({"share": share, "rate": rate, "cpu_ns": cpu_ns, **measured})
        status = Path(f"/proc/{server.pid}/status").read_text()
    extra = {
        "per_second": per_second,
        "full_cpu_ns": full["server_cpu_ns"] / full["messages"],
        "paced": paced,
        "rss_bytes": _status_number(status, "VmRSS") * 1024,
        "peak_rss_bytes": _status_number(status, "VmHWM") * 1024,
    }
    return Sample(paced[0]["cpu_ns"], 1e9 / per_second, extra)


def _run_load(
    settings: Settings, case: Server, port: int, server: subprocess.Popen[str], rate: int | None = None
) -> dict[str, Any]:
    shape = ["--mode", case.mode, "--size", str(case.size)] if case.size else ["--mode", "http", "--path", case.path]
    command = [
        *(str(settings.load), "--port", str(port), "--server-pid", str(server.pid), *shape),
        *("--connections", str(case.connections), "--link", case.link),
        *("--warmup-ms", str(settings.warmup_ms), "--duration-ms", str(settings.duration_ms)),
        *(("--rate", str(rate)) if rate else ()),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
            preexec_fn=_pin({settings.cores[1]}),
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"the load client did not finish within {RUN_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise Failure(_last_line(done.stderr))
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _first_line(server: subprocess.Popen[str], errors: Any) -> str:
    assert server.stdout is not None
    readable, _, _ = select.select([server.stdout], [], [], START_TIMEOUT_S)
    line = server.stdout.readline() if readable else ""
    if not line:
        errors.seek(0)
        raise Failure(_last_line(errors.read()) or "the server did not start")
    return line


def _port(line: str) -> int:
    """Python servers say it in JSON, the Rust echo as `listening PORT`."""
    try:
        return int(json.loads(line)["port"]) if line.startswith("{") else int(line.split()[-1].rpartition(":")[2])
    except (ValueError, IndexError, KeyError):
        raise Failure(f"the server said {line.strip()!r} instead of its port") from None


def _status_number(status: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _pin(cores: set[int]) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, cores)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


# The two Rust programs


def load_client(build: bool) -> Path:
    binary = _target_directory(BENCH / "load") / "release" / "load"
    if build:
        _cargo("build", "--release", "--locked", "--manifest-path", str(LOAD_MANIFEST))
    if not binary.exists():
        raise Failure("the load client is not built: cargo build --release --manifest-path bench/load/Cargo.toml")
    return binary


def rust_limit(build: bool) -> Path:
    """The echo of crates/reactor: the same system calls without Python, the floor for a Protocol echo."""
    binary = _target_directory(ROOT) / "release" / "examples" / "echo_limit"
    if build:
        source = ROOT / "crates" / "reactor" / "examples" / "echo_limit.rs"
        if not source.exists():
            raise Failure("crates/reactor/examples/echo_limit.rs does not exist")
        package = ("-p", "asynchrotron-reactor", "--example", "echo_limit")
        _cargo("build", "--release", "--manifest-path", str(ROOT / "Cargo.toml"), *package)
    if not binary.exists():
        raise Failure("echo_limit is not built")
    return binary


def _target_directory(package: Path) -> Path:
    chosen = os.environ.get("CARGO_TARGET_DIR")
    return Path(chosen) if chosen else package / "target"


def _cargo(*arguments: str) -> None:
    cargo = shutil.which("cargo")
    if cargo is None:
        return  # an existing binary will do
    done = subprocess.run([cargo, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
        text = "; ".join(errors[:2]) or _last_line(done.stderr)
        raise Failure(text.replace(f"{ROOT}/", ""))
