"""as_completed() over a hundred coroutines that return at once; an operation is one of them, made and awaited."""

import asyncio
from typing import Any

TITLE = "as_completed over 100"
UNIT = 5_000
TASKS = 100


async def trivial() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    with timed:
        for _ in range(count // TASKS):
            for result in asyncio.as_completed([trivial() for _ in range(TASKS)]):
                await result
