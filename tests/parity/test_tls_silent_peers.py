"""Clients that connect to a TLS server and then keep silent: before, in and after the handshake, and at the goodbye."""

import asyncio
import contextlib
import gc
import socket
import ssl
import time
import weakref
from asyncio import sslproto

import pytest
from tls_wires import Peer, client_context, engine, server_context  # noqa: F401
from wires import Recorder
from worlds import asyncio_log, parity, until

LIMIT = 0.1


def hello():
    """A ClientHello as it is on the wire."""
    outgoing = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def tls_protocols():
    gc.collect()
    return sum(isinstance(thing, sslproto.SSLProtocol) for thing in gc.get_objects())


async def ending(client):
    """How the connection ends at the client, without the data before that."""
    while True:
        try:
            data = await asyncio.get_running_loop().sock_recv(client, 65_536)
        except OSError as exc:
            return type(exc).__name__
        if not data:
            return "end"


async def dribble(loop, client, data):
    """A byte now and then is no progress: the time-out counts from the beginning."""
    with contextlib.suppress(OSError):
        for index in range(len(data)):
            await loop.sock_sendall(client, data[index : index + 1])
            await asyncio.sleep(LIMIT / 10)


@pytest.mark.parametrize(
    ("kind", "sent", "debug"),
    [("protocol", sent, False) for sent in ("nothing", "half", "bytes", "hello", "other")]
    + [("protocol", "half", True), ("streams", "half", False)],
)
@parity
def test_the_server_gives_up(w, engine, kind, sent, debug):  # noqa: F811
    async def main():
        loop, log, born, sending = asyncio.get_running_loop(), [], [], None

        def factory():
            born.append(weakref.ref(proto := Recorder(log)))
            return proto

        options = {"ssl": server_context(), "ssl_handshake_timeout": LIMIT}
        if kind == "protocol":
            server = await loop.create_server(factory, "127.0.0.1", 0, **options)
        else:

            def serve(_, writer):
                log.append("called")
                writer.close()

            server = await w.aio.start_server(serve, "127.0.0.1", 0, **options)
        with socket.socket() as client:
            client.setblocking(False)
            began = time.monotonic()
            await loop.sock_connect(client, server.sockets[0].getsockname())
            if sent == "bytes":
                sending = asyncio.ensure_future(dribble(loop, client, hello()))
            else:
                data = {"nothing": b"", "half": hello()[:100], "hello": hello(), "other": b"\x16\x03\x01"}[sent]
                await loop.sock_sendall(client, data)
            end = await ending(client)
            took = time.monotonic() - began
            if sending is not None:
                sending.cancel()
                end = "end"  # or a reset, if a byte was on its way
        # The server serves on, and nothing of that client is left.
        await until(lambda: tls_protocols() == before)
        alive = [ref() for ref in born]
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        await until(lambda: log)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        if kind == "protocol":
            await until(lambda: born[-1]() is None or born[-1]().is_lost)
        del reader, writer
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        return end, alive, [entry for entry in log if entry in ("made", "called")], LIMIT <= took < 5

    before, errors = tls_protocols(), []
    with asyncio_log() as logged:
        trace = w.run(main, errors=errors, debug=debug)
    return trace, errors, [line for line in logged if "took S seconds" not in line[1]]


@parity
def test_each_server_has_its_own_limit(w, engine):  # noqa: F811
    """Later connections do not extend the time of those before."""

    async def main():
        loop, order = asyncio.get_running_loop(), []
        with contextlib.ExitStack() as stack:

            async def silent(name, limit):
                options = {"ssl": server_context(), "ssl_handshake_timeout": limit}
                server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, **options)
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                await loop.sock_connect(client, server.sockets[0].getsockname())
                await ending(client)
                order.append(name)
                server.close()

            await asyncio.gather(silent("late", 0.5), silent("early", 0.05), silent("between", 0.25))
        return order

    errors = []
    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("reads", [False, True])
@parity
def test_a_goodbye_without_answer(w, engine, reads, debug):  # noqa: F811
    """The server closes; the client reads the close_notify, or nothing at all, and does not answer."""

    async def main():
        loop, log, protocols = asyncio.get_running_loop(), [], []

        def factory():
            protocols.append(Recorder(log))
            return protocols[-1]

        options = {"ssl": server_context(), "ssl_shutdown_timeout": LIMIT}
        server = await loop.create_server(factory, "127.0.0.1", 0, **options)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            peer = Peer(client, client_context(), server_side=False, server_hostname="localhost")
            await peer.handshake()
            await until(lambda: protocols and protocols[0].transport is not None)
            began = time.monotonic()
            protocols[0].transport.close()
            if reads:
                log.append(await peer.read(1))
            await until(lambda: protocols[0].is_lost)
            took = time.monotonic() - began
            end = await ending(client)
        protocols.clear()
        await until(lambda: tls_protocols() == before)
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        return end, log, LIMIT <= took < 5

    before, errors = tls_protocols(), []
    with asyncio_log() as logged:
        trace = w.run(main, errors=errors, debug=debug)
    return trace, errors, [line for line in logged if "took S seconds" not in line[1]]
