"""What the tests of queues share."""

import asyncio
from typing import Any

from worlds import normal

CLASSES = ["Queue", "PriorityQueue", "LifoQueue"]
STOCK = {name: getattr(asyncio, name) for name in CLASSES}


def fill(queue: Any, *items: Any) -> Any:
    for item in items:
        queue.put_nowait(item)
    return queue


def look(queue: Any) -> tuple[Any, ...]:
    """What can be seen of a queue's state without a look at its deques: that would make ours real ones for good."""
    return (
        normal(repr(queue)), str(queue), queue.qsize(), queue.empty(), queue.full(), queue.maxsize,
        queue._unfinished_tasks,
    )  # fmt: skip
