"""Memory that is kept on purpose, so that whoever looks for lost memory need not see it."""

import sys
from typing import Any

# The interpreter's cache of attributes keeps each name that was looked up, and `except*` makes a new "split" each
# time: thousands before the cache is full.
clear_attribute_cache = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache

FREE_HANDLES, FREE_OTHERS = 20_000, 5000  # more than any free list of crates/python takes


async def fill_free_lists(aio: Any) -> None:
    """What dies together with more than ever before stays in a free list: not again after this."""
    loop = aio.get_running_loop()

    async def everything() -> None:
        async with aio.timeout(1000):
            await aio.sleep(1000)

    handles = [loop.call_soon(print) for _ in range(FREE_HANDLES)]
    handles += [loop.call_later(1000, print) for _ in range(FREE_OTHERS)]
    futures = [loop.create_future() for _ in range(FREE_OTHERS)]
    for handle in handles:
        handle.cancel()
    tasks = [loop.create_task(everything()) for _ in range(FREE_OTHERS)]
    await aio.sleep(0)
    for task in tasks:
        task.cancel()
    await aio.wait(tasks)
    del handle, handles, futures, task, tasks
    await aio.sleep(0)
