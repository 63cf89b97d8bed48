"""An echo of lines on streams: readline, write, drain."""

import asyncio
import socket
from collections.abc import Callable

LIMIT = 4 * 1024 * 1024  # of a line; the default of 64 KiB is less than the longest


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    server = await asyncio.start_server(answer, sock=listener, limit=LIMIT, backlog=1024, start_serving=False)
    ready()
    await server.serve_forever()
