"""What the tests of the loop's sock_ methods share."""

import asyncio
import contextlib
import gc
import os
import socket

METHODS = (
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto", "sock_accept",
)  # fmt: skip
STOCK = asyncio.selector_events.BaseSelectorEventLoop


@contextlib.contextmanager
def pair(kind=socket.SOCK_STREAM):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for sock in (ours, theirs):
        sock.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def collect():
    """All of it; from 3.15 on, one pass is not always enough."""
    for _ in range(3):
        gc.collect()


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


def on(loop, name, sock, *rest):
    """The coroutine of a method with arguments that fit."""
    arguments = {
        "sock_recv": (100,), "sock_recv_into": (bytearray(100),), "sock_recvfrom": (100,),
        "sock_recvfrom_into": (bytearray(100),), "sock_sendall": (b"data",), "sock_sendto": (b"data", "address"),
        "sock_accept": (),
    }  # fmt: skip
    return getattr(loop, name)(sock, *(rest or arguments[name]))


def fill(sock):
    """Send until the socket takes no more; returns how much that was."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(bytes(65536))
    return total


def read_all(sock):
    total = b""
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(1 << 20):
            total += data
    return total


class Duck:
    """A socket by behaviour alone, that notes what is called; its first attempts are not ready."""

    def __init__(self, sock, not_ready=0, error=BlockingIOError):
        self.sock, self.not_ready, self.error = sock, not_ready, error
        self.calls = []

    def fileno(self):
        self.calls.append("fileno")
        return self.sock.fileno()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self.sock, name)

        def call(*args):
            shown = [bytes(arg) if isinstance(arg, memoryview) else arg for arg in args]
            self.calls.append((name, *shown))
            if self.not_ready > 0 and name not in ("gettimeout", "setblocking"):
                self.not_ready -= 1
                raise self.error
            return method(*args)

        return call


def processor_seconds():
    times = os.times()
    return times.user + times.system
