"""A server streams 100 MiB in pieces of 1 MiB to a client in the same process; it drains after each write, the client
reads as much as there is: pyperformance's asyncio_tcp, a tenth as long."""

import asyncio
from typing import Any

TITLE = "asyncio_tcp, 100 MiB"
UNIT = 1
PIECE = bytes(1024 * 1024)
PIECES = 100


async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _number in range(PIECES):
        writer.write(PIECE)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def transfer() -> None:
    async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        received = 0
        while data := await reader.read(len(PIECE)):
            received += len(data)
        assert received == PIECES * len(PIECE)
        writer.close()
        await writer.wait_closed()


async def bench(count: int, timed: Any) -> None:
    for _ in range(count):
        with timed:
            await transfer()
