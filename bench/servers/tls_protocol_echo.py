"""protocol_echo over TLS."""

import asyncio
import socket
from collections.abc import Callable

from harness.certificate import server_context
from servers.protocol_echo import Echo


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=listener, backlog=1024, ssl=server_context(), start_serving=False)
    ready()
    await server.serve_forever()
