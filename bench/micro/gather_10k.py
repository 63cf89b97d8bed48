"""gather() of 10,000 coroutines that return at once; an operation is one of them."""

import asyncio
from typing import Any

TITLE = "gather of 10k"
UNIT = 10_000


async def trivial() -> None:
    pass


async def bench(count: int, timed: Any) -> None:
    for _ in range(max(1, count // UNIT)):
        with timed:
            await asyncio.gather(*[trivial() for _ in range(UNIT)])
