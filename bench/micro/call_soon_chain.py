"""One callback that schedules itself again: a whole turn of the loop per operation."""

import asyncio
from typing import Any

TITLE = "call_soon, self-rescheduling"
UNIT = 10_000


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    with timed:
        loop.call_soon(step)
        await done
