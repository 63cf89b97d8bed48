"""Cancelling create_connection(sock=...) or sock_connect never closes a descriptor number it no longer owns.

uvloop#645, uvloop#738, uvloop#740: the number was closed twice; meanwhile it belonged to another connection, whose
client then got somebody else's response.
"""

import asyncio
import os
import socket

import pytest


def silent_listener():
    """A listener with a full backlog: a connect to it stays pending."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        fillers.append(filler)
        try:
            filler.connect(listener.getsockname())
        except BlockingIOError:
            pass
    return [listener, *fillers]


class Bystanders:
    """Pipes opened at the worst moment: they take the lowest free numbers. Each must stay usable."""

    def __init__(self):
        self.pipes = []

    def open(self, count=4):
        self.pipes += [os.pipe() for _ in range(count)]

    def check_and_close(self):
        for number, (reading, writing) in enumerate(self.pipes):
            os.write(writing, b"%d" % number)
            assert os.read(reading, 10) == b"%d" % number
            os.close(reading)
            os.close(writing)
        self.pipes.clear()


@pytest.mark.parametrize("turns", range(6))
def test_create_connection_with_a_given_socket(world, turns):
    """The program closes its socket itself, right after the cancellation, and reuses the number."""

    async def main():
        loop, bystanders = world.aio.get_running_loop(), Bystanders()
        for _ in range(20):
            left, right = socket.socketpair()
            task = loop.create_task(loop.create_connection(asyncio.Protocol, sock=left))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                left.close()
            else:
                task.result()[0].abort()
            bystanders.open()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            right.close()
            bystanders.check_and_close()

    world.run(main)


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_sock_connect(world, turns):
    others = silent_listener()

    async def main():
        loop, bystanders = world.aio.get_running_loop(), Bystanders()
        for _ in range(20):
            sock = socket.socket()
            sock.setblocking(False)
            task = loop.create_task(loop.sock_connect(sock, others[0].getsockname()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            sock.close()
            bystanders.open()
            await asyncio.wait([task])
            await asyncio.sleep(0)
            bystanders.check_and_close()

    world.run(main)
    for sock in others:
        sock.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_create_connection_by_address(world, turns):
    others = silent_listener()

    async def main():
        loop, bystanders = world.aio.get_running_loop(), Bystanders()
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(20):
            task = loop.create_task(loop.create_connection(asyncio.Protocol, *others[0].getsockname()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            bystanders.open()
            await asyncio.sleep(0)
            bystanders.check_and_close()
        await asyncio.sleep(0.001)
        assert set(os.listdir("/proc/self/fd")) == before

    world.run(main)
    for sock in others:
        sock.close()


def test_transports_of_reused_numbers_do_not_hear_old_events(world):
    """A connection closed and another opened under its number within one turn: no event crosses over."""

    class Named(asyncio.Protocol):
        def __init__(self, name, log):
            self.name, self.log = name, log

        def data_received(self, data):
            self.log.append((self.name, data))

    async def main():
        loop, log, wrong = world.aio.get_running_loop(), [], []
        for number in range(100):
            left, right = socket.socketpair()
            transport, _ = await loop.create_connection(lambda: Named("old", wrong), sock=left)
            right.send(b"for the old one")
            transport.abort()
            new_left, new_right = socket.socketpair()
            new, _ = await loop.create_connection(lambda: Named(number, log), sock=new_left)
            new_right.send(b"%d" % number)
            while not log or log[-1] != (number, b"%d" % number):
                await asyncio.sleep(0)
            new.abort()
            right.close()
            new_right.close()
        await asyncio.sleep(0.001)
        assert wrong in ([], [("old", b"for the old one")] * len(wrong))
        assert log == [(n, b"%d" % n) for n in range(100)]

    world.run(main)
