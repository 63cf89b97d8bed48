"""Streams on real connections: what arrives, pausing, servers, and protocols of one's own."""

import asyncio
import contextlib
import contextvars
import gc
import socket
import sys
import warnings
import weakref

import pytest
from wires import Recorder
from worlds import araised, normal, parity, since, until

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


async def noted(note, name, awaitable):
    note((name, await awaitable))


def connected(w, scene, *, debug=False, errors=None, **kwargs):
    """Run `scene(reader, writer, peer)` with a client's streams and the plain socket at the other end."""

    async def main():
        loop = w.aio.get_running_loop()
        with contextlib.ExitStack() as stack:
            ours, peer = socket.socketpair()
            stack.enter_context(peer)
            ours.setblocking(False)
            peer.setblocking(False)
            reader, writer = await w.aio.open_unix_connection(sock=ours, **kwargs)
            try:
                return await scene(loop, reader, writer, peer)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    return w.run(main, debug=debug, errors=errors)


async def sent_all(loop, peer, data):
    await loop.sock_sendall(peer, data)


@pytest.mark.parametrize("size", [1, 100, 5000, 40_000, 70_000, 300_000])
@parity
def test_bytes_arrive_whole_and_in_order(w, size):
    data = bytes(index * 7 % 251 for index in range(size))

    async def scene(loop, reader, writer, peer):
        seen = []
        for way in ("exactly", "read", "read", "small reads", "read", "exactly"):
            sending = loop.create_task(sent_all(loop, peer, data))
            got = b""
            if way == "exactly":
                got = await reader.readexactly(size)
            while len(got) < size:
                got += await reader.read(64 * 1024 if way == "read" else 1000)
            await sending
            seen.append(got == data)
        peer.shutdown(socket.SHUT_WR)
        seen.append((await reader.read(), reader.at_eof()))
        return seen

    return connected(w, scene)


@pytest.mark.parametrize("first", ["reader", "callback"])
@parity
def test_the_turn_in_which_a_read_ends(w, first):
    """The one after that of the event, in the order of the events."""

    async def scene(loop, reader, writer, peer):
        log = []
        ours, theirs = socket.socketpair()
        with ours, theirs:

            def readable():
                ours.recv(10)
                log.append("readable")
                loop.call_soon(log.append, "soon after readable")

            loop.add_reader(ours.fileno(), readable)
            await asyncio.sleep(0.001)
            task = loop.create_task(noted(log.append, "read", reader.read(100)))
            await asyncio.sleep(0.001)
            for sender in (peer, theirs) if first == "reader" else (theirs, peer):
                sender.send(b"data")
            await task
            await noted(log.append, "at once", reader.read(0))
            writer.write(b"answer")
            loop.call_soon(log.append, "soon after write")
            await noted(log.append, "drain", writer.drain())
            log.append(peer.recv(100))
            await asyncio.sleep(0.001)
            loop.remove_reader(ours.fileno())
        return log

    return connected(w, scene)


@parity
def test_too_much_pauses_the_transport(w):
    async def scene(loop, reader, writer, peer):
        sending = loop.create_task(sent_all(loop, peer, b"x" * 2_000_000))
        await until(lambda: reader._paused)
        trace = [reader._transport.is_reading(), len(reader._buffer) > 2000]
        got = 0
        while got < 2_000_000:
            got += len(await reader.read(1000 if got < 100_000 else 50_000))
        await sending
        return trace, got, reader._paused

    return connected(w, scene, limit=1000)


@parity
def test_a_reader_nobody_holds_gets_nothing(w):
    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        with peer:
            reader, writer = await w.aio.open_unix_connection(sock=ours)
            streams = [reader]
            del reader
            writer._reader = None
            reference = weakref.ref(streams.pop())
            gc.collect()
            peer.send(b"data")
            await asyncio.sleep(0.002)
            answer = reference() is None, writer.is_closing()
            writer.close()
            await writer.wait_closed()
            return answer

    return w.run(main)


def test_methods_replaced_during_a_connection_are_called(world):
    """Not a parity test: transports of the stdlib take no attributes in some versions."""
    if world.name != "native":
        pytest.skip("of native streams on a native transport")

    async def scene(loop, reader, writer, peer):
        log = []
        peer.send(b"one")
        log.append(await reader.read(10))
        feed = reader.feed_data
        reader.feed_data = lambda data: (log.append(("feed", data)), feed(data + b"!"))
        peer.send(b"two")
        log.append(await reader.read(10))
        del reader.feed_data
        protocol = writer.transport.get_protocol()
        received = protocol.data_received
        protocol.data_received = lambda data: (log.append(("received", data)), received(data + b"?"))
        peer.send(b"three")
        log.append(await reader.read(10))
        del protocol.data_received
        other = Recorder()
        writer.transport.set_protocol(other)
        peer.send(b"four")
        await until(lambda: other.received)
        writer.transport.set_protocol(protocol)
        peer.send(b"five")
        log.append((bytes(other.received), await reader.read(10)))
        write = writer.transport.write
        writer.transport.write = lambda data: (log.append(("write", data)), write(data))
        writer.write(b"six")
        await writer.drain()
        del writer.transport.write
        log.append(peer.recv(10))
        return log

    assert connected(world, scene) == [
        b"one",
        ("feed", b"two"),
        b"two!",
        ("received", b"three"),
        b"three?",
        (b"four", b"five"),
        ("write", b"six"),
        b"six",
    ]


@parity
def test_bytes_that_end_a_connection(w):
    async def scene(loop, reader, writer, peer):
        peer.send(b"line\npart")
        peer.shutdown(socket.SHUT_WR)
        trace = [await reader.readline(), await araised(reader.readexactly(10)), await reader.read(10), reader.at_eof()]
        trace.append((writer.is_closing(), normal(repr(reader))))
        writer.write(b"still")
        await writer.drain()
        trace.append(peer.recv(10))
        return trace

    return connected(w, scene)


@parity
def test_a_reset_connection(w):
    async def main():
        loop = w.aio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            reader, writer = await w.aio.open_connection(*listener.getsockname())
            peer, _ = listener.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            task = loop.create_task(reader.read(10))
            await asyncio.sleep(0)
            peer.close()
            trace = [(await araised(task))[0], type(reader.exception()).__name__]
            trace.append((await araised(writer.drain()))[0])
            trace.append((await araised(reader.readline()))[0])
            writer.close()
            trace.append((await araised(writer.wait_closed()))[0])
            return trace

    return w.run(main)


@parity
def test_a_slow_peer_makes_drain_wait(w):
    async def scene(loop, reader, writer, peer):
        writer.write(b"x" * 3_000_000)
        drains = [loop.create_task(writer.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        trace = [[task.done() for task in drains], writer._protocol._paused]
        got = 0
        while got < 3_000_000:
            got += len(await loop.sock_recv(peer, 1_000_000))
        await asyncio.wait(drains)
        return trace, [task.result() for task in drains], writer._protocol._paused

    return connected(w, scene)


@parity
def test_a_server(w):
    errors = []

    async def main():
        log = []

        async def answer(reader, writer):
            async for line in reader:
                log.append(line)
                writer.write(line.upper())
                await writer.drain()
                if line == b"fail\n":
                    raise ValueError("failed")
            writer.close()
            await writer.wait_closed()
            log.append("closed")

        server = await w.aio.start_server(answer, "127.0.0.1", 0, limit=100)
        address = server.sockets[0].getsockname()
        for lines in ([b"one\n", b"two\n"], [b"three\n"], [b"x" * 99 + b"\n"]):
            reader, writer = await w.aio.open_connection(*address)
            for line in lines:
                writer.write(line)
                log.append(await reader.readline())
            writer.write_eof()
            log.append(await reader.read())
            writer.close()
            await writer.wait_closed()
        await until(lambda: log.count("closed") == 3)
        if sys.version_info >= (3, 12):  # before, the report came when the task was collected
            reader, writer = await w.aio.open_connection(*address)
            writer.write(b"fail\n")
            log.append(await reader.readline())
            log.append(await reader.read())
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return log

    return w.run(main, errors=errors), errors


@since(3, 12)
@parity
def test_an_unclosed_writer_is_warned_about(w):
    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        with peer, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, writer = await w.aio.open_unix_connection(sock=ours)
            del writer
            gc.collect()
            await asyncio.sleep(0.001)
            return [(entry.category.__name__, normal(entry.message)) for entry in caught]

    return w.run(main)


@parity
def test_the_context_of_a_client_connected_cb(w):
    """drain() and reads leave the task's own context alone."""

    async def scene(loop, reader, writer, peer):
        VARIABLE.set("task")
        peer.send(b"data")
        trace = [await reader.read(10), VARIABLE.get()]
        loop.call_later(0.001, peer.send, b"more")
        trace += [await reader.read(10), VARIABLE.get()]
        return trace

    return connected(w, scene)


@parity
def test_overridden_methods_of_a_protocol_are_called(w):
    """As SMTP servers do it: a protocol of their own, on a real connection."""

    async def main():
        loop, log = w.aio.get_running_loop(), []

        class Server(w.aio.StreamReaderProtocol):
            def __init__(self):
                super().__init__(w.aio.StreamReader(loop=loop), self.connected, loop=loop)

            async def connected(self, reader, writer):
                log.append(await reader.readline())
                log.append(await reader.read())
                writer.write(b"answer")
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                log.append("end")

            def connection_made(self, transport):
                log.append("made")
                super().connection_made(transport)

            def data_received(self, data):
                log.append(("data", data))
                super().data_received(data + b"+")

            def eof_received(self):
                log.append("eof")
                return super().eof_received()

            def connection_lost(self, exc):
                log.append(("lost", exc))
                super().connection_lost(exc)

        server = await loop.create_server(Server, "127.0.0.1", 0)
        reader, writer = await w.aio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        await writer.drain()
        await until(lambda: b"line\n" in log)
        writer.write(b"rest")
        writer.write_eof()
        log.append(await reader.read())
        writer.close()
        await writer.wait_closed()
        await until(lambda: "end" in log)
        server.close()
        await server.wait_closed()
        return log

    return w.run(main)
