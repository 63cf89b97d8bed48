"""Make a task that returns at once, and await it."""

import asyncio
from typing import Any

TITLE = "await create_task(trivial)"
UNIT = 5_000


async def trivial() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    with timed:
        for _ in range(count):
            await asyncio.create_task(trivial())
