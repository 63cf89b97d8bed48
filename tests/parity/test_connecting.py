"""create_connection: addresses in order, happy eyeballs, local addresses, given sockets, refusals, cancellation."""

import asyncio
import gc
import os
import re
import socket
import ssl
import subprocess
import sys
import warnings

import pytest
from wires import Recorder
from worlds import araised, normal, parity, since, until


def plain(text):
    return re.sub(r"\b\d{4,5}\b", "PORT", normal(text))


async def refused(awaitable):
    kind, text = await araised(awaitable)
    return kind, plain(text)


async def call(function, *args, **kwargs):
    return await function(*args, **kwargs)


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Listener:
    """A plain listening socket; `silent` ones have a full backlog, so that a connect to them stays pending."""

    def __init__(self, host="127.0.0.1", silent=False):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family)
        self.fillers = []
        self.sock.bind((host, 0))
        self.sock.listen(0 if silent else 10)
        self.address = self.sock.getsockname()
        for _ in range(4 if silent else 0):
            filler = socket.socket(family)
            filler.setblocking(False)
            self.fillers.append(filler)
            try:
                filler.connect(self.address)
            except BlockingIOError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for sock in (self.sock, *self.fillers):
            sock.close()


def resolve(loop, *addresses, log=None):
    """Make the loop's name look-up answer with these addresses."""

    async def getaddrinfo(host, port, *, family=0, type=0, proto=0, flags=0):
        if log is not None:
            log.append((host, port, family, type, proto, flags))
        return [
            (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                address,
            )
            for address in addresses
        ]

    loop.getaddrinfo = getaddrinfo


async def finish(transport, proto):
    transport.close()
    await until(lambda: proto.is_lost)


@parity
def test_by_name_and_number(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with Listener() as listener:
            host, port = listener.address
            for target in (host, "localhost"):
                transport, proto = await loop.create_connection(lambda: Recorder([]), target, port)
                trace.append((transport.get_extra_info("peername"), proto.log) == (listener.address, ["made"]))
                await finish(transport, proto)
        return trace

    return w.run(main)


@parity
def test_a_given_socket(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with Listener() as listener:
            sock = socket.create_connection(listener.address)
            fd = sock.fileno()
            transport, proto = await loop.create_connection(lambda: Recorder([]), sock=sock)
            trace.append((sock.gettimeout(), sock.fileno() == fd, transport.get_extra_info("socket").fileno() == fd))
            await finish(transport, proto)
            trace.append(sock.fileno())
        left, right = socket.socketpair()
        with right:
            transport, proto = await loop.create_connection(lambda: Recorder([]), sock=left)
            right.send(b"pair")
            await until(lambda: len(proto.received) == 4)
            await finish(transport, proto)
        return trace

    return w.run(main)


@parity
def test_refusals(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with Listener() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            host, port = listener.address
            with socket.socket() as sock:
                cases = [
                    {},
                    {"host": host, "port": port, "sock": sock},
                    {"sock": datagram},
                    {"host": host, "port": port, "server_hostname": "x"},
                    {"host": host, "port": port, "ssl_handshake_timeout": 1},
                    {"host": host, "port": port, "ssl_shutdown_timeout": 1},
                    {"sock": sock, "ssl": True},
                    {"host": host, "port": 70000},
                    {"host": host, "port": -1},
                    {"host": host, "port": "no-such-service"},
                    {"host": "no.such.host.invalid", "port": port},
                    {"host": host, "port": port, "local_addr": ("no.such.host.invalid", 0)},
                    {"host": host, "port": port, "local_addr": ("192.0.2.1", 0)},
                    {"host": host, "port": port, "local_addr": listener.address},
                    {"host": host, "port": port, "nonsense": 1},
                    {"host": host, "port": port, "family": socket.AF_INET6},
                ]
                for case in cases:
                    kind, text = await refused(call(loop.create_connection, lambda: Recorder([]), **case))
                    trace.append((kind, "" if "nonsense" in case else text))
            trace.append((await refused(call(loop.create_connection)))[0])
        return trace

    return w.run(main)


@parity
def test_nobody_listens(w):
    async def main():
        loop = w.aio.get_running_loop()
        port = unused_port()
        return [
            await refused(loop.create_connection(lambda: Recorder([]), "127.0.0.1", port)),
            await refused(loop.create_connection(lambda: Recorder([]), "::1", port)),
        ]

    trace = w.run(main)
    assert trace[0] == ("ConnectionRefusedError", "[Errno 111] Connect call failed ('127.0.0.1', PORT)")
    return trace


@parity
def test_the_factory_raises(w):
    async def main():
        loop = w.aio.get_running_loop()
        with Listener() as listener:

            def factory():
                raise KeyError("no protocol")

            answer = await refused(loop.create_connection(factory, *listener.address))
            gc.collect()
            return answer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return w.run(main)


@parity
def test_several_addresses_are_tried_in_order(w):
    async def main():
        loop, asked = w.aio.get_running_loop(), []
        with Listener() as good:
            dead = unused_port()
            resolve(loop, ("127.0.0.1", dead), ("127.0.0.1", dead), good.address, log=asked)
            transport, proto = await loop.create_connection(lambda: Recorder([]), "many.names", 80)
            answer = transport.get_extra_info("peername") == good.address
            await finish(transport, proto)
        return answer, asked

    return w.run(main)


@parity
def test_all_addresses_fail(w):
    async def main():
        loop = w.aio.get_running_loop()
        dead = unused_port()
        trace = []
        resolve(loop, ("127.0.0.1", dead), ("127.0.0.2", dead))
        trace.append(await refused(loop.create_connection(lambda: Recorder([]), "dead.names", 80)))
        resolve(loop, ("127.0.0.1", dead), ("127.0.0.1", dead))
        trace.append(await refused(loop.create_connection(lambda: Recorder([]), "dead.names", 80)))
        resolve(loop)
        trace.append(await refused(loop.create_connection(lambda: Recorder([]), "no.addresses", 80)))
        return trace

    trace = w.run(main)
    assert trace[0][0] == "OSError"
    assert trace[0][1].startswith("Multiple exceptions: [Errno 111] Connect call failed ('127.0.0.1', PORT), ")
    return trace


@parity
@since(3, 12)
def test_all_errors(w):
    async def main():
        loop = w.aio.get_running_loop()
        dead = unused_port()
        resolve(loop, ("127.0.0.1", dead), ("127.0.0.2", dead))
        try:
            await loop.create_connection(lambda: Recorder([]), "dead.names", 80, all_errors=True)
        except ExceptionGroup as group:
            return plain(group.message), [(type(e).__name__, plain(e)) for e in group.exceptions]

    return w.run(main)


@parity
def test_happy_eyeballs(w):
    """The first address does not answer: after the delay the next is tried beside it, and the first to answer wins."""

    async def main():
        loop = w.aio.get_running_loop()
        with Listener(silent=True) as silent, Listener() as good:
            resolve(loop, silent.address, good.address)
            started = loop.time()
            transport, proto = await loop.create_connection(
                lambda: Recorder([]), "two.names", 80, happy_eyeballs_delay=0.05
            )
            took = loop.time() - started
            answer = transport.get_extra_info("peername") == good.address, proto.log
            await finish(transport, proto)
        assert 0.05 <= took < 5
        return answer

    return w.run(main)


@parity
def test_happy_eyeballs_skip_a_dead_address_at_once(w):
    async def main():
        loop = w.aio.get_running_loop()
        with Listener() as good:
            resolve(loop, ("127.0.0.1", unused_port()), good.address)
            started = loop.time()
            transport, proto = await loop.create_connection(
                lambda: Recorder([]), "two.names", 80, happy_eyeballs_delay=20
            )
            answer = transport.get_extra_info("peername") == good.address
            await finish(transport, proto)
        assert loop.time() - started < 10
        return answer

    return w.run(main)


@parity
def test_happy_eyeballs_when_all_fail(w):
    async def main():
        loop = w.aio.get_running_loop()
        dead = unused_port()
        resolve(loop, ("127.0.0.1", dead), ("127.0.0.2", dead))
        return await refused(loop.create_connection(lambda: Recorder([]), "x", 80, happy_eyeballs_delay=0.01))

    return w.run(main)


@parity
@pytest.mark.parametrize("interleave", [None, 0, 1, 2])
def test_interleaving_of_families(w, interleave):
    async def main():
        loop, tried = w.aio.get_running_loop(), []
        dead = unused_port()
        sixes = [("::1", dead + 0, 0, 0)] * 3
        fours = [(f"127.0.0.{n}", dead) for n in (1, 2, 3)]
        resolve(loop, *sixes, *fours)
        original = loop.sock_connect

        async def sock_connect(sock, address):
            tried.append(address[0])
            return await original(sock, address)

        loop.sock_connect = sock_connect
        arguments = {} if interleave is None else {"interleave": interleave}
        await araised(loop.create_connection(lambda: Recorder([]), "x", 80, **arguments))
        return tried

    tried = w.run(main)
    assert len(tried) == 6
    return tried


@parity
def test_local_addresses(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with Listener("0.0.0.0") as listener:
            port = listener.address[1]
            local = unused_port()
            transport, proto = await loop.create_connection(
                lambda: Recorder([]), "127.0.0.1", port, local_addr=("127.0.0.1", local)
            )
            trace.append(transport.get_extra_info("sockname") == ("127.0.0.1", local))
            await finish(transport, proto)
            transport, proto = await loop.create_connection(
                lambda: Recorder([]), "127.0.0.1", port, local_addr=("127.0.0.5", 0)
            )
            trace.append(transport.get_extra_info("sockname")[0])
            await finish(transport, proto)
        return trace

    return w.run(main)


@parity
def test_cancelling_a_pending_connect(w):
    """The socket is closed once, and a descriptor opened meanwhile is left alone."""

    async def main():
        loop = w.aio.get_running_loop()
        with Listener(silent=True) as silent:
            before = len(os.listdir("/proc/self/fd"))
            task = loop.create_task(loop.create_connection(lambda: Recorder([]), *silent.address))
            await asyncio.sleep(0.01)
            during = len(os.listdir("/proc/self/fd"))
            task.cancel("enough")
            answer = await araised(task)
            gc.collect()
            after = len(os.listdir("/proc/self/fd"))
        return answer, during - before, after - before

    trace = w.run(main)
    assert trace[1:] == (1, 0)
    return trace


@parity
def test_a_timeout_around_a_pending_connect(w):
    async def main():
        loop = w.aio.get_running_loop()
        with Listener(silent=True) as silent:
            try:
                async with w.aio.timeout(0.02):
                    await loop.create_connection(lambda: Recorder([]), *silent.address)
            except TimeoutError:
                return "timed out"

    return w.run(main)


@parity
def test_ipv6(w):
    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with Listener("::1") as listener:
            transport, proto = await loop.create_connection(lambda: Recorder([]), "::1", listener.address[1])
            trace.append(transport.get_extra_info("peername") == listener.address)
            trace.append(len(transport.get_extra_info("sockname")))
            await finish(transport, proto)
        return trace

    return w.run(main)


@parity
def test_nodelay_whatever_the_protocol_number(w):
    """A socket made with proto 0, or a detached copy, still gets TCP_NODELAY on stock since 3.6."""

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        with Listener() as listener:
            transport, proto = await loop.create_connection(lambda: Recorder([]), *listener.address)
            sock = transport.get_extra_info("socket")
            trace.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await finish(transport, proto)
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            made.connect(listener.address)
            transport, proto = await loop.create_connection(lambda: Recorder([]), sock=made)
            trace.append(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await finish(transport, proto)
        return trace

    trace = w.run(main)
    assert trace == [1, 1]
    return trace


def test_nodelay_with_protocol_zero(ours):
    """socket.socket() has proto 0; stock looks only for IPPROTO_TCP and leaves Nagle on."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")

    async def main():
        loop = ours.aio.get_running_loop()
        with Listener() as listener:
            made = socket.socket()
            made.connect(listener.address)
            transport, proto = await loop.create_connection(lambda: Recorder([]), sock=made)
            answer = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await finish(transport, proto)
            return answer

    assert ours.run(main) == 1


@parity
def test_create_connection_uses_the_overridden_pieces(w):
    """Test doubles and proxies replace getaddrinfo and sock_connect on the loop."""

    async def main():
        loop, seen = w.aio.get_running_loop(), []
        with Listener() as listener:
            original = loop.sock_connect

            async def sock_connect(sock, address):
                seen.append(address == ("127.0.0.9", 1))
                return await original(sock, listener.address)

            loop.sock_connect = sock_connect
            resolve(loop, ("127.0.0.9", 1))
            transport, proto = await loop.create_connection(lambda: Recorder([]), "anything", 80)
            seen.append(transport.get_extra_info("peername") == listener.address)
            await finish(transport, proto)
        return seen

    return w.run(main)


@parity
def test_datagram_endpoints_through_the_stdlib(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []

        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                log.append(data)
                if data == b"ping":
                    self.transport.sendto(b"pong", address)

            def error_received(self, exc):
                log.append(type(exc).__name__)

            def connection_lost(self, exc):
                log.append("lost")

        server, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        client, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=server.get_extra_info("sockname"))
        client.sendto(b"ping")
        await until(lambda: b"pong" in log)
        client.close()
        server.close()
        await until(lambda: log.count("lost") == 2)
        return log, sys.version_info >= (3, 11)

    return w.run(main)


@parity
def test_subprocesses_and_pipes_through_the_stdlib(w):
    async def main():
        process = await w.aio.create_subprocess_exec(
            sys.executable, "-c", "print(input()[::-1])", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(b"hello\n")
        shell = await w.aio.create_subprocess_shell("exit 3")
        missing = await araised(w.aio.create_subprocess_exec("/no/such/program"))
        return out, process.returncode, await shell.wait(), missing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # child watchers of 3.12 and 3.13
        return w.run(main)


@parity
def test_sendfile_through_the_stdlib(w, tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(bytes(range(256)) * 1000)

    async def main():
        loop, trace = w.aio.get_running_loop(), []
        for fallback in (True, False):
            with Listener() as listener, path.open("rb") as file:
                transport, proto = await loop.create_connection(lambda: Recorder([]), *listener.address)
                peer, _ = listener.sock.accept()
                with peer:
                    peer.setblocking(False)
                    reading = loop.create_task(read_all(loop, peer))
                    trace.append(await loop.sendfile(transport, file, 100, 100_000, fallback=fallback))
                    transport.write(b"tail")
                    await finish(transport, proto)
                    data = await reading
                    trace.append(data == path.read_bytes()[100:100_100] + b"tail")
        return trace

    return w.run(main)


async def read_all(loop, sock):
    data = bytearray()
    while piece := await loop.sock_recv(sock, 65536):
        data += piece
    return bytes(data)


@parity
def test_tls_through_the_stdlib(w, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    made = subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl command")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    client_side = ssl.create_default_context(cafile=str(certificate))

    async def main():
        loop, trace = w.aio.get_running_loop(), []

        async def handle(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()

        server = await w.aio.start_server(handle, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await w.aio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname="localhost")
        for number in range(3):
            writer.write(b"secret %d\n" % number)
            trace.append(await reader.readline())
        trace.append(writer.get_extra_info("ssl_object") is not None)
        trace.append(writer.get_extra_info("peername") == ("127.0.0.1", port))
        writer.close()
        await writer.wait_closed()
        failed = await araised(w.aio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname="wrong.name"))
        trace.append(failed[0])
        plain_reader, plain_writer = await w.aio.open_connection("127.0.0.1", port)
        plain_writer.write(b"no handshake at all, just words\n" * 10)
        trace.append(await plain_reader.read() is not None)
        plain_writer.close()
        server.close()
        await asyncio.sleep(0.01)
        return trace, loop.is_running()

    return w.run(main, errors=[])
