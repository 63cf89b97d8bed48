"""A datagram protocol that sends back what it gets, at the port that the listener has for TCP."""

import asyncio
import socket
from collections.abc import Callable


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=listener.getsockname())
    ready()
    try:
        await asyncio.Event().wait()
    finally:
        transport.close()
