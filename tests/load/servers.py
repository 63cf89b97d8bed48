"""The three servers under load: a Protocol, streams, aiohttp. All keep book of who came, who went, and why."""

import asyncio
import contextlib
import socket
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from sizes import CHUNK_LEN, HIGH_LEN, KERNEL_LEN, LOW_LEN
from wire import ECHO, HEAD, POUR, pattern

KINDS = ("protocol", "streams", "aiohttp")
BACKLOG = 4096


class Book:
    """Every connection of one server."""

    def __init__(self) -> None:
        self.begun = 0
        self.open: dict[int, Any] = {}  # the transports
        self.ends: Counter[str] = Counter()
        self.stalled: set[int] = set()  # whose peer does not read
        self.buffered_len_max = 0
        self.received: Counter[int] = Counter()  # bytes to echo, by the connection's number
        self.poured: Counter[int] = Counter()  # bytes written, by number
        self.left_alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self._changed = asyncio.Event()

    def came(self, transport: Any) -> None:
        self.begun += 1
        self.open[id(transport)] = transport
        self.left_alive.add(transport)
        transport.set_write_buffer_limits(high=HIGH_LEN, low=LOW_LEN)
        self._changed.set()

    def went(self, transport: Any, reason: BaseException | None) -> None:
        del self.open[id(transport)]  # a second time would be an error
        self.stalled.discard(id(transport))
        self.ends[type(reason).__name__ if reason else "clean"] += 1
        self._changed.set()

    def measure(self, transport: Any) -> int:
        waiting: int = transport.get_write_buffer_size()
        self.buffered_len_max = max(self.buffered_len_max, waiting)
        return waiting

    def waits(self, transport: Any) -> None:
        """Its writer waits, because its peer does not read."""
        self.measure(transport)
        self.stalled.add(id(transport))
        self._changed.set()

    def flows(self, transport: Any) -> None:
        self.stalled.discard(id(transport))
        self._changed.set()

    async def until_stalled(self, count: int) -> None:
        """Until the writers of so many connections wait, and that not only for the turn in which they go on."""
        await self.until(lambda: len(self.stalled) == count and min(map(self.measure, self.open.values())) > LOW_LEN)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class Connection(asyncio.Protocol):
    def __init__(self, book: Book) -> None:
        self.book = book
        self.head = b""
        self.number = self.echo_left = self.pour_sent = self.pour_len = 0
        self.paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.book.came(transport)

    def data_received(self, data: bytes) -> None:
        while data:
            if self.echo_left:
                part, data = data[: self.echo_left], data[self.echo_left :]
                self.echo_left -= len(part)
                self.book.received[self.number] += len(part)
                self.transport.write(part)
                continue
            missing = HEAD.size - len(self.head)
            self.head += data[:missing]
            data = data[missing:]
            if len(self.head) == HEAD.size:
                command, self.number, length = HEAD.unpack(self.head)
                self.head = b""
                if command == ECHO:
                    self.echo_left = length
                else:
                    assert command == POUR
                    self.pour_sent, self.pour_len = 0, length
                    self.pour()

    def pour(self) -> None:
        while self.pour_sent < self.pour_len and not self.paused:
            part = pattern(self.pour_sent, min(CHUNK_LEN, self.pour_len - self.pour_sent))
            self.pour_sent += len(part)
            self.book.poured[self.number] = self.pour_sent
            self.transport.write(part)
            self.book.measure(self.transport)

    def pause_writing(self) -> None:
        self.paused = True
        self.book.waits(self.transport)
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        self.book.flows(self.transport)
        self.transport.resume_reading()
        self.pour()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.book.went(self.transport, exc)


async def handle_stream(book: Book, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    transport: Any = writer.transport
    book.came(transport)
    reason: BaseException | None = None
    try:
        while head := await head_of(reader):
            command, number, left = HEAD.unpack(head)
            if command == POUR:
                await pour(book, number, transport, left, writer.write, writer.drain)
                continue
            assert command == ECHO
            while left:
                part = await reader.read(min(left, 64 * 1024))
                if not part:
                    return
                left -= len(part)
                book.received[number] += len(part)
                writer.write(part)
                await writer.drain()
    except OSError as exc:
        reason = exc
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError as exc:
            reason = reason or exc
        finally:
            book.went(transport, reason)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readexactly(HEAD.size)
    except asyncio.IncompleteReadError:
        return b""


async def pour(book: Book, number: int, transport: Any, length: int, write: Any, drain: Any) -> None:
    sent = 0
    while sent < length:
        part = pattern(sent, min(CHUNK_LEN, length - sent))
        sent += len(part)
        book.poured[number] = sent
        write(part)
        if book.measure(transport) > HIGH_LEN:
            book.waits(transport)
        await drain()
        book.flows(transport)


class HttpServer(web.Server):
    def __init__(self, book: Book) -> None:
        super().__init__(self.handle, access_log=None, lingering_time=0)
        self.book = book

    def connection_made(self, handler: Any, transport: Any) -> None:
        super().connection_made(handler, transport)
        self.book.came(transport)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        transport = self._connections[handler]
        super().connection_lost(handler, exc)
        self.book.went(transport, exc)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        number = int(request.query["number"])
        response = web.StreamResponse()
        if request.path == "/pour":
            response.content_length = length = int(request.query["length"])
            await response.prepare(request)
            transport, body = request.transport, response
            assert transport is not None
            sent = 0
            while sent < length:
                part = pattern(sent, min(CHUNK_LEN, length - sent))
                sent += len(part)
                self.book.poured[number] = sent
                # aiohttp looks once in 64 KiB whether its protocol is paused, and waits then: seen from the outside.
                writing = asyncio.ensure_future(body.write(part))
                await asyncio.sleep(0)
                if writing.done():
                    self.book.measure(transport)
                else:
                    self.book.waits(transport)
                await writing
                self.book.flows(transport)
            return response
        response.content_length = request.content_length
        await response.prepare(request)
        async for part in request.content.iter_any():
            self.book.received[number] += len(part)
            await response.write(part)
        return response


@contextlib.asynccontextmanager
async def serving(kind: str, *, slow_peers: bool = False) -> AsyncIterator[tuple[int, Book]]:
    """A server on a port of 127.0.0.1, and its book. At the end everybody must have gone."""
    loop = asyncio.get_running_loop()
    book = Book()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if slow_peers:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_LEN)
    listener.bind(("0.0.0.0", 0))  # peers come from, and to, several addresses of 127.0.0.0/8
    http = None
    if kind == "protocol":
        server = await loop.create_server(lambda: Connection(book), sock=listener, backlog=BACKLOG)
    elif kind == "streams":
        server = await asyncio.start_server(
            lambda reader, writer: handle_stream(book, reader, writer), sock=listener, backlog=BACKLOG
        )
    else:
        http = HttpServer(book)
        server = await loop.create_server(http, sock=listener, backlog=BACKLOG)
    try:
        yield listener.getsockname()[1], book
        await book.until(lambda: not book.open)
    finally:
        server.close()
        if http is not None:
            await http.shutdown(timeout=1)
        for transport in list(book.open.values()):  # after a failure
            transport.abort()
    await server.wait_closed()
