"""Wrong states: closed loops, second runs, other threads, other loops; each refused in CPython's words."""

import asyncio
import socket

import pytest
from worlds import araised, in_thread, parity, raised


async def noop():
    pass


def refuse(call, coroutine):
    """Give the coroutine to something that refuses it, and close it."""
    try:
        return raised(call, coroutine)
    finally:
        coroutine.close()


@parity
def test_a_closed_loop(w):
    loop = w.new_event_loop()
    loop.close()
    trace = [
        raised(loop.call_soon, print),
        raised(loop.call_later, 0, print),
        raised(loop.call_at, 0, print),
        raised(loop.call_soon_threadsafe, print),
        raised(loop.run_forever),
        refuse(loop.run_until_complete, noop()),
        raised(loop.run_in_executor, None, print),
        raised(loop.add_reader, 0, print),
    ]
    assert set(trace) == {("RuntimeError", "Event loop is closed")}
    return trace, loop.close(), loop.is_closed()


@parity
def test_closing_a_running_loop(w):
    async def main():
        return raised(w.aio.get_running_loop().close)

    answer = w.run(main)
    assert answer == ("RuntimeError", "Cannot close a running event loop")
    return answer


@parity
def test_a_second_run(w):
    async def main():
        loop = w.aio.get_running_loop()
        return refuse(loop.run_until_complete, noop()), refuse(w.aio.run, noop())

    answer = w.run(main)
    assert answer[0] == ("RuntimeError", "This event loop is already running")
    assert answer[1] == ("RuntimeError", "asyncio.run() cannot be called from a running event loop")
    return answer


@parity
def test_another_loop_is_running(w):
    with w.loop() as other:

        async def main():
            return refuse(other.run_until_complete, noop())

        answer = w.run(main)
    assert answer == ("RuntimeError", "Cannot run the event loop while another loop is running")
    return answer


def test_stock_and_ours_do_not_nest(world):
    """A loop of the world inside stock's running loop, and the other way round: the same refusal."""
    stock = asyncio.SelectorEventLoop()

    async def inside(loop):
        return refuse(loop.run_until_complete, noop())

    with world.loop() as loop:
        refused = ("RuntimeError", "Cannot run the event loop while another loop is running")
        assert stock.run_until_complete(inside(loop)) == refused
        assert loop.run_until_complete(inside(stock)) == refused
    stock.close()


@parity
def test_the_wrong_thread_in_debug(w):
    with w.loop(debug=True) as loop:

        async def main():
            return [
                await loop.run_in_executor(None, lambda: raised(loop.call_soon, print)),
                await loop.run_in_executor(None, lambda: raised(loop.call_later, 1, print)),
                await loop.run_in_executor(None, lambda: raised(loop.call_at, 1, print)),
            ]

        trace = loop.run_until_complete(main())
    assert set(trace) == {
        ("RuntimeError", "Non-thread-safe operation invoked on an event loop other than the current one")
    }
    return trace


@parity
def test_no_loop_at_all(w):
    coroutine = noop()
    try:
        return [
            raised(w.aio.get_running_loop),
            raised(w.aio.create_task, coroutine),
            raised(w.aio.current_task),
            raised(w.aio.all_tasks),
            in_thread(w.aio.get_event_loop),
        ]
    finally:
        coroutine.close()


@parity
def test_futures_in_wrong_states(w):
    with w.loop() as loop:
        fut = loop.create_future()
        trace = [raised(fut.result), raised(fut.exception)]
        fut.set_result(1)
        trace += [raised(fut.set_result, 2), raised(fut.set_exception, KeyError()), fut.cancel()]
        cancelled = loop.create_future()
        cancelled.cancel()
        trace += [raised(cancelled.set_result, 1), raised(cancelled.result), raised(cancelled.exception)]
        assert trace[0] == ("InvalidStateError", "Result is not set.")
        return trace


@parity
def test_stopping_and_closing_what_never_ran(w):
    loop = w.new_event_loop()
    loop.stop()
    loop.close()
    loop.stop()
    return loop.is_closed(), raised(loop.run_forever)


@parity
def test_loops_of_other_threads(w):
    """A loop may be made here and run there; while it runs there it cannot be run or closed here."""
    import threading

    loop, started = w.new_event_loop(), threading.Event()

    def body():
        loop.call_soon(started.set)
        loop.run_forever()

    thread = threading.Thread(target=body)
    thread.start()
    assert started.wait(10)
    fut_error = raised(loop.close)
    trace = [loop.is_running(), fut_error]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    trace.append(loop.is_running())
    loop.close()
    return trace


@parity
def test_transports_in_wrong_states(w):
    left, right = socket.socketpair()

    async def main():
        loop = w.aio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        trace = []
        transport.write_eof()
        trace.append(raised(transport.write, b"x"))
        transport.close()
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        transport.abort()
        trace.append(transport.is_closing())
        trace.append((await araised(loop.create_connection(asyncio.Protocol, sock=left)))[0])
        return trace

    with right:
        trace = w.run(main)
    assert trace[0] == ("RuntimeError", "Cannot call write() after write_eof()")
    return trace


@parity
def test_a_runner_in_wrong_states(w):
    runner = w.aio.Runner() if w.name != "loop" else w.aio.Runner(loop_factory=w.new_event_loop)
    with runner:
        coroutine = noop()
        runner.run(coroutine)
        trace = [raised(runner.run, coroutine), raised(runner.run, 5)]
    trace += [refuse(runner.run, noop()), raised(runner.get_loop), raised(runner.__enter__)]
    return trace


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_a_context_of_a_wrong_type(ours, method):
    """Refused at once, or reported when it should run: never a crash, and the loop goes on."""
    errors, seen = [], []
    with ours.loop(errors=errors) as loop:
        for context in (1, "x", object()):
            try:
                getattr(loop, method)(print, context=context)
            except (TypeError, AttributeError):
                errors.append("refused")
        loop.call_soon(seen.append, "goes on")
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
    assert len(errors) == 3
    assert seen == ["goes on"]


def test_a_task_with_a_context_of_a_wrong_type(ours):
    """Stock reports it and the task never ends; ours may refuse it at once. Ending the loop must not hang."""
    if ours.name == "uvloop":
        pytest.skip("as stock")
    with ours.loop(errors=[]) as loop:
        coroutine = noop()
        with pytest.raises((TypeError, AttributeError)):
            loop.create_task(coroutine, context=5)
        coroutine.close()
        loop.call_soon(loop.stop)
        loop.run_forever()
