"""Work that leaves the loop's thread, seen from all sides: reprs, cancelling, pools that refuse, chained futures."""

import asyncio
import concurrent.futures
import contextvars
import gc
import inspect
import math
import sys
import threading
import time
import traceback
import weakref

import pytest
from worlds import Generations, araised, error, in_thread, normal, outcome, parity, raised, until

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def busy_pool(**arguments):
    """A pool of one thread that is busy until the event is set."""
    pool = concurrent.futures.ThreadPoolExecutor(1, **arguments)
    release, started = threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait(20)
        return "worked"

    return pool, release, started, work


@parity
def test_what_a_pending_future_looks_like(w):
    async def main():
        loop = w.aio.get_running_loop()
        pool, release, started, work = busy_pool()
        with pool:
            future = loop.run_in_executor(pool, work)
            started.wait(10)
            trace = [normal(repr(future)), len(future._callbacks), future.get_loop() is loop, type(future).__name__]
            release.set()
            trace += [await future, normal(repr(future))]
        return trace

    return w.run(main)


@parity
def test_the_pool_stays_the_stdlibs(w):
    async def main():
        loop = w.aio.get_running_loop()
        release, started = threading.Event(), threading.Event()
        first = loop.run_in_executor(None, lambda: (started.set(), release.wait(20))[1])
        started.wait(10)
        pool = loop._default_executor
        workers = pool._threads
        trace = [
            type(pool) is concurrent.futures.ThreadPoolExecutor,
            [thread.name for thread in workers],
            all(thread in threading.enumerate() for thread in workers),
            [thread.daemon for thread in workers],
            pool._work_queue.qsize(),
        ]
        release.set()
        trace.append(await first)
        # Looked at from here: a pool knows a new thread only after that has started to work.
        trace.append(await loop.run_in_executor(None, threading.current_thread) in pool._threads)
        trace.append(await w.aio.to_thread(lambda: threading.current_thread().name.rstrip("0123456789")))
        return trace

    return w.run(main)


class Odd(BaseException):
    pass


@parity
@pytest.mark.parametrize(
    "exception",
    [
        ValueError("text", 2),
        concurrent.futures.CancelledError("c"),
        asyncio.CancelledError("a"),
        concurrent.futures.TimeoutError("t"),
        concurrent.futures.InvalidStateError("i"),
        SystemExit(3),
        KeyboardInterrupt("k"),
        GeneratorExit("g"),
        StopAsyncIteration("s"),
        Odd("odd"),
    ],
    ids=lambda exc: type(exc).__module__ + "." + type(exc).__name__,
)
def test_exceptions(w, exception):
    def work():
        raise exception

    async def main():
        loop = w.aio.get_running_loop()
        trace = []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for future in (loop.run_in_executor(pool, work), loop.run_in_executor(None, work)):
                await w.aio.wait([future])
                trace.append((future.cancelled(), error(future.exception()), type(future.exception()).__module__))
                tail = traceback.extract_tb(future.exception().__traceback__)
                trace.append(tail[-1].name if tail else None)
        return trace

    exception.__traceback__ = None
    return w.run(main)


@parity
def test_stop_iteration_is_told_to_the_handler_or_wrapped(w):
    errors = []

    async def main():
        loop = w.aio.get_running_loop()
        future = loop.run_in_executor(None, next, iter(()))
        await until(lambda: errors or future.done())
        return future.done() and error(future.exception())

    result = w.run(main, errors=errors)
    return result, [(message.split("(")[0], exc, keys) for message, exc, keys in errors]


@parity
def test_a_future_that_somebody_else_completed(w):
    errors = []

    async def main():
        loop = w.aio.get_running_loop()
        pool, release, started, work = busy_pool()
        with pool:
            future = loop.run_in_executor(pool, work)
            started.wait(10)
            future.set_result("mine")
            release.set()
            await until(lambda: errors)
            return await future

    result = w.run(main, errors=errors)
    # The source is a concurrent.futures.Future there, and none here.
    return result, [(message.split("'mine'")[0], exc, keys) for message, exc, keys in errors]


@parity
def test_cancelling_while_queued_and_while_running(w):
    async def main():
        loop = w.aio.get_running_loop()
        pool, release, started, work = busy_pool()
        ran = []
        with pool:
            running = loop.run_in_executor(pool, work)
            started.wait(10)
            queued = [loop.run_in_executor(pool, ran.append, n) for n in range(4)]
            trace = [queued[1].cancel("why"), queued[1].cancel(), queued[3].cancel(), running.cancel()]
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            release.set()
            trace += [await araised(each) for each in (queued[1], queued[3], running)]
            trace += [await queued[0], await queued[2], ran]
        return trace

    return w.run(main)


@parity
def test_cancelling_a_task_in_to_thread(w):
    async def main():
        loop = w.aio.get_running_loop()
        pool, release, started, work = busy_pool()
        loop.set_default_executor(pool)
        ran = []
        running = w.aio.create_task(w.aio.to_thread(work))
        await until(started.is_set)
        queued = w.aio.create_task(w.aio.to_thread(ran.append, "ran"))
        await w.aio.sleep(0)
        trace = [normal(repr(queued._fut_waiter)), queued.cancel(), running.cancel()]
        trace += [await araised(queued), await araised(running)]
        release.set()
        trace.append(await w.aio.to_thread(lambda: "still there"))
        return trace, ran

    return w.run(main)


@parity
def test_a_pool_that_cancels_what_is_queued(w):
    async def main():
        loop = w.aio.get_running_loop()
        pool, release, started, work = busy_pool()
        running = loop.run_in_executor(pool, work)
        started.wait(10)
        queued = [loop.run_in_executor(pool, int, "1") for _ in range(3)]
        pool.shutdown(wait=False, cancel_futures=True)
        trace = [await araised(each) for each in queued]
        release.set()
        return [*trace, await running, outcome(loop.run_in_executor, pool, int)]

    return w.run(main)


@parity
@pytest.mark.filterwarnings("ignore")
def test_a_pool_whose_threads_cannot_start(w):
    def initializer():
        raise ValueError("no")

    async def main():
        loop = w.aio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1, initializer=initializer) as pool:
            trace = [await araised(loop.run_in_executor(pool, int))]
            trace.append(outcome(loop.run_in_executor, pool, int))
        return trace

    return w.run(main)


@parity
def test_initializers_and_thread_locals(w):
    local = threading.local()

    async def main():
        loop = w.aio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1, initializer=setattr, initargs=(local, "seen", 5)) as pool:
            return [await loop.run_in_executor(pool, getattr, local, "seen"), hasattr(local, "seen")]

    return w.run(main)


@parity
def test_pools_of_other_classes_and_replaced_submits(w, monkeypatch):
    seen = []

    class Subclass(concurrent.futures.ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            seen.append("subclass")
            return super().submit(fn, *args, **kwargs)

    class Plain(concurrent.futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            seen.append("plain")
            future = concurrent.futures.Future()
            future.set_result(fn(*args, **kwargs))
            return future

    class Refusing:
        def submit(self, fn, *args):
            raise OSError("full")

    class Confused:
        def submit(self, fn, *args):
            return "no future"

    original = concurrent.futures.ThreadPoolExecutor.submit

    def traced(self, fn, /, *args, **kwargs):
        seen.append("traced")
        return original(self, fn, *args, **kwargs)

    async def main():
        loop = w.aio.get_running_loop()
        trace = []
        with Subclass(1) as first, concurrent.futures.ThreadPoolExecutor(1) as second:
            trace += [await loop.run_in_executor(first, int, "1"), await loop.run_in_executor(Plain(), int, "2")]
            with monkeypatch.context() as patch:
                patch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", traced)
                trace += [await loop.run_in_executor(second, int, "3"), await w.aio.to_thread(int, "4")]
            second.submit = lambda fn, *args: (seen.append("own"), original(second, fn, *args))[1]
            trace.append(await loop.run_in_executor(second, int, "5"))
            del second.submit
            trace.append(await loop.run_in_executor(second, int, "6"))
        trace += [outcome(loop.run_in_executor, each, int) for each in (Refusing(), Confused(), 5)]
        return trace

    return w.run(main), seen


@parity
def test_processes(w):
    async def main():
        loop = w.aio.get_running_loop()
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            return [
                await loop.run_in_executor(pool, pow, 2, 10),
                await araised(loop.run_in_executor(pool, int, "x")),
            ]

    return w.run(main)


@parity
@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")
def test_interpreters(w):
    async def main():
        loop = w.aio.get_running_loop()
        with concurrent.futures.InterpreterPoolExecutor(2) as pool:
            several = await w.aio.gather(*(loop.run_in_executor(pool, math.factorial, n) for n in range(8)))
            failed = await araised(loop.run_in_executor(pool, math.sqrt, -1))
            sleepers = [loop.run_in_executor(pool, time.sleep, 0.05) for _ in range(2)]
            queued = loop.run_in_executor(pool, math.factorial, 5)
            cancelled = queued.cancel(), await araised(queued)
            slept = await w.aio.gather(*sleepers)
            return several, failed, cancelled, slept, await w.aio.to_thread(math.factorial, 6)

    return w.run(main)


@parity
def test_arguments_of_run_in_executor(w):
    async def main():
        loop = w.aio.get_running_loop()
        trace = [
            await loop.run_in_executor(executor=None, func=dict),
            raised(loop.run_in_executor)[0],
            raised(loop.run_in_executor, None)[0],
            raised(loop.run_in_executor, None, int, base=2)[0],
            str(inspect.signature(loop.run_in_executor)),
        ]
        trace.append(await araised(loop.run_in_executor(None, 5)))
        return trace

    return w.run(main)


@parity
def test_refusals(w):
    async def main():
        loop = w.aio.get_running_loop()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.shutdown()
        trace = [outcome(loop.run_in_executor, pool, int)]
        await loop.shutdown_default_executor()
        trace.append(outcome(loop.run_in_executor, None, int))
        trace.append(await araised(w.aio.to_thread(int)))
        return trace

    with w.loop() as loop:
        trace = loop.run_until_complete(main())
    return [*trace, outcome(loop.run_in_executor, None, int)]


@parity
def test_debug_mode(w):
    async def main():
        loop = w.aio.get_running_loop()

        async def coroutine():
            pass

        made = coroutine()
        trace = [outcome(loop.run_in_executor, None, coroutine), outcome(loop.run_in_executor, None, made)]
        made.close()
        return [*trace, await loop.run_in_executor(None, int, "4"), await w.aio.to_thread(int, "5")]

    return w.run(main, debug=True)


@parity
def test_the_turn_in_which_a_result_arrives(w):
    """The answer is there; the turn that finds it completes the future, the next one steps the task."""
    loop = w.new_event_loop()
    posted = threading.Event()

    async def main():
        pool, release, started, work = busy_pool()
        with pool:
            future = loop.run_in_executor(pool, work)
            started.wait(10)
            turns = Generations(loop)
            release.set()
            pool.submit(posted.set)  # the same thread takes it, after it has answered
            posted.wait(10)
            future.add_done_callback(lambda _: turns("callback"))
            await future
            turns("task")
        return turns.log

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


# ---- to_thread -----------------------------------------------------------------------------------------------------


@parity
def test_to_thread_is_a_coroutine_function(w):
    function = w.aio.to_thread
    coroutine = function(int, "5")
    trace = [
        inspect.iscoroutinefunction(function),
        asyncio.iscoroutine(coroutine),
        str(inspect.signature(function)),
        function.__name__,
        function.__module__,
        normal(repr(coroutine)),
        coroutine.cr_code.co_name,
        sorted(coroutine.cr_frame.f_locals.items(), key=str)[0][0],
        coroutine.cr_frame.f_locals["args"],
        raised(function)[0],
        raised(function, func=int)[0],
    ]
    coroutine.close()
    keywords = function(dict, a=1)
    trace.append(keywords.cr_frame.f_locals["kwargs"])
    trace.append(raised(keywords.send, None))
    return trace


@parity
def test_to_thread_copies_the_context_at_its_first_step(w):
    async def main():
        VARIABLE.set("at the call")
        coroutine = w.aio.to_thread(VARIABLE.get)
        VARIABLE.set("at the first step")
        trace = [await coroutine]

        def change():
            VARIABLE.set("in the thread")
            return VARIABLE.get()

        trace += [await w.aio.to_thread(change), VARIABLE.get()]

        def nested():
            context = contextvars.copy_context()
            return context.run(VARIABLE.get), list(context) == list(contextvars.copy_context())

        trace.append(await w.aio.to_thread(nested))
        return trace

    return w.run(main)


@parity
def test_to_thread_goes_through_a_replaced_run_in_executor(w):
    seen = []

    async def main():
        loop = w.aio.get_running_loop()
        VARIABLE.set("in the task")

        def replaced(executor, func, *args):
            seen.append((executor, type(func).__name__, args))
            future = loop.create_future()
            future.set_result(func())
            return future

        loop.run_in_executor = replaced
        trace = [await w.aio.to_thread(lambda *a, **k: (a, k, VARIABLE.get()), 1, key=2)]
        del loop.run_in_executor
        return [*trace, await w.aio.to_thread(int, "3")]

    return w.run(main), seen


@parity
def test_arguments_are_let_go_of(w):
    class Thing:
        pass

    async def main():
        thing = Thing()
        alive = weakref.ref(thing)
        await w.aio.to_thread(id, thing)
        del thing
        await until(lambda: alive() is None)
        thing = Thing()
        alive = weakref.ref(thing)
        result = await w.aio.to_thread(lambda x: x, thing)
        same = result is thing
        del thing, result
        await until(lambda: alive() is None or gc.collect() < 0)
        return [same, alive() is None]

    return w.run(main)


@parity
def test_the_end_of_a_program_waits_for_its_threads(w):
    done = w.program(
        """
import sys, threading
gate = threading.Event()
async def main():
    loop = aio.get_running_loop()
    loop.run_in_executor(None, lambda: (gate.wait(10), sys.stdout.write("worked\\n")))
    gate.set()
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
sys.stdout.write("main ends\\n")
"""
    )
    return done.status, sorted(done.out.split("\n")), done.err


# ---- concurrent.futures.Future and asyncio's -----------------------------------------------------------------------


@parity
def test_wrapping(w):
    async def main():
        loop = w.aio.get_running_loop()
        trace = [str(inspect.signature(w.aio.wrap_future))]
        source = concurrent.futures.Future()
        wrapped = w.aio.wrap_future(source)
        trace += [normal(repr(wrapped)), wrapped.get_loop() is loop, len(source._done_callbacks)]
        trace.append(normal(getattr(source._done_callbacks[0], "__qualname__", "")))
        threading.Thread(target=source.set_result, args=(5,)).start()
        trace.append(await wrapped)

        source = concurrent.futures.Future()
        wrapped = w.aio.wrap_future(source, loop=loop)
        trace += [wrapped.cancel("text"), source.cancelled()]
        await w.aio.sleep(0)
        trace += [source.cancelled(), await araised(wrapped)]

        source = concurrent.futures.Future()
        source.set_running_or_notify_cancel()
        wrapped = w.aio.wrap_future(source)
        wrapped.cancel()
        await w.aio.sleep(0)
        trace.append(source.cancelled())
        source.set_result("too late")
        await w.aio.sleep(0)
        trace.append(await araised(wrapped))

        for exception in (ValueError("v"), concurrent.futures.CancelledError("c"), TimeoutError("t")):
            source = concurrent.futures.Future()
            wrapped = w.aio.wrap_future(source)
            source.set_exception(exception)
            trace.append(await araised(wrapped))
            trace.append(type(wrapped.exception()).__module__)

        source = concurrent.futures.Future()
        wrapped = w.aio.wrap_future(source)
        in_thread(source.cancel)
        trace.append(await araised(wrapped))
        trace.append(outcome(w.aio.wrap_future, wrapped) is wrapped)
        trace += [raised(w.aio.wrap_future, 1), raised(w.aio.wrap_future)[0]]
        trace.append(raised(w.aio.wrap_future, source, loop)[0])
        return trace

    return w.run(main)


@parity
def test_wrapping_a_subclass(w):
    class Subclass(concurrent.futures.Future):
        def result(self, timeout=None):
            return ("changed", super().result(timeout))

    async def main():
        source = Subclass()
        wrapped = w.aio.wrap_future(source)
        source.set_result(5)
        return [await wrapped]

    # 3.15 takes a snapshot past result().
    return w.run(main)


@parity
@pytest.mark.parametrize("where", ["before", "here", "thread"])
def test_the_turns_of_a_wrapped_future(w, where):
    loop = w.new_event_loop()

    async def main():
        source = concurrent.futures.Future()
        if where == "before":
            source.set_result(1)
        turns = Generations(loop)
        wrapped = w.aio.wrap_future(source)
        wrapped.add_done_callback(lambda _: turns("callback"))
        if where == "here":
            source.set_result(1)
        elif where == "thread":
            in_thread(lambda: source.set_result(1))
        turns(("done at once", wrapped.done()))
        await wrapped
        turns("task")
        return turns.log

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@parity
def test_a_source_that_is_done_after_the_loop_closed(w):
    source = concurrent.futures.Future()
    with w.loop() as loop:

        async def main():
            return w.aio.wrap_future(source)

        wrapped = loop.run_until_complete(main())
    source.set_result(1)
    return wrapped.done(), source.result()


@parity
def test_a_source_that_is_done_after_its_wrapper(w, monkeypatch):
    told, errors = [], []
    log = concurrent.futures._base.LOGGER
    monkeypatch.setattr(log, "exception", lambda *args: told.append(error(sys.exc_info()[1])))

    async def main():
        for elsewhere in (False, True):
            source = concurrent.futures.Future()
            wrapped = w.aio.wrap_future(source)
            wrapped.set_result("mine")
            if elsewhere:
                in_thread(lambda source=source: source.set_result("late"))
            else:
                source.set_result("late")
            await until(lambda: told or errors)
            told.append(await wrapped)

    w.run(main, errors=errors)
    return told, [(exc, keys) for message, exc, keys in errors]


def running_loop(w):
    """A loop that runs in a thread of its own, and how to end it."""
    loop = w.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def end():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()

    return loop, end


@parity
def test_submitting_coroutines(w):
    loop, end = running_loop(w)

    async def work(value):
        await w.aio.sleep(0)
        if isinstance(value, BaseException):
            raise value
        return value, w.aio.get_running_loop() is loop, VARIABLE.get()

    try:
        VARIABLE.set("of the caller")
        submit = w.aio.run_coroutine_threadsafe
        trace = [str(inspect.signature(submit)), type(submit(work(1), loop)) is concurrent.futures.Future]
        trace.append(submit(work("x"), loop).result(10))
        trace.append(submit(coro=work("y"), loop=loop).result(10))
        invalid = asyncio.InvalidStateError("i")
        for exception in (ValueError("v"), asyncio.CancelledError("c"), invalid, TimeoutError("t")):
            try:
                submit(work(exception), loop).result(10)
            except BaseException as exc:
                trace.append((type(exc).__name__, type(exc).__module__, exc.args))
        waiting = submit(w.aio.sleep(1000), loop)
        trace += [raised(waiting.result, 0.01), waiting.cancel(), waiting.cancelled()]
        seen = threading.Event()
        done = submit(work(3), loop)
        done.add_done_callback(lambda future: seen.set())
        trace.append(seen.wait(10))
        trace += [raised(submit, 1, loop), raised(submit, work, loop), raised(submit)[0]]
        return trace
    finally:
        end()


@parity
def test_cancelling_from_either_side(w):
    loop, end = running_loop(w)
    started, ended = threading.Event(), []

    async def work():
        started.set()
        try:
            await w.aio.sleep(1000)
        except asyncio.CancelledError as exc:
            ended.append(exc.args)
            raise

    async def cancels_itself():
        w.aio.current_task().cancel()
        await w.aio.sleep(0)

    try:
        future = w.aio.run_coroutine_threadsafe(work(), loop)
        started.wait(10)
        trace = [future.cancel(), raised(future.result, 10)]
        w.aio.run_coroutine_threadsafe(w.aio.sleep(0), loop).result(10)
        w.aio.run_coroutine_threadsafe(w.aio.sleep(0), loop).result(10)
        trace += [list(ended), raised(w.aio.run_coroutine_threadsafe(cancels_itself(), loop).result, 10)]
        return trace
    finally:
        end()


@parity
def test_a_loop_that_can_make_no_task(w):
    errors = []
    with w.loop(errors=errors) as loop:

        def factory(loop, coro, **kwargs):
            coro.close()
            raise ValueError("no tasks today")

        async def work():
            pass

        loop.set_task_factory(factory)
        future = w.aio.run_coroutine_threadsafe(work(), loop)
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        loop.set_task_factory(None)
        trace = [raised(future.result, 0)]
    return trace, [(message.split(" at ")[0], exc, keys) for message, exc, keys in errors]


@parity
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_closed_loop_takes_no_coroutine(w):
    loop = w.new_event_loop()
    loop.close()
    coroutine = w.aio.sleep(1)
    trace = raised(w.aio.run_coroutine_threadsafe, coroutine, loop)
    coroutine.close()
    return trace


@parity
def test_many_at_once_from_many_threads(w):
    loop, end = running_loop(w)

    async def add(n):
        await w.aio.sleep(0)
        return await w.aio.to_thread(lambda: n + 1)

    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            submit = w.aio.run_coroutine_threadsafe
            return [sorted(pool.map(lambda n: submit(add(n), loop).result(20), range(400))) == list(range(1, 401))]
    finally:
        end()
