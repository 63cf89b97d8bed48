"""Debug mode: slow callbacks, calls from the wrong thread, places of creation, callables checked, defaults."""

import asyncio
import gc
import re
import sys
import time
import traceback
import warnings

import pytest
from worlds import araised, asyncio_log, drain, in_thread, normal, parity, raised, run_python, since

WRONG_THREAD = (
    "RuntimeError",
    "Non-thread-safe operation invoked on an event loop other than the current one",
)


def lines_out(text):
    return re.sub(r"(\.py):\d+", r"\1:L", re.sub(r"when=[\d.]+", "when=W", text))


@parity
def test_the_switch(w):
    loop = w.new_event_loop()
    trace = [loop.get_debug()]
    for value in (True, False, True):
        loop.set_debug(value)
        trace.append(loop.get_debug())
    loop.set_debug(False)
    trace.append(loop.slow_callback_duration)
    loop.slow_callback_duration = 0.5
    trace.append(loop.slow_callback_duration)
    loop.close()
    return trace


@parity
@pytest.mark.parametrize("how", ["environment", "-X dev", "-X utf8"])
def test_where_the_default_comes_from(w, how):
    source = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    args = ["-X", how[3:]] if how.startswith("-X") else []
    env = {"PYTHONASYNCIODEBUG": "1"} if how == "environment" else {}
    done = run_python([*args, "-W", "ignore", "-c", w.preamble + "\n" + source], env=env)
    assert done.err == ""
    assert done.out.strip() == str(how != "-X utf8")
    return done


@parity
def test_slow_callbacks_are_reported(w):
    with w.loop(debug=True) as loop, asyncio_log() as log:
        loop.slow_callback_duration = 0.02

        def slow(*args):
            time.sleep(0.03)

        async def slow_coroutine():
            time.sleep(0.03)
            await w.aio.sleep(0)
            time.sleep(0.03)

        loop.call_soon(slow, 1)
        loop.call_soon_threadsafe(slow)
        loop.call_later(0, slow)
        loop.run_until_complete(loop.create_task(slow_coroutine(), name="slow"))
    slow_reports = [entry for entry in log if entry[1].startswith("Executing")]
    assert len(slow_reports) == 5
    assert slow_reports[0][1].startswith("Executing <Handle test_slow_callbacks_are_reported.<locals>.slow(1)")
    assert slow_reports[0][1].endswith("took S seconds")
    noise = r" created at .*?(?=>)| cb=\[.*?\]| wait_for=<[^>]*>|_ThreadSafe(?=Handle)"
    return sorted((level, re.sub(noise, "", lines_out(text))) for level, text in slow_reports)


@parity
def test_quick_callbacks_are_not_reported(w):
    with w.loop(debug=True) as loop, asyncio_log() as log:
        loop.slow_callback_duration = 5
        loop.call_soon(time.sleep, 0.02)
        drain(loop, 3)
    assert log == []
    return ["quiet"]


@parity
def test_without_debug_nothing_is_reported(w):
    with w.loop() as loop, asyncio_log() as log:
        loop.slow_callback_duration = 0.001
        loop.call_soon(time.sleep, 0.02)
        drain(loop, 3)
    assert log == []
    return ["quiet"]


@parity
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("call", ["call_soon", "call_later", "call_at", "create_task", "set_result", "threadsafe"])
def test_the_wrong_thread(w, call, running):
    with w.loop(debug=True, errors=[]) as loop:  # create_task leaves a task that nothing steps, stock complains later
        fut = loop.create_future()
        fut.add_done_callback(lambda _: None)

        async def coroutine():
            pass

        def create():
            made = coroutine()
            try:
                loop.create_task(made)._log_destroy_pending = False
            finally:
                made.close()

        calls = {
            "call_soon": lambda: loop.call_soon(print),
            "call_later": lambda: loop.call_later(1, print),
            "call_at": lambda: loop.call_at(1, print),
            "create_task": create,
            "set_result": lambda: fut.set_result(1),
            "threadsafe": lambda: loop.call_soon_threadsafe(int),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            if running:

                async def main():
                    return await loop.run_in_executor(None, lambda: answer(calls[call]))

                result = loop.run_until_complete(main())
            else:
                result = in_thread(lambda: answer(calls[call]))
            gc.collect()
        if call == "threadsafe":
            assert result == "allowed"
        elif running:
            assert result == WRONG_THREAD
        return result


def answer(call):
    try:
        call()
    except RuntimeError as exc:
        return type(exc).__name__, str(exc)
    return "allowed"


@parity
def test_without_debug_the_wrong_thread_is_not_noticed(w):
    with w.loop() as loop:

        async def main():
            return await loop.run_in_executor(None, lambda: answer(lambda: loop.call_soon(int)))

        return loop.run_until_complete(main())


@parity
def test_callables_are_checked(w):
    async def coroutine():
        pass

    with w.loop(debug=True) as loop:
        trace = []
        made = coroutine()
        for thing in (1, None, "text", coroutine, made):
            for schedule in (
                loop.call_soon,
                loop.call_soon_threadsafe,
                lambda t: loop.call_later(1, t),
                lambda t: loop.call_at(1, t),
                lambda t: loop.run_in_executor(None, t),
            ):
                trace.append(raised(schedule, thing))
        made.close()
        assert ("TypeError", "a callable object was expected by call_soon(), got 1") in trace
        assert ("TypeError", "coroutines cannot be used with call_soon()") in trace
        return trace


@parity
def test_without_debug_things_that_cannot_be_called_fail_when_they_run(w):
    errors = []
    with w.loop(errors=errors) as loop:
        for thing in (1, None):
            loop.call_soon(thing)
        loop.call_later(-1, 2)
        drain(loop, 3)
    assert len(errors) == 3
    return [(exc, keys) for _, exc, keys in errors]


@parity
def test_source_tracebacks(w):
    with w.loop(debug=True) as loop:

        async def coroutine():
            pass

        things = {
            "future": w.aio.Future(loop=loop),
            "task": loop.create_task(coroutine()),
            "handle": loop.call_soon(int),
            "timer": loop.call_later(1, int),
            "threadsafe": loop.call_soon_threadsafe(int),
        }
        trace = {}
        for name, thing in things.items():
            stack = thing._source_traceback
            assert isinstance(stack, traceback.StackSummary)
            trace[name] = stack[-1].name, stack[-1].line
        drain(loop, 3)
        return trace


@parity
def test_no_source_tracebacks_without_debug(w):
    with w.loop() as loop:
        return [
            loop.create_future()._source_traceback,
            loop.call_soon(int)._source_traceback,
            loop.call_later(1, int)._source_traceback,
        ]


@parity
def test_coroutine_origins(w):
    async def never():
        pass

    with w.loop(debug=True) as loop:

        async def main():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                never()
            return [
                (w_.category.__name__, "Coroutine created at (most recent call last)" in str(w_.message))
                for w_ in caught
            ]

        trace = loop.run_until_complete(main())
        assert trace == [("RuntimeWarning", True)]
        return trace


@parity
def test_sockets_must_not_block(w):
    import socket

    left, right = socket.socketpair()
    with left, right, w.loop(debug=True) as loop:

        async def main():
            return [
                await araised(loop.sock_recv(left, 1)),
                await araised(loop.sock_recv_into(left, bytearray(1))),
                await araised(loop.sock_sendall(left, b"x")),
                await araised(loop.sock_connect(left, "/nowhere")),
                await araised(loop.sock_accept(left)),
                await araised(loop.sock_recvfrom(left, 1)),
                await araised(loop.sock_recvfrom_into(left, bytearray(1))),
                await araised(loop.sock_sendto(left, b"x", "/nowhere")),
            ]

        trace = loop.run_until_complete(main())
        assert trace[0] == ("ValueError", "the socket must be non-blocking")
        return trace


@parity
def test_everything_still_works_in_debug_mode(w):
    async def child(name):
        await w.aio.sleep(0.001)
        return name

    async def main():
        async with w.aio.TaskGroup() as group:
            tasks = [group.create_task(child(n)) for n in range(5)]
        lock = w.aio.Lock()
        async with lock:
            gathered = await w.aio.gather(*(child(n) for n in "ab"))
        shielded = await w.aio.shield(child("s"))
        timed = await w.aio.wait_for(child("t"), 5)
        return [t.result() for t in tasks], gathered, shielded, timed, await w.aio.to_thread(int, "5")

    with asyncio_log() as log:
        result = w.run(main, debug=True)
    assert [entry for entry in log if "Executing" not in entry[1]] == []
    return result


@parity
def test_a_task_that_raises_in_debug_mode_names_its_birthplace(w):
    with w.loop(debug=True) as loop, asyncio_log() as log:
        loop.set_exception_handler(None)

        async def fail():
            raise KeyError("k")

        task = loop.create_task(fail(), name="fails")
        drain(loop, 3)
        del task
    text = next(message for _, message in log if "never retrieved" in message)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("task = ")]


@parity
@since(3, 12)
def test_eager_tasks_in_debug_mode(w):
    with w.loop(debug=True) as loop:
        loop.set_task_factory(w.aio.eager_task_factory)

        async def child():
            return "eager"

        async def main():
            task = loop.create_task(child())
            return task.done(), task._source_traceback is not None

        return loop.run_until_complete(main())


def test_no_debug_of_ours_by_default(world):
    assert not sys.flags.dev_mode
    loop = world.new_event_loop()
    assert loop.get_debug() is asyncio.coroutines._is_debug_mode()
    assert normal(repr(loop)).endswith("debug=False>")
    loop.close()
