"""Two tasks take turns under a condition: each notifies the other and waits; an operation is one turn."""

import asyncio
from typing import Any

TITLE = "Condition: notify and wait"
UNIT = 5_000


async def bench(count: int, timed: Any) -> None:
    condition = asyncio.Condition()
    number = 0

    async def player(mine: int) -> None:
        nonlocal number
        async with condition:
            while number < count:
                if number % 2 == mine:
                    number += 1
                    condition.notify()
                else:
                    await condition.wait()
            condition.notify_all()

    with timed:
        other = asyncio.create_task(player(1))
        await player(0)
        await other
