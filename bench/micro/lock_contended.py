"""Ten tasks want one lock and give way while they hold it; an operation is one time that one of them has it."""

import asyncio
from typing import Any

TITLE = "async with Lock(), 10 tasks"
UNIT = 5_000
TASKS = 10


async def bench(count: int, timed: Any) -> None:
    lock = asyncio.Lock()

    async def user() -> None:
        for _ in range(count // TASKS):
            async with lock:
                await asyncio.sleep(0)

    with timed:
        for task in [asyncio.create_task(user()) for _ in range(TASKS)]:
            await task
