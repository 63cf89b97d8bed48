"""A file of 256 MiB over loopback TCP with loop.sendfile(), received in a thread that throws it away."""

import asyncio
import os
import socket
import tempfile
import threading
from typing import Any

TITLE = "sendfile, 256 MiB"
UNIT = 1
LEN = 256 * 1024 * 1024
CORES = 2


def receive(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    buffer = bytearray(1024 * 1024)
    with sock:
        while sock.recv_into(buffer):
            pass


async def bench(count: int, timed: Any) -> None:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryFile() as file, socket.create_server(("127.0.0.1", 0)) as listener:
        os.truncate(file.fileno(), LEN)
        for _ in range(count):
            thread = threading.Thread(target=receive, args=(listener,))
            thread.start()
            transport, _proto = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
            with timed:
                assert await loop.sendfile(transport, file) == LEN
            transport.close()
            await asyncio.sleep(0.01)
            thread.join()
