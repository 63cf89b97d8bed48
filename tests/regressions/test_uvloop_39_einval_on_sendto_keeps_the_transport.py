"""EINVAL on a UDP sendto() calls error_received() and keeps the transport.

rloop closed it.
"""

import asyncio
import errno

from worlds import until


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received, self.errors, self.lost = [], [], []

    def datagram_received(self, data, addr):
        self.received.append(data)

    def error_received(self, exc):
        self.errors.append(exc.errno)

    def connection_lost(self, exc):
        self.lost.append(exc)


def test_port_zero(world):
    async def main():
        loop = world.aio.get_running_loop()
        transport, proto = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        for _ in range(3):
            transport.sendto(b"nowhere", ("127.0.0.1", 0))
        assert proto.errors == [errno.EINVAL] * 3
        transport.sendto(b"to myself", transport.get_extra_info("sockname"))
        await until(lambda: proto.received)
        assert (transport.is_closing(), proto.lost) == (False, [])
        transport.close()
        await until(lambda: proto.lost)

    world.run(main)
