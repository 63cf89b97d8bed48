"""Another thread posts callbacks as fast as it can, until the loop has run them all."""

import asyncio
import threading
from typing import Any

TITLE = "call_soon_threadsafe, flood"
UNIT = 10_000
CORES = 2  # two threads: pinning them to one core would measure the scheduler
DETERMINISTIC = False


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def arrive() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    def flood() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(arrive)

    with timed:
        thread = threading.Thread(target=flood)
        thread.start()
        await done
        thread.join()
