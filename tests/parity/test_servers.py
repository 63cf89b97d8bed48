"""Servers: listening, serving, closing by the version's rules, refusals, addresses, Unix socket files."""

import asyncio
import gc
import os
import pathlib
import re
import socket
import stat
import sys
import warnings

import pytest
from wires import Recorder
from worlds import araised, normal, outcome, parity, since, until


def plain(text):
    """Ports and folders out of a text."""
    return re.sub(r"\b\d{4,5}\b", "PORT", re.sub(r"/tmp/[\w./-]+", "PATH", normal(text)))


async def refused(awaitable):
    kind, text = await araised(awaitable)
    return kind, plain(text)


class Clients:
    """Plain sockets that talk to a server of the world, one process and one thread."""

    def __init__(self, loop):
        self.loop, self.sockets = loop, []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for sock in self.sockets:
            sock.close()

    def connect(self, address, family=socket.AF_INET):
        sock = socket.socket(family, socket.SOCK_STREAM)
        self.sockets.append(sock)
        sock.connect(address)
        sock.setblocking(False)
        return sock


def served(w, scene_of, *, debug=False, errors=None):
    """Run `scene_of(loop, clients, log)`."""

    async def main():
        loop = w.aio.get_running_loop()
        log = []
        with Clients(loop) as clients:
            answer = await scene_of(loop, clients, log)
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        return log, answer

    return w.run(main, debug=debug, errors=errors)


def ended(sock):
    try:
        return sock.recv(1000)
    except OSError as exc:
        return type(exc).__name__


@parity
def test_the_life_of_a_server(w):
    async def scene_of(loop, clients, log):
        server = await loop.create_server(lambda: Recorder(log), "127.0.0.1", 0)
        log.append(
            (
                isinstance(server, asyncio.AbstractServer),
                server.is_serving(),
                type(server.sockets).__name__,
                len(server.sockets),
                type(server.sockets[0]).__name__,
                server.sockets[0].getsockname()[0],
                server.get_loop() is loop,
                plain(repr(server)),
            )
        )
        address = server.sockets[0].getsockname()
        client = clients.connect(address)
        await until(lambda: "made" in log)
        server.close()
        log.append((server.is_serving(), server.sockets, plain(repr(server))))
        log.append(outcome(clients.connect, address)[0])
        client.send(b"still served")
        await until(lambda: log[-1] == ["data", b"still served"])
        client.close()
        await until(lambda: log[-1] == ("lost", None))
        await server.wait_closed()
        server.close()
        await server.wait_closed()

    return served(w, scene_of)


@pytest.mark.parametrize("when", ["made", "lost", "later", "seen whole"])
@parity
def test_what_is_known_of_a_connection(w, when):
    """Ours asks the socket when somebody wants to know, and at the latest before it is closed."""

    async def scene_of(loop, clients, log):
        seen = []
        server = await loop.create_server(
            lambda: Recorder(
                log,
                made=lambda it: ask(it.transport) if when == "made" else None,
                lost=lambda it, exc: ask(it.transport) if when == "lost" else None,
            ),
            "127.0.0.1",
            0,
        )
        address = server.sockets[0].getsockname()

        def ask(transport):
            sock = transport.get_extra_info("socket")
            seen.append(
                (
                    [transport.get_extra_info(name, "none") for name in ("peername", "sockname", "other", 3)],
                    type(sock).__name__,
                    sock.fileno() >= 0,
                    sorted(transport._extra),
                )
            )

        transports = []
        made = loop._make_socket_transport

        def keep(*args, **keywords):
            transports.append(made(*args, **keywords))
            return transports[-1]

        loop._make_socket_transport = keep
        client = clients.connect(address)
        await until(lambda: "made" in log)
        if when == "seen whole":
            log.append(sorted(transports[0]._extra))
            transports[0]._extra["mine"] = 1
            log.append(transports[0].get_extra_info("mine"))
            ask(transports[0])
        peername = client.getsockname()
        client.close()
        await until(lambda: log[-1] == ("lost", None))
        await asyncio.sleep(0)
        if when == "later":
            ask(transports[0])
        server.close()
        (known, *rest) = seen[0]
        log.append(([known[0] == peername, known[1] == address, *known[2:]], rest))

    return served(w, scene_of)


@parity
def test_wait_closed_while_a_connection_is_open(w):
    """Up to 3.11 it returns at once after close(); from 3.12.1 on it waits for the connections."""

    async def scene_of(loop, clients, log):
        server = await loop.create_server(lambda: Recorder(log), "127.0.0.1", 0)
        client = clients.connect(server.sockets[0].getsockname())
        await until(lambda: "made" in log)
        before_close = loop.create_task(server.wait_closed())
        await asyncio.sleep(0.005)
        log.append(("before close", before_close.done()))
        server.close()
        waiting = loop.create_task(server.wait_closed())
        await asyncio.sleep(0.01)
        log.append(("connection open", before_close.done(), waiting.done()))
        client.close()
        await asyncio.sleep(0.01)
        await asyncio.wait_for(waiting, 5)
        await asyncio.wait_for(before_close, 5)

    return served(w, scene_of)


@parity
def test_wait_closed_without_connections(w):
    async def scene_of(loop, clients, log):
        server = await loop.create_server(lambda: Recorder(log), "127.0.0.1", 0)
        waiting = loop.create_task(server.wait_closed())
        await asyncio.sleep(0.002)
        log.append(waiting.done())
        server.close()
        await asyncio.wait_for(waiting, 5)
        await asyncio.wait_for(server.wait_closed(), 5)
        log.append("closed")

    return served(w, scene_of)


@parity
@since(3, 13)
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_ending_the_clients(w, how):
    async def scene_of(loop, clients, log):
        logs = []

        def factory():
            logs.append([])
            return Recorder(logs[-1])

        server = await loop.create_server(factory, "127.0.0.1", 0)
        sockets = [clients.connect(server.sockets[0].getsockname()) for _ in range(3)]
        await until(lambda: len(logs) == 3 and all(logs))
        server.close()
        getattr(server, how)()
        await asyncio.wait_for(server.wait_closed(), 5)
        log.append([ended(sock) for sock in sockets])
        getattr(server, how)()
        return logs

    return served(w, scene_of)


@parity
@since(3, 13)
def test_close_clients_flushes_and_abort_clients_does_not(w):
    async def scene_of(loop, clients, log):
        recorders = []

        def factory():
            recorders.append(Recorder([]))
            return recorders[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        for how in ("close_clients", "abort_clients"):
            sock = clients.connect(server.sockets[0].getsockname())
            await until(lambda: recorders and recorders[-1].log == ["made"])
            transport = recorders[-1].transport
            written = 0
            while not transport.get_write_buffer_size():
                transport.write(b"x" * 100_000)
                written += 100_000
            getattr(server, how)()
            got, done = 0, False
            while not done:
                piece = ended(sock)
                if isinstance(piece, bytes):
                    got += len(piece)
                    done = not piece
                else:
                    done = piece != "BlockingIOError"
                await asyncio.sleep(0)
            log.append((how, got == written, recorders[-1].log))
        server.close()
        await server.wait_closed()

    return served(w, scene_of)


@parity
def test_start_serving_later(w):
    async def scene_of(loop, clients, log):
        server = await loop.create_server(lambda: Recorder(log), "127.0.0.1", 0, start_serving=False)
        log.append((server.is_serving(), len(server.sockets)))
        address = server.sockets[0].getsockname()
        log.append(outcome(clients.connect, address)[0])
        await server.start_serving()
        await server.start_serving()
        log.append(server.is_serving())
        clients.connect(address)
        await until(lambda: "made" in log)
        server.close()
        log.append(await refused(server.start_serving()))

    log, _ = served(w, scene_of)
    assert log[0] == (False, 1)
    return log


@parity
def test_serve_forever(w):
    async def scene_of(loop, clients, log):
        server = await loop.create_server(lambda: Recorder([]), "127.0.0.1", 0, start_serving=False)
        serving = loop.create_task(server.serve_forever())
        await asyncio.sleep(0.002)
        log.append(server.is_serving())
        clients.connect(server.sockets[0].getsockname())
        log.append(await refused(server.serve_forever()))
        serving.cancel()
        log.append((await refused(serving))[0])
        log.append((server.is_serving(), server.sockets))
        log.append(await refused(server.serve_forever()))

    log, _ = served(w, scene_of)
    assert "is already being awaited on serve_forever()" in log[1][1]
    return log


@parity
def test_serve_forever_ends_when_the_server_is_closed(w):
    async def scene_of(loop, clients, log):
        server = await loop.create_server(lambda: Recorder([]), "127.0.0.1", 0)
        serving = loop.create_task(server.serve_forever())
        await asyncio.sleep(0.002)
        server.close()
        await asyncio.wait([serving], timeout=5)
        log.append((serving.done(), serving.cancelled()))

    return served(w, scene_of)


@parity
def test_as_a_context_manager(w):
    async def scene_of(loop, clients, log):
        async with await loop.create_server(lambda: Recorder(log), "127.0.0.1", 0) as server:
            log.append(server.is_serving())
            clients.connect(server.sockets[0].getsockname()).close()
            await until(lambda: ("lost", None) in log)
        log.append((server.is_serving(), server.sockets))

    return served(w, scene_of)


@parity
def test_many_clients_at_once(w):
    async def scene_of(loop, clients, log):
        recorders = []

        def factory():
            recorders.append(Recorder([], data=lambda proto, data: proto.transport.write(data)))
            return recorders[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, backlog=300)
        sockets = [clients.connect(server.sockets[0].getsockname()) for _ in range(200)]
        for number, sock in enumerate(sockets):
            sock.send(b"%d" % number)
        answers = {}

        def collect():
            for number, sock in enumerate(sockets):
                if number not in answers and isinstance(data := ended(sock), bytes):
                    answers[number] = data
            return len(answers) == 200

        await until(collect)
        server.close()
        for sock in sockets:
            sock.close()
        await until(lambda: all(r.is_lost for r in recorders))
        await asyncio.wait_for(server.wait_closed(), 5)
        return all(answers[n] == b"%d" % n for n in range(200)), len(recorders)

    return served(w, scene_of)


@parity
def test_a_factory_that_fails(w):
    """One bad connection is reported in debug mode; the server goes on. (Stock forgets to close that connection.)"""
    errors = []

    async def scene_of(loop, clients, log):
        calls = []

        def factory():
            calls.append(True)
            if len(calls) == 1:
                raise KeyError("no protocol today")
            return Recorder(log)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients.connect(server.sockets[0].getsockname())
        await until(lambda: calls)
        await asyncio.sleep(0.005)
        clients.connect(server.sockets[0].getsockname())
        await until(lambda: "made" in log)
        server.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        trace = served(w, scene_of, debug=True, errors=errors)
        gc.collect()
    assert [message for message, _, _ in errors] == ["Error on transport creation for incoming connection"]
    return trace[0][:1], errors


@parity
def test_a_factory_that_closes_its_server(w):
    """Nothing is accepted from a socket that is closed, and nothing reported."""
    errors = []

    async def scene(loop, clients, log):
        def factory():
            log.append("factory")
            server.close()
            raise LookupError("no more")  # a transport of a closed server fails in its finaliser from 3.13 on

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients.connect(server.sockets[0].getsockname())
        await until(lambda: log)
        await asyncio.sleep(0.005)
        return server.is_serving()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # stock forgets to close that connection
        seen = served(w, scene, errors=errors)
        gc.collect()
    assert errors == []
    return seen


@parity
def test_several_hosts_and_all_interfaces(w):
    async def scene_of(loop, clients, log):
        async with await loop.create_server(lambda: Recorder([]), ["127.0.0.1", "127.0.0.2"], 0) as server:
            log.append(sorted(s.getsockname()[0] for s in server.sockets))
        async with await loop.create_server(lambda: Recorder([]), None, 0, family=socket.AF_INET) as server:
            log.append([s.getsockname()[0] for s in server.sockets])
        async with await loop.create_server(lambda: Recorder([]), "", 0, family=socket.AF_INET) as server:
            log.append([s.getsockname()[0] for s in server.sockets])
        async with await loop.create_server(lambda: Recorder([]), "::1", 0) as server:
            sock = server.sockets[0]
            log.append((sock.getsockname()[0], sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)))

    return served(w, scene_of)


@parity
def test_options(w):
    async def scene_of(loop, clients, log):
        options = {
            "SO_REUSEADDR": (socket.SOL_SOCKET, socket.SO_REUSEADDR),
            "SO_REUSEPORT": (socket.SOL_SOCKET, socket.SO_REUSEPORT),
            "SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        }
        cases = [{}, {"reuse_address": False}, {"reuse_address": True}, {"reuse_port": True}, {"backlog": 1}]
        if sys.version_info >= (3, 13):
            cases.append({"keep_alive": True})
        for case in cases:
            async with await loop.create_server(lambda: Recorder([]), "127.0.0.1", 0, **case) as server:
                sock = server.sockets[0]
                log.append((case, {name: sock.getsockopt(*option) for name, option in options.items()}))

    return served(w, scene_of)


@parity
def test_two_servers_on_one_port(w):
    async def scene_of(loop, clients, log):
        one = await loop.create_server(lambda: Recorder([]), "127.0.0.1", 0, reuse_port=True)
        port = one.sockets[0].getsockname()[1]
        two = await loop.create_server(lambda: Recorder([]), "127.0.0.1", port, reuse_port=True)
        log.append(await refused(loop.create_server(lambda: Recorder([]), "127.0.0.1", port)))
        one.close()
        two.close()

    log, _ = served(w, scene_of)
    assert "error while attempting to bind on address ('127.0.0.1', PORT): address already in use" in log[0][1].replace(
        "[errno 98] ", ""
    )
    return log


@parity
def test_refusals(w):
    async def scene_of(loop, clients, log):
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream = socket.socket()
        unix = socket.socket(socket.AF_UNIX)
        with datagram, stream, unix:
            cases = [
                {},
                {"host": "127.0.0.1", "port": 0, "sock": stream},
                {"sock": datagram},
                {"host": "127.0.0.1", "port": 0, "ssl": True},
                {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
                {"host": "127.0.0.1", "port": 0, "ssl_shutdown_timeout": 1},
                {"host": "no.such.host.invalid", "port": 0},
                {"host": "127.0.0.1", "port": 70000},
                {"host": "127.0.0.1", "port": -1},
                {"host": "192.0.2.1", "port": 0},
                {"host": 5, "port": 0},
                {"host": "127.0.0.1", "port": "http-no-such"},
                {"host": "127.0.0.1", "port": 0, "nonsense": 1},
            ]
            for case in cases:
                answer = await refused(call(loop.create_server, lambda: Recorder([]), **case))
                log.append(answer if answer[0] != "TypeError" or "nonsense" not in case else answer[0])
            unix_cases = [
                {},
                {"path": "x", "sock": unix},
                {"sock": stream},
                {"path": "/no/such/folder/socket"},
                {"path": "x" * 200},
                {"path": "/tmp/x", "ssl": True},
            ]
            for case in unix_cases:
                log.append(await refused(call(loop.create_unix_server, lambda: Recorder([]), **case)))

    return served(w, scene_of)


async def call(function, *args, **kwargs):
    """What a call raises before it gives an awaitable counts as raised by awaiting."""
    return await function(*args, **kwargs)


@parity
def test_a_given_socket(w):
    async def scene_of(loop, clients, log):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = await loop.create_server(lambda: Recorder(log), sock=sock)
        log.append((server.sockets[0].fileno() == sock.fileno(), sock.gettimeout()))
        clients.connect(sock.getsockname()).close()
        await until(lambda: ("lost", None) in log)
        server.close()
        log.append(sock.fileno())

    return served(w, scene_of)


@parity
def test_accepted_sockets_of_others(w):
    """connect_accepted_socket: gunicorn and others accept themselves and hand the connection over."""

    async def scene_of(loop, clients, log):
        listener = socket.create_server(("127.0.0.1", 0))
        with listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            client = clients.connect(listener.getsockname())
            accepted, _ = listener.accept()
            transport, proto = await loop.connect_accepted_socket(lambda: Recorder(log), accepted)
            client.send(b"hello")
            await until(lambda: len(proto.received) == 5)
            transport.write(b"answer")
            await until(lambda: (answer := ended(client)) != "BlockingIOError" and log.append(answer) is None)
            transport.close()
            await until(lambda: proto.is_lost)
            log.append(await refused(loop.connect_accepted_socket(lambda: Recorder([]), datagram)))

    return served(w, scene_of)


# --- Unix sockets ---------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("kind", ["str", "bytes", "Path"])
def test_unix_paths(w, kind, tmp_path):
    path = str(tmp_path / f"socket-{w.name}-{kind}")
    given = {"str": path, "bytes": path.encode(), "Path": pathlib.Path(path)}[kind]
    if os.path.exists(path):
        os.unlink(path)

    async def scene_of(loop, clients, log):
        server = await loop.create_unix_server(lambda: Recorder(log), given)
        log.append((stat.S_ISSOCK(os.stat(path).st_mode), len(server.sockets), server.sockets[0].family.name))
        clients.connect(path, socket.AF_UNIX).close()
        await until(lambda: ("lost", None) in log)
        server.close()
        await server.wait_closed()
        log.append(("left behind", os.path.exists(path)))

    return served(w, scene_of)


@parity
def test_unix_abstract_names(w):
    name = f"\0asynchrotron-test-{os.getpid()}"

    async def scene_of(loop, clients, log):
        server = await loop.create_unix_server(lambda: Recorder(log), name)
        clients.connect(name, socket.AF_UNIX).close()
        await until(lambda: ("lost", None) in log)
        transport, proto = await loop.create_unix_connection(lambda: Recorder([]), name)
        transport.close()
        await until(lambda: proto.is_lost)
        server.close()

    return [entry for entry in served(w, scene_of)[0] if entry != "eof"]


@parity
def test_what_is_in_the_way_of_a_unix_server(w, tmp_path):
    folder = tmp_path / w.name
    folder.mkdir(exist_ok=True)

    async def scene_of(loop, clients, log):
        stale = folder / "stale"
        with socket.socket(socket.AF_UNIX) as sock:
            if stale.exists():
                stale.unlink()
            sock.bind(str(stale))
        async with await loop.create_unix_server(lambda: Recorder([]), stale):
            log.append("a stale socket is replaced")
        regular = folder / "regular"
        regular.write_text("precious")
        log.append(await refused(loop.create_unix_server(lambda: Recorder([]), regular)))
        log.append(regular.read_text())
        log.append(await refused(loop.create_unix_server(lambda: Recorder([]), folder)))

    return served(w, scene_of)


@parity
def test_unix_connections(w, tmp_path):
    path = str(tmp_path / f"server-{w.name}-{os.urandom(4).hex()}")

    async def scene_of(loop, clients, log):
        async with await loop.create_unix_server(lambda: Recorder([], data=echo), path):
            transport, proto = await loop.create_unix_connection(lambda: Recorder(log), path)
            transport.write(b"over unix")
            await until(lambda: len(proto.received) == 9)
            log.append((transport.get_extra_info("peername") == path, transport.get_extra_info("sockname")))
            transport.close()
            await until(lambda: proto.is_lost)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                transport, proto = await loop.create_unix_connection(lambda: Recorder([]), sock=sock)
                transport.close()
                await until(lambda: proto.is_lost)
            log.append(await refused(loop.create_unix_connection(lambda: Recorder([]), path + "-missing")))
            log.append(await refused(call(loop.create_unix_connection, lambda: Recorder([]))))
            log.append(await refused(call(loop.create_unix_connection, lambda: Recorder([]), path, sock=sock)))
            log.append(
                await refused(call(loop.create_unix_connection, lambda: Recorder([]), path, server_hostname="x"))
            )
            log.append(await refused(call(loop.create_unix_connection, lambda: Recorder([]), path, ssl=True)))
            with socket.socket() as inet:
                log.append(await refused(call(loop.create_unix_connection, lambda: Recorder([]), sock=inet)))

    return served(w, scene_of)


def echo(proto, data):
    proto.transport.write(data)


# --- stdlib streams over the transports -----------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_streams(w, family, tmp_path):
    path = str(tmp_path / f"streams-{w.name}-{os.urandom(4).hex()}")

    async def scene_of(loop, clients, log):
        async def handle(reader, writer):
            try:
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.write_eof()
            finally:
                writer.close()
                await writer.wait_closed()

        if family == "tcp":
            server = await w.aio.start_server(handle, "127.0.0.1", 0)
            opening = w.aio.open_connection(*server.sockets[0].getsockname())
        else:
            server = await w.aio.start_unix_server(handle, path)
            opening = w.aio.open_unix_connection(path)
        async with server:
            reader, writer = await opening
            for number in range(5):
                writer.write(b"line %d\n" % number)
                await writer.drain()
                log.append(await reader.readline())
            writer.writelines([b"a\n", b"b\n"])
            log.append(await reader.readexactly(4))
            writer.write(b"x" * 60_000 + b"\n")
            log.append(len(await reader.readuntil(b"\n")))
            writer.write_eof()
            log.append(await reader.read())
            log.append(reader.at_eof())
            writer.close()
            await writer.wait_closed()

    return served(w, scene_of)


@parity
def test_streams_drain_blocks_above_the_mark(w):
    async def scene_of(loop, clients, log):
        stuck = asyncio.Event()

        async def handle(reader, writer):
            await stuck.wait()
            total = 0
            while data := await reader.read(1 << 16):
                total += len(data)
            log.append(total)
            writer.close()

        async with await w.aio.start_server(handle, "127.0.0.1", 0) as server:
            _, writer = await w.aio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * 20_000_000)
            draining = loop.create_task(writer.drain())
            await asyncio.sleep(0.02)
            log.append(("drained", draining.done()))
            stuck.set()
            await draining
            writer.close()
            await writer.wait_closed()
            await until(lambda: 20_000_000 in log)

    return served(w, scene_of)
