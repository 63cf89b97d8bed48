"""Datagrams under faults: each comes whole, once and in order, or its sender hears why not."""

import socket
from typing import Any

import asynchrotron as aio
from faulted import faulted, injected

# A datagram is never cut.
GENTLE = {"interrupted": 50, "spurious": 50}
HARSH = {**GENTLE, "broken": 30, "resources": 30}

COUNT = 40
LEN_MAX = 1500  # all of them fit into the kernel's buffer: none is lost


def datagrams(random: Any) -> list[bytes]:
    return [b"%d " % number + random.randbytes(random.randrange(LEN_MAX)) for number in range(COUNT)]


class End(aio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.errors: list[Exception] = []
        self.lost: list[Any] = []
        self.news = aio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert not self.lost
        self.received.append(data)
        self.news.set()

    def error_received(self, exc: Exception) -> None:
        assert injected(exc), exc
        self.errors.append(exc)
        self.news.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        assert exc is None or injected(exc), exc
        self.lost.append(exc)
        self.news.set()


async def one_way(random: Any) -> None:
    loop = aio.get_running_loop()
    sent = datagrams(random)
    ends: list[End] = []

    async def endpoint(**given: Any) -> End:
        _, end = await loop.create_datagram_endpoint(End, **given)
        ends.append(end)
        return end

    try:
        receiver = await endpoint(local_addr=("127.0.0.1", 0))
        address = receiver.transport.get_extra_info("sockname")
        connected = random.randrange(2) == 0
        sender = await endpoint(**({"remote_addr": address} if connected else {"local_addr": ("127.0.0.1", 0)}))
        receiver.news = sender.news
        for data in sent:
            sender.transport.sendto(data, None if connected else address)
            if random.randrange(4) == 0:
                await aio.sleep(0)
        # The sender receives nothing, so its errors are of sending: one for each that was not sent.
        while len(receiver.received) + len(sender.errors) < COUNT and not sender.lost and not receiver.lost:
            sender.news.clear()
            await sender.news.wait()
        left = iter(sent)
        assert all(data in left for data in receiver.received), "a datagram was changed, came twice or out of order"
        if not sender.lost and not receiver.lost:
            assert len(receiver.received) + len(sender.errors) == COUNT
    finally:
        for end in ends:
            end.transport.abort()
        for _ in range(3):
            await aio.sleep(0)
        assert all(len(end.lost) == 1 for end in ends), "connection_lost comes exactly once"


@faulted(GENTLE)
async def test_datagrams_notice_nothing_of_gentle_faults(random: Any) -> None:
    await one_way(random)


@faulted(HARSH)
async def test_datagrams(random: Any) -> None:
    await one_way(random)


async def by_sock_calls(random: Any) -> None:
    loop = aio.get_running_loop()
    sent = datagrams(random)
    left, right = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    received: list[bytes] = []

    async def receive() -> None:
        while len(received) < COUNT:
            try:
                data, address = await loop.sock_recvfrom(right, 2 * LEN_MAX)
            except OSError as exc:
                if not injected(exc):
                    raise
                continue
            assert address == left.getsockname()
            received.append(data)

    try:
        for sock in (left, right):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        receiving = aio.create_task(receive())
        for data in sent:
            assert await loop.sock_sendto(left, data, right.getsockname()) == len(data)
            await aio.sleep(0)
        await receiving
        assert received == sent
    finally:
        left.close()
        right.close()


@faulted({"resources": 30})
async def test_sock_calls_with_datagrams(random: Any) -> None:
    # On these the socket's own methods are called, so only what waits for them meets faults.
    await by_sock_calls(random)
