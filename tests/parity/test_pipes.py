"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, sockets, terminals, what they refuse, and who closes."""

import asyncio
import contextlib
import gc
import os
import pty
import re
import socket
import tempfile
import warnings

import pytest
from worlds import araised, asyncio_log, normal, outcome, parity, raised, since, until


class Reader(asyncio.Protocol):
    def __init__(self, log, on_data=None):
        self.log, self.on_data, self.data = log, on_data, bytearray()

    def connection_made(self, transport):
        self.transport = transport
        self.log.append("made")

    def data_received(self, data):
        self.data += data
        if self.on_data is not None:
            self.on_data(self, data)

    def eof_received(self):
        self.log.append("eof")

    def connection_lost(self, exc):
        self.log.append(("lost", type(exc).__name__))


class Writer(asyncio.BaseProtocol):
    def __init__(self, log):
        self.log = log

    def connection_made(self, transport):
        self.transport = transport
        self.log.append("made")

    def pause_writing(self):
        self.log.append(("pause", self.transport.get_write_buffer_size() > 0))

    def resume_writing(self):
        self.log.append(("resume", self.transport.get_write_buffer_size()))

    def connection_lost(self, exc):
        self.log.append(("lost", type(exc).__name__))


def lost(log):
    return any(isinstance(entry, tuple) and entry[0] == "lost" for entry in log)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def read_all(fd):
    os.set_blocking(fd, False)
    data = bytearray()
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 20):
            data += piece
    return bytes(data)


@contextlib.contextmanager
def fifo():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        yield reading, os.open(path, os.O_WRONLY)


@contextlib.contextmanager
def ends(kind):
    """(what to read from, what to write into): two descriptors, which the test closes."""
    if kind == "pipe":
        yield os.pipe()
    elif kind == "fifo":
        with fifo() as both:
            yield both
    else:
        one, other = socket.socketpair()
        yield one.detach(), other.detach()


KINDS = pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])


@parity
@KINDS
def test_reading(w, kind):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        with ends(kind) as (reading, writing):
            os.write(writing, b"early")
            pipe = open(reading, "rb", 0)
            transport, proto = await loop.connect_read_pipe(lambda: Reader(log), pipe)
            await until(lambda: proto.data == b"early")
            trace = [normal(repr(transport)), transport.get_extra_info("pipe") is pipe, transport.is_closing()]
            trace += [transport.get_extra_info("socket"), transport.get_extra_info("no", 5), os.get_blocking(reading)]
            trace += [isinstance(transport, kind) for kind in (asyncio.ReadTransport, asyncio.WriteTransport)]
            trace += [transport.get_protocol() is proto, outcome(transport.is_reading)]
            transport.pause_reading()
            trace.append(normal(repr(transport)))
            os.write(writing, b"paused")
            await asyncio.sleep(0.002)
            trace.append(bytes(proto.data))
            transport.pause_reading()
            transport.resume_reading()
            transport.resume_reading()
            await until(lambda: proto.data == b"earlypaused")
            os.write(writing, b"last")
            os.close(writing)
            await until(lambda: lost(log))
            trace += [bytes(proto.data), log, pipe.closed, is_open(reading), normal(repr(transport))]
            transport.close()
            await asyncio.sleep(0)
            return [*trace, transport.is_closing(), transport.get_protocol()]

    return w.run(main)


@parity
@KINDS
def test_closing_the_reading_end(w, kind):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        with ends(kind) as (reading, writing):
            pipe = open(reading, "rb", 0)
            transport, _ = await loop.connect_read_pipe(lambda: Reader(log), pipe)
            transport.close()
            trace = [normal(repr(transport)), log.copy(), pipe.closed]
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            await until(lambda: lost(log))
            trace += [log, pipe.closed, normal(repr(transport))]
            os.close(writing)
            return trace

    return w.run(main)


@parity
def test_reads_of_all_sizes(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        _, proto = await loop.connect_read_pipe(lambda: Reader(log), open(reading, "rb", 0))
        sent = bytearray()
        for size in (1, 100, 4096, 65536, 5000, 65536, 65536, 10, 30_000, 65536):
            piece = os.urandom(size)
            sent += piece
            os.write(writing, piece)
            await until(lambda: len(proto.data) == len(sent))
        os.close(writing)
        await until(lambda: lost(log))
        return proto.data == sent, log

    return w.run(main)


@parity
@pytest.mark.parametrize("how", ["pause", "close", "swap"])
def test_a_protocol_acts_while_it_receives(w, how):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        other = Reader(log)

        def act(proto, data):
            log.append(bytes(data))
            if how == "pause":
                proto.transport.pause_reading()
            elif how == "close":
                proto.transport.close()
            else:
                proto.transport.set_protocol(other)

        reading, writing = os.pipe()
        pipe = open(reading, "rb", 0)
        transport, _proto = await loop.connect_read_pipe(lambda: Reader(log, act), pipe)
        os.write(writing, b"one")
        await until(lambda: b"one" in log)
        if how != "close":
            os.write(writing, b"two")
            await asyncio.sleep(0.002)
            log.append(bytes(other.data))
            transport.close()
        await until(lambda: lost(log))
        os.close(writing)
        return log, pipe.closed

    return w.run(main)


@parity
def test_a_protocol_that_raises_is_reported_and_stays(w):
    errors = []

    async def main():
        loop, log = w.aio.get_running_loop(), []

        def fail(proto, data):
            if data == b"bad":
                raise ValueError("of the protocol")

        reading, writing = os.pipe()
        _transport, proto = await loop.connect_read_pipe(lambda: Reader(log, fail), open(reading, "rb", 0))
        os.write(writing, b"bad")
        await until(lambda: errors)
        os.write(writing, b"good")
        await until(lambda: proto.data == b"badgood")
        os.close(writing)
        await until(lambda: lost(log))
        return log

    return w.run(main, errors=errors), [entry[1:] for entry in errors]


@parity
@KINDS
def test_writing(w, kind):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        with ends(kind) as (reading, writing):
            pipe = open(writing, "wb", 0)
            transport, proto = await loop.connect_write_pipe(lambda: Writer(log), pipe)
            await asyncio.sleep(0)
            trace = [normal(repr(transport)), transport.get_extra_info("pipe") is pipe, transport.can_write_eof()]
            trace += [isinstance(transport, kind) for kind in (asyncio.ReadTransport, asyncio.WriteTransport)]
            trace += [
                transport.get_write_buffer_size(),
                transport.get_write_buffer_limits(),
                transport.get_protocol() is proto,
            ]
            for data in (b"bytes", bytearray(b"array"), memoryview(b"view"), b"", bytearray(), memoryview(b"")):
                transport.write(data)
            trace.append(read_all(reading))  # at once, each in a call of its own
            transport.writelines([b"some", b"lines", bytearray(b"more")])
            trace.append(read_all(reading))
            transport.close()
            trace += [normal(repr(transport)), transport.is_closing()]
            transport.write(b"too late")
            await until(lambda: lost(log))
            trace += [log, pipe.closed, read_all(reading), normal(repr(transport))]
            os.close(reading)
            return trace

    return w.run(main)


@parity
@KINDS
def test_a_slow_reader(w, kind):
    """pause_writing, resume_writing when all is written, and close() after the last byte."""

    async def main():
        loop, log = w.aio.get_running_loop(), []
        with ends(kind) as (reading, writing):
            transport, _ = await loop.connect_write_pipe(lambda: Writer(log), open(writing, "wb", 0))
            transport.set_write_buffer_limits(high=1000, low=100)
            payload, mutable = os.urandom(1_000_000), bytearray(os.urandom(5000))
            sent = payload + bytes(mutable) + b"end"
            transport.write(payload)
            transport.write(mutable)
            mutable[:] = bytes(5000)
            log.append(transport.get_write_buffer_size() > 1000)
            transport.write(memoryview(b"end"))
            got = bytearray()
            while len(got) < len(sent):
                got += read_all(reading)
                await asyncio.sleep(0)
            await until(lambda: ("resume", 0) in log)
            transport.write(payload)
            transport.close()
            log.append(lost(log))
            while len(got) < len(sent) + len(payload):
                got += read_all(reading)
                await asyncio.sleep(0)
            await until(lambda: lost(log))
            os.close(reading)
            return log, got == sent + payload, transport.get_write_buffer_size()

    return w.run(main)


@parity
@KINDS
@pytest.mark.parametrize("unsent", [False, True])
def test_the_reader_goes_away(w, kind, unsent):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        with ends(kind) as (reading, writing):
            pipe = open(writing, "wb", 0)
            transport, _ = await loop.connect_write_pipe(lambda: Writer(log), pipe)
            if unsent:
                transport.write(bytes(1_000_000))
            os.close(reading)
            await until(lambda: lost(log))
            transport.write(b"too late")
            return log, pipe.closed, transport.is_closing()

    return w.run(main)


@parity
def test_writing_where_nobody_reads(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        transport, _ = await loop.connect_write_pipe(lambda: Writer(log), open(writing, "wb", 0))
        os.close(reading)
        with asyncio_log() as logged:
            for _ in range(8):
                transport.write(b"x")
        await until(lambda: lost(log))
        return log, logged

    return w.run(main)


@parity
@pytest.mark.parametrize("how", ["abort", "close", "write_eof"])
def test_ends_of_the_writing_end(w, how):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        pipe = open(writing, "wb", 0)
        transport, _ = await loop.connect_write_pipe(lambda: Writer(log), pipe)
        transport.write(bytes(200_000))
        getattr(transport, how)()
        log.append((transport.is_closing(), transport.get_write_buffer_size() > 0))
        transport.close()
        transport.write_eof()
        count = 0
        while not lost(log):
            count += len(read_all(reading))
            await asyncio.sleep(0)
        count += len(read_all(reading))
        os.close(reading)
        return log, count if how != "abort" else count < 200_000, pipe.closed

    return w.run(main)


@parity
def test_a_writer_that_goes_on_when_resumed(w):
    """What resume_writing() writes is queued again and sent."""

    async def main():
        loop, log = w.aio.get_running_loop(), []

        class Again(Writer):
            left = 3

            def resume_writing(self):
                self.log.append("resume")
                if self.left:
                    self.left -= 1
                    self.transport.write(bytes(300_000))

        reading, writing = os.pipe()
        transport, _ = await loop.connect_write_pipe(lambda: Again(log), open(writing, "wb", 0))
        transport.write(bytes(300_000))
        count = 0
        while count < 1_200_000:
            count += len(read_all(reading))
            await asyncio.sleep(0)
        await until(lambda: log.count("resume") == 4)
        transport.close()
        await until(lambda: lost(log))
        os.close(reading)
        return [entry[0] if isinstance(entry, tuple) else entry for entry in log]

    return w.run(main)


@parity
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_pipe(w, kind):
    """The error says so, and the file stays with its owner."""

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with tempfile.TemporaryDirectory() as folder:
            path = folder if kind == "folder" else os.path.join(folder, "file")
            flags = os.O_RDONLY if kind == "folder" else os.O_RDWR | os.O_CREAT
            for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
                fd = os.open(path, flags)
                file = Owner(fd)
                log = []
                trace.append(await araised(connect(lambda: Writer(log), file)))
                await asyncio.sleep(0.002)
                trace.append((log, file.closes, is_open(fd)))
                os.close(fd)
        return trace

    return w.run(main)


class Owner:
    """Like a file: has a descriptor, counts who closes it."""

    def __init__(self, fd):
        self.fd, self.closes = fd, 0

    def fileno(self):
        return self.fd

    def close(self):
        self.closes += 1
        os.close(self.fd)


@parity
def test_a_descriptor_is_closed_by_its_owner_and_once(w):
    async def main():
        loop, log, trace = w.aio.get_running_loop(), [], []
        reading, writing = os.pipe()
        one, other = Owner(reading), Owner(writing)
        source, _ = await loop.connect_read_pipe(lambda: Reader(log), one)
        sink, _ = await loop.connect_write_pipe(lambda: Writer(log), other)
        sink.write(b"x")
        sink.close()
        sink.abort() if w.ours else None  # stock calls connection_lost twice, and fails at the second
        await until(lambda: len(log) == 5)
        source.close()
        await asyncio.sleep(0.002)
        return [*trace, log, one.closes, other.closes]

    return w.run(main)


@parity
def test_a_terminal(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        master, slave = pty.openpty()
        out, _ = await loop.connect_write_pipe(lambda: Writer(log), open(slave, "wb", 0))
        transport, proto = await loop.connect_read_pipe(lambda: Reader(log), open(master, "rb", 0))
        out.write(b"hello\n")
        await until(lambda: proto.data == b"hello\r\n")
        out.close()  # the other side's read fails with EIO, which is nothing unusual here
        await until(lambda: sum(lost([entry]) for entry in log) == 2)
        return log, transport.is_closing()

    return w.run(main)


@parity
def test_a_device(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        sink, _ = await loop.connect_write_pipe(lambda: Writer(log), open("/dev/null", "wb", 0))
        sink.write(b"nowhere")
        log.append(normal(repr(sink)))
        sink.close()
        await until(lambda: lost(log))
        return log

    return w.run(main)


@parity
def test_datagrams_are_not_joined(w):
    """A pipe may be a socket with boundaries: each write is a datagram."""

    async def main():
        loop, log = w.aio.get_running_loop(), []
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        sink, _ = await loop.connect_write_pipe(lambda: Writer(log), other)
        source, proto = await loop.connect_read_pipe(lambda: Reader(log, lambda _, data: log.append(len(data))), one)
        for size in (1, 5, 6000, 20_000, 1):
            sink.write(bytes(size))
        await until(lambda: len(proto.data) == 26_007)
        sink.close()
        source.close()
        await until(lambda: sum(lost([entry]) for entry in log) == 2)
        return log

    return w.run(main)


@parity
def test_packets_stay_whole(w):
    """What a read of a pipe with O_DIRECT has no room for is lost: the last sizes say nothing about the next."""

    async def main():
        loop, log, sizes = w.aio.get_running_loop(), [], []
        reading, writing = os.pipe2(os.O_DIRECT)
        source, proto = await loop.connect_read_pipe(
            lambda: Reader(log, lambda _, data: sizes.append(len(data))), open(reading, "rb", 0)
        )
        for packets in ([600], [600], [600], [600], [4096], [1000], [1000], [1000, 3000, 4096], [4096], [4096, 1]):
            for size in packets:
                os.write(writing, bytes(size))
            count = len(sizes) + len(packets)
            await until(lambda count=count: len(sizes) >= count)
        os.close(writing)
        await until(lambda: lost(log))
        source.close()
        return sizes, len(proto.data)

    return w.run(main)


# Stock's half-made transport cannot even say that nobody closed it.
half_made = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@half_made
@parity
def test_wrong_types(w):
    async def main():
        loop, log, trace = w.aio.get_running_loop(), [], []
        reading, writing = os.pipe()
        sink, _ = await loop.connect_write_pipe(lambda: Writer(log), open(writing, "wb", 0))
        trace += [raised(sink.write, thing) for thing in ("text", None, 5, [b"x"])]
        trace += [raised(sink.set_write_buffer_limits, high=1, low=2), raised(sink.set_write_buffer_limits, high=-1)]
        trace += [(await araised(loop.connect_read_pipe(lambda: Reader(log), thing)))[0] for thing in (None, 5, "text")]
        sink.close()
        await until(lambda: lost(log))
        os.close(reading)
        return trace, log

    return w.run(main)


@parity
def test_a_view_that_is_not_contiguous(w):
    errors = []

    async def main():
        loop, log = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        sink, _ = await loop.connect_write_pipe(lambda: Writer(log), open(writing, "wb", 0))
        sink.write(memoryview(b"abcdef")[::2])
        await until(lambda: lost(log))
        os.close(reading)
        return log

    return w.run(main, errors=errors), errors


@half_made
@parity
def test_a_closed_file(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        for end, connect in ((0, loop.connect_read_pipe), (1, loop.connect_write_pipe)):
            both = os.pipe()
            pipe = open(both[end], "rb" if end == 0 else "wb", 0)
            pipe.close()
            os.close(both[1 - end])
            trace.append(await araised(connect(lambda: Writer([]), pipe)))
        return trace

    return w.run(main)


@parity
def test_a_failing_factory(w):
    async def main():
        loop = w.aio.get_running_loop()
        reading, writing = os.pipe()

        def fail():
            raise LookupError("no protocol")

        trace = [await araised(loop.connect_read_pipe(fail, Owner(reading))), is_open(reading)]
        os.close(reading)
        os.close(writing)
        return trace

    return w.run(main)


@parity
@KINDS
def test_streams_over_pipes(w, kind):
    async def main():
        loop = w.aio.get_running_loop()
        with ends(kind) as (reading, writing):
            reader = w.aio.StreamReader(limit=50_000)
            protocol = w.aio.StreamReaderProtocol(reader)
            await loop.connect_read_pipe(lambda: protocol, open(reading, "rb", 0))
            sink, mixin = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, open(writing, "wb", 0))
            writer = w.aio.StreamWriter(sink, mixin, None, loop)
            payload = os.urandom(500_000)

            async def produce():
                writer.write(b"a line\n")
                for start in range(0, len(payload), 7000):
                    writer.write(payload[start : start + 7000])
                    await writer.drain()
                writer.close()

            task = loop.create_task(produce())
            trace = [await reader.readline(), await reader.readexactly(100_000) == payload[:100_000]]
            trace.append((await reader.read()) == payload[100_000:])
            await task
            return [*trace, reader.at_eof()]

    return w.run(main)


@parity
def test_debug_mode_says_who_closed(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        with asyncio_log(10) as logged:
            source, _ = await loop.connect_read_pipe(lambda: Reader(log), open(reading, "rb", 0))
            source.pause_reading()
            source.resume_reading()
            os.close(writing)
            await until(lambda: lost(log))
            reading, writing = os.pipe()
            await loop.connect_write_pipe(lambda: Writer(log), open(writing, "wb", 0))
            os.close(reading)
            await until(lambda: sum(lost([entry]) for entry in log) == 2)
        return [(level, re.sub(r"pipe \d+", "pipe N", text)) for level, text in logged]

    return w.run(main, debug=True)


@parity
def test_nobody_closes(w):
    """A transport that goes away open says so, and closes the pipe."""
    reading, writing = os.pipe()
    one, other = Owner(reading), Owner(writing)

    async def main():
        loop = w.aio.get_running_loop()
        await loop.connect_read_pipe(lambda: Reader([]), one)
        await loop.connect_write_pipe(lambda: Writer([]), other)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        w.run(main)
        gc.collect()
    texts = sorted(normal(warning.message) for warning in caught if "unclosed transport" in str(warning.message))
    return [text.split(" fd=")[0] for text in texts], one.closes, other.closes


@parity
def test_a_closed_loop(w):
    reading, writing = os.pipe()
    owner = Owner(writing)
    with w.loop() as loop:
        sink, proto = loop.run_until_complete(loop.connect_write_pipe(lambda: Writer([]), owner))
        sink.write(bytes(1_000_000))
    trace = [raised(sink.abort), sink.is_closing(), owner.closes]
    both = [sink, proto]
    del sink, proto

    def drop():
        both.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed transport <.* closing fd="):
        drop()
    os.close(reading)
    return [*trace, owner.closes]


@since(3, 12)
@parity
def test_is_reading(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        source, _ = await loop.connect_read_pipe(lambda: Reader(log), open(reading, "rb", 0))
        trace = [source.is_reading()]
        source.pause_reading()
        trace.append(source.is_reading())
        source.resume_reading()
        trace.append(source.is_reading())
        source.close()
        trace.append(source.is_reading())
        await until(lambda: lost(log))
        os.close(writing)
        return trace

    return w.run(main)


def test_no_descriptor_is_lost(world):
    """What was opened is closed, however it ended."""
    before = len(os.listdir("/proc/self/fd"))

    async def main():
        loop = world.aio.get_running_loop()
        for number in range(20):
            reading, writing = os.pipe()
            source, _ = await loop.connect_read_pipe(lambda: Reader([]), open(reading, "rb", 0))
            sink, _ = await loop.connect_write_pipe(lambda: Writer([]), open(writing, "wb", 0))
            sink.write(bytes(100_000 * (number % 2)))
            (source.close if number % 3 else sink.abort)()
            await until(lambda source=source, sink=sink: source.get_protocol() is sink.get_protocol() is None)

    world.run(main)
    assert len(os.listdir("/proc/self/fd")) == before
