"""A tree of tasks six levels deep with six branches at each node, 56,000 tasks: pyperformance's async_tree workloads.

What a leaf does is the variant: `none` nothing; `io` sleeps for 50 ms, so that all 46,656 leaves wait at once; `cpu_io`
computes a factorial half of the time and sleeps the other half; `memo` asks for one of a hundred keys, of which ninety
are slow (a sleep) only the first time and ten always. Each may gather the branches or use a TaskGroup (`tg`).
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any

LEVELS = 6
BRANCHES = 6
SLEEP = 0.05
FACTORIAL_OF = 500
KEYS = 100
KEYS_CACHED = 90

Leaf = Callable[[], Awaitable[None]]


def leaf_of(kind: str) -> Leaf:
    numbers = random.Random(0)
    cached: set[int] = set()

    async def none() -> None:
        pass

    async def io() -> None:
        await asyncio.sleep(SLEEP)

    async def cpu_io() -> None:
        if numbers.random() < 0.5:
            math.factorial(FACTORIAL_OF)
        else:
            await asyncio.sleep(SLEEP)

    async def memo() -> None:
        key = numbers.randint(1, KEYS)
        if key <= KEYS_CACHED:
            if key in cached:
                return
            cached.add(key)
        await asyncio.sleep(SLEEP)

    return {"none": none, "io": io, "cpu_io": cpu_io, "memo": memo}[kind]


async def gather_tree(level: int, leaf: Leaf) -> None:
    if level == 0:
        await leaf()
    else:
        await asyncio.gather(*[gather_tree(level - 1, leaf) for _ in range(BRANCHES)])


async def group_tree(level: int, leaf: Leaf) -> None:
    if level == 0:
        await leaf()
        return
    async with asyncio.TaskGroup() as group:
        for _ in range(BRANCHES):
            group.create_task(group_tree(level - 1, leaf))


async def run(count: int, timed: Any, variant: str) -> None:
    kind, _, group = variant.partition("-")
    tree = group_tree if group else gather_tree
    for _ in range(count):
        leaf = leaf_of(kind)
        with timed:
            await tree(LEVELS, leaf)
