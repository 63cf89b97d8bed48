"""A client of the websockets library sends a hundred messages of 1 MiB from as many tasks to a server in the same
process: pyperformance's asyncio_websockets."""

import asyncio
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

TITLE = "asyncio_websockets, 100 MiB"
UNIT = 1
MESSAGE = bytes(1024 * 1024)
MESSAGES = 100


async def transfer() -> None:
    received = asyncio.Event()

    async def receive(connection: ServerConnection) -> None:
        for _ in range(MESSAGES):
            assert len(await connection.recv()) == len(MESSAGE)
        received.set()
        await connection.wait_closed()

    async with serve(receive, "127.0.0.1", 0, compression=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with connect(f"ws://{host}:{port}", compression=None) as connection:
            await asyncio.gather(*[connection.send(MESSAGE) for _ in range(MESSAGES)])
            await received.wait()


async def bench(count: int, timed: Any) -> None:
    for _ in range(count):
        with timed:
            await transfer()
