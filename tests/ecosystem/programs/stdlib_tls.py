"""TLS through the stdlib's classes: streams of megabytes, ALPN, half-way upgrades of both ends (start_tls), TLS in
TLS, a BufferedProtocol, refusal of a wrong name, a peer that does not speak TLS, a hundred connections."""

import asyncio
import os
import ssl

import trustme

from outcome import report

BIG = os.urandom(6_000_000)


class Contexts:
    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(self.server)
        self.server.set_alpn_protocols(["second", "first"])
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)
        self.client.set_alpn_protocols(["first", "second"])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    async def send() -> None:
        for start in range(0, len(data), 300_000):
            writer.write(data[start : start + 300_000])
            await writer.drain()

    received, _ = await asyncio.gather(reader.readexactly(len(data)), send())
    assert received == data


async def plain_and_many(contexts: Contexts) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=contexts.server) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=contexts.client, server_hostname="localhost"
        )
        await exchange(reader, writer, BIG)
        assert not writer.can_write_eof()
        ssl_object = writer.get_extra_info("ssl_object")
        assert ssl_object.selected_alpn_protocol() == "second"
        assert writer.get_extra_info("cipher")
        assert writer.get_extra_info("peercert")["subjectAltName"]
        assert writer.get_extra_info("sslcontext") is contexts.client
        assert writer.get_extra_info("peername") == ("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

        async def one_of_many(number: int) -> None:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=contexts.client, server_hostname="localhost"
            )
            for step in range(5):
                await exchange(reader, writer, f"{number} {step}".encode() * 500)
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(one_of_many(number) for number in range(100)))

        reported: list[BaseException] = []
        loop = asyncio.get_running_loop()
        # In debug mode the server side reports a failed handshake, rightly.
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        try:
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=contexts.client, server_hostname="elsewhere", ssl_handshake_timeout=10
            )
        except ssl.SSLCertVerificationError:
            pass
        else:
            raise AssertionError("a certificate for another name was accepted")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        loop.set_exception_handler(None)
        assert all(isinstance(error, OSError) for error in reported), reported

    async def listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen_only, "127.0.0.1", 0) as silent:
        try:
            port = silent.sockets[0].getsockname()[1]
            await asyncio.open_connection("127.0.0.1", port, ssl=contexts.client, ssl_handshake_timeout=0.1)
        except ConnectionAbortedError:
            pass
        else:
            raise AssertionError("a handshake with nobody succeeded")


async def upgrade(contexts: Contexts) -> None:
    """STARTTLS as mail servers do it: both ends agree in clear text, then each makes its stream a TLS one."""
    upgraded = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.start_tls(contexts.server)
        upgraded.set()
        await echo(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        await writer.start_tls(contexts.client, server_hostname="localhost")
        await upgraded.wait()
        await exchange(reader, writer, BIG)
        assert writer.get_extra_info("ssl_object") is not None
        writer.close()
        await writer.wait_closed()


async def tls_in_tls(contexts: Contexts) -> None:
    """A tunnel: the outer server decrypts and forwards to the inner one, which decrypts again and echoes."""
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=contexts.server) as inner:
        inner_port = inner.sockets[0].getsockname()[1]

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", inner_port)
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=contexts.server) as outer:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", outer.sockets[0].getsockname()[1], ssl=contexts.client, server_hostname="localhost"
            )
            await writer.start_tls(contexts.client, server_hostname="localhost")
            await exchange(reader, writer, BIG[:2_000_000])
            writer.close()
            await writer.wait_closed()


class Collect(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        # A view, not the bytearray itself: the stdlib slices what it gets, and a slice of a bytearray is a copy.
        self.buffer = memoryview(bytearray(10_000))
        self.received = bytearray()
        self.finished = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        if len(self.received) == len(BIG):
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(exc or EOFError())
        self.lost.set_result(exc)


async def buffered(contexts: Contexts) -> None:
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=contexts.server) as server:
        transport, protocol = await loop.create_connection(
            Collect, "127.0.0.1", server.sockets[0].getsockname()[1], ssl=contexts.client, server_hostname="localhost"
        )
        transport.write(BIG)
        await protocol.finished
        assert protocol.received == BIG
        transport.close()
        assert await protocol.lost is None


async def main() -> None:
    contexts = Contexts()
    async with asyncio.timeout(40):
        await plain_and_many(contexts)
        await upgrade(contexts)
        await tls_in_tls(contexts)
        await buffered(contexts)
    report("TLS: 104 connections, start_tls, TLS in TLS")


if __name__ == "__main__":
    asyncio.run(main())
