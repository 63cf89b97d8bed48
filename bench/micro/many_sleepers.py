"""100,000 tasks that each sleep once for a random time up to half a second. The wall time is mostly that sleep:
what counts is CPU time."""

import asyncio
import random
from typing import Any

TITLE = "100k random sleeps"
UNIT = 100_000
UNIT_QUICK = 5_000
SPAN = 0.5
DETERMINISTIC = False  # how many sleepers share a turn depends on the machine's speed


async def sleeper(delay: float) -> None:
    await asyncio.sleep(delay)


async def bench(count: int, timed: Any) -> None:
    numbers = random.Random(2)
    for _ in range(max(1, count // UNIT)):
        delays = [numbers.uniform(0.0, SPAN) for _ in range(min(count, UNIT))]
        with timed:
            tasks = [asyncio.create_task(sleeper(delay)) for delay in delays]
            for task in tasks:
                await task
            del task, tasks
