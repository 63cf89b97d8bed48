"""A peer that changes the keys in the middle of a connection: OpenSSL's own programs do on demand.

In TLS 1.2 it begins another handshake, in TLS 1.3 it sends a KeyUpdate, which may ask for one in return.
"""

import asyncio
import contextlib
import subprocess
import threading

import pytest
from tls_wires import client_context, engine, folder, limit_version, server_context  # noqa: F401
from worlds import until

PAYLOAD = bytes(range(128, 255)) * 2500  # not a byte of it is in what the programs show, and no line is a command


class Program:
    """`openssl s_server` or `s_client`: lines on its standard input are data, or commands; it shows each message."""

    def __init__(self, *arguments, version="1_2"):
        command = ["openssl", *arguments, f"-tls{version}", "-msg", "-cert", "server.pem", "-key", "server.key"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=folder(), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
        self.shown = b""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while data := self.process.stdout.read1(65_536):
            self.shown += data

    def type(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def handshakes(self):
        return self.shown.count(b"ClientHello")

    def key_updates(self):
        """How many it sent, and how many it received."""
        lines = [line for line in self.shown.split(b"\n") if line.endswith(b", KeyUpdate")]
        return sum(line.startswith(b">>>") for line in lines), sum(line.startswith(b"<<<") for line in lines)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def program(*arguments, **options):
    running = Program(*arguments, **options)
    try:
        yield running
    finally:
        running.end()


class Keeper(asyncio.Protocol):
    def __init__(self):
        self.received = bytearray()
        self.lost = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data

    def connection_lost(self, error):
        self.lost.append(type(error).__name__)


@contextlib.asynccontextmanager
async def connected(side, version):
    """Our transport at `side`, its protocol, and the program at the other end, both with this version of TLS."""
    loop, protocol = asyncio.get_running_loop(), Keeper()
    if side == "client":
        with program("s_server", "-accept", "127.0.0.1:0", version=version.replace(".", "_")) as peer:
            await until(lambda: b"ACCEPT 127.0.0.1:" in peer.shown and peer.shown.endswith(b"\n"))
            port = int(peer.shown.split(b"ACCEPT 127.0.0.1:")[1].split()[0])
            context = limit_version(client_context(), version)
            await loop.create_connection(lambda: protocol, "127.0.0.1", port, ssl=context, server_hostname="localhost")
            yield protocol.transport, protocol, peer
    else:
        context = limit_version(server_context(), version)
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=context)
        host, port = server.sockets[0].getsockname()
        with program("s_client", "-connect", f"{host}:{port}", version=version.replace(".", "_")) as peer:
            await until(lambda: hasattr(protocol, "transport"))
            yield protocol.transport, protocol, peer
        server.close()


@pytest.mark.parametrize("busy", [False, True])
def test_begun_by_the_server(world, engine, busy):  # noqa: F811
    """Nothing is lost: what we wrote before, meanwhile and after arrives, and so does what it sends."""

    async def main():
        async with connected("client", "1.2") as (transport, protocol, server):
            server.type(b"before\n")
            await until(lambda: protocol.received == b"before\n")
            for count in (2, 3):
                if busy:
                    transport.write(PAYLOAD)
                server.type(b"r\n")
                await until(lambda count=count: server.handshakes() == count and b"Finished" in server.shown)
                transport.write(b"<%d>" % count)
                await until(lambda count=count: b"<%d>" % count in server.shown)
                server.type(b"after %d\n" % count)
                await until(lambda count=count: protocol.received.endswith(b"after %d\n" % count))
            await until(lambda: server.shown.count(b"\xfe") == busy * 2 * PAYLOAD.count(b"\xfe"))
            transport.close()
            await until(lambda: protocol.lost)
            return bytes(protocol.received), protocol.lost

    assert world.run(main) == (b"before\nafter 2\nafter 3\n", ["NoneType"])


def test_begun_by_the_client(world, engine):  # noqa: F811
    """OpenSSL 3 refuses it with an alert, and the connection goes on or ends as the client wishes."""

    async def main():
        async with connected("server", "1.2") as (transport, protocol, client):
            client.type(b"before\n")
            await until(lambda: protocol.received == b"before\n")
            transport.write(b"answer\n")
            await until(lambda: b"answer\n" in client.shown)
            client.type(b"R\n")
            await until(lambda: client.handshakes() == 2)
            await until(lambda: protocol.lost or b"no_renegotiation" in client.shown)
        await until(lambda: protocol.lost)
        return bytes(protocol.received)

    assert world.run(main, errors=[]) == b"before\n"


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("side", ["client", "server"])
def test_keys_are_updated(world, engine, side, asked, busy):  # noqa: F811
    """The peer's new keys are used at once. If it asks for ours, the answer goes out in front of our next data."""

    async def main():
        async with connected(side, "1.3") as (transport, protocol, peer):
            peer.type(b"before\n")
            await until(lambda: protocol.received == b"before\n")
            for count in (1, 2, 3):
                if busy:
                    transport.write(PAYLOAD)
                peer.type(b"K\n" if asked else b"k\n")
                await until(lambda count=count: peer.key_updates()[0] == count)
                # Only what comes behind the update tells that it was read.
                peer.type(b"after %d\n" % count)
                await until(lambda count=count: protocol.received.endswith(b"after %d\n" % count))
                transport.write(b"<%d>" % count)
                await until(lambda count=count: b"<%d>" % count in peer.shown)
            await until(lambda: peer.shown.count(b"\xfe") == busy * 3 * PAYLOAD.count(b"\xfe"))
            updates = peer.key_updates()
            transport.close()
            await until(lambda: protocol.lost)
            return bytes(protocol.received), updates, protocol.lost

    expected = (b"before\nafter 1\nafter 2\nafter 3\n", (3, 3 if asked else 0), ["NoneType"])
    assert world.run(main) == expected
