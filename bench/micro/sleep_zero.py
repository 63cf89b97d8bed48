"""One task giving way to nobody: suspend, a turn of the loop, resume."""

import asyncio
from typing import Any

TITLE = "sleep(0), one task"
UNIT = 10_000


async def bench(count: int, timed: Any) -> None:
    with timed:
        for _ in range(count):
            await asyncio.sleep(0)
