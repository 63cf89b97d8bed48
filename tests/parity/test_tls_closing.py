"""How TLS connections end: politely, without close_notify, with a peer that does not answer, at once."""

import asyncio
import gc
import ssl
import warnings

import pytest
from test_tls_handshakes import run
from tls_wires import Scene, engine  # noqa: F401
from wires import Recorder
from worlds import asyncio_log, parity, raised, until


async def lost(s):
    await until(lambda: s.proto.is_lost)


async def unwrap(peer):
    """The peer's part of an orderly end. False: our side had ended without one."""
    try:
        await peer.step(peer.tls.unwrap)
    except (ssl.SSLError, OSError):
        return False
    return True


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("size", [0, 10, 300_000])
@parity
def test_close_sends_everything_first(w, engine, size, side):  # noqa: F811
    async def body(s):
        s.side = side
        await s.connect()
        s.transport.write(b"x" * size)
        s.transport.close()
        trace = [s.transport.is_closing()]
        got = await s.peer.read(size)
        trace.append(got == b"x" * size)
        trace.append(await unwrap(s.peer))
        await lost(s)
        return trace

    return run(w, body)


@parity
def test_close_twice_and_use_after(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        s.transport.close()
        s.transport.write(b"lost")
        s.transport.writelines([b"lost"])
        await unwrap(s.peer)
        await lost(s)
        trace = [s.transport.is_closing(), raised(s.transport.write_eof)]
        with asyncio_log() as log:
            for _ in range(7):
                s.transport.write(b"lost")
        trace.append(log)
        s.transport.abort()
        trace.append(s.transport.get_extra_info("peername"))
        trace.append(s.transport.get_extra_info("cipher") is not None)
        s.transport.close()
        trace.append(raised(s.transport.write, b"nobody"))
        s.transport = None
        return trace

    return run(w, body)


@parity
def test_the_peer_says_goodbye(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        await s.peer.write(b"last words")
        assert await unwrap(s.peer)
        await lost(s)
        return bytes(s.proto.received)

    return run(w, body)


@parity
def test_returning_true_from_eof_received(w, engine):  # noqa: F811
    async def body(s):
        await s.connect(lambda log: Recorder(log, eof=lambda proto: True))
        with asyncio_log() as log:
            await unwrap(s.peer)
            await lost(s)
        return log

    return run(w, body)


@pytest.mark.parametrize("paused", [False, True])
@parity
def test_the_peer_ends_without_goodbye(w, engine, paused):  # noqa: F811
    async def body(s):
        await s.connect()
        if paused:
            s.transport.pause_reading()
        await s.peer.write(b"last words")
        s.peer.sock.close()
        if paused:
            await asyncio.sleep(0.02)
            trace = [len(s.proto.received), s.proto.is_lost]
            s.transport.resume_reading()
        else:
            trace = []
        await lost(s)
        return trace, bytes(s.proto.received)

    return run(w, body)


@parity
def test_a_reset(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        s.peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: close with a reset
        s.peer.sock.close()
        await lost(s)
        return s.transport.is_closing()

    return run(w, body)


@parity
def test_close_with_a_peer_that_never_answers(w, engine):  # noqa: F811
    async def body(s):
        await s.connect(ssl_shutdown_timeout=0.05)
        s.transport.close()
        await lost(s)
        return s.transport.is_closing()

    return run(w, body)


@pytest.mark.parametrize("unread_len", [0, 6, 100_000])
@parity
def test_close_while_reading_is_paused(w, engine, unread_len):  # noqa: F811
    async def body(s):
        await s.connect(ssl_shutdown_timeout=0.05)
        s.transport.pause_reading()
        if unread_len:
            await s.peer.write(b"x" * unread_len)
            await until(lambda: s.transport.get_read_buffer_size() >= unread_len)
        s.transport.close()
        await lost(s)
        return bytes(s.proto.received)

    return run(w, body)


@parity
def test_data_that_comes_while_we_close(w, engine):  # noqa: F811
    """What the peer sent before it saw our close_notify."""

    async def body(s):
        await s.connect()
        await s.peer.write(b"late")
        s.transport.close()
        await unwrap(s.peer)
        await lost(s)
        return s.transport.is_closing()

    return run(w, body)


@parity
def test_abort(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        s.transport.write(b"x" * 1000)
        s.transport.abort()
        trace = [s.transport.is_closing(), list(s.log)]
        s.transport.abort()
        await lost(s)
        return trace

    return run(w, body)


@pytest.mark.parametrize("how", ["close", "abort"])
@parity
def test_ending_from_data_received(w, engine, how):  # noqa: F811
    async def body(s):
        def end(proto, data):
            getattr(proto.transport, how)()

        await s.connect(lambda log: Recorder(log, data=end))
        await s.peer.write(b"go")
        if how == "close":
            await unwrap(s.peer)
        await lost(s)
        return bytes(s.proto.received)

    return run(w, body)


@pytest.mark.parametrize("how", ["abort", "close"])
@parity
def test_what_is_left_of_a_lost_connection(w, engine, how):  # noqa: F811
    """What could not be sent is dropped, what was not read stays to be seen."""

    async def body(s):
        await s.connect(ssl_shutdown_timeout=0.05)
        s.transport.pause_reading()
        await s.peer.write(b"x" * 100_000)
        await until(lambda: s.transport.get_read_buffer_size() >= 100_000)
        while s.transport.get_write_buffer_size() < 500_000:
            s.transport.write(b"x" * 20_000)
        seen = [s.transport.get_read_buffer_size()]
        getattr(s.transport, how)()
        seen.append(s.transport.get_read_buffer_size())
        await lost(s)
        return [*seen, s.transport.get_read_buffer_size(), s.transport.get_write_buffer_size()]

    return run(w, body)


@parity
def test_abort_in_the_handshake(w, engine):  # noqa: F811
    async def body(s):
        connecting = s.begin()
        await s.peer.raw(5)
        below = next(
            thing for thing in gc.get_objects() if type(thing).__name__ == "SSLProtocol" and thing._loop is s.loop
        )
        below._app_transport.abort()
        await asyncio.wait([connecting])
        return type(connecting.exception()).__name__

    return run(w, body)


@parity
def test_a_transport_that_nobody_closed(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            below = s.transport._ssl_protocol._transport
            s.transport = s.proto = None
            below.abort()
            del below
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
        return [str(entry.message) for entry in caught] or "no warning"

    return run(w, body)


@parity
def test_half_closing_is_refused(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        return [s.transport.can_write_eof(), raised(s.transport.write_eof)]

    return run(w, body)


@parity
def test_sendfile_falls_back(w, engine, tmp_path):  # noqa: F811
    path = tmp_path / "file"
    path.write_bytes(b"z" * 200_000)

    async def body(s):
        await s.connect()
        with path.open("rb") as file:
            sending = asyncio.ensure_future(s.loop.sendfile(s.transport, file))
            got = await s.peer.read(200_000)
            trace = [got == b"z" * 200_000, await sending]
            file.seek(0)
            try:
                await s.loop.sendfile(s.transport, file, fallback=False)
            except RuntimeError as exc:
                trace.append(str(exc).partition("transport")[0])
        return trace

    return run(w, body)


@parity
def test_the_loop_closes_first(w, engine):  # noqa: F811
    """Nothing hangs or complains beyond what asyncio says."""
    loop = w.new_event_loop()

    async def main():
        s = Scene(w)
        s.__enter__()
        await s.connect()
        return s

    s = loop.run_until_complete(main())
    below = s.transport._ssl_protocol._transport
    s.transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    trace = [s.log, s.transport.is_closing(), below.is_closing()]
    s.__exit__()
    return trace
