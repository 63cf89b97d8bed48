"""Memory of the program's own over TLS: a BufferedProtocol may receive into a bytearray, and a written bytearray may
change afterwards. Stock asyncio reads all records but the first into a copy of that bytearray, and keeps a written
one as it is until the handshake is over.
"""

import asyncio
import gc

from tls_wires import Scene, engine  # noqa: F401
from wires import BufferedRecorder
from worlds import until


def test_a_bytearray_receives_every_record(ours, engine):  # noqa: F811
    data = bytes(at % 251 for at in range(70_000))

    async def main():
        with Scene(ours) as s:
            await s.connect(lambda log: BufferedRecorder(log, size=50_000))
            for _ in range(3):
                await s.peer.write(data)
                await until(lambda: len(s.proto.received) == len(data))
                assert s.proto.received == data
                s.proto.received.clear()
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return True

    assert ours.run(main, errors=[])


def test_what_waits_for_the_handshake_is_what_was_written(ours, engine):  # noqa: F811
    async def main():
        with Scene(ours) as s:
            connecting = s.begin()
            await until(s.peer.fill)
            (protocol,) = [
                thing for thing in gc.get_objects() if type(thing).__name__ == "SSLProtocol" and thing._loop is s.loop
            ]
            await until(lambda: protocol._transport is not None)
            data = bytearray(b"before")
            protocol._app_transport.write(data)
            protocol._app_transport.writelines([memoryview(data)[:3], b"!"])
            data[:] = b"after!"
            assert protocol._app_transport.get_write_buffer_size() >= 10
            await s.peer.handshake()
            s.transport, s.proto = await connecting
            s.transport.write(b"?")
            answer = await s.peer.read(11)
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return answer

    assert ours.run(main, errors=[]) == b"beforebef!?"


def test_nothing_waits_for_ever(ours, engine):  # noqa: F811
    """The backlog is empty when the handshake is over."""

    async def main():
        with Scene(ours) as s:
            await s.connect()
            await asyncio.sleep(0)
            size = s.transport.get_write_buffer_size(), len(s.transport._ssl_protocol._write_backlog)
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return size

    assert ours.run(main, errors=[]) == (0, 0)
