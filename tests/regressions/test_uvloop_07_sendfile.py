"""loop.sendfile and loop.sock_sendfile work, with fallback both ways.

uvloop and rloop raise NotImplementedError.
"""

import socket

import pytest
from wires import Recorder
from worlds import until


@pytest.fixture
def payload(tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(bytes(range(256)) * 2000)
    return path


async def collect(loop, sock, count):
    got = bytearray()
    while len(got) < count:
        piece = await loop.sock_recv(sock, 1 << 18)
        assert piece
        got += piece
    return bytes(got)


@pytest.mark.parametrize("fallback", [True, False])
def test_over_a_transport(world, payload, fallback):
    async def main():
        loop = world.aio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener, payload.open("rb") as file:
            transport, proto = await loop.create_connection(lambda: Recorder([]), *listener.getsockname())
            peer, _ = listener.accept()
            with peer:
                peer.setblocking(False)
                transport.write(b"before")
                reading = loop.create_task(collect(loop, peer, 6 + 400_000 + 5))
                assert await loop.sendfile(transport, file, 1000, 400_000, fallback=fallback) == 400_000
                transport.write(b"after")
                assert await reading == b"before" + payload.read_bytes()[1000:401_000] + b"after"
            transport.close()
            await until(lambda: proto.is_lost)

    world.run(main)


@pytest.mark.parametrize("fallback", [True, False])
def test_over_a_socket(world, payload, fallback):
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)

    async def main():
        loop = world.aio.get_running_loop()
        with payload.open("rb") as file:
            reading = loop.create_task(collect(loop, right, payload.stat().st_size))
            sent = await loop.sock_sendfile(left, file, fallback=fallback)
            assert sent == payload.stat().st_size
            assert await reading == payload.read_bytes()

    with left, right:
        world.run(main)


def test_a_file_that_the_kernel_cannot_send(world):
    """Without fallback that is an error, with it the data goes through memory."""
    import asyncio
    import io

    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)

    async def main():
        loop = world.aio.get_running_loop()
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sock_sendfile(left, io.BytesIO(b"memory"), fallback=False)
        assert await loop.sock_sendfile(left, io.BytesIO(b"memory"), fallback=True) == 6
        assert await loop.sock_recv(right, 100) == b"memory"

    with left, right:
        world.run(main)
