"""A TLS 1.2 peer that begins another handshake in the middle of a connection: OpenSSL's own programs do on demand."""

import asyncio
import contextlib
import ssl
import subprocess
import threading

import pytest
from tls_wires import client_context, engine, folder, server_context  # noqa: F401
from worlds import until

PAYLOAD = bytes(range(32, 127)) * 3000  # no newline: a line would be a command


class Program:
    """`openssl s_server` or `s_client`: lines on its standard input are data, or commands; it shows each message."""

    def __init__(self, *arguments):
        command = ["openssl", *arguments, "-tls1_2", "-msg", "-cert", "server.pem", "-key", "server.key"]
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

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def program(*arguments):
    running = Program(*arguments)
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


@pytest.mark.parametrize("busy", [False, True])
def test_begun_by_the_server(world, engine, busy):  # noqa: F811
    """Nothing is lost: what we wrote before, meanwhile and after arrives, and so does what it sends."""

    async def main():
        loop = asyncio.get_running_loop()
        with program("s_server", "-accept", "127.0.0.1:0") as server:
            await until(lambda: b"ACCEPT 127.0.0.1:" in server.shown and server.shown.endswith(b"\n"))
            port = int(server.shown.split(b"ACCEPT 127.0.0.1:")[1].split()[0])
            context = client_context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            transport, protocol = await loop.create_connection(
                Keeper, "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
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
            # A byte that only the payload has.
            await until(lambda: server.shown.count(b"~") == busy * 2 * PAYLOAD.count(b"~"))
            transport.close()
            await until(lambda: protocol.lost)
            return bytes(protocol.received), protocol.lost

    assert world.run(main) == (b"before\nafter 2\nafter 3\n", ["NoneType"])


def test_begun_by_the_client(world, engine):  # noqa: F811
    """OpenSSL 3 refuses it with an alert, and the connection goes on or ends as the client wishes."""

    async def main():
        loop = asyncio.get_running_loop()
        protocol = Keeper()
        context = server_context()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=context)
        host, port = server.sockets[0].getsockname()
        with program("s_client", "-connect", f"{host}:{port}") as client:
            client.type(b"before\n")
            await until(lambda: protocol.received == b"before\n")
            protocol.transport.write(b"answer\n")
            await until(lambda: b"answer\n" in client.shown)
            client.type(b"R\n")
            await until(lambda: client.handshakes() == 2)
            await until(lambda: protocol.lost or b"no_renegotiation" in client.shown)
        await until(lambda: protocol.lost)
        server.close()
        return bytes(protocol.received)

    assert world.run(main, errors=[]) == b"before\n"
