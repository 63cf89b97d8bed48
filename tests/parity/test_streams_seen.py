"""Streams: what others see of a reader, subclasses of it, and readers under other drivers and loops."""

import asyncio
import inspect
import sys
import warnings

import pytest
from stream_parts import Pipe, background, fed_by_hand, noted, reader_of
from worlds import Generations, araised, normal, outcome, parity, raised

# --- what libraries look at -----------------------------------------------------------------------------------------


@parity
def test_the_buffer_seen_from_outside_is_kept_in_step(w):
    async def scene(loop, reader, note):
        reader.feed_data(b"one\n")
        buffer = reader._buffer
        note((type(buffer).__name__, bytes(buffer)))
        reader.feed_data(b"two\nthree")
        note((buffer is reader._buffer, bytes(buffer)))
        note((await reader.readline(), bytes(buffer)))
        del buffer[:1]
        note((await reader.read(2), bytes(buffer)))
        buffer += b"\nadded"
        note((await reader.readuntil(b"dd"), await reader.readexactly(1), bytes(buffer)))
        task = background(w, note, "waits", reader.read(10))
        await asyncio.sleep(0)
        reader.feed_data(b"more")
        note(bytes(buffer))
        await task
        note(bytes(buffer))
        reader._buffer = bytearray(b"other")
        note((await reader.read(10), bytes(reader._buffer)))
        buffer.extend(b"unseen")
        del buffer
        reader.feed_data(b"end")
        note((await reader.read(10), reader.at_eof()))

    return fed_by_hand(w, scene)


@parity
def test_a_view_of_the_buffer_holds_it(w):
    async def scene(loop, reader, note):
        reader.feed_data(b"held")
        with memoryview(reader._buffer) as view:
            note((await araised(reader.readexactly(2)))[0])
            note(raised(reader.feed_data, b"more")[0])
            note(bytes(view))
        return (await reader.read(100))[:4]

    return fed_by_hand(w, scene)


@parity
def test_attributes(w):
    async def scene(loop, reader, note):
        names = ("_limit", "_eof", "_waiter", "_exception", "_transport", "_paused", "_source_traceback")
        note([getattr(reader, name) for name in names])
        note(reader._loop is loop)
        reader._eof = 1
        reader._exception = ValueError("set")
        note((repr(reader), reader.at_eof()))
        reader._exception = None
        reader.anything = 5
        note((reader.anything, reader.__dict__.get("anything")))
        note(raised(reader.feed_data, b"late"))
        note(raised(reader._wait_for_data("who").send, None))
        reader._paused = True
        reader._transport = Pipe(log := [])
        reader._maybe_resume_transport()
        note((log, reader._paused))

    return fed_by_hand(w, scene)


@parity
def test_names_and_classes(w):
    aio = w.aio
    trace = []
    for name in ("StreamReader", "StreamWriter", "StreamReaderProtocol"):
        kind = getattr(aio, name)
        trace.append((kind.__name__, kind.__qualname__, kind.__module__))
        for method in ("read", "readline", "readuntil", "readexactly", "drain", "wait_closed", "_drain_helper"):
            if (function := getattr(kind, method, None)) is not None:
                trace.append((method, function.__qualname__, inspect.iscoroutinefunction(function)))
                trace.append(str(inspect.signature(function)))
    for name in ("open_connection", "start_server", "open_unix_connection", "start_unix_server"):
        function = getattr(aio, name)
        trace.append((function.__qualname__, function.__module__, inspect.iscoroutinefunction(function)))
        trace.append(str(inspect.signature(function)))
    with w.loop() as loop:
        reader = reader_of(w, loop)
        coro = reader.readline()
        trace.append((coro.__qualname__, type(reader).__name__, reader.__class__ is asyncio.StreamReader or w.stock))
        coro.close()
        trace.append(isinstance(reader, asyncio.StreamReader))
        trace.append(isinstance(asyncio.StreamReader(loop=loop), aio.StreamReader))
        protocol = aio.StreamReaderProtocol(reader, loop=loop)
        kinds = (asyncio.Protocol, asyncio.StreamReaderProtocol, asyncio.streams.FlowControlMixin)
        trace.append([isinstance(protocol, kind) for kind in kinds])
    return trace


@parity
def test_constructors_refuse(w):
    aio = w.aio
    with w.loop() as loop:
        reader, log = reader_of(w, loop), []
        protocol = aio.StreamReaderProtocol(reader, loop=loop)
        return [
            outcome(lambda: aio.StreamReader(1, loop, 3)),
            outcome(lambda: aio.StreamReader(unknown=1)),
            outcome(lambda: aio.StreamReaderProtocol()),
            outcome(lambda: aio.StreamReaderProtocol(5, loop=loop)),
            # From 3.12 on the finaliser of a writer that was not initialised fails, too.
            sys.version_info >= (3, 12) or outcome(lambda: aio.StreamWriter(Pipe(log), protocol)),
            sys.version_info >= (3, 12) or outcome(lambda: aio.StreamWriter(Pipe(log), protocol, 5, loop)),
        ]


@parity
def test_no_loop(w):
    asyncio.set_event_loop(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return raised(w.aio.StreamReader), raised(w.aio.StreamReaderProtocol, None)


@parity
def test_debug_mode_remembers_where_it_was_made(w):
    async def scene(loop, reader, note):
        frame = reader._source_traceback[-1]
        protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
        return frame.name, protocol._source_traceback is reader._source_traceback

    return fed_by_hand(w, scene, debug=True)


# --- subclasses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["read", "readuntil", "readline", "_wait_for_data", "_wakeup_waiter", "_maybe_resume_transport"]
)
@parity
def test_overridden_methods_of_a_reader_are_called(w, name):
    calls = []
    method = getattr(w.aio.StreamReader, name)
    if inspect.iscoroutinefunction(method):

        async def override(self, *args):
            calls.append(args)
            return await method(self, *args)
    else:

        def override(self, *args):
            calls.append(args)
            return method(self, *args)

    kind = type("Overriding", (w.aio.StreamReader,), {name: override})

    async def main():
        loop = w.aio.get_running_loop()
        reader = kind(loop=loop, limit=20)
        turns = Generations(loop)
        for read in (
            lambda: reader.read(4),
            lambda: reader.readline(),
            lambda: reader.readuntil(b"c"),
            lambda: reader.readexactly(3),
            lambda: reader.__anext__(),
            lambda: reader.read(),
        ):
            task = background(w, turns, "read", read())
            await asyncio.sleep(0)
            reader.feed_data(b"abc\n")
            if not task.done():
                await asyncio.sleep(0)
            reader.feed_data(b"d\n")
            await asyncio.sleep(0)
            if not task.done():
                reader.feed_eof()
                await task
        return turns.log, len(calls), calls, normal(repr(reader))

    return w.run(main)


@parity
def test_methods_set_on_an_instance_are_called(w):
    async def scene(loop, reader, note):
        reader._wakeup_waiter = lambda: note("woken")
        reader.feed_data(b"a\nb\n")
        readuntil = reader.readuntil

        def spy(*args):
            note(("until", args))
            return readuntil(*args)

        reader.readuntil = spy
        note(await reader.readline())
        del reader.readuntil
        note(await reader.readline())

    return fed_by_hand(w, scene)


# --- foreign drivers and loops --------------------------------------------------------------------------------------


@parity
def test_driven_by_hand(w):
    with w.loop() as loop:
        trace = []
        for end in ("result", "throw", "close", "exit"):
            reader = reader_of(w, loop)
            coro = reader.readexactly(3)
            future = coro.send(None)
            trace.append((future is reader._waiter, future.done(), future._asyncio_future_blocking))
            if end == "result":
                reader.feed_data(b"ab")
                future = coro.send(None)
                reader.feed_data(b"c")
                trace.append(outcome(lambda: stopped(coro)))
            elif end == "throw":
                trace.append(raised(coro.throw, KeyError("thrown")))
            elif end == "close":
                coro.close()
            else:
                trace.append(raised(coro.throw, GeneratorExit()))
            trace.append((reader._waiter, raised(coro.send, None)))
        return trace


def stopped(coro):
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    return "not stopped"


@parity
def test_our_reader_on_the_other_loop(w):
    """A stock loop drives it through its own futures."""

    async def main():
        loop = asyncio.get_running_loop()
        reader = w.aio.StreamReader(loop=loop, limit=10)
        reader.set_transport(Pipe(log := []))
        turns = Generations(loop)
        task = loop.create_task(noted(turns, "line", reader.readline()))
        await asyncio.sleep(0)
        reader.feed_data(b"abc")
        await asyncio.sleep(0)
        reader.feed_data(b"\n" + b"x" * 30)
        await task
        turns(await reader.read(25))
        task = loop.create_task(reader.readexactly(100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return turns.log, log, task.cancelled(), reader._waiter

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()
