"""Operations: the native coroutines of sleep() and of the loop's sock_ methods, compared with the stdlib's own.

To everybody who looks, drives, throws at or forgets one, it must be a coroutine like any other.
"""

import asyncio
import collections.abc
import contextlib
import copy
import decimal
import fractions
import functools
import gc
import inspect
import math
import pickle
import sys
import types
import typing
import warnings
import weakref

import pytest
from worlds import Generations, araised, drain, error, normal, outcome, parity, raised, since

# Stock asyncio's own, before anybody could rebind them.
STOCK_SLEEP = asyncio.tasks.sleep
SOCK_METHODS = (
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto", "sock_accept",
)  # fmt: skip


def close(coro):
    coro.close()
    return coro


def state(coro):
    return (
        inspect.getcoroutinestate(coro), coro.cr_running, coro.cr_suspended, coro.cr_frame is None,
        coro.cr_origin, coro.__name__, coro.__qualname__, normal(repr(coro)),
    )  # fmt: skip


@contextlib.contextmanager
def running(loop):
    """The loop is the running one, without a run: for coroutines that are driven by hand."""
    asyncio._set_running_loop(loop)
    try:
        yield loop
    finally:
        asyncio._set_running_loop(None)


def collect():
    """All of it; from 3.15 on, one pass is not always enough."""
    for _ in range(3):
        gc.collect()


class Value:
    """Something a coroutine may return, and that can be part of a cycle."""


# --- the function ---------------------------------------------------------------------------------------------------


@parity
def test_sleep_is_a_function_to_those_who_look(w):
    sleep = w.aio.sleep
    return [
        sleep.__name__, sleep.__qualname__, sleep.__module__, sleep.__doc__, sleep.__defaults__, sleep.__kwdefaults__,
        sleep.__annotations__, sleep.__dict__, sleep.__closure__, sleep.__code__ is STOCK_SLEEP.__code__,
        sleep.__globals__ is STOCK_SLEEP.__globals__, hasattr(sleep, "__wrapped__"), hasattr(sleep, "__self__"),
        normal(repr(sleep)), sleep.__class__, isinstance(sleep, types.FunctionType), callable(sleep),
        inspect.isfunction(sleep), inspect.isroutine(sleep), inspect.ismethod(sleep), inspect.isbuiltin(sleep),
        inspect.iscoroutinefunction(sleep), inspect.iscoroutinefunction(functools.partial(sleep, 1)),
        inspect.isgeneratorfunction(sleep), inspect.isawaitable(sleep), str(inspect.signature(sleep)),
        inspect.getsource(sleep), inspect.getdoc(sleep), typing.get_type_hints(sleep), sorted(dir(sleep)),
        raised(getattr, sleep, "nonsense"), isinstance(sleep, collections.abc.Hashable), sleep == sleep,
    ]  # fmt: skip


@parity
def test_sleep_is_a_coroutine_function_to_asyncio(w):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return [w.aio.iscoroutinefunction(w.aio.sleep)]


@parity
def test_calls_that_do_not_fit_say_what_python_functions_say(w):
    sleep = w.aio.sleep
    return [
        raised(sleep), raised(sleep, 1, 2, 3), raised(sleep, second=1), raised(sleep, 1, delay=2),
        raised(sleep, result=2), raised(sleep, 1, 2, result=3), raised(sleep, 1, lay=3),
    ]  # fmt: skip


@parity
def test_calls_that_fit(w):
    sleep = w.aio.sleep
    with w.loop() as loop:
        coros = [
            sleep(0), sleep(0, 1), sleep(0, result=2), sleep(delay=0), sleep(delay=0, result=3),
            sleep(result=4, delay=0), sleep(*(0, 5)), functools.partial(sleep, 0)(6), sleep.__call__(0, 7),
            sleep.__get__(0)(8), sleep.__get__(None, int)(0, 9),
        ]  # fmt: skip
        return [loop.run_until_complete(coro) for coro in coros]


@parity
def test_in_a_class_it_becomes_a_method(w):
    class Holder:
        sleep = w.aio.sleep
        kept = staticmethod(w.aio.sleep)

        def __le__(self, other):
            return True

    holder = Holder()
    holder.own = w.aio.sleep
    with w.loop() as loop:
        run = loop.run_until_complete
        return [
            inspect.ismethod(holder.sleep), holder.sleep.__self__ is holder, holder.sleep.__func__ == w.aio.sleep,
            run(holder.sleep("result")), run(holder.own(0, 1)), run(holder.kept(0, 2)), run(Holder.sleep(0, 3)),
            raised(holder.sleep, 1, 2), inspect.iscoroutinefunction(holder.sleep), str(inspect.signature(holder.sleep)),
        ]  # fmt: skip


@parity
def test_functions_take_attributes(w):
    w.aio.sleep.mark = 1
    seen = [w.aio.sleep.mark, "mark" in vars(w.aio.sleep)]
    del w.aio.sleep.mark
    return [*seen, hasattr(w.aio.sleep, "mark"), raised(delattr, w.aio.sleep, "mark")]


@parity
def test_copies_and_pickles_of_the_function(w):
    there = pickle.loads(pickle.dumps(w.aio.sleep))
    with w.loop() as loop:
        return [
            copy.copy(w.aio.sleep).__qualname__, copy.deepcopy(w.aio.sleep).__qualname__, there.__qualname__,
            loop.run_until_complete(there(0, 5)), weakref.ref(w.aio.sleep)() is w.aio.sleep,
        ]  # fmt: skip


def test_it_can_be_patched(world):
    from unittest import mock

    with mock.patch.object(world.aio, "sleep") as patched:
        assert isinstance(patched, mock.AsyncMock)
    specified = mock.create_autospec(world.aio.sleep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert asyncio.iscoroutinefunction(specified)


# --- the object -----------------------------------------------------------------------------------------------------


@parity
def test_it_is_a_coroutine_to_those_who_look(w):
    coro = w.aio.sleep(0)
    seen = [
        coro.__class__, type(coro).__name__, isinstance(coro, types.CoroutineType), inspect.iscoroutine(coro),
        asyncio.iscoroutine(coro), inspect.isawaitable(coro), inspect.isgenerator(coro), asyncio.isfuture(coro),
        *(isinstance(coro, getattr(collections.abc, name)) for name in (
            "Coroutine", "Awaitable", "Iterator", "Iterable", "Generator", "AsyncIterator", "Sized", "Callable",
            "Hashable", "Container",
        )),
        hasattr(coro, "__iter__"), hasattr(coro, "__next__"), hasattr(coro, "__aiter__"), bool(coro),
        coro.cr_code is STOCK_SLEEP.__code__, coro.cr_await, coro.cr_frame.f_code is STOCK_SLEEP.__code__,
        coro.cr_frame.f_lineno == STOCK_SLEEP.__code__.co_firstlineno, dict(inspect.getcoroutinelocals(coro)),
        coro.cr_frame is coro.cr_frame, weakref.ref(coro)() is coro, coro == coro, hash(coro) == hash(coro),
    ]  # fmt: skip
    return [*seen, state(coro), state(close(coro))]


@parity
def test_what_a_coroutine_is_not_good_for(w):
    async def everywhere(coro):
        async for _ in coro:
            pass

    def delegate(coro):
        yield from coro

    coro = w.aio.sleep(0)
    looping = everywhere(coro)
    return [
        raised(lambda: coro()), raised(lambda: coro + 1), raised(len, coro), raised(lambda: coro[0]),
        raised(iter, coro),
        raised(list, coro), raised(lambda: coro < 1), raised(looping.send, None),
        raised(pickle.dumps, coro), raised(copy.copy, coro), raised(type(coro)), raised(float, coro),
        raised(lambda: setattr(coro, "attribute", 1)), raised(lambda: setattr(coro, "cr_frame", 1)),
        raised(next, delegate(coro))[0], raised(lambda: coro.nonsense), coro.close(),
    ]  # fmt: skip


@parity
def test_names_can_be_set(w):
    coro = w.aio.sleep(0)
    coro.__name__, coro.__qualname__ = "other", "some.other"
    seen = [coro.__name__, coro.__qualname__, normal(repr(coro))]
    for name in ("__name__", "__qualname__"):
        seen += [raised(setattr, coro, name, 5), raised(delattr, coro, name)]
    coro.close()
    return [*seen, state(coro)]


@parity
def test_states(w):
    seen = []
    with w.loop() as loop, running(loop):
        for delay in (0, 1000):
            coro = w.aio.sleep(delay)
            seen.append(state(coro))
            coro.send(None)
            seen += [state(coro), inspect.getcoroutinelocals(coro)["delay"], coro.cr_await is None and delay != 0]
            coro.close()
            seen.append(state(coro))
    return seen


@parity
def test_outer_coroutines_show_what_they_await(w):
    async def outer():
        await w.aio.sleep(0)

    coro = outer()
    coro.send(None)
    inner = coro.cr_await
    seen = [normal(repr(inner)), inspect.getcoroutinestate(inner), coro.close(), inspect.getcoroutinestate(inner)]
    return [*seen, coro.cr_await]


@parity
def test_a_task_shows_where_it_sleeps(w):
    async def main():
        task = asyncio.ensure_future(w.aio.sleep(100))
        await w.aio.sleep(0)
        stack = [frame.f_code.co_name for frame in task.get_stack()]
        text = normal(repr(task.get_coro()))
        task.cancel()
        return [stack, text, await araised(task)]

    return w.run(main)


# --- driven by hand -------------------------------------------------------------------------------------------------


@parity
def test_steps_of_a_sleep_for_one_turn(w):
    seen = []
    for result in (None, 5, (), (1, 2), StopIteration(3), ValueError("kept")):
        coro = w.aio.sleep(0, result)
        seen.append(coro.send(None))
        try:
            coro.send(None)
        except StopIteration as stop:
            seen += [type(stop), normal(stop.args), stop.value is result, stop.__context__]
        seen += [raised(coro.send, None), raised(coro.throw, ValueError), coro.close()]
    return seen


@parity
def test_values_sent(w):
    coro = w.aio.sleep(0, "result")
    seen = [raised(coro.send, 1), inspect.getcoroutinestate(coro), coro.send(None), raised(coro.send, "ignored")]
    with w.loop() as loop, running(loop):
        coro = w.aio.sleep(1000)
        future = coro.send(None)
        future.set_result("result")
        future._asyncio_future_blocking = False
        # The stdlib's sleep hands the value on to the future's iterator, which here is our future itself.
        return [*seen, raised(coro.send, None if w.name == "loop" else "ignored")]


@parity
def test_what_a_wait_yields_is_a_future_of_the_loop(w):
    with w.loop() as loop, running(loop):
        coro = w.aio.sleep(1000, "result")
        future = coro.send(None)
        seen = [
            asyncio.isfuture(future), isinstance(future, w.aio.Future), future.get_loop() is loop, future.done(),
            future._asyncio_future_blocking, raised(coro.send, None), inspect.getcoroutinestate(coro),
        ]  # fmt: skip
        coro = w.aio.sleep(1000, "result")
        future = coro.send(None)
        future._asyncio_future_blocking = False
        again = coro.send(None)
        return [*seen, again is future, again._asyncio_future_blocking, coro.close(), future.done()]


@parity
def test_futures_of_a_wait_completed_by_somebody_else(w):
    seen = []
    with w.loop() as loop, running(loop):
        for complete in (
            lambda future: future.set_result("other"),
            lambda future: future.set_exception(ValueError("failed")),
            lambda future: future.cancel("message"),
        ):
            coro = w.aio.sleep(1000, "result")
            future = coro.send(None)
            complete(future)
            seen += [raised(coro.send, None), inspect.getcoroutinestate(coro), raised(coro.send, None)]
    return seen


THROWN = [
    ValueError, ValueError("text"), KeyboardInterrupt, GeneratorExit, GeneratorExit(), StopIteration, StopIteration(5),
    asyncio.CancelledError("message"), SystemExit(3),
]  # fmt: skip


@pytest.mark.parametrize("thrown", THROWN, ids=repr)
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("delay", [0, 1000])
def test_throw(world, thrown, started, delay):
    @parity
    def body(w):
        again = copy.copy(thrown)  # one that was raised keeps its traceback, and so the loop
        with w.loop() as loop, running(loop):
            coro = w.aio.sleep(delay)
            if started:
                coro.send(None)
            seen = [raised(coro.throw, again), inspect.getcoroutinestate(coro)]
            return [*seen, raised(coro.throw, again), raised(coro.send, None), coro.close()]

    if world.name == "loop" and started and delay and "StopIteration" in repr(thrown):
        pytest.skip("the stdlib's sleep, whose future's iterator here is the future itself")
    body(world)


@parity
def test_throw_takes_what_raise_took(w):
    try:
        raise KeyError
    except KeyError as exc:
        traceback = exc.__traceback__
    seen = []
    for arguments in (
        (), (ValueError, "a"), (ValueError, ("a", "b")), (ValueError, None), (ValueError, ValueError("b")),
        (ValueError, OSError("b")), (ValueError("c"), None), (ValueError("c"), "d"), (ValueError, None, traceback),
        (ValueError("e"), None, traceback), (ValueError, None, 5), ("text",), (int,), (5, 6), (1, 2, 3, 4),
    ):  # fmt: skip
        coro = w.aio.sleep(0)
        coro.send(None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            seen += [raised(coro.throw, *arguments), [str(warning.message) for warning in caught]]
        seen.append(inspect.getcoroutinestate(coro))
        coro.close()
    return seen


@parity
def test_exceptions_keep_their_identity_and_context(w):
    async def outer():
        try:
            await w.aio.sleep(0)
        except ValueError as exc:
            return exc

    coro, thrown = outer(), ValueError("text")
    coro.send(None)
    with pytest.raises(StopIteration) as stop:
        coro.throw(thrown)
    return [stop.value.value is thrown, thrown.__context__, thrown.__cause__, thrown.__traceback__ is not None]


@parity
def test_close(w):
    seen = []
    with w.loop() as loop, running(loop):
        for delay in (0, 1000):
            for steps in (0, 1):
                coro = w.aio.sleep(delay)
                yielded = [coro.send(None) for _ in range(steps)]
                seen += [coro.close(), coro.close(), inspect.getcoroutinestate(coro), raised(coro.send, None)]
                seen += [future.done() for future in yielded if future is not None]
    return seen


@parity
def test_closing_a_wait_leaves_its_future_alone(w):
    """Also when the time has come: nobody completes it."""
    seen = []
    with w.loop() as loop:

        async def main():
            for end in (lambda coro: coro.close(), lambda coro: raised(coro.throw, ValueError)):
                coro = w.aio.sleep(0.01)
                future = coro.send(None)
                future.add_done_callback(seen.append)
                end(coro)
                await asyncio.sleep(0.03)
                seen.append(future.done())

        loop.run_until_complete(main())
    return seen


@parity
def test_it_is_not_reentrant(w):
    seen = []

    class Delay:
        def __le__(self, other):
            seen.extend([
                raised(coro.send, None), raised(coro.throw, ValueError), raised(coro.close),
                inspect.getcoroutinestate(coro), coro.cr_running,
            ])  # fmt: skip
            return True

    coro = w.aio.sleep(Delay())
    seen += [coro.send(None), inspect.getcoroutinestate(coro), coro.close()]
    return seen


@parity
def test_await_from_python_code(w):
    """`__await__()` is how a class delegates its own."""

    class Plain:
        def __await__(self):
            return w.aio.sleep(0, 1).__await__()

    class Delegating:
        def __await__(self):
            value = yield from w.aio.sleep(0, 2).__await__()
            return value + 1

    async def main():
        return [await Plain(), await Delegating()]

    coro = w.aio.sleep(0, 5)
    wrapper = coro.__await__()
    seen = [
        iter(wrapper) is wrapper, type(wrapper).__name__, next(wrapper), raised(wrapper.send, None),
        raised(next, wrapper), wrapper.close(), raised(wrapper.throw, ValueError("text")),
    ]  # fmt: skip
    coro = w.aio.sleep(0)
    wrapper = coro.__await__()
    seen += [wrapper.send(None), raised(wrapper.throw, ValueError("text")), inspect.getcoroutinestate(coro)]
    return [*seen, w.run(main)]


@parity
def test_generator_based_coroutines_delegate_to_it(w):
    @types.coroutine
    def old(result):
        value = yield from w.aio.sleep(0, result)
        return [value, (yield from w.aio.sleep(0.001, result))]

    async def main():
        return [await old(None), await old(5)]

    return w.run(main)


@parity
def test_only_one_may_await_it(w):
    async def main():
        coro = w.aio.sleep(0.01, "result")

        async def other():
            return await coro

        tasks = [asyncio.create_task(other()) for _ in range(3)]
        seen = [outcome(lambda r=result: r) for result in await asyncio.gather(*tasks, return_exceptions=True)]
        seen = [error(result) if isinstance(result, Exception) else result for result in seen]
        return [*seen, await araised(other())]

    return w.run(main)


# --- never awaited --------------------------------------------------------------------------------------------------


@parity
def test_forgotten_coroutines_say_so(w):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        w.aio.sleep(1)
        coro = w.aio.sleep(1)
        coro.__qualname__ = "renamed"
        del coro
        kept = w.aio.sleep(1)
        kept.close()
        thrown = w.aio.sleep(1)
        raised(thrown.throw, ValueError)
        del kept, thrown
    return [(warning.category, str(warning.message), warning.source is not None) for warning in caught]


@parity
def test_forgotten_in_a_cycle(w):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = Value()
        value.coro = w.aio.sleep(1, value)
        gone = weakref.ref(value)
        del value
        collect()
    return [gone() is None, [str(warning.message) for warning in caught]]


@parity
def test_the_warning_may_be_an_error(w):
    seen = []

    def note(args):
        seen.append((error(args.exc_value), normal(args.err_msg), normal(repr(args.object))))

    hook, sys.unraisablehook = sys.unraisablehook, note
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            w.aio.sleep(1)
    finally:
        sys.unraisablehook = hook
    return seen


@parity
def test_the_warning_shows_where_it_was_made(w):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sys.set_coroutine_origin_tracking_depth(2)
        try:
            coro = w.aio.sleep(1)
            origin = [(line, name) for _, line, name in coro.cr_origin[:1]]
            started = w.aio.sleep(0)
        finally:
            sys.set_coroutine_origin_tracking_depth(0)
        started.send(None)
        started.close()
        seen = [started.cr_origin is not None, w.aio.sleep(1).cr_origin]
        del coro
    return [len(origin), seen, [normal(warning.message).splitlines()[:2] for warning in caught]]


@parity
def test_debug_mode_notes_where_coroutines_are_made(w):
    async def main():
        coro = w.aio.sleep(0)
        seen = coro.cr_origin[0][2]
        await coro
        return [seen, coro.cr_origin[0][2]]

    return w.run(main, debug=True)


@parity
def test_dropped_while_it_waits(w):
    """The timer goes with it, and nothing is said."""
    with warnings.catch_warnings(record=True) as caught, w.loop() as loop:
        warnings.simplefilter("always")
        with running(loop):
            coro = w.aio.sleep(1000)
            future = coro.send(None)
            gone = weakref.ref(coro)
            del coro
            collect()
            return [gone() is None, future.done(), [str(warning.message) for warning in caught]]


# --- sleep itself ---------------------------------------------------------------------------------------------------


class Odd:
    """A delay with its own idea of comparison."""

    def __init__(self, answer):
        self.answer = answer

    def __le__(self, other):
        if isinstance(self.answer, Exception):
            raise copy.copy(self.answer)  # one that was raised keeps its traceback
        return self.answer


class Float(float):
    pass


DELAYS = [
    0, -1, 0.0, -0.0, -5.5, -math.inf, False, True * 0, -(10**400), 0.001, 1e-9, Float(0.001),
    fractions.Fraction(1, 1000),
    decimal.Decimal("0"), decimal.Decimal("0.001"), math.nan, Float(math.nan), 10**400, "1", None, [], 1j, b"0",
    Odd(True), Odd([]), Odd(False), Odd(ValueError("compared")), {1}, Value,
]  # fmt: skip


@pytest.mark.parametrize("delay", DELAYS, ids=lambda delay: repr(delay)[:20])
def test_delays(world, delay):
    @parity
    def body(w):
        async def main():
            coro = w.aio.sleep(delay, "result")
            try:
                return await coro
            except Exception as exc:
                return error(exc)

        return [w.run(main)]

    body(world)


@parity
def test_errors_come_out_of_the_await_not_of_the_call(w):
    coro = w.aio.sleep("1")
    return [raised(coro.send, None), inspect.getcoroutinestate(coro), raised(coro.send, None)]


@parity
def test_sleeping_outside_of_a_loop(w):
    coro = w.aio.sleep(1)
    turn = w.aio.sleep(0, "one turn needs no loop")
    return [raised(coro.send, None), turn.send(None), raised(turn.send, None)]


@parity
def test_results(w):
    async def main():
        values = [None, 0, (), (1,), StopIteration(5), ValueError("kept"), StopAsyncIteration, Value]
        here = [await w.aio.sleep(0, value) is value for value in values]
        there = [await w.aio.sleep(0.0005, value) is value for value in values]
        return [here, there, await w.aio.gather(*(w.aio.sleep(0.0005 * n, n) for n in range(9, 0, -1)))]

    return w.run(main)


@parity
def test_who_wakes_when(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def sleeper(name, delay):
            at(name + " starts")
            await w.aio.sleep(delay)
            at(name + " wakes")
            await w.aio.sleep(0)
            at(name + " goes on")

        for number, delay in enumerate((0, 0, -1, 1e-7, 0, 1e-7)):
            loop.create_task(sleeper(f"{number}", delay))
        drain(loop, 35)
        # How long the shortest sleep takes is not the same twice; only what follows it is.
        names = [event for _, event in at.log]
        gaps = {event.split()[0]: turn for turn, event in at.log if event.endswith("on")}
        wakes = {event.split()[0]: turn for turn, event in at.log if event.endswith("wakes")}
        exact = [entry for entry in at.log if entry[1][0] in "0124"]
        return [exact, sorted(names), {name: gaps[name] - wakes[name] for name in gaps}]


@parity
def test_the_shortest_sleep_takes_as_many_turns(w):
    """The timer runs in one turn, the sleeper in the next."""
    with w.loop() as loop:
        at = Generations(loop)

        async def sleeper():
            await w.aio.sleep(0.01)
            at("sleeper")

        loop.run_until_complete(asyncio.wait_for(sleeper(), 5))
        seen = []

        async def order():
            loop.call_later(0.005, seen.append, "timer before")
            task = asyncio.ensure_future(w.aio.sleep(0.005))
            await w.aio.sleep(0)
            loop.call_later(0.005, seen.append, "timer after")
            task.add_done_callback(lambda _: seen.append("sleeper"))
            await asyncio.sleep(0.02)

        loop.run_until_complete(order())
        return [len(at.log), seen.index("timer before") < seen.index("sleeper")]


@parity
def test_cancelled_sleeps(w):
    async def main():
        seen = []
        for delay, before in ((1000, 0), (1000, 1), (1000, 3), (0, 0), (0, 1)):
            task = asyncio.ensure_future(w.aio.sleep(delay, "result"))
            for _ in range(before):
                await w.aio.sleep(0)
            seen += [task.cancel("message"), await araised(task), task.cancelled(), task.cancelling()]
        return seen

    return w.run(main)


@parity
def test_under_the_other_tools(w):
    async def main():
        aio, sleep = w.aio, w.aio.sleep
        seen = [
            await aio.wait_for(sleep(0, 1), 1), await aio.wait_for(sleep(0.001, 2), 1),
            await aio.wait_for(sleep(0, 3), None),
            await araised(aio.wait_for(sleep(1000), 0.001)), await araised(aio.wait_for(sleep(1000), 0)),
            await aio.gather(sleep(0, 1), sleep(0.001, 2), sleep(0, 3)), await aio.shield(sleep(0.001, 4)),
            [await next_done for next_done in aio.as_completed([sleep(0, 5)])],
            await aio.ensure_future(sleep(0, 6)),
            await asyncio.get_running_loop().create_task(sleep(0, 7), name="named"),
            await araised(aio.wait([sleep(0)])),
        ]  # fmt: skip
        async with aio.timeout(1), aio.TaskGroup() as group:
            tasks = [group.create_task(sleep(0.001, number)) for number in range(3)]
        seen += [task.result() for task in tasks]
        try:
            async with aio.timeout(0.001):
                await sleep(1000)
        except TimeoutError as exc:
            seen.append(error(exc))
        return seen

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return w.run(main)


@parity
def test_run_takes_it_as_the_main_coroutine(w):
    return [w.aio.run(w.aio.sleep(0, 1)), w.aio.run(w.aio.sleep(0.001, 2))]


@since(3, 12)
@parity
def test_eager_tasks(w):
    async def main():
        asyncio.get_running_loop().set_task_factory(w.aio.eager_task_factory)
        first = asyncio.create_task(w.aio.sleep(0, 1))
        second = asyncio.create_task(w.aio.sleep(0.001, 2))
        seen = [first.done(), second.done(), normal(first.get_coro().cr_await)[:10], await first, await second]
        return [seen[0], seen[1], *seen[3:]]

    return w.run(main)


@pytest.mark.parametrize("kind", ["_CTask", "_PyTask"])
def test_other_kinds_of_tasks_drive_it(world, kind):
    @parity
    def body(w):
        task_class = getattr(asyncio.tasks, kind)

        async def main():
            loop = asyncio.get_running_loop()

            async def several():
                return [await w.aio.sleep(0, 1), await w.aio.sleep(0.001, 2), await STOCK_SLEEP(0.001, 3)]

            tasks = [task_class(several(), loop=loop), task_class(w.aio.sleep(0.001, 4), loop=loop)]
            cancelled = task_class(w.aio.sleep(1000), loop=loop)
            await w.aio.sleep(0)
            cancelled.cancel("message")
            return [await task for task in tasks] + [await araised(cancelled)]

        return w.run(main)

    body(world)


@parity
def test_the_stdlibs_sleep_under_our_tasks(w):
    async def main():
        task = asyncio.ensure_future(STOCK_SLEEP(1000))
        await w.aio.sleep(0)
        task.cancel()
        return [await STOCK_SLEEP(0, 1), await STOCK_SLEEP(0.001, 2), await araised(task)]

    return w.run(main)


@parity
def test_on_the_stdlibs_own_loop(w):
    """Another library's loop may run our sleep: the timer is that loop's."""
    loop = asyncio.SelectorEventLoop()
    try:

        async def main():
            seen = [await w.aio.sleep(0, 1), await w.aio.sleep(0.001, 2), await w.aio.sleep(Float(0.001), 3)]
            task = asyncio.ensure_future(w.aio.sleep(1000))
            await w.aio.sleep(0)
            timer = loop._scheduled[0]
            task.cancel("message")
            seen += [await araised(task), timer.cancelled(), await araised(w.aio.sleep("1"))]
            coro = w.aio.sleep(1000, "result")
            future = coro.send(None)
            seen += [
                type(future).__name__,
                inspect.getcoroutinestate(coro),
                coro.close(),
                loop._scheduled[-1].cancelled(),
            ]
            coro = w.aio.sleep(1000, "result")
            coro.send(None).set_result("other")
            seen += [raised(coro.send, None), inspect.getcoroutinestate(coro)]
            return [*seen, await w.aio.gather(w.aio.sleep(0.002, 4), w.aio.sleep(0.001, 5))]

        return loop.run_until_complete(main())
    finally:
        loop.close()


@parity
def test_loops_that_override_how_time_is_kept(w):
    other = w.new_event_loop()
    other.close()
    seen = []

    class Counting(type(other)):
        def call_later(self, delay, callback, *args, **kwargs):
            if delay == 0.125:
                seen.append((delay, callback.__name__, args[1:]))
                return super().call_later(0.001, callback, *args, **kwargs)
            return super().call_later(delay, callback, *args, **kwargs)

    loop = Counting()
    seen.append(loop.run_until_complete(w.aio.sleep(0.125, "result")))
    loop.close()
    return seen


def test_timers_of_sleeps_that_ended_early_are_dead(ours):
    with ours.loop() as loop:

        async def main():
            for _ in range(20):
                tasks = [asyncio.ensure_future(ours.aio.sleep(1000)) for _ in range(50)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            return loop._timer_cancelled_count

        if ours.name == "native":
            assert loop.run_until_complete(main()) < 150, "compacted when most are dead"


def test_sleeping_leaks_nothing(world):
    sleep, value = world.aio.sleep, Value()

    async def main():
        for delay in (0, 0.00001, Float(0)):
            await sleep(delay, value)
            task = asyncio.ensure_future(sleep(1000, value))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for _ in range(2):
            coro = sleep(1000, value)
            coro.send(None)
            coro.close()
            coro = sleep(1000, value)
            raised(coro.throw, ValueError)
            coro = sleep(0, value)
            assert inspect.getcoroutinelocals(coro)["result"] is value
            coro.close()

    with world.loop() as loop:
        loop.run_until_complete(main())
        collect()
        before = sys.getrefcount(value), sys.getrefcount(None) if sys.version_info < (3, 12) else 0
        for _ in range(50):
            loop.run_until_complete(main())
        collect()
        after = sys.getrefcount(value), sys.getrefcount(None) if sys.version_info < (3, 12) else 0
    assert after[0] == before[0]
    assert abs(after[1] - before[1]) < 40


def test_waiting_sleeps_are_collected_with_their_cycle(world):
    if world.name != "native":
        pytest.skip("the stdlib's timer keeps the result, and so the cycle")
    with world.loop() as loop, running(loop):
        value = Value()
        value.coro = world.aio.sleep(1000, value)
        value.future = value.coro.send(None)
        gone = weakref.ref(value), weakref.ref(value.coro)
        del value
        collect()
        assert [reference() for reference in gone] == [None, None]
