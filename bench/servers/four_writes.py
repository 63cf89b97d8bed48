"""A Protocol that answers each message in four writes, as code does that has a header, a length, a body and an end."""

import asyncio
import socket
from collections.abc import Callable

MESSAGE = 1024
PART = MESSAGE // 4


class FourWrites(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        if self.pending:
            data = self.pending + data
            self.pending = b""
        if len(data) < MESSAGE:
            self.pending = data
            return
        self.transport.write(data[:PART])
        self.transport.write(data[PART : 2 * PART])
        self.transport.write(data[2 * PART : 3 * PART])
        self.transport.write(data[3 * PART :])


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FourWrites, sock=listener, backlog=1024, start_serving=False)
    ready()
    await server.serve_forever()
