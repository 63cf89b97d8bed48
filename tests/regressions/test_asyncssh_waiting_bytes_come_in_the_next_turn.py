"""What waits in a file when its reading begins is received in the next turn, whatever else that turn has to run.

asyncio polls in every turn. When asyncssh redirects a process's input it closes the old pipe, whose end ends the input,
and counts on the new pipe's bytes to come first.
"""

import asyncio
import socket

import pytest
from worlds import parity


class Reader(asyncio.Protocol):
    def __init__(self, received):
        self.received = received

    def data_received(self, data):
        self.received.append(data)


async def begin(loop, how, sock, received):
    if how == "add_reader":
        loop.add_reader(sock, lambda: received.append(sock.recv(16)))
        return lambda: loop.remove_reader(sock)
    if how == "create_connection":
        transport, _ = await loop.create_connection(lambda: Reader(received), sock=sock)
    elif how == "resume_reading":
        transport, _ = await loop.create_connection(lambda: Reader(received), sock=sock)
        transport.pause_reading()
        await asyncio.sleep(0.001)
        transport.resume_reading()
    else:
        transport, _ = await loop.connect_read_pipe(lambda: Reader(received), sock.makefile("rb", 0))
    return transport.abort if hasattr(transport, "abort") else transport.close


@parity
@pytest.mark.parametrize("how", ["add_reader", "create_connection", "connect_read_pipe", "resume_reading"])
def test_bytes_that_wait_already(w, how):
    received, trace = [], []

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.send(b"waits")
            end = await begin(loop, how, theirs, received)
            ours.send(b"later")
            for _ in range(3):
                trace.append(b"".join(received))
                await asyncio.sleep(0)
            end()
            await asyncio.sleep(0.001)

    w.run(main)
    return trace
