"""`make demo`: the crawler, unmodified, under stock asyncio and under `python -m asynchrotron`.

Starts file_server.py on this Python's own standard library, runs crawler.py against it in fresh processes and
fresh directories, the two ways in turn, compares everything that was stored byte by byte with the original tree,
and prints what each run took. Exit status: 0 all runs agree, 1 something differed, 2 the demo could not be run.
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from file_server import files_below

EXAMPLES = Path(__file__).resolve().parent
CRAWLER = EXAMPLES / "crawler.py"
WAYS = {
    "stock asyncio": [sys.executable, str(CRAWLER)],
    "asynchrotron": [sys.executable, "-m", "asynchrotron", str(CRAWLER)],
}
RUN_SECONDS_MAX = 60
DIFFERENCES_SHOWN = 20


class DemoError(Exception):
    """Something the demo needs is missing or failed."""


@dataclass(frozen=True)
class Run:
    exit_status: int
    wall_seconds: float
    cpu_seconds: float
    report: str
    complaints: str

    @property
    def event_loop(self) -> str:
        return next((line[12:] for line in self.report.splitlines() if line.startswith("event loop: ")), "unknown")


def check_importable() -> None:
    attempt = subprocess.run([sys.executable, "-c", "import asynchrotron"], capture_output=True, text=True, check=False)
    if attempt.returncode:
        reason = (attempt.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DemoError(
            f"asynchrotron cannot be imported by {sys.executable} ({reason}).\n"
            "`make demo` builds it first; to run this file by itself, use the environment that `make demo` made."
        )


def choose_processors() -> tuple[set[int], set[int]]:
    """One processor for the crawler and another for the server, so that neither run disturbs its own peer."""
    available = sorted(os.sched_getaffinity(0))
    return {available[0]}, {available[-1]}


@contextlib.contextmanager
def file_server(processors: set[int]) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "file_server.py")], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        os.sched_setaffinity(process.pid, processors)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise DemoError(f"the file server did not start (exit status {process.wait()})")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_crawler(command: list[str], url: str, directory: Path, processors: set[int]) -> Run:
    """One crawl in its own process; its processor time comes from the kernel's account of that process."""
    with contextlib.ExitStack() as files:
        stdout = files.enter_context(tempfile.TemporaryFile("w+"))
        # The progress bar is for people: on a terminal it is shown, otherwise stderr is part of what is compared.
        stderr = None if sys.stderr.isatty() else files.enter_context(tempfile.TemporaryFile("w+"))
        started = time.perf_counter()
        process = subprocess.Popen([*command, url, str(directory)], stdout=stdout, stderr=stderr)
        os.sched_setaffinity(process.pid, processors)
        limit = threading.Timer(RUN_SECONDS_MAX, process.kill)
        limit.start()
        try:
            # Not process.wait(): only wait4 tells what this one child used.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            limit.cancel()
        wall_seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)

        stdout.seek(0)
        complaints = ""
        if stderr is not None:
            stderr.seek(0)
            complaints = stderr.read()
        return Run(
            exit_status=process.returncode,
            wall_seconds=wall_seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            report="".join(line for line in stdout.read().splitlines(True) if not line.startswith("took ")),
            complaints=complaints,
        )


def tree(directory: Path) -> dict[str, Path]:
    return {path.relative_to(directory.resolve()).as_posix(): path for path in files_below(directory)}


def compare_trees(original: dict[str, Path], stored: dict[str, Path]) -> list[str]:
    differences = [f"{name} is missing" for name in sorted(original.keys() - stored.keys())]
    differences += [f"{name} is not in the original tree" for name in sorted(stored.keys() - original.keys())]
    for name in sorted(original.keys() & stored.keys()):
        if original[name].read_bytes() != stored[name].read_bytes():
            differences.append(f"{name} has different contents")
    return differences


def judge(way: str, run: Run, original: dict[str, Path], directory: Path, counts_expected: str) -> list[str]:
    differences = []
    if run.exit_status != 0:
        differences.append(f"the crawler ended with status {run.exit_status}")
    if run.complaints:
        differences.append(f"the crawler wrote to stderr:\n{run.complaints}")
    counts = run.report.partition("\n")[0]
    if counts != counts_expected:
        differences.append(f"the crawler reported {counts!r}, expected {counts_expected!r}")
    if (way == "asynchrotron") != run.event_loop.startswith("asynchrotron."):
        differences.append(f"the crawler ran on {run.event_loop}")
    return differences + compare_trees(original, tree(directory))


def print_times(runs: dict[str, list[Run]]) -> None:
    """Median and spread of whole processes: interpreter start, imports, hashing and the disk are in them."""
    for quantity, field in (("wall", "wall_seconds"), ("CPU", "cpu_seconds")):
        times = {way: sorted(getattr(run, field) for run in done) for way, done in runs.items()}
        for way, values in times.items():
            spread = f"{values[0]:.2f} to {values[-1]:.2f}"
            print(f"{quantity:<7}{way:<15}{statistics.median(values):>8.2f} s, from {spread} s")
        # A few runs on somebody's machine: a difference smaller than the spread is not called one.
        first, second = times.values()
        if len(first) < 2:
            print(f"{'':<7}one round says nothing about the spread")
        elif first[0] <= second[-1] and second[0] <= first[-1]:
            print(f"{'':<7}the two ranges overlap: these runs show no difference")
        else:
            print(f"{'':<7}asynchrotron / stock: {statistics.median(second) / statistics.median(first):.2f}")


def demonstrate(rounds: int) -> bool:
    check_importable()
    crawler_processors, server_processors = choose_processors()
    root = Path(sysconfig.get_path("stdlib"))
    original = tree(root)
    counts_expected = f"{len(original)} files, {sum(p.stat().st_size for p in original.values())} bytes, 0 mismatches"

    print(f"Python {sys.version.split()[0]}, its standard library in {root}: {counts_expected.rpartition(',')[0]}")
    if crawler_processors == server_processors:
        print("One processor only: the crawler and the server share it.")
    print(f"{'round':<7}{'':<15}{'wall s':>8}{'CPU s':>8}   event loop")

    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    differences: list[str] = []
    scratch = Path(tempfile.mkdtemp(prefix="asynchrotron-demo-"))
    try:
        with file_server(server_processors) as url:
            for round_number in range(1, rounds + 1):
                # Each way goes first in every other round, so that neither always finds the caches warm.
                for way in list(WAYS)[:: 1 if round_number % 2 else -1]:
                    directory = scratch / "stored"
                    run = run_crawler(WAYS[way], url, directory, crawler_processors)
                    print(
                        f"{round_number:<7}{way:<15}{run.wall_seconds:>8.2f}{run.cpu_seconds:>8.2f}   {run.event_loop}",
                        flush=True,
                    )
                    runs[way].append(run)
                    found = judge(way, run, original, directory, counts_expected)
                    differences += [f"round {round_number}, {way}: {difference}" for difference in found]
                    shutil.rmtree(directory, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

    print()
    print_times(runs)
    print()
    if not differences:
        print(f"What differed: nothing. {sum(map(len, runs.values()))} crawls, every stored file equals the original.")
        return True
    print(f"What differed: {len(differences)} things.")
    for difference in differences[:DIFFERENCES_SHOWN]:
        print(f"  {difference}")
    if len(differences) > DIFFERENCES_SHOWN:
        print(f"  and {len(differences) - DIFFERENCES_SHOWN} more")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the crawler under stock asyncio and under asynchrotron.")
    parser.add_argument("--rounds", type=int, default=3, help="crawls each way (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    # Ends like any exception, so that the server is stopped and the scratch directory removed.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        return 0 if demonstrate(arguments.rounds) else 1
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
