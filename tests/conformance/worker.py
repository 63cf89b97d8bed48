"""One worker process of run.py: swaps asyncio, loads one test module, runs its tests, writes one JSON line per event.

Lines go to the file descriptor given, so nothing a test prints can be mistaken for them. The parent holds the clock: it
ends a test that hangs with SIGABRT, for which faulthandler writes every thread's stack to this process's log.
"""

import argparse
import faulthandler
import json
import os
import resource
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import swap


class Reporter(unittest.TestResult):
    """Sends each test's start and outcome as they happen; the first problem of a test is its outcome."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._outcome: dict[str, str] = {}
        self._started = 0.0

    def send(self, event: str, **fields: Any) -> None:
        os.write(self._fd, (json.dumps({"event": event} | fields) + "\n").encode())

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome = {}
        self._started = time.monotonic()
        self.send("start", id=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        result: dict[str, Any] = {
            "outcome": "pass",
            **self._outcome,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        self.send("stop", id=test.id(), result=result)

    def _problem(self, test: Any, outcome: str, detail: str) -> None:
        if isinstance(test, unittest.TestCase):
            if self._outcome.get("outcome") in (None, "skip"):
                self._outcome = {"outcome": outcome, "detail": detail}
        else:  # setUpModule, setUpClass and their tear-downs report through a stand-in object
            self.send("fixture", id=test.id(), outcome=outcome, detail=detail)

    def addError(self, test: Any, err: Any) -> None:
        self._problem(test, "error", "".join(traceback.format_exception(*err)))

    def addFailure(self, test: Any, err: Any) -> None:
        self._problem(test, "fail", "".join(traceback.format_exception(*err)))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._problem(test, "fail", f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def addSkip(self, test: Any, reason: str) -> None:
        self._problem(test, "skip", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        pass

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._problem(test, "fail", "unexpected success")


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=swap.MODES, required=True)
    parser.add_argument("--loop", default=swap.OUR_LOOP)
    parser.add_argument("--report-fd", type=int, required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--only", help="file with one test id per line: run these and no others")
    args = parser.parse_args()
    faulthandler.enable(all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.set_inheritable(args.report_fd, False)  # a child left behind must not keep the pipe open
    reporter = Reporter(args.report_fd)

    swap.apply(args.mode, args.loop)
    tests = list(flatten(unittest.defaultTestLoader.loadTestsFromName(f"test.test_asyncio.{args.module}")))
    if args.only:
        with open(args.only, encoding="utf-8") as file:
            wanted = set(file.read().split())
        tests = [test for test in tests if test.id() in wanted]
    reporter.send("plan", ids=[test.id() for test in tests])
    unittest.TestSuite(tests).run(reporter)
    reporter.send("end")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
