"""timeout, timeout_at and Timeout: states, turns, nesting, cancel counts, what an exception carries, odd uses."""

import asyncio
import contextvars
import decimal
import fractions
import gc
import inspect
import re
import sys
import warnings
import weakref

import pytest
from companies import MIXED, mixed_world
from worlds import Generations, araised, drain, error, normal, outcome, parity

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def look(timeout):
    """What a Timeout says of itself, without the clock's digits."""
    return (re.sub(r"when=[\d.]+", "when=N", repr(timeout)), timeout.expired(), timeout._state.value)


def chain(exc):
    """An exception with everything behind it."""
    if exc is None:
        return None
    inner = [chain(each) for each in getattr(exc, "exceptions", ())]
    return (*error(exc), exc.__suppress_context__, chain(exc.__cause__), chain(exc.__context__), inner)


async def caught(awaitable):
    try:
        return await awaitable
    except BaseException as exc:
        return chain(exc)


@parity
def test_states(w):
    async def main():
        loop = asyncio.get_running_loop()
        trace = []
        for when in (None, 1e9, 10**9, loop.time() - 1, 12):
            timeout = w.aio.timeout_at(when)
            trace.append((look(timeout), timeout.when() == when))
            try:
                async with timeout as entered:
                    trace.append((entered is timeout, look(timeout)))
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    trace.append("went on")
            except BaseException as exc:
                trace.append(error(exc))
            trace.append((look(timeout), timeout.when() == when))
        return trace

    return w.run(main)


@parity
def test_texts_of_deadlines(w):
    async def main():
        trace = []
        for when in (None, 10.0**9, 10**9 + 0.12345678, 2 * 10**9, fractions.Fraction(10**10, 3), float("inf")):
            async with w.aio.timeout_at(when) as timeout:
                trace.append((repr(timeout), repr(timeout.when())))
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize(
    "delay",
    [None, True, False, 0, -1, 0.0, -0.0, 5, "5", [], fractions.Fraction(1, 2), 1j, decimal.Decimal(1)],
    ids=repr,
)
@pytest.mark.parametrize("function", ["timeout", "timeout_at"])
def test_what_a_deadline_may_be(w, delay, function):
    async def enter(timeout):
        async with timeout:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return look(timeout)

    async def main():
        timeout = outcome(getattr(w.aio, function), delay)
        if isinstance(timeout, tuple):
            return timeout
        return [type(timeout.when()), await caught(enter(timeout)), outcome(look, timeout)]

    return w.run(main)


@parity
def test_arguments(w):
    async def main():
        loop = asyncio.get_running_loop()
        aio = w.aio
        trace = [outcome(call) for call in (aio.timeout, aio.timeout_at, aio.Timeout)]
        trace += [outcome(call, 1, 2) for call in (aio.timeout, aio.timeout_at, aio.Timeout)]
        trace += [outcome(call, other=1) for call in (aio.timeout, aio.timeout_at, aio.Timeout)]
        trace += [outcome(aio.timeout, 1, delay=1), outcome(aio.timeout_at, 1, when=1), outcome(aio.Timeout, 1, when=1)]
        assert aio.timeout(delay=None).when() is None
        assert aio.timeout_at(when=3).when() == 3
        assert aio.Timeout(when=3).when() == 3
        assert aio.timeout(delay=7).when() > loop.time()
        async with aio.Timeout(None) as timeout:
            timeout.reschedule(when=None)
            with pytest.raises(TypeError):
                timeout.reschedule()
        return trace

    return w.run(main)


@parity
def test_without_a_loop_or_a_task(w):
    trace = [outcome(w.aio.timeout, 1), outcome(w.aio.timeout, None), look(w.aio.timeout_at(1))]

    def drive(timeout):
        try:
            timeout.__aenter__().send(None)
        except StopIteration as stop:
            return stop.value is timeout
        except Exception as exc:
            return error(exc)

    trace.append(drive(w.aio.Timeout(None)))
    with w.loop() as loop:
        done = []
        loop.call_soon(lambda: done.append(drive(w.aio.timeout(1))))
        loop.call_soon(lambda: done.append(drive(w.aio.timeout(None))))
        drain(loop, 3)
        trace.append(done)
    return trace


@parity
def test_refusals(w):
    async def main():
        loop = asyncio.get_running_loop()
        trace = []
        timeout = w.aio.timeout(None)
        trace.append(outcome(timeout.reschedule, None))
        trace.append(await araised(timeout.__aexit__(None, None, None)))
        trace.append(look(timeout))
        async with timeout:
            trace.append(outcome(timeout.reschedule, "soon"))
            timeout.reschedule(None)
            trace.append(outcome(timeout.reschedule, []))
            timeout.reschedule(None)
        trace.append(outcome(timeout.reschedule, None))
        trace.append(await araised(timeout.__aexit__(None, None, None)))
        trace.append(outcome(timeout._on_timeout))
        with pytest.raises(TimeoutError):
            async with w.aio.timeout_at(loop.time()) as timeout:
                await asyncio.sleep(0)
                trace.append("here")
                await asyncio.sleep(5)
        trace.append(outcome(timeout.reschedule, 1))
        with pytest.raises(TypeError):
            with timeout:
                pass
        return trace

    return w.run(main)


@parity
def test_entered_twice(w):
    async def main():
        trace = []

        async def again(timeout):
            async with timeout:
                trace.append(look(timeout))
                await asyncio.sleep(0)

        timeout = w.aio.timeout(50)
        await again(timeout)
        trace.append(await caught(again(timeout)))
        async with w.aio.timeout(60) as timeout:
            trace.append(await caught(again(timeout)))
            trace.append(look(timeout))
            if sys.version_info < (3, 12):
                timeout._state = timeout._state.__class__.ENTERED
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("delay", [0, -1, 0.001])
def test_in_which_turn_it_ends(w, delay):
    with w.loop() as loop:
        at = Generations(loop, 8 if delay <= 0 else 4)

        async def main():
            at("begins")
            try:
                async with w.aio.timeout(delay) as timeout:
                    loop.call_soon(at, "soon")
                    loop.call_soon(lambda: at(look(timeout)))
                    at("body")
                    for _ in range(3 if delay <= 0 else 0):
                        await asyncio.sleep(0)
                        at("slept")
                    await loop.create_future()
            except TimeoutError as exc:
                at(chain(exc))
            at(look(timeout))

        task = loop.create_task(main())
        task.add_done_callback(lambda _: at("done"))
        loop.run_until_complete(task)
        return at.log if delay <= 0 else [event for _, event in at.log]


@parity
def test_a_body_that_ends_in_time(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def main():
            async with w.aio.timeout(60):
                at("body")
            at("out")
            async with w.aio.timeout(60):
                await asyncio.sleep(0)
                at("slept")
            at("out")
            async with w.aio.timeout_at(loop.time() - 1):
                at("not even begun to wait")
            at("late, but nothing was cancelled")
            await asyncio.sleep(0)
            at("end")

        loop.create_task(main())
        drain(loop)
        return at.log


@parity
def test_timers_of_all_kinds_in_order(w):
    async def main():
        loop = asyncio.get_running_loop()
        base = loop.time() + 0.01
        seen = []

        async def one(name, when, kind):
            if kind == "timeout":
                with pytest.raises(TimeoutError):
                    async with w.aio.timeout_at(when):
                        await loop.create_future()
            else:
                waiter = loop.create_future()
                loop.call_at(when, waiter.set_result, None)
                await waiter
            seen.append(name)

        places = [3, 0, 7, 5, 1, 6, 2, 4]
        kinds = ["timeout", "timer"]
        tasks = [
            loop.create_task(one(place, base + place * 1e-4, kinds[place // 2 % 2] if place < 6 else "timeout"))
            for place in places
        ]
        await asyncio.wait(tasks)
        return seen

    return w.run(main)


@parity
def test_reschedule(w):
    async def main():
        loop = asyncio.get_running_loop()
        trace = []

        async def body(*whens):
            async with w.aio.timeout(100) as timeout:
                for when in whens:
                    timeout.reschedule(when)
                    trace.append((look(timeout), timeout.when() == when))
                for turn in range(6):
                    await asyncio.sleep(0)
                    trace.append(turn)
            return "in time"

        now = loop.time()
        for whens in (
            [None],
            [now - 1],
            [now - 1, None],
            [now - 1, now + 100],
            [now + 100, now - 1],
            [now + 100, now + 50, now + 200, None, 10**9],
            [0],
            [-1.5, -1],
        ):
            trace.append(await caught(body(*whens)))
        return trace

    return w.run(main)


@parity
def test_rescheduled_when_due_and_by_another_task(w):
    async def main():
        loop = asyncio.get_running_loop()
        trace = []
        async with w.aio.timeout(0) as timeout:
            # It is in the ready queue already, and comes out of it.
            loop.call_soon(trace.append, "soon")
            timeout.reschedule(loop.time() + 60)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            trace.append(look(timeout))
        with pytest.raises(TimeoutError):
            async with w.aio.timeout(60) as timeout:
                loop.call_soon(timeout.reschedule, -1)
                await loop.create_future()
        trace.append(look(timeout))
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("outer", [None, 0, 60])
@pytest.mark.parametrize("inner", [None, 0, 60])
@pytest.mark.parametrize("how", ["wait", "shielded", "raises", "swallows", "once more"])
def test_nested(w, outer, inner, how):
    async def body(trace):
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        loop.call_later(0.02, lambda: waiter.done() or waiter.set_result("answer"))
        try:
            return await (asyncio.shield(waiter) if how == "shielded" else waiter)
        except asyncio.CancelledError:
            trace.append(asyncio.current_task().cancelling())
            if how == "raises":
                raise KeyError("instead") from None
            if how == "swallows":
                return "swallowed"
            if how == "once more":
                await asyncio.sleep(0)
                trace.append("not cancelled again")
            raise

    async def main():
        trace = []
        task = asyncio.current_task()

        async def run():
            async with w.aio.timeout(outer) as a:
                try:
                    async with w.aio.timeout(inner) as b:
                        trace.append(await body(trace))
                finally:
                    trace.append((look(a), look(b), task.cancelling()))
                await asyncio.sleep(0)
                trace.append("went on")

        trace.append(await caught(run()))
        trace.append(task.cancelling())
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("when", ["before", "same turn, first", "same turn, last", "in except", "cancelled itself"])
def test_cancelled_from_outside_as_well(w, when):
    with w.loop() as loop:
        trace = []

        async def main():
            task = asyncio.current_task()
            try:
                if when == "before":
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await asyncio.sleep(0)
                if when == "same turn, first":
                    loop.call_soon(task.cancel)
                try:
                    async with w.aio.timeout(0) as timeout:
                        if when == "same turn, last":
                            loop.call_soon(task.cancel, "outside")
                        if when == "cancelled itself":
                            task.cancel("itself")
                        try:
                            await loop.create_future()
                        except asyncio.CancelledError:
                            trace.append(task.cancelling())
                            if when == "in except":
                                task.cancel("once more")
                            raise
                finally:
                    trace.append((look(timeout), task.cancelling()))
                await asyncio.sleep(0)
            except BaseException as exc:
                trace.append(chain(exc))
                raise

        task = loop.create_task(main())
        drain(loop, 8)
        trace.append((task.done(), task.cancelled(), task.cancelling()))
        if task.done() and not task.cancelled():
            trace.append(error(task.exception()))
        return trace


class Cancelled(asyncio.CancelledError):
    pass


@parity
@pytest.mark.parametrize("what", ["subclass", "other", "from", "group", "deep", "context", "bare", "nothing", "same"])
def test_what_leaves_the_body(w, what):
    async def body():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as cancelled:
            if what == "subclass":
                raise Cancelled("of my own") from cancelled
            if what == "other":
                raise KeyError("other")
            if what == "from":
                raise KeyError("other") from cancelled
            if what == "bare":
                raise KeyError("other") from None
            if what == "same":
                raise cancelled
            if what == "deep":
                try:
                    raise ValueError("first")
                except ValueError:
                    raise KeyError("second")
            if what == "group":
                inner = KeyError("inner")
                inner.__context__ = cancelled
                raise BaseExceptionGroup("all", [inner, ValueError("alone")])
            if what == "context":
                late = LookupError("late")
                late.__context__ = ArithmeticError("before")
                raise late

    async def run():
        try:
            raise OSError("handled meanwhile")
        except OSError:
            async with w.aio.timeout(0):
                await body()
        return "fine"

    return [w.run(lambda: caught(run()))]


@parity
def test_a_task_group_inside(w):
    async def child(seconds):
        await asyncio.sleep(seconds)

    async def main():
        trace = []

        async def run(inside):
            async with w.aio.timeout(0) as timeout:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child(60))
                    if inside:
                        await child(60)
            return look(timeout)

        for inside in (True, False):
            trace.append(await araised(run(inside)))
            trace.append(asyncio.current_task().cancelling())
        return trace

    return w.run(main)


@parity
def test_contexts(w):
    class Watched(w.aio.Task):
        def cancel(self, msg=None):
            seen.append((VARIABLE.get(), msg))
            VARIABLE.set("set by cancel")
            return super().cancel(msg)

    seen = []
    with w.loop() as loop:
        loop.set_task_factory(lambda loop, coro, **kwargs: Watched(coro, loop=loop, **kwargs))

        async def main():
            VARIABLE.set("at the entry")
            for delay in (0, 0.001):
                with pytest.raises(TimeoutError):
                    async with w.aio.timeout(delay):
                        await loop.create_future()
                seen.append(VARIABLE.get())

        loop.run_until_complete(main())
    return seen


@parity
def test_the_context_of_who_reschedules(w):
    class Watched(w.aio.Task):
        def cancel(self, msg=None):
            seen.append(VARIABLE.get())
            return super().cancel(msg)

    def reschedule(timeout):
        VARIABLE.set("of a callback")
        timeout.reschedule(0)

    seen = []
    with w.loop() as loop:
        loop.set_task_factory(lambda loop, coro, **kwargs: Watched(coro, loop=loop, **kwargs))

        async def main():
            VARIABLE.set("of the task")
            with pytest.raises(TimeoutError):
                async with w.aio.timeout(60) as timeout:
                    loop.call_soon(reschedule, timeout)
                    await loop.create_future()

        loop.run_until_complete(main())
    return seen


@parity
def test_a_cancel_that_fails(w):
    class Failing(w.aio.Task):
        def cancel(self, msg=None):
            if asyncio._get_running_loop() is not None and not allowed:
                raise KeyError("no")
            return super().cancel(msg)

    allowed, errors = [], []
    with w.loop(errors=errors) as loop:

        async def main():
            async with w.aio.timeout(0) as timeout:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                return look(timeout)

        told = loop.run_until_complete(Failing(main(), loop=loop))
        allowed.append(True)
        return [told, [(re.sub(r"<.*>", "<…>", message), exc) for message, exc, _ in errors]]


@parity
def test_subclasses(w):
    calls = []

    class Sub(w.aio.Timeout):
        def reschedule(self, when):
            calls.append("reschedule")
            super().reschedule(when)

        def _on_timeout(self):
            calls.append("_on_timeout")
            super()._on_timeout()

        async def __aenter__(self):
            calls.append("__aenter__")
            return await super().__aenter__()

        async def __aexit__(self, *exc_info):
            calls.append("__aexit__")
            return await super().__aexit__(*exc_info)

    class Plain(w.aio.Timeout):
        pass

    async def run(cls, when):
        timeout = cls(when)
        timeout.mark = "has a dict"
        async with timeout:
            calls.append(look(timeout))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return look(timeout)

    async def main():
        trace = []
        for cls in (Sub, Plain):
            for when in (None, 1e9, 0.0):
                trace.append(await caught(run(cls, when)))
        assert isinstance(Sub(None), w.aio.Timeout)
        return [trace, calls]

    return w.run(main)


@parity
def test_the_class_and_its_attributes(w):
    async def main():
        cls = w.aio.Timeout
        timeout = w.aio.timeout(60)
        trace = [cls.__name__, cls.__qualname__, cls.__module__, isinstance(timeout, asyncio.Timeout)]
        trace += [timeout.__class__ is asyncio.Timeout, type(timeout) is cls]
        trace += [inspect.iscoroutinefunction(cls.__aenter__), inspect.iscoroutinefunction(cls.__aexit__)]
        trace += [timeout._timeout_handler, timeout._task, outcome(lambda: timeout._nothing)[0]]
        trace.append(isinstance(asyncio.timeouts.Timeout(1), cls))
        weakref.ref(timeout)
        timeout.own = 1
        async with timeout:
            handler = timeout._timeout_handler
            trace += [isinstance(handler, asyncio.TimerHandle), handler.when() == timeout.when() == timeout._when]
            trace += [handler.cancelled(), handler is timeout._timeout_handler, timeout._task is asyncio.current_task()]
            trace.append(normal(repr(handler._callback.__name__)))
            timeout.reschedule(None)
            trace += [handler.cancelled(), timeout._timeout_handler]
            timeout.reschedule(1e9)
            handler = timeout._timeout_handler
        trace += [handler.cancelled(), timeout._timeout_handler]
        with pytest.raises(TimeoutError):
            async with w.aio.timeout(0.001) as timeout:
                assert timeout._timeout_handler is not None  # and goes off all the same
                await asyncio.sleep(60)
        return trace

    return w.run(main)


@parity
def test_driven_by_hand(w):
    async def main():
        timeout = w.aio.timeout(60)
        trace = []
        enter = timeout.__aenter__()
        trace.append(asyncio.iscoroutine(enter))
        with pytest.raises(StopIteration) as stop:
            enter.send(None)
        trace.append(stop.value.value is timeout)
        trace.append(outcome(enter.send, None))
        leave = timeout.__aexit__(KeyError, KeyError("k"), None)
        with pytest.raises(StopIteration) as stop:
            leave.send(None)
        trace += [stop.value.value, look(timeout)]
        other = w.aio.timeout(60)
        enter = other.__aenter__()
        trace.append(outcome(enter.throw, KeyError("thrown")))
        trace.append(look(other))
        other.__aenter__().close()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            other.__aexit__(None, None, None)
            gc.collect()
        trace.append([normal(each.message) for each in told])
        return trace

    return w.run(main)


@parity
def test_exit_by_hand_after_it_expired(w):
    async def main():
        trace = []
        for kind, exc in [
            (None, None),
            (asyncio.CancelledError, None),
            (asyncio.CancelledError, asyncio.CancelledError("c")),
            (KeyError, KeyError("k")),
            (KeyError, None),
            (Cancelled, Cancelled("c")),
        ]:
            timeout = w.aio.timeout(0)
            await timeout.__aenter__()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(60)
            trace.append(look(timeout))
            trace.append(await caught(timeout.__aexit__(kind, exc, None)))
            trace.append((look(timeout), asyncio.current_task().cancelling()))
        return trace

    return w.run(main)


@parity
def test_debug_mode(w):
    async def main():
        trace = []
        async with w.aio.timeout(60) as timeout:
            handler = timeout._timeout_handler
            trace.append(handler._source_traceback is not None)
        trace.append(await araised(one(w.aio.timeout(0))))
        trace.append(await araised(one(w.aio.timeout(0.001))))
        return trace

    async def one(timeout):
        async with timeout:
            await asyncio.sleep(60)

    return w.run(main, debug=True)


@parity
def test_what_is_let_go(w):
    class Anything:
        pass

    async def body(keep):
        anything = Anything()
        keep.append(weakref.ref(anything))
        async with w.aio.timeout(60) as timeout:
            keep.append(weakref.ref(timeout))
            anything.timeout = timeout
            timeout.anything = anything
            await asyncio.get_running_loop().create_future()

    gone = []
    with w.loop() as loop:
        keep = []
        task = loop.create_task(body(keep))
        drain(loop, 3)
        task.cancel()
        drain(loop, 3)
        del task
        gc.collect()
        gone.append([each() for each in keep])
        # A closed loop lets go of its timers.
        keep = []
        task = loop.create_task(body(keep))
        drain(loop, 3)
        task._log_destroy_pending = False
        loop.close()
    del task, loop
    gc.collect()
    gone.append([each() for each in keep])
    return gone


@parity
def test_a_new_one_has_nothing_of_a_dead_one(w):
    async def main():
        trace = []
        for turn in range(5):
            timeout = w.aio.timeout(60 if turn % 2 else None)
            trace.append((look(timeout), timeout._task, hasattr(timeout, "extra")))
            timeout.extra = turn
            async with timeout:
                await asyncio.sleep(0)
            del timeout
        return trace

    return w.run(main)


def test_many_at_once_end_in_any_order(ours):
    async def one(loop, number, done):
        async with ours.aio.timeout(60 + number % 7) as timeout:
            for _ in range(number % 5):
                await asyncio.sleep(0)
                timeout.reschedule(loop.time() + 60 + number % 3)
        done.append(number)

    async def main():
        loop = asyncio.get_running_loop()
        done = []
        await asyncio.gather(*(one(loop, number, done) for number in range(500)))
        return sorted(done)

    assert ours.run(main) == list(range(500))


def test_a_timer_that_a_nested_driver_takes_over(ours):
    """What runs loops by hand takes handles out of `_ready`, and may put them back."""

    async def main():
        loop = asyncio.get_running_loop()

        def take():
            handles = [loop._ready.popleft() for _ in range(len(loop._ready))]
            for handle in handles:
                loop._ready.append(handle)
            return handles

        async with ours.aio.timeout(0) as timeout:
            handles = take()
            assert timeout._timeout_handler in handles
            timeout.reschedule(None)
            assert timeout._timeout_handler is None
            await asyncio.sleep(0)
        async with ours.aio.timeout(0) as timeout:
            timeout.reschedule(None)
            assert [handle.cancelled() for handle in take()] == [True]
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with ours.aio.timeout(0) as timeout:
                take()
                await loop.create_future()
        return timeout.expired()

    assert ours.run(main)


FOREIGN_BODIES = [
    test_states,
    test_reschedule,
    test_contexts,
    test_subclasses,
    test_driven_by_hand,
    test_a_task_group_inside,
    test_exit_by_hand_after_it_expired,
    test_refusals,
]


@pytest.mark.parametrize("test", FOREIGN_BODIES, ids=lambda test: test.__name__)
@pytest.mark.parametrize("where", MIXED)
def test_in_mixed_company(test, where):
    test(world=mixed_world(where))
