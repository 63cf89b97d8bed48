"""An echo on streams: read, write, drain."""

import asyncio
import socket
from collections.abc import Callable

READ = 64 * 1024


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    server = await asyncio.start_server(answer, sock=listener, backlog=1024, start_serving=False)
    ready()
    await server.serve_forever()
