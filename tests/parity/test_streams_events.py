"""Stream transports: which protocol calls come, in which order, with which arguments, for many scripts of events."""

import asyncio
import socket

import pytest
from wires import BufferedRecorder, Recorder, fail, scene
from worlds import normal, parity, raised

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
async def test_a_reset_finds_something_written(s):
    """The first error counts, not what the kernel answers to a send after it."""
    transport = await s.connect()
    for _ in range(2):  # after a turn with several writes, those of the next are joined
        transport.write(b"before")
    await s.peer_read(12)

    def reset_and_write():
        s.reset()
        s.loop.call_soon(transport.write, b"after")
        s.loop.call_later(0, s.note, "polled")

    s.loop.call_soon(reset_and_write)
    await s.until_lost()
    s.log.remove("polled")
    assert s.log == ["made", ("lost", ("ConnectionResetError", 104))]


@scene("tcp")
async def test_what_get_buffer_writes_leaves_before_the_receive(s):
    await s.connect(BufferedRecorder, get_buffer=lambda proto, hint: proto.transport.write(b"x"))
    s.reset()
    await s.until_lost()
    assert s.log == ["made", "eof", ("lost", ("ConnectionResetError", 104))]


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
