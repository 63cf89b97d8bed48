"""100 MiB through a pipe in one process: one task writes 64 KiB at a time and drains, another one reads."""

import asyncio
import os
from typing import Any

TITLE = "pipe, 100 MiB"
UNIT = 1
PIECE = bytes(64 * 1024)
PIECES = 1600
VARIANTS = ("protocol", "streams")


class Receiver(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = 0
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)


class Sender(asyncio.BaseProtocol):
    """Writes as fast as it may."""

    left = PIECES
    paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(PIECE)
        if not self.left:
            # Not here and now: asyncio loses what resume_writing() writes before close().
            asyncio.get_running_loop().call_soon(self.transport.close)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()


async def with_protocols() -> None:
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    _, receiver = await loop.connect_read_pipe(Receiver, open(reading, "rb", 0))
    await loop.connect_write_pipe(Sender, open(writing, "wb", 0))
    await receiver.lost
    assert receiver.received == PIECES * len(PIECE)


async def with_streams() -> None:
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(reading, "rb", 0))
    sink, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, open(writing, "wb", 0))
    writer = asyncio.StreamWriter(sink, flow, None, loop)

    async def send() -> None:
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
        writer.close()

    sending = asyncio.ensure_future(send())
    received = 0
    while data := await reader.read(len(PIECE)):
        received += len(data)
    await sending
    assert received == PIECES * len(PIECE)


async def bench(count: int, timed: Any, variant: str) -> None:
    run = with_protocols if variant == "protocol" else with_streams
    for _ in range(count):
        with timed:
            await run()
