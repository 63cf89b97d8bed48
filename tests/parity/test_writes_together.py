"""Writes of many transports in one turn, which leave one right after the other: none is lost, late or out of order."""

import asyncio
import contextvars
import logging
import socket
import threading

import pytest
from worlds import parity, until

WRITERS = 40  # more than leave together


class Wires:
    """Many transports of the loop under test, and plain sockets at their other ends."""

    def __init__(self, w):
        self.w = w
        self.transports = []
        self.peers = []

    async def open(self, count, make=asyncio.Protocol):
        loop = asyncio.get_running_loop()
        protocols = []
        for _ in range(count):
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            peer.setblocking(False)
            transport, protocol = await loop.create_connection(make, sock=ours)
            self.transports.append(transport)
            self.peers.append(peer)
            protocols.append(protocol)
        return protocols

    def at_peers(self):
        """What has arrived by now at each, without waiting."""
        return [arrived(peer) for peer in self.peers]

    async def write_in_one_turn(self, data=b"first,"):
        """A turn in which all write: in the next one that is expected again."""
        turn(self.transports, lambda transport: transport.write(data))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert self.at_peers() == [data] * len(self.peers)

    def close(self):
        for transport in self.transports:
            transport.abort()
        for peer in self.peers:
            peer.close()


def arrived(peer):
    try:
        return peer.recv(1_000_000)
    except BlockingIOError:
        return None
    except ConnectionError as exc:
        return type(exc).__name__


def turn(transports, what):
    """Have `what(transport)` called for each in the next turn, by a callback of its own."""
    loop = asyncio.get_running_loop()
    for transport in transports:
        loop.call_soon(what, transport)


def run(w, body, count=WRITERS, **options):
    async def main():
        wires = Wires(w)
        protocols = await wires.open(count, **options)
        try:
            return await body(wires, protocols)
        finally:
            wires.close()
            await asyncio.sleep(0)

    return w.run(main)


@pytest.mark.parametrize("count", [1, 3, 4, 5, WRITERS, 100])
@parity
def test_what_a_turn_wrote_has_arrived_in_the_next(w, count):
    async def body(wires, _):
        seen = []
        for number in range(8):
            turn(wires.transports, lambda transport, number=number: transport.write(b"%d." % number))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append(wires.at_peers())
        return seen

    seen = run(w, body, count)
    assert seen == [[b"%d." % number] * count for number in range(8)]
    return seen


@parity
def test_small_and_large_writes_keep_their_order(w):
    """Large ones do not wait; what was written before them does not come after them."""

    async def body(wires, _):
        loop = asyncio.get_running_loop()
        await wires.write_in_one_turn()
        pieces = [b"small,", b"L" * 70_000, b"small again,", b"M" * 20_000, b"end"]

        def write(transport):
            for piece in pieces:
                transport.write(piece)

        turn(wires.transports, write)
        whole = b"".join(pieces)
        for peer in wires.peers:
            got = b""
            while len(got) < len(whole):
                got += await loop.sock_recv(peer, len(whole))
            assert got == whole
        return len(whole)

    return run(w, body)


@parity
def test_whoever_asks_finds_nothing_kept(w):
    async def body(wires, _):
        await wires.write_in_one_turn()
        seen = []

        def write_and_look(transport):
            transport.write(b"x")
            seen.append((transport.get_write_buffer_size(), arrived(wires.peers[len(seen)])))

        turn(wires.transports, write_and_look)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen

    seen = run(w, body)
    assert seen == [(0, b"x")] * WRITERS
    return seen


@pytest.mark.parametrize("ending", ["close", "abort", "write_eof"])
@parity
def test_the_end_comes_after_what_was_written(w, ending):
    async def body(wires, _):
        await wires.write_in_one_turn()
        turn(wires.transports, lambda transport: transport.write(b"last"))
        turn(wires.transports, lambda transport: getattr(transport, ending)())
        for _ in range(4):
            await asyncio.sleep(0)
        seen = wires.at_peers()
        return seen, wires.at_peers()

    seen = run(w, body)
    assert seen == ([b"last"] * WRITERS, [b""] * WRITERS)
    return seen


@parity
def test_a_peer_that_is_gone_ends_its_own_transport_only(w):
    async def body(wires, protocols):
        await wires.write_in_one_turn()
        for peer in wires.peers[::2]:
            peer.close()
        for number in range(3):
            turn(wires.transports, lambda transport, number=number: transport.write(b"%d" % number))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await until(lambda: sum(protocol.lost is not None for protocol in protocols) == WRITERS // 2)
        seen = [arrived(peer) for peer in wires.peers[1::2]]
        return seen, [protocol.lost for protocol in protocols]

    class Protocol(asyncio.Protocol):
        lost = None

        def connection_lost(self, exc):
            self.lost = type(exc).__name__

    class OnlyWrites(Protocol):
        """Hears of the end by a write."""

        def connection_made(self, transport):
            transport.pause_reading()

    seen, lost = run(w, body, make=OnlyWrites)
    assert seen == [b"012"] * (WRITERS // 2)
    assert lost == ["BrokenPipeError", None] * (WRITERS // 2)
    return seen, lost


@parity
def test_a_callback_that_raises_holds_nothing_back(w):
    async def body(wires, _):
        loop = asyncio.get_running_loop()
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(repr(context["exception"])))
        await wires.write_in_one_turn()

        def write_and_raise(transport):
            transport.write(b"x")
            raise LookupError("after writing")

        turn(wires.transports, write_and_raise)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return wires.at_peers(), errors

    seen = run(w, body)
    assert seen == ([b"x"] * WRITERS, ["LookupError('after writing')"] * WRITERS)
    return seen


@parity
def test_the_loop_stops_with_nothing_kept(w):
    """stop() in the same turn, and an exception that ends the run."""
    with w.loop() as loop:
        wires = Wires(w)
        loop.run_until_complete(wires.open(WRITERS))

        async def twice():
            await wires.write_in_one_turn()
            turn(wires.transports, lambda transport: transport.write(b"stopped"))
            loop.call_soon(loop.stop)

        loop.create_task(twice())
        loop.run_forever()
        stopped = wires.at_peers()

        def leave(transport):
            transport.write(b"left")
            if transport is wires.transports[7]:
                raise SystemExit(3)

        async def leaving():
            await wires.write_in_one_turn()
            turn(wires.transports, leave)
            await asyncio.sleep(60)

        task = loop.create_task(leaving())
        with pytest.raises(SystemExit):
            loop.run_forever()
        left = wires.at_peers()[:8]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        wires.close()
        loop.run_until_complete(asyncio.sleep(0))
    assert (stopped, left) == ([b"stopped"] * WRITERS, [b"left"] * 8)
    return stopped, left


@parity
def test_what_ends_the_program_ends_it_while_writes_are_sent(w):
    """Ctrl-C, or an exit, in Python code that a send runs: here debug mode's log."""

    class Leave(logging.Handler):
        def emit(self, record):
            if "Fatal write error" in record.getMessage():
                raise SystemExit(4)

    logger, handler = logging.getLogger("asyncio"), Leave()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with w.loop(debug=True) as loop:
            wires = Wires(w)
            loop.run_until_complete(wires.open(3))
            for transport in wires.transports:
                transport.pause_reading()  # hears of the end by a write

            async def main():
                for transport in wires.transports:
                    transport.write(b"first,")
                    transport.write(b"second,")  # so the next turn's are joined
                wires.peers[1].close()
                turn(wires.transports, lambda transport: transport.write(b"last"))
                await asyncio.sleep(60)

            task = loop.create_task(main())
            with pytest.raises(SystemExit):
                loop.run_forever()
            loop.call_soon(loop.stop)
            loop.run_forever()
            seen = arrived(wires.peers[0]), arrived(wires.peers[2])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)
            wires.close()
            loop.run_until_complete(asyncio.sleep(0))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert seen == (b"first,second,last",) * 2
    return seen


@parity
def test_each_callback_keeps_its_context(w):
    """Sending between two of them changes nobody's context, also where a protocol is told to pause."""
    name = contextvars.ContextVar("name", default="none")

    async def body(wires, _):
        loop = asyncio.get_running_loop()
        await wires.write_in_one_turn()
        seen = []

        def write(transport, number):
            name.set(number)
            transport.write(b"x")
            seen.append(name.get())

        async def step(transport, number):
            name.set(number)
            for _ in range(3):
                transport.write(b"y")
                await asyncio.sleep(0)
                seen.append(name.get())

        for number, transport in enumerate(wires.transports):
            context = contextvars.copy_context()
            loop.call_soon(write, transport, number, context=context)
        await asyncio.gather(*(step(*pair) for pair in zip(wires.transports, range(WRITERS), strict=True)))
        return seen, name.get(), wires.at_peers()

    seen, outside, at_peers = run(w, body)
    assert seen == list(range(WRITERS)) * 4
    assert (outside, at_peers) == ("none", [b"xyyy"] * WRITERS)
    return seen


@pytest.mark.timeout(30)
@parity
def test_a_nested_run_begins_with_nothing_kept(w):
    """As nest_asyncio does: the answer that is waited for comes only if the question has left."""

    class Answers(asyncio.Protocol):
        got = None

        def data_received(self, data):
            self.got = data

    async def body(wires, protocols):
        loop = asyncio.get_running_loop()
        await wires.write_in_one_turn()
        wires.peers[0].setblocking(True)

        def answer():
            wires.peers[0].sendall(wires.peers[0].recv(100)[::-1])

        def ask():
            thread = threading.Thread(target=answer)
            thread.start()
            wires.transports[0].write(b"question")
            while protocols[0].got is None:
                loop._run_once()
            thread.join()
            done.set()

        done = w.aio.Event()
        loop.call_soon(ask)
        await done.wait()  # no timer: nothing but the answer ends a poll
        wires.peers[0].setblocking(False)
        return protocols[0].got

    seen = run(w, body, make=Answers)
    assert seen == b"noitseuq"
    return seen


FORKING = """
import os, socket, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork() in a process with threads
how = sys.argv[1]

class Protocol(aio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"in an event,")
        if data == b"fork":
            fork()

def fork():
    child = os.fork()
    if child:
        assert os.waitpid(child, 0) == (child, 0)
        return
    try:
        if how == "exit":
            sys.exit()
        for transport in transports:
            transport.write(b"child's,") if how == "write" else getattr(transport, how)()
    except RuntimeError:
        pass  # the loop is the parent's
    finally:
        if how != "exit":
            os._exit(0)

def write(transport):
    transport.write(b"together,")
    if transport is transports[4]:
        fork()

async def main():
    loop = aio.get_running_loop()
    peers = []
    for _ in range(8):
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        peers.append(peer)
        transports.append((await loop.create_connection(Protocol, sock=ours))[0])
    for _ in range(2):  # after the first turn the second is expected
        for transport in transports:
            loop.call_soon(transport.write, b"before,")
        await aio.sleep(0)
    if sys.argv[2] == "turn":
        for transport in transports:
            loop.call_soon(write, transport)
    else:
        for peer in peers:
            peer.send(b"data")
        await aio.sleep(0.01)
        peers[3].send(b"fork")
    await aio.sleep(0.01)
    print([peer.recv(1000) for peer in peers], os.getpid() == pid)

transports, pid = [], os.getpid()
loop = new_event_loop()
loop.run_until_complete(main())
"""


@pytest.mark.parametrize("place", ["turn", "event"])
@pytest.mark.parametrize("how", ["exit", "close", "abort", "write"])
@parity
def test_a_forked_child_sends_nothing_of_its_parents(w, how, place):
    """What the parent wrote leaves once, and what the child writes before it goes leaves, too."""
    done = w.program(FORKING, how, place)
    assert (done.status, done.err) == (0, "")
    return done.out
