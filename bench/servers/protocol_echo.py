"""The plainest server there is: a Protocol that writes back what it gets."""

import asyncio
import socket
from collections.abc import Callable


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=listener, backlog=1024, start_serving=False)
    ready()
    await server.serve_forever()
