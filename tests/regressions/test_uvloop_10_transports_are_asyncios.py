"""isinstance(transport, asyncio.Transport) is true, and get_extra_info('socket') is usable where TransportSocket is.

uvloop's transports did not derive from asyncio's, and its socket object was a class of its own.
"""

import asyncio
import socket

import pytest
from wires import Scene


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_types(world, family, side):
    async def main(loop):
        s = Scene(world, loop, family, side)
        transport = await s.connect()
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, world.aio.Transport)
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.family == (socket.AF_INET if family == "tcp" else socket.AF_UNIX)
        assert sock.type == socket.SOCK_STREAM
        assert sock.fileno() >= 0
        assert sock.getsockname() == transport.get_extra_info("sockname")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.gettimeout() == 0
        with sock.dup() as copy:
            assert isinstance(copy, socket.socket)
            copy.send(b"through the copy")
        assert await s.peer_read(16) == b"through the copy"
        await s.end()

    with world.loop() as loop:
        loop.run_until_complete(main(loop))
