"""Runs the interpreter's own test.test_asyncio on Asynchrotron and compares each test with stock asyncio's result.

    python tests/conformance/run.py                     # every mode and module
    python tests/conformance/run.py --mode loop test_tasks test_events
    python tests/conformance/run.py --mode install --match '*test_cancel*' test_tasks

A failure is a test that stock asyncio passes on this interpreter and we do not, unless expected.toml names it as
white-box. Each module runs in a process of its own, two at a time. A test that exceeds its limit, or kills its process,
fails alone: the rest of its module goes on in a new process. What failed is tried again by itself, because several of
CPython's tests depend on the machine being quick; what then passes counts as passed and is listed.

Results: target/conformance/<version>-<mode>.json; what the tests printed is beside it in <version>-<mode>/.
"""

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import hashlib
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import swap

HERE = Path(__file__).resolve().parent
OUT = HERE.parent.parent / "target" / "conformance"
PACKAGE = "test.test_asyncio."
VERSION = ".".join(map(str, sys.version_info[:3]))
MINOR = ".".join(map(str, sys.version_info[:2]))
SKIPPED_MODULES = {"test_proactor_events", "test_windows_events", "test_windows_utils"}  # Windows only
# Slowest first, so that two workers end at about the same time.
SLOW_MODULES = ("test_events", "test_subprocess", "test_ssl", "test_sendfile", "test_tasks", "test_streams")
OUTSIDE_TEST_LIMIT_S = 60.0
WHITE_BOX_LIMIT_S = 5.0  # they are run to see that they still fail, and some fail by hanging
EXIT_LIMIT_S = 20.0
RETRIES = 2
RETRIED_TESTS_MAX = 40  # beyond that something is broken, and trying again only costs time

Outcome = dict[str, Any]  # {"outcome": pass|fail|error|skip|timeout|crash|missing, "detail": str, "seconds": float}


# ---- one module in one worker process after another ---------------------------------------------------------------


@dataclasses.dataclass
class Worker:
    """A worker.py process and the pipe it reports through."""

    process: subprocess.Popen[bytes]
    pipe: int
    log: Path
    buffered: bytes = b""

    def next_event(self, limit_s: float) -> dict[str, Any] | None:
        """The next event; None when the worker died. Raises TimeoutError after limit_s."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self.buffered:
            wait_s = deadline - time.monotonic()
            if wait_s <= 0:
                raise TimeoutError
            readable, _, _ = select.select([self.pipe], [], [], min(wait_s, 1.0))
            if readable:
                data = os.read(self.pipe, 1 << 16)
                if not data:
                    return None
                self.buffered += data
            elif self.process.poll() is not None:  # a forked grandchild may still hold the pipe
                return None
        line, _, self.buffered = self.buffered.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def stop(self) -> int:
        """Ends the worker and whatever it left behind; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.pipe)
        return self.process.wait()

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]


@dataclasses.dataclass(frozen=True)
class Job:
    mode: str
    loop: str
    limit_s: float
    logs: Path
    white_box: frozenset[str] = frozenset()

    def limit_of(self, test: str | None) -> float:
        if test is None:
            return OUTSIDE_TEST_LIMIT_S
        return WHITE_BOX_LIMIT_S if test in self.white_box else self.limit_s

    def start(self, module: str, only: Iterable[str] | None, cwd: str) -> Worker:
        read, write = os.pipe()
        command = [sys.executable, "-X", "faulthandler", "-W", "default", "-bb", str(HERE / "worker.py")]
        command += ["--mode", self.mode, "--loop", self.loop, "--report-fd", str(write), "--module", module]
        if only is not None:
            ids = Path(cwd, "only.txt")
            ids.write_text("\n".join(only))
            command += ["--only", str(ids)]
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{module}.log"
        with open(log, "ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=cwd,
                pass_fds=[write],
                start_new_session=True,
            )
        os.close(write)
        return Worker(process, read, log)

    def run_module(self, module: str, only: Iterable[str] | None = None) -> dict[str, Outcome]:
        """Runs the module's tests (all, or `only`), starting again after each hang or crash with what is left."""
        results: dict[str, Outcome] = {}
        plan: list[str] | None = None
        while True:
            left = only if plan is None else [test for test in plan if test not in results]
            with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as cwd:
                worker = self.start(module, left, cwd)
                planned, finished = self._follow(worker, module, results)
            if plan is None:
                plan = planned
            if finished or not set(left or planned) & set(results):
                break
        for test in plan:
            results.setdefault(test, {"outcome": "missing", "detail": "its process ended before it ran"})
        return results

    def _follow(self, worker: Worker, module: str, results: dict[str, Outcome]) -> tuple[list[str], bool]:
        """Takes one worker's events into `results`; returns its plan and whether it came to the end."""
        plan: list[str] = []
        current: str | None = None
        skipped_fixtures: list[str] = []
        finished = False
        try:
            while not finished:
                event = worker.next_event(self.limit_of(current))
                match event:
                    case None:
                        break
                    case {"event": "plan", "ids": ids}:
                        plan = ids
                    case {"event": "start", "id": current}:
                        pass
                    case {"event": "stop", "id": test, "result": result}:
                        results[test] = result
                        current = None
                    case {"event": "fixture", "id": fixture, "outcome": "skip", "detail": detail}:
                        skipped_fixtures.append(f"{fixture}: {detail}")
                    case {"event": "fixture", "id": fixture, "detail": detail}:
                        results[f"{PACKAGE}{module}.{fixture}"] = {"outcome": "error", "detail": detail}
                    case {"event": "end"}:
                        finished = True
            worker.process.wait(EXIT_LIMIT_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            worker.stop()
            where = current or f"{PACKAGE}{module}.{'exit' if finished else 'fixture'}"
            results[where] = {"outcome": "timeout", "detail": worker.log_tail(), "seconds": self.limit_s}
            return plan, finished
        status = worker.stop()
        if status != 0 or not finished:
            cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            where = current or f"{PACKAGE}{module}.{'exit' if finished else 'fixture'}"
            results[where] = {"outcome": "crash", "detail": f"{cause}\n{worker.log_tail()}"}
        elif skipped_fixtures:
            for test in plan:
                results.setdefault(test, {"outcome": "skip", "detail": "; ".join(skipped_fixtures)})
        return plan, finished

    def run(self, modules: list[str], workers: int, only: dict[str, list[str]] | None = None) -> dict[str, Outcome]:
        results: dict[str, Outcome] = {}
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            chosen = only if only is not None else dict.fromkeys(modules)
            running = {pool.submit(self.run_module, *item): item[0] for item in chosen.items()}
            for done in concurrent.futures.as_completed(running):
                troubles = sum(map(bad, done.result().values()))
                print(f"  {self.mode}: {running[done]}: {len(done.result())} ran, {troubles} bad", flush=True)
                results |= done.result()
        return results

    def run_settled(
        self, modules: list[str], workers: int, wanted: set[str] | None, only: dict[str, list[str]] | None
    ) -> dict[str, Outcome]:
        """run(), then tries what failed again, each test alone; `wanted` limits that to tests that matter."""
        results = self.run(modules, workers, only)
        failed = [test for test in sorted(results) if bad(results[test]) and (wanted is None or test in wanted)]
        if len(failed) <= RETRIED_TESTS_MAX:
            for test in failed:
                # A hang costs its whole limit each time.
                for attempt in range(1, (1 if results[test]["outcome"] == "timeout" else RETRIES) + 1):
                    again = self.run_module(module_of(test), [test]).get(test)
                    if again is not None and not bad(again):
                        results[test] = again | {"retries": attempt, "first": results[test]}
                        break
        return results


def bad(result: Outcome) -> bool:
    return result["outcome"] not in ("pass", "skip")


def module_of(test: str) -> str:
    return test.removeprefix(PACKAGE).split(".")[0]


# ---- the control: what stock asyncio passes -----------------------------------------------------------------------


def control_key() -> str:
    """Changes when the interpreter or its tests do."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix}".encode())
    for file in sorted(tests_folder().glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def control(modules: list[str], args: argparse.Namespace) -> dict[str, Outcome]:
    """Stock asyncio's results, from the cache where it has them."""
    cache = OUT / f"{VERSION}-control.json"
    key = control_key()
    known: dict[str, dict[str, Outcome]] = {}
    if cache.exists():
        stored = json.loads(cache.read_text())
        if stored["key"] == key:
            known = stored["modules"]
    missing = [module for module in modules if module not in known]
    if missing:
        job = Job("stock", swap.OUR_LOOP, args.limit, OUT / f"{VERSION}-stock")
        results = job.run_settled(missing, args.workers, None, None)
        for module in missing:
            known[module] = {test: result for test, result in results.items() if module_of(test) == module}
        cache.write_text(json.dumps({"key": key, "modules": known}, indent=1))
    return {test: result for module in modules for test, result in known[module].items()}


# ---- tests excluded by name ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Exclusion:
    pattern: str
    reason: str
    if_present: bool
    matched: list[str] = dataclasses.field(default_factory=list)


def exclusions(mode: str, modules: list[str]) -> list[Exclusion]:
    """The entries of expected.toml for this interpreter, mode and selection of modules."""
    chosen = []
    for entry in tomllib.loads((HERE / "expected.toml").read_text())["white_box"]:
        if unknown := entry.keys() - {"tests", "modes", "pythons", "reason", "if_present"}:
            raise SystemExit(f"expected.toml: unknown keys {unknown}")
        if mode in entry.get("modes", [mode]) and MINOR in entry.get("pythons", [MINOR]):
            patterns = [pattern for pattern in entry["tests"] if pattern.split(".")[0] in modules]
            chosen += [Exclusion(pattern, entry["reason"], entry.get("if_present", False)) for pattern in patterns]
    return chosen


# ---- comparison and report ----------------------------------------------------------------------------------------


def compare(mode: str, modules: list[str], args: argparse.Namespace) -> tuple[int, int]:
    """Runs one mode, prints and stores its comparison with the control; returns (passed, failed)."""
    began = time.monotonic()
    stock = control(modules, args)
    stock_passes = {test for test, result in stock.items() if result["outcome"] == "pass"}
    only: dict[str, list[str]] | None = None
    if args.match:
        stock_passes = {test for test in stock_passes if fnmatch.fnmatchcase(test, args.match)}
        only = {module: sorted(test for test in stock_passes if module_of(test) == module) for module in modules}
        only = {module: tests for module, tests in only.items() if tests}

    excluded = exclusions(mode, modules)
    names: dict[str, Exclusion] = {}
    for entry in excluded:
        entry.matched = [test for test in stock if fnmatch.fnmatchcase(test.removeprefix(PACKAGE), entry.pattern)]
        names |= dict.fromkeys(entry.matched, entry)

    job = Job(mode, args.loop, args.limit, OUT / f"{VERSION}-{mode}", frozenset(names))
    for log in job.logs.glob("*.log"):
        log.unlink()
    results = job.run_settled(modules, args.workers, stock_passes - names.keys(), only)

    missing: Outcome = {"outcome": "missing", "detail": "stock asyncio runs this test; it does not exist here"}
    # Troubles outside any test (a fixture, the process's exit) have names the control does not know when it had none.
    outside = {test for test, result in results.items() if bad(result) and test not in stock}
    verdicts = {test: results.get(test, missing) for test in stock_passes | outside}
    failed = sorted(t for t, result in verdicts.items() if result["outcome"] != "pass" and t not in names)
    stale = []
    if not args.match:
        stale = [f"{e.pattern}: matches no test" for e in excluded if not e.matched and not e.if_present]
        passing = [
            test for test in sorted(names.keys() & stock_passes) if results.get(test, missing)["outcome"] == "pass"
        ]
        stale += [f"{test.removeprefix(PACKAGE)} is excluded and passes" for test in passing]

    label = f"{VERSION} {mode}"
    report: dict[str, Any] = {"python": sys.version, "mode": mode, "loop": args.loop, "modules": {}}
    for module in modules:
        tests = [test for test in verdicts if module_of(test) == module]
        counts = Counter("excluded" if t in names else "failed" if t in failed else "passed" for t in tests)
        seconds = sum(r.get("seconds", 0.0) for t, r in results.items() if module_of(t) == module)
        report["modules"][module] = dict(counts) | {"seconds": round(seconds, 1)}
        line = ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "excluded") if counts[kind])
        print(f"{label:15} {module:28} {line:38} {seconds:6.1f} s")
    by_cause: dict[str, list[str]] = {}
    for test in failed:
        by_cause.setdefault(cause(verdicts[test]), []).append(test.removeprefix(PACKAGE))
    for why, tests in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        print(f"FAILED {label}, {len(tests)} with {why}")
        print("".join(f"    {test}\n" for test in tests), end="")
    retried = sorted(test for test, result in verdicts.items() if "retries" in result)
    for test in retried:
        print(f"passed when tried again: {label} {test.removeprefix(PACKAGE)}")
    for problem in stale:
        print(f"STALE expected.toml ({label}): {problem}")

    passed = sum(1 for test in verdicts if test not in names and test not in failed)
    failures = len(failed) + len(stale)
    used = sum(1 for test in stock_passes if test in names)
    report |= {
        "passed": passed, "failed": failed, "stale": stale, "retried": retried, "excluded": used,
        "stock_passes": len(stock_passes), "seconds": round(time.monotonic() - began, 1), "tests": results,
    }  # fmt: skip
    (OUT / f"{VERSION}-{mode}.json").write_text(json.dumps(report, indent=1))
    print(
        f"{label}: stock asyncio passes {len(stock_passes)}; of these {passed} pass, {used} excluded as white-box, "
        f"{failures} failed; {report['seconds']} s"
    )
    return passed, failures


def cause(result: Outcome) -> str:
    """One line that tests failing for the same reason share."""
    lines = [line.strip() for line in result.get("detail", "").splitlines() if line.strip()] or [""]
    line = lines[0] if result["outcome"] == "crash" else lines[-1]
    if result["outcome"] == "timeout":
        line = ""
    return f"{result['outcome']} {re.sub(r'0x[0-9a-f]+|(?<=[^a-zA-Z])[0-9]{4,}', '…', line)[:180]}".strip()


def tests_folder() -> Path:
    try:
        spec = importlib.util.find_spec("test.test_asyncio")
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise SystemExit(f"{sys.executable} has no test suite; on Debian: apt-get install libpython{MINOR}-testsuite")
    return Path(spec.origin).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--mode", choices=(*swap.MODES, "all"), default="all", help="all means loop, install and objects"
    )
    parser.add_argument("--match", help="only tests whose full id matches this pattern")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds one test may take (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--loop", default=swap.OUR_LOOP, help=argparse.SUPPRESS)
    parser.add_argument("modules", nargs="*", help="test modules, all by default")
    args = parser.parse_args()

    OUT.mkdir(parents=True, exist_ok=True)
    present = {file.stem for file in tests_folder().glob("test_*.py")} - SKIPPED_MODULES
    if unknown := set(args.modules) - present:
        raise SystemExit(f"no such test modules here: {' '.join(sorted(unknown))}")
    order = {name: position for position, name in enumerate(SLOW_MODULES)}
    modules = sorted(args.modules or present, key=lambda name: (order.get(name, len(order)), name))

    totals = Counter[str]()
    for mode in ("loop", "install", "objects") if args.mode == "all" else (args.mode,):
        passed, failed = compare(mode, modules, args)
        totals += Counter(passed=passed, failed=failed)
    print(f"{totals['passed']} passed, {totals['failed']} failed")
    raise SystemExit(1 if totals["failed"] else 0)


if __name__ == "__main__":
    main()
