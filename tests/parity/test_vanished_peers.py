"""Peers that are gone without FIN or RST: half-open connections.

A socket filter that lets no packet in makes a peer vanish: its kernel acknowledges nothing any more and refuses
nothing, as if the machine had lost its power or the cable was cut. It needs no rights. In the last test the network
itself goes away. What ends such a connection is the kernel (keep-alive, TCP_USER_TIMEOUT: ETIMEDOUT), or the program's
own timeout and abort(); all cases of a test wait for their second or two of kernel time together.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import tempfile

import pytest
from tls_wires import Scene as TLSScene
from tls_wires import engine  # noqa: F401
from wires import BufferedRecorder, Recorder
from worlds import error, parity, until

SO_ATTACH_FILTER = 26
DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET: of each packet keep nothing
USER_TIMEOUT_MS = 200
MUCH = 16 * 1024 * 1024  # more than the kernel takes


def unacknowledged(sock):
    """How many of a socket's segments: tcpi_unacked."""
    return struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28), 24)[0]


async def vanish(sock):
    await until(lambda: not unacknowledged(sock))  # or it would send those again and again, and not be silent
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(DROP)))
    except OSError as reason:
        pytest.skip(f"no socket filters here: {reason}")


def keep_alive(sock):
    """The kernel asks after a second of silence, and gives up after one more."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
        sock.setsockopt(socket.IPPROTO_TCP, option, 1)


def user_timeout(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def nothing(sock):
    """The kernel would wait for a quarter of an hour."""


class Scene:
    """Connections of the world under test, whose peers can vanish; and what is open when all is over."""

    def __init__(self, loop, option):
        self.loop, self.option = loop, option
        self.stack = contextlib.ExitStack()
        self.listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def pair(self):
        ours = self.stack.enter_context(socket.create_connection(self.listener.getsockname()))
        peer = self.stack.enter_context(self.listener.accept()[0])
        ours.setblocking(False)
        self.option(ours)
        return ours, peer

    async def protocol(self, recorder=Recorder, **reactions):
        ours, peer = self.pair()
        transport, proto = await self.loop.create_connection(lambda: recorder(**reactions), sock=ours)
        return transport, proto, peer

    async def streams(self, aio):
        ours, peer = self.pair()
        return *(await aio.open_connection(sock=ours)), peer


def reason(exc):
    return type(exc).__name__, getattr(exc, "errno", None), *(() if isinstance(exc, OSError) else error(exc))


async def fails(awaitable):
    """What an owner is told."""
    try:
        return "nothing was raised", await awaitable
    except (Exception, asyncio.CancelledError) as exc:
        return reason(exc)


def vanishing(w, option, *cases):
    """The traces of all cases, which run at once; afterwards no task and no descriptor is left."""

    async def main():
        loop = w.aio.get_running_loop()
        await loop.run_in_executor(None, int)  # its threads come and go otherwise
        opened = set(os.listdir("/proc/self/fd"))
        scene = Scene(loop, option)
        with scene.stack:
            traces = await asyncio.gather(*(case(w, scene) for case in cases))
        await until(lambda: len(w.aio.all_tasks()) == 1 and set(os.listdir("/proc/self/fd")) <= opened)
        return [(case.__name__, trace) for case, trace in zip(cases, traces, strict=True)]

    # A handler that is cancelled is an error to some versions' streams; that is parity's to compare.
    errors = []
    return w.run(main, errors=errors), errors


# ---- who only reads -------------------------------------------------------------------------------------------------


async def protocol_reads(w, s):
    _, proto, peer = await s.protocol()
    await vanish(peer)
    await until(lambda: proto.is_lost)
    return proto.log


async def buffered_protocol_reads(w, s):
    _, proto, peer = await s.protocol(BufferedRecorder)
    peer.send(b"last words")
    await until(lambda: proto.received)
    await vanish(peer)
    await until(lambda: proto.is_lost)
    return proto.log


async def paused_protocol_reads(w, s):
    """Who does not read hears of it when he does again."""
    transport, proto, peer = await s.protocol()
    transport.pause_reading()
    await vanish(peer)
    await until(lambda: transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\7")
    told = proto.is_lost
    transport.resume_reading()
    await until(lambda: proto.is_lost)
    return told, proto.log


async def streams_read(w, s):
    reader, writer, peer = await s.streams(w.aio)
    peer.send(b"half a line")
    await vanish(peer)
    told = [await fails(reader.readline()), await fails(reader.read()), await fails(reader.readexactly(3))]
    writer.close()
    return told, await fails(writer.wait_closed()), reader.at_eof()


async def sock_calls_read(w, s):
    told = []
    for call in (lambda ours: s.loop.sock_recv(ours, 10), lambda ours: s.loop.sock_recv_into(ours, bytearray(10))):
        ours, peer = s.pair()
        await vanish(peer)
        told.append(s.loop.create_task(fails(call(ours))))
    return [await task for task in told]


async def a_reader_callback_reads(w, s):
    ours, peer = s.pair()
    await vanish(peer)
    readable = asyncio.Event()
    s.loop.add_reader(ours, readable.set)
    await readable.wait()
    told = s.loop.remove_reader(ours)
    with pytest.raises(TimeoutError) as raised:
        ours.recv(10)
    return told, raised.value.errno


async def a_server_reads(w, s):
    """The server's end of a connection, and the server that waits for it."""
    told = []

    async def serve(reader, writer):
        s.option(writer.get_extra_info("socket"))
        told.append(await reader.readexactly(2))
        await vanish(peer)
        told.append(await fails(reader.read()))
        writer.close()
        told.append(await fails(writer.wait_closed()))

    server = await w.aio.start_server(serve, "127.0.0.1", 0)
    peer = s.stack.enter_context(socket.create_connection(server.sockets[0].getsockname()))
    peer.send(b"hi")
    await until(lambda: told)
    server.close()
    await server.wait_closed()
    await until(lambda: len(told) == 3)
    return told


@parity
def test_keep_alive(w):
    return vanishing(
        w, keep_alive, protocol_reads, buffered_protocol_reads, paused_protocol_reads, streams_read, sock_calls_read,
        a_reader_callback_reads, a_server_reads,
    )  # fmt: skip


# ---- who writes -----------------------------------------------------------------------------------------------------


async def protocol_writes_little(w, s):
    transport, proto, peer = await s.protocol()
    await vanish(peer)
    transport.write(b"anybody there?")
    taken = transport.get_write_buffer_size()
    await until(lambda: proto.is_lost)
    return taken, proto.log, transport.is_closing(), transport.get_write_buffer_size()


async def protocol_writes_much(w, s):
    transport, proto, peer = await s.protocol()
    await vanish(peer)
    transport.write(bytes(MUCH))
    transport.writelines([b"more", b"and more"])
    waiting = transport.get_write_buffer_size() > 0
    await until(lambda: proto.is_lost)
    return waiting, proto.log, transport.get_write_buffer_size()


async def protocol_closes_with_data(w, s):
    transport, proto, peer = await s.protocol()
    await vanish(peer)
    transport.write(bytes(MUCH))
    transport.close()
    await until(lambda: proto.is_lost)
    return proto.log


async def protocol_ends_its_side_with_data(w, s):
    transport, proto, peer = await s.protocol()
    await vanish(peer)
    transport.write(bytes(MUCH))
    transport.write_eof()
    await until(lambda: proto.is_lost)
    return proto.log


async def a_peer_that_had_stopped_reading(w, s):
    """Its window is closed, so it is asked for room again and again; then it does not answer that any more."""
    transport, proto, peer = await s.protocol()
    transport.write(bytes(MUCH))
    await until(lambda: proto.log[-1] == "pause")
    await vanish(peer)
    await until(lambda: proto.is_lost)
    return proto.log


async def streams_drain(w, s):
    reader, writer, peer = await s.streams(w.aio)
    await vanish(peer)
    writer.write(bytes(MUCH))
    reading = s.loop.create_task(fails(reader.read()))
    told = [await fails(writer.drain()), await reading, await fails(writer.drain())]
    writer.close()
    return told, await fails(writer.wait_closed())


async def streams_close(w, s):
    _, writer, peer = await s.streams(w.aio)
    await vanish(peer)
    writer.write(bytes(MUCH))
    writer.close()
    return await fails(writer.wait_closed())


async def sock_sendall(w, s):
    ours, peer = s.pair()
    await vanish(peer)
    return await fails(s.loop.sock_sendall(ours, bytes(MUCH)))


async def sendfile(w, s):
    transport, proto, peer = await s.protocol()
    ours, other_peer = s.pair()
    await vanish(peer)
    await vanish(other_peer)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as other_file:
        file.truncate(MUCH)
        other_file.truncate(MUCH)
        told = await asyncio.gather(
            fails(s.loop.sendfile(transport, file)), fails(s.loop.sock_sendfile(ours, other_file))
        )
    await until(lambda: proto.is_lost)
    # The kernel's error goes to the call that meets it first, sendfile or the transport's reading.
    return told[1], {told[0][0], proto.log[-1][1] and proto.log[-1][1][0]} >= {"TimeoutError"}


@parity
def test_user_timeout(w):
    return vanishing(
        w, user_timeout, protocol_writes_little, protocol_writes_much, protocol_closes_with_data,
        protocol_ends_its_side_with_data, a_peer_that_had_stopped_reading, streams_drain, streams_close, sock_sendall,
        sendfile,
    )  # fmt: skip


# ---- the program's own patience -------------------------------------------------------------------------------------


async def drain_is_given_up(w, s):
    _, writer, peer = await s.streams(w.aio)
    await vanish(peer)
    writer.write(bytes(MUCH))
    told = [await fails(w.aio.wait_for(writer.drain(), 0.02))]
    writer.write(b"more")
    told.append(await fails(w.aio.wait_for(writer.drain(), 0.02)))
    writer.close()
    told.append(await fails(w.aio.wait_for(writer.wait_closed(), 0.02)))
    writer.transport.abort()
    return told, await fails(writer.wait_closed()), writer.transport.get_write_buffer_size()


async def read_is_given_up(w, s):
    reader, writer, peer = await s.streams(w.aio)
    await vanish(peer)
    try:
        async with w.aio.timeout(0.02):
            await reader.read()
    except TimeoutError as exc:
        told = [reason(exc)]
    writer.write(b"never acknowledged")  # yet taken by the kernel
    told.append(await fails(writer.drain()))
    writer.close()
    return told, await fails(writer.wait_closed())


async def sock_sendall_is_given_up(w, s):
    ours, peer = s.pair()
    await vanish(peer)
    return await fails(w.aio.wait_for(s.loop.sock_sendall(ours, bytes(MUCH)), 0.02))


async def protocol_aborts(w, s):
    transport, proto, peer = await s.protocol()
    await vanish(peer)
    transport.write(bytes(MUCH))
    transport.abort()
    log = list(proto.log)
    await until(lambda: proto.is_lost)
    return log, proto.log


async def a_server_is_given_up(w, s):
    """Its connection is stuck in drain(); cancelling the handler and abort() end both."""
    handlers = []

    async def serve(reader, writer):
        handlers.append(asyncio.current_task())
        await reader.readexactly(2)
        await vanish(peer)
        writer.write(bytes(MUCH))
        try:
            await writer.drain()
        finally:
            writer.transport.abort()

    server = await w.aio.start_server(serve, "127.0.0.1", 0)
    peer = s.stack.enter_context(socket.create_connection(server.sockets[0].getsockname()))
    peer.send(b"hi")
    await until(lambda: handlers)
    server.close()
    told = await fails(w.aio.wait_for(asyncio.shield(handlers[0]), 0.02))
    handlers[0].cancel()
    await server.wait_closed()
    return told, await fails(handlers[0])


@parity
def test_timeouts_of_the_program(w):
    return vanishing(
        w, nothing, drain_is_given_up, read_is_given_up, sock_sendall_is_given_up, protocol_aborts, a_server_is_given_up
    )


# ---- who never was there --------------------------------------------------------------------------------------------


async def create_connection_is_given_up(w, s):
    return await fails(w.aio.wait_for(s.loop.create_connection(Recorder, *s.listener.getsockname()), 0.02))


async def sock_connect_is_given_up(w, s):
    with socket.socket() as ours:
        ours.setblocking(False)
        told = await fails(w.aio.wait_for(s.loop.sock_connect(ours, s.listener.getsockname()), 0.02))
        return told, ours.fileno() >= 0


async def sock_connect_is_ended_by_the_kernel(w, s):
    with socket.socket() as ours:
        ours.setblocking(False)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        user_timeout(ours)
        return await fails(s.loop.sock_connect(ours, s.listener.getsockname()))


@parity
def test_connecting(w):
    async def vanished(w, s):
        await vanish(s.listener)

    return vanishing(
        w, nothing, vanished, create_connection_is_given_up, sock_connect_is_given_up,
        sock_connect_is_ended_by_the_kernel,
    )  # fmt: skip


# ---- TLS ------------------------------------------------------------------------------------------------------------


def over_tls(w, *cases):
    async def main():
        with TLSScene(w) as first:  # what a process has from its first connection on
            await first.connect()
            first.transport.abort()
            await until(lambda: first.proto.is_lost)
        opened = set(os.listdir("/proc/self/fd"))
        with contextlib.ExitStack() as stack:
            scenes = [stack.enter_context(TLSScene(w)) for _ in cases]
            traces = await asyncio.gather(*(case(w, scene) for case, scene in zip(cases, scenes, strict=True)))
            for scene in scenes:
                scene.transport = scene.proto = None
        await until(lambda: len(w.aio.all_tasks()) == 1 and set(os.listdir("/proc/self/fd")) <= opened)
        return traces

    return w.run(main)


async def tls_reads(w, s):
    await s.connect()
    keep_alive(s.transport.get_extra_info("socket"))
    await vanish(s.peer.sock)
    await until(lambda: s.proto.is_lost)
    return s.log


async def tls_writes(w, s):
    await s.connect()
    user_timeout(s.transport.get_extra_info("socket"))
    await vanish(s.peer.sock)
    s.transport.write(bytes(MUCH))
    await until(lambda: s.proto.is_lost)
    return s.log


async def tls_closes(w, s):
    """close_notify is never answered."""
    await s.connect(ssl_shutdown_timeout=0.02)
    await vanish(s.peer.sock)
    s.transport.close()
    await until(lambda: s.proto.is_lost)
    return s.log


async def tls_aborts(w, s):
    await s.connect()
    await vanish(s.peer.sock)
    s.transport.write(bytes(MUCH))
    s.transport.abort()
    await until(lambda: s.proto.is_lost)
    return s.log


async def tls_handshake_is_given_up(w, s):
    connecting = s.begin(ssl_handshake_timeout=0.02)
    await vanish(s.peer.sock)
    return await fails(connecting)


async def tls_handshake_is_ended_by_the_kernel(w, s):
    ours, theirs = s.pair()
    s.pair = lambda: (ours, theirs)
    user_timeout(ours)
    await vanish(theirs)
    return await fails(s.begin())


@parity
def test_tls(w, engine):  # noqa: F811
    return over_tls(
        w, tls_reads, tls_writes, tls_closes, tls_aborts, tls_handshake_is_given_up,
        tls_handshake_is_ended_by_the_kernel,
    )  # fmt: skip


# ---- the network goes away ------------------------------------------------------------------------------------------

NETWORK = """
import asyncio, ctypes, fcntl, os, socket, struct, sys

def interface(flags):
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", flags))  # SIOCSIFFLAGS

NEW_NETWORK, NEW_USER, UP = 0x40000000, 0x10000000, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(NEW_NETWORK) and libc.unshare(NEW_NETWORK | NEW_USER):
    print("no namespace:", os.strerror(ctypes.get_errno()))
    sys.exit()
interface(UP)

async def told(awaitable):
    try:
        return await awaitable
    except OSError as exc:
        return type(exc).__name__, exc.errno

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    peers = []
    async def connect():
        reader, writer = await aio.open_connection(*listener.getsockname())
        peers.append(listener.accept()[0])
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
        return reader, writer
    opened = len(os.listdir("/proc/self/fd"))
    writing, closing, aborting = [await connect() for _ in range(3)]
    interface(0)
    for reader, writer in (writing, closing, aborting):
        writer.write(bytes(16 * 1024 * 1024))
    aborting[1].transport.abort()
    print(await told(aborting[1].wait_closed()))
    closing[1].close()
    print(await asyncio.gather(told(closing[1].wait_closed()), told(writing[1].drain()), told(writing[0].read())))
    writing[1].close()
    print(await told(writing[1].wait_closed()))
    print(await told(aio.wait_for(aio.open_connection(*listener.getsockname()), 0.02)))
    for peer in peers:
        peer.close()
    await asyncio.sleep(0)
    print(len(os.listdir("/proc/self/fd")) - opened, len(aio.all_tasks()))
    listener.close()

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


@parity
def test_the_network_goes_away(w):
    done = w.program(NETWORK)
    if done.out.startswith("no namespace"):
        pytest.skip(done.out)
    return done.status, done.out.splitlines(), done.err
