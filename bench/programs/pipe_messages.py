"""20,000 small messages through a pipe, each read before the next is written: the cost of an event and a write."""

import asyncio
import os
from typing import Any

TITLE = "pipe, 20,000 messages of 64 B"
UNIT = 1
MESSAGES = 20_000
MESSAGE = bytes(64)


class Receiver(asyncio.Protocol):
    sink: Any

    def __init__(self) -> None:
        self.left = MESSAGES
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.left -= 1
        if self.left:
            self.sink.write(MESSAGE)
        else:
            self.done.set_result(None)


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        reading, writing = os.pipe()
        source, receiver = await loop.connect_read_pipe(Receiver, open(reading, "rb", 0))
        receiver.sink, _proto = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writing, "wb", 0))
        with timed:
            receiver.sink.write(MESSAGE)
            await receiver.done
        source.close()
        receiver.sink.close()
        await asyncio.sleep(0.001)
