"""add_reader, add_writer and their removal: sockets, pipes, replaced callbacks, closed descriptors, refusals."""

import asyncio
import contextvars
import os
import socket
import tempfile

import pytest
from worlds import drain, normal, parity, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    with left, right:
        yield left, right


def fresh_pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def spin(loop, seconds=0.01):
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


@parity
@pytest.mark.parametrize("as_number", [True, False])
def test_a_reader_is_called_while_there_is_data(w, as_number):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        seen = []

        def readable(*args):
            seen.append((args, left.recv(2)))
            if len(seen) == 3:
                loop.stop()

        trace = [loop.add_reader(left.fileno() if as_number else left, readable, 1, "two")]
        right.send(b"abcdef")
        loop.run_forever()
        trace.append(loop.remove_reader(left))
        trace.append(loop.remove_reader(left))
        right.send(b"more")
        spin(loop)
        return trace, seen


@parity
def test_a_writer_is_called_while_there_is_room(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        seen = []

        def writable(name):
            seen.append(name)
            if len(seen) == 3:
                trace.append(loop.remove_writer(left))
                trace.append(loop.remove_writer(left))
                loop.call_later(0.005, loop.stop)

        trace = [loop.add_writer(left, writable, "room")]
        loop.run_forever()
        return trace, seen


@parity
def test_reading_and_writing_on_one_socket(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        seen = []

        def readable():
            seen.append(("read", left.recv(10)))
            loop.remove_reader(left)

        def writable():
            seen.append("write")
            loop.remove_writer(left)

        loop.add_writer(left, writable)
        loop.add_reader(left, readable)
        spin(loop)
        right.send(b"x")
        loop.add_writer(left, writable)
        spin(loop)
        seen.append((loop.remove_reader(left), loop.remove_writer(left)))
        return seen


@parity
def test_replacing_a_callback(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        seen = []
        right.send(b"x")
        loop.add_reader(left, seen.append, "first")
        loop.add_reader(left, lambda: (seen.append("second"), loop.remove_reader(left)))
        spin(loop)
        assert seen == ["second"]
        return seen


@parity
def test_replacing_from_inside_and_removing_each_other(w):
    pairs = [fresh_pair() for _ in range(2)]
    with w.loop() as loop:
        seen = []
        lefts = [left for left, _ in pairs]
        for _, right in pairs:
            right.send(b"x")

        def only_one(name):
            seen.append("one of them")
            for left in lefts:
                loop.remove_reader(left)

        for left in lefts:
            loop.add_reader(left, only_one, left.fileno())
        spin(loop)
        for left, right in pairs:
            left.close()
            right.close()
        assert seen == ["one of them"]
        return seen


@parity
def test_end_of_file_and_errors_wake_readers(w):
    with w.loop() as loop:
        seen = []
        left, right = fresh_pair()
        with left:
            loop.add_reader(left, lambda: (seen.append(("eof", left.recv(10))), loop.remove_reader(left)))
            right.close()
            spin(loop)
        left, right = fresh_pair()
        with left:
            loop.add_writer(left, lambda: (seen.append("writable after hang-up"), loop.remove_writer(left)))
            right.close()
            spin(loop)
        return seen


@parity
def test_pipes(w):
    with w.loop() as loop:
        reading, writing = os.pipe()
        seen = []
        loop.add_reader(reading, lambda: seen.append(os.read(reading, 2)) or (len(seen) == 4 and loop.stop()))
        loop.add_writer(writing, lambda: (os.write(writing, b"abcd"), loop.remove_writer(writing)))
        loop.call_later(0.01, os.write, writing, b"efgh")
        loop.run_forever()
        trace = [loop.remove_reader(reading), loop.remove_writer(writing)]
        os.close(reading)
        os.close(writing)
        return trace, seen


@parity
def test_the_context_and_exceptions_of_a_reader(w):
    errors = []
    left, right = fresh_pair()
    with left, right, w.loop(errors=errors) as loop:
        seen = []

        def readable():
            seen.append(VARIABLE.get())
            VARIABLE.set("set inside")
            if len(seen) == 3:
                loop.remove_reader(left)
            raise KeyError("from a reader")

        context = contextvars.Context()
        context.run(VARIABLE.set, "at registration")
        context.run(loop.add_reader, left, readable)
        right.send(b"x")
        spin(loop)
    assert len(errors) == 3
    return seen, [(exc, keys) for _, exc, keys in errors]


@parity
def test_refusals(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop, tempfile.TemporaryFile() as regular:
        closed = socket.socket()
        closed.close()
        trace = [
            raised(loop.add_reader, -1, print),
            raised(loop.add_reader, "text", print),
            raised(loop.add_reader, None, print),
            raised(loop.add_reader, 1.5, print),
            raised(loop.add_reader, closed, print),
            raised(loop.add_writer, closed, print),
            raised(loop.remove_reader, -1),
            raised(loop.remove_reader, closed),
            raised(loop.remove_writer, "text"),
            raised(loop.add_reader, regular.fileno(), print)[0],
            raised(loop.add_reader, 9999, print)[0],
            loop.remove_reader(9999),
            raised(loop.add_reader)[0],
            raised(loop.add_reader, left)[0],
        ]
        assert trace[0] == ("ValueError", "Invalid file descriptor: -1")
        return trace


@parity
def test_a_descriptor_of_a_transport_is_refused(w):
    left, right = fresh_pair()
    with right, w.loop() as loop:

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            fd = left.fileno()
            trace = [
                raised(loop.add_reader, fd, print),
                raised(loop.add_writer, left, print),
                raised(loop.remove_reader, left),
                raised(loop.remove_writer, fd),
            ]
            transport.close()
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            return [(kind, text.split(" <")[0].replace(str(fd), "FD")) for kind, text in trace]

        trace = loop.run_until_complete(main())
        assert trace[0] == ("RuntimeError", "File descriptor FD is used by transport")
        return trace


@parity
def test_closing_behind_the_loops_back(w):
    """The descriptor is gone from the kernel's set; removing it says so without an error, and others go on."""
    with w.loop() as loop:
        left, right = fresh_pair()
        other_left, other_right = fresh_pair()
        seen = []
        fd = left.fileno()
        loop.add_reader(fd, seen.append, "closed one")
        loop.add_reader(other_left, lambda: seen.append(other_left.recv(1)))
        left.close()
        right.close()
        other_right.send(b"x")
        spin(loop)
        trace = [loop.remove_reader(fd), loop.remove_reader(fd), loop.remove_writer(fd)]
        loop.remove_reader(other_left)
        other_left.close()
        other_right.close()
        return trace, seen


def test_a_reused_number_is_a_new_registration(ours):
    """Closed without remove_reader, then the kernel gives the number to another socket (grpc and psycopg do this)."""
    with ours.loop() as loop:
        seen = []
        left, right = fresh_pair()
        fd = left.fileno()
        loop.add_reader(fd, seen.append, "old")
        left.close()
        right.close()
        new_left, new_right = fresh_pair()
        if new_left.fileno() != fd:
            os.dup2(new_left.fileno(), fd)
        loop.add_reader(fd, lambda: (seen.append("new"), loop.remove_reader(fd)))
        new_right.send(b"x")
        spin(loop, 0.05)
        if new_left.fileno() != fd:
            os.close(fd)
        new_left.close()
        new_right.close()
        assert seen == ["new"]


@parity
def test_many_descriptors(w):
    with w.loop() as loop:
        pairs = [fresh_pair() for _ in range(200)]
        seen = []

        def readable(number, left):
            seen.append((number, left.recv(10)))
            loop.remove_reader(left)
            if len(seen) == len(pairs):
                loop.stop()

        for number, (left, right) in enumerate(pairs):
            loop.add_reader(left, readable, number, left)
            right.send(str(number).encode())
        loop.run_forever()
        for left, right in pairs:
            left.close()
            right.close()
        return sorted(seen) == [(n, str(n).encode()) for n in range(200)]


@parity
def test_a_reader_added_while_the_loop_sleeps(w):
    """Adding from a timer, with data already there: level-triggered readiness is not lost."""
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        right.send(b"early")
        seen = []
        loop.call_later(0.01, loop.add_reader, left, lambda: (seen.append(left.recv(10)), loop.stop()))
        loop.run_forever()
        loop.remove_reader(left)
        return seen


@parity
def test_readers_survive_a_stop_and_a_new_run(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        seen = []
        loop.add_reader(left, lambda: seen.append(left.recv(1)))
        spin(loop, 0.002)
        right.send(b"a")
        spin(loop, 0.005)
        seen.append("--")
        right.send(b"b")
        spin(loop, 0.005)
        return seen, loop.remove_reader(left)


@parity
def test_the_same_descriptor_in_two_loops(w):
    """grpc.aio registers one descriptor with several loops."""
    left, right = fresh_pair()
    with left, right, w.loop() as one, w.loop() as two:
        seen = []
        one.add_reader(left, lambda: (seen.append("one"), one.stop()))
        two.add_reader(left, lambda: (seen.append("two"), two.stop()))
        right.send(b"x")
        one.run_forever()
        two.run_forever()
        trace = one.remove_reader(left), two.remove_reader(left)
        return seen, trace


@parity
def test_the_returned_handle(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        handle = loop._add_reader(left.fileno(), print)
        trace = [isinstance(handle, asyncio.Handle), handle.cancelled()]
        trace.append(loop._remove_reader(left.fileno()))
        trace.append(handle.cancelled())
        drain(loop, 2)
        return trace


@parity
def test_debug_repr_of_the_callback(w):
    left, right = fresh_pair()
    with left, right, w.loop() as loop:
        handle = loop._add_reader(left.fileno(), print, 1)
        text = normal(repr(handle))
        loop.remove_reader(left)
        return text
