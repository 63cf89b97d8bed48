"""What the tests of tasks share."""

import asyncio
import re

from worlds import normal


async def value(result=None, turns=0):
    for _ in range(turns):
        await asyncio.sleep(0)
    return result


async def fail(exc):
    raise exc


async def failing(exc, turns=0):
    await value(None, turns)
    raise exc


async def stubborn(turns):
    """Does not let itself be cancelled before its time."""
    for _ in range(turns):
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
    return "stubborn"


async def wait_for_ever():
    await asyncio.get_running_loop().create_future()


def task_class(w, loop):
    """Task called as a class; under stock's names that is the C Task on our loop."""
    return lambda coroutine, **kwargs: w.aio.Task(coroutine, loop=loop, **kwargs)


MAKERS = ["create_task", "class", "function"]


def maker(w, loop, how):
    if how == "create_task":
        return loop.create_task
    if how == "class":
        return task_class(w, loop)
    return lambda coroutine, **kwargs: w.aio.ensure_future(coroutine, loop=loop)


def lines(text):
    """Line numbers out of a repr, so that bodies may move."""
    return re.sub(r"(\.py):\d+", r"\1:L", normal(text))


async def waits(what):
    return await what
