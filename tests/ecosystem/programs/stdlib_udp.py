"""Datagram endpoints: unconnected and connected, errors of the peer, IPv6, Unix datagrams, a socket of our own,
several sockets on one port, and the loop's sock_sendto and sock_recvfrom."""

import asyncio
import socket
import tempfile
from pathlib import Path
from typing import Any, cast

from outcome import report


class Endpoint(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def __init__(self, *, answers: bool = False) -> None:
        self.answers = answers
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.answers:
            self.transport.sendto(data.upper(), addr)
        self.received.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)


async def exchange(client: Endpoint, count: int, address: Any = None) -> None:
    for number in range(count):
        client.transport.sendto(f"packet {number}".encode(), address)
        data, _ = await client.received.get()
        assert data == f"PACKET {number}".encode()


async def internet(family: int, host: str) -> None:
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(lambda: Endpoint(answers=True), local_addr=(host, 0), family=family)
    address = server.transport.get_extra_info("sockname")

    _, unconnected = await loop.create_datagram_endpoint(Endpoint, local_addr=(host, 0), family=family)
    await exchange(unconnected, 100, address)
    _, connected = await loop.create_datagram_endpoint(Endpoint, remote_addr=address[:2], family=family)
    await exchange(connected, 100)
    assert connected.transport.get_extra_info("peername")[:2] == address[:2]
    connected.transport.sendto(b"x" * 60_000)
    assert (await connected.received.get())[0] == b"X" * 60_000
    connected.transport.sendto(b"")

    for endpoint in (unconnected, connected, server):
        endpoint.transport.close()
        assert await endpoint.closed is None


async def refused() -> None:
    """The kernel tells a connected socket that nobody listens; the endpoint stays usable."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    _, client = await loop.create_datagram_endpoint(Endpoint, remote_addr=address)
    client.transport.sendto(b"anybody?")
    assert isinstance(await client.errors.get(), ConnectionRefusedError)

    _, server = await loop.create_datagram_endpoint(lambda: Endpoint(answers=True), local_addr=address)
    await exchange(client, 10)
    client.transport.abort()
    server.transport.close()
    assert await client.closed is None
    assert await server.closed is None


async def unix(directory: Path) -> None:
    loop = asyncio.get_running_loop()
    server_path, client_path = str(directory / "server"), str(directory / "client")
    _, server = await loop.create_datagram_endpoint(
        lambda: Endpoint(answers=True), local_addr=server_path, family=socket.AF_UNIX
    )
    _, client = await loop.create_datagram_endpoint(
        Endpoint, local_addr=client_path, remote_addr=server_path, family=socket.AF_UNIX
    )
    await exchange(client, 100)
    client.transport.close()
    server.transport.close()
    await asyncio.gather(client.closed, server.closed)


async def shared_port() -> None:
    loop = asyncio.get_running_loop()
    endpoints = []
    address = ("127.0.0.1", 0)
    for _ in range(2):
        _, endpoint = await loop.create_datagram_endpoint(Endpoint, local_addr=address, reuse_port=True)
        address = endpoint.transport.get_extra_info("sockname")
        endpoints.append(endpoint)
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("127.0.0.1", 0))
    _, sender = await loop.create_datagram_endpoint(Endpoint, sock=own)
    sender.transport.sendto(b"to one of the two", address)
    arrivals = [asyncio.create_task(endpoint.received.get()) for endpoint in endpoints]
    done, pending = await asyncio.wait(arrivals, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(pending)) == (1, 1)
    for task in pending:
        task.cancel()
    for endpoint in (*endpoints, sender):
        endpoint.transport.close()
        await endpoint.closed


async def bare_sockets() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        buffer = bytearray(1000)
        for number in range(50):
            waiting = asyncio.create_task(loop.sock_recvfrom(second, 1000))
            await asyncio.sleep(0)
            assert await loop.sock_sendto(first, b"%d" % number, second.getsockname()) == len(b"%d" % number)
            data, sender = await waiting
            assert (data, sender) == (b"%d" % number, first.getsockname())
            await loop.sock_sendto(second, data, first.getsockname())
            length, sender = await loop.sock_recvfrom_into(first, buffer)
            assert (buffer[:length], sender) == (data, second.getsockname())


async def main() -> None:
    async with asyncio.timeout(30):
        await internet(socket.AF_INET, "127.0.0.1")
        if socket.has_ipv6:
            try:
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                    probe.bind(("::1", 0))
            except OSError:
                pass  # a container without IPv6
            else:
                await internet(socket.AF_INET6, "::1")
        await refused()
        with tempfile.TemporaryDirectory() as directory:
            await unix(Path(directory))
        await shared_port()
        await bare_sockets()
    report("UDP: endpoints of every kind")


if __name__ == "__main__":
    asyncio.run(main())
