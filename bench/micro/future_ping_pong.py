"""Two tasks wake each other through a new future each time; an operation is one hand-over:
one future made, awaited and completed, one task woken and stepped."""

import asyncio
from typing import Any

TITLE = "two tasks, ping-pong through futures"
UNIT = 10_000


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    ping: asyncio.Future[None] = loop.create_future()
    pong: asyncio.Future[None] = loop.create_future()

    async def first(rounds: int) -> None:
        nonlocal ping
        for _ in range(rounds):
            await ping
            ping = loop.create_future()
            pong.set_result(None)

    async def second(rounds: int) -> None:
        nonlocal pong
        for _ in range(rounds):
            ping.set_result(None)
            await pong
            pong = loop.create_future()

    with timed:
        answering = asyncio.create_task(first(count // 2))
        await second(count // 2)
        await answering
