"""Closing a TLS transport whose peer never answers finishes within ssl_shutdown_timeout and frees the protocol.

uvloop#471, aiohttp#6762, cpython#109534. The peer may keep silent after our close_notify, or not even read what was
written before it: up to 3.13, stock asyncio waits for that for ever once the TLS part is over.
"""

import asyncio
import gc
import ssl
import time
import weakref

import pytest
from tls_wires import Scene, engine  # noqa: F401
from worlds import until


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("reads", [True, False])
def test_silent_peer(ours, engine, reads, side):  # noqa: F811
    async def main():
        with Scene(ours, side) as s:
            await s.connect(ssl_shutdown_timeout=0.1)
            if not reads:
                s.transport.write(b"x" * 20_000_000)
            closed = time.monotonic()
            s.transport.close()
            if reads:
                await s.peer.read(1)
            await until(lambda: s.proto.is_lost)
            took.append(time.monotonic() - closed)
            born = [weakref.ref(s.proto), weakref.ref(s.transport), weakref.ref(s.transport._ssl_protocol or s.proto)]
            log, s.proto, s.transport = s.log, None, None
            await asyncio.sleep(0)
            gc.collect()
            return log, [ref() for ref in born]

    took = []
    # A machine with other work may be late now and then: the quickest of some runs counts.
    while not took or (min(took) > 0.3 and len(took) < 5):
        log, alive = ours.run(main, errors=[])
        assert [entry for entry in log if isinstance(entry, tuple)] == [("lost", ("TimeoutError", None))]
        assert alive == [None] * 3
    assert 0.1 <= min(took) <= 0.3


def test_the_peer_begins_and_then_stops_reading(ours, engine):  # noqa: F811
    """It said goodbye, and what we still have for it does not go out."""

    async def main():
        with Scene(ours) as s:
            await s.connect(ssl_shutdown_timeout=0.1)
            s.transport.write(b"x" * 20_000_000)
            try:
                s.peer.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
            s.peer.sock.send(s.peer.outgoing.read())
            await until(lambda: s.proto.is_lost)
            return s.log

    log = ours.run(main, errors=[])
    assert log[-1] == ("lost", ("TimeoutError", None))


def test_a_connection_is_freed_without_the_collector(ours, engine):  # noqa: F811
    async def main():
        with Scene(ours) as s:
            await s.connect()
            gc.disable()
            try:
                s.transport.abort()
                await until(lambda: s.proto.is_lost)
                ref = weakref.ref(s.proto)
                s.proto = s.transport = None
                for _ in range(3):
                    await asyncio.sleep(0)
                return ref()
            finally:
                gc.enable()

    assert ours.run(main, errors=[]) is None
