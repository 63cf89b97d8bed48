"""Exceptions in protocol callbacks reach call_exception_handler exactly once and never leave the transport half closed.

uvloop#311, uvloop#317.
"""

import socket

import pytest
from wires import BufferedRecorder, Recorder, play


class Boom(Exception):
    pass


def fail(proto, *args):
    raise Boom


async def poke(s, event):
    """Bring the event about, after which the transport either works on or is closed on both sides."""
    transport = s.transport
    if event in ("data", "get_buffer"):
        s.peer.send(b"x")
    elif event == "eof":
        s.peer.shutdown(socket.SHUT_WR)
    elif event == "lost":
        s.peer.close()
    elif event in ("pause", "resume"):
        written = 0
        while "pause" not in s.log:
            transport.write(b"x" * 65536)
            written += 65536
        await s.peer_read(written)
        await s.until(lambda: "resume" in s.log)
    await s.settle()


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("event", ["made", "data", "eof", "lost", "pause", "resume", "get_buffer"])
def test_once_and_whole(world, family, side, event):
    async def body(s):
        recorder = BufferedRecorder if event == "get_buffer" else Recorder
        transport = await s.connect(recorder, tight=event in ("pause", "resume"), **{event: fail})
        descriptor = transport.get_extra_info("socket").fileno()
        assert descriptor >= 0
        await poke(s, event)
        if event in ("data", "eof", "get_buffer"):
            await s.until_lost()
            assert transport.is_closing()
            assert transport.get_extra_info("socket").fileno() == -1
            assert s.peer_ended() in (b"", "ConnectionResetError")
            assert s.log[-1][1][0] == "Boom"
        elif event == "lost":
            assert transport.get_extra_info("socket").fileno() == -1
        else:
            assert not transport.is_closing()
            transport.write(b"still works")
            assert await s.peer_read(11) == b"still works"
            s.peer.send(b"both ways")
            await s.until_received(9)

    trace = play(world, body, family, side)
    assert [exc for _, exc, _ in trace["reported"]] == [("Boom", "")]
    assert sum(isinstance(entry, tuple) and entry[0] == "lost" for entry in trace["log"]) <= 1


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_connection_lost_after_a_failed_data_received_is_told_the_reason(world, family):
    async def body(s):
        await s.connect(data=fail, lost=fail)
        s.peer.send(b"x")
        await s.until_lost()
        await s.settle()

    trace = play(world, body, family, "server")
    assert [exc for _, exc, _ in trace["reported"]] == [("Boom", ""), ("Boom", "")]
