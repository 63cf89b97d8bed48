"""uvicorn used as a library, inside a running program: Server.serve with httptools and with h11, httpx and a
WebSocket client on the same loop, over TCP, TLS and a Unix socket; it starts, serves, and goes away."""

import asyncio
import logging
import os
import socket
import ssl
import tempfile
from pathlib import Path

import httpx
import trustme
import uvicorn
import websockets

import httpx_requests
from fastapi_application import application
from outcome import report


async def serving(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> asyncio.Task[None]:
    task = asyncio.create_task(server.serve(sockets=sockets))
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    return task


async def serve_tcp(http: str) -> None:
    config = uvicorn.Config(application, http=http, log_level="warning", port=0)
    server = uvicorn.Server(config)
    task = await serving(server)
    port = server.servers[0].sockets[0].getsockname()[1]

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        await httpx_requests.use(client)
    payload = os.urandom(500_000)
    async with websockets.connect(f"ws://127.0.0.1:{port}/echo") as connection:
        for _ in range(5):
            await connection.send(payload)
            assert await connection.recv() == payload

    server.should_exit = True
    async with asyncio.timeout(10):
        await task


async def serve_tls(directory: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    config = uvicorn.Config(application, log_level="warning", port=0, ssl_certfile=str(directory / "server.pem"))
    server = uvicorn.Server(config)
    task = await serving(server)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=context, timeout=20) as client:
        await httpx_requests.use(client)
    server.should_exit = True
    async with asyncio.timeout(10):
        await task


async def serve_unix(directory: Path) -> None:
    path = str(directory / "http.sock")
    server = uvicorn.Server(uvicorn.Config(application, uds=path, log_level="warning"))
    task = await serving(server)
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://here", timeout=20
    ) as client:
        await httpx_requests.use(client)
    server.should_exit = True
    async with asyncio.timeout(10):
        await task


async def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    for http in ("httptools", "h11"):
        await serve_tcp(http)
    with tempfile.TemporaryDirectory() as directory:
        await serve_tls(Path(directory))
        await serve_unix(Path(directory))
    report("uvicorn: four servers inside the program")


if __name__ == "__main__":
    asyncio.run(main())
