"""Bytes over TLS: both directions, all kinds of protocols, flow control, upgrades, TLS in TLS."""

import asyncio
import os
import random
import ssl

import pytest
from test_tls_handshakes import run
from tls_wires import Scene, client_context, engine, limit_version, server_context  # noqa: F401
from wires import BufferedRecorder, Recorder
from worlds import araised, parity, raised, until

SEED = int(os.environ.get("TEST_SEED", random.randrange(2**32)))


def pattern(size, start=0):
    return bytes((start + at * 7 + at // 251) % 256 for at in range(size))


class Roomy(BufferedRecorder):
    """Receives into a memory view: of a bytearray, stock asyncio fills the beginning only and loses the rest."""

    def __init__(self, log, room, **reactions):
        super().__init__(log, get_buffer=lambda proto, hint: room, **reactions)
        self.buffer = room


async def received(s, size):
    await until(lambda: len(s.proto.received) >= size)
    data = bytes(s.proto.received[:size])
    del s.proto.received[:size]
    return data


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("buffered", [False, True])
@parity
def test_random_chunks_both_ways(w, engine, buffered, side, version):  # noqa: F811
    print("TEST_SEED =", SEED)  # shown when the test fails
    rng = random.Random(SEED)
    sizes = [rng.choice([1, 100, 5000, 16383, 16384, 16385, 40_000, 200_000]) for _ in range(12)]
    data = [pattern(size, at) for at, size in enumerate(sizes)]

    async def body(s):
        s.side = side
        room = memoryview(bytearray(3000))
        recorder = (lambda log: Roomy(log, room)) if buffered else Recorder
        await s.connect(
            recorder, context=limit_version(client_context() if side == "client" else server_context(), version)
        )

        async def from_peer():
            for piece in data:
                await s.peer.write(piece)

        for piece in data:
            sending = asyncio.ensure_future(from_peer()) if piece is data[0] else None
            s.transport.write(piece)
            assert await s.peer.read(len(piece)) == piece
            if sending:
                everything = await received(s, sum(sizes))
                await sending
        s.log.clear()
        return everything == b"".join(data), s.transport.get_write_buffer_size()

    return run(w, body)


@parity
def test_what_write_takes(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        t = s.transport
        answers = [raised(t.write, thing) for thing in ("text", None, 7, [b"x"])]
        answers += [raised(t.writelines, thing) for thing in (None, 7)]
        for thing in (
            b"a",
            bytearray(b"b"),
            memoryview(b"c"),
            memoryview(b"-d-")[1:2],
            b"",
            bytearray(),
            memoryview(b""),
        ):
            t.write(thing)
        t.writelines([b"e", bytearray(b"f"), memoryview(b"g"), b""])
        t.writelines(piece for piece in (b"h", b"i" * 20_000, b"j"))
        t.writelines([])
        got = await s.peer.read(20_010 - 1)
        return [answers, got == b"abcdefgh" + b"i" * 20_000 + b"j", len(got)]

    return run(w, body)


@parity
def test_text_among_lines_ends_the_connection(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        s.transport.writelines([b"a", "text"])
        await until(lambda: s.proto.is_lost)
        return s.transport.is_closing()

    return run(w, body)


@parity
def test_data_with_the_end_of_the_handshake(w, engine):  # noqa: F811
    """What the peer sends together with its last handshake message is not lost, and comes after connection_made."""

    async def body(s):
        s.side = "server"
        connecting = s.begin()
        while True:
            try:
                s.peer.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await s.peer.flush()
                while not s.peer.fill():
                    await asyncio.sleep(0)
        s.peer.tls.write(b"early")
        await s.peer.flush()
        s.transport, s.proto = await connecting
        return await received(s, 5)

    return run(w, body)


@parity
def test_writes_in_connection_made_arrive(w, engine):  # noqa: F811
    async def body(s):
        def greet(proto):
            for piece in (b"one", b"two", b"x" * 70_000):
                proto.transport.write(piece)

        await s.connect(lambda log: Recorder(log, made=greet))
        return await s.peer.read(70_006) == b"onetwo" + b"x" * 70_000

    return run(w, body)


@parity
def test_pause_and_resume_reading(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        trace = []
        s.transport.pause_reading()
        trace.append(s.transport.is_reading())
        s.transport.pause_reading()
        await s.peer.write(pattern(50_000))
        await until(lambda: s.transport.get_read_buffer_size() > 50_000)
        trace.append(len(s.proto.received))
        s.transport.resume_reading()
        trace += [s.transport.is_reading(), len(s.proto.received)]
        trace.append(await received(s, 50_000) == pattern(50_000))
        s.transport.resume_reading()
        trace.append(s.transport.get_read_buffer_size())
        s.log.clear()
        return trace

    return run(w, body)


@parity
def test_pausing_from_data_received(w, engine):  # noqa: F811
    async def body(s):
        pauses = []

        def pause(proto, data):
            proto.transport.pause_reading()
            pauses.append(True)

        await s.connect(lambda log: Recorder(log, data=pause))
        sending = asyncio.ensure_future(s.peer.write(pattern(300_000)))
        while len(s.proto.received) < 300_000:
            seen = len(pauses)
            await until(lambda seen=seen: len(pauses) > seen)
            size = len(s.proto.received)
            await asyncio.sleep(0.001)
            assert len(s.proto.received) == size
            s.transport.resume_reading()
        await sending
        s.log.clear()
        return bytes(s.proto.received) == pattern(300_000)

    return run(w, body)


@pytest.mark.parametrize("buffered", [False, True])
@parity
def test_random_pauses(w, engine, buffered):  # noqa: F811
    """Reading is paused and resumed at any time, also in the middle of a delivery, while both sides send."""
    print("TEST_SEED =", SEED)  # shown when the test fails
    rng = random.Random(SEED)
    sizes = [rng.choice([1, 100, 5000, 16_384, 40_000, 200_000]) for _ in range(20)]
    data = [pattern(size, at) for at, size in enumerate(sizes)]

    def pause(proto, *_):
        if rng.random() < 0.1:
            proto.transport.pause_reading()

    async def body(s):
        room = memoryview(bytearray(3000))
        await s.connect(
            (lambda log: Roomy(log, room, data=pause)) if buffered else lambda log: Recorder(log, data=pause)
        )
        s.transport.set_read_buffer_limits(high=rng.choice([1000, 50_000, 500_000]))

        async def toggle():
            while True:
                for _ in range(rng.randrange(6)):
                    await asyncio.sleep(0)
                if rng.random() < 0.4:
                    s.transport.pause_reading()
                else:
                    s.transport.resume_reading()

        async def from_peer():
            for piece in data:
                await s.peer.write(piece)

        async def to_peer():
            for piece in data:
                s.transport.write(piece)
                if rng.random() < 0.5:
                    await asyncio.sleep(0)

        toggling = asyncio.ensure_future(toggle())
        sending = asyncio.gather(from_peer(), to_peer())
        answer = [await s.peer.read(sum(sizes)) == b"".join(data)]
        answer.append(await received(s, sum(sizes)) == b"".join(data))
        await sending
        toggling.cancel()
        s.transport.resume_reading()
        await until(lambda: s.transport.get_write_buffer_size() == 0)
        s.log.clear()
        return answer, s.transport.get_read_buffer_size(), len(s.proto.received)

    return run(w, body)


@parity
def test_a_paused_reader_stops_the_transport_below(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        s.transport.set_read_buffer_limits(high=10_000)
        s.transport.pause_reading()
        await s.peer.write(pattern(30_000))
        below = s.transport._ssl_protocol._transport
        await until(lambda: not below.is_reading())
        trace = [s.transport.get_read_buffer_limits()]
        s.transport.resume_reading()
        trace.append(await received(s, 30_000) == pattern(30_000))
        await until(below.is_reading)
        s.log.clear()
        return trace

    return run(w, body)


@parity
def test_write_limits(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        t = s.transport
        trace = [raised(t.set_write_buffer_limits, high=1, low=2), raised(t.set_write_buffer_limits, low=-1)]
        t.set_write_buffer_limits(high=4000)
        trace.append(t.get_write_buffer_limits())
        t.set_write_buffer_limits(low=100)
        trace.append(t.get_write_buffer_limits())
        t.set_read_buffer_limits(low=7)
        trace.append(t.get_read_buffer_limits())
        t.set_write_buffer_limits(high=0)
        trace.append((t.get_write_buffer_limits(), list(s.log)))
        return trace

    return run(w, body)


@parity
def test_a_peer_that_does_not_read_pauses_the_writer(w, engine):  # noqa: F811
    async def body(s):
        await s.connect()
        s.transport.set_write_buffer_limits(high=100_000)
        size = 0
        while "pause" not in s.log:
            s.transport.write(pattern(50_000))
            size += 50_000
            await asyncio.sleep(0)
            assert size < 50_000_000
        below = s.transport._ssl_protocol._transport
        trace = [below.get_write_buffer_size() > 0, s.transport.get_write_buffer_size() >= 100_000]
        got = await s.peer.read(size)
        trace.append(got == pattern(50_000) * (size // 50_000))
        await until(lambda: "resume" in s.log)
        trace.append(s.transport.get_write_buffer_size())
        return trace

    return run(w, body)


@parity
def test_another_protocol_takes_over(w, engine):  # noqa: F811
    """Plain, then buffered, then plain again, changed while data is handed over."""

    async def body(s):
        await s.connect()
        log = []
        third = Recorder(log)

        def to_third(proto, count):
            s.transport.set_protocol(third)

        second = Roomy(log, memoryview(bytearray(10)), data=to_third)
        await s.peer.write(b"first")
        first = await received(s, 5)
        s.transport.set_protocol(second)
        await s.peer.write(pattern(100))
        await until(lambda: len(third.received) == 90)
        s.transport.set_protocol(s.proto)
        return [
            first,
            bytes(second.received) + bytes(third.received) == pattern(100),
            s.transport.get_protocol() is s.proto,
        ]

    return run(w, body)


@pytest.mark.parametrize("which", ["data_received", "get_buffer", "buffer_updated", "eof_received"])
@parity
def test_protocols_that_raise(w, engine, which):  # noqa: F811
    async def body(s):
        armed = []

        def fail(*args):
            if armed:
                raise ValueError("of the protocol")

        if which == "data_received":
            await s.connect(lambda log: Recorder(log, data=fail))
        elif which == "eof_received":
            await s.connect(lambda log: Recorder(log, eof=fail))
        else:
            event = "data" if which == "buffer_updated" else which
            await s.connect(lambda log: BufferedRecorder(log, **{event: fail}))
        armed.append(True)
        if which == "eof_received":
            with pytest.raises(ssl.SSLWantReadError):
                s.peer.tls.unwrap()
            await s.peer.flush()
        else:
            await s.peer.write(b"data")
        await until(lambda: s.proto.is_lost)
        return s.transport.is_closing()

    return run(w, body)


@pytest.mark.parametrize("where", ["header", "body"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@parity
def test_a_broken_record(w, engine, version, where):  # noqa: F811
    async def body(s):
        await s.connect(context=limit_version(client_context(), version))
        await s.peer.write(b"fine")
        await until(lambda: s.proto.received == b"fine")
        s.peer.tls.write(b"not fine")
        record = bytearray(s.peer.outgoing.read())
        record[1 if where == "header" else -1] ^= 0x55
        s.peer.sock.send(record)
        await until(lambda: s.proto.is_lost)
        return [s.transport.is_closing()]

    return run(w, body)


@parity
def test_records_of_nothing(w, engine):  # noqa: F811
    """Session tickets, and writing nothing, bring no data."""

    async def body(s):
        await s.connect()
        await s.peer.write(b"a")
        await until(lambda: s.proto.received == b"a")
        for _ in range(3):
            await s.peer.write(b"")
        await s.peer.write(b"b")
        await until(lambda: s.proto.received == b"ab")
        return True

    return run(w, body)


@pytest.mark.parametrize("side", ["client", "server"])
@parity
def test_streams(w, engine, side):  # noqa: F811
    async def main():
        aio, lines = w.aio, []

        async def serve(reader, writer):
            lines.append(writer.get_extra_info("cipher") is not None)
            while line := await reader.readline():
                lines.append(len(line))
                writer.write(line)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            done.set_result(None)

        done = asyncio.get_running_loop().create_future()
        server = await aio.start_server(serve, "127.0.0.1", 0, ssl=server_context(), limit=2**20)
        reader, writer = await aio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost", limit=2**20
        )
        for size in (1, 1000, 100_000, 500_000):
            writer.write(b"x" * (size - 1))
            writer.writelines([b"", b"\n"])
            await writer.drain()
            assert await reader.readexactly(size) == b"x" * (size - 1) + b"\n"
        answer = [raised(writer.write_eof), writer.can_write_eof(), writer.is_closing()]
        writer.close()
        answer.append(writer.is_closing())
        await writer.wait_closed()
        await done
        server.close()
        await server.wait_closed()
        return answer, lines

    errors = []
    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("inner_buffered", [False, True])
@parity
def test_tls_in_tls(w, engine, inner_buffered):  # noqa: F811
    async def main():
        loop, log = asyncio.get_running_loop(), []
        done = loop.create_future()

        def recorder(log):
            def count(proto, data):
                if len(proto.received) == 150_000 and not done.done():
                    done.set_result(bytes(proto.received))

            if inner_buffered:
                return Roomy(log, memoryview(bytearray(5000)), data=count)
            return Recorder(log, data=count)

        served = []

        class Outer(asyncio.Protocol):
            def connection_made(self, transport):
                served.append(loop.create_task(self.upgrade(transport)))

            async def upgrade(self, transport):
                proto = Recorder([], data=lambda proto, data: proto.transport and proto.transport.write(data))
                proto.transport = await loop.start_tls(transport, proto, server_context(), server_side=True)
                proto.transport.write(bytes(proto.received))  # what came before the transport was known
                return proto

        server = await loop.create_server(Outer, "127.0.0.1", 0, ssl=server_context())
        outer, proto = await loop.create_connection(
            lambda: recorder(log), *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        inner = await loop.start_tls(outer, proto, client_context(), server_hostname="localhost")
        data = pattern(150_000)
        for at in range(0, len(data), 7_777):
            inner.write(data[at : at + 7_777])
        assert await done == data
        answer = [
            inner.get_extra_info("ssl_object") is not outer.get_extra_info("ssl_object"),
            inner.get_extra_info("socket").getpeername() == server.sockets[0].getsockname(),
            inner.get_extra_info("peercert")["subject"],
        ]
        inner.close()
        await until(lambda: proto.is_lost)
        theirs = await served[0]
        await until(lambda: theirs.is_lost)
        server.close()
        await server.wait_closed()
        return answer, [entry for entry in log if not isinstance(entry, list)]

    errors = []
    return w.run(main, errors=errors), errors


@parity
def test_upgrade_and_data_that_follows_at_once(w, engine):  # noqa: F811
    """Both sides write as soon as they may."""

    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()
            transport, proto = await loop.create_connection(lambda: Recorder(s.log), sock=ours)
            from tls_wires import Peer

            peer = Peer(theirs, server_context(), server_side=True)
            upgrading = asyncio.ensure_future(
                loop.start_tls(transport, proto, client_context(), server_hostname="localhost")
            )
            await peer.handshake()
            await peer.write(b"hello")
            upgraded = await upgrading
            upgraded.write(b"you too")
            answer = [await peer.read(7)]
            await until(lambda: proto.received == b"hello")
            answer.append(transport.get_protocol() is upgraded._ssl_protocol)
            upgraded.abort()
            await until(lambda: proto.is_lost)
            return answer, s.log

    errors = []
    return w.run(main, errors=errors), errors


@parity
def test_a_failed_upgrade(w, engine):  # noqa: F811
    async def main():
        loop = asyncio.get_running_loop()
        with Scene(w) as s:
            ours, theirs = s.pair()
            transport, proto = await loop.create_connection(lambda: Recorder(s.log), sock=ours)
            upgrading = asyncio.ensure_future(
                loop.start_tls(transport, proto, client_context(), server_hostname="localhost")
            )
            theirs.setblocking(False)
            await loop.sock_recv(theirs, 100)
            theirs.send(b"this is no TLS\r\n")
            answer = await araised(upgrading)
            await asyncio.sleep(0)
            return answer, transport.is_closing(), s.log

    errors = []
    return w.run(main, errors=errors), errors
