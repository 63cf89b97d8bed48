"""Streams: readers fed by hand, turn by turn; writers, flow control and protocols without a connection."""

import asyncio
import contextlib
import gc
import inspect
import random
import sys
import warnings
import weakref

import pytest
from worlds import Generations, araised, asyncio_log, drain, error, normal, outcome, parity, raised, since


def reader_of(w, loop, **kwargs):
    return w.aio.StreamReader(loop=loop, **kwargs)


class Pipe(asyncio.Transport):
    """A transport that writes down what it is asked; no socket behind it."""

    def __init__(self, log, *, pauses=True):
        super().__init__()
        self.log, self.pauses, self.closing = log, pauses, False

    def pause_reading(self):
        if not self.pauses:
            raise NotImplementedError
        self.log.append("pause")

    def resume_reading(self):
        self.log.append("resume")

    def write(self, data):
        self.log.append(("write", bytes(data)))

    def writelines(self, data):
        self.log.append(("writelines", list(data)))

    def write_eof(self):
        self.log.append("eof")
        return "answer"

    def can_write_eof(self):
        return "perhaps"

    def is_closing(self):
        return self.closing

    def close(self):
        self.log.append("close")
        self.closing = True
        return "closed"

    def abort(self):
        self.log.append("abort")

    def __repr__(self):
        return "<Pipe>"


def fed_by_hand(w, scene, *, debug=False, errors=None, **kwargs):
    """Run `scene(loop, reader, note)` on a fresh loop; notes carry the number of the turn."""

    async def main():
        loop = w.aio.get_running_loop()
        turns = Generations(loop)
        reader = reader_of(w, loop, **kwargs)
        answer = await scene(loop, reader, turns)
        return turns.log, answer, normal(repr(reader))

    return w.run(main, debug=debug, errors=errors)


async def noted(note, name, awaitable):
    try:
        note((name, await awaitable))
    except BaseException as exc:
        note((name, error(exc)))
        raise


def background(w, note, name, awaitable):
    async def run():
        with contextlib.suppress(Exception):
            await noted(note, name, awaitable)

    return w.aio.get_running_loop().create_task(run())


# --- reads ----------------------------------------------------------------------------------------------------------

READS = [
    ("read", ()),
    ("read", (-1,)),
    ("read", (-5,)),
    ("read", (0,)),
    ("read", (1,)),
    ("read", (4,)),
    ("read", (100,)),
    ("read", (10**30,)),
    ("read", (True,)),
    ("read", ("1",)),
    ("read", (2.5,)),
    ("read", (None,)),
    ("readline", ()),
    ("readuntil", ()),
    ("readuntil", (b"b",)),
    ("readuntil", (b"ef",)),
    ("readuntil", (b"efgh",)),
    ("readuntil", (b"",)),
    ("readuntil", (bytearray(b"ef"),)),
    ("readuntil", (memoryview(b"ef"),)),
    ("readuntil", ("ef",)),
    ("readuntil", (5,)),
    ("readexactly", (0,)),
    ("readexactly", (3,)),
    ("readexactly", (7,)),
    ("readexactly", (8,)),
    ("readexactly", (-1,)),
    ("readexactly", (-(10**30),)),
    ("readexactly", (True,)),
    ("readexactly", ("1",)),
    ("__anext__", ()),
    # Arguments that do not fit.
    ("read", (1, 2)),
    ("readexactly", ()),
    ("readline", (1,)),
]

FEEDS = {
    "at once": [b"abc\ndef"],
    "in parts": [b"abc", b"\nd", b"ef"],
    "byte by byte": [bytes([byte]) for byte in b"abc\ndef"],
    "nothing": [],
    "two lines": [b"ab\ncd\n"],
    "ends in a separator's first byte": [b"abe", b"f"],
}


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
@parity
def test_every_read(w, feed, early):
    """Bytes that are there before the read, or come one after the other while it waits; then the end."""
    trace = []
    for name, args in READS:
        for limit in (2**16, 3):

            async def scene(loop, reader, note, name=name, args=args):
                if early:
                    for data in FEEDS[feed]:
                        reader.feed_data(data)
                    reader.feed_eof()
                try:
                    awaitable = getattr(reader, name)(*args)
                except Exception as exc:
                    return "no coroutine", error(exc)
                task = background(w, note, name, awaitable)
                if not early:
                    for data in FEEDS[feed]:
                        await asyncio.sleep(0)
                        await asyncio.sleep(0)
                        note(("feed", data))
                        reader.feed_data(data)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    note("end")
                    reader.feed_eof()
                await task
                return bytes(reader._buffer)

            trace.append((name, args, limit, fed_by_hand(w, scene, limit=limit)))
    return trace


@parity
def test_a_read_that_need_not_wait_suspends_nobody(w):
    with w.loop() as loop:
        reader = reader_of(w, loop)
        reader.feed_data(b"one\ntwo\nthree")
        trace = []
        for coro in (reader.readline(), reader.readuntil(b"\n"), reader.readexactly(2), reader.read(10)):
            try:
                coro.send(None)
            except StopIteration as stop:
                trace.append(stop.value)
        return trace, repr(reader)


@parity
def test_several_feeds_before_the_reader_runs(w):
    async def scene(loop, reader, note):
        task = background(w, note, "read", reader.read(100))
        await asyncio.sleep(0)
        for data in (b"one,", bytearray(b"two,"), memoryview(b"three,"), b"", [102, 111, 117, 114]):
            reader.feed_data(data)
            note(normal(repr(reader)))
        await task

    return fed_by_hand(w, scene)


@parity
def test_who_comes_later_may_take_the_bytes_first(w):
    """The one who was woken finds nothing then; `read` is at its end, the others wait again."""
    trace = []
    for name, args in (("read", (10,)), ("readline", ()), ("readexactly", (3,)), ("read", (-1,))):

        async def scene(loop, reader, note, name=name, args=args):
            task = background(w, note, "first", getattr(reader, name)(*args))
            await asyncio.sleep(0)
            reader.feed_data(b"abc\n")
            note(("second", await reader.read(10)))
            await asyncio.sleep(0)
            reader.feed_data(b"def\n")
            await asyncio.sleep(0)
            reader.feed_eof()
            await task

        trace.append(fed_by_hand(w, scene))
    return trace


@parity
def test_one_waits_at_a_time(w):
    async def scene(loop, reader, note):
        first = background(w, note, "first", reader.read(10))
        await asyncio.sleep(0)
        texts = [
            await araised(coro)
            for coro in (reader.read(1), reader.read(), reader.readline(), reader.readuntil(), reader.readexactly(2))
        ]
        texts.append(normal(repr(reader)))
        reader.feed_data(b"data")
        await first
        return texts

    return fed_by_hand(w, scene)


@pytest.mark.parametrize("name", ["read", "readline", "readexactly", "read all", "__anext__"])
@parity
def test_cancelled_while_waiting(w, name):
    async def scene(loop, reader, note):
        make = {
            "read": lambda: reader.read(10),
            "read all": lambda: reader.read(),
            "readexactly": lambda: reader.readexactly(3),
            "readline": reader.readline,
            "__anext__": reader.__anext__,
        }[name]
        task = loop.create_task(noted(note, "cancelled", make()))
        await asyncio.sleep(0)
        note(reader._waiter is None)
        task.cancel("message")
        note(reader._waiter.cancelled() if reader._waiter else None)
        # Fed in between: the bytes are for the next one.
        reader.feed_data(b"abc\n")
        await asyncio.wait([task])
        note((task.cancelled(), reader._waiter))
        again = loop.create_task(noted(note, "again", make()))
        await asyncio.sleep(0)
        reader.feed_eof()
        await again

    return fed_by_hand(w, scene)


@parity
def test_woken_and_cancelled_in_the_same_turn(w):
    async def scene(loop, reader, note):
        task = loop.create_task(noted(note, "task", reader.read(10)))
        await asyncio.sleep(0)
        reader.feed_data(b"kept")
        task.cancel()
        await asyncio.wait([task])
        note(await reader.read(10))

    return fed_by_hand(w, scene)


@pytest.mark.parametrize("given", [ValueError("text"), KeyError, "no exception"], ids=["instance", "class", "text"])
@parity
def test_set_exception(w, given):
    async def scene(loop, reader, note):
        task = background(w, note, "waits", reader.readexactly(10))
        await asyncio.sleep(0)
        note(outcome(reader.set_exception, given))
        note(repr(reader.exception()))
        for coro in (reader.read(0), reader.read(1), reader.read(), reader.readline(), reader.readexactly(0)):
            note(await araised(coro))
        note(await araised(reader.readuntil(b"")))
        note(await araised(reader.readexactly(-1)))
        task.cancel()
        await asyncio.wait([task])

    return fed_by_hand(w, scene)


@parity
def test_readline_knows_the_exceptions_of_readuntil(w):
    """Even those that somebody else has set."""
    aio = w.aio

    async def scene(loop, reader, note):
        task = background(w, note, "waits", reader.readline())
        await asyncio.sleep(0)
        reader.set_exception(aio.IncompleteReadError(b"part", 9))
        await task
        note(await reader.readline())
        reader.feed_data(b"abc\ndef")
        reader.set_exception(aio.LimitOverrunError("their text", 3))
        note(await araised(reader.readline()))
        note(bytes(reader._buffer))
        note(await araised(reader.readline()))
        note(bytes(reader._buffer))
        try:
            await reader.readline()
        except ValueError as exc:
            return [type(each).__name__ for each in (exc.__context__, exc.__cause__)]

    return fed_by_hand(w, scene)


@parity
def test_errors_carry_what_was_read(w):
    async def scene(loop, reader, note):
        reader.feed_data(b"abc")
        reader.feed_eof()
        seen = []
        for coro in (reader.readexactly(7), reader.readuntil(b"x")):
            try:
                await coro
            except asyncio.IncompleteReadError as exc:
                seen.append((exc.partial, exc.expected, str(exc)))
            reader._eof = False
            reader.feed_data(b"defghij")
            reader.feed_eof()
        return seen

    return fed_by_hand(w, scene)


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 8])
@parity
def test_limits(w, limit):
    async def scene(loop, reader, note):
        for name, args in (("readline", ()), ("readuntil", (b"\n",)), ("readuntil", (b"fg\n",))):
            reader.feed_data(b"abcdefg\nrest")
            try:
                note(await getattr(reader, name)(*args))
            except Exception as exc:
                note((error(exc), getattr(exc, "consumed", None), type(exc.__context__).__name__))
            note(bytes(reader._buffer))
            reader._buffer.clear()
            reader.feed_data(b"no separator")
            task = loop.create_task(noted(note, name, getattr(reader, name)(*args)))
            await asyncio.wait([task], timeout=0.001)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
            note(bytes(reader._buffer))
            reader._buffer.clear()
            reader._waiter = None

    return fed_by_hand(w, scene, limit=limit)


@since(3, 13)
@parity
def test_several_separators(w):
    trace = []
    for separators in (
        (b"\n", b"\r\n"),
        (b"cd", b"abcd"),
        (b"bcd", b"c"),
        (),
        (b"", b"x"),
        (b"x",),
        (bytearray(b"c"), b"d"),
        [b"c"],
        ("c",),
    ):
        for limit in (1, 2, 100):

            async def scene(loop, reader, note, separators=separators):
                task = background(w, note, "until", reader.readuntil(separators))
                for data in (b"xa", b"bc", b"d\r", b"\ny"):
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    reader.feed_data(data)
                reader.feed_eof()
                await task
                return bytes(reader._buffer)

            trace.append((separators, limit, fed_by_hand(w, scene, limit=limit)))
    return trace


@parity
def test_async_for(w):
    async def scene(loop, reader, note):
        for data in (b"one\ntw", b"o\n\nfour"):
            reader.feed_data(data)
        loop.call_later(0.001, reader.feed_eof)
        async for line in reader:
            note(line)
        return reader.at_eof(), reader.__aiter__() is reader, (await araised(reader.__anext__()))[0]

    return fed_by_hand(w, scene)


@pytest.mark.parametrize("seed", range(40))
@parity
def test_scripts_of_any_calls(w, seed):
    """Feeds, reads, cancellations and looks at the buffer in any order, by seed."""

    async def scene(loop, reader, note):
        choose = random.Random(seed)
        tasks = []
        reader.set_transport(Pipe(log := []))

        async def run(name, args):
            try:
                note((name, await getattr(reader, name[1])(*args)))
            except (Exception, asyncio.CancelledError) as exc:
                note((name, error(exc)))

        def feed():
            reader.feed_data(bytes(choose.choices(b"ab\n", k=choose.choice((1, 2, 5, 30, 20_000)))))

        def read():
            name, args = choose.choice(
                (
                    ("read", (choose.choice((1, 3, 100, 20_000, 50_000, -1)),)),
                    ("readline", ()),
                    ("readuntil", (b"ab",)),
                    ("readexactly", (choose.choice((0, 2, 10, 20_005)),)),
                )
            )
            tasks.append(loop.create_task(run((len(tasks), name), args)))

        def look():
            note(bytes(reader._buffer)[:50])

        def cancel():
            if tasks:
                choose.choice(tasks).cancel()

        def fail():
            reader.set_exception(ValueError("set") if choose.random() < 0.5 else None)

        actions = choose.choices((feed, read, look, cancel, fail), (10, 12, choose.choice((0, 1)), 2, 0.3), k=120)
        for action in actions:
            outcome(action)
            note((normal(repr(reader)), len(log)))
            for _ in range(choose.choice((0, 0, 1, 3))):
                await asyncio.sleep(0)
        reader._exception = None
        reader.feed_eof()
        for _ in range(5):
            await asyncio.sleep(0)
        note(await reader.read())
        note((log, [task.done() for task in tasks]))
        for task in tasks:
            task.cancel()

    return fed_by_hand(w, scene, limit=[5, 100, 2**16][seed % 3])


# --- pausing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "readexactly", "readuntil", "readline", "read all", "read nothing"])
@parity
def test_the_transport_is_paused_and_resumed(w, how):
    async def scene(loop, reader, note):
        log = []
        reader.set_transport(Pipe(log))
        for _ in range(4):
            reader.feed_data(b"abcd\n")
            note((list(log), normal(repr(reader))))
        for _ in range(5):
            if how == "read":
                note(await reader.read(4))
            elif how == "readexactly":
                note(await reader.readexactly(3))
            elif how == "readuntil":
                note(await reader.readuntil(b"c"))
                break
            elif how == "readline":
                note(await reader.readline())
                break
            elif how == "read nothing":
                note(await reader.read(0))
            else:
                loop.call_soon(reader.feed_eof)
                note(await reader.read())
                break
            note((list(log), reader._paused))
        return log, reader._paused

    return fed_by_hand(w, scene, limit=5)


@parity
def test_waiting_for_more_than_the_limit_resumes(w):
    async def scene(loop, reader, note):
        log = []
        reader.set_transport(Pipe(log))
        reader.feed_data(b"x" * 11)
        task = background(w, note, "read", reader.readexactly(15))
        await asyncio.sleep(0)
        note(list(log))
        reader.feed_data(b"y" * 5)
        note(list(log))
        await task
        return log, bytes(reader._buffer)

    return fed_by_hand(w, scene, limit=5)


@parity
def test_a_transport_that_cannot_pause(w):
    async def scene(loop, reader, note):
        log = []
        reader.set_transport(Pipe(log, pauses=False))
        note(raised(reader.set_transport, Pipe(log)))
        reader.feed_data(b"x" * 20)
        note((log, reader._transport, reader._paused))

    return fed_by_hand(w, scene, limit=5)


@parity
def test_limit_is_what_it_was_given_as(w):
    with w.loop() as loop:
        trace = []
        for limit in (1, 2**16, 2**80, 3.5, True, 0, -1, 0.0, "1", None):
            try:
                reader = reader_of(w, loop, limit=limit)
            except (ValueError, TypeError) as exc:
                trace.append(error(exc))
                continue
            log = []
            reader.set_transport(Pipe(log))
            for _ in range(9):
                reader.feed_data(b"x")
            trace.append((reader._limit, repr(reader), log))
        reader = reader_of(w, loop)
        reader._limit = 7
        trace.append(repr(reader))
        return trace


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


# --- writers and protocols ------------------------------------------------------------------------------------------


WRITERS = []


def kept(writer):
    """From 3.12 on a writer that goes away before it is closed warns: it lives until the test is over."""
    WRITERS.append(writer)
    return writer


@pytest.fixture(autouse=True)
def close_kept_writers():
    yield
    for writer in WRITERS:
        writer.transport.closing = True
    WRITERS.clear()


def writer_of(w, loop, log, *, reader=None):
    reader = reader or reader_of(w, loop)
    protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
    transport = Pipe(log)
    protocol.connection_made(transport)
    return reader, protocol, transport, kept(w.aio.StreamWriter(transport, protocol, reader, loop))


@parity
def test_a_writer_hands_on(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reader, protocol, transport, writer = writer_of(w, loop, log)
        trace = [
            writer.write(b"a"),
            writer.write(data=b"b"),
            writer.writelines([b"c", b"d"]),
            writer.write_eof(),
            writer.can_write_eof(),
            writer.is_closing(),
            writer.get_extra_info("x"),
            writer.get_extra_info("x", 5),
            writer.get_extra_info(name="x", default=6),
            writer.transport is transport,
            (writer._protocol is protocol, writer._reader is reader, writer._loop is loop),
            (writer._complete_fut.done(), writer._complete_fut.result()),
            repr(writer),
            repr(kept(w.aio.StreamWriter(transport, protocol, None, loop))),
            writer.close(),
            writer.is_closing(),
        ]
        return trace, log

    return w.run(main)


@parity
def test_drain(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        _, protocol, transport, writer = writer_of(w, loop, log)
        turns = Generations(loop)
        await noted(turns, "nothing to wait for", writer.drain())
        protocol.pause_writing()
        tasks = [loop.create_task(noted(turns, name, writer.drain())) for name in "abc"]
        tasks.append(loop.create_task(noted(turns, "helper", protocol._drain_helper())))
        await asyncio.sleep(0)
        turns(len(protocol._drain_waiters))
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        turns(len(protocol._drain_waiters))
        protocol.resume_writing()
        await asyncio.wait(tasks)
        turns(len(protocol._drain_waiters))
        # Who writes and drains on a closing connection lets one turn pass.
        transport.closing = True
        await noted(turns, "closing", writer.drain())
        task = loop.create_task(noted(turns, "lost meanwhile", writer.drain()))
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.wait([task])
        turns(error(task.exception()))
        turns(await araised(writer.drain()))
        return turns.log

    return w.run(main)


@pytest.mark.parametrize("exc", [None, OSError("lost"), ValueError], ids=["clean", "error", "class"])
@parity
def test_connection_lost(w, exc):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reader, protocol, _, writer = writer_of(w, loop, log)
        turns = Generations(loop)
        protocol.pause_writing()
        tasks = [
            loop.create_task(noted(turns, name, coro))
            for name, coro in [
                ("read", reader.read(5)),
                ("drain", writer.drain()),
                ("closed", writer.wait_closed()),
                ("closed, too", writer.wait_closed()),
            ]
        ]
        await asyncio.sleep(0)
        protocol.connection_lost(exc)
        turns((protocol._transport, protocol._stream_reader, protocol._task, protocol._connection_lost))
        await asyncio.wait(tasks)
        for coro in (writer.wait_closed(), writer.drain(), reader.read(5)):
            try:
                turns(await coro)
            except Exception as failure:
                turns(error(failure))
        turns([error(task.exception()) for task in tasks])
        turns((protocol.data_received(b"late"), protocol.eof_received()))
        return turns.log, log, outcome(protocol.connection_lost, None)

    return w.run(main)


@parity
def test_protocol_flow_control_is_checked(w):
    with w.loop(debug=True) as loop, asyncio_log(10) as log:
        reader = reader_of(w, loop)
        protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
        trace = [raised(protocol.resume_writing)]
        protocol.pause_writing()
        trace += [raised(protocol.pause_writing), protocol._paused]
        protocol.resume_writing()
        return trace, [normal(entry[1]) for entry in log if "writing" in entry[1]], protocol._paused


@parity
def test_the_protocol_holds_the_reader_weakly(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reader = reader_of(w, loop)
        protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
        trace = [protocol._stream_reader is reader, protocol._stream_reader_wr() is reader]
        del reader
        gc.collect()
        trace += [protocol._stream_reader, protocol.data_received(b"x"), protocol.eof_received()]
        # A server's is held until the connection is made.
        reader = reader_of(w, loop)
        reference = weakref.ref(reader)
        protocol = w.aio.StreamReaderProtocol(reader, lambda reader, writer: None, loop=loop)
        del reader
        gc.collect()
        trace.append(reference() is not None)
        protocol.connection_made(Pipe(log))
        gc.collect()
        trace.append(reference() is None)
        trace.append(protocol.connection_lost(None))
        return trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return w.run(main)


@parity
def test_a_rejected_connection(w):
    errors = []

    async def main():
        loop, log = w.aio.get_running_loop(), []
        protocol = w.aio.StreamReaderProtocol(reader_of(w, loop), loop=loop)
        protocol._reject_connection = True
        protocol.connection_made(Pipe(log))
        return log

    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("kind", ["returns", "coroutine", "fails", "coroutine fails", "cancelled"])
@parity
def test_client_connected_cb(w, kind):
    errors = []

    async def main():
        loop, log = w.aio.get_running_loop(), []

        def plain(reader, writer):
            log.append((type(reader).__name__, type(kept(writer)).__name__, writer._reader is reader))
            if kind == "fails":
                raise ValueError("callback")

        async def coroutine(reader, writer):
            plain(reader, writer)
            if kind == "coroutine fails":
                raise ValueError("coroutine")
            if kind == "cancelled":
                w.aio.current_task().cancel()
                await asyncio.sleep(0)

        callback = plain if kind in ("returns", "fails") else coroutine
        protocol = w.aio.StreamReaderProtocol(reader_of(w, loop), callback, loop=loop)
        try:
            protocol.connection_made(Pipe(log))
        except Exception as exc:
            log.append(error(exc))
        log.append(protocol._task is None)
        for _ in range(5):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        del protocol
        gc.collect()
        return log

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return w.run(main, errors=errors), errors


@parity
def test_garbage_with_a_waiting_reader_is_collected(w):
    async def main():
        loop = w.aio.get_running_loop()
        reader, protocol, transport, writer = writer_of(w, loop, [])
        coro = reader.read(5)
        coro.send(None)
        reader.itself = (reader, coro, protocol, writer)
        writer.itself, protocol.itself = writer, protocol
        transport.closing = True
        WRITERS.clear()
        reference = weakref.ref(reader)
        del reader, protocol, transport, writer, coro
        gc.collect()
        return reference() is None

    return w.run(main)


@parity
def test_run_down(w):
    """What a loop that ends leaves of a waiting reader."""
    with w.loop() as loop:
        reader = reader_of(w, loop)
        task = loop.create_task(reader.readline())
        drain(loop, 3)
        state = normal(repr(reader))
        task.cancel()
        drain(loop, 3)
        return state, task.cancelled(), repr(reader)
