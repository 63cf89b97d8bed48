"""The loop's sock_ methods, compared with the stdlib's: results, errors, cancelling, what others see of a descriptor.

The kernel's interest in a descriptor stays after a receive; the tests at the end are about the ways in which a number
may come to mean something else meanwhile.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import socket
import ssl
import threading
import warnings
import weakref

import pytest
from worlds import Generations, araised, normal, parity, raised, until

METHODS = (
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto", "sock_accept",
)  # fmt: skip
STOCK = asyncio.selector_events.BaseSelectorEventLoop


@contextlib.contextmanager
def pair(kind=socket.SOCK_STREAM):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for sock in (ours, theirs):
        sock.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def collect():
    """All of it; from 3.15 on, one pass is not always enough."""
    for _ in range(3):
        gc.collect()


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


def on(loop, name, sock, *rest):
    """The coroutine of a method with arguments that fit."""
    arguments = {
        "sock_recv": (100,), "sock_recv_into": (bytearray(100),), "sock_recvfrom": (100,),
        "sock_recvfrom_into": (bytearray(100),), "sock_sendall": (b"data",), "sock_sendto": (b"data", "address"),
        "sock_accept": (),
    }  # fmt: skip
    return getattr(loop, name)(sock, *(rest or arguments[name]))


def fill(sock):
    """Send until the socket takes no more; returns how much that was."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(bytes(65536))
    return total


def read_all(sock):
    total = b""
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(1 << 20):
            total += data
    return total


class Duck:
    """A socket by behaviour alone, that notes what is called; its first attempts are not ready."""

    def __init__(self, sock, not_ready=0, error=BlockingIOError):
        self.sock, self.not_ready, self.error = sock, not_ready, error
        self.calls = []

    def fileno(self):
        self.calls.append("fileno")
        return self.sock.fileno()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self.sock, name)

        def call(*args):
            shown = [bytes(arg) if isinstance(arg, memoryview) else arg for arg in args]
            self.calls.append((name, *shown))
            if self.not_ready > 0 and name not in ("gettimeout", "setblocking"):
                self.not_ready -= 1
                raise self.error
            return method(*args)

        return call


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
                raise thrown

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


# --- cancellation and driving by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_cancelling(world, name):
    @parity
    def body(w):
        async def main():
            loop = asyncio.get_running_loop()
            seen = []
            with pair() as (ours, theirs), listening() as server:
                sock = server if name == "sock_accept" else ours
                if name in ("sock_sendall", "sock_sendto"):
                    fill(ours)
                rest = (b"data", None) if name == "sock_sendto" else ()
                remove = loop.remove_writer if "send" in name else loop.remove_reader
                for before in (0, 1, 3):
                    # An address is no argument for connected sockets, so sendto needs another socket.
                    target = Duck(sock, 100) if name == "sock_sendto" else sock
                    task = asyncio.ensure_future(on(loop, name, target, *rest))
                    await turns(before)
                    seen += [task.cancel("message"), await araised(task), task.cancelled()]
                    await turns(1)
                    seen.append(remove(sock.fileno()))
                with contextlib.suppress(TimeoutError):
                    await w.aio.wait_for(on(loop, name, target, *rest), 0.001)
                seen.append(remove(sock.fileno()))
                if "recv" in name:
                    theirs.send(b"0123456789")
                    seen.append(await on(loop, name, ours))
            return seen

        return w.run(main)

    body(world)


@parity
def test_driven_by_hand(w):
    with w.loop() as loop, pair() as (ours, theirs):
        coro = loop.sock_recv(ours, 100)
        future = coro.send(None)
        seen = [asyncio.isfuture(future), future.get_loop() is loop, future.done(), inspect.getcoroutinestate(coro)]
        theirs.send(b"data")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.call_soon(loop.stop)
        loop.run_forever()
        seen += [future.done(), future.result(), loop.remove_reader(ours)]
        future._asyncio_future_blocking = False
        seen += [raised(coro.send, None), inspect.getcoroutinestate(coro), raised(coro.send, None)]
        coro = loop.sock_recv(ours, 100)
        future = coro.send(None)
        seen += [raised(coro.throw, ValueError("text")), inspect.getcoroutinestate(coro), future.done()]
        coro = loop.sock_recv(ours, 100)
        coro.send(None)
        return [*seen, coro.close(), coro.close(), inspect.getcoroutinestate(coro)]


def test_closing_one_takes_its_reader_away(ours):
    with ours.loop() as loop, pair() as (sock, _):
        for end in (lambda coro: coro.close(), lambda coro: raised(coro.throw, ValueError)):
            coro = loop.sock_recv(sock, 100)
            coro.send(None)
            end(coro)
            assert not loop.remove_reader(sock)


@pytest.mark.parametrize("kind", ["_CTask", "_PyTask"])
def test_other_kinds_of_tasks_drive_them(world, kind):
    @parity
    def body(w):
        async def main():
            loop = asyncio.get_running_loop()
            with pair() as (ours, theirs):
                task_class = getattr(asyncio.tasks, kind)

                async def echo():
                    for _ in range(3):
                        await loop.sock_sendall(ours, await loop.sock_recv(ours, 100))

                tasks = [task_class(echo(), loop=loop)]
                seen = []
                for _ in range(3):
                    await turns()
                    await loop.sock_sendall(theirs, b"data")
                    seen.append(await loop.sock_recv(theirs, 100))
                await tasks[0]
                task = task_class(loop.sock_recv(ours, 5), loop=loop)
                await turns()
                task.cancel("message")
                return [*seen, await araised(task)]

        return w.run(main)

    body(world)


# --- turns and neighbours -------------------------------------------------------------------------------------------


@parity
def test_a_ready_socket_does_not_suspend(w):
    async def main():
        loop = asyncio.get_running_loop()
        at = []
        loop.call_soon(at.append, "another callback")
        with pair() as (ours, theirs):
            for number in range(5):
                await loop.sock_sendall(theirs, b"%d" % number)
                at.append(await loop.sock_recv(ours, 10))
        return at

    return w.run(main)


@parity
def test_the_turn_of_the_wake_up(w):
    """Readiness is seen in one turn, the task steps in the next."""
    with w.loop() as loop, pair() as (ours, theirs):
        at = Generations(loop)

        async def receive():
            at("receives")
            await loop.sock_recv(ours, 10)
            at("received")

        task = loop.create_task(receive())

        def send():
            at("sent")
            theirs.send(b"data")

        for _ in range(3):
            loop.call_soon(loop.stop)
            loop.run_forever()
        send()
        loop.add_reader(theirs, lambda: None)
        loop.remove_reader(theirs)
        loop.run_until_complete(task)
        order = [event for _, event in at.log]
        return [order, at.log[2][0] - at.log[1][0] <= 2]


@parity
def test_readers_and_operations_on_both_sides(w):
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            seen = []
            fill(ours)
            sending = asyncio.ensure_future(loop.sock_sendall(ours, b"x" * 100))
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            theirs.send(b"data")
            seen += [await receiving, sending.done()]
            receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            read_all(theirs)
            await sending
            seen += [receiving.done(), read_all(theirs)]
            theirs.send(b"more")
            return [*seen, await receiving]

    return w.run(main)


@parity
def test_a_second_waiter_takes_over(w):
    """As in the stdlib, the first then waits for ever."""

    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            first = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            second = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            theirs.send(b"data")
            seen = [await second, first.done()]
            third = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            first.cancel()
            await turns(4)
            theirs.send(b"more")
            return [*seen, await third, first.cancelled()]

    return w.run(main)


@parity
def test_add_reader_takes_over(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with pair() as (ours, theirs):
            task = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            loop.add_reader(ours, lambda: seen.append(ours.recv(100)))
            theirs.send(b"data")
            await until(lambda: seen)
            task.cancel()
            await turns(4)
            theirs.send(b"more")
            await until(lambda: len(seen) == 2)
            return [*seen, loop.remove_reader(ours), loop.remove_reader(ours)]

    return w.run(main)


@parity
def test_readers_after_a_receive(w):
    """Nobody waits, but the kernel still has its interest: none of this may be seen."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with pair() as (ours, theirs):
            for round_number in range(3):
                task = asyncio.ensure_future(loop.sock_recv(ours, 100))
                await turns()
                theirs.send(b"data")
                seen += [await task, loop.remove_reader(ours)]
                theirs.send(b"for the reader")
                loop.add_reader(ours, lambda: seen.append(ours.recv(100)))
                await until(lambda: seen[-1] == b"for the reader")
                seen.append(loop.remove_reader(ours))
                theirs.send(b"unread")
                await asyncio.sleep(0.002)
                seen.append(await loop.sock_recv(ours, 100))
                if round_number == 1:
                    loop.add_writer(ours, seen.append, "writable")
                    await turns()
                    seen.append(loop.remove_writer(ours))
                    seen = [entry for entry in seen if entry != "writable"]
            return seen

    return w.run(main)


@parity
def test_a_transport_after_receives(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                seen.append(data)

            def connection_lost(self, exc):
                seen.append(exc)

        with pair() as (ours, theirs):
            task = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            theirs.send(b"first")
            seen.append(await task)
            transport, _ = await loop.create_connection(Protocol, sock=ours)
            theirs.send(b"second")
            await until(lambda: len(seen) == 2)
            transport.close()
            await turns(4)
        return seen

    return w.run(main)


# --- numbers that change their meaning ------------------------------------------------------------------------------


@parity
def test_a_new_socket_with_the_number_of_a_closed_one(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        number = None
        for keep in (False, True, False, True):
            ours, theirs = socket.socketpair()
            for sock in (ours, theirs):
                sock.setblocking(False)
            seen.append(number in (None, ours.fileno()))
            number = ours.fileno()
            task = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            theirs.send(b"data")
            seen.append(await task)
            ours.close()
            theirs.close()
            kept = ours if keep else None
            del ours
        del kept
        return seen

    return w.run(main)


@parity
def test_a_detached_number_in_a_new_object(w):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        ours, theirs = socket.socketpair()
        with theirs:
            for _ in range(3):
                ours.setblocking(False)
                task = asyncio.ensure_future(loop.sock_recv(ours, 100))
                await turns()
                theirs.send(b"data")
                seen.append(await task)
                ours = socket.socket(fileno=ours.detach())
            ours.close()
        return seen

    return w.run(main)


def processor_seconds():
    times = os.times()
    return times.user + times.system


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("how", ["dup", "process"])
def test_a_duplicate_outlives_the_socket(world, how, reuse):
    """What the kernel still reports of the closed socket's file is no news, and must not keep the loop busy."""

    async def main():
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            for sock in (ours, theirs):
                sock.setblocking(False)
            task = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            theirs.send(b"data")
            assert await task == b"data"
            number = ours.fileno()
            stack.callback(*keep_open(how, number))
            ours.close()
            if reuse:
                new, peer = socket.socketpair()
                if new.fileno() != number:
                    os.dup2(new.fileno(), number)
                    new.close()
                    new = socket.socket(fileno=number)
                for sock in (new, peer):
                    stack.enter_context(sock).setblocking(False)
                task = asyncio.ensure_future(loop.sock_recv(new, 100))
                await turns()
            theirs.send(b"only the duplicate gets this")
            before = processor_seconds()
            await asyncio.sleep(0.2)
            if reuse:
                assert not task.done()
                for _ in range(2):
                    peer.send(b"to the new one")
                    assert await task == b"to the new one"
                    task = asyncio.ensure_future(loop.sock_recv(new, 100))
                    await asyncio.sleep(0.1)
                task.cancel()
            return processor_seconds() - before

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork() in a process with threads
        assert world.run(main) < 0.1


def keep_open(how, number):
    """A duplicate of the descriptor, here or in a child process; returns a function that ends it, and its arguments."""
    if how == "dup":
        return os.close, os.dup(number)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)

    def end():
        os.close(write)
        os.waitpid(child, 0)

    return (end,)


# --- blocking sockets, threads, leaks -------------------------------------------------------------------------------


def test_a_blocking_socket_does_not_block_the_loop(ours):
    """The stdlib's loop would stand still, or worse: wait for a thread that waits for the interpreter."""
    if ours.name == "uvloop":
        pytest.skip("refuses them")

    async def main():
        loop = asyncio.get_running_loop()
        one, two = socket.socketpair()
        with one, two:
            thread = threading.Timer(0.05, two.send, (b"data",))
            thread.start()
            ticks = []
            ticker = loop.call_later(0.01, ticks.append, 1)
            assert await loop.sock_recv(one, 100) == b"data"
            thread.join()
            ticker.cancel()
            assert ticks

    ours.run(main)


def test_they_leak_nothing(world):
    async def simple():
        loop = asyncio.get_running_loop()
        with pair() as (ours, theirs):
            task = asyncio.ensure_future(loop.sock_recv(ours, 100))
            await turns()
            await loop.sock_sendall(theirs, b"data")
            await task
            return weakref.ref(ours)

    with world.loop() as loop:
        for _ in range(5):
            loop.run_until_complete(simple())
        collect()
        objects = len(gc.get_objects())
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            gone = loop.run_until_complete(simple())
        collect()
        assert gone() is None
        assert len(gc.get_objects()) - objects < 40
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_loop_with_waiting_operations_is_collected(world):
    loop = world.new_event_loop()
    with pair() as (ours, theirs):

        async def main():
            for sock in (ours, theirs):
                asyncio.ensure_future(asyncio.get_running_loop().sock_recv(sock, 100))
            await turns()

        with contextlib.redirect_stderr(None):
            loop.run_until_complete(main())
            gone = weakref.ref(loop)
            loop.set_exception_handler(lambda *_: None)
            loop.close()
            del loop
            collect()
        assert gone() is None
