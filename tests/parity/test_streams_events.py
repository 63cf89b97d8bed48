"""Stream transports: which protocol calls come, in which order, with which arguments, for many scripts of events."""

import asyncio
import contextvars
import socket
import sys

import pytest
from wires import BufferedRecorder, Recorder, reason, scene
from worlds import normal, parity, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


# --- the usual life -------------------------------------------------------------------------------------------------


@scene()
async def test_data_both_ways_and_the_peer_closes(s):
    transport = await s.connect()
    s.peer.send(b"hello ")
    await s.until_received(6)
    s.peer.send(b"world")
    await s.until_received(11)
    transport.write(b"answer")
    s.note(await s.peer_read(6))
    s.peer.close()
    await s.until_lost()
    assert s.log[-2:] == ["eof", ("lost", None)]
    return transport.is_closing()


@scene()
async def test_we_close(s):
    transport = await s.connect()
    s.note(("closing", transport.is_closing()))
    transport.close()
    s.note(("closing", transport.is_closing()))
    s.loop.call_soon(s.note, "soon after close")
    await s.until_lost()
    s.note(await s.peer_read_to_end())
    transport.close()
    transport.abort()
    await s.settle()
    assert s.log.count(("lost", None)) == 1


@scene()
async def test_we_abort(s):
    transport = await s.connect()
    s.loop.call_soon(s.note, "soon before abort")
    transport.abort()
    s.loop.call_soon(s.note, "soon after abort")
    await s.until_lost()
    s.note(s.peer_ended())


@scene()
async def test_close_order_against_callbacks(s):
    """close() with nothing to send: connection_lost comes in the next turn, after what was queued before."""
    transport = await s.connect()
    await s.settle()
    s.loop.call_soon(s.note, "before")
    transport.close()
    s.loop.call_soon(s.note, "after")
    for turn in range(3):
        s.note(turn)
        await asyncio.sleep(0)


@scene()
async def test_the_connection_is_made_before_connect_returns(s):
    """A client may prepare its protocol in the step that got it: no data comes in between."""
    transport = await s.connect(before=lambda s: s.peer.send(b"early"), returned=lambda: s.note("connect returned"))
    await s.until_received(5)
    transport.close()
    if s.side == "client":
        assert s.log[:3] == ["made", "connect returned", ["data", b"early"]]


@scene()
async def test_early_data_and_early_end(s):
    def before(s):
        s.peer.send(b"early")
        s.peer.shutdown(socket.SHUT_WR)

    await s.connect(before=before)
    await s.until_lost()
    assert s.log == ["made", ["data", b"early"], "eof", ("lost", None)]


@scene()
async def test_many_small_messages(s):
    await s.connect(data=lambda proto, data: proto.transport.write(data))
    for number in range(200):
        s.peer.send(b"%03d" % number)
        assert await s.peer_read(3) == b"%03d" % number
    assert s.proto.received == b"".join(b"%03d" % n for n in range(200))


@scene()
async def test_large_transfers_arrive_whole(s):
    transport = await s.connect()
    payload = bytes(range(256)) * 8192
    half = len(payload) // 2
    transport.write(payload[:half])
    transport.writelines([payload[half : half + 100], b"", bytearray(payload[half + 100 :])])
    assert await s.peer_read(len(payload)) == payload
    sent = 0
    while sent < len(payload):
        try:
            sent += s.peer.send(payload[sent : sent + 100_000])
        except BlockingIOError:
            await asyncio.sleep(0)
    await s.until_received(len(payload))
    assert s.proto.received == payload
    return transport.get_write_buffer_size()


# --- half-closed connections ----------------------------------------------------------------------------------------


@scene()
async def test_write_eof(s):
    transport = await s.connect()
    s.note(transport.can_write_eof())
    transport.write(b"last words")
    transport.write_eof()
    transport.write_eof()
    s.note(raised(transport.write, b"too late"))
    s.note(raised(transport.writelines, [b"too late"]))
    s.note(await s.peer_read_to_end())
    s.peer.send(b"answer")
    await s.until_received(6)
    s.note(("closing", transport.is_closing()))
    s.peer.close()
    await s.until_lost()
    assert ("RuntimeError", "Cannot call write() after write_eof()") in s.log


@scene()
async def test_write_eof_with_unsent_data(s):
    transport = await s.connect(tight=True)
    written = s.write_until_full()
    transport.write(b"end")
    transport.write_eof()
    s.note(transport.get_write_buffer_size() > 0)
    data = await s.peer_read_to_end()
    assert len(data) == written + 3
    assert data.endswith(b"xend")
    s.note(transport.is_closing())


@scene()
async def test_write_eof_then_close(s):
    transport = await s.connect()
    transport.write_eof()
    transport.close()
    await s.until_lost()
    s.note(await s.peer_read_to_end())


@scene()
async def test_write_eof_after_close(s):
    transport = await s.connect()
    transport.close()
    transport.write_eof()
    await s.until_lost()
    transport.write_eof()
    await s.settle()


@scene()
async def test_eof_received_keeps_the_connection_open(s):
    transport = await s.connect(eof=lambda proto: True)
    s.peer.send(b"request")
    s.peer.shutdown(socket.SHUT_WR)
    await s.until(lambda: "eof" in s.log)
    await s.settle()
    s.note(("closing", transport.is_closing()))
    transport.write(b"response")
    s.note(await s.peer_read(8))
    transport.close()
    await s.until_lost()
    s.note(await s.peer_read_to_end())
    assert s.log.count("eof") == 1


@scene()
@pytest.mark.parametrize("value", [None, False, 0, 1, "yes"], ids=repr)
async def test_what_eof_received_returns(s, value):
    transport = await s.connect(eof=lambda proto: value)
    s.peer.shutdown(socket.SHUT_WR)
    await s.until(lambda: "eof" in s.log)
    await s.settle()
    s.note(("closing", transport.is_closing()))


@scene()
async def test_eof_with_unsent_data(s):
    """The peer ends its side while we still have data for it: it all arrives before the connection goes."""
    transport = await s.connect(tight=True)
    written = s.write_until_full()
    s.peer.shutdown(socket.SHUT_WR)
    await s.until(lambda: "eof" in s.log)
    s.note(("closing", transport.is_closing(), s.proto.is_lost))
    assert len(await s.peer_read_to_end()) == written
    await s.until_lost()


@scene()
async def test_data_then_end_at_once(s):
    await s.connect()
    s.peer.send(b"all of it")
    s.peer.close()
    await s.until_lost()
    assert s.log == ["made", ["data", b"all of it"], "eof", ("lost", None)]


# --- closing with something left ------------------------------------------------------------------------------------


@scene()
async def test_close_with_unsent_data(s):
    transport = await s.connect(tight=True)
    written = s.write_until_full()
    transport.close()
    await s.settle()
    s.note(("lost yet", s.proto.is_lost, transport.get_write_buffer_size() > 0))
    data = await s.peer_read_to_end()
    assert len(data) == written
    await s.until_lost()


@scene()
async def test_what_arrives_after_close_is_not_delivered(s):
    transport = await s.connect(tight=True)
    s.write_until_full()
    transport.close()
    s.peer.send(b"not delivered any more")
    await s.settle()
    assert s.proto.received == b""
    s.note(("lost yet", s.proto.is_lost))
    s.peer.close()
    await s.until_lost()
    s.log.pop()  # a reset or a broken pipe, as the kernel likes


@scene()
async def test_small_writes_and_close_in_one_step(s):
    transport = await s.connect()
    for number in range(10):
        transport.write(b"%d" % number)
    transport.close()
    s.note(await s.peer_read_to_end())
    await s.until_lost()
    assert b"0123456789" in s.log


@scene()
async def test_small_writes_and_abort_in_one_step(s):
    """What was written before abort() and fits into the kernel has left: stock sends at once."""
    transport = await s.connect()
    for number in range(10):
        transport.write(b"%d" % number)
    transport.abort()
    await s.until_lost()
    s.note(await s.peer_read(10))


@scene()
async def test_abort_with_unsent_data(s):
    transport = await s.connect(tight=True)
    written = s.write_until_full()
    transport.abort()
    s.note(("closing", transport.is_closing(), "size", transport.get_write_buffer_size()))
    await s.until_lost()
    return len(await s.peer_read(written)) < written


@scene()
async def test_abort_after_close_with_unsent_data(s):
    transport = await s.connect(tight=True)
    s.write_until_full()
    transport.close()
    await s.settle()
    transport.abort()
    await s.until_lost()
    assert s.log.count(("lost", None)) == 1


@scene()
async def test_close_in_callbacks(s):
    await s.connect(made=lambda proto: proto.transport.close())
    await s.until_lost()
    s.peer.close()
    assert s.log == ["made", ("lost", None)]


@scene()
async def test_abort_in_connection_made(s):
    await s.connect(made=lambda proto: proto.transport.abort())
    await s.until_lost()
    assert s.log == ["made", ("lost", None)]


@scene()
async def test_write_and_close_in_connection_made(s):
    def made(proto):
        proto.transport.write(b"greeting")
        proto.transport.close()

    await s.connect(made=made)
    s.note(await s.peer_read_to_end())
    await s.until_lost()


@scene()
async def test_close_in_data_received(s):
    def data(proto, _):
        proto.transport.write(b"bye")
        proto.transport.close()

    await s.connect(data=data)
    s.peer.send(b"x")
    s.note(await s.peer_read_to_end())
    await s.until_lost()


@scene()
async def test_abort_in_data_received(s):
    await s.connect(data=lambda proto, _: proto.transport.abort())
    s.peer.send(b"x")
    await s.until_lost()


@scene()
async def test_use_after_connection_lost(s):
    def lost(proto, exc):
        s.note(raised_or_none(proto.transport.write, b"x"))
        proto.transport.close()
        proto.transport.abort()
        s.note(proto.transport.is_closing())

    transport = await s.connect(lost=lost)
    s.peer.close()
    await s.until_lost()
    await s.settle()
    for call in (
        lambda: transport.write(b"late"),
        transport.write_eof,
        transport.pause_reading,
        transport.resume_reading,
        transport.close,
        transport.abort,
        transport.get_write_buffer_size,
        transport.get_write_buffer_limits,
        transport.is_closing,
        transport.is_reading,
        transport.can_write_eof,
        lambda: transport.get_extra_info("peername") is not None,
        lambda: transport.set_write_buffer_limits(5),
    ):
        s.note(raised_or_none(call))
    await s.settle()
    assert s.log.count(("lost", None)) == 1


def raised_or_none(call, *args):
    try:
        return call(*args)
    except Exception as exc:
        return type(exc).__name__, normal(exc)


# --- errors on the wire ---------------------------------------------------------------------------------------------


@scene("tcp")
async def test_a_reset_while_reading(s):
    await s.connect()
    s.reset()
    await s.until_lost()
    assert s.log == ["made", ("lost", ("ConnectionResetError", 104))]


@scene("tcp")
async def test_a_reset_with_unsent_data(s):
    await s.connect(tight=True)
    s.write_until_full()
    s.reset()
    await s.until_lost()


@scene("tcp")
async def test_a_reset_while_reading_is_paused(s):
    """Nobody reads; the error shows at the next write."""
    transport = await s.connect()
    transport.pause_reading()
    await s.settle()
    s.reset()
    await s.settle()
    s.note(("lost", s.proto.is_lost))
    for _ in range(8):
        transport.write(b"x")
        await asyncio.sleep(0)
    await s.until_lost()


@scene()
async def test_writing_to_a_peer_that_is_gone(s):
    transport = await s.connect(eof=lambda proto: True)
    s.peer.close()
    await s.until(lambda: "eof" in s.log)
    for _ in range(10):
        transport.write(b"x" * 100)
        await asyncio.sleep(0)
        if s.proto.is_lost:
            break
    await s.until_lost()
    assert s.log[-1][1][0] in ("BrokenPipeError", "ConnectionResetError")
    await s.settle()


@scene()
async def test_writing_on_and_on_after_the_loss(s):
    """The fifth write into nothing, and each after it, is logged."""
    transport = await s.connect()
    s.peer.close()
    await s.until_lost()
    for _ in range(8):
        transport.write(b"x")


@scene()
async def test_writing_on_and_on_after_close(s):
    transport = await s.connect()
    transport.close()
    for _ in range(8):
        transport.write(b"x")
    await s.until_lost()
    s.note(await s.peer_read_to_end())


@scene()
async def test_closing_twice_from_both_ends(s):
    transport = await s.connect()
    s.peer.close()
    transport.close()
    await s.until_lost()
    await s.settle()
    assert s.log.count(("lost", None)) == 1


# --- exceptions in the protocol -------------------------------------------------------------------------------------


def fail(proto, *args):
    raise KeyError("from the protocol")


@scene()
async def test_connection_made_raises(s):
    transport = await s.connect(made=fail)
    s.peer.send(b"still delivered")
    await s.until_received(15)
    transport.write(b"still sent")
    s.note(await s.peer_read(10))


@scene()
async def test_data_received_raises(s):
    transport = await s.connect(data=fail)
    s.peer.send(b"x")
    await s.until_lost()
    s.note(s.peer_ended())
    s.note(transport.is_closing())


@scene()
async def test_eof_received_raises(s):
    await s.connect(eof=fail)
    s.peer.shutdown(socket.SHUT_WR)
    await s.until_lost()


@scene()
async def test_connection_lost_raises(s):
    await s.connect(lost=fail)
    s.peer.close()
    await s.until_lost()
    await s.settle()
    s.note(s.transport.is_closing())


@scene()
async def test_pause_writing_raises(s):
    transport = await s.connect(tight=True, pause=fail)
    written = 0
    while "pause" not in s.log:
        transport.write(b"x" * 65536)
        written += 65536
    s.note(("closing", transport.is_closing()))
    assert len(await s.peer_read(written)) == written
    await s.until(lambda: "resume" in s.log)


@scene()
async def test_resume_writing_raises(s):
    transport = await s.connect(tight=True, resume=fail)
    written = 0
    while "pause" not in s.log:
        transport.write(b"x" * 65536)
        written += 65536
    assert len(await s.peer_read(written)) == written
    await s.until(lambda: "resume" in s.log)
    s.note(("closing", transport.is_closing()))


@parity
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["made", "data", "eof", "lost"])
def test_base_exceptions_leave_the_loop(w, kind, where):
    """They reach the caller of run_forever, not the exception handler, and the loop can be run again."""

    def leave(proto, *args):
        raise kind("out")

    left, right = socket.socketpair()
    with left, right, w.loop() as loop:
        proto = Recorder(**{where: leave})

        async def connect():
            await loop.create_connection(lambda: proto, sock=left)
            right.send(b"x")
            await asyncio.sleep(0.005)
            right.close()

        task = loop.create_task(connect())
        answer = raised(loop.run_forever)
        proto.reactions.clear()
        task.cancel()
        right.close()
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        if not proto.is_lost:
            proto.transport.abort()
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
        return answer, "data" in str(proto.log), proto.is_lost


# --- reading stopped ------------------------------------------------------------------------------------------------


@scene()
async def test_pause_reading_with_pending_data(s):
    transport = await s.connect()
    s.note(transport.is_reading())
    transport.pause_reading()
    s.note(transport.is_reading())
    s.peer.send(b"waits")
    await s.settle()
    s.note("resuming")
    transport.resume_reading()
    s.note(transport.is_reading())
    await s.until_received(5)
    transport.pause_reading()
    transport.pause_reading()
    transport.resume_reading()
    transport.resume_reading()
    s.peer.send(b"!")
    await s.until_received(6)
    transport.close()
    s.note(transport.is_reading())
    transport.pause_reading()
    transport.resume_reading()


@scene()
async def test_pause_reading_in_connection_made(s):
    if sys.version_info < (3, 12):
        pytest.skip("3.11 forgets the pause: docs/compat.md")
    await s.connect(made=lambda proto: proto.transport.pause_reading(), before=lambda s: s.peer.send(b"early"))
    await s.settle()
    s.note("resuming")
    s.transport.resume_reading()
    await s.until_received(5)


@scene()
async def test_pause_reading_in_data_received(s):
    await s.connect(data=lambda proto, _: proto.transport.pause_reading())
    for piece in (b"1", b"2", b"3"):
        s.peer.send(piece)
        await s.settle()
    s.note("resuming")
    s.transport.resume_reading()
    await s.until_received(3)
    await s.settle()
    s.note(s.transport.is_reading())


@scene()
async def test_end_of_file_while_paused(s):
    transport = await s.connect()
    transport.pause_reading()
    s.peer.send(b"data")
    s.peer.close()
    await s.settle()
    s.note("resuming")
    transport.resume_reading()
    await s.until_lost()
    assert s.log == ["made", "resuming", ["data", b"data"], "eof", ("lost", None)]


@scene()
async def test_close_while_paused(s):
    transport = await s.connect()
    transport.pause_reading()
    s.peer.send(b"never delivered")
    await s.settle()
    transport.close()
    await s.until_lost()
    assert s.log == ["made", ("lost", None)]


# --- flow control ---------------------------------------------------------------------------------------------------


@scene()
async def test_pause_and_resume_writing(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=100_000, low=50_000)
    written = 0
    while "pause" not in s.log:
        transport.write(b"x" * 65536)
        written += 65536
    s.note(("more than high", transport.get_write_buffer_size() > 100_000))
    transport.write(b"x" * 65536)
    written += 65536
    sizes = []
    s.proto.reactions["resume"] = lambda proto: sizes.append(transport.get_write_buffer_size() <= 50_000)
    data = await s.peer_read(written)
    await s.until(lambda: "resume" in s.log)
    s.note((len(data) == written, sizes, transport.get_write_buffer_size()))
    await s.settle()
    assert s.log.count("pause") == s.log.count("resume") == 1


@scene()
async def test_pausing_is_told_inside_write(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=1000)
    s.note("writing")
    transport.write(b"x" * 4_000_000)
    s.note("written")
    assert s.log == ["made", "writing", "pause", "written"]


@scene()
async def test_small_writes_that_fit_do_not_pause(s):
    """Stock hands them to the kernel at once: nothing is kept, so nothing pauses, however low the limit."""
    transport = await s.connect()
    transport.set_write_buffer_limits(high=10)
    for _ in range(20):
        transport.write(b"x" * 50)
        s.note(transport.get_write_buffer_size())
    assert await s.peer_read(1000) == b"x" * 1000
    await s.settle()
    assert "pause" not in s.log


@scene()
async def test_a_limit_of_zero(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=0)
    s.note(transport.get_write_buffer_limits())
    transport.write(b"small")
    s.note("small written")
    await s.settle()
    written = s.write_until_full()
    s.note("full")
    await s.peer_read(written + 5)
    await s.until(lambda: "resume" in s.log)


@scene()
async def test_limits(s):
    transport = await s.connect()
    s.note(transport.get_write_buffer_limits())
    for arguments in (
        {},
        {"high": 100},
        {"low": 100},
        {"high": 100, "low": 50},
        {"high": 0},
        {"high": 100, "low": 100},
        {"high": 10, "low": 20},
        {"high": -1},
        {"low": -1},
        {"high": 10, "low": -1},
        {"high": "x"},
    ):
        try:
            transport.set_write_buffer_limits(**arguments)
        except (ValueError, TypeError) as exc:
            s.note((type(exc).__name__, str(exc) if isinstance(exc, ValueError) else ""))
        s.note(transport.get_write_buffer_limits())
    s.note(raised(transport.set_write_buffer_limits, 1, 2, 3)[0])
    assert s.log[1] == (16384, 65536)


@scene()
async def test_lowering_the_limit_below_what_is_kept(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=100 << 20)
    written = s.write_until_full(b"x" * 1_000_000)
    s.note("still writing")
    transport.set_write_buffer_limits(high=10)
    await s.settle()
    s.note("limit lowered")
    await s.peer_read(written)
    await s.settle()


@scene()
async def test_close_while_paused_writing(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=10)
    written = s.write_until_full()
    transport.close()
    assert len(await s.peer_read_to_end()) == written
    await s.until_lost()


@scene()
async def test_abort_while_paused_writing(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=10)
    s.write_until_full()
    transport.abort()
    await s.until_lost()
    await s.settle()


@scene()
async def test_writing_from_resume_writing(s):
    """A producer that fills up in every resume_writing: nothing is lost and no call is nested."""
    state = {"depth": 0, "left": 20, "written": 0}

    def resume(proto):
        assert state["depth"] == 0
        state["depth"] += 1
        while state["left"] and "resume" == s.log[-1]:
            proto.transport.write(b"y" * 100_000)
            state["written"] += 100_000
            state["left"] -= 1
        state["depth"] -= 1

    transport = await s.connect(tight=True, resume=resume)
    transport.set_write_buffer_limits(high=50_000)
    written = s.write_until_full()
    got = 0
    while state["left"] or got < written + state["written"]:
        got += len(await s.peer_read(min(50_000, written + state["written"] - got)))
        await asyncio.sleep(0)
    assert got == written + 20 * 100_000
    pauses, resumes = s.log.count("pause"), s.log.count("resume")
    assert resumes in (pauses, pauses - 1)
    s.log[:] = ["many pauses" if pauses > 3 else "few"]


# --- what can be written --------------------------------------------------------------------------------------------


@scene()
async def test_types_of_data(s):
    import array

    transport = await s.connect()
    for data in (
        b"bytes ",
        bytearray(b"bytearray "),
        memoryview(b"view "),
        memoryview(bytearray(b"mutable view "))[:7],
        memoryview(b"s.l.i.c.e. ")[::2],
        memoryview(array.array("I", [1, 2])),
        array.array("B", b"array "),
        b"",
        "text",
        None,
        1,
        [b"list"],
        object(),
    ):
        try:
            transport.write(data)
        except (TypeError, ValueError, BufferError, NotImplementedError) as exc:
            s.note(
                (type(exc).__name__, str(exc))
                if "address" not in str(exc) and isinstance(exc, TypeError)
                else type(exc).__name__
            )
        else:
            s.note("ok")
    s.note(("closing", transport.is_closing()))
    assert s.log[-2][0] == "TypeError"
    transport.close()
    s.note(await s.peer_read_to_end())


@scene()
async def test_subclasses_of_bytes(s):
    class Mine(bytes):
        def __len__(self):
            return 1000

    class Array(bytearray):
        pass

    transport = await s.connect()
    transport.write(Mine(b"subclass "))
    transport.write(Array(b"array"))
    transport.close()
    s.note(await s.peer_read_to_end())


@scene()
async def test_writelines(s):
    transport = await s.connect()
    transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    transport.writelines(piece for piece in (b"d", b"e"))
    transport.writelines([])
    transport.writelines(())
    for junk in ([b"x", "text"], [None], 5, None, ["text"]):
        try:
            transport.writelines(junk)
        except TypeError:
            s.note("TypeError")
        else:
            s.note("accepted")
    transport.writelines([b"f"] * 3000)
    transport.close()
    data = await s.peer_read_to_end()
    s.note((data[:5], data.count(b"f")))


@scene()
async def test_a_generator_that_raises_in_writelines(s):
    def pieces():
        yield b"a"
        raise KeyError("no more")

    transport = await s.connect()
    s.note(raised(transport.writelines, pieces()))
    s.note(("closing", transport.is_closing()))


# --- protocols changed on the way -----------------------------------------------------------------------------------


@scene()
async def test_set_protocol(s):
    transport = await s.connect()
    first = s.proto
    s.note(transport.get_protocol() is first)
    s.peer.send(b"for the first")
    await s.until_received(13)
    second = Recorder([])
    transport.set_protocol(second)
    s.note(transport.get_protocol() is second)
    s.peer.send(b"for the second")
    await s.until(lambda: len(second.received) == 14)
    third = BufferedRecorder([])
    transport.set_protocol(third)
    s.peer.send(b"for the third")
    await s.until(lambda: len(third.received) == 13)
    transport.set_protocol(first)
    s.peer.send(b"!")
    await s.until_received(14)
    transport.set_protocol(second)
    s.peer.close()
    await s.until(lambda: second.is_lost)
    return second.log, third.log


@scene()
async def test_set_protocol_inside_data_received(s):
    second = Recorder([])

    def data(proto, _):
        proto.transport.set_protocol(second)

    await s.connect(data=data)
    s.peer.send(b"one")
    await s.until_received(3)
    s.peer.send(b"two")
    await s.until(lambda: len(second.received) == 3)
    return second.log


@scene()
async def test_a_protocol_without_the_base_class(s):
    class Bare:
        def connection_made(self, transport):
            s.note("made")
            self.transport = transport

        def data_received(self, data):
            s.note(["data", data])

        def eof_received(self):
            s.note("eof")

        def connection_lost(self, exc):
            s.note(("lost", reason(exc)))

    class Wrapper(Recorder):
        pass

    await s.connect(Wrapper)
    s.transport.set_protocol(Bare())
    s.peer.send(b"x")
    await s.until(lambda: ["data", b"x"] in s.log)
    s.peer.close()
    await s.until(lambda: ("lost", None) in s.log)


@scene()
async def test_methods_replaced_on_the_instance(s):
    """Libraries patch a live protocol (proxy detection, websockets upgrades): each call looks the method up again."""
    await s.connect()
    s.peer.send(b"a")
    await s.until_received(1)
    s.proto.data_received = lambda data: s.note(("patched", bytes(data)))
    s.peer.send(b"b")
    await s.until(lambda: ("patched", b"b") in s.log)


# --- BufferedProtocol -----------------------------------------------------------------------------------------------


@scene()
async def test_a_buffered_protocol(s):
    hints = []
    await s.connect(BufferedRecorder, get_buffer=lambda proto, hint: hints.append(hint))
    s.peer.send(b"x" * 2500)
    await s.until_received(2500)
    s.peer.close()
    await s.until_lost()
    assert set(hints) == {-1}
    return len(s.proto.received)


@scene()
async def test_a_small_buffer_gets_everything_in_pieces(s):
    counts = []
    await s.connect(BufferedRecorder, size=7, data=lambda proto, count: counts.append(count))
    s.peer.send(bytes(range(100)))
    await s.until_received(100)
    assert max(counts) == 7
    return sum(counts)


@scene()
@pytest.mark.parametrize("kind", ["memoryview", "array", "mmap"])
async def test_kinds_of_buffers(s, kind):
    import array
    import mmap

    def get_buffer(proto, hint):
        if kind == "memoryview":
            return memoryview(proto.buffer)[:500]
        proto.other = array.array("B", bytes(500)) if kind == "array" else mmap.mmap(-1, 500)
        return proto.other

    def copied(proto, count):
        if kind != "memoryview":
            proto.seen = bytes(memoryview(proto.other)[:count])

    await s.connect(BufferedRecorder, get_buffer=get_buffer, data=copied)
    s.peer.send(b"into the buffer")
    await s.until_received(15)
    answer = getattr(s.proto, "seen", None)
    s.log.clear()
    s.transport.abort()
    await s.settle()
    return answer


@scene()
@pytest.mark.parametrize("what", ["empty", "raises", "read-only", "none", "text"])
async def test_bad_buffers(s, what):
    def get_buffer(proto, hint):
        if what == "raises":
            raise KeyError("no buffer")
        return {"empty": bytearray(), "read-only": b"12345", "none": NOTHING, "text": "text"}[what]

    await s.connect(BufferedRecorder, get_buffer=get_buffer)
    s.peer.send(b"data")
    await s.until_lost()
    s.note(s.transport.is_closing())


class _Nothing:
    """Stands for None, which the recorder takes as no answer."""


NOTHING = _Nothing()


@scene()
async def test_buffer_updated_raises(s):
    await s.connect(BufferedRecorder, data=fail)
    s.peer.send(b"data")
    await s.until_lost()


@scene()
async def test_the_buffer_is_released(s):
    """After buffer_updated the bytearray can be resized: no view of it is kept."""
    resized = []

    def data(proto, count):
        resized.append(True)

    await s.connect(BufferedRecorder, data=data)
    s.peer.send(b"abc")
    await s.until_received(3)
    s.proto.buffer.extend(b"more")
    s.peer.send(b"def")
    await s.until_received(6)
    s.proto.buffer.clear()
    s.proto.buffer.extend(bytes(50))
    s.peer.send(b"ghi")
    await s.until_received(9)


@scene()
async def test_end_of_file_with_a_buffered_protocol(s):
    transport = await s.connect(BufferedRecorder, eof=lambda proto: True)
    s.peer.shutdown(socket.SHUT_WR)
    await s.until(lambda: "eof" in s.log)
    transport.write(b"after the end")
    s.note(await s.peer_read(13))


# --- what surrounds a call ------------------------------------------------------------------------------------------


@scene()
async def test_contexts_of_the_calls(s):
    """Every call of one connection sees the context the connection was made in."""
    values = []
    look = lambda proto, *args: values.append(VARIABLE.get())  # noqa: E731
    VARIABLE.set("of the maker")
    await s.connect(made=look, data=look, eof=look, lost=look)
    VARIABLE.set("later")
    s.peer.send(b"x")
    await s.until_received(1)
    s.peer.close()
    await s.until_lost()
    return values


@scene()
async def test_no_current_task_inside_the_calls(s):
    tasks = []
    look = lambda proto, *args: tasks.append(s.w.aio.current_task())  # noqa: E731
    await s.connect(data=look, eof=look, lost=look)
    s.peer.send(b"x")
    await s.until_received(1)
    s.peer.close()
    await s.until_lost()
    return tasks


@scene()
async def test_futures_set_inside_the_calls_wake_tasks(s):
    fut = s.loop.create_future()
    await s.connect(data=lambda proto, data: fut.set_result(data))
    s.loop.call_later(0.002, s.peer.send, b"wake")
    s.note(await fut)


# --- the transport itself -------------------------------------------------------------------------------------------


@scene()
async def test_extra_info(s):
    transport = await s.connect()
    sock = transport.get_extra_info("socket")
    s.note((type(sock).__name__, sock.family.name, sock.type.name, sock.fileno() > 0, sock.gettimeout()))
    s.note(transport.get_extra_info("sockname") == sock.getsockname())
    s.note(type(transport.get_extra_info("sockname")).__name__)
    s.note(transport.get_extra_info("peername") == s.peer.getsockname())
    s.note(type(transport.get_extra_info("peername")).__name__)
    for key in ("unknown", "sslcontext", "ssl_object", "cipher", "pipe", "subprocess"):
        s.note((key, transport.get_extra_info(key), transport.get_extra_info(key, "default")))
    s.note(raised(transport.get_extra_info)[0])
    if s.family == "tcp":
        s.note(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    transport.close()
    s.note(transport.get_extra_info("socket") is sock)
    await s.until_lost()
    s.note(transport.get_extra_info("socket") is sock)
    s.note(type(transport.get_extra_info("peername")).__name__)
    s.note(sock.fileno())
    assert ("unknown", None, "default") in s.log


@scene()
async def test_the_class_of_a_transport(s):
    transport = await s.connect()
    names = [
        isinstance(transport, asyncio.Transport),
        isinstance(transport, asyncio.ReadTransport),
        isinstance(transport, asyncio.WriteTransport),
        isinstance(transport, asyncio.BaseTransport),
        isinstance(transport, s.w.aio.Transport),
    ]
    assert all(names)
    assert repr(transport)
    transport.close()
    assert repr(transport)
    await s.until_lost()
    assert repr(transport)
    return names, sorted(n for n in dir(asyncio.Transport) if not n.startswith("_") and not hasattr(transport, n))


@scene()
async def test_the_socket_of_a_transport_cannot_be_driven_directly(s):
    await s.connect()
    sock = s.transport.get_extra_info("socket")
    names = ("recv", "send", "sendall", "close", "accept", "connect", "settimeout", "setblocking", "makefile")
    return [hasattr(sock, name) for name in names], normal(type(sock).__module__)


@scene()
async def test_an_unclosed_transport_warns_and_closes(s):
    import gc
    import warnings

    if s.side == "server":
        return "the Server of 3.12 waits for ever for a transport that went away"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await s.connect()
        await s.settle()
        s.transport.pause_reading()  # a transport that reads is held by its loop
        s.proto.transport = s.transport = None
        s.proto = None
        gc.collect()
        await s.settle()
        s.note(s.peer_ended())
    return sorted({c.category.__name__ for c in caught if "transport" in str(c.message)})
