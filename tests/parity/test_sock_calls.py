"""loop.sock_*: coroutines over the program's own non-blocking sockets."""

import asyncio
import socket

import pytest
from worlds import araised, normal, parity, raised, until


def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


@parity
@pytest.mark.parametrize("kind", [pair, tcp_pair], ids=["unix", "tcp"])
def test_recv(w, kind):
    left, right = kind()
    with left, right:

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            right.send(b"ready")
            trace.append(await loop.sock_recv(left, 3))
            trace.append(await loop.sock_recv(left, 100))
            waiting = loop.create_task(loop.sock_recv(left, 100))
            await asyncio.sleep(0.002)
            trace.append(waiting.done())
            right.send(b"later")
            trace.append(await waiting)
            trace.append(await loop.sock_recv(left, 0))
            buffer = bytearray(10)
            right.send(b"into")
            trace.append((await loop.sock_recv_into(left, buffer), bytes(buffer)))
            right.send(b"view")
            trace.append((await loop.sock_recv_into(left, memoryview(buffer)[5:]), bytes(buffer)))
            waiting = loop.create_task(loop.sock_recv_into(left, buffer))
            await asyncio.sleep(0.002)
            right.send(b"late")
            trace.append((await waiting, bytes(buffer[:4])))
            right.close()
            trace.append((await loop.sock_recv(left, 10), await loop.sock_recv_into(left, buffer)))
            return trace

        return w.run(main)


@parity
@pytest.mark.parametrize("kind", [pair, tcp_pair], ids=["unix", "tcp"])
def test_sendall(w, kind):
    left, right = kind()
    with left, right:

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            trace.append(await loop.sock_sendall(left, b"small"))
            trace.append(await loop.sock_recv(right, 100))
            payload = bytes(range(256)) * 20_000
            for data in (payload, bytearray(payload), memoryview(payload)):
                sending = loop.create_task(loop.sock_sendall(left, data))
                got = bytearray()
                while len(got) < len(payload):
                    got += await loop.sock_recv(right, 1 << 20)
                trace.append((await sending, got == payload))
            trace.append(await loop.sock_sendall(left, b""))
            trace.append((await araised(loop.sock_sendall(left, "text")))[0])
            trace.append((await araised(loop.sock_sendall(left, None)))[0])
            right.close()
            trace.append((await araised(broken(loop, left)))[0] in ("BrokenPipeError", "ConnectionResetError"))
            return trace

        return w.run(main)


async def broken(loop, sock):
    for _ in range(50):
        await loop.sock_sendall(sock, b"x" * 100_000)


@parity
def test_both_directions_at_once(w):
    left, right = pair()
    with left, right:

        async def main():
            loop = w.aio.get_running_loop()

            async def echo():
                while data := await loop.sock_recv(right, 65536):
                    await loop.sock_sendall(right, data)

            echoing = loop.create_task(echo())
            payload = b"0123456789abcdef" * 100_000
            sending = loop.create_task(loop.sock_sendall(left, payload))
            got = bytearray()
            while len(got) < len(payload):
                got += await loop.sock_recv(left, 65536)
            await sending
            left.shutdown(socket.SHUT_WR)
            await echoing
            return got == payload

        return w.run(main)


@parity
def test_accept_and_connect(w):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            accepting = loop.create_task(loop.sock_accept(listener))
            await asyncio.sleep(0)
            with socket.socket() as client:
                client.setblocking(False)
                trace.append(await loop.sock_connect(client, listener.getsockname()))
                connection, address = await accepting
                with connection:
                    trace.append((address == client.getsockname(), connection.gettimeout(), type(connection).__name__))
                    await loop.sock_sendall(client, b"over")
                    trace.append(await loop.sock_recv(connection, 10))
            return trace

        return w.run(main)


@parity
def test_connect_fails(w):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with socket.socket() as client:
            client.setblocking(False)
            kind, text = await araised(loop.sock_connect(client, address))
            trace.append((kind, text.replace(str(address[1]), "PORT")))
        with socket.socket() as client:
            client.setblocking(False)
            trace.append((await araised(loop.sock_connect(client, ("no.such.host.invalid", 80))))[0])
            trace.append((await araised(loop.sock_connect(client, "text")))[0])
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            trace.append(await araised(loop.sock_connect(client, "/no/such/socket")))
        return trace

    trace = w.run(main)
    assert trace[0] == ("ConnectionRefusedError", "[Errno 111] Connect call failed ('127.0.0.1', PORT)")
    return trace


@parity
def test_connect_by_name(w):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main():
            loop = w.aio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
                return client.getpeername() == listener.getsockname()

        return w.run(main)


@parity
def test_datagrams(w):
    one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with one, two:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            trace.append(await loop.sock_sendto(one, b"hello", two.getsockname()))
            data, address = await loop.sock_recvfrom(two, 100)
            trace.append((data, address == one.getsockname()))
            waiting = loop.create_task(loop.sock_recvfrom(two, 100))
            await asyncio.sleep(0.002)
            await loop.sock_sendto(one, b"late", two.getsockname())
            trace.append((await waiting)[0])
            buffer = bytearray(10)
            await loop.sock_sendto(one, b"into", two.getsockname())
            count, address = await loop.sock_recvfrom_into(two, buffer)
            trace.append((count, bytes(buffer), address == one.getsockname()))
            waiting = loop.create_task(loop.sock_recvfrom_into(two, buffer, 2))
            await asyncio.sleep(0.002)
            await loop.sock_sendto(one, b"abcdef", two.getsockname())
            trace.append(((await waiting)[0], bytes(buffer[:4])))
            trace.append((await araised(loop.sock_sendto(one, b"x" * 70_000, two.getsockname())))[0])
            trace.append((await araised(loop.sock_sendto(one, "text", two.getsockname())))[0])
            return trace

        return w.run(main)


@parity
@pytest.mark.parametrize("what", ["recv", "recv_into", "sendall", "accept", "connect", "recvfrom"])
def test_cancelling_in_the_middle(w, what):
    """Afterwards the descriptor is free again, data is not lost, and nothing is called for the cancelled one."""
    left, right = pair()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    listener.setblocking(False)
    silent = socket.socket()
    fillers = []
    with left, right, listener, silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            fillers.append(filler)
            try:
                filler.connect(silent.getsockname())
            except BlockingIOError:
                pass

        async def main():
            loop = w.aio.get_running_loop()
            client = socket.socket()
            client.setblocking(False)
            calls = {
                "recv": lambda: loop.sock_recv(left, 10),
                "recv_into": lambda: loop.sock_recv_into(left, bytearray(10)),
                "recvfrom": lambda: loop.sock_recvfrom(left, 10),
                "sendall": lambda: loop.sock_sendall(left, b"x" * 5_000_000),
                "accept": lambda: loop.sock_accept(listener),
                "connect": lambda: loop.sock_connect(client, silent.getsockname()),
            }
            task = loop.create_task(calls[what]())
            await asyncio.sleep(0.005)
            trace = [task.done(), task.cancel("stop"), await araised(task)]
            await asyncio.sleep(0)
            sock = {"accept": listener, "connect": client}.get(what, left)
            trace.append((loop.remove_reader(sock), loop.remove_writer(sock)))
            if what.startswith("recv"):
                right.send(b"kept")
                await asyncio.sleep(0.002)
                trace.append(left.recv(10))
            client.close()
            return trace

        trace = w.run(main)
        for filler in fillers:
            filler.close()
    assert trace[:3] == [False, True, ("CancelledError", "stop")]
    assert trace[3] == (False, False)
    return trace


@parity
def test_a_second_receive_takes_over(w):
    """add_reader keeps one callback for a descriptor: the second call replaces the first, which then never ends."""
    left, right = pair()
    with left, right:

        async def main():
            loop = w.aio.get_running_loop()
            first = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            second = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            right.send(b"once")
            await asyncio.wait([second], timeout=5)
            trace = [second.result(), first.done()]
            first.cancel()
            await asyncio.wait([first])
            return trace

        return w.run(main)


@parity
def test_receiving_and_sending_wait_side_by_side(w):
    left, right = pair()
    with left, right:

        async def main():
            loop = w.aio.get_running_loop()
            receiving = loop.create_task(loop.sock_recv(left, 10))
            sending = loop.create_task(loop.sock_sendall(left, b"x" * 3_000_000))
            await asyncio.sleep(0.005)
            trace = [receiving.done(), sending.done()]
            right.send(b"in")
            trace.append(await receiving)
            got = 0
            while got < 3_000_000:
                got += len(await loop.sock_recv(right, 1 << 20))
            trace.append(await sending)
            return trace

        return w.run(main)


@parity
def test_sockets_of_transports_are_refused(w):
    left, right = pair()
    with right:

        async def main():
            loop = w.aio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            fd, trace = left.fileno(), []
            for making in (loop.sock_recv(left, 1), loop.sock_sendall(left, b"x" * 10_000_000)):
                kind, text = await araised(making)
                trace.append((kind, text.split(" <")[0].replace(str(fd), "FD")))
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return trace

        return w.run(main)


@parity
def test_closed_and_wrong_sockets(w):
    closed, _other = pair()
    closed.close()
    _other.close()

    async def main():
        loop = w.aio.get_running_loop()
        trace = [
            (await araised(loop.sock_recv(closed, 1)))[0],
            (await araised(loop.sock_sendall(closed, b"x")))[0],
            (await araised(loop.sock_recv("text", 1)))[0],
            (await araised(loop.sock_recv(None, 1)))[0],
        ]
        left, right = pair()
        with left, right:
            trace.append((await araised(loop.sock_recv(left, -1)))[0])
            trace.append((await araised(loop.sock_recv(left, "x")))[0])
            trace.append((await araised(loop.sock_recv_into(left, b"read-only")))[0])
        return trace

    return w.run(main)


@parity
def test_tls_sockets_are_refused(w):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    left, right = pair()
    with left, right:
        wrapped = context.wrap_socket(left, do_handshake_on_connect=False, server_hostname="x")
        with wrapped:

            async def main():
                loop = w.aio.get_running_loop()
                return [
                    await araised(loop.sock_recv(wrapped, 1)),
                    await araised(loop.sock_sendall(wrapped, b"x")),
                    await araised(loop.sock_connect(wrapped, ("127.0.0.1", 1))),
                    await araised(loop.sock_accept(wrapped)),
                ]

            trace = w.run(main)
    assert trace[0] == ("TypeError", "Socket cannot be of type SSLSocket")
    return trace


@parity
@pytest.mark.parametrize("fallback", [True, False])
def test_sendfile(w, fallback, tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(b"0123456789" * 5000)
    left, right = tcp_pair()
    with left, right, path.open("rb") as file:

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            for offset, count in ((0, None), (10, 20), (49_990, 100)):
                sending = loop.create_task(loop.sock_sendfile(left, file, offset, count, fallback=fallback))
                expected = path.read_bytes()[offset:][:count]
                got = bytearray()
                while len(got) < len(expected):
                    got += await loop.sock_recv(right, 65536)
                trace.append((await sending, got == expected, file.tell()))
            return trace

        return w.run(main)


@parity
def test_large_receive_sizes(w):
    """A huge n costs nothing when little arrives (stock and uvloop allocate it every time; the answer is the same)."""
    left, right = pair()
    with left, right:

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            for size in (1, 4096, 1 << 18, 1 << 24):
                right.send(b"few bytes")
                got = b""
                while len(got) < 9:
                    got += await loop.sock_recv(left, size)
                trace.append(got)
            return trace

        return w.run(main)


@parity
def test_a_loop_of_messages(w):
    left, right = tcp_pair()
    with left, right:

        async def main():
            loop = w.aio.get_running_loop()
            for number in range(500):
                await loop.sock_sendall(left, b"%06d" % number)
                got = b""
                while len(got) < 6:
                    got += await loop.sock_recv(right, 1024)
                assert got == b"%06d" % number
            return "all"

        return w.run(main)


@parity
def test_what_the_calls_return(w):
    """They are coroutine functions: called, not awaited, nothing happens."""
    left, right = pair()
    with left, right, w.loop() as loop:
        made = loop.sock_recv(left, 1)
        trace = [asyncio.iscoroutine(made)]
        made.close()
        right.send(b"x")
        trace.append(left.recv(1))
        return trace


@parity
def test_without_a_running_loop(w):
    left, right = pair()
    with left, right, w.loop() as loop:
        right.send(b"x")
        return loop.run_until_complete(loop.sock_recv(left, 1)), normal(raised(loop.sock_recv)[0])


@parity
def test_waiting_many_sockets(w):
    pairs = [pair() for _ in range(100)]

    async def main():
        loop = w.aio.get_running_loop()
        tasks = [loop.create_task(loop.sock_recv(left, 10)) for left, _ in pairs]
        await asyncio.sleep(0)
        for number, (_, right) in enumerate(pairs):
            right.send(b"%d" % number)
        results = [await task for task in tasks]
        await until(lambda: True)
        return results == [b"%d" % n for n in range(100)]

    answer = w.run(main)
    for left, right in pairs:
        left.close()
        right.close()
    return answer


# Sizes around which a socket of another kind receives in other ways than before.
DATAGRAMS = [100, 13_000, 13_100, 30_000, 60_000, 13_000, 1, 50_000, 50_000, 100]


@parity
@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_SEQPACKET"])
@pytest.mark.parametrize("ahead", [1, 3])
def test_large_datagrams_stay_whole(w, kind, ahead):
    """A longer one than the last is not cut, and two that wait are not joined."""

    async def body():
        loop = asyncio.get_running_loop()
        ours, peer = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
        with ours, peer:
            for sock in (ours, peer):
                sock.setblocking(False)
            seen = []
            for begin in range(0, len(DATAGRAMS), ahead):
                sizes = DATAGRAMS[begin : begin + ahead]
                loop.call_soon(lambda sizes=sizes: [peer.send(bytes([size % 251]) * size) for size in sizes])
                for size in sizes:
                    data = await loop.sock_recv(ours, 100_000)
                    assert set(data) == {size % 251}
                    seen.append(len(data))
        return seen

    seen = w.run(body)
    assert seen == DATAGRAMS
    return seen


@parity
def test_a_descriptor_that_becomes_another_kind_of_socket(w):
    """What is known of a stream is not true of the datagram socket that gets its number."""

    async def body():
        loop = asyncio.get_running_loop()

        async def use(kind):
            ours, peer = socket.socketpair(socket.AF_UNIX, kind)
            with ours, peer:
                for sock in (ours, peer):
                    sock.setblocking(False)
                for size in (20_000, 20_000, 60_000):
                    loop.call_soon(peer.send, b"d" * size)
                    seen.append(len(await loop.sock_recv(ours, 100_000)))
                peer.send(b"e" * 90_000)
                seen.append(len(await loop.sock_recv(ours, 100_000)))
                return ours.fileno()

        seen, numbers = [], set()
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) * 3:
            numbers.add(await use(kind))
        assert len(numbers) == 1
        return seen

    seen = w.run(body)
    assert seen == [20_000, 20_000, 60_000, 90_000] * 6
    return seen


@parity
@pytest.mark.parametrize("kind", [pair, tcp_pair], ids=["unix", "tcp"])
@pytest.mark.parametrize("kib", [16, 17, 18, 19, 20])
def test_a_reset_right_behind_much(w, kind, kib):
    """The kernel tells an error once. Whatever room a receive has, also if the message fills it to the last byte, the
    receive after it raises."""
    left, right = kind()
    with left, right:

        async def main():
            loop, trace = w.aio.get_running_loop(), []
            for _ in range(2):
                receiving = loop.create_task(loop.sock_recv(left, 200_000))
                await asyncio.sleep(0.002)
                right.send(bytes(16 * 1024))
                trace.append(len(await receiving))
            left.send(b"never read")
            await asyncio.sleep(0.002)
            receiving = loop.create_task(loop.sock_recv(left, 200_000))
            await asyncio.sleep(0.002)
            right.send(bytes(kib * 1024 - bytes.__basicsize__))
            right.close()
            trace.append(len(await receiving))
            trace.append((await araised(loop.sock_recv(left, 200_000)))[0])
            trace.append(await loop.sock_recv(left, 200_000))
            return trace

        trace = w.run(main)
    assert trace[3:] == ["ConnectionResetError", b""]
    return trace


@parity
def test_a_known_socket_of_a_paused_transport_is_refused(w):
    """That it was waited for before says nothing about whose it is now."""
    left, right = pair()
    with right:

        async def main():
            loop = w.aio.get_running_loop()
            receiving = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0.002)
            right.send(b"before")
            trace = [await receiving]
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            transport.pause_reading()
            kind, text = await araised(asyncio.wait_for(loop.sock_recv(left, 10), 5))
            trace.append((kind, text.split(" <")[0].replace(str(left.fileno()), "FD")))
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return trace

        return w.run(main)


class Meddler:
    """A socket-like object whose methods do something to the task that waits for them, and then `end`."""

    def __init__(self, sock, end):
        self.sock, self.end, self.task = sock, end, None

    def fileno(self):
        return self.sock.fileno()

    def gettimeout(self):
        return 0

    def recv(self, _):
        if self.task is None:
            raise BlockingIOError
        self.task.cancel("meddled")
        return self.end()


def returns():
    return b"data"


def fails():
    raise ValueError("after the cancellation")


@parity
@pytest.mark.parametrize("end", [returns, fails])
def test_a_method_that_cancels_its_own_wait(w, end):
    """What came of the call is nobody's then: the exception handler hears so, and the loop goes on."""
    left, right = pair()
    with left, right:

        async def main():
            loop = w.aio.get_running_loop()
            meddler = Meddler(left, end)
            task = loop.create_task(loop.sock_recv(meddler, 10))
            await asyncio.sleep(0.002)
            meddler.task = task
            right.send(b"ready")
            await asyncio.wait([task], timeout=5)
            return [await araised(task), loop.remove_reader(left)]

        errors = []
        trace = w.run(main, errors=errors)
    assert trace == [("CancelledError", "meddled"), False]
    assert len(errors) == 1 and "invalid state" in str(errors).lower()
    return trace


@parity
@pytest.mark.parametrize("reused", [False, True])
def test_sendfile_is_cancelled_after_its_file_was_closed(w, reused, tmp_path):
    """It is a cancellation like any other, and another file that has the number now keeps its position."""
    path = tmp_path / "payload"
    path.write_bytes(bytes(8_000_000))
    left, right = pair()
    with left, right:

        async def main():
            loop = w.aio.get_running_loop()
            file = path.open("rb")
            number = file.fileno()
            sending = loop.create_task(loop.sock_sendfile(left, file))
            await asyncio.sleep(0.005)
            trace = [sending.done()]
            file.close()
            other = path.open("rb") if reused else None
            sending.cancel("stop")
            trace.append(await araised(sending))
            if other is not None:
                trace.append((other.fileno() == number, other.tell()))
                other.close()
            return trace

        trace = w.run(main)
    assert trace[:2] == [False, ("CancelledError", "stop")]
    assert trace[2:] == ([(True, 0)] if reused else [])
    return trace
