"""loop.sendfile and loop.sock_sendfile: offsets and counts, the file's position afterwards, refusals, cancellation."""

import asyncio
import io
import os
import socket

import pytest
from wires import Recorder
from worlds import araised, parity, raised, until

LEN = 3_000_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("sendfile") / "payload"
    path.write_bytes(os.urandom(LEN))
    return path


def pair():
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


async def receive(loop, sock, count):
    got = bytearray()
    while len(got) < count:
        piece = await loop.sock_recv(sock, 1 << 18)
        if not piece:
            break
        got += piece
    return bytes(got)


@parity
@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [(), (0,), (1000,), (0, 500), (1000, 2_500_000), (10, LEN), (LEN,), (LEN + 5,), (LEN - 1, 5), (0, None), (0, 1)],
    ids=str,
)
def test_what_arrives(w, path, fallback, arguments):
    one, other = pair()

    async def main():
        loop = w.aio.get_running_loop()
        with path.open("rb") as file:
            offset = arguments[0] if arguments else 0
            count = arguments[1] if len(arguments) > 1 and arguments[1] else LEN
            expected = path.read_bytes()[offset : offset + count]
            reading = loop.create_task(receive(loop, other, len(expected)))
            sent = await loop.sock_sendfile(one, file, *arguments, fallback=fallback)
            return sent, await reading == expected, file.tell()

    with one, other:
        return w.run(main)


@parity
def test_wrong_arguments(w):
    one, other = pair()

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with open(__file__, "rb") as file, open(__file__) as text:
            for arguments in ((-1,), (0, -1), (0, 0), ("0",), (0, "5"), (0.5,), (None,)):
                trace.append(await araised(loop.sock_sendfile(one, file, *arguments)))
            trace.append(await araised(loop.sock_sendfile(one, text)))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                datagrams.setblocking(False)
                trace.append(await araised(loop.sock_sendfile(datagrams, file)))
            trace.append((await araised(loop.sock_sendfile(None, file)))[0])
            file.close()
            trace.append(await araised(loop.sock_sendfile(one, file, fallback=False)))
        return trace

    with one, other:
        return w.run(main)


class Memory(io.BytesIO):
    pass


@parity
@pytest.mark.parametrize("kind", ["memory", "no fileno", "pipe", "pipe, counted", "empty", "closed descriptor"])
def test_what_the_kernel_cannot_send(w, kind):
    one, other = pair()

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        reading, writing = os.pipe()
        os.write(writing, b"in the pipe")
        os.close(writing)
        count = 5 if kind == "pipe, counted" else None
        for fallback in (False, True):
            if kind == "memory":
                file = Memory(b"memory")
            elif kind == "no fileno":
                file = type("File", (), {"read": Memory(b"text").read, "readinto": Memory(b"text").readinto})()
            elif kind == "closed descriptor":
                file = type("File", (Memory,), {"fileno": lambda self: 1 << 20})(b"beyond")
            elif kind == "empty":
                file = open("/dev/null", "rb", 0)
            else:
                file = open(reading, "rb", 0, closefd=False)
            try:
                trace.append(await loop.sock_sendfile(one, file, 0, count, fallback=fallback))
            except Exception as exc:
                trace.append((type(exc).__name__, str(exc)))
            if hasattr(file, "close"):
                file.close()
        os.close(reading)
        one.close()
        return [*trace, await receive(loop, other, 100)]

    with one, other:
        return w.run(main)


@parity
def test_a_peer_that_is_gone_before(w):
    async def main():
        loop = w.aio.get_running_loop()
        one, other = pair()
        other.close()
        with one, open(__file__, "rb") as file:
            return await araised(loop.sock_sendfile(one, file, fallback=False)), file.tell()

    return w.run(main)


@parity
def test_a_peer_that_goes(w, path):
    async def main():
        loop = w.aio.get_running_loop()
        one, other = pair()
        with one, path.open("rb") as file:
            sending = loop.create_task(loop.sock_sendfile(one, file, fallback=False))
            await receive(loop, other, 1000)
            other.close()
            return await araised(sending), file.tell() > 0

    return w.run(main)


@parity
def test_cancelled(w, path):
    """Nothing is watched any more, the socket works on."""

    async def main():
        loop = w.aio.get_running_loop()
        one, other = pair()
        with one, other, path.open("rb") as file:
            sending = loop.create_task(loop.sock_sendfile(one, file))
            await receive(loop, other, 1000)
            sending.cancel()
            trace = [await araised(sending)]
            trace.append(loop.remove_writer(one))
            one.shutdown(socket.SHUT_WR)
            rest = await receive(loop, other, LEN)
            return [*trace, 0 < len(rest) < LEN]

    return w.run(main)


def test_the_position_after_a_cancellation(ours, path):
    """As far as was sent; stock leaves it at the beginning."""

    async def main():
        loop = ours.aio.get_running_loop()
        one, other = pair()
        with one, other, path.open("rb", 0) as file:
            sending = loop.create_task(loop.sock_sendfile(one, file))
            got = len(await receive(loop, other, 1000))
            sending.cancel()
            await araised(sending)
            one.shutdown(socket.SHUT_WR)
            return got + len(await receive(loop, other, LEN)), file.tell()

    got, position = ours.run(main)
    assert got == position


@parity
@pytest.mark.parametrize("fallback", [True, False])
def test_a_transport_meanwhile(w, path, fallback):
    """It does not read, its write() fails, and what was written before comes first."""

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with socket.create_server(("127.0.0.1", 0)) as listener, path.open("rb") as file:
            transport, proto = await loop.create_connection(lambda: Recorder([]), *listener.getsockname())
            peer, _ = listener.accept()
            peer.setblocking(False)
            with peer:
                transport.write(b"before")
                sending = loop.create_task(loop.sendfile(transport, file, 5, fallback=fallback))
                await asyncio.sleep(0.005)
                if not fallback:
                    trace += [raised(transport.write, b"x"), transport.is_reading(), transport.get_write_buffer_size()]
                peer.send(b"not now")
                await asyncio.sleep(0.002)
                trace.append(bytes(proto.received))
                reading = loop.create_task(receive(loop, peer, 6 + LEN - 5 + 5))
                trace += [await sending, transport.is_reading(), file.tell()]
                transport.write(b"after")
                trace.append(await reading == b"before" + path.read_bytes()[5:] + b"after")
                await until(lambda: proto.received == b"not now")
            transport.close()
            await until(lambda: proto.is_lost)
            trace.append(await araised(loop.sendfile(transport, file)))
        return trace

    return w.run(main)


@parity
def test_a_transport_whose_peer_goes(w, path):
    async def main():
        loop = w.aio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener, path.open("rb") as file:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            transport, proto = await loop.create_connection(lambda: Recorder([]), *listener.getsockname())
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            peer, _ = listener.accept()
            sending = loop.create_task(loop.sendfile(transport, file, fallback=False))
            await asyncio.sleep(0.005)
            peer.close()
            kind, _ = await araised(sending)
            transport.abort()
            await until(lambda: proto.is_lost)
        return kind in ("ConnectionResetError", "BrokenPipeError")

    return w.run(main)


@pytest.mark.parametrize("sent_before", [True, False])
@pytest.mark.parametrize("how", ["abort", "close", "_force_close"])
def test_a_transport_that_ends_meanwhile(ours, path, how, sent_before):
    """The error that asyncio has if it reads the file itself; with the kernel's call it waits for ever."""

    async def main():
        loop = ours.aio.get_running_loop()
        one, other = pair()
        with other, path.open("rb", 0) as file:
            if not sent_before:
                with pytest.raises(BlockingIOError):
                    while True:
                        one.send(bytes(100_000))
            transport, proto = await loop.create_connection(lambda: Recorder([]), sock=one)
            sending = loop.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0.005)
            getattr(transport, how)(*((OSError(5, "mine"),) if how == "_force_close" else ()))
            kind, text = await araised(asyncio.wait_for(sending, 5))
            assert proto.is_lost
            assert one.fileno() == -1
            assert (file.tell() > 0) == sent_before
            return kind, text

    expected = ("OSError", "[Errno 5] mine")
    assert ours.run(main) == (
        expected if how == "_force_close" else ("ConnectionError", "Connection is closed by peer")
    )


@parity
def test_other_transports(w):
    """Pipes have no sendfile; an already closing transport neither."""

    async def main():
        loop = w.aio.get_running_loop()
        reading, writing = os.pipe()
        sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writing, "wb", 0))
        trace = []
        with open(__file__, "rb") as file:
            kind, text = await araised(loop.sendfile(sink, file))
            trace.append((kind, text.split(" <")[0]))
            sink.close()
            trace.append(await araised(loop.sendfile(sink, file)))
        await asyncio.sleep(0.002)
        os.close(reading)
        return trace

    return w.run(main)


@parity
def test_a_socket_of_a_transport(w, path):
    async def main():
        loop = w.aio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener, path.open("rb") as file:
            transport, proto = await loop.create_connection(lambda: Recorder([]), *listener.getsockname())
            peer, _ = listener.accept()
            with peer:
                kind, text = await araised(loop.sock_sendfile(transport._sock, file, fallback=False))
                transport.abort()
                await until(lambda: proto.is_lost)
            return kind, "is used by transport" in text

    return w.run(main)


@parity
def test_other_connections_get_their_turn(w, path):
    """A fast reader of a large file does not keep the loop."""

    async def main():
        loop = w.aio.get_running_loop()
        one, other = pair()
        with one, other, path.open("rb") as file:
            reading = loop.create_task(receive(loop, other, LEN))
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    await asyncio.sleep(0)
                    turns += 1

            counting = loop.create_task(count())
            await loop.sock_sendfile(one, file)
            await reading
            counting.cancel()
        return turns > 3

    return w.run(main)


@parity
def test_a_closed_loop(w):
    one, other = pair()
    with w.loop() as loop:
        pass
    with one, other, open(os.devnull, "rb") as file:
        coroutine = loop.sock_sendfile(one, file)
        return raised(coroutine.send, None)[0] in ("StopIteration", "RuntimeError")


def test_no_descriptor_is_left(world, path):
    before = len(os.listdir("/proc/self/fd"))
    one, other = pair()

    async def main():
        loop = world.aio.get_running_loop()
        for _ in range(3):
            with path.open("rb") as file:
                reading = loop.create_task(receive(loop, other, LEN))
                await loop.sock_sendfile(one, file)
                await reading

    world.run(main)
    one.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before
