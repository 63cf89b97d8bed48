"""Another thread posts one callback and waits for its answer before it posts the next: the sleeping loop
is woken every time."""

import asyncio
import queue
import threading
from typing import Any

TITLE = "call_soon_threadsafe, round trip"
UNIT = 2_000
CORES = 2
DETERMINISTIC = False


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(answers.put, None)
            answers.get()
        loop.call_soon_threadsafe(done.set_result, None)

    with timed:
        thread = threading.Thread(target=ask)
        thread.start()
        await done
        thread.join()
