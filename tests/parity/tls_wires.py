"""Scenes for TLS: certificates made for the test run, and a peer that the test drives by hand.

The peer is an `ssl.SSLObject` over a plain socket in the same thread, so that every order of events, and everything
that a well-behaved peer would not do, is chosen: half a record, no close_notify, a broken record.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wires import Recorder
from worlds import IMPORT_ERROR, World

ENGINES = ["direct", "methods"]
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@functools.cache
def folder() -> Path:
    """Two authorities, and of the first a server and a client."""
    kept = tempfile.TemporaryDirectory(prefix="tls-tests-")
    folder.kept = kept  # type: ignore[attr-defined]  # removed when the process ends
    path = Path(kept.name)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=path, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other-ca"):
        # The extensions that newer versions of Python insist on.
        openssl("req", "-x509", *new_key, "-subj", f"/CN=Test {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    for name, subject in (("server", "localhost"), ("second", "second.example"), ("client", "a client")):
        (path / "ext").write_text(
            f"subjectAltName=DNS:{subject.replace(' ', '-')},IP:127.0.0.1\n"
            "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        )
        openssl("req", *new_key, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-out", f"{name}.pem", "-extfile", "ext")  # fmt: skip
    return path


def server_context(name: str = "server", *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder() / f"{name}.pem", folder() / f"{name}.key")
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder() / "ca.pem")
    return context


def client_context(authority: str = "ca", *, certificate: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder() / f"{authority}.pem"))
    if certificate:
        context.load_cert_chain(folder() / f"{certificate}.pem", folder() / f"{certificate}.key")
    return context


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """How connections are driven: OpenSSL's own functions, or the methods of the ssl module's objects."""
    if IMPORT_ERROR is not None:
        yield request.param
        return
    from asynchrotron import _core

    if not _core._use_openssl_functions(request.param == "direct") and request.param == "direct":
        pytest.skip("this Python's OpenSSL offers no functions to call")
    yield request.param
    _core._use_openssl_functions(True)


class Peer:
    """The other end. Each step lets the loop run until it has what it needs."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, **options: Any) -> None:
        sock.setblocking(False)
        self.sock, self.incoming, self.outgoing = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, **options)
        self.ended = False

    async def flush(self) -> None:
        data = self.outgoing.read()
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                self.fill()  # or both sides would wait for the other to read
                await asyncio.sleep(0)

    def fill(self) -> bool:
        """Take what came; False if that was nothing."""
        try:
            data = self.sock.recv(256 * 1024)
        except BlockingIOError:
            return False
        if data:
            self.incoming.write(data)
        elif not self.ended:
            self.ended = True
            self.incoming.write_eof()
        else:
            return False
        return True

    async def step(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call until it needs nothing more from the other side."""
        while True:
            try:
                answer = call(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                while not self.fill():
                    await asyncio.sleep(0)
            except ssl.SSLError:
                await self.flush()  # the alert
                raise
            else:
                await self.flush()
                return answer

    async def handshake(self) -> None:
        await self.step(self.tls.do_handshake)

    async def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self.step(self.tls.read, count - len(data))
            if not piece:
                break
            data += piece
        return data

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self.step(self.tls.write, view[: 64 * 1024]) :]

    async def raw(self, count: int) -> bytes:
        """Bytes as they are on the wire; what is buffered already is lost to `tls`."""
        while self.incoming.pending < count:
            if not self.fill():
                await asyncio.sleep(0)
        return self.incoming.read(count)


class Scene:
    """A TLS transport of the world under test with its recorder, and the peer."""

    def __init__(self, w: World, side: str = "client") -> None:
        self.w, self.side = w, side
        self.stack = contextlib.ExitStack()
        self.loop = asyncio.get_running_loop()
        self.log: list[Any] = []
        self.proto: Any = None
        self.transport: Any = None
        self.peer: Any = None

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Connected TCP sockets."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = self.stack.enter_context(socket.create_connection(listener.getsockname()))
            theirs = self.stack.enter_context(listener.accept()[0])
        ours.setblocking(False)
        return ours, theirs

    def begin(
        self,
        recorder: Callable[..., Any] = Recorder,
        *,
        context: ssl.SSLContext | None = None,
        peer_context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> "asyncio.Task[Any]":
        """Start the handshake on our side; the peer has done nothing yet."""
        ours, theirs = self.pair()
        if self.side == "client":
            made = self.loop.create_connection(
                lambda: recorder(self.log), sock=ours, ssl=context or client_context(),
                **{"server_hostname": "localhost"} | options,
            )  # fmt: skip
            self.peer = Peer(theirs, peer_context or server_context(), server_side=True)
        else:
            made = self.loop.connect_accepted_socket(
                lambda: recorder(self.log), ours, ssl=context or server_context(), **options
            )
            self.peer = Peer(theirs, peer_context or client_context(), server_side=False, server_hostname="localhost")
        return asyncio.ensure_future(made)

    async def connect(self, recorder: Callable[..., Any] = Recorder, **options: Any) -> None:
        """The whole handshake."""
        connecting = self.begin(recorder, **options)
        await self.peer.handshake()
        self.transport, self.proto = await connecting


def limit_version(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context
