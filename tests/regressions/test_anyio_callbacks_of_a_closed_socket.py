"""remove_reader() and remove_writer() take the callbacks of a socket away also after it was closed.

anyio closes a Unix socket first and then removes what it had registered with it, by the object. The socket's number is
-1 by then; the stdlib's selectors look through what is registered for that very object. Ours raised ValueError.
"""

import gc
import socket
import weakref

import pytest
from worlds import outcome, parity, raised


@parity
@pytest.mark.parametrize("side", ["reader", "writer"])
def test_a_closed_socket(w, side):
    trace = []
    with w.loop() as loop:
        ours, theirs = socket.socketpair()
        getattr(loop, f"add_{side}")(ours, trace.append, side)
        ours.close()
        for _ in range(2):
            trace.append(outcome(loop.remove_reader, ours))
            trace.append(outcome(loop.remove_writer, ours))
        theirs.close()
    return trace


def test_a_closed_socket_with_both_callbacks(world):
    if world.stock:
        pytest.skip("stock asyncio asks the kernel about the descriptor when one of two goes, and gets EBADF")
    with world.loop() as loop:
        ours, theirs = socket.socketpair()
        loop.add_reader(ours, print)
        loop.add_writer(ours, print)
        ours.close()
        theirs.close()
        assert (loop.remove_reader(ours), loop.remove_writer(ours)) == (True, True)
        assert raised(loop.remove_writer, ours) == ("ValueError", "Invalid file descriptor: -1")


@parity
def test_one_that_was_never_registered(w):
    with w.loop() as loop:
        ours, theirs = socket.socketpair()
        ours.close()
        theirs.close()
        return [raised(loop.remove_reader, ours), raised(loop.remove_writer, ours)]


@parity
def test_one_that_was_removed_before(w):
    with w.loop() as loop:
        ours, theirs = socket.socketpair()
        loop.add_reader(ours, print)
        trace = [loop.remove_reader(ours), loop.remove_reader(ours)]
        ours.close()
        theirs.close()
        return [*trace, raised(loop.remove_reader, ours)]


def test_the_next_user_of_the_number_keeps_its_callbacks(world):
    if world.stock:
        pytest.skip("stock asyncio never watches the second socket (docs/compat.md)")
    with world.loop() as loop:
        first, first_peer = socket.socketpair()
        number = first.fileno()
        loop.add_reader(first, print)
        first.close()
        second, second_peer = socket.socketpair()
        assert second.fileno() == number
        received = loop.create_future()
        loop.add_reader(second, lambda: received.done() or received.set_result(second.recv(9)))
        assert raised(loop.remove_reader, first) == ("ValueError", "Invalid file descriptor: -1")
        second_peer.send(b"hello")
        assert loop.run_until_complete(received) == b"hello"
        assert loop.remove_reader(second)
        for sock in (first_peer, second, second_peer):
            sock.close()


def test_a_socket_is_held_as_long_as_its_callbacks(world):
    class Socket(socket.socket):
        pass

    with world.loop() as loop:
        ours, theirs = socket.socketpair()
        watched = Socket(fileno=ours.detach())
        reference = weakref.ref(watched)
        loop.add_reader(watched, print)
        loop.add_writer(watched, print)
        number = watched.fileno()
        loop.remove_writer(number)
        assert reference() is watched
        loop.remove_reader(number)
        watched.close()
        del watched
        gc.collect()
        assert reference() is None
        theirs.close()
