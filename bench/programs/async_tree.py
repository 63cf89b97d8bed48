"""A tree of 56,000 tasks, by gather and by TaskGroup; _tree.py says what the variants do."""

from typing import Any

from programs import _tree

TITLE = "async_tree"
UNIT = 1
VARIANTS = ("none", "io", "cpu_io", "memo", "none-tg", "io-tg", "cpu_io-tg", "memo-tg")
QUICK = ("none", "memo-tg")


async def bench(count: int, timed: Any, variant: str) -> None:
    await _tree.run(count, timed, variant)
