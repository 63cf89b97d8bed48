"""One measurement of one micro benchmark or program, in a process of its own; prints one JSON line.

Started by compare.py and icount.py. Only the blocks that the benchmark marks with `with timed` are counted.
The warm-up is the calibration: the operation count grows until one call takes the target time, and the last
call alone is reported. The garbage collector runs as Python sets it up; a full collection precedes each call.
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter_ns
from typing import Any

from harness.loops import loop_types, runner_for


class Stopwatch:
    """Adds up CPU time (user and system, all threads of the process) and wall time of its `with` blocks."""

    def __init__(self) -> None:
        self.user = self.system = 0.0
        self.wall_ns = 0

    def __enter__(self) -> None:
        usage = getrusage(RUSAGE_SELF)
        self.user -= usage.ru_utime
        self.system -= usage.ru_stime
        self.wall_ns -= perf_counter_ns()

    def __exit__(self, *exc_info: object) -> None:
        self.wall_ns += perf_counter_ns()
        usage = getrusage(RUSAGE_SELF)
        self.user += usage.ru_utime
        self.system += usage.ru_stime

    @property
    def cpu_s(self) -> float:
        return self.user + self.system


Bench = Callable[[int, Stopwatch], Awaitable[None]]


async def timed_call(bench: Bench, count: int) -> Stopwatch:
    watch = Stopwatch()
    gc.collect()
    # A task of its own: with the harness's coroutines below it, each step would also pass through their frames.
    await asyncio.ensure_future(bench(count, watch))
    return watch


async def calibrated(bench: Bench, module: Any, unit: int, target_s: float) -> tuple[int, Stopwatch]:
    count = unit
    while True:
        watch = await timed_call(bench, count)
        if watch.cpu_s >= target_s / 4:
            break
        count *= 4
    # A tenth more than the estimate asks for, so that a faster second call still lasts long enough.
    wanted = int(count * target_s * 1.1 / watch.cpu_s)
    count = max(unit, getattr(module, "COUNT_MIN", 0), -(-wanted // unit) * unit)
    return count, await timed_call(bench, count)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    name, _, variant = options.bench.partition("/")
    module: Any = importlib.import_module(f"{options.folder}.{name}")
    unit = getattr(module, "UNIT_QUICK", module.UNIT) if options.quick else module.UNIT
    report: dict[str, Any] = {"bench": options.bench, **await loop_types()}
    if hasattr(module, "memory"):
        variants = [variant] if variant else []
        report |= {"count": unit, "cost": await module.memory(options.count or unit, *variants)}
        return report
    bench: Bench = partial(module.bench, variant=variant) if variant else module.bench
    if options.count:  # exactly this much work and nothing else: instructions are being counted
        count, watch = options.count, Stopwatch()
        await bench(count, watch)
    elif options.quick:
        await timed_call(bench, unit)
        count, watch = unit, await timed_call(bench, unit)
    else:
        count, watch = await calibrated(bench, module, unit, options.target_s)
    return report | {
        "count": count,
        "cost": watch.cpu_s * 1e9 / count,
        "wall": watch.wall_ns / count,
        "system_share": watch.system / watch.cpu_s if watch.cpu_s else 0.0,
        "threads": threads(),
    }


def threads() -> int:
    """As the kernel counts them: a loop's own helper threads are not Python's."""
    found = re.search(r"^Threads:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def probe() -> dict[str, Any]:
    from harness.machine import interpreter

    return interpreter()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", nargs="?")
    parser.add_argument("--folder", default="micro")
    parser.add_argument("--factory")
    parser.add_argument("--target-s", type=float, default=0.3)
    parser.add_argument("--count", type=int)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with runner_for(options.factory) as runner:
        if options.bench is None:
            print(json.dumps(probe() | runner.run(loop_types())), flush=True)
            return
        print(json.dumps(runner.run(measure(options))), flush=True)
        if not options.count:
            # 200,000 tasks still asleep would take longer to cancel than to measure.
            os._exit(0)


if __name__ == "__main__":
    main()
