"""Running, stopping, closing: what still runs after stop(), which state the loop is in, the words of each refusal."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import socket
import sys
import threading
import warnings
import weakref

import pytest
from children import open_descriptors
from worlds import araised, error, in_thread, normal, outcome, parity, raised


@contextlib.contextmanager
def socket_pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@parity
def test_stop_lets_the_turn_end_and_keeps_the_rest(w):
    with w.loop() as loop:
        seen = []

        def stopper():
            seen.append("stopper")
            loop.stop()
            loop.call_soon(seen.append, "queued after stop")

        loop.call_soon(seen.append, "before")
        loop.call_soon(stopper)
        loop.call_soon(seen.append, "after, same turn")
        loop.call_soon(loop.call_soon, seen.append, "next turn")
        loop.run_forever()
        seen.append("-- stopped")
        loop.call_soon(loop.stop)
        loop.run_forever()
        return seen


@parity
def test_stop_with_more_queued_than_any_batch(w):
    with w.loop() as loop:
        seen = []
        loop.call_soon(loop.stop)
        for number in range(500):
            loop.call_soon(seen.append, number)
        loop.call_soon(lambda: loop.call_soon(seen.append, "next turn"))
        loop.run_forever()
        first = list(seen)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert first == list(range(500))
        return first, seen[500:]


@parity
def test_stop_before_run_gives_one_turn(w):
    with w.loop() as loop, socket_pair() as (left, right):
        right.send(b"x")
        seen = []
        loop.add_reader(left, lambda: (seen.append("reader"), loop.remove_reader(left)))
        loop.call_later(-1, seen.append, "due timer")
        loop.call_soon(seen.append, "soon")
        loop.call_soon(lambda: loop.call_soon(seen.append, "next turn"))
        loop.call_soon_threadsafe(seen.append, "threadsafe")
        loop.stop()
        loop.run_forever()
        assert not loop.is_running()
        one_turn = list(seen)
        loop.stop()
        loop.run_forever()
        return one_turn, seen


@parity
def test_stop_twice_and_stop_when_not_running(w):
    with w.loop() as loop:
        seen = []
        loop.stop()
        loop.stop()
        loop.call_soon(seen.append, 1)
        loop.run_forever()
        loop.call_soon(loop.stop)
        loop.call_soon(loop.stop)
        loop.call_soon(seen.append, 2)
        loop.run_forever()
        loop.call_soon(seen.append, 3)
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        return seen


@parity
def test_stop_from_another_thread_ends_a_sleeping_loop(w):
    with w.loop() as loop:
        thread = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(loop.stop))
        thread.start()
        loop.run_forever()
        thread.join()
        return loop.is_running(), loop.is_closed()


@parity
def test_what_runs_beside_the_end_of_run_until_complete(w):
    with w.loop() as loop:
        seen = []

        async def main():
            loop.call_soon(seen.append, "soon 1")
            await w.aio.sleep(0)
            loop.call_soon(seen.append, "soon 2")
            loop.call_soon(lambda: loop.call_soon(seen.append, "soon 3"))
            loop.call_later(-1, seen.append, "due timer")
            return "result"

        seen.append(loop.run_until_complete(main()))
        loop.call_soon(loop.stop)
        loop.run_forever()
        return seen


@parity
def test_run_until_complete_takes_futures_tasks_coroutines_awaitables(w):
    class Awaitable:
        def __await__(self):
            yield
            return "awaitable"

    async def coroutine():
        return "coroutine"

    with w.loop() as loop:
        fut = loop.create_future()
        loop.call_soon(fut.set_result, "future")
        done = loop.create_future()
        done.set_result("done")
        return [
            loop.run_until_complete(fut),
            loop.run_until_complete(done),
            loop.run_until_complete(coroutine()),
            loop.run_until_complete(loop.create_task(coroutine())),
            loop.run_until_complete(Awaitable()),
            raised(loop.run_until_complete, 1),
            raised(loop.run_until_complete, None),
            raised(loop.run_until_complete, coroutine),
        ]


@parity
def test_run_until_complete_with_an_exception_and_a_cancellation(w):
    with w.loop() as loop:

        async def fail():
            raise KeyError("inside")

        async def cancelled():
            raise asyncio.CancelledError("by hand")

        async def never():
            loop.call_soon(loop.stop)
            await loop.create_future()

        trace = [raised(loop.run_until_complete, fail()), raised(loop.run_until_complete, cancelled())]
        task = loop.create_task(never())
        trace.append(raised(loop.run_until_complete, task))
        assert trace[-1] == ("RuntimeError", "Event loop stopped before Future completed.")
        return trace, task.done()


@parity
def test_a_future_of_another_loop_is_refused(w):
    with w.loop() as one, w.loop() as two:
        fut = one.create_future()
        return raised(two.run_until_complete, fut)


@parity
def test_running_twice(w):
    with w.loop() as loop, w.loop() as other:

        async def noop():
            pass

        async def main():
            coroutines = [noop(), noop()]
            trace = [
                raised(loop.run_until_complete, coroutines[0]),
                raised(other.run_until_complete, coroutines[1]),
                raised(w.aio.run, coroutines[0]),
                raised(loop.close),
                loop.is_running(),
                other.is_running(),
                w.aio.get_running_loop() is loop,
                w.aio.get_event_loop() is loop,
            ]
            for coroutine in coroutines:
                coroutine.close()
            return trace

        trace = loop.run_until_complete(main())
        assert ("RuntimeError", "This event loop is already running") in trace
        assert ("RuntimeError", "Cannot run the event loop while another loop is running") in trace
        assert ("RuntimeError", "Cannot close a running event loop") in trace
        return trace, loop.is_running(), loop.is_closed()


def stock_survives_a_refused_run_forever():
    """3.13.0 cleans up after a run that it refused, and so stops the loop that is running."""
    source = inspect.getsource(asyncio.BaseEventLoop.run_forever)
    return "_run_forever_setup" not in source or source.index("_run_forever_setup") < source.index("try:")


def test_run_forever_twice(world):
    if world.stock and not stock_survives_a_refused_run_forever():
        pytest.skip("this Python's own loop breaks here")
    with world.loop() as loop, world.loop() as other:

        async def main():
            here = raised(loop.run_forever)
            assert raised(other.run_forever) == (
                "RuntimeError",
                "Cannot run the event loop while another loop is running",
            )
            there = await loop.run_in_executor(None, raised, loop.run_forever)
            await world.aio.sleep(0.001)
            assert world.aio.get_running_loop() is loop
            assert loop.is_running()
            return here, there

        refused = ("RuntimeError", "This event loop is already running")
        assert loop.run_until_complete(main()) == (refused, refused)


@parity
def test_running_in_two_threads(w):
    with w.loop() as loop:

        async def main():
            fut = loop.create_future()
            return await loop.run_in_executor(None, raised, loop.run_until_complete, fut)

        return loop.run_until_complete(main())


@parity
def test_no_running_loop(w):
    return raised(w.aio.get_running_loop), raised(w.aio.current_task), raised(w.aio.all_tasks)


@parity
def test_get_event_loop_in_a_thread_without_one(w):
    return in_thread(w.aio.get_event_loop)


@parity
def test_running_loop_is_per_thread(w):
    with w.loop() as loop:

        async def main():
            return await loop.run_in_executor(None, lambda: raised(w.aio.get_running_loop))

        return loop.run_until_complete(main())


@parity
def test_a_closed_loop_refuses(w):
    loop = w.new_event_loop()
    loop.close()
    loop.close()
    assert loop.is_closed()
    left, right = socket.socketpair()
    with left, right, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that cannot be run

        async def coroutine():
            pass

        with w.loop() as other:
            trace = {
                "call_soon": raised(loop.call_soon, print),
                "call_soon_threadsafe": raised(loop.call_soon_threadsafe, print),
                "call_later": raised(loop.call_later, 1, print),
                "call_at": raised(loop.call_at, 1, print),
                "run_forever": raised(loop.run_forever),
                "run_until_complete": raised(loop.run_until_complete, coroutine()),
                "create_task": raised(loop.create_task, coroutine()),
                "run_in_executor": raised(loop.run_in_executor, None, print),
                "add_reader": raised(loop.add_reader, left, print),
                "add_writer": raised(loop.add_writer, left, print),
                "remove_reader": outcome(loop.remove_reader, left),
                "remove_writer": outcome(loop.remove_writer, left),
                "stop": outcome(loop.stop),
                "future": isinstance(loop.create_future(), asyncio.Future),
                "create_connection": other.run_until_complete(araised(loop.create_connection(print, "127.0.0.1", 9))),
                "time": loop.time() > 0,
                "get_debug": loop.get_debug(),
                "is_running": loop.is_running(),
            }
        gc.collect()
    assert trace["call_soon"] == trace["call_soon_threadsafe"] == ("RuntimeError", "Event loop is closed")
    return trace


@parity
def test_finishing_a_future_of_a_closed_loop(w):
    """Without callbacks that is allowed; with one the loop is asked to run it and says that it is closed."""
    with w.loop() as loop:
        plain, watched = loop.create_future(), loop.create_future()
        watched.add_done_callback(print)
    plain.set_result(1)
    answer = raised(watched.set_result, 2)
    return plain.result(), answer, watched.done()


@parity
def test_closing_drops_what_was_queued(w):
    seen = []

    class Payload:
        def __call__(self):
            raise AssertionError("ran after close")

        def __del__(self):
            seen.append("dropped")

    loop = w.new_event_loop()
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        schedule(Payload())
    loop.call_later(1000, Payload())
    loop.close()
    gc.collect()
    assert seen == ["dropped"] * 3
    return seen


@parity
def test_a_closed_loop_holds_no_descriptor(w):
    before = open_descriptors()
    loop = w.new_event_loop()
    threads = []
    refused = []

    async def main():
        # Wakes the loop, and tries to again once it is closed.
        closed, woken = threading.Event(), loop.create_future()

        def work():
            loop.call_soon_threadsafe(woken.set_result, None)
            closed.wait()
            refused.append(raised(loop.call_soon_threadsafe, print))
            loop._write_to_self()

        threads.append((threading.Thread(target=work), closed))
        threads[0][0].start()
        await woken

    loop.run_until_complete(main())
    loop.close()
    ((thread, closed),) = threads
    closed.set()
    thread.join()
    return open_descriptors() == before, refused, loop.is_closed()


@parity
def test_an_unclosed_loop_warns(w):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = w.new_event_loop()
        del loop
        gc.collect()
    found = [(c.category.__name__, normal(c.message)) for c in caught if "event loop" in str(c.message)]
    assert found == [("ResourceWarning", "unclosed event loop <LOOP running=False closed=False debug=False>")]
    return found


@parity
def test_a_closed_loop_is_collected(w):
    """Alone, in a cycle of its own, and after it ran tasks, timers, a server and a connection."""
    gone = []

    async def busy():
        loop = w.aio.get_running_loop()
        loop.call_later(1000, print, loop)
        left, right = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        await loop.run_in_executor(None, int)
        transport.close()
        server.close()
        right.close()
        await server.wait_closed()
        await w.aio.gather(*(w.aio.sleep(0) for _ in range(3)))

    for scene in ("alone", "cycle", "busy"):
        loop = w.new_event_loop()
        if scene == "cycle":
            loop.me = loop
            loop.set_exception_handler(lambda *_, loop=loop: None)
        if scene == "busy":
            loop.run_until_complete(busy())
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        ref = weakref.ref(loop)
        del loop
        gc.collect()
        gone.append((scene, ref() is None))
    assert gone == [("alone", True), ("cycle", True), ("busy", True)]
    return gone


@parity
def test_repr_of_a_loop(w):
    loop = w.new_event_loop()
    states = [normal(repr(loop))]

    async def main():
        states.append(normal(repr(loop)))

    loop.run_until_complete(main())
    loop.set_debug(True)
    states.append(normal(repr(loop)))
    loop.close()
    states.append(normal(repr(loop)))
    return states


@parity
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_base_exceptions_leave_the_loop_and_it_can_run_again(w, kind):
    with w.loop() as loop:
        seen = []

        def leave():
            raise kind("now")

        loop.call_soon(seen.append, "before")
        loop.call_soon(leave)
        loop.call_soon(seen.append, "after, same turn")
        seen.append(raised(loop.run_forever))
        seen.append(loop.is_running())
        loop.call_soon(loop.stop)
        loop.run_forever()
        seen.append("-- second run")

        async def main():
            raise kind("in a task")

        task = loop.create_task(main())
        seen.append(raised(loop.run_until_complete, task))
        seen.append((task.done(), error(task.exception())))
        loop.call_soon(loop.stop)
        loop.run_forever()
        return seen


@parity
@pytest.mark.parametrize("kind", [ValueError, GeneratorExit, StopIteration, asyncio.CancelledError, BaseException])
def test_other_exceptions_in_a_callback_go_to_the_handler(w, kind):
    errors = []
    with w.loop(errors=errors) as loop:
        seen = []

        def fail():
            raise kind("from a callback")

        loop.call_soon(fail)
        loop.call_soon(seen.append, "goes on")
        loop.call_later(0.001, fail)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
    assert len(errors) == 2
    return seen, [(normal_callback(m), exc, keys) for m, exc, keys in errors]


def normal_callback(message):
    return message.replace("test_other_exceptions_in_a_callback_go_to_the_handler.<locals>.", "")


@parity
def test_hooks_of_the_thread_are_put_back(w):
    seen = []
    with w.loop() as loop:
        outside = sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()

        async def main():
            hooks = sys.get_asyncgen_hooks()
            seen.append((hooks.firstiter is not None, hooks.finalizer is not None))
            seen.append(sys.get_coroutine_origin_tracking_depth())
            loop.set_debug(True)
            seen.append(sys.get_coroutine_origin_tracking_depth())
            loop.set_debug(False)
            seen.append(sys.get_coroutine_origin_tracking_depth())

        loop.run_until_complete(main())
        assert (sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()) == outside
        loop.set_debug(True)

        async def debugged():
            seen.append(sys.get_coroutine_origin_tracking_depth())

        loop.run_until_complete(debugged())
        assert (sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()) == outside
        loop.set_debug(False)
    return seen


# --- Runner and run -----------------------------------------------------------------------------------------------


def runner(w, **kwargs):
    """Runner as a user of this world makes it: the native one needs no factory."""
    factory = {} if w.name in ("stock", "native") else {"loop_factory": w.new_event_loop}
    return w.aio.Runner(**factory, **kwargs)


@parity
def test_runner_life(w):
    variable = contextvars.ContextVar("variable", default="default")
    trace = []
    with runner(w) as run:

        async def main(value):
            trace.append(variable.get())
            variable.set(value)
            return value

        trace.append(run.run(main("one")))
        trace.append(run.run(main("two")))
        trace.append(variable.get())
        context = contextvars.copy_context()
        trace.append(run.run(main("three"), context=context))
        trace.append(context[variable])
        loop = run.get_loop()
        assert type(loop) is type(w_loop := w.new_event_loop())
        w_loop.close()
        trace.append(loop.is_running())
        trace.append(raised(run.run, 1))

        async def nested():
            coroutine = main("x")
            answer = raised(run.run, coroutine)
            coroutine.close()
            return answer

        trace.append(run.run(nested()))
    trace.append(loop.is_closed())
    coroutine = main("late")
    trace.append(raised(run.run, coroutine))
    coroutine.close()
    trace.append(raised(run.get_loop))
    return trace


@parity
def test_runner_cancels_what_is_left(w):
    trace = []
    with runner(w) as run:

        async def left_over(name):
            try:
                await w.aio.sleep(1000)
            except asyncio.CancelledError:
                trace.append((name, "cancelled"))
                await w.aio.sleep(0)
                trace.append((name, "cleaned up"))
                raise

        async def generator():
            try:
                yield 1
                yield 2
            finally:
                trace.append("generator closed")

        async def main():
            for name in "ab":
                trace.append(w.aio.create_task(left_over(name)).done())
            main.generator = generator()
            trace.append(await anext(main.generator))
            await w.aio.sleep(0)

        run.run(main())
        assert len(trace) == 3
    return sorted(map(str, trace))  # all_tasks() is a set: who is cancelled first is not defined


@parity
def test_runner_reports_what_fails_while_it_cancels(w):
    contexts = []

    async def stubborn():
        try:
            await w.aio.sleep(1000)
        finally:
            raise KeyError("while cancelled")

    async def main():
        loop = w.aio.get_running_loop()
        loop.set_exception_handler(lambda _, c: contexts.append((c["message"], repr(c["exception"]), sorted(c))))
        main.task = w.aio.create_task(stubborn())
        await w.aio.sleep(0)

    with runner(w) as run:
        run.run(main())
    assert contexts[0][0] == "unhandled exception during asyncio.run() shutdown"
    return contexts


@parity
def test_runner_debug_argument(w):
    trace = []
    for debug in (None, True, False):
        with runner(w, debug=debug) as run:

            async def main():
                return w.aio.get_running_loop().get_debug()

            trace.append(run.run(main()))
    return trace


@parity
def test_main_task_of_runner(w):
    async def main():
        task = w.aio.current_task()
        return task in w.aio.all_tasks(), task.get_coro().__name__, isinstance(task, asyncio.Task)

    with runner(w) as run:
        return run.run(main())
