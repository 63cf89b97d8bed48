"""wait() for a hundred tasks that return at once; an operation is one of them, made and waited for."""

import asyncio
from typing import Any

TITLE = "wait for 100 tasks"
UNIT = 5_000
TASKS = 100


async def trivial() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    with timed:
        for _ in range(count // TASKS):
            await asyncio.wait([asyncio.create_task(trivial()) for _ in range(TASKS)])
