"""create_datagram_endpoint(local_addr='/path', family=AF_UNIX) works, with a path and with an abstract name.

uvloop#403, uvloop#196: TypeError. zuvloop#86: the abstract name.
"""

import asyncio
import os
import socket

import pytest
from worlds import until


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_receive_and_answer(world, kind, tmp_path):
    name = str(tmp_path / "socket") if kind == "path" else f"\0asynchrotron-{os.getpid()}-{world.name}"
    received = []

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.append(data)

        def connection_lost(self, exc):
            received.append(exc)

    async def main():
        loop = world.aio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=name, family=socket.AF_UNIX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", name)
            sender.sendto(b"world", name)
            await until(lambda: len(received) == 2)
        transport.close()
        await until(lambda: len(received) == 3)

    world.run(main)
    assert received == [b"hello", b"world", None]
