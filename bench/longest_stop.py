"""How long a loop stands still while a child process is started, and how many children a second it starts.

    python bench/longest_stop.py asyncio uvloop:new_event_loop asynchrotron:new_event_loop --heap 300

A timer of 0.2 ms notes how late it comes at most while each of the children is started: a loop that is busy would be
preempted on a busy machine, and that would be measured. The table has the median and the largest of these, and the
median of the CPU time that the loop's thread itself needed for a start, which depends less on what else the machine
does. Loops take turns, each round in a process of its own; the best round of each is shown, as other work on the
machine only adds.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from harness.loops import runner_for
from programs.subprocess_spawn import touched

KEYWORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pipes": {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
    "preexec_fn": {"preexec_fn": int},
}


class Stops:
    """How late a timer comes at most since the last reset: for so long the loop stood still."""

    INTERVAL = 0.0002

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.running = True
        self.reset()
        self.turn()

    def reset(self) -> None:
        self.longest = 0.0
        self.last = time.perf_counter()

    def turn(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self.last - self.INTERVAL)
        self.last = now
        if self.running:
            self.loop.call_later(self.INTERVAL, self.turn)


async def measure(count: int, kind: str) -> dict[str, float]:
    async def start() -> Any:
        return await asyncio.create_subprocess_exec("/bin/true", **KEYWORDS[kind])

    await (await start()).communicate()
    stops, longest, cpu = Stops(), [], []
    for _ in range(count):
        await asyncio.sleep(stops.INTERVAL)
        stops.reset()
        child = await start()
        await asyncio.sleep(2 * stops.INTERVAL)  # so that a stop at the very end is seen
        longest.append(stops.longest)
        await child.communicate()
    stops.running = False
    began = time.perf_counter()
    for _ in range(count):
        before = time.thread_time()
        child = await start()
        cpu.append(time.thread_time() - before)
        await child.communicate()
    return {
        "median_ms": statistics.median(longest) * 1e3,
        "max_ms": max(longest) * 1e3,
        "thread_ms": statistics.median(cpu) * 1e3,
        "per_second": count / (time.perf_counter() - began),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loops", nargs="*", default=["asyncio", "asynchrotron:new_event_loop"])
    parser.add_argument("--heap", type=int, default=300, help="megabytes")
    parser.add_argument("--kind", choices=KEYWORDS, default="plain")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        heap = touched(options.heap)
        with runner_for(None if options.loops == ["asyncio"] else options.loops[0]) as runner:
            print(json.dumps(runner.run(measure(options.count, options.kind))))
        heap.close()
        return
    rounds: dict[str, list[dict[str, float]]] = {loop: [] for loop in options.loops}
    for _ in range(options.rounds):
        for loop, results in rounds.items():
            command = [sys.executable, __file__, loop, "--one", "--heap", str(options.heap), "--kind", options.kind]
            done = subprocess.run([*command, "--count", str(options.count)], stdout=subprocess.PIPE, check=True)
            results.append(json.loads(done.stdout))
    print(f"Python {sys.version.split()[0]}, heap {options.heap} MB, {options.kind}, load {os.getloadavg()[0]:.1f}")
    print(f"{'loop':34}{'median stop':>14}{'longest stop':>14}{'thread CPU':>12}{'children/s':>12}")
    for loop, results in rounds.items():
        best = {name: min(result[name] for result in results) for name in results[0]}
        most = max(result["per_second"] for result in results)
        print(f"{loop:34}{best['median_ms']:11.2f} ms{best['max_ms']:11.2f} ms{best['thread_ms']:9.3f} ms{most:12.0f}")


if __name__ == "__main__":
    main()
