"""Arm a timer and cancel it, with a turn of the loop after each hundred: what a busy server with timeouts does.
Loops that free a cancelled timer in their next turn find it still in the cache here."""

import asyncio
from typing import Any

TITLE = "call_later + cancel, a turn per 100"
UNIT = 10_000
PER_TURN = 100


def nothing() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    with timed:
        for _ in range(count // PER_TURN):
            for _ in range(PER_TURN):
                loop.call_later(60.0, nothing).cancel()
            await asyncio.sleep(0)
