"""start_tls() when the peer's first flight is there already: in the kernel, or behind a request that was just read.

What the plain protocol got before start_tls() stays its own; every byte after belongs to the handshake.
"""

import asyncio
import ssl

import pytest
from tls_wires import Peer, Scene, client_context, engine, server_context  # noqa: F401
from wires import BufferedRecorder, Recorder
from worlds import araised, parity, until

REQUEST = b"starttls\n"


class Buffered(BufferedRecorder):
    """Gives a view: what asyncio does with a bytearray is another matter (docs/compat.md)."""

    def get_buffer(self, sizehint):
        return memoryview(super().get_buffer(sizehint))


RECORDERS = {
    "protocol": Recorder,
    "buffered": Buffered,
    # Its buffer ends where the request does: the rest stays where it is.
    "small": lambda log, **reactions: Buffered(log, size=len(REQUEST), **reactions),
}


class Begun:
    """A coroutine that runs to its first wait at once, inside the callback of a protocol; `await` gives the rest."""

    def __init__(self, coroutine):
        self.done = asyncio.get_running_loop().create_future()
        self.coroutine = coroutine
        self.step()

    def step(self, _=None):
        try:
            waiter = self.coroutine.send(None)
        except StopIteration as stop:
            self.done.set_result(stop.value)
        except Exception as exc:
            self.done.set_exception(exc)
        else:
            waiter._asyncio_future_blocking = False
            waiter.add_done_callback(self.step)

    def __await__(self):
        return self.done.__await__()


def peer_of(s, sock, side):
    """A peer with its first bytes, if it is the client."""
    if side == "server":
        peer = Peer(sock, client_context(), server_side=False, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
    else:
        peer = Peer(sock, server_context(), server_side=True)
    return peer


def upgrade(loop, s, side, **options):
    if side == "server":
        return loop.start_tls(s.transport, s.proto, server_context(), server_side=True, **options)
    return loop.start_tls(s.transport, s.proto, client_context(), server_hostname="localhost", **options)


async def talk(s, peer, upgraded):
    """Both ways over TLS; gives what our protocol got in all."""
    before = len(s.proto.received)
    upgraded.write(b"ours" * 10_000)
    assert await peer.read(40_000) == b"ours" * 10_000
    await peer.write(b"theirs" * 5000)
    await until(lambda: len(s.proto.received) >= before + 30_000)
    return bytes(s.proto.received)


async def finish(s, upgraded):
    upgraded.abort()
    await until(lambda: s.proto.is_lost)


@pytest.mark.parametrize("kind", ["protocol", "buffered", "small"])
@parity
def test_the_handshake_waits_in_the_kernel(w, engine, kind):  # noqa: F811
    """Reading is paused when the request was read, and the peer goes on: TLS finds the ClientHello."""

    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()

            def pause(proto, *_):
                if len(proto.received) == len(REQUEST):
                    proto.transport.pause_reading()

            s.transport, s.proto = await loop.create_connection(lambda: RECORDERS[kind](s.log, data=pause), sock=ours)
            theirs.send(REQUEST)
            await until(lambda: s.proto.received == REQUEST)
            peer = peer_of(s, theirs, "server")
            await peer.flush()
            upgrading = asyncio.ensure_future(upgrade(loop, s, "server"))
            await peer.handshake()
            upgraded = await upgrading
            s.transport.resume_reading()
            trace = await talk(s, peer, upgraded)
            await finish(s, upgraded)
            return trace, s.log

    errors = []
    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("first_len", [1, 5, 100, None])
@parity
def test_begun_in_the_callback_that_read_the_request(w, engine, first_len):  # noqa: F811
    """The request and the handshake's beginning are one packet, the protocol's buffer holds the request alone."""

    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()
            begun = []

            def start(proto, *_):
                if proto.received == REQUEST:
                    s.proto, s.transport = proto, proto.transport
                    begun.append(Begun(upgrade(loop, s, "server", ssl_handshake_timeout=5)))

            await loop.create_connection(lambda: RECORDERS["small"](s.log, data=start), sock=ours)
            peer = peer_of(s, theirs, "server")
            flight = peer.outgoing.read()
            theirs.send(REQUEST + flight[:first_len])
            await until(lambda: begun)
            if first_len is not None:
                theirs.send(flight[first_len:])
            await peer.handshake()
            upgraded = await begun[0]
            trace = await talk(s, peer, upgraded)
            await finish(s, upgraded)
            return trace, s.log

    errors = []
    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("kind", ["protocol", "buffered"])
@parity
def test_what_the_plain_protocol_read_is_its_own(w, engine, kind):  # noqa: F811
    """It read the whole ClientHello: nobody gives it back, and the handshake times out."""

    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()
            s.transport, s.proto = await loop.create_connection(lambda: RECORDERS[kind](s.log), sock=ours)
            flight = peer_of(s, theirs, "server").outgoing.read()
            theirs.send(REQUEST + flight)
            await until(lambda: len(s.proto.received) == len(REQUEST) + len(flight))
            answer = await araised(upgrade(loop, s, "server", ssl_handshake_timeout=0.05))
            await until(s.transport.is_closing)
            await asyncio.sleep(0.01)
            return answer, s.proto.received == REQUEST + flight, [entry for entry in s.log if isinstance(entry, str)]

    errors = []
    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("kind", ["protocol", "buffered"])
@parity
def test_a_server_that_says_more_than_its_answer(w, engine, kind):  # noqa: F811
    """We are the client: neither what the server sends right behind the handshake is lost, nor what it sent before."""

    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()
            s.transport, s.proto = await loop.create_connection(lambda: RECORDERS[kind](s.log), sock=ours)
            theirs.send(b"go ahead\n")
            await until(lambda: s.proto.received)
            peer = peer_of(s, theirs, "client")
            upgrading = asyncio.ensure_future(upgrade(loop, s, "client"))
            await peer.handshake()
            await peer.write(b"at once" * 10_000)
            upgraded = await upgrading
            await until(lambda: len(s.proto.received) == len(b"go ahead\n") + 70_000)
            trace = await talk(s, peer, upgraded)
            await finish(s, upgraded)
            return trace

    errors = []
    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("kind", ["protocol", "buffered"])
@parity
def test_an_answer_that_is_not_sent_yet_goes_first(w, engine, kind):  # noqa: F811
    """What was written in plain text, more than the kernel takes, stands before the handshake on the wire."""

    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()
            s.transport, s.proto = await loop.create_connection(lambda: RECORDERS[kind](s.log), sock=ours)
            answer = b"ready\n" * 1_000_000
            s.transport.write(answer)
            assert s.transport.get_write_buffer_size()
            upgrading = asyncio.ensure_future(upgrade(loop, s, "client"))
            theirs.setblocking(False)
            received = bytearray()
            while len(received) < len(answer):
                received += await loop.sock_recv(theirs, min(100_000, len(answer) - len(received)))
            assert received == answer
            peer = peer_of(s, theirs, "client")
            await peer.handshake()
            upgraded = await upgrading
            trace = await talk(s, peer, upgraded)
            await finish(s, upgraded)
            return trace

    errors = []
    return w.run(main, errors=errors), errors
