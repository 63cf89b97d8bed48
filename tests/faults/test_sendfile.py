"""Files into sockets under faults: what arrives is what the file holds, or an error reaches the owner."""

import random as chances
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import asynchrotron as aio
import pytest
from faulted import GENTLE, HARSH, faulted, injected

FILE_LEN = 400_000
DATA = chances.Random(5).randbytes(FILE_LEN)
FILES: list[Any] = []


@pytest.fixture(scope="module", autouse=True)
def file() -> Iterator[None]:
    """Open for all seeds: their descriptors are compared."""
    with tempfile.TemporaryFile(buffering=0) as made:  # with a buffer, the position is that of the buffer
        made.write(DATA)
        FILES[:] = [made]
        yield
        FILES.clear()


def part(random: Any) -> tuple[int, int | None, bytes]:
    """Offset, count, and what they mean."""
    FILES[0].seek(0)  # with the offset 0, what asyncio falls back on begins where the file stands
    offset = random.choice((0, 1, random.randrange(FILE_LEN)))
    count = random.choice((None, 1, random.randrange(1, FILE_LEN), 2 * FILE_LEN))
    return offset, count, DATA[offset:] if count is None else DATA[offset : offset + count]


class Sink(aio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = aio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


class Source(aio.Protocol):
    def __init__(self) -> None:
        self.ended = aio.get_running_loop().create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


async def over_a_transport(random: Any) -> None:
    loop = aio.get_running_loop()
    sink = Sink()
    server = await loop.create_server(lambda: sink, "127.0.0.1", 0)
    sent_len = None
    expected = b""
    transport = source = None
    try:
        address = server.sockets[0].getsockname()
        transport, source = await loop.create_connection(Source, *address)
        before = random.randbytes(random.choice((0, 10, 100_000)))  # what was written first, leaves first
        after = random.randbytes(random.choice((0, 10)))
        offset, count, wanted = part(random)
        expected = before + wanted + after
        transport.write(before)
        if transport.is_closing():
            assert injected(await source.ended), "ended without an error"
            return
        sent_len = await loop.sendfile(transport, FILES[0], offset, count)
        assert sent_len == len(wanted)
        if sent_len:
            assert FILES[0].tell() == offset + sent_len
        transport.write(after)
        transport.close()
        how = await sink.ended
        assert expected.startswith(sink.received), "bytes were lost, mixed up or came twice"
        # If not all came, one of the two ends has the reason.
        assert sink.received == expected or injected(how) or injected(await source.ended), "ended without an error"
    finally:
        server.close()
        for end in (transport, getattr(sink, "transport", None)):
            if end is not None:
                end.abort()
        await server.wait_closed()
        if source is not None:
            await source.ended
        if hasattr(sink, "transport"):
            await sink.ended
        assert expected.startswith(sink.received), "bytes were lost, mixed up or came twice"


@faulted(GENTLE)
async def test_sendfile_notices_nothing_of_gentle_faults(random: Any) -> None:
    await over_a_transport(random)


@faulted(HARSH)
async def test_sendfile(random: Any) -> None:
    await over_a_transport(random)


async def over_a_socket(random: Any) -> None:
    loop = aio.get_running_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    offset, count, wanted = part(random)

    async def send() -> int:
        try:
            return await loop.sock_sendfile(left, FILES[0], offset, count)
        finally:
            left.shutdown(socket.SHUT_WR)

    sending = aio.create_task(send())
    received = b""
    try:
        while True:
            chunk = await loop.sock_recv(right, random.choice((1000, 100_000)))
            if not chunk:
                break
            received += chunk
            assert wanted.startswith(received), "bytes were lost, mixed up or came twice"
        if received != wanted:
            (outcome,) = await aio.gather(sending, return_exceptions=True)
            assert isinstance(outcome, BaseException) and injected(outcome), "ended without an error"
        else:
            # All was sent, and then an error may have come in the place of the end of the file.
            (outcome,) = await aio.gather(sending, return_exceptions=True)
            assert outcome == len(wanted) or injected(outcome)
    finally:
        sending.cancel()
        await aio.gather(sending, return_exceptions=True)
        left.close()
        right.close()


@faulted(GENTLE)
async def test_sock_sendfile_notices_nothing_of_gentle_faults(random: Any) -> None:
    await over_a_socket(random)


@faulted(HARSH)
async def test_sock_sendfile(random: Any) -> None:
    await over_a_socket(random)
