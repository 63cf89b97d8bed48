"""sock_sendto, sock_recvfrom and sock_recvfrom_into work on a UDP socket.

uvloop#561: NotImplementedError.
"""

import socket


def test_a_datagram_each_way(world):
    one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with one, two:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)

        async def main():
            loop = world.aio.get_running_loop()
            assert await loop.sock_sendto(one, b"hello", two.getsockname()) in (5, None)
            assert await loop.sock_recvfrom(two, 100) == (b"hello", one.getsockname())
            waiting = loop.create_task(loop.sock_recvfrom(one, 100))
            await world.aio.sleep(0.001)
            await loop.sock_sendto(two, b"answer", one.getsockname())
            assert await waiting == (b"answer", two.getsockname())
            buffer = bytearray(16)
            await loop.sock_sendto(one, b"into", two.getsockname())
            assert await loop.sock_recvfrom_into(two, buffer) == (4, one.getsockname())
            assert buffer.startswith(b"into")

        world.run(main)
