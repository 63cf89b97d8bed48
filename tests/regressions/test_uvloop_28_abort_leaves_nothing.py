"""abort() during the handshake or a renegotiation leaves no transport alive: the weak reference dies.

uvloop#639, uvloop#565.
"""

import asyncio
import gc
import weakref

from tls_wires import Scene, client_context, engine, limit_version  # noqa: F401
from worlds import until


def transports(loop):
    return [thing for thing in gc.get_objects() if type(thing).__name__ == "SSLProtocol" and thing._loop is loop]


def test_abort_in_the_handshake(world, engine):  # noqa: F811
    async def main():
        with Scene(world) as s:
            connecting = s.begin()
            await s.peer.raw(5)
            (protocol,) = transports(s.loop)
            born = [weakref.ref(protocol), weakref.ref(protocol._app_transport), weakref.ref(protocol._transport)]
            protocol._app_transport.abort()
            del protocol
            await asyncio.wait([connecting])
            assert connecting.exception() is None or isinstance(connecting.exception(), OSError)
            del connecting
            await asyncio.sleep(0)
            gc.collect()
            return [ref() for ref in born]

    assert world.run(main, errors=[]) == [None] * 3


def test_abort_by_the_loop_while_the_handshake_waits(world, engine):  # noqa: F811
    async def main():
        with Scene(world) as s:
            connecting = s.begin(ssl_handshake_timeout=0.05)
            await s.peer.raw(5)
            born = [weakref.ref(protocol) for protocol in transports(s.loop)]
            await asyncio.wait([connecting])
            assert isinstance(connecting.exception(), ConnectionAbortedError)
            del connecting
            await asyncio.sleep(0)
            gc.collect()
            return [ref() for ref in born]

    assert world.run(main, errors=[]) == [None]


def test_abort_with_half_a_renegotiation(world, engine):  # noqa: F811
    """TLS 1.2: the peer, a server, asks for a new handshake; the answer is under way when we abort.

    The ssl module cannot ask, so the record is what a server would send first: a HelloRequest, encrypted by it as data
    of another kind is not possible either; half of a record stands for any handshake that is not complete.
    """

    async def main():
        with Scene(world) as s:
            await s.connect(context=limit_version(client_context(), "1.2"))
            s.peer.tls.write(b"x" * 1000)
            s.peer.sock.send(s.peer.outgoing.read()[:500])
            await asyncio.sleep(0.01)
            protocol = s.transport._ssl_protocol
            born = [weakref.ref(s.transport), weakref.ref(protocol), weakref.ref(protocol._transport)]
            del protocol
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            s.transport = s.proto = None
            await asyncio.sleep(0)
            gc.collect()
            return [ref() for ref in born]

    assert world.run(main, errors=[]) == [None] * 3
