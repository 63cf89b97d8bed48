"""The processes in which scripts run (actor.py), seen from the test."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import worlds

SECONDS_MAX = 10  # of one script; most take a few milliseconds
HISTORY_MAX = 50  # scripts that are run again when the last one alone does no harm


class Crashed(AssertionError):
    """The process ended, or did not answer."""


class Actor:
    """One process, started when needed; a script that ends it is reported and a new one starts."""

    def __init__(self, world: str, *, hostile: bool = False) -> None:
        self.world = world
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
        self.environment["PYTHONPATH"] = worlds.PACKAGE_ROOT
        # Sets are walked in the same order in each process.
        self.environment["PYTHONHASHSEED"] = "1"
        self.hostile = hostile
        if hostile:
            # Freed memory is overwritten, so that whoever still uses it falls.
            self.environment["PYTHONMALLOC"] = "debug"
        self.process: subprocess.Popen[str] | None = None
        self.errors = tempfile.TemporaryFile("w+")
        self.history: list[str] = []

    def start(self) -> subprocess.Popen[str]:
        self.errors.seek(0)
        self.errors.truncate()
        self.history.clear()
        command = [sys.executable, str(Path(__file__).parent / "actor.py"), self.world, str(SECONDS_MAX)]
        command += ["hostile"] if self.hostile else []
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=self.environment,
        )

    def send(self, text: str) -> None:
        if self.process is None:
            self.process = self.start()
        self.history = [*self.history[-HISTORY_MAX:], text]
        assert self.process.stdin is not None
        try:
            print(json.dumps(text), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # answer() says why

    def answer(self) -> list[str]:
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            trace: list[str] = json.loads(line)
            return trace
        history = list(self.history)
        status = self.close()
        self.errors.seek(0)
        raise Crashed(f"{self.world}: the process ended with {status}\n{self.errors.read()[-4000:]}", history)

    def play(self, text: str) -> list[str]:
        self.send(text)
        return self.answer()

    def end(self) -> None:
        self.close()
        self.errors.close()

    def close(self) -> Any:
        """Its exit status, if it ran."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        status = process.wait(2 * SECONDS_MAX)
        process.stdout.close()
        return status
