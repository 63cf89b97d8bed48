"""A TaskGroup with 10,000 tasks that return at once; an operation is one of them."""

import asyncio
from typing import Any

TITLE = "TaskGroup of 10k"
UNIT = 10_000


async def trivial() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    for _ in range(max(1, count // UNIT)):
        with timed:
            async with asyncio.TaskGroup() as group:
                for _ in range(UNIT):
                    group.create_task(trivial())
