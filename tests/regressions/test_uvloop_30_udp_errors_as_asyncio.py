"""UDP: sendto on a connected socket, a datagram too large, and a refused peer report as asyncio does; it stays open.

uvloop#338, uvloop#601, uvloop#319; on rloop an EINVAL closed the transport.
"""

import asyncio
import socket

from worlds import STOCK, araised, until


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received, self.errors, self.lost = [], [], []

    def datagram_received(self, data, address):
        self.received.append(data)

    def error_received(self, exc):
        self.errors.append((type(exc).__name__, exc.errno))

    def connection_lost(self, exc):
        self.lost.append(exc)


def scene(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        server, server_side = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, client_side = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        client.sendto(b"one")
        client.sendto(b"two", address)
        await until(lambda: len(server_side.received) == 2)
        trace.append((await araised(raising(client.sendto, b"x", ("127.0.0.2", 1))))[0])
        client.sendto(b"x" * 70_000)
        await asyncio.sleep(0.002)
        trace.append(client_side.errors.copy())
        client.sendto(b"three")
        await until(lambda: len(server_side.received) == 3)
        trace.append((client.is_closing(), client_side.lost.copy()))
        client.close()
        server.close()
        await until(lambda: client_side.lost and server_side.lost)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            gone = nobody.getsockname()
        lonely, lonely_side = await loop.create_datagram_endpoint(Datagrams, remote_addr=gone)
        for _ in range(100):
            lonely.sendto(b"anybody?")
            await asyncio.sleep(0.001)
            if lonely_side.errors:
                break
        trace.append((lonely_side.errors[0], lonely.is_closing(), lonely_side.lost.copy()))
        lonely.close()
        await until(lambda: lonely_side.lost)
        return trace

    return w.run(main)


async def raising(call, *args):
    call(*args)


def test_as_asyncio(world):
    trace = scene(world)
    assert trace == scene(STOCK)
    assert trace[1] == [("OSError", 90)]
    assert trace[-1] == (("ConnectionRefusedError", 111), False, [])
