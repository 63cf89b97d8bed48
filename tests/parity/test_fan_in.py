"""gather, wait, as_completed, shield: results, turns, cancellation, callbacks, refusals, other futures and loops.

Each body also runs with the world's functions on the stdlib's loop: there futures and tasks are the C module's.
"""

import asyncio
import contextvars
import gc
import inspect
import sys
import weakref

import pytest
from companies import LOOPS, place
from task_makers import failing, stubborn, value
from worlds import Generations, araised, drain, error, normal, outcome, parity, raised, since


def shown(task):
    if task.cancelled():
        return "cancelled"
    if not task.done():
        return "pending"
    return repr(task.exception() or task.result())


PLANS = {
    "values": lambda: [value(1), value(2, 3), value(3, 1)],
    "at once": lambda: [value(n) for n in range(20)],
    "one fails": lambda: [value(1, 5), failing(KeyError("k"), 2), value(3)],
    "the last fails": lambda: [value(1, 1), failing(KeyError("k"), 4), value(3)],
    "several fail": lambda: [failing(KeyError(n), 3 - n % 3) for n in range(6)],
    "fail in the same turn": lambda: [value(0, 2), failing(KeyError(1), 2), value(2, 2), failing(KeyError(3), 2)],
    "one is cancelled": lambda: [value(1, 5), failing(asyncio.CancelledError("c"), 2), value(3)],
    "all are cancelled": lambda: [failing(asyncio.CancelledError(n), n) for n in range(3)],
}


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("plan", PLANS)
def test_gather_takes_its_turns(w, plan, return_exceptions, where):
    with place(w, where).loop() as loop:
        log = Generations(loop)

        async def main():
            tasks = [loop.create_task(coro) for coro in PLANS[plan]()]
            for number, task in enumerate(tasks):
                task.add_done_callback(lambda task, number=number: log((number, "before")))
            gathered = w.aio.gather(*tasks, return_exceptions=return_exceptions)
            gathered.add_done_callback(lambda fut: log("gathered"))
            for number, task in enumerate(tasks):
                task.add_done_callback(lambda task, number=number: log((number, "after")))
            log(repr(await asyncio.wait_for(gathered, None)) if return_exceptions else await araised(gathered))

        async def coroutines():
            log(repr((await w.aio.gather(main(), *PLANS[plan](), return_exceptions=True))[1:]))

        outcome(loop.run_until_complete, coroutines())
        drain(loop)
        return log.log


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("turn", range(7))
def test_gather_is_cancelled(w, turn, return_exceptions, where):
    w = place(w, where)

    async def main():
        log = Generations(asyncio.get_running_loop())
        children = [
            asyncio.ensure_future(value(1, 2)),
            asyncio.ensure_future(stubborn(4)),
            asyncio.ensure_future(value(2, 5)),
        ]
        inner = w.aio.gather(*children, return_exceptions=return_exceptions)
        inner.add_done_callback(lambda fut: log("inner"))

        async def awaiting():
            return await inner

        task = asyncio.ensure_future(awaiting())
        task.add_done_callback(lambda fut: log("task"))
        await value(None, turn)
        log((task.cancel("why"), inner.cancelled(), inner._cancel_requested))
        log(error((await asyncio.gather(task, return_exceptions=True))[0]) if turn < 6 else shown(task))
        await value(None, 8)
        log([shown(child) for child in children])
        log(outcome(inner.cancel))
        return log.log

    return w.run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_gather_of_all_kinds_of_futures(w, where):
    class Own(w.aio.Future):
        def add_done_callback(self, fn, *, context=None):
            trace.append("asked")
            super().add_done_callback(fn, context=context)

    class Protocol:
        """Just the protocol."""

        _asyncio_future_blocking = False

        def __init__(self, fut):
            self.fut = fut

        def __getattr__(self, name):
            return getattr(self.fut, name)

        def add_done_callback(self, fn, context=None):
            self.fut.add_done_callback(lambda fut: fn(self), context=context)

    trace = []

    async def main():
        loop = asyncio.get_running_loop()
        for return_exceptions in (False, True):
            futures = [loop.create_future(), asyncio.Future(), Own(), Protocol(w.aio.Future()), loop.create_future()]
            for number, fut in enumerate(futures[:4]):
                loop.call_later(0.001 * number, fut.set_result, number)
            futures[4].set_result("done before")
            tasks = [loop.create_task(value("task", 2)), w.aio.gather(value("gathered"), futures[0])]
            gathered = w.aio.gather(*futures, *tasks, futures[1], return_exceptions=return_exceptions)
            trace.append([len(fut._callbacks or ()) for fut in futures])
            trace.append(await gathered)
        for fut in (Own(), Protocol(asyncio.Future()), asyncio.Future()):
            gathered = w.aio.gather(fut, fut, value(1), return_exceptions=True)
            await value(None, 2)
            trace.append(gathered.cancel("message"))
            trace.append(await araised(gathered))
            gathered = w.aio.gather(failing(KeyError(1)), fut)
            trace.append(await araised(gathered))
        return trace

    return place(w, where).run(main)


@parity
def test_gather_knows_what_is_equal(w):
    class Equal:
        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            return isinstance(other, Equal)

        def __hash__(self):
            return 1

        def __await__(self):
            yield
            return self.number

    class Unhashable(Equal):
        __hash__ = None

    async def main():
        coro, fut = value("coroutine"), asyncio.ensure_future(value("future"))
        trace = [
            await w.aio.gather(coro, Equal(1), fut, Equal(2), coro, fut),
            await w.aio.gather(Equal(1), Equal(2)),
        ]
        many = [value(n) for n in range(50)]
        trace.append(await w.aio.gather(*many, *reversed(many)))
        left = value(None)
        trace.append(normal(raised(w.aio.gather, left, Unhashable(1))))
        await value(None, 2)
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_gather_refuses(w, where):
    w = place(w, where)
    with w.loop() as first, w.loop() as second:
        futures = [first.create_future(), second.create_future()]
        trace = [
            raised(w.aio.gather, *futures),
            raised(w.aio.gather, futures[0], 3),
            raised(w.aio.gather, futures[0], loop=first),
            len(futures[0]._callbacks),
        ]
        outer = w.aio.gather(futures[0])
        trace.append(outer.get_loop() is first)
        futures[0].set_result(1)
        trace.append(first.run_until_complete(outer))

        async def main():
            trace.append(raised(w.aio.gather, value(1), second.create_future()))
            trace.append(outcome(w.aio.gather, second.create_future()) if sys.version_info >= (3, 14) else None)
            await value(None, 2)
            empty = w.aio.gather()
            trace.append((empty.done(), empty.result(), type(empty).__name__, empty.get_loop() is first))

        first.run_until_complete(main())
        return trace


@parity
def test_gather_without_a_running_loop(w, recwarn):
    with w.loop() as loop:
        asyncio.set_event_loop(loop)
        try:
            coro = value(1)
            made = outcome(w.aio.gather, coro)
            trace = [loop.run_until_complete(made) if asyncio.isfuture(made) else (made, coro.close())]
            empty = outcome(w.aio.gather)
            trace.append(loop.run_until_complete(empty) if asyncio.isfuture(empty) else empty)
        finally:
            asyncio.set_event_loop(None)
        coro = value(1)
        trace += [outcome(w.aio.gather, coro), outcome(w.aio.gather)]
        coro.close()
        trace += [(each.category.__name__, normal(each.message), normal(each.filename)) for each in recwarn]
        return trace


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_gathering_future(w, where):
    async def main():
        fut = asyncio.get_running_loop().create_future()
        outer = w.aio.gather(fut, value(1), fut)
        trace = [
            normal(repr(outer)),
            type(outer).__name__,
            outer.__class__.__module__,
            isinstance(outer, asyncio.Future),
            isinstance(outer, w.aio.Future),
            isinstance(outer, asyncio.tasks._GatheringFuture),
            [child is fut for child in outer._children],
            outer._cancel_requested,
            normal(repr(fut)),
            [(type(context).__name__, callback.__qualname__) for callback, context in fut._callbacks],
        ]
        callback = fut._callbacks[0][0]
        trace += [fut.remove_done_callback(callback), fut._callbacks]
        fut.set_result(2)
        await value(None, 3)
        trace.append(outer.done())
        outer.set_result("by hand")
        trace.append(await outer)
        return trace

    return place(w, where).run(main)


@parity
def test_exceptions_of_gathered_futures_count_as_seen(w):
    with w.loop() as loop:
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

        async def main():
            trace = [await araised(w.aio.gather(failing(KeyError(1)), failing(KeyError(2)), failing(KeyError(3), 2)))]
            await value(None, 4)
            gc.collect()
            w.aio.gather(failing(KeyError(4)), value(None))  # nobody looks at this one
            await value(None, 4)
            gc.collect()
            return [*trace, reports]

        return loop.run_until_complete(main())


@parity
@pytest.mark.parametrize("name", ["gather", "shield", "wait", "as_completed"])
def test_what_is_waited_for_can_be_collected(w, name):
    class Marked(Exception):
        pass

    async def main():
        loop = asyncio.get_running_loop()
        refs = []

        async def use():
            fut = w.aio.Future()
            fut.marked = marked = Marked()
            refs.append(weakref.ref(marked))
            if name == "gather":
                made = w.aio.gather(fut, value(1))
            elif name == "shield":
                made = w.aio.shield(fut)
            elif name == "wait":
                made = w.aio.wait([fut])
                task = loop.create_task(w.aio.wait([fut], timeout=0.001))
                await task
                made.close()
            else:
                made = next(iter(w.aio.as_completed([fut, w.aio.Future()])))
                made.close()
            await value(None, 2)

        await use()
        gc.collect()
        return [ref() is None for ref in refs]

    return w.run(main)


@parity
@pytest.mark.parametrize("name", ["gather", "shield", "wait", "as_completed"])
def test_driven_by_hand(w, name):
    with w.loop() as loop:

        async def use(futures):
            if name == "gather":
                return await w.aio.gather(*futures)
            if name == "shield":
                return await w.aio.shield(futures[0])
            if name == "wait":
                return len((await w.aio.wait(futures))[0])
            return [await each for each in w.aio.as_completed(futures)]

        async def main():
            trace = []
            for ending in ("result", "throw", "close"):
                futures = [loop.create_future() for _ in range(2)]
                coro = use(futures)
                yielded = coro.send(None)
                trace.append((asyncio.isfuture(yielded), yielded._asyncio_future_blocking, yielded.done()))
                if ending == "result":
                    for fut in futures:
                        fut.set_result(1)
                    await value(None, 3)
                    try:
                        while True:
                            yielded = coro.send(None)
                            yielded._asyncio_future_blocking = False
                            await value(None, 3)
                    except StopIteration as stop:
                        trace.append(stop.value)
                elif ending == "throw":
                    trace.append(raised(coro.throw, KeyError("thrown")))
                else:
                    coro.close()
                trace.append([len(fut._callbacks or ()) for fut in futures])
                trace.append(raised(coro.send, None))
            return trace

        return loop.run_until_complete(main())


# --- wait -----------------------------------------------------------------------------------------------------------


def split(sets, tasks):
    return [sorted(tasks.index(task) for task in each) for each in sets]


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
@pytest.mark.parametrize("plan", PLANS)
def test_wait_takes_its_turns(w, plan, return_when, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        log = Generations(loop)
        tasks = [loop.create_task(coro) for coro in PLANS[plan]()]
        for number, task in enumerate(tasks):
            task.add_done_callback(lambda task, number=number: log(number))
        for _ in range(2):
            log(split(await w.aio.wait(tasks, return_when=return_when), tasks))
            log([task._callbacks and len(task._callbacks) for task in tasks])
        log(split(await w.aio.wait(iter(tasks * 2), timeout=5), tasks))
        log([shown(task) for task in tasks])
        return log.log

    return w.run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_wait_ends_early(w, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future(), asyncio.Future(), w.aio.Future()]
        trace = [split(await w.aio.wait(futures, timeout=0.001), futures), [fut._callbacks for fut in futures]]
        trace.append(split(await w.aio.wait(futures, timeout=0), futures))
        task = loop.create_task(w.aio.wait(futures, timeout=60))
        await value(None, 2)
        trace.append([normal(repr(fut)) for fut in futures])
        trace.append(task.cancel("why"))
        trace += [await araised(task), [fut._callbacks for fut in futures]]
        coro = w.aio.wait(futures)
        trace += [coro.__name__, coro.__qualname__, inspect.iscoroutine(coro), inspect.iscoroutinefunction(w.aio.wait)]
        coro.close()
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("debug", [False, True])
def test_wait_refuses(w, debug):
    async def main():
        fut = asyncio.get_running_loop().create_future()
        coro = value(1)
        trace = [await araised(w.aio.wait(given)) for given in ([], fut, coro, [coro], [fut, coro], 3, iter([]), [3])]
        trace.append(await araised(w.aio.wait([fut], return_when="whenever")))
        trace += [
            raised(w.aio.wait),
            raised(w.aio.wait, [fut], 3),
            raised(w.aio.wait, [fut], when=3),
            raised(w.aio.wait, [fut], **{"*": 3}),
        ]
        trace.append(str(inspect.signature(w.aio.wait)))
        coro.close()
        return trace

    return w.run(main, debug=debug)


# --- as_completed ---------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("plan", PLANS)
def test_as_completed_takes_its_turns(w, plan, where):
    w = place(w, where)

    async def main():
        log = Generations(asyncio.get_running_loop())
        plain = PLANS[plan]()
        tasks = [asyncio.ensure_future(coro) for coro in plain]
        for number, task in enumerate(tasks):
            task.add_done_callback(lambda task, number=number: log(number))
        for coro in w.aio.as_completed(tasks):
            try:
                log(repr(await coro))
            except (KeyError, asyncio.CancelledError) as exc:
                log(error(exc))
        return log.log

    trace = w.run(main)
    if plan == "at once":  # all in the same turn, in the order of a set
        return [(turn, sorted(map(str, (what for at, what in trace if at == turn)))) for turn, _ in trace]
    return trace


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_as_completed_times_out(w, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future(), asyncio.Future(), loop.create_task(value("in time", 2))]
        trace = []
        for coro in w.aio.as_completed(futures, timeout=0.05):
            trace.append(outcome_of(await asyncio.gather(coro, return_exceptions=True)))
        trace.append([fut._callbacks for fut in futures])
        done = [value(n) for n in range(3)]
        trace.append(sorted([await coro for coro in w.aio.as_completed(done, timeout=10)]))
        return trace

    return w.run(main)


def outcome_of(results):
    return [error(result) if isinstance(result, BaseException) else result for result in results]


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("turn", range(5))
def test_those_who_wait_for_one_are_cancelled(w, turn, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        log = Generations(loop)
        given = w.aio.as_completed([value(1, 1), value(2, 2), value(3, 6)])
        waiting = [loop.create_task(coro) for coro in given]
        for number, task in enumerate(waiting):
            task.add_done_callback(lambda task, number=number: log((number, shown(task))))
        await value(None, turn)
        log([waiting[0].cancel("a"), waiting[1].cancel("b")])
        await value(None, 12)
        log([shown(task) for task in waiting])
        waiting[2].cancel()
        return log.log

    return w.run(main)


@parity
@pytest.mark.parametrize("debug", [False, True])
def test_as_completed_refuses(w, debug):
    async def main():
        fut = asyncio.get_running_loop().create_future()
        trace = []
        for given in (fut, value(1), 3, [3], [[]]):
            trace.append(normal(outcome(lambda given=given: list(w.aio.as_completed(given)))))
            if inspect.iscoroutine(given):
                given.close()
        trace += [list(w.aio.as_completed([])), list(w.aio.as_completed(set(), timeout=3))]
        trace += [
            raised(w.aio.as_completed),
            raised(w.aio.as_completed, [fut], 3),
            raised(w.aio.as_completed, [], when=3),
        ]
        trace.append(str(inspect.signature(w.aio.as_completed)))
        given = w.aio.as_completed(fs=[value("by name")])
        coro = next(given)
        trace += [coro.__name__, coro.__qualname__, await coro, next(given, "end"), next(given, "still")]
        given = w.aio.as_completed([fut])
        coro = next(given)
        if not debug:  # where a future was made is seen from different frames
            trace.append(normal(repr(fut)))
        coro.close()
        fut.set_result(1)
        return trace

    return w.run(main, debug=debug)


@since(3, 13)
@parity
@pytest.mark.parametrize("where", LOOPS)
def test_as_completed_asynchronously(w, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(value(n, 4 - n)) for n in range(4)]
        trace = []
        async for task in w.aio.as_completed(tasks):
            trace.append((task in tasks, task.result()))
        given = w.aio.as_completed([value(1), value(1)])
        trace.append((given._todo_left, type(given).__name__, given.__aiter__() is given, iter(given) is given))
        coro = given.__anext__()
        trace += [coro.__qualname__, given._todo_left, (await coro).result(), given._todo_left]
        trace += [await next(given), given._todo_left]
        trace += [await araised(given.__anext__()), outcome(next, given, "end")]
        given = w.aio.as_completed([loop.create_future()], timeout=0.001)
        trace += [await araised(given.__anext__()), given._todo_left]
        given = w.aio.as_completed([loop.create_future()])
        task = loop.create_task(asyncio.wait_for(given.__anext__(), 0.001))
        trace += [await araised(task), given._todo_left]
        return trace

    return w.run(main)


# --- shield ---------------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("ending", ["value", "failure", "cancellation"])
@pytest.mark.parametrize("turn", range(6))
def test_shield_takes_its_turns(w, turn, ending, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        log = Generations(loop)
        ends = {
            "value": lambda: value("value", 3),
            "failure": lambda: failing(KeyError("k"), 3),
            "cancellation": lambda: failing(asyncio.CancelledError("c"), 3),
        }
        inner = loop.create_task(ends[ending]())
        inner.add_done_callback(lambda fut: log("inner"))
        outer = w.aio.shield(inner)
        outer.add_done_callback(lambda fut: log("outer"))

        async def awaiting():
            return await outer

        task = loop.create_task(awaiting())
        task.add_done_callback(lambda fut: log("task"))
        await value(None, turn)
        log(task.cancel("why"))
        log(outcome_of(await asyncio.gather(task, return_exceptions=True)))
        log((shown(inner), shown(outer), inner._callbacks and len(inner._callbacks)))
        await value(None, 6)
        log((shown(inner), shown(outer)))
        return log.log

    return w.run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_shield_refuses_and_shows(w, where):
    w = place(w, where)

    async def main():
        loop = asyncio.get_running_loop()
        trace = [raised(w.aio.shield), raised(w.aio.shield, 3), raised(w.aio.shield, 3, 4)]
        trace.append(str(inspect.signature(w.aio.shield)))
        trace.append(await w.aio.shield(value("coroutine", 2)))
        trace.append(await w.aio.shield(arg=value("by name", 2)))
        done = loop.create_future()
        done.set_result(1)
        trace.append(w.aio.shield(done) is done)
        for inner in (loop.create_future(), asyncio.Future()):
            outer = w.aio.shield(inner)
            trace += [normal(repr(inner)), normal(repr(outer)), outer.cancel("x"), outcome(inner.done)]
            await value(None, 2)
            trace.append(normal(repr(inner)))
            outer = w.aio.shield(inner)
            inner.set_exception(KeyError("k"))
            trace.append(await araised(outer))
        return trace

    return w.run(main)


@parity
def test_shielded_failures_that_nobody_sees(w):
    with w.loop() as loop:
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

        async def main():
            for cancelled in (False, True):
                outer = w.aio.shield(failing(KeyError(1), 2))
                if cancelled:
                    await value(None, 1)
                    outer.cancel()
                await value(None, 6)
                del outer
                gc.collect()
            return reports

        return [loop.run_until_complete(main())]


@parity
def test_callbacks_have_the_context_of_the_call(w):
    variable = contextvars.ContextVar("variable", default="outside")

    class Telling(asyncio.Future):
        def set_result(self, result):
            trace.append(("set_result", variable.get()))
            super().set_result(result)

        def cancel(self, msg=None):
            trace.append(("cancel", variable.get()))
            return super().cancel(msg)

    trace = []

    async def main():
        loop = asyncio.get_running_loop()
        inner = loop.create_future()
        variable.set("inside")
        outer = w.aio.shield(inner)
        trace.append([context[variable] for _, context in inner._callbacks][-1])
        variable.set("later")
        loop.call_soon(inner.set_result, 1, context=contextvars.Context())
        await outer
        return trace

    return w.run(main)


@since(3, 14)
@parity
def test_who_awaits_whom(w):
    async def main():
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        trace = []

        def awaited(fut):
            return sorted(task.get_name() for task in fut._asyncio_awaited_by or ())

        me.set_name("me")
        futures = [loop.create_future() for _ in range(3)]  # a C future does not list a native task
        outer = w.aio.gather(*futures)
        trace.append([awaited(fut) for fut in futures])
        futures[0].set_exception(KeyError(1))
        trace += [await araised(outer), [awaited(fut) for fut in futures[1:]]]
        for fut in futures[1:]:
            shield = w.aio.shield(fut)
            trace.append(awaited(fut))
            shield.cancel()
            await value(None, 2)
            trace.append(awaited(fut))
        waiting = loop.create_task(w.aio.wait(futures[1:]), name="waiting")
        given = w.aio.as_completed(futures[1:])
        await value(None, 2)
        trace.append([awaited(fut) for fut in futures[1:]])
        waiting.cancel()
        await value(None, 2)
        trace.append([awaited(fut) for fut in futures[1:]])
        for fut in futures[1:]:
            fut.set_result(1)
        trace.append([await coro for coro in given])
        trace.append([awaited(fut) for fut in futures[1:]])
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_failure_in_the_turn_in_which_the_wait_is_cancelled(w, return_when, count):
    """FIRST_EXCEPTION looks for an exception also then, which retrieves it."""

    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(count)]
        waiting = loop.create_task(w.aio.wait(futures, return_when=return_when))
        await value(None, 5)
        waiting.cancel()
        futures[0].set_exception(ValueError("failed"))
        await value(None, 5)
        seen = futures[0]._log_traceback
        futures[0].exception()
        return waiting.cancelled(), seen, [len(fut._callbacks or ()) for fut in futures]

    return w.run(main)
