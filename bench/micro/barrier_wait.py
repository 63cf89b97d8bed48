"""Ten tasks meet at a barrier again and again; an operation is one task that passes it."""

import asyncio
from typing import Any

TITLE = "Barrier(10): wait"
UNIT = 5_000
TASKS = 10


async def bench(count: int, timed: Any) -> None:
    barrier = asyncio.Barrier(TASKS)

    async def walker() -> None:
        for _ in range(count // TASKS):
            await barrier.wait()

    with timed:
        for task in [asyncio.create_task(walker()) for _ in range(TASKS)]:
            await task
