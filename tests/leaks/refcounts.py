"""Every test again and again in one process: afterwards there may be no more references, blocks or descriptors.

    tests/leaks/refcounts.py tests/unit/test_map.py -k cancel      what follows is pytest's

`make refcounts` runs this for each module in a process of its own (every_module.py). On a debug build of Python (that
command brings Debian's) sys.gettotalrefcount() counts every reference, so one that is not given back shows at once,
also one to an object that lives anyway, such as None; and the interpreter's own assertions are on. On any other Python
blocks of memory and descriptors are counted, references are not.

After a first run, which fills caches, a test is run until of each thing counted there was a run that left nothing: most
tests need one. A test fails if each of RUNS runs left something and, since a cache may still have been growing, so did
each of CONFIRMING further ones. not_repeated.toml names the tests that run once, and why.
"""

import asyncio
import gc
import linecache
import os
import re
import shutil
import sys
import tempfile
import tomllib
from array import array
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import asynchrotron
import pytest
from _pytest.runner import runtestprotocol
from caches import clear_attribute_cache, fill_free_lists

CONFIRMING = 10
RUNS = int(os.environ.get("REFCOUNTS_RUNS", "4"))
NOT_REPEATED = Path(__file__).with_name("not_repeated.toml")
COUNTED = ("references", "blocks", "descriptors")

references: Callable[[], int] = getattr(sys, "gettotalrefcount", lambda: 0)
freeze = gc.freeze


class Counts:
    """What there was after each run. Writing it down takes no memory, which would be counted, too."""

    def __init__(self, runs: int) -> None:
        self.runs = 0
        self.numbers = tuple(array("q", bytes(8 * (runs + 1))) for _ in COUNTED)

    def take(self) -> None:
        """Looks, without what the interpreter itself would throw away."""
        re.purge()
        linecache.clearcache()
        clear_attribute_cache()
        asyncio.coroutines._iscoroutine_typecache.clear()  # a hundred classes, of tests' coroutines too
        for _ in range(3):  # what a finaliser lets go of comes with the next one
            gc.collect()
        self.numbers[0][self.runs] = references()
        self.numbers[1][self.runs] = sys.getallocatedblocks()
        self.numbers[2][self.runs] = len(os.listdir("/proc/self/fd"))
        self.runs += 1

    def left_by_each(self) -> dict[str, list[int]]:
        """What became more in every run, and by how much."""
        grown = {
            what: [after - before for before, after in pairwise(numbers[: self.runs])]
            for what, numbers in zip(COUNTED, self.numbers)
        }
        return {what: amounts for what, amounts in grown.items() if min(amounts) > 0}


def fill_caches() -> None:
    asynchrotron.run(fill_free_lists(asynchrotron))


class Sibling:
    """Stands for "another test of the same module": after that one pytest takes down what belongs to a test alone."""

    def __init__(self, item: pytest.Item) -> None:
        self.chain = [*item.listchain()[:-1], self]

    def listchain(self) -> list[object]:
        return self.chain


def not_repeated() -> dict[str, str]:
    """Patterns of test names, and why those tests run once."""
    with NOT_REPEATED.open("rb") as file:
        return {pattern: why for why, patterns in tomllib.load(file).items() for pattern in patterns}


class Repeating:
    """The plugin: it runs each test in pytest's place."""

    def __init__(self) -> None:
        self.listed = not_repeated()
        self.folder = Path(tempfile.gettempdir(), f"refcounts-{os.getpid()}")
        self.once = 0
        self.repeated = 0

    @pytest.fixture
    def tmp_path(self) -> Iterator[Path]:
        """In place of pytest's own, which remembers every folder it gave. The name is always the same: @parity keeps
        what stock answered, by argument."""
        self.folder.mkdir(mode=0o700)
        try:
            yield self.folder
        finally:
            shutil.rmtree(self.folder)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:  # all runs of a test together
            item.add_marker(pytest.mark.timeout(300), append=False)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.check_list(session)
        fill_caches()
        # What is there now is not looked at again and again; but what a test leaves is, so nobody else freezes.
        gc.collect()
        freeze()
        gc.freeze = lambda: None

    def check_list(self, session: pytest.Session) -> None:
        """Where whole modules run, each pattern for one of them has to fit a test."""
        if session.config.option.keyword or any("::" in argument for argument in session.config.args):
            return
        modules = {item.nodeid.partition("::")[0] for item in session.items}
        for pattern in self.listed:
            if pattern.partition("::")[0] in modules and not any(
                fnmatchcase(item.nodeid, pattern) for item in session.items
            ):
                raise pytest.UsageError(f"{NOT_REPEATED.name}: no test is called {pattern}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self.run(item)
        if all(report.passed for report in reports):
            if any(fnmatchcase(item.nodeid, pattern) for pattern in self.listed):
                self.once += 1
            elif RUNS:
                self.repeated += 1
                reports = self.repeat(item, reports)
        # Takes down what was set up for the whole module, if this was its last test.
        item.session._setupstate.teardown_exact(nextitem)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def run(self, item: pytest.Item) -> list[pytest.TestReport]:
        reports = runtestprotocol(item, nextitem=Sibling(item), log=False)  # type: ignore[arg-type]
        item._report_sections.clear()
        item.user_properties.clear()
        if gc.get_freeze_count() == 0:  # a test that wanted to see everything
            gc.collect()
            freeze()
        return reports

    def repeat(self, item: pytest.Item, first: list[pytest.TestReport]) -> list[pytest.TestReport]:
        """The reports to show: those of a run that failed, or of the first, which fails if something was left."""
        for runs in RUNS, CONFIRMING:
            counts = Counts(runs)
            counts.take()
            for _ in range(runs):
                if failed := self.run_quietly(item):
                    return failed
                counts.take()
                left = counts.left_by_each()
                if not left:
                    return first
            fill_caches()  # earlier tests may have taken out of a free list what this one only puts in
        call = next(report for report in first if report.when == "call")
        call.outcome = "failed"
        call.longrepr = "\n".join(f"each run left {what}: {amounts}" for what, amounts in left.items())
        return first

    def run_quietly(self, item: pytest.Item) -> list[pytest.TestReport] | None:
        reports = self.run(item)
        return None if all(report.passed for report in reports) else reports

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        how = "references, blocks" if hasattr(sys, "gettotalrefcount") else "no references (not a debug build), blocks"
        terminalreporter.line(f"counted: {how}, descriptors; {self.repeated} tests repeated, {self.once} run once")


if __name__ == "__main__":
    # Stock asyncio itself is not in question; the traces of tests/parity still come from it, once.
    os.environ.setdefault("TEST_WORLDS", "loop,native")
    # A debug build that aborts says why on descriptor 2.
    sys.exit(pytest.main(["-p", "no:cacheprovider", "--capture=no", *sys.argv[1:]], plugins=[Repeating()]))
