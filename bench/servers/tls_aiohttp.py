"""aiohttp_plain over TLS."""

import asyncio
import socket
from collections.abc import Callable

from aiohttp import http_parser, web
from harness.certificate import server_context
from servers.aiohttp_plain import hello


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024, ssl_context=server_context()).start()
    ready()
    await asyncio.get_running_loop().create_future()
