"""transport.write() of a small buffer reaches the socket without an extra iteration of the loop.

uvloop#619, uvloop#631: the bytes waited for the next iteration. A peer in the same thread that blocked for them waited
for ever, and buffered responses left later than they were written.
"""

import asyncio
import socket

import pytest
from wires import play


def at_peer(sock):
    """What has arrived by now, without waiting."""
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_before_the_next_turn(world, family):
    async def body(s):
        transport = await s.connect()
        for number in range(50):
            transport.write(b"%d" % number)
            await asyncio.sleep(0)
            assert at_peer(s.peer) == b"%d" % number

    play(world, body, family, "client")


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_callback_queued_after_the_write_finds_the_data_sent(world, family):
    async def body(s):
        transport = await s.connect()
        seen = []

        def write_then_look():
            transport.write(b"now")
            s.loop.call_soon(lambda: seen.append(at_peer(s.peer)))

        s.loop.call_soon(write_then_look)
        await s.settle()
        assert seen == [b"now"]

    play(world, body, family, "client")


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_whoever_asks_finds_nothing_kept(world, family):
    """get_write_buffer_size() after a small write is zero, and then the data is on its way."""

    async def body(s):
        transport = await s.connect()
        transport.write(b"small")
        assert transport.get_write_buffer_size() == 0
        assert at_peer(s.peer) == b"small"

    play(world, body, family, "client")


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_synchronously(world, family):
    """uvloop#631's own example: the peer reads in the very step that wrote."""

    async def body(s):
        transport = await s.connect()
        transport.write(b"\0")
        assert at_peer(s.peer) == b"\0"

    play(world, body, family, "client")


def test_streams_synchronously(world):
    left, right = socket.socketpair()
    right.settimeout(1)

    async def main():
        _, writer = await world.aio.open_connection(sock=left)
        try:
            writer.write(b"\0")
            return right.recv(1)
        finally:
            writer.close()
            await writer.wait_closed()

    with right:
        assert world.run(main) == b"\0"
