"""The coroutines of queues driven by hand and by others, and what the collector finds."""

import asyncio
import contextlib
import gc
import inspect
import sys
import types
import weakref

import pytest
from queue_words import CLASSES, fill, look
from worlds import araised, normal, parity, raised


def collect():
    """All of it; from 3.15 on, one pass is not always enough."""
    for _ in range(3):
        gc.collect()


# --- driven by hand -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(loop):
    asyncio._set_running_loop(loop)
    try:
        yield loop
    finally:
        asyncio._set_running_loop(None)


@parity
def test_driven_by_hand(w):
    with w.loop() as loop, running(loop):
        trace = []
        queue = w.aio.Queue(1)
        get = queue.get()
        fut = get.send(None)
        trace.append((fut.done(), fut._asyncio_future_blocking, look(queue), inspect.getcoroutinestate(get)))
        queue.put_nowait("item")
        trace.append((fut.done(), look(queue), raised(get.send, None), look(queue)))

        thrown, waiting = queue.get(), queue.get()
        thrown.send(None)
        other = waiting.send(None)
        trace.append((raised(thrown.throw, KeyError("k")), look(queue), other.done()))
        waiting.close()
        trace.append((look(queue), other.cancelled()))

        queue.put_nowait(1)
        put, second = queue.put(2), queue.put(3)
        put.send(None)
        fut = second.send(None)
        queue.get_nowait()
        put.close()  # was woken: the next one is
        trace.append((fut.done(), look(queue), raised(second.send, None), look(queue)))

        join = queue.join()
        fut = join.send(None)
        trace.append((fut.done(), len(queue._finished._waiters)))
        trace.append((raised(join.throw, ValueError("v")), len(queue._finished._waiters)))

        dropped = queue.put(4)
        fut = dropped.send(None)
        del dropped
        collect()
        trace.append((fut.cancelled(), look(queue)))
        return trace


@parity
def test_frames_of_waiting_ones(w):
    with w.loop() as loop, running(loop):
        queue = fill(w.aio.Queue(1), 1)
        coros = [queue.put(2), queue.join()]
        for coro in coros:
            coro.send(None)
        found = [(coro.cr_frame.f_code.co_name, coro.__qualname__, normal(repr(coro))) for coro in coros]
        for coro in coros:
            coro.close()
        return found


@parity
def test_foreign_drivers(w):
    """asyncio's own C Task, and plain awaiting through a generator."""

    async def main():
        queue = w.aio.Queue(1)

        @types.coroutine
        def through(coro):
            return (yield from coro.__await__())

        async def wrapped(coro):
            return await through(coro)

        loop = asyncio.get_running_loop()
        get = asyncio.tasks._CTask(wrapped(queue.get()), loop=loop) if hasattr(asyncio.tasks, "_CTask") else None
        await asyncio.sleep(0)
        await queue.put("value")
        trace = [await get if get else "value"]
        getter = asyncio.Task(queue.get(), loop=loop)
        await asyncio.sleep(0)
        getter.cancel("m")
        trace.append(await araised(getter))
        return trace, look(queue)

    return w.run(main)


class OddLoopFuture(asyncio.Future):
    """A future of another kind, as a loop of somebody's own may make it."""


@parity
def test_futures_of_another_kind(w):
    with w.loop() as loop:
        if not w.ours:
            loop.create_future = lambda: OddLoopFuture(loop=loop)  # type: ignore[method-assign]
        queue = w.aio.Queue()

        async def main():
            getters = [asyncio.ensure_future(queue.get()) for _ in range(2)]
            await asyncio.sleep(0)
            queue.put_nowait(1)
            getters[0].cancel()
            await asyncio.sleep(0)
            return await getters[1], getters[0].cancelled()

        return loop.run_until_complete(main())


# --- cycles -------------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", CLASSES)
def test_cycles_are_collected(w, name):
    class Thing:
        def __lt__(self, other):
            return True

    with w.loop():
        plain = getattr(w.aio, name)()
        thing = Thing()
        thing.queue = plain
        fill(plain, thing)
        attribute = getattr(w.aio, name)()
        attribute.itself = attribute
        gone = [weakref.ref(plain), weakref.ref(thing), weakref.ref(attribute)]
        del plain, thing, attribute
        collect()
        return [ref() for ref in gone]


@parity
def test_a_waiting_cycle_is_collected(w):
    with w.loop() as loop, running(loop):
        queue = w.aio.Queue()
        coro = queue.get()
        coro.send(None)
        queue.coro = coro
        gone = weakref.ref(queue)
        del queue, coro
        collect()
        return (gone(),)


@parity
def test_queues_in_queues(w):
    with w.loop():
        queue = w.aio.Queue()
        for _ in range(20_000):
            outer = w.aio.Queue()
            outer.put_nowait(queue)
            queue = outer
        del queue, outer
        return ("alive",)


@parity
def test_a_queue_in_itself(w):
    with w.loop():
        queue = w.aio.Queue()
        queue.put_nowait(queue)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(200)
        try:
            kind = raised(repr, queue)[0]
        finally:
            sys.setrecursionlimit(limit)
        queue.get_nowait()
        return kind


@parity
def test_dropping_an_item_may_use_the_queue(w):
    with w.loop():
        queue = w.aio.Queue()
        log = []

        class Item:
            def __del__(self):
                log.append(queue.qsize())
                queue.put_nowait("from del")

        queue.put_nowait(Item())
        queue.get_nowait()
        queue.put_nowait(Item())
        queue._queue.clear()
        return log, queue.qsize()
