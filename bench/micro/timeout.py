"""`async with timeout()` around one turn: a timer armed and cancelled."""

import asyncio
from typing import Any

TITLE = "async with timeout(60): sleep(0)"
UNIT = 5_000


async def bench(count: int, timed: Any) -> None:
    with timed:
        for _ in range(count):
            async with asyncio.timeout(60.0):
                await asyncio.sleep(0)
