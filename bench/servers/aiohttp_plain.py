"""An aiohttp server that answers a short text, with its C parser."""

import asyncio
import socket
from collections.abc import Callable

from aiohttp import http_parser, web


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="Hello, world!")


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    # A run on the pure Python parser would be a different benchmark under the same name.
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024).start()
    ready()
    await asyncio.get_running_loop().create_future()
