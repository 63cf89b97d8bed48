"""Arm a timer and cancel it, 100,000 times in a row; the turn that follows is counted, because what a loop
postpones at cancel it does there."""

import asyncio
from typing import Any

TITLE = "call_later + cancel, 100k in a row"
UNIT = 100_000
UNIT_QUICK = 10_000


def nothing() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(max(1, count // UNIT)):
        with timed:
            for _ in range(min(count, UNIT)):
                loop.call_later(60.0, nothing).cancel()
            await asyncio.sleep(0)
