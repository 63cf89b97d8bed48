"""Other projects' own test suites, on stock asyncio and on us: `run.py [--quick] [--mode MODE]... [PROJECT]...`.

**No test that passes on stock asyncio may fail on ours.** Each project of projects/ is run on stock asyncio (the
reference), with our loop underneath, and after install(), and the outcomes are compared test by test. A difference is
tried again up to twice, by itself, as some tests need a quick machine; one that then passes is listed as such.

The reference is kept in target/suites/ for as long as the project's files here and the interpreter stay the same. With
--quick, stock asyncio runs only those tests that fail on us, and only the projects marked for it are run.

Ends with a table and, alone on the last line, "N passed, M failed"; the exit status is 0 if M is.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import prepare
import project as projects
import supervise
from project import MODES, Project
from supervise import GOOD, Result, Test

sys.path.insert(0, str(projects.HERE.parent))

import services  # tests/ecosystem/services.py

AGAIN_MAX = 2
REASON_LEN_MAX = 1500
FAILURES_SHOWN_MAX = 40


@dataclass
class Report:
    """What came of one project."""

    project: Project
    stock: Result | None = None
    ours: dict[str, Result] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    passed_again: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Services:
    """The servers of one run, each started when the first project asks for it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._running: dict[str, dict[str, str]] = {}

    def variables(self, names: tuple[str, ...]) -> dict[str, str]:
        with self._lock:
            for name in names:
                if name == "postgresql binaries":  # for a suite that starts its own
                    self._running.setdefault(name, {"POSTGRESQL_BIN": str(services.find_postgresql())})
                elif name not in self._running:
                    self._running[name] = self._stack.enter_context(getattr(services, name)())
            return {key: value for name in names for key, value in self._running[name].items()}


# ---- the reference ---------------------------------------------------------------------------------------------------


def _stock_key(project: Project) -> str:
    here = projects.HERE
    content = [sys.version, project.lock.read_text(), (here / "projects" / f"{project.key}.toml").read_text()]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()


def _kept_reference(project: Project) -> Result | None:
    path = project.folder / "stock.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    if content.pop("key") != _stock_key(project):
        return None
    content["tests"] = {name: Test(**test) for name, test in content["tests"].items()}
    return Result(**content)


def _write(result: Result, project: Project, **more: Any) -> None:
    text = json.dumps({**asdict(result), **more}, indent=0)
    (project.folder / f"{result.mode}.json").write_text(text)


def _reference(project: Project, variables: dict[str, str]) -> Result:
    kept = _kept_reference(project)
    if kept is not None:
        return kept
    stock = supervise.run(project, "stock", variables)
    # One that did not come to its end is looked at, but not kept.
    _write(stock, project, key="" if stock.troubles else _stock_key(project))
    return stock


# ---- comparing -------------------------------------------------------------------------------------------------------


def _differences(report: Report, ours: Result) -> list[str]:
    """Tests that stock asyncio passes and we do not, whatever became of them."""
    project, stock = report.project, report.stock
    if stock is None:
        return [test for test in ours.bad() if projects.covering(project.stock_fails, test) is None]
    passing = [name for name, test in stock.tests.items() if test.outcome in ("passed", "xpassed", "xfailed")]
    found = []
    for name in passing:
        test = ours.tests.get(name)
        if test is None or test.outcome not in GOOD or test.outcome == "skipped":
            found.append(name)
    # A module that can be imported on stock asyncio only.
    return found + [name for name in ours.bad() if name.endswith("::(import)") and name not in stock.tests]


def _judge(report: Report, ours: Result, variables: dict[str, str]) -> None:
    project = report.project
    suspects = _differences(report, ours)
    expected = [name for name in suspects if projects.covering(project.differs, name) is not None]
    suspects = [name for name in suspects if name not in expected]
    if report.stock is None and suspects:
        stock = supervise.run(project, "stock", variables, only=suspects)
        suspects = [
            name
            for name in suspects
            if name.endswith("::(import)") or stock.tests.get(name, Test("missing")).outcome in GOOD
        ]
    last = dict(ours.tests)
    for _ in range(AGAIN_MAX):
        if not suspects:
            break
        again = supervise.run(project, ours.mode, variables, only=suspects)
        last.update(again.tests)
        passed = {name for name in suspects if again.tests.get(name, Test("missing")).outcome in ("passed", "xfailed")}
        report.passed_again += [f"{ours.mode}: {name}" for name in suspects if name in passed]
        suspects = [name for name in suspects if name not in passed]
    for name in suspects:
        test = last.get(name, Test("missing"))
        report.failures.append(f"{ours.mode}: {name}: {test.outcome}\n{test.text[-REASON_LEN_MAX:]}")


def _judge_run(report: Report, ours: Result) -> None:
    """What no single test says."""
    project, stock = report.project, report.stock
    stock_troubles = set() if stock is None else {trouble.split(",")[0] for trouble in stock.troubles}
    for trouble in ours.troubles:
        if trouble.split(",")[0] not in stock_troubles:
            report.failures.append(f"{ours.mode}: {trouble}")
    if not any(name.startswith("asynchrotron.") for name in ours.loops):
        report.failures.append(f"{ours.mode}: made no loop of ours, but {dict(ours.loops)}")
    passed = ours.count("passed")
    if passed < project.passed_min:
        report.failures.append(f"{ours.mode}: {passed} tests passed, fewer than the {project.passed_min} expected")


def _judge_expectations(report: Report) -> None:
    """Entries that have outlived their reasons, where all was run."""
    if report.stock is None:
        return
    for entry in report.project.stock_fails:
        passing = [name for name, test in report.stock.tests.items() if entry.covers(name) and test.outcome == "passed"]
        if passing:
            report.notes.append(f"stock_fails lists what passes on stock asyncio: {', '.join(passing[:5])}")


def run_project(project: Project, modes: list[str], quick: bool, shared: Services) -> Report:
    began = time.monotonic()
    report = Report(project)
    try:
        prepare.prepare(project)
        variables = shared.variables(project.services)
        report.stock = _kept_reference(project) if quick else _reference(project, variables)
        for mode in modes:
            if mode not in project.modes:
                continue
            ours = supervise.run(project, mode, variables)
            _write(ours, project)
            report.ours[mode] = ours
            _judge(report, ours, variables)
            _judge_run(report, ours)
        _judge_expectations(report)
    except (prepare.PrepareError, services.ServiceError) as error:
        report.failures.append(f"could not be run: {error}")
    report.seconds = time.monotonic() - began
    return report


# ---- showing ---------------------------------------------------------------------------------------------------------


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    bad = len(result.bad())
    return f"{result.count('passed')}" + (f" ({bad} not)" if bad else "")


def _table(reports: list[Report]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("project", "version", "stock", *MODES, "differ", "again", "seconds")]
    for report in reports:
        cells = [_cell(report.ours.get(mode)) for mode in MODES]
        ends = (str(len(report.failures)), str(len(report.passed_again)), f"{report.seconds:.0f}")
        rows.append((report.project.key, report.project.version, _cell(report.stock), *cells, *ends))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _show(report: Report) -> None:
    for failure in report.failures[:FAILURES_SHOWN_MAX]:
        print(f"--- {report.project.key}, {failure}".rstrip())
    if len(report.failures) > FAILURES_SHOWN_MAX:
        print(f"--- {report.project.key}: and {len(report.failures) - FAILURES_SHOWN_MAX} more, see its log")
    for name in report.passed_again:
        print(f"--- {report.project.key}, {name}: passed when tried again")
    for note in report.notes:
        print(f"--- {report.project.key}: {note}")
    print(f"{report.project.key}: {'FAILED' if report.failures else 'passed'} ({report.seconds:.0f} s)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"of {', '.join(projects.names())}")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="what continuous integration has time for")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="projects at a time (default 2)")
    parser.add_argument("--prepare", action="store_true", help="only bring sources and environments")
    arguments = parser.parse_args()

    chosen = [projects.load(key) for key in arguments.projects or projects.names()]
    if arguments.quick and not arguments.projects:
        chosen = [project for project in chosen if project.quick]
    modes = arguments.mode or list(MODES)

    def stop(number: int, frame: object) -> None:
        supervise.stopping.set()
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.prepare:
            list(pool.map(prepare.prepare, chosen))
            return 0
        shared = Services(stack)
        reports = []
        for report in pool.map(lambda project: run_project(project, modes, arguments.quick, shared), chosen):
            _show(report)
            reports.append(report)
    print()
    print("\n".join(_table(reports)))
    passed = sum(result.count("passed") for report in reports for result in report.ours.values())
    failed = sum(len(report.failures) for report in reports)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    # Line by line, also into a file: a run takes minutes.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    Path(projects.CACHE).mkdir(parents=True, exist_ok=True)
    sys.exit(main())
