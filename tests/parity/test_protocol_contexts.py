"""What one callback of a protocol sets in its context, and which of the others see it."""

import asyncio
import contextvars
import os
import socket

import pytest
from worlds import parity

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


class Seen(asyncio.Protocol, asyncio.DatagramProtocol):
    """Notes what each callback sees, and sets its own name."""

    def __init__(self):
        self.trace = []
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, name):
        self.trace.append((name, VARIABLE.get()))
        VARIABLE.set(name)

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.note(f"received {data!r}")

    def datagram_received(self, data, address):
        self.note(f"received {data!r}")

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, error):
        # Who is told of the end in which context is docs/compat.md's.
        self.lost.set_result(self.trace)


async def until(protocol, count):
    while len(protocol.trace) < count:
        await asyncio.sleep(0.001)


async def exchange(peer, protocol):
    await until(protocol, 1)
    for number, data in enumerate((b"1", b"2"), 2):
        peer.send(data)
        await until(protocol, number)


@parity
@pytest.mark.parametrize("role", ["client", "server"])
def test_streams(w, role):
    async def main():
        loop = asyncio.get_running_loop()
        VARIABLE.set("of the maker")
        if role == "client":
            ours, peer = socket.socketpair()
            _, protocol = await loop.create_connection(Seen, sock=ours)
        else:
            made = []

            def factory():
                made.append(Seen())
                return made[0]

            server = await loop.create_server(factory, "127.0.0.1", 0)
            peer = socket.create_connection(server.sockets[0].getsockname())
            while not made:
                await asyncio.sleep(0.001)
            (protocol,) = made
            server.close()
        with peer:
            await exchange(peer, protocol)
        return await protocol.lost, VARIABLE.get()

    return w.run(main)


@parity
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_context_for_all_of_them(w, role):
    """What 3.15's transports are given by create_connection() and create_server()."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        context = contextvars.Context()
        keywords = {"context": context} if hasattr(loop, "_make_socket_transport") and TAKES_CONTEXT else {}
        protocol = Seen()
        if role == "client":
            loop._make_socket_transport(ours, protocol, **keywords)
        else:
            context.run(loop._make_socket_transport, ours, protocol, **keywords)
        with peer:
            await exchange(peer, protocol)
        return await protocol.lost, VARIABLE.get(), context.get(VARIABLE)

    return w.run(main)


TAKES_CONTEXT = "context" in asyncio.selector_events.BaseSelectorEventLoop._make_socket_transport.__code__.co_varnames


@parity
def test_datagrams(w):
    async def main():
        loop = asyncio.get_running_loop()
        VARIABLE.set("of the maker")
        transport, protocol = await loop.create_datagram_endpoint(Seen, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect(transport.get_extra_info("sockname"))
            await exchange(peer, protocol)
        transport.close()
        return await protocol.lost, VARIABLE.get()

    return w.run(main)


@parity
def test_pipes(w):
    class Sender:
        def __init__(self, fd):
            self.fd = fd

        def send(self, data):
            os.write(self.fd, data)

    async def main():
        loop = asyncio.get_running_loop()
        VARIABLE.set("of the maker")
        reading, writing = os.pipe()
        _, protocol = await loop.connect_read_pipe(Seen, os.fdopen(reading, "rb"))
        await exchange(Sender(writing), protocol)
        os.close(writing)
        return await protocol.lost, VARIABLE.get()

    return w.run(main)
