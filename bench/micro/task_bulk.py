"""Make 100,000 tasks, then await them one after another; the collector sees them all alive at once."""

import asyncio
from typing import Any

TITLE = "create 100k tasks, then await"
UNIT = 100_000
UNIT_QUICK = 10_000


async def trivial() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    for _ in range(max(1, count // UNIT)):
        with timed:
            tasks = [asyncio.create_task(trivial()) for _ in range(min(count, UNIT))]
            for task in tasks:
                await task
            # The tasks' own end belongs to the operation.
            del task, tasks
