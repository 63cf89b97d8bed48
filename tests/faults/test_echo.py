"""Echo servers and clients under faults: every byte arrives in order exactly once, or an error reaches the owner."""

import socket
import ssl
from typing import Any

import asynchrotron as aio
from faulted import GENTLE, HARSH, faulted, injected

CONNECTIONS = 3
BYTES_MAX = 150_000


def pieces(random: Any, data: bytes) -> list[bytes]:
    """The data in writes of very different sizes."""
    cut, start = [], 0
    while start < len(data):
        size = random.choice((1, 7, 100, 1000, 16_384, 70_000))
        cut.append(data[start : start + size])
        start += size
    return cut


class Echo(aio.Protocol):
    """Sends back what comes; knows how it ended."""

    def __init__(self, ends: list[Any]) -> None:
        self.ends = ends
        self.transport: Any = None
        self.paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ends.append(self)
        self.lost: list[Any] = []

    def data_received(self, data: bytes) -> None:
        assert not self.lost
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        assert exc is None or injected(exc), exc
        self.lost.append(exc)


class BufferedEcho(Echo, aio.BufferedProtocol):
    """The same with a buffer of its own, and that a small one."""

    def __init__(self, ends: list[Any]) -> None:
        super().__init__(ends)
        self.room = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.room[:nbytes])


class Client(aio.Protocol):
    """Writes pieces as far as flow control lets it, and gathers the answer."""

    def __init__(self, todo: list[bytes], expected: int) -> None:
        self.todo = todo
        self.expected = expected
        self.received = bytearray()
        self.done: Any = aio.get_running_loop().create_future()
        self.paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.go_on()

    def go_on(self) -> None:
        while self.todo and not self.paused and not self.transport.is_closing():
            self.transport.write(self.todo.pop(0))

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False
        self.go_on()

    def data_received(self, data: bytes) -> None:
        assert not self.done.done() or self.done.result() == "complete"
        self.received += data
        if len(self.received) >= self.expected and not self.done.done():
            self.done.set_result("complete")

    def connection_lost(self, exc: BaseException | None) -> None:
        assert exc is None or injected(exc), exc
        if not self.done.done():
            self.done.set_result(exc)


async def exchange(random: Any, server: Any, connect: Any, ends: list[Any]) -> None:
    """Some clients at once; what each got is a beginning of what it sent, and all of it if nothing failed."""

    async def one() -> None:
        data = random.randbytes(random.randrange(BYTES_MAX))
        client = Client(pieces(random, data), len(data))
        transport, _ = await connect(lambda: client)
        try:
            how = await client.done if data else "complete"
            assert data.startswith(client.received), "bytes were lost, mixed up or came twice"
            assert len(client.received) == len(data) or how != "complete"
            if how is None:
                # The server ended it, so it must know why.
                assert any(injected(exc) for end in ends for exc in end.lost), "ended without an error"
        finally:
            transport.abort()

    try:
        outcomes = await aio.gather(*(one() for _ in range(CONNECTIONS)), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None and not injected(outcome):
                raise outcome
    finally:
        server.close()
        for end in ends:
            end.transport.abort()
        await server.wait_closed()
    for _ in range(5):
        await aio.sleep(0)
    assert all(len(end.lost) == 1 for end in ends), "connection_lost comes exactly once"


async def protocols(random: Any, tls: "tuple[ssl.SSLContext, ssl.SSLContext] | None" = None) -> None:
    loop = aio.get_running_loop()
    ends: list[Any] = []
    factory = random.choice((Echo, BufferedEcho))
    at_server, at_client = (
        ({}, {}) if tls is None else ({"ssl": tls[0]}, {"ssl": tls[1], "server_hostname": "localhost"})
    )
    server = await loop.create_server(lambda: factory(ends), "127.0.0.1", 0, **at_server)
    address = server.sockets[0].getsockname()

    async def connect(make: Any) -> Any:
        return await loop.create_connection(make, *address, **at_client)

    await exchange(random, server, connect, ends)


@faulted(GENTLE)
async def test_protocols_notice_nothing_of_gentle_faults(random: Any) -> None:
    await protocols(random)


@faulted(HARSH)
async def test_protocols(random: Any) -> None:
    await protocols(random)


async def streams(random: Any, tls: "tuple[ssl.SSLContext, ssl.SSLContext] | None" = None) -> None:
    at_server, at_client = (
        ({}, {}) if tls is None else ({"ssl": tls[0]}, {"ssl": tls[1], "server_hostname": "localhost"})
    )
    failures: list[BaseException] = []

    async def serve(reader: Any, writer: Any) -> None:
        try:
            while data := await reader.read(random.choice((1, 100, 65_536))):
                writer.write(data)
                await writer.drain()
        except OSError as exc:
            failures.append(exc)
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError as exc:
                failures.append(exc)

    server = await aio.start_server(serve, "127.0.0.1", 0, **at_server)
    address = server.sockets[0].getsockname()

    async def one() -> None:
        data = random.randbytes(random.randrange(BYTES_MAX // 4))
        reader, writer = await aio.open_connection(*address, **at_client)

        async def send() -> None:
            for piece in pieces(random, data):
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        sending = aio.create_task(send())
        received = b""
        try:
            while len(received) < len(data):
                method = random.choice(("read", "readexactly", "readuntil"))
                if method == "read":
                    chunk = await reader.read(random.choice((1, 1000, 100_000)))
                elif method == "readexactly":
                    chunk = await reader.readexactly(random.randrange(1, 1 + min(5000, len(data) - len(received))))
                elif (separator := b"\n\x00"[: random.randrange(1, 3)]) not in data[len(received) :] and tls:
                    continue  # It would wait for an end of the stream, which TLS cannot send.
                else:
                    try:
                        chunk = await reader.readuntil(separator)
                    except aio.LimitOverrunError as exc:
                        chunk = await reader.readexactly(exc.consumed)
                received += chunk
                if not chunk:
                    break
        except aio.IncompleteReadError as exc:
            received += exc.partial
        finally:
            sending.cancel()
            writer.transport.abort()
            outcome = (await aio.gather(sending, return_exceptions=True))[0]
        assert data.startswith(received), "bytes were lost, mixed up or came twice"
        if len(received) < len(data):
            assert failures or injected(outcome), "ended without an error"
            assert all(map(injected, failures)), failures

    try:
        outcomes = await aio.gather(*(one() for _ in range(CONNECTIONS)), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None and not injected(outcome):
                raise outcome
    finally:
        server.close()
        await server.wait_closed()
        while len(aio.all_tasks()) > 2:  # this, and the one that bounds it
            await aio.sleep(0.001)


@faulted(GENTLE)
async def test_streams_notice_nothing_of_gentle_faults(random: Any) -> None:
    await streams(random)


@faulted(HARSH)
async def test_streams(random: Any) -> None:
    await streams(random)


@faulted(HARSH)
async def test_sock_calls(random: Any) -> None:
    loop = aio.get_running_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    data = random.randbytes(random.randrange(1, BYTES_MAX))

    async def send() -> None:
        try:
            for piece in pieces(random, data):
                await loop.sock_sendall(left, piece)
        finally:
            left.shutdown(socket.SHUT_WR)

    received = b""
    sending = aio.create_task(send())
    try:
        while len(received) < len(data):
            chunk = await loop.sock_recv(right, random.choice((1, 1000, 100_000)))
            received += chunk
            assert data.startswith(received), "bytes were lost, mixed up or came twice"
            if not chunk:
                await aio.sleep(0)
                assert injected(sending.exception()), "ended without an error"
                break
    finally:
        sending.cancel()
        await aio.gather(sending, return_exceptions=True)
        left.close()
        right.close()
