"""A function that does nothing, run in a thread and awaited; most of it is the interpreter's own thread pool."""

import asyncio
from typing import Any

TITLE = "to_thread, one after another"
UNIT = 1_000
CORES = 2  # two threads: pinning them to one core would measure the scheduler
DETERMINISTIC = False


def nothing() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    await asyncio.to_thread(nothing)  # the thread starts here
    with timed:
        for _ in range(count):
            await asyncio.to_thread(nothing)
