"""The tree of _tree.py with eager tasks: what does not wait is done before create_task() returns."""

import asyncio
from typing import Any

from programs import _tree

TITLE = "async_tree, eager"
UNIT = 1
SINCE = (3, 12)
VARIANTS = ("none", "io", "cpu_io", "memo", "none-tg", "io-tg", "cpu_io-tg", "memo-tg")
QUICK = ("memo",)


async def bench(count: int, timed: Any, variant: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    try:
        await _tree.run(count, timed, variant)
    finally:
        loop.set_task_factory(None)
