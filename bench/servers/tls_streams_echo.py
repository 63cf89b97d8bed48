"""streams_echo over TLS."""

import asyncio
import socket
from collections.abc import Callable

from harness.certificate import server_context
from servers.streams_echo import answer


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    server = await asyncio.start_server(answer, sock=listener, backlog=1024, ssl=server_context(), start_serving=False)
    ready()
    await server.serve_forever()
