"""Bytes that arrived before start_tls() belong to the plain protocol; what follows is the handshake. Nothing is lost.

zuvloop#85, zuvloop#174: buffered data was dropped, and an OSError during the handshake was not reported.
"""

import asyncio
import ssl
import subprocess

import pytest
from worlds import araised


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    made = subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl command")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


def test_upgrade_of_a_plain_connection(world, contexts):
    """As STARTTLS does it: a plain line each way, then TLS on the same connection."""
    server_side, client_side = contexts

    class Stream(asyncio.Protocol):
        def __init__(self):
            self.data, self.waiter, self.transport = bytearray(), None, None

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.data += data
            if self.waiter is not None and not self.waiter.done():
                self.waiter.set_result(None)

        async def line(self):
            while b"\n" not in self.data:
                self.waiter = asyncio.get_running_loop().create_future()
                await self.waiter
            line, _, rest = bytes(self.data).partition(b"\n")
            self.data[:] = rest
            return line

    async def main():
        loop, served = world.aio.get_running_loop(), []

        async def serve(proto):
            served.append(await proto.line())
            proto.transport.write(b"ready\n")
            transport = await loop.start_tls(proto.transport, proto, server_side, server_side=True)
            served.append(await proto.line())
            transport.write(b"secret answer\n")

        class Server(Stream):
            def connection_made(self, transport):
                if self.transport is None:
                    super().connection_made(transport)
                    tasks.append(loop.create_task(serve(self)))

        tasks = []
        server = await loop.create_server(Server, "127.0.0.1", 0)
        transport, client = await loop.create_connection(Stream, *server.sockets[0].getsockname())
        transport.write(b"starttls\n")
        assert await client.line() == b"ready"
        upgraded = await loop.start_tls(transport, client, client_side, server_hostname="localhost")
        upgraded.write(b"secret\n")
        assert await client.line() == b"secret answer"
        assert upgraded.get_extra_info("ssl_object").version().startswith("TLS")
        upgraded.abort()
        await asyncio.gather(*tasks)
        server.close()
        await asyncio.sleep(0.01)
        return served

    assert world.run(main, errors=[]) == [b"starttls", b"secret"]


def test_a_connection_that_breaks_in_the_handshake_is_reported(world, contexts):
    _, client_side = contexts

    class Rude(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.abort()

    async def main():
        loop = world.aio.get_running_loop()
        server = await loop.create_server(Rude, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        answer = await araised(
            asyncio.wait_for(
                loop.create_connection(
                    asyncio.Protocol, "127.0.0.1", port, ssl=client_side, server_hostname="localhost"
                ),
                10,
            )
        )
        server.close()
        await asyncio.sleep(0)
        return answer

    assert world.run(main, errors=[])[0] in (
        "ConnectionResetError",
        "ConnectionAbortedError",
        "SSLEOFError",
        "SSLError",
    )


def test_a_handshake_that_came_with_the_request(ours, contexts):
    """The client does not wait for an answer: its request and the beginning of its handshake are one packet.

    cpython#142352: before that, streams kept the handshake's beginning for themselves.
    """
    server_side, client_side = contexts

    async def main():
        aio, done = ours.aio, asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            try:
                assert await reader.readline() == b"starttls\n"
                await writer.start_tls(server_side, ssl_handshake_timeout=5)
                writer.write(await reader.readexactly(5))
                await writer.drain()
                writer.close()
                done.set_result(None)
            except Exception as exc:
                done.set_exception(exc)

        server = await aio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_side.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(b"starttls\n" + outgoing.read())

        async def step(call, *args):
            while True:
                try:
                    return call(*args)
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    data = await reader.read(65536)
                    assert data, "the server gave up"
                    incoming.write(data)

        await asyncio.wait_for(step(tls.do_handshake), 10)
        tls.write(b"hello")
        writer.write(outgoing.read())
        answer = await step(tls.read, 5)
        await done
        writer.close()
        server.close()
        return answer

    assert ours.run(main, errors=[]) == b"hello"
