"""Fifty tasks share a semaphore of ten and give way while they have it; an operation is one time that one has it."""

import asyncio
from typing import Any

TITLE = "async with Semaphore(10), 50 tasks"
UNIT = 5_000
TASKS = 50


async def bench(count: int, timed: Any) -> None:
    semaphore = asyncio.Semaphore(10)

    async def user() -> None:
        for _ in range(count // TASKS):
            async with semaphore:
                await asyncio.sleep(0)

    with timed:
        for task in [asyncio.create_task(user()) for _ in range(TASKS)]:
            await task
