"""Wrong types answered as CPython words them, compared with stock in the same test."""

import asyncio
import socket
import warnings

import pytest
from worlds import araised, drain, parity, raised


async def noop():
    pass


@parity
def test_call_soon_in_debug(w):
    with w.loop(debug=True) as loop:
        trace = [raised(loop.call_soon, thing) for thing in (1, None, "text", [], noop)]
        assert trace[0] == ("TypeError", "a callable object was expected by call_soon(), got 1")
        return trace


@parity
def test_timers(w):
    with w.loop() as loop:
        trace = [raised(loop.call_later, None, print), raised(loop.call_at, None, print)]
        assert trace == [("TypeError", "delay must not be None"), ("TypeError", "when cannot be None")]
        return [*trace, raised(loop.call_later, "1", print)[0], raised(loop.call_later, [], print)[0]]


@parity
@pytest.mark.parametrize("thing", [None, 1, "text", print, noop, object(), [], asyncio], ids=str)
def test_create_task(w, thing):
    with w.loop() as loop:
        trace = [raised(loop.create_task, thing), raised(w.aio.Task, thing, loop=loop)]
        assert trace[0][0] == "TypeError"
        assert trace[0][1].startswith("a coroutine was expected, got ")
        return trace


@parity
def test_run_until_complete(w):
    with w.loop() as loop:
        return [raised(loop.run_until_complete, thing) for thing in (None, 1, "text", noop, [])]


@parity
def test_run(w):
    trace = []
    for thing in (None, 1, noop, [noop]):
        kind, text = raised(w.aio.run, thing)
        trace.append((kind, text))
    with pytest.raises(TypeError):
        w.aio.run()
    assert trace[0][0] in ("ValueError", "TypeError")
    return trace


@parity
@pytest.mark.parametrize("name", ["sleep", "wait_for", "shield", "gather", "wait", "timeout", "ensure_future"])
def test_functions(w, name):
    async def main():
        function = getattr(w.aio, name)
        calls = {
            "sleep": [("x",), (None,), ([],)],
            "wait_for": [(1, 1), (None, None)],
            "shield": [(1,), (None,)],
            "gather": [(1,), (None, 2)],
            "wait": [(5,), ([],), (noop,), ([1],)],
            "timeout": [("x",)],
            "ensure_future": [(1,), (noop,)],
        }[name]
        trace = []
        for arguments in calls:

            async def attempt(arguments=arguments):
                result = function(*arguments)
                if name == "timeout":
                    async with result:
                        await w.aio.sleep(0)
                    return
                await result

            trace.append(await araised(attempt()))
        return trace

    return w.run(main)


@parity
def test_sleep_that_is_not_a_number(w):
    """3.13 and newer refuse it with a ValueError; older versions take it."""

    async def main():
        try:
            await asyncio.wait_for(w.aio.sleep(float("nan")), 0.01)
        except ValueError as exc:
            return str(exc)
        except TimeoutError:
            return "waits"
        return "returns"

    return w.run(main) if hasattr(asyncio, "QueueShutDown") else "left open by this version"


@parity
def test_setters(w):
    with w.loop() as loop:
        return [
            raised(loop.set_exception_handler, 1),
            raised(loop.set_task_factory, 1),
            raised(loop.set_default_executor, 1),
            raised(loop.add_signal_handler, "x", print),
            raised(loop.call_exception_handler)[0],
            raised(loop.set_debug)[0],
        ]


@parity
def test_descriptors(w):
    with w.loop() as loop:
        trace = []
        for thing in (None, "x", -1, 1.5, [], object):
            trace.append(raised(loop.add_reader, thing, print))
            trace.append(raised(loop.remove_writer, thing))
        return [(kind, text.split(" object at")[0]) for kind, text in trace]


@parity
def test_transports(w):
    left, right = socket.socketpair()
    with right, w.loop() as loop:

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            trace = []
            for data in ("text", None, 1, 1.5, [b"x"], object):
                trace.append(raised(transport.write, data))
            for data in ("text", None, 1, object):
                trace.append(type_of(transport.writelines, data))
            for protocol in (None, 1, "text"):
                trace.append(type_of(transport.set_protocol, protocol))
            transport.set_protocol(asyncio.Protocol())
            trace.append(raised(transport.set_write_buffer_limits, high=-1))
            trace.append(raised(transport.set_write_buffer_limits, high=1, low=2))
            trace.append((transport.is_closing(), transport.get_write_buffer_size()))
            transport.write(b"still works")
            await asyncio.sleep(0)
            trace.append(right.recv(100))
            transport.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return trace

        trace = loop.run_until_complete(main())
        assert trace[0][0] == "TypeError"
        assert trace[0][1].startswith("data argument must be a bytes")
        return trace


def type_of(call, *args):
    try:
        call(*args)
    except Exception as exc:
        return type(exc).__name__
    return "taken"


def test_a_transport_cannot_be_made_by_hand_into_a_crash(ours):
    """_core's classes called in any way answer with an exception."""
    if ours.name != "native":
        pytest.skip("about the extension module")
    from asynchrotron import _core

    for name in dir(_core):
        thing = getattr(_core, name)
        if not isinstance(thing, type) or issubclass(thing, BaseException):
            continue
        for arguments in ((), (1,), (None, None), (print, (), None), (1, 2, 3, 4, 5, 6)):
            try:
                made = thing(*arguments)
            except Exception:
                continue
            repr(made)
            if hasattr(made, "close"):
                try:
                    made.close()
                except Exception:
                    pass


def test_objects_made_without_init(ours):
    """__new__ alone leaves half-made objects: every method answers, nothing crashes."""
    if ours.name != "native":
        pytest.skip("about the extension module")
    import inspect

    from asynchrotron import _core

    for kind in (
        _core.Future,
        _core.Task,
        _core.Handle,
        _core.TimerHandle,
        _core.EventLoop,
        _core.StreamTransport,
        _core.StreamReader,
        _core.StreamWriter,
        _core.StreamReaderProtocol,
    ):
        try:
            thing = kind.__new__(kind)
        except TypeError:
            continue
        type_of(repr, thing)
        for name in dir(thing):
            if name in (
                "__class__",
                "__init_subclass__",
                "__subclasshook__",
                "__reduce_ex__",
                "run_forever",
                "_run_turns",
            ):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    attribute = getattr(thing, name)
                except Exception:
                    continue
                if callable(attribute) and not isinstance(attribute, type):
                    for arguments in ((), (1,), (1, print)):
                        outcome = call_quietly(attribute, arguments)
                        if inspect.iscoroutine(outcome):
                            outcome.close()


def call_quietly(function, arguments):
    try:
        return function(*arguments)
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt):
            raise
        return None


@parity
def test_the_argument_clinic_of_loop_methods(w):
    """Too few, too many and unknown arguments raise TypeError everywhere, and leave the loop usable."""
    calls = {
        "call_soon": [(), {"callback": print, "nonsense": 1}],
        "call_later": [(), (1,)],
        "call_at": [(), (1,)],
        "call_soon_threadsafe": [()],
        "create_future": [(1,)],
        "create_task": [(), (noop, 1, 2, 3)],
        "time": [(1,)],
        "stop": [(1,)],
        "is_running": [(1,)],
        "is_closed": [(1,)],
        "get_debug": [(1,)],
        "set_debug": [()],
        "close": [(1,)],
        "run_forever": [(1,)],
    }
    with w.loop() as loop:
        trace = []
        for name, attempts in calls.items():
            for arguments in attempts:
                if isinstance(arguments, dict):
                    trace.append((name, raised(getattr(loop, name), **arguments)[0]))
                else:
                    trace.append((name, raised(getattr(loop, name), *arguments)[0]))
        seen = []
        loop.call_soon(seen.append, "usable")
        drain(loop, 2)
        return trace, seen


@parity
def test_keyword_names_of_loop_methods(w):
    """asyncio's parameters may be given by name."""
    with w.loop() as loop:
        seen = []
        loop.call_soon(callback=lambda: seen.append("soon"))
        loop.call_soon_threadsafe(callback=lambda: seen.append("threadsafe"))
        loop.call_later(delay=0, callback=lambda: seen.append("later"))
        loop.call_at(when=0, callback=lambda: seen.append("at"))
        loop.set_debug(enabled=False)
        task = loop.create_task(coro=noop(), name="n")
        drain(loop, 3)
        return sorted(seen), task.done()
