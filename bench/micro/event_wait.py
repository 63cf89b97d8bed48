"""Ten tasks wait for an event that another sets and clears; an operation is one of them woken."""

import asyncio
from typing import Any

TITLE = "Event: wait, 10 tasks"
UNIT = 5_000
TASKS = 10


async def bench(count: int, timed: Any) -> None:
    event = asyncio.Event()

    async def waiter() -> None:
        for _ in range(count // TASKS):
            await event.wait()

    with timed:
        tasks = [asyncio.create_task(waiter()) for _ in range(TASKS)]
        for _ in range(count // TASKS):
            await asyncio.sleep(0)
            event.set()
            event.clear()
        for task in tasks:
            await task
