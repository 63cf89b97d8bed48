"""Children that do nothing, started one after another and waited for, beside a heap of 300 MB. CPU time is the parent's
alone; how long the loop stands still meanwhile is what bench/longest_stop.py measures."""

import asyncio
import mmap
from typing import Any

TITLE = "subprocess, /bin/true"
VARIANTS = ("10 MB heap", "300 MB heap")
UNIT = 20
CORES = 2  # parent and child
DETERMINISTIC = False


def touched(megabytes: int) -> mmap.mmap:
    """Memory that is really there, in small pages: what a fork would have to copy tables for."""
    heap = mmap.mmap(-1, megabytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    heap.madvise(mmap.MADV_NOHUGEPAGE)
    for place in range(0, len(heap), mmap.PAGESIZE):
        heap[place] = 1
    return heap


async def start() -> None:
    child = await asyncio.create_subprocess_exec("/bin/true")
    assert await child.wait() == 0


async def bench(count: int, timed: Any, variant: str) -> None:
    heap = touched(int(variant.split()[0]))
    await start()
    with timed:
        for _ in range(count):
            await start()
    heap.close()
