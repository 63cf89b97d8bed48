"""The loop's sock_ methods, compared with the stdlib's: what they are, what they do, errors."""

import asyncio
import contextlib
import inspect
import os
import socket
import ssl
import warnings

import pytest
from socket_pairs import METHODS, STOCK, Duck, fill, listening, on, pair, processor_seconds, read_all, turns
from worlds import araised, normal, parity, raised, until

# --- the methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_they_are_coroutine_functions_to_those_who_look(world, name):
    @parity
    def body(w):
        with w.loop() as loop:
            method = getattr(loop, name)
            coro = on(loop, name, None)
            seen = [
                inspect.iscoroutinefunction(method), inspect.ismethod(method), method.__self__ is loop, method.__name__,
                method.__qualname__, method.__module__, method.__doc__, str(inspect.signature(method)),
                method.__func__.__code__ is getattr(STOCK, name).__code__, normal(repr(method)).split(" of ")[0],
                inspect.iscoroutine(coro), normal(repr(coro)), inspect.getcoroutinestate(coro), coro.cr_frame is None,
                sorted(set(inspect.getcoroutinelocals(coro)) - {"self"}),
            ]  # fmt: skip
            coro.close()
            return seen

    body(world)


@pytest.mark.parametrize("name", METHODS)
def test_calls_that_do_not_fit(world, name):
    @parity
    def body(w):
        with w.loop() as loop:
            method = getattr(loop, name)
            return [
                raised(method), raised(method, 1, 2, 3, 4, 5), raised(method, nonsense=1),
                raised(method, None, sock=None), raised(getattr(type(loop), name)),
            ]  # fmt: skip

    body(world)


@parity
def test_keywords(w):
    with pair() as (ours, theirs), w.loop() as loop:

        async def main():
            await loop.sock_sendall(sock=theirs, data=b"abcdefghij")
            seen = [await loop.sock_recv(ours, n=2), await loop.sock_recv(n=1, sock=ours)]
            buf = bytearray(3)
            seen += [await loop.sock_recv_into(ours, buf=buf), bytes(buf), await loop.sock_recvfrom(ours, bufsize=1)]
            seen += [await loop.sock_recvfrom_into(ours, nbytes=1, buf=buf), bytes(buf)]
            return seen

        return loop.run_until_complete(main())


def test_a_subclass_may_override_them(world):
    seen = []
    other = world.new_event_loop()
    other.close()

    class Loop(type(other)):
        async def sock_recv(self, sock, n):
            seen.append(n)
            return await super().sock_recv(sock, n)

    loop = Loop()
    with pair() as (ours, theirs):
        theirs.send(b"data")
        assert loop.run_until_complete(loop.sock_recv(ours, 100)) == b"data"
        assert loop.run_until_complete(STOCK.sock_sendall(loop, theirs, b"by the stdlib's")) is None
        assert loop.run_until_complete(STOCK.sock_recv(loop, ours, 100)) == b"by the stdlib's"
    loop.close()
    assert seen == [100]


@parity
def test_forgotten(w):
    with w.loop() as loop, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in METHODS:
            on(loop, name, None)
        return [str(warning.message) for warning in caught]


# --- what they do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_receiving(world, late):
    @parity
    def body(w):
        async def main():
            loop = asyncio.get_running_loop()
            seen = []
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for name in METHODS[:4]:
                    with pair(kind) as (ours, theirs):
                        if not late:
                            theirs.send(b"0123456789")
                        buf = bytearray(7)
                        rest = (buf,) if "into" in name else (7,)
                        task = asyncio.ensure_future(on(loop, name, ours, *rest))
                        await turns()
                        seen.append(task.done())
                        if late:
                            theirs.send(b"0123456789")
                        seen += [await task, bytes(buf)]
                        if kind == socket.SOCK_STREAM:
                            theirs.close()
                            seen += [await on(loop, name, ours, *rest) for _ in range(2)]
            return seen

        return w.run(main)

    body(world)


@parity
def test_sizes(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with pair() as (ours, theirs):
            theirs.send(b"x" * 1000)
            for size in (1, True, 2, 10, 0):
                seen.append(await loop.sock_recv(ours, size))
            for size in (-1, "1", 1.5, None, 10**30):
                seen += [await araised(loop.sock_recv(ours, size)), await araised(loop.sock_recvfrom(ours, size))]
            seen.append(len(await loop.sock_recv(ours, 1 << 20)))
            for buf in (bytearray(), b"read-only", "text", None, memoryview(b"read-only"), 5):
                seen.append(await outcome_of(loop.sock_recv_into(ours, buf)))
        return seen

    async def outcome_of(coro):
        try:
            return await coro
        except Exception as exc:
            return type(exc).__name__, str(exc)

    return w.run(main)


@parity
def test_big_datagrams_are_not_cut(w):
    with pair(socket.SOCK_DGRAM) as (ours, theirs), w.loop() as loop:
        for sock in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        size = theirs.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) * 9 // 10
        theirs.send(bytes(size))
        return [len(loop.run_until_complete(loop.sock_recv(ours, 1 << 20))) == size]


@parity
def test_buffers_to_receive_into(w):
    import array

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with pair() as (ours, theirs):
            theirs.send(b"abcdefghijklmnopqrstuvwxyz")
            for buf in (bytearray(5), memoryview(bytearray(5))[1:4], array.array("H", [0, 0])):
                seen += [await loop.sock_recv_into(ours, buf), bytes(buf)]
            for nbytes in (0, 2, 100, -1):
                buf = bytearray(3)
                seen.append(await outcome_of(loop.sock_recvfrom_into(ours, buf, nbytes)))
                seen.append(bytes(buf))
        return seen

    async def outcome_of(coro):
        try:
            return await coro
        except Exception as exc:
            return type(exc).__name__, str(exc)

    return w.run(main)


@parity
def test_the_buffer_is_locked_during_the_wait_only(w):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            data = bytearray(4 << 20)
            task = asyncio.ensure_future(loop.sock_sendall(theirs, data))
            await turns()
            seen = [raised(data.append, 1)]
            received = 0
            while received < len(data):
                received += len(await loop.sock_recv(ours, 1 << 20))
            await task
            data.append(1)
            return [*seen, received, len(data)]

    return w.run(main)


@pytest.mark.parametrize("size", [0, 1, 1000, 3 << 20])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sending(world, size, kind):
    @parity
    def body(w):
        async def main():
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                data = bytes(range(256)) * (size // 256) + bytes(size % 256)
                task = asyncio.ensure_future(loop.sock_sendall(ours, kind(data)))
                await turns()
                seen, received = [task.done()], b""
                while len(received) < size:
                    received += await loop.sock_recv(theirs, 100_000)
                return [*seen, await task, received == data]

        return w.run(main)

    body(world)


@parity
def test_sending_to_a_full_socket(w):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            full = fill(ours)
            task = asyncio.ensure_future(loop.sock_sendall(ours, b"the end"))
            await turns(5)
            seen = [task.done(), len(read_all(theirs)) == full, await task, read_all(theirs)]
        with pair(socket.SOCK_DGRAM) as (ours, theirs):
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(b"datagram")
            task = asyncio.ensure_future(loop.sock_sendall(ours, b"the end"))
            await turns(5)
            seen.append(task.done())
            while not task.done():
                with contextlib.suppress(BlockingIOError):
                    theirs.recv(100)
                await asyncio.sleep(0)
            return [*seen, await task]

    return w.run(main)


@parity
def test_what_cannot_be_sent(w):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, _):
            return [
                await araised(loop.sock_sendall(ours, data))
                for data in ("text", None, 5, [1], memoryview(b"abcd")[::2])
            ]

    return w.run(main)


@parity
def test_sendto_and_recvfrom(w):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
            for sock in (one, two):
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
            task = asyncio.ensure_future(loop.sock_recvfrom(two, 100))
            into = bytearray(100)
            await turns()
            seen = [await loop.sock_sendto(one, b"first", two.getsockname())]
            data, address = await task
            seen += [data, address == one.getsockname(), await loop.sock_sendto(one, b"", two.getsockname())]
            task = asyncio.ensure_future(loop.sock_recvfrom_into(two, into))
            await turns()
            count, address = await task
            seen += [
                count,
                address == one.getsockname(),
                await araised(loop.sock_sendto(one, "text", two.getsockname())),
            ]
            seen += [await araised(loop.sock_sendto(one, b"data", ("127.0.0.1",)))]
            return seen

    return w.run(main)


@parity
def test_messages_of_all_sizes_one_after_the_other(w):
    """What was received last decides how the next is: none of that may be seen."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with pair() as (ours, theirs):
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sizes = (10, 50_000, 50_000, 50_064, 100_000, 200_000, 100, 20_000, 20_000, 20_064, 20_065, 1, 150_000)
            for limit in (1 << 20, 60_000, 20_000):
                for number, size in enumerate(sizes):
                    into = bytearray(limit)
                    receive = loop.sock_recv(ours, limit) if number % 3 else loop.sock_recv_into(ours, into)
                    task = asyncio.ensure_future(receive)
                    await turns()
                    data = os.urandom(size)
                    theirs.send(data)
                    answer = await task
                    received = answer if isinstance(answer, bytes) else bytes(into[:answer])
                    whole = received + read_all(ours)
                    seen.append((len(received), data == whole))
        return seen

    return w.run(main)


@parity
def test_the_end_after_much(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with pair() as (ours, theirs):
            for _ in range(3):
                task = asyncio.ensure_future(loop.sock_recv(ours, 1 << 20))
                await turns()
                theirs.send(bytes(50_000))
                seen.append(len(await task))
            task = asyncio.ensure_future(loop.sock_recv(ours, 1 << 20))
            await turns()
            theirs.close()
            return [*seen, await task, await loop.sock_recv(ours, 1 << 20)]

    return w.run(main)


def test_much_that_waits_keeps_nobody_busy(ours):
    """A coroutine that is driven by hand, and not resumed although its future is done."""
    with ours.loop() as loop, pair() as (sock, peer):

        async def main():
            for _ in range(2):
                task = asyncio.ensure_future(loop.sock_recv(sock, 1 << 20))
                await turns()
                peer.send(bytes(50_000))
                await task
            coro = loop.sock_recv(sock, 1 << 20)
            future = coro.send(None)
            peer.send(bytes(50_000))
            await until(future.done)
            before = processor_seconds()
            await asyncio.sleep(0.2)
            assert processor_seconds() - before < 0.1
            with pytest.raises(StopIteration) as stop:
                coro.send(None)
            assert stop.value.value == bytes(50_000)

        loop.run_until_complete(main())


@parity
def test_cancelled_between_readiness_and_step(w):
    """What was read by then is lost with the stdlib; what was not is there for the next to receive."""

    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            for _ in range(2):
                task = asyncio.ensure_future(loop.sock_recv(ours, 1 << 20))
                await turns()
                theirs.send(bytes(50_000))
                await task
            task = asyncio.ensure_future(loop.sock_recv(ours, 1 << 20))
            await turns()
            theirs.send(bytes(50_000))
            loop.call_later(0, task.cancel, "message")
            cancelled = await araised(task) if not task.done() else None
            await turns()
            read_all(ours)
            theirs.send(b"more")
            return [cancelled in (None, ("CancelledError", "message")), await loop.sock_recv(ours, 1 << 20)]

    return w.run(main)


@pytest.mark.parametrize("late", [False, True])
def test_accepting(world, late):
    @parity
    def body(w):
        async def main():
            loop = asyncio.get_running_loop()
            seen = []
            with listening() as server:
                for _ in range(3):
                    if late:
                        task = asyncio.ensure_future(loop.sock_accept(server))
                        await turns()
                        seen.append(task.done())
                        client = socket.create_connection(server.getsockname())
                    else:
                        client = socket.create_connection(server.getsockname())
                        task = asyncio.ensure_future(loop.sock_accept(server))
                        await turns()
                    answer = await task
                    conn, address = answer
                    with client, conn:
                        seen += [type(answer), type(conn), conn.gettimeout(), address == client.getsockname()]
                        await loop.sock_sendall(conn, b"hello")
                        seen.append(client.recv(100))
            return seen

        return w.run(main)

    body(world)


@parity
def test_connect_and_echo_over_tcp(w):
    async def main():
        loop = asyncio.get_running_loop()
        with listening() as server:

            async def serve():
                conn, _ = await loop.sock_accept(server)
                with conn:
                    while data := await loop.sock_recv(conn, 4096):
                        await loop.sock_sendall(conn, data)

            serving = asyncio.ensure_future(serve())
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, server.getsockname())
                seen = []
                for size in (1, 1000, 100, 3000):
                    await loop.sock_sendall(client, bytes(size))
                    received = 0
                    while received < size:
                        received += len(await loop.sock_recv(client, 1 << 20))
                    seen.append(received)
            await serving
            return seen

    return w.run(main)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_sockets_that_cannot_be_used(world, name):
    @parity
    def body(w):
        async def main(debug):
            loop = asyncio.get_running_loop()
            seen = []
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            with (
                pair() as (ours, theirs),
                context.wrap_socket(
                    theirs, do_handshake_on_connect=False, server_hostname="host", server_side=False
                ) as secure,
            ):
                seen.append(await araised(on(loop, name, secure)))
                if debug:
                    for timeout in (None, 5.0):
                        ours.settimeout(timeout)
                        seen.append(await araised(on(loop, name, ours)))
                ours.setblocking(False)
                ours.close()
                seen.append(await araised(on(loop, name, ours)))
            for nothing in (None, 5, object()):
                seen.append(await araised(on(loop, name, nothing)))
            return seen

        return w.run(main, False) + w.run(main, True, debug=True)

    body(world)


@parity
def test_errors_of_the_connection(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with listening() as server:
            for name in ("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"):
                for late in (False, True):
                    client = socket.create_connection(server.getsockname())
                    conn, _ = await loop.sock_accept(server)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    with conn:
                        task = asyncio.ensure_future(on(loop, name, conn))
                        if late:
                            await turns()
                        client.close()
                        seen.append(await araised(task))
                        seen.append(await araised(loop.sock_sendall(conn, b"data")))
        with pair() as (ours, theirs):
            theirs.close()
            seen.append(await araised(loop.sock_sendall(ours, b"data")))
        with pair() as (ours, theirs):
            fill(ours)
            task = asyncio.ensure_future(loop.sock_sendall(ours, b"data"))
            await turns()
            theirs.close()
            seen.append(await araised(task))
        with socket.socket() as unconnected:
            unconnected.setblocking(False)
            seen += [await araised(on(loop, name, unconnected)) for name in METHODS]
        return seen

    return w.run(main)


@parity
def test_a_closed_loop(w):
    with pair() as (ours, theirs):
        loop = w.new_event_loop()
        loop.close()
        theirs.send(b"data")
        coro = loop.sock_recv(ours, 100)
        seen = [raised(coro.send, None)]
        coro = loop.sock_recv(ours, 100)
        return [*seen, raised(coro.send, None)]


@parity
def test_descriptors_of_transports(w):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, _):
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            await turns()
            seen = []
            for name in ("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"):
                kind, text = await araised(on(loop, name, ours))
                seen.append((kind, text.split(" is used by transport")[0].replace(str(ours.fileno()), "FD")))
            transport.close()
            await turns()
        return seen

    return w.run(main)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("not_ready", [0, 1, 3])
@pytest.mark.parametrize("kind", [BlockingIOError, InterruptedError])
def test_calls_of_a_sockets_methods(world, name, not_ready, kind):
    @parity
    def body(w):
        async def main():
            loop = asyncio.get_running_loop()
            with socket.socket(type=socket.SOCK_DGRAM) as one, listening() as server, pair() as (ours, theirs):
                one.bind(("127.0.0.1", 0))
                one.setblocking(False)
                theirs.send(b"data")
                client = socket.create_connection(server.getsockname())
                real = {"sock_accept": server, "sock_sendto": one}.get(name, ours)
                duck = Duck(real, not_ready, kind)
                rest = (b"data", one.getsockname()) if name == "sock_sendto" else ()
                answer = await on(loop, name, duck, *rest)
                client.close()
                if name == "sock_accept":
                    answer[0].close()
                    answer = len(answer)
                calls = [("sendto", "...") if call[0] == "sendto" else call for call in duck.calls]
                return [answer, calls, [len(call) for call in duck.calls]]

        return w.run(main)

    body(world)


@pytest.mark.parametrize(
    "thrown", [ValueError("text"), OSError(5, "text"), asyncio.CancelledError("text"), StopIteration(5)]
)
@pytest.mark.parametrize("at_once", [False, True])
def test_errors_of_a_sockets_methods(world, thrown, at_once):
    @parity
    def body(w):
        class Failing(Duck):
            def recv(self, n):
                self.calls.append("recv")
                if not at_once and len(self.calls) == 1:
                    raise BlockingIOError
                raise type(thrown)(*thrown.args)  # a new one: it keeps the frames it went through

        async def main():
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                theirs.send(b"data")
                duck = Failing(ours)
                return [await araised(loop.sock_recv(duck, 10)), duck.calls, loop.remove_reader(ours.fileno())]

        if isinstance(thrown, StopIteration) and not at_once:
            return ["a future cannot carry it; the stdlib hands a TypeError to the exception handler"]
        return w.run(main)

    body(world)


@pytest.mark.parametrize("thrown", [KeyboardInterrupt, SystemExit])
def test_exits_leave_the_loop(world, thrown):
    @parity
    def body(w):
        class Leaving(Duck):
            def recv(self, n):
                self.calls.append("recv")
                raise BlockingIOError if len(self.calls) == 1 else thrown

        seen = []
        with w.loop() as loop, pair() as (ours, theirs):
            theirs.send(b"data")
            task = loop.create_task(loop.sock_recv(Leaving(ours), 10))
            try:
                loop.run_until_complete(task)
            except BaseException as exc:
                seen.append(type(exc))
            seen += [task.done(), loop.remove_reader(ours.fileno())]
            task.cancel()
        return seen

    body(world)


class Overriding(socket.socket):
    def recv(self, n):
        return b"overridden"


@parity
def test_subclasses_and_patched_classes_are_asked(w):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            theirs.send(b"data")
            with Overriding(fileno=os.dup(ours.fileno())) as other:
                other.setblocking(False)
                seen = [await loop.sock_recv(other, 10)]
            socket.socket.recv, before = lambda sock, n: b"patched", socket.socket.__dict__.get("recv")
            try:
                seen.append(await loop.sock_recv(ours, 10))
            finally:
                if before is None:
                    del socket.socket.recv
                else:
                    socket.socket.recv = before
            return [*seen, await loop.sock_recv(ours, 10)]

    return w.run(main)
