"""A producer and a consumer with a queue of ten between them: both wait for each other; an operation is one item."""

import asyncio
from typing import Any

TITLE = "Queue(10), put and get"
UNIT = 5_000


async def bench(count: int, timed: Any) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(10)

    async def produce() -> None:
        for number in range(count):
            await queue.put(number)

    with timed:
        producer = asyncio.create_task(produce())
        for _ in range(count):
            await queue.get()
        await producer
