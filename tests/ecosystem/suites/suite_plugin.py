"""The pytest plugin inside a project's own test process: puts a loop underneath and writes down how each test ended.

It is loaded with `-p suite_plugin` before the project's own conftest files, so that every loop the suite makes by the
ordinary ways (asyncio.run, Runner, new_event_loop, the default policy's own factory) is the one of the mode. Nothing of
the project is touched, except that names listed in SUITE_REBIND (its own way to choose a loop) become loop factories.

Everything the runner must know goes line by line into SUITE_OUTCOMES, so that a process that hangs or dies still
leaves behind which test it was. Invariant: one "start" line, then one "end" line per test, from the process itself and
never from a child it forked.
"""

import asyncio
import fnmatch
import gc
import importlib
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

MODE = os.environ["SUITE_MODE"]
PROCESS = os.getpid()
# From bad to worse: a test that passed and then failed in its teardown failed.
SEVERITY = ("skipped", "xfailed", "passed", "xpassed", "error", "failed")
TEXT_LEN_MAX = 20_000

_loops_made: Counter[str] = Counter()
_reports: dict[str, list[pytest.TestReport]] = {}
_output = open(os.environ["SUITE_OUTCOMES"], "a", buffering=1)


def _write(**line: Any) -> None:
    if os.getpid() == PROCESS:
        _output.write(json.dumps(line) + "\n")


# ---- the loop underneath ---------------------------------------------------------------------------------------------


def _count_loops() -> None:
    """Note the class of every loop that asyncio's base class is initialised for, ours included."""
    original = asyncio.BaseEventLoop.__init__

    def counting(self: Any) -> None:
        _loops_made[f"{type(self).__module__}.{type(self).__qualname__}"] += 1
        original(self)

    asyncio.BaseEventLoop.__init__ = counting  # type: ignore[method-assign]


def _make_ours_the_default() -> Callable[[], asyncio.AbstractEventLoop]:
    """What install() does to loops, and nothing of what it does to asyncio's names."""
    import asynchrotron

    # The package's name `install` is the function.
    policy = importlib.import_module("asynchrotron.install")._default_policy()
    if MODE == "loop":
        policy._loop_factory = asynchrotron.EventLoop
    assert policy._loop_factory is asynchrotron.EventLoop
    return asynchrotron.new_event_loop


def _rebind(dotted: str, factory: Callable[[], Any]) -> None:
    module, _, name = dotted.rpartition(".")
    setattr(importlib.import_module(module), name, factory)


def _policy_class() -> Any:
    if MODE == "stock":
        return asyncio.DefaultEventLoopPolicy
    return importlib.import_module("asynchrotron.policy").EventLoopPolicy


_count_loops()
# Not asyncio.new_event_loop for stock: it asks the policy, which may be the project's and ask us.
_factory = asyncio.SelectorEventLoop if MODE == "stock" else _make_ours_the_default()
for _name in os.environ.get("SUITE_REBIND", "").split():
    _rebind(_name, _policy_class() if _name.endswith("Policy") else _factory)

for _name in os.environ.get("SUITE_QUIET_LOGGERS", "").split():
    logging.getLogger(_name).setLevel(logging.CRITICAL)


# ---- which tests -----------------------------------------------------------------------------------------------------


def _lines(variable: str) -> set[str] | None:
    path = os.environ.get(variable)
    if not path:
        return None
    with open(path) as file:
        return {json.loads(line) for line in file}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted, unwanted, skipped = _lines("SUITE_ONLY"), _lines("SUITE_EXCEPT") or set(), _lines("SUITE_SKIP") or set()

    def is_kept(test: str) -> bool:
        if test in unwanted or (wanted is not None and test not in wanted):
            return False
        return not any(fnmatch.fnmatchcase(test, pattern.replace("[", "[[]")) for pattern in skipped)

    kept = [item for item in items if is_kept(item.nodeid)]
    dropped = [item for item in items if not is_kept(item.nodeid)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def pytest_collection_finish() -> None:
    # Several suites collect garbage after every test; what was imported need not be looked at each time.
    gc.collect()
    gc.freeze()


# ---- how they ended --------------------------------------------------------------------------------------------------


def _outcome(report: pytest.TestReport) -> str:
    expected_to_fail = hasattr(report, "wasxfail")
    if report.failed:
        return "failed" if report.when == "call" else "error"
    if report.skipped:
        return "xfailed" if expected_to_fail else "skipped"
    return "xpassed" if expected_to_fail else "passed"


def pytest_runtest_logstart(nodeid: str) -> None:
    _reports[nodeid] = []
    _write(start=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _reports.setdefault(report.nodeid, []).append(report)


def pytest_runtest_logfinish(nodeid: str) -> None:
    reports = _reports.pop(nodeid, [])
    outcomes = [_outcome(report) for report in reports if report.when == "call" or not report.passed]
    outcome = max(outcomes, key=SEVERITY.index, default="passed")
    text = "\n".join(report.longreprtext for report in reports if _outcome(report) == outcome)
    _write(
        end=nodeid,
        outcome=outcome,
        seconds=round(sum(report.duration for report in reports), 3),
        text=text[-TEXT_LEN_MAX:],
    )


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(end=f"{report.nodeid}::(import)", outcome="error", seconds=0, text=report.longreprtext[-TEXT_LEN_MAX:])


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    _write(finished=time.time(), loops=dict(_loops_made), python=sys.version.split()[0])
    if os.getpid() == PROCESS:
        _output.close()
