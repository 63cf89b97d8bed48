"""The smallest ASGI application under uvicorn with httptools.

`Server.run()` is `Runner(loop_factory=<what --loop names>).run(Server.serve())`; here the benchmark's own runner,
given the same factory, is around `serve()`, so that the loop is selected as for every other server.
"""

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

BODY = b"Hello, world!"


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", log_level="warning", access_log=False
    )
    ready()  # the socket listens already; what connects now is accepted when the server starts
    await uvicorn.Server(config).serve(sockets=[listener])
