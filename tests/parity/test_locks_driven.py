"""Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier: on other loops, by hand, while somebody interferes."""

import asyncio
import contextvars
import gc
import inspect
import sys
import warnings
import weakref

import pytest
from lock_plays import LOCKS, NAMES, make, play, turns
from worlds import STOCK, araised, drain, error, normal, outcome, parity, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


# --- loops --------------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", NAMES)
def test_another_loop(w, name):
    thing, trace = make(w, name), []

    async def use():
        if name in LOCKS:
            await thing.acquire()
            if name == "Condition":
                await thing.wait()
        await (thing.acquire() if name in LOCKS else thing.wait())

    with w.loop() as first, w.loop() as second:
        tasks = [first.create_task(use()) for _ in range(2)]
        drain(first, 3)
        trace.append((thing._loop is first, normal(thing)))
        if name == "Condition":
            thing._lock._locked = True
            use = thing.wait
        trace.append(second.run_until_complete(araised(use())))
        if name == "Condition":
            trace.append((normal(thing), normal(thing._lock)))
            thing._lock._locked = True
        trace.append((normal(thing), second.run_until_complete(araised(use()))))
        for task in tasks:
            task.cancel()
    return trace


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_without_a_loop(w, name):
    """Nothing that need not wait needs a loop."""
    thing, trace = make(w, name), []
    for coro in (
        thing.acquire(),
        thing.acquire(),
        thing.__aexit__(None, None, None),
        thing.__aexit__(None, None, None),
    ):
        try:
            coro.send(None)
        except StopIteration as exc:
            trace.append(("value", exc.value))
        except Exception as exc:
            trace.append(error(exc))
    return [*trace, normal(thing)]


@parity
def test_on_stock_loops(w):
    """The objects on asyncio's own loop, driven by asyncio's own tasks."""
    trace = []

    async def main():
        lock, event, condition = w.aio.Lock(), w.aio.Event(), w.aio.Condition()
        semaphore, barrier = w.aio.Semaphore(1), w.aio.Barrier(3)

        async def worker(number):
            async with lock:
                trace.append((number, "lock"))
                await asyncio.sleep(0)
            async with semaphore:
                trace.append((number, "semaphore"))
                await asyncio.sleep(0)
            trace.append((number, await barrier.wait()))
            async with condition:
                trace.append((number, await condition.wait()))
            trace.append((number, await event.wait()))

        tasks = [asyncio.ensure_future(worker(number)) for number in range(3)]
        while not len(condition._waiters) == 3:
            await asyncio.sleep(0)
        async with condition:
            condition.notify_all()
        await turns(asyncio, 5)
        tasks[1].cancel()
        event.set()
        await asyncio.wait(tasks)
        trace.append([task.cancelled() for task in tasks])
        trace.extend(map(normal, (lock, event, condition, semaphore, barrier)))

    loop = STOCK.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    return trace


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_debug_mode(w, name):
    async def main(loop, log):
        thing = make(w, name)
        coro = thing.acquire()
        log((coro.cr_origin is not None, coro.__qualname__, coro.cr_frame is not None, await coro))
        other = thing.__aexit__(None, None, None)
        log((other.__qualname__, other.cr_frame.f_code.co_name, await other))
        task = loop.create_task(use(thing))
        second = loop.create_task(use(thing))
        await w.aio.sleep(0)
        log([frame.f_code.co_name for frame in second.get_stack()])
        await task
        await second

    async def use(thing):
        async with thing:
            await asyncio.sleep(0)

    return play(w, main, debug=True)


# --- coroutines by hand -------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["close", "throw", "throw cancelled", "throw exit", "send", "finish"])
def test_driving_by_hand(w, name, how):
    with w.loop() as loop:

        async def main():
            thing, trace = make(w, name), []
            if name in LOCKS:
                await thing.acquire()
            coro = thing.wait() if hasattr(thing, "wait") else thing.acquire()
            fut = coro.send(None)
            trace += [normal(thing), fut.done(), coro.cr_frame is not None, inspect.getcoroutinestate(coro)]
            if how == "close":
                trace.append(outcome(coro.close))
            elif how == "throw":
                trace.append(raised(coro.throw, KeyError("thrown")))
            elif how == "throw cancelled":
                trace.append(raised(coro.throw, asyncio.CancelledError("thrown")))
            elif how == "throw exit":
                trace.append(raised(coro.throw, GeneratorExit()))
            elif how == "send":
                trace.append(raised(coro.send, None))
                coro.close()
            else:
                fut._asyncio_future_blocking = False
                fut.set_result(True)
                try:
                    trace.append(type(coro.send(None)).__name__)
                    coro.close()
                except StopIteration as exc:
                    trace.append(exc.value)
            trace += [normal(thing), getattr(thing, "_value", None), inspect.getcoroutinestate(coro)]
            trace.append(raised(coro.send, None))
            return trace

        return loop.run_until_complete(main())


@parity
def test_closing_while_the_lock_is_held_by_another(w):
    """A condition's wait cannot end before it has the lock."""
    with w.loop() as loop:

        async def main():
            condition, trace = w.aio.Condition(), []
            await condition.acquire()
            coro = condition.wait()
            coro.send(None)
            await condition.acquire()
            trace.append(outcome(coro.close))
            trace.append((normal(condition), normal(condition._lock), inspect.getcoroutinestate(coro)))
            condition.release()
            trace.append(raised(coro.send, None))
            trace.append((normal(condition), normal(condition._lock)))
            return trace

        return loop.run_until_complete(main())


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_never_awaited(w, name):
    thing = make(w, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thing.acquire()
        gc.collect()
    return [normal(thing), [normal(entry.message) for entry in caught]]


@parity
def test_contexts(w):
    """Each task has its own, also in what a predicate sees."""

    async def main():
        condition, trace = w.aio.Condition(), []

        async def worker(number):
            VARIABLE.set(number)
            async with condition:
                await condition.wait_for(lambda: trace.append(VARIABLE.get()) or len(trace) > 4)

        tasks = [asyncio.ensure_future(worker(number)) for number in range(2)]
        while len(trace) < 6:
            await w.aio.sleep(0)
            async with condition:
                condition.notify_all()
        await w.aio.wait(tasks)
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("name", NAMES)
def test_cycles_are_collected(w, name):
    class Derived(getattr(w.aio, name)):
        pass

    async def main():
        thing = Derived(2) if name == "Barrier" else Derived()
        thing.itself = thing
        if name in LOCKS:
            await thing.acquire()
        waiting = thing.wait() if hasattr(thing, "wait") else thing.acquire()
        waiting.send(None)
        thing.waiting = waiting
        reference = weakref.ref(thing)
        del thing, waiting
        gc.collect()
        return [reference() is None]

    return w.run(main)


@parity
def test_a_predicate_that_interferes(w):
    """It releases the lock, and replaces what it stands in."""

    async def main():
        condition, trace = w.aio.Condition(), []

        def predicate():
            trace.append(condition.locked())
            condition.release()
            return False

        async with condition:
            trace.append(await araised(condition.wait_for(predicate)))
            await condition.acquire()
        trace.append(normal(condition))
        return trace

    return w.run(main)


@parity
def test_a_future_that_interferes(w):
    """A callback of a waiter's future is run in a turn of its own, whatever it does to the lock."""

    async def main(loop, log):
        lock = w.aio.Lock()
        await lock.acquire()
        tasks = [loop.create_task(lock.acquire()) for _ in range(2)]
        await w.aio.sleep(0)
        lock._waiters[0].add_done_callback(lambda fut: (log(normal(lock)), outcome(lock.release)))
        lock.release()
        await w.aio.wait(tasks)
        log(normal(lock))

    return play(w, main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks(world):
    traces = []
    for w in (STOCK, world):
        with w.loop() as loop:
            loop.set_task_factory(w.aio.eager_task_factory)

            async def main(w=w, loop=loop):
                lock, log = w.aio.Lock(), []

                async def worker(number):
                    async with lock:
                        log.append(number)
                        await w.aio.sleep(0)

                tasks = [loop.create_task(worker(number)) for number in range(3)]
                log.append([task.done() for task in tasks])
                await w.aio.wait(tasks)
                return log

            traces.append(loop.run_until_complete(main()))
    assert traces[0] == traces[1]
