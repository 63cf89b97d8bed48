"""The loop's sock_ methods while they wait, compared with the stdlib's: cancelling, driving by hand, turns, neighbours.

The kernel's interest in a descriptor stays after a receive; some tests are about the ways in which a number may come to
mean something else meanwhile.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import socket
import threading
import warnings
import weakref

import pytest
from socket_pairs import METHODS, Duck, collect, fill, listening, on, pair, processor_seconds, read_all, turns
from worlds import Generations, araised, parity, raised, until

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


def test_sending_with_the_number_of_a_socket_that_was_closed_in_the_middle(ours):
    """The stdlib's selector thinks that it watches the descriptor already, and the second one waits for ever."""

    async def main():
        loop = asyncio.get_running_loop()
        closed, peer = socket.socketpair()
        closed.setblocking(False)
        first = loop.create_task(loop.sock_sendall(closed, bytes(3_000_000)))
        await turns()
        number = closed.fileno()
        closed.close()
        peer.close()
        with pair() as socks:
            (sock,) = (sock for sock in socks if sock.fileno() == number)
            (peer,) = (peer for peer in socks if peer is not sock)
            second = loop.create_task(loop.sock_sendall(sock, bytes(3_000_000)))
            await turns()
            assert not second.done()
            received = 0
            while received < 3_000_000:
                received += len(await asyncio.wait_for(loop.sock_recv(peer, 1 << 20), 10))
            await second
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    with ours.loop() as loop:
        loop.run_until_complete(main())


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


def test_a_socket_closed_by_another_thread_while_a_file_is_sent(ours, tmp_path):
    """The system call runs without the GIL. When it returns the number may be another socket's, which is left alone."""
    path = tmp_path / "payload"
    with path.open("wb") as file:
        file.truncate(64 << 20)  # More than one call sends.
    with ours.loop() as loop, path.open("rb") as file:
        sock, peer = socket.socketpair()
        sock.setblocking(True)  # The call waits for the thread.
        number, others = sock.fileno(), []

        def close_and_receive():
            peer.recv(1000, socket.MSG_WAITALL)
            sock.close()
            others.extend(socket.socketpair())
            for other in others:
                other.setblocking(False)
                fill(other)  # Who waits for its room waits for ever.
            while peer.recv(1 << 20):
                pass

        async def main():
            thread = threading.Thread(target=close_and_receive)
            thread.start()
            try:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await asyncio.wait_for(loop.sock_sendfile(sock, file), 10)
            finally:
                thread.join(10)
            assert number in [other.fileno() for other in others]
            assert not loop.remove_writer(number)

        with peer:
            loop.run_until_complete(main())
        for other in others:
            other.close()
