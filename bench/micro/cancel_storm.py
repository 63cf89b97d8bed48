"""10,000 tasks that wait for something are cancelled at once and awaited; only the storm is counted, not the start."""

import asyncio
from typing import Any

TITLE = "cancel storm, 10k waiting tasks"
UNIT = 10_000
UNIT_QUICK = 2_000


async def waits(future: "asyncio.Future[None]") -> None:
    await future


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(max(1, count // UNIT)):
        tasks = [asyncio.create_task(waits(loop.create_future())) for _ in range(min(count, UNIT))]
        await asyncio.sleep(0)
        with timed:
            for task in tasks:
                task.cancel()
            for task in tasks:
                try:
                    await task
                except asyncio.CancelledError:
                    pass
            del task, tasks
