"""A future that is done when it is awaited: nothing suspends."""

import asyncio
from typing import Any

TITLE = "create_future + set_result + await"
UNIT = 10_000


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    with timed:
        for _ in range(count):
            future = loop.create_future()
            future.set_result(None)
            await future
