"""An echo of messages of one length on streams: readexactly, write, drain."""

import asyncio
import socket
from collections.abc import Callable


async def serve(listener: socket.socket, ready: Callable[[], None], size: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, sock=listener, backlog=1024, start_serving=False)
    ready()
    await server.serve_forever()
