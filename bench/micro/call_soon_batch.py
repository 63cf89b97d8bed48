"""A million callbacks, scheduled in bursts of ten thousand; each burst is run before the next is scheduled."""

import asyncio
from typing import Any

TITLE = "call_soon, 1M in bursts of 10k"
BURST = 10_000
UNIT = BURST
COUNT_MIN = 1_000_000


def nothing() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    with timed:
        for _ in range(count // BURST):
            done = loop.create_future()
            for _ in range(BURST - 1):
                loop.call_soon(nothing)
            loop.call_soon(done.set_result, None)
            await done
