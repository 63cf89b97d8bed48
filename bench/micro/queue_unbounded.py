"""A hundred items are put, then taken, with task_done and join: nothing waits but join; an operation is one item."""

import asyncio
from typing import Any

TITLE = "Queue(), put, get, task_done"
UNIT = 5_000
ITEMS = 100


async def bench(count: int, timed: Any) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    with timed:
        for _ in range(count // ITEMS):
            for number in range(ITEMS):
                await queue.put(number)
            for _ in range(ITEMS):
                await queue.get()
                queue.task_done()
            await queue.join()
