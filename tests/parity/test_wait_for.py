"""wait_for: what it takes, what it answers, who is cancelled when and what with, turns, and how it can be driven."""

import asyncio
import contextvars
import decimal
import gc
import inspect
import types
import warnings
import weakref

import pytest
from companies import MIXED, mixed_world
from task_makers import value
from worlds import Generations, araised, drain, error, normal, outcome, parity, since

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def chain(exc):
    """An exception with everything behind it."""
    if exc is None:
        return None
    return (*error(exc), exc.__suppress_context__, chain(exc.__cause__), chain(exc.__context__))


async def caught(awaitable):
    try:
        return await awaitable
    except BaseException as exc:
        return chain(exc)


async def fail(exc, turns=0):
    await value(None, turns)
    raise exc


class Awaitable:
    def __init__(self, coro):
        self.coro = coro

    def __await__(self):
        return self.coro.__await__()


@types.coroutine
def from_generator(result):
    yield
    return result


KINDS = [
    "coroutine",
    "sleep",
    "future",
    "done",
    "failed",
    "cancelled",
    "task",
    "awaitable",
    "generator",
    "shield",
    "gather",
]


def make(w, loop, kind):
    future = loop.create_future()
    if kind == "coroutine":
        return value("value", 2)
    if kind == "sleep":
        return w.aio.sleep(0.001, "slept")
    if kind == "future":
        loop.call_soon(lambda: future.done() or future.set_result("later"))
        return future
    if kind == "done":
        future.set_result("already")
        return future
    if kind == "failed":
        future.set_exception(KeyError("k"))
        return future
    if kind == "cancelled":
        future.cancel("why")
        return future
    if kind == "task":
        return loop.create_task(value("of a task", 2))
    if kind == "awaitable":
        return Awaitable(value("of an awaitable", 2))
    if kind == "generator":
        return from_generator("of a generator")
    if kind == "shield":
        return w.aio.shield(value("shielded", 2))
    return w.aio.gather(value(1), value(2, 1))


@parity
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [None, 60, 60.5, decimal.Decimal(0), 0, -1, False, float("-inf")], ids=repr)
def test_what_it_takes(w, kind, timeout):
    async def main():
        loop = asyncio.get_running_loop()
        trace = [await caught(w.aio.wait_for(make(w, loop, kind), timeout))]
        trace.append((asyncio.current_task().cancelling(), len(asyncio.all_tasks())))
        return trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coroutine that was not begun
        return w.run(main)


@parity
@pytest.mark.parametrize("kind", KINDS)
def test_in_which_turn_it_goes_on(w, kind):
    with w.loop() as loop:
        at = Generations(loop, 12)

        async def main():
            awaited = make(w, loop, "future" if kind == "sleep" else kind)
            at("begins")
            loop.call_soon(at, "soon")
            at(await caught(w.aio.wait_for(awaited, 60)))
            await asyncio.sleep(0)
            at("after")

        loop.create_task(main())
        drain(loop, 12)
        return at.log


@parity
@pytest.mark.parametrize("timeout", ["5", [], 1j, object], ids=repr)
@pytest.mark.parametrize("kind", ["future", "coroutine"])
def test_odd_timeouts(w, timeout, kind):
    async def main():
        loop = asyncio.get_running_loop()
        awaited = make(w, loop, kind)
        told = await caught(w.aio.wait_for(awaited, timeout))
        if inspect.iscoroutine(awaited):
            awaited.close()
        return [told]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return w.run(main)


@parity
@pytest.mark.parametrize("timeout", [None, 60, 0])
@pytest.mark.parametrize("what", [None, 5, "text", len, [1]], ids=repr)
def test_what_cannot_be_awaited(w, what, timeout):
    async def main():
        return [await araised(w.aio.wait_for(what, timeout)), asyncio.current_task().cancelling()]

    return w.run(main)


@parity
def test_awaitables_that_misbehave(w):
    class Bad:
        def __init__(self, answer):
            self.answer = answer

        def __await__(self):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    async def main():
        coro = value(1)
        trace = [await caught(w.aio.wait_for(Bad(answer), 60)) for answer in (5, KeyError("k"), iter([]), coro)]
        coro.close()
        trace.append(await caught(w.aio.wait_for(coro, 60)))
        return [told[:2] if isinstance(told, tuple) else told for told in trace]

    return w.run(main)


@parity
def test_arguments(w):
    async def main():
        wait_for = w.aio.wait_for
        trace = [outcome(wait_for), outcome(wait_for, 1), outcome(wait_for, 1, 2, 3), outcome(wait_for, 1, other=2)]
        trace += [outcome(wait_for, 1, fut=2), str(inspect.signature(wait_for)), inspect.iscoroutinefunction(wait_for)]
        trace += [wait_for.__name__, wait_for.__module__, wait_for.__qualname__]
        trace.append(await wait_for(fut=value(3), timeout=60))
        trace.append(await wait_for(timeout=None, fut=value(4)))
        coro = wait_for(None, 1)
        trace += [asyncio.iscoroutine(coro), inspect.getcoroutinestate(coro), coro.__qualname__]
        coro.close()
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("kind", ["future", "coroutine", "task", "awaitable"])
@pytest.mark.parametrize("timeout", [0.001, 0, -1])
@pytest.mark.parametrize("how", ["plain", "raises", "swallows", "slowly", "returns none"])
def test_no_more_time(w, kind, timeout, how):
    async def main():
        loop = asyncio.get_running_loop()
        trace = []

        async def inner():
            try:
                await loop.create_future()
            except asyncio.CancelledError as exc:
                trace.append(error(exc))
                if how == "raises":
                    raise KeyError("while it was cancelled") from None
                if how == "swallows":
                    return "swallowed"
                if how == "returns none":
                    return None
                if how == "slowly":
                    await asyncio.sleep(0)
                    await asyncio.sleep(0.001)
                    trace.append("slowly")
                raise

        if kind == "future":
            awaited = loop.create_future()
        elif kind == "coroutine":
            awaited = inner()
        elif kind == "task":
            awaited = loop.create_task(inner())
            await asyncio.sleep(0)
        else:
            awaited = Awaitable(inner())
        told = await caught(w.aio.wait_for(awaited, timeout))
        trace.append(told)
        if asyncio.isfuture(awaited):
            trace.append((awaited.done(), awaited.cancelled()))
        trace.append(asyncio.current_task().cancelling())
        return trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return w.run(main)


@parity
@pytest.mark.parametrize("kind", ["future", "coroutine"])
@pytest.mark.parametrize("timeout", [0.001, 0])
def test_what_a_timeout_error_carries(w, kind, timeout):
    async def main():
        loop = asyncio.get_running_loop()

        async def inner():
            await loop.create_future()

        try:
            raise OSError("handled meanwhile")
        except OSError:
            return [await caught(w.aio.wait_for(loop.create_future() if kind == "future" else inner(), timeout))]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = w.run(main)
    return trace


@parity
@pytest.mark.parametrize("kind", ["future", "coroutine", "task"])
@pytest.mark.parametrize("how", ["plain", "raises", "swallows", "slowly"])
@pytest.mark.parametrize("timeout", [None, 60])
def test_cancelled(w, kind, how, timeout):
    # When a forgotten failure is reported depends on when frames and tasks are collected.
    with w.loop(errors=[]) as loop:
        at = Generations(loop, 12)

        async def inner():
            try:
                await loop.create_future()
            except asyncio.CancelledError as exc:
                at(error(exc))
                if how == "raises":
                    raise KeyError("while it was cancelled") from None
                if how == "swallows":
                    return "swallowed"
                if how == "slowly":
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                raise

        async def main():
            make = {"future": loop.create_future, "coroutine": inner, "task": lambda: loop.create_task(inner())}
            awaited = make[kind]()
            try:
                at(await w.aio.wait_for(awaited, timeout))
            except BaseException as exc:
                at(chain(exc))
                raise
            finally:
                at(asyncio.current_task().cancelling())

        task = loop.create_task(main())
        drain(loop, 3)
        at(("cancel", task.cancel("outside")))
        drain(loop, 8)
        at((task.done(), task.cancelled(), task.cancelling()))
        if task.done() and not task.cancelled():
            at(error(task.exception()))
        return [event for _, event in at.log]


@parity
@pytest.mark.parametrize("kind", ["future", "task"])
def test_cancelled_future(w, kind):
    with w.loop() as loop:
        trace = []

        async def inner():
            try:
                await loop.create_future()
            finally:
                trace.append("ended")

        async def main(awaited):
            try:
                trace.append(await w.aio.wait_for(awaited, 60))
            except BaseException as exc:
                trace.append(error(exc))
                raise

        for who in ("caller", "future"):
            awaited = loop.create_future() if kind == "future" else loop.create_task(inner())
            task = loop.create_task(main(awaited))
            drain(loop, 3)
            (task if who == "caller" else awaited).cancel()
            drain(loop, 8)
            trace.append((task.cancelled(), awaited.cancelled(), task.cancelling()))
        return trace


@parity
def test_whose_task_and_context(w):
    async def main():
        trace = []

        async def inner():
            trace.append(asyncio.current_task() is task)
            VARIABLE.set("set inside")
            await asyncio.sleep(0)
            trace.append(asyncio.current_task() is task)

        task = asyncio.current_task()
        await w.aio.wait_for(inner(), 60)
        trace.append(VARIABLE.get())
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("timeout", [None, 60])
def test_closed_and_thrown_at(w, timeout):
    with w.loop() as loop:
        trace = []

        async def inner():
            try:
                await loop.create_future()
            except BaseException as exc:
                trace.append(error(exc))
                raise
            finally:
                trace.append("finally")

        async def main():
            for awaited in (inner, loop.create_future):
                coro = w.aio.wait_for(awaited(), timeout)
                trace.append(asyncio.isfuture(coro.send(None)))
                trace.append(coro.cr_await is not None)
                coro.close()
                trace.append(inspect.getcoroutinestate(coro))
                coro = w.aio.wait_for(awaited(), timeout)
                coro.send(None)
                trace.append(outcome(coro.throw, KeyError("thrown")))
                coro = w.aio.wait_for(awaited(), timeout)
                coro.send(None)
                del coro
                gc.collect()
                trace.append("dropped")

        loop.run_until_complete(main())
        return trace


@parity
def test_two_wait_for_the_same_coroutine(w):
    with w.loop() as loop:
        trace = []

        async def main(coro):
            trace.append(await caught(w.aio.wait_for(coro, 60)))

        for coro in (value("value", 3), w.aio.sleep(0, "slept")):
            loop.create_task(main(coro))
            loop.create_task(main(coro))
            drain(loop, 8)
        return trace


@parity
def test_without_a_task(w):
    with w.loop() as loop:
        trace = []

        def drive(timeout):
            coro = w.aio.wait_for(loop.create_future(), timeout)
            try:
                trace.append(asyncio.isfuture(coro.send(None)))
            except Exception as exc:
                trace.append(error(exc))
            coro.close()

        loop.call_soon(drive, None)
        loop.call_soon(drive, 60)
        drain(loop, 4)
    try:
        w.aio.wait_for(None, 1).send(None)
    except Exception as exc:
        trace.append(error(exc))
    return trace


@parity
def test_a_future_of_another_loop(w):
    with w.loop() as other, w.loop() as loop:

        async def main(timeout):
            future = other.create_future()
            future.set_result("theirs")
            told = await caught(w.aio.wait_for(future, timeout))
            told = [told if not isinstance(told, tuple) else told[:2]]
            future = other.create_future()
            kind, text = await araised(w.aio.wait_for(future, timeout))
            return [told, kind, normal(text).partition("<")[0]]

        return [loop.run_until_complete(main(timeout)) for timeout in (None, 60)]


@parity
def test_never_awaited(w):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        w.aio.wait_for(value(1), 60)
        trace = []
        while told:  # a warning holds its coroutine, and that holds the next
            trace.append(normal(told.pop().message))
            gc.collect()
    return trace


@parity
def test_what_is_let_go(w):
    class Anything:
        pass

    async def main():
        loop = asyncio.get_running_loop()

        async def inner(anything):
            await asyncio.sleep(0)
            return anything

        anything = Anything()
        gone = weakref.ref(anything)
        assert await w.aio.wait_for(inner(anything), 60) is anything
        del anything
        gc.collect()
        trace = [gone()]
        future = loop.create_future()
        gone = weakref.ref(future)
        loop.call_soon(future.set_result, 1)
        await w.aio.wait_for(future, 60)
        await asyncio.sleep(0)
        del future
        gc.collect()
        return [*trace, gone()]

    return w.run(main)


@parity
def test_debug_mode(w):
    async def main():
        trace = [await w.aio.wait_for(value(5, 1), 60), await araised(w.aio.wait_for(asyncio.sleep(60), 0.001))]
        trace.append(await araised(w.aio.wait_for(asyncio.get_running_loop().create_future(), 0.001)))
        return trace

    return w.run(main, debug=True)


@parity
@since(3, 12)
def test_eager_tasks(w):
    with w.loop() as loop:
        loop.set_task_factory(w.aio.eager_task_factory)

        async def main():
            trace = []
            task = loop.create_task(w.aio.wait_for(value("at once"), 60))
            trace.append(task.done())
            task = loop.create_task(w.aio.wait_for(value("later", 1), 60))
            trace.append(task.done())
            return [*trace, await task]

        return loop.run_until_complete(main())


FOREIGN_BODIES = [test_awaitables_that_misbehave, test_what_is_let_go, test_without_a_task, test_debug_mode]


@pytest.mark.parametrize("test", FOREIGN_BODIES, ids=lambda test: test.__name__)
@pytest.mark.parametrize("where", MIXED)
def test_in_mixed_company(test, where):
    test(world=mixed_world(where))
