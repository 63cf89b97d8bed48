"""Connections come and go in every way while other threads reuse their descriptors' numbers at once: not one foreign
close, read or write, checked by what the threads' own pipes carry and by the inode behind each number.

    ASYNCHROTRON_OWNERSHIP_SECONDS=300 make test ARGS="-k descriptors_are_owned"     for longer than the usual seconds
"""

import asyncio
import contextlib
import os
import random
import socket
import threading
import time

import pytest

SECONDS = float(os.environ.get("ASYNCHROTRON_OWNERSHIP_SECONDS", "2"))
THREADS, AT_ONCE = 3, 8


class Neighbour:
    """Opens pairs of descriptors, talks over them, and closes them: the lowest free numbers, so those just given up."""

    def __init__(self, number, stop):
        self.number, self.stop = number, stop
        self.rounds, self.wrong = 0, []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        chosen = random.Random(self.number)
        try:
            while not self.stop.is_set():
                self.round(chosen)
                self.rounds += 1
                if self.rounds % 50 == 0:
                    time.sleep(0)  # the loop wants the interpreter, too
        except BaseException as exc:
            self.wrong.append(repr(exc))

    def round(self, chosen):
        pairs = []
        for _ in range(chosen.randrange(1, 5)):
            if chosen.random() < 0.5:
                reading, writing = os.pipe()
            else:
                left, right = socket.socketpair()
                left.settimeout(None)
                reading, writing = left.detach(), right.detach()
            pairs.append((reading, writing, os.fstat(reading).st_ino, os.fstat(writing).st_ino))
        for index, (reading, writing, *_) in enumerate(pairs):
            os.set_blocking(reading, False)
            os.write(writing, b"%d:%d" % (self.number, index))
        for index, (reading, writing, reading_ino, writing_ino) in enumerate(pairs):
            if (os.fstat(reading).st_ino, os.fstat(writing).st_ino) != (reading_ino, writing_ino):
                self.wrong.append("another file behind the number")
            if os.read(reading, 1000) != b"%d:%d" % (self.number, index):
                self.wrong.append("other bytes")
        for reading, writing, *_ in pairs:
            os.close(reading)
            os.close(writing)


@pytest.mark.slow
@pytest.mark.timeout(60 + 2 * SECONDS)
def test_every_way_for_a_connection_to_end(ours):
    aio = ours.aio

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def one(chosen, address, kinds):
        loop = aio.get_running_loop()
        kind = chosen.choice(kinds)
        if kind == "cancelled":
            task = aio.create_task(aio.open_connection(*address))
            for _ in range(chosen.randrange(4)):
                await aio.sleep(0)
            task.cancel()
            with contextlib.suppress(aio.CancelledError):
                _, writer = await task
                writer.transport.abort()
        elif kind == "sock calls cancelled":
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                task = aio.create_task(loop.sock_recv(sock, 100))
                await aio.sleep(0)
                if chosen.random() < 0.5:
                    await loop.sock_sendall(sock, b"x")
                task.cancel()
                await aio.wait([task])
        elif kind == "closed behind its back":
            sock = socket.create_connection(address)
            sock.setblocking(False)
            _, writer = await aio.open_connection(sock=sock)
            writer.write(b"x" * chosen.randrange(1, 100_000))
            writer.transport.abort()
        else:
            reader, writer = await aio.open_connection(*address)
            message = chosen.randbytes(chosen.randrange(1, 3000))
            writer.write(message)
            if kind == "closed":
                assert await reader.readexactly(len(message)) == message
                writer.close()
                await writer.wait_closed()
            elif kind == "closed at once":
                writer.close()
            elif kind == "paused":
                writer.transport.pause_reading()
                writer.transport.abort()
            else:
                writer.transport.abort()

    async def main():
        loop = aio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        kinds = [
            "closed",
            "closed at once",
            "aborted",
            "paused",
            "cancelled",
            "sock calls cancelled",
            "closed behind its back",
        ]

        async def churn(number):
            chosen = random.Random(number)
            while loop.time() < end:
                await one(chosen, address, kinds)
                nonlocal connections
                connections += 1

        connections, end = 0, loop.time() + SECONDS
        await aio.gather(*(churn(number) for number in range(AT_ONCE)))
        server.close()
        await server.wait_closed()
        return connections

    stop = threading.Event()
    neighbours = [Neighbour(number, stop) for number in range(THREADS)]
    try:
        errors = []
        connections = ours.run(main, errors=errors)
    finally:
        stop.set()
        for neighbour in neighbours:
            neighbour.thread.join()
    assert [neighbour.wrong for neighbour in neighbours] == [[]] * THREADS
    assert not errors
    assert connections > 20 and all(neighbour.rounds > 20 for neighbour in neighbours)
