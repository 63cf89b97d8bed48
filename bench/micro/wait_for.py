"""wait_for() around a coroutine that gives way once: a timer armed and cancelled."""

import asyncio
from typing import Any

TITLE = "wait_for(sleep(0), 60)"
UNIT = 5_000


async def bench(count: int, timed: Any) -> None:
    with timed:
        for _ in range(count):
            await asyncio.wait_for(asyncio.sleep(0), 60.0)
