"""uvicorn as people start it, from the command line in a process of its own, with FastAPI and httptools: on our loop
by `--loop asynchrotron:new_event_loop`, and by `python -m asynchrotron -m uvicorn`. The client is httpx."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import pytest
from conftest import RunProgram

START_SECONDS_MAX = 30

pytestmark = pytest.mark.timeout(300)


def uvicorn_command(mode: str) -> list[str]:
    interpreter = [sys.executable, "-X", "faulthandler", "-W", "always::ResourceWarning"]
    server = ["-m", "uvicorn", "fastapi_application:application", "--http", "httptools", "--port", "0"]
    match mode:
        case "stock":
            return [*interpreter, "-X", "dev", *server, "--loop", "asyncio"]
        case "loop":
            return [*interpreter, *server, "--loop", harness.FACTORY]
        case "debug":
            return [*interpreter, "-X", "dev", *server, "--loop", harness.FACTORY]
        case "install":
            # With `--loop none` uvicorn takes the default loop, which is ours then.
            return [*interpreter, "-m", "asynchrotron", *server, "--loop", "none"]
    raise ValueError(mode)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    log: Path
    url: str

    def stop(self) -> str:
        """Ask it to go, as a service manager does; what it logged."""
        self.process.send_signal(signal.SIGTERM)
        # uvicorn shuts down, then lets the signal have its way.
        assert self.process.wait(20) in {0, -signal.SIGTERM}
        return self.log.read_text()


@contextlib.contextmanager
def serving(command: list[str], directory: Path) -> Iterator[Server]:
    log = directory / "uvicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=harness.PROGRAMS,
            env=harness.environment(),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while "Application startup complete" not in (text := log.read_text()) or "running on" not in text:
            assert process.poll() is None, f"uvicorn did not start:\n{text}"
            assert time.monotonic() < deadline, f"uvicorn is still starting:\n{text}"
            time.sleep(0.05)
        match = re.search(r"running on (http://\S+)", text)
        assert match is not None
        yield Server(process, log, match[1])
    finally:
        harness.kill_group(process)


def check_log(text: str, *, expected: str = "") -> None:
    assert "Application shutdown complete" in text, text
    for complaint in harness.COMPLAINTS:
        assert complaint == expected or complaint not in text, text


def test_one_process(mode: str, run_program: RunProgram, tmp_path: Path) -> None:
    with serving(uvicorn_command(mode), tmp_path) as server:
        ended = run_program("httpx_requests", env={"SERVER_URL": server.url})
        match = re.search(r"^server loop: (\S+)$", ended.stdout, re.MULTILINE)
        assert match is not None, str(ended)
        assert harness.ran_on(match[1], mode), str(ended)
        check_log(server.stop())


# Workers are spawned as fresh interpreters, which know nothing of install(); they take their loop from --loop.
@pytest.mark.parametrize("mode", [mode for mode in harness.MODES if mode != "install"], indirect=True)
def test_workers(mode: str, tmp_path: Path) -> None:
    with serving([*uvicorn_command(mode), "--workers", "2"], tmp_path) as server:
        processes: set[int] = set()
        deadline = time.monotonic() + START_SECONDS_MAX
        # Which worker takes a connection is up to the kernel.
        while len(processes) < 2:
            assert time.monotonic() < deadline, f"only one worker answers:\n{server.log.read_text()}"
            with urllib.request.urlopen(f"{server.url}/loop", timeout=10) as response:
                answer = json.load(response)
            assert harness.ran_on(answer["loop"], mode), answer
            processes.add(answer["process"])
        assert server.process.pid not in processes
        # uvicorn's supervisor, which runs no loop, leaves its listening socket to the interpreter.
        check_log(server.stop(), expected="ResourceWarning")
