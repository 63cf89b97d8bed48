"""uvicorn_plain over TLS."""

import socket
from collections.abc import Callable

import uvicorn
from harness.certificate import server_context
from servers.uvicorn_plain import application


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", log_level="warning", access_log=False
    )
    config.load()
    config.ssl = server_context()  # uvicorn itself wants files
    ready()
    await uvicorn.Server(config).serve(sockets=[listener])
