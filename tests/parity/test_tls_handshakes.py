"""TLS handshakes: the user's SSLContext decides everything, and failures are worded as asyncio words them."""

import asyncio
import gc
import ssl
import weakref

import pytest
from tls_wires import Scene, client_context, engine, limit_version, server_context  # noqa: F401
from wires import Recorder
from worlds import araised, error, normal, parity, until


def run(w, body, *args, debug=False):
    """The trace of `body(scene, *args)`, with what reached the exception handler."""
    errors = []

    async def main():
        with Scene(w) as s:
            trace = await body(s, *args)
            if s.transport is not None:
                s.transport.abort()
                await until(lambda: s.proto.is_lost)
            return trace, s.log

    return w.run(main, errors=errors, debug=debug), errors


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("side", ["client", "server"])
@parity
def test_what_the_transport_knows(w, engine, version, side):  # noqa: F811
    async def body(s):
        s.side = side
        await s.connect(context=limit_version(client_context() if side == "client" else server_context(), version))
        info = s.transport.get_extra_info
        cert = info("peercert")
        return [
            normal(s.transport),
            type(s.transport).__name__,
            type(s.transport).__module__,
            isinstance(s.transport, asyncio.Transport),
            info("cipher"),
            info("compression"),
            type(info("ssl_object")).__name__,
            info("ssl_object").version(),
            info("ssl_object").server_side,
            type(info("sslcontext")).__name__,
            cert and cert["subject"],
            info("peername") == s.peer.sock.getsockname(),
            info("sockname") == s.peer.sock.getpeername(),
            info("socket").getsockname() == info("sockname"),
            info("nothing"),
            info("nothing", 7),
            s.transport.is_closing(),
            s.transport.is_reading(),
            s.transport.can_write_eof(),
            s.transport.get_write_buffer_limits(),
            s.transport.get_read_buffer_limits(),
            s.transport.get_write_buffer_size(),
            s.transport.get_read_buffer_size(),
            s.transport.get_protocol() is s.proto,
            s.transport._ssl_protocol._app_transport is s.transport,
            type(s.transport._ssl_protocol).__name__,
            str(s.transport._ssl_protocol._state),
        ]

    return run(w, body)


@parity
def test_alpn_and_sni(w, engine):  # noqa: F811
    async def body(s):
        server, client, seen = server_context(), client_context(), []
        second = server_context("second")
        server.set_alpn_protocols(["h2", "http/1.1"])
        second.set_alpn_protocols(["http/1.1"])
        client.set_alpn_protocols(["http/1.1"])

        def choose(ssl_object, name, context):
            seen.append((name, context is server, type(ssl_object).__name__))
            ssl_object.context = second

        server.sni_callback = choose
        s.side = "server"
        connecting = s.begin(context=server)
        s.peer.tls = client.wrap_bio(s.peer.incoming, s.peer.outgoing, server_hostname="second.example")
        await s.peer.handshake()
        s.transport, s.proto = await connecting
        return [
            seen,
            s.transport.get_extra_info("ssl_object").selected_alpn_protocol(),
            s.peer.tls.selected_alpn_protocol(),
            s.peer.tls.getpeercert()["subject"],
        ]

    return run(w, body)


@parity
def test_an_sni_callback_that_fails(w, engine):  # noqa: F811
    async def body(s):
        server = server_context()

        def fail(ssl_object, name, context):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        server.sni_callback = fail
        s.side = "server"
        connecting = s.begin(context=server)
        return [await araised(s.peer.handshake()), await araised(connecting)]

    return run(w, body)


@parity
def test_session_resumption(w, engine):  # noqa: F811
    """A TLS 1.2 session that a client took from one connection is used by the server of another."""

    async def body(s):
        s.side = "server"
        server, client = server_context(), limit_version(client_context(), "1.2")
        reused, session = [], None
        for _ in range(2):
            connecting = s.begin(context=server)
            s.peer.tls = client.wrap_bio(s.peer.incoming, s.peer.outgoing, server_hostname="localhost", session=session)
            await s.peer.handshake()
            s.transport, s.proto = await connecting
            session = s.peer.tls.session
            reused.append((s.peer.tls.session_reused, s.transport.get_extra_info("ssl_object").session_reused))
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
        return reused

    return run(w, body)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("certificate", [None, "client"])
@parity
def test_client_certificates(w, engine, certificate, version):  # noqa: F811
    async def body(s):
        s.side = "server"
        connecting = s.begin(
            context=server_context(clients=True),
            peer_context=limit_version(client_context(certificate=certificate), version),
        )
        handshake = asyncio.ensure_future(s.peer.handshake())
        try:
            s.transport, s.proto = await connecting
        except ssl.SSLError as exc:
            await asyncio.wait([handshake])
            return [type(exc).__name__, normal(exc), error(handshake.exception())]
        await handshake
        return s.transport.get_extra_info("peercert")["subject"]

    return run(w, body)


@pytest.mark.parametrize("what", ["name", "authority", "version", "garbage", "end", "end-late", "reset"])
@parity
def test_failures_of_a_client(w, engine, what):  # noqa: F811
    async def body(s):
        options = {"server_hostname": "elsewhere"} if what == "name" else {}
        context = client_context("other-ca" if what == "authority" else "ca")
        if what == "version":
            limit_version(context, "1.2")
        server = limit_version(server_context(), "1.3")
        connecting = s.begin(context=context, peer_context=server, **options)
        if what == "garbage":
            await s.peer.raw(5)
            s.peer.sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif what.startswith("end"):
            await s.peer.raw(5)
            if what == "end-late":
                s.peer.sock.send(b"\x16\x03\x03\x00")
            s.peer.sock.close()
        elif what == "reset":
            await s.peer.raw(5)
            s.peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: close with a reset
            s.peer.sock.close()
        else:
            handshake = asyncio.ensure_future(s.peer.handshake())
            answer = await araised(connecting)
            return [answer, await araised(handshake)]
        return await araised(connecting)

    return run(w, body)


@pytest.mark.parametrize("what", ["garbage", "end", "old"])
@parity
def test_failures_of_a_server(w, engine, what):  # noqa: F811
    async def body(s):
        s.side = "server"
        connecting = s.begin(context=limit_version(server_context(), "1.3"))
        if what == "garbage":
            s.peer.sock.send(b"GET / HTTP/1.1\r\n\r\n")
        elif what == "end":
            s.peer.sock.close()
        else:
            client = limit_version(client_context(), "1.2")
            s.peer.tls = client.wrap_bio(s.peer.incoming, s.peer.outgoing, server_hostname="localhost")
            return [await araised(s.peer.handshake()), await araised(connecting)]
        return await araised(connecting)

    return run(w, body)


@parity
def test_the_handshake_times_out(w, engine):  # noqa: F811
    async def body(s):
        return await araised(s.begin(ssl_handshake_timeout=0.05))

    return run(w, body)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1, -0.5])
@parity
def test_timeouts_that_make_no_sense(w, name, value):
    async def body(s):
        return await araised(s.begin(**{name: value}))

    return run(w, body)


@parity
def test_a_cancelled_connect_leaves_nothing(w, engine):  # noqa: F811
    async def body(s):
        born = []

        def recorder(log):
            born.append(weakref.ref(proto := Recorder(log)))
            return proto

        connecting = s.begin(recorder)
        await s.peer.raw(5)
        connecting.cancel()
        answer = await araised(connecting)
        await until(lambda: s.peer.fill() or s.peer.ended)
        del connecting
        await asyncio.sleep(0)
        gc.collect()
        return [answer[0], [ref() for ref in born]]

    return run(w, body)


@parity
def test_the_handshake_in_pieces(w, engine):  # noqa: F811
    """Each byte of the peer's first flight comes alone."""

    async def body(s):
        connecting = s.begin()
        with pytest.raises(ssl.SSLWantReadError):
            s.peer.tls.do_handshake()
        while not s.peer.outgoing.pending:
            s.peer.fill()
            try:
                s.peer.tls.do_handshake()
            except ssl.SSLWantReadError:
                await asyncio.sleep(0)
        for byte in s.peer.outgoing.read():
            s.peer.sock.send(bytes([byte]))
            await asyncio.sleep(0)
        await s.peer.handshake()
        s.transport, s.proto = await connecting
        await s.peer.write(b"hello")
        await until(lambda: s.proto.received == b"hello")
        return s.transport.get_extra_info("cipher")

    return run(w, body)


class Subclass(ssl.SSLContext):
    """A context and an SSLObject class of the user's own."""


class Counting(ssl.SSLObject):
    reads = writes = 0

    def read(self, len=1024, buffer=None):
        type(self).reads += 1
        return super().read(len, buffer)

    def write(self, data):
        type(self).writes += 1
        return super().write(data)


@pytest.mark.parametrize("overridden", [False, True])
@parity
def test_subclasses_of_the_context_and_its_objects(w, engine, overridden):  # noqa: F811
    async def body(s):
        context = Subclass(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        Counting.reads = Counting.writes = 0
        context.sslobject_class = Counting if overridden else ssl.SSLObject
        await s.connect(context=context)
        for size in (5, 20_000, 100_000):
            s.transport.write(b"x" * size)
            await s.peer.write(await s.peer.read(size))
            await until(lambda size=size: len(s.proto.received) == size)
            s.proto.received.clear()
            s.log.clear()
        return [
            type(s.transport.get_extra_info("sslcontext")).__name__,
            type(s.transport.get_extra_info("ssl_object")).__name__,
            Counting.reads > 0,
            Counting.writes > 0,
        ]

    return run(w, body)


@pytest.mark.parametrize("given", ["context", "transport"])
@parity
def test_start_tls_says_what_it_does_not_take(w, given):
    async def body(s):
        await s.connect()
        if given == "context":
            return await araised(s.loop.start_tls(s.transport, s.proto, None))
        return await araised(s.loop.start_tls(asyncio.Transport(), s.proto, client_context()))

    return run(w, body)


@parity
def test_debug_mode_logs_the_handshake(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        await s.peer.write(b"data")
        await until(lambda: s.proto.received)
        return bytes(s.proto.received)

    return run(w, body, debug=True)
