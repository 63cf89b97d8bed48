"""Streams: readers fed by hand, turn by turn."""

import asyncio
import random

import pytest
from stream_parts import Pipe, background, fed_by_hand, noted, reader_of
from worlds import araised, error, normal, outcome, parity, raised, since

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
