"""A lock that nobody else wants."""

import asyncio
from typing import Any

TITLE = "async with Lock(), free"
UNIT = 10_000


async def bench(count: int, timed: Any) -> None:
    lock = asyncio.Lock()
    with timed:
        for _ in range(count):
            async with lock:
                pass
