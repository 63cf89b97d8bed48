"""Who holds what a task waits for keeps it whole: its memory is used again only when nobody can see it."""

import weakref

import pytest
from test_waiting_hostile import blocked
from worlds import parity

WAKE = {
    "lock": lambda primitive: primitive.release(),
    "semaphore": lambda primitive: primitive.release(),
    "event": lambda primitive: primitive.set(),
    "get": lambda primitive: primitive.put_nowait(1),
    "put": lambda primitive: primitive.get_nowait(),
}


@pytest.mark.parametrize("kind", WAKE)
@parity
def test_a_waiter_outlives_its_wait(w, kind):
    async def main():
        primitive, operation = await blocked(w, kind)
        task = w.aio.ensure_future(operation)
        await w.aio.sleep(0)
        waiter = task._fut_waiter
        called = []
        waiter.add_done_callback(called.append)
        seen = waiter.done(), bool(waiter)
        WAKE[kind](primitive)
        await task
        # A later wait of the same kind must not touch the first one's future.
        another, operation = await blocked(w, kind)
        task = w.aio.ensure_future(operation)
        await w.aio.sleep(0)
        apart = task._fut_waiter is not waiter, waiter.done(), task._fut_waiter.done(), called == [waiter]
        WAKE[kind](another)
        await task
        return seen, apart, waiter.result(), waiter.cancelled()

    return w.run(main)


@pytest.mark.parametrize("kind", WAKE)
@parity
def test_weak_references_to_a_waiter_end(w, kind):
    async def main():
        primitive, operation = await blocked(w, kind)
        task = w.aio.ensure_future(operation)
        await w.aio.sleep(0)
        told = []
        seen = weakref.ref(task._fut_waiter, lambda _: told.append("gone"))
        WAKE[kind](primitive)
        await task
        del task
        await w.aio.sleep(0)
        return seen() is None, told

    return w.run(main)
