"""What 200,000 sleeping tasks add to the process, per task: task, coroutine, timer and everything they hold."""

import asyncio
import gc
import inspect
import re
from pathlib import Path

TITLE = "memory of a sleeping task"
UNIT = 200_000
UNIT_QUICK = 20_000


def resident_bytes() -> int:
    """Anonymous resident memory: mapped files (code paged in meanwhile) are not the tasks'."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def sleeper() -> None:
    await asyncio.sleep(3600)


async def memory(count: int) -> float:
    """Bytes per task."""
    holder: list[asyncio.Task[None] | None] = [None] * count
    warm = [asyncio.create_task(sleeper()) for _ in range(100)]
    await asyncio.sleep(0)
    gc.collect()
    before = resident_bytes()
    for index in range(count):
        holder[index] = asyncio.create_task(sleeper())
    # Two turns: one in which all of them start, one to see that it is over.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    after = resident_bytes()
    last = holder[-1]
    assert last is not None
    coroutine = last.get_coro()
    assert inspect.iscoroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
    assert not any(task.done() for task in warm)
    return (after - before) / count
