"""Make a task, let it start and wait for something, cancel it, await the cancellation."""

import asyncio
from typing import Any

TITLE = "cancel: create, start, cancel, await"
UNIT = 2_000


async def waits(future: "asyncio.Future[None]") -> None:
    await future


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    with timed:
        for _ in range(count):
            task = asyncio.create_task(waits(loop.create_future()))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass  # suppress() would be measured as well
