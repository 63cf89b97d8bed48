"""Scenes for stream transports: one transport of the world under test, and at its other end a plain socket.

The peer is driven by the test itself, in the same thread, so that every order of events is chosen and not raced for.
`@scene` makes a parity test of `async def body(s)` and runs it over TCP and Unix sockets, as client and as server.
"""

import asyncio
import contextlib
import functools
import inspect
import os
import socket
import struct
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from worlds import World, asyncio_log, error, normal, parity, until

FAMILIES = ["tcp", "unix"]
SIDES = ["client", "server"]


def reason(exc: BaseException | None) -> Any:
    """What connection_lost was told, as a trace shows it."""
    if isinstance(exc, OSError):
        return type(exc).__name__, exc.errno
    return error(exc)


def fail(proto: asyncio.BaseProtocol, *args: object) -> None:
    """A reaction that raises."""
    raise KeyError("from the protocol")


class Recorder(asyncio.Protocol):
    """Writes down each call; bytes that arrive in pieces are joined. `reactions` run after the note is taken."""

    def __init__(self, log: list[Any] | None = None, **reactions: Callable[..., Any]) -> None:
        self.log = [] if log is None else log
        self.reactions = reactions
        self.transport: Any = None
        self.received = bytearray()

    def react(self, event: str, *args: Any) -> Any:
        return self.reactions[event](self, *args) if event in self.reactions else None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.log.append("made")
        self.react("made")

    def take(self, data: bytes) -> None:
        self.received += data
        if self.log and isinstance(self.log[-1], list):
            self.log[-1][1] += data
        else:
            self.log.append(["data", bytes(data)])

    def data_received(self, data: bytes) -> None:
        self.take(data)
        self.react("data", data)

    def eof_received(self) -> Any:
        self.log.append("eof")
        return self.react("eof")

    def pause_writing(self) -> None:
        self.log.append("pause")
        self.react("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")
        self.react("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.log.append(("lost", reason(exc)))
        self.react("lost", exc)

    @property
    def is_lost(self) -> bool:
        return any(isinstance(entry, tuple) and entry[0] == "lost" for entry in self.log)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same, receiving into its own buffer of `size` bytes."""

    def __init__(self, log: list[Any] | None = None, *, size: int = 1000, **reactions: Callable[..., Any]) -> None:
        super().__init__(log, **reactions)
        self.buffer = bytearray(size)

    data_received = None  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> Any:
        answer = self.react("get_buffer", sizehint)
        return self.buffer if answer is None else answer

    def buffer_updated(self, count: int) -> None:
        self.take(self.buffer[:count])
        self.react("data", count)


class Scene:
    """What a body works with: the loop, a transport with its recorder, the plain socket at the other end, one log."""

    def __init__(self, w: World, loop: asyncio.AbstractEventLoop, family: str, side: str) -> None:
        self.w, self.loop, self.family, self.side = w, loop, family, side
        self.log: list[Any] = []
        self.stack = contextlib.ExitStack()
        self.proto: Any = None
        self.transport: Any = None
        self.peer: Any = None
        self.server: Any = None

    def note(self, entry: Any) -> None:
        self.log.append(entry)

    def _plain_socket(self) -> socket.socket:
        family = socket.AF_INET if self.family == "tcp" else socket.AF_UNIX
        return self.stack.enter_context(socket.socket(family, socket.SOCK_STREAM))

    async def connect(
        self,
        recorder: Callable[..., Any] = Recorder,
        *,
        tight: bool = False,
        before: Any = None,
        returned: Any = None,
        **reactions: Any,
    ) -> Any:
        """Connect and give the transport. `tight` keeps the kernel's buffers small; `before` acts on the peer first;
        `returned` is called in the step in which create_connection() returned."""
        self.proto = proto = recorder(self.log, **reactions)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        if self.side == "client":
            listener = self._plain_socket()
            listener.bind(("127.0.0.1", 0) if self.family == "tcp" else path)
            if tight:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            listener.listen()
            if self.family == "tcp":
                making = self.loop.create_connection(lambda: proto, *listener.getsockname())
            else:
                making = self.loop.create_unix_connection(lambda: proto, path)

            async def make() -> Any:
                result = await making
                if returned is not None:
                    returned()
                return result

            task = asyncio.ensure_future(make())
            listener.setblocking(False)
            while self.peer is None:
                try:
                    self.peer = self.stack.enter_context(listener.accept()[0])
                except BlockingIOError:
                    await asyncio.sleep(0)
            if before is not None:
                before(self)
            self.transport, same = await task
            assert same is proto
        else:
            if self.family == "tcp":
                self.server = await self.loop.create_server(lambda: proto, "127.0.0.1", 0)
            else:
                self.server = await self.loop.create_unix_server(lambda: proto, path)
            address = self.server.sockets[0].getsockname()
            self.peer = self._plain_socket()
            if tight:
                self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.peer.connect(address)
            if before is not None:
                before(self)
            await until(lambda: proto.transport is not None, what="for connection_made")
            self.transport = proto.transport
        self.peer.setblocking(False)
        if tight:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return self.transport

    async def settle(self, seconds: float = 0.005) -> None:
        """Give everything that is going to happen the time to happen: for checks that something does not."""
        for _ in range(4):
            await asyncio.sleep(0)
        await asyncio.sleep(seconds)
        for _ in range(4):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        await until(condition, what=f"{what}; log so far: {str(self.log)[:500]}")

    async def until_lost(self) -> None:
        await self.until(lambda: self.proto.is_lost, "for connection_lost")

    async def until_received(self, count: int) -> None:
        await self.until(lambda: len(self.proto.received) >= count, f"for {count} bytes")

    async def peer_read(self, count: int) -> bytes:
        """Read `count` bytes at the plain socket; fewer only at end of file."""
        data = bytearray()

        def step() -> bool:
            try:
                while len(data) < count:
                    piece = self.peer.recv(min(65536, count - len(data)))
                    if not piece:
                        return True
                    data.extend(piece)
            except BlockingIOError:
                return False
            return True

        await until(step, what=f"for {count} bytes at the peer, has {len(data)}")
        return bytes(data)

    async def peer_read_to_end(self) -> bytes:
        """Read at the plain socket until end of file."""
        return await self.peer_read(1 << 40)

    def peer_ended(self) -> Any:
        """What the peer sees now: data, b"" for the end, or an error's name."""
        try:
            return self.peer.recv(65536)
        except OSError as exc:
            return type(exc).__name__

    def reset(self) -> None:
        """Close the peer so that the other side sees a reset (TCP)."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def write_until_full(self, piece: bytes = b"x" * 65536) -> int:
        """Write until the transport has to keep something; gives how much was written."""
        written = 0
        while not self.transport.get_write_buffer_size():
            self.transport.write(piece)
            written += len(piece)
            assert written < 64 << 20
        return written

    async def end(self) -> None:
        if self.transport is not None and not self.proto.is_lost and self.transport.get_protocol() is not None:
            self.transport.abort()  # never after connection_lost: stock's own transport breaks there
            await self.settle(0)
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
        await self.settle(0)
        self.stack.close()


def play(w: World, body: Callable[..., Any], family: str, side: str, *args: Any) -> Any:
    """Run a body in one world; its trace is the log (and what the abort at the end added), what the body returned,
    what the exception handler was told, and what was logged."""
    errors: list[Any] = []
    with asyncio_log() as logged, w.loop(errors=errors) as loop:

        async def main() -> Any:
            s = Scene(w, loop, family, side)
            try:
                answer = await body(s, *args)
            finally:
                count = len(s.log)
                await s.end()
            return s.log[:count], s.log[count:], answer

        log, ending, answer = loop.run_until_complete(main())
    return {
        "log": log,
        "ending": ending,
        "answer": answer,
        "reported": errors,
        "logged": [(level, normal(text)) for level, text in logged],
    }


def scene(*only: str) -> Callable[[Callable[..., Any]], Any]:
    """`@scene()` for all families and sides; `@scene("tcp")` for one family."""

    def decorate(body: Callable[..., Any]) -> Any:
        extra = list(inspect.signature(body).parameters.values())[1:]

        def test(w: World, family: str, side: str, **arguments: Any) -> Any:
            return play(w, functools.partial(body, **arguments), family, side)

        test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("w", "family", "side")]
            + extra
        )
        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        wrapped = parity(test)
        wrapped.pytestmark = [  # type: ignore[attr-defined]
            *getattr(body, "pytestmark", []),
            pytest.mark.parametrize("family", only or FAMILIES).mark,
            pytest.mark.parametrize("side", SIDES).mark,
        ]
        return wrapped

    return decorate
