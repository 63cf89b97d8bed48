"""loop.sendfile over TCP, a Unix socket and TLS (there by its fallback), loop.sock_sendfile, offsets and counts, data
written before and after, a peer that goes away, and what cannot be sent."""

import asyncio
import os
import socket
import ssl
import tempfile
from pathlib import Path

import trustme

from outcome import report

BIG = os.urandom(6_000_000)


async def send_all(path: Path, writer: asyncio.StreamWriter, *, fallback: bool) -> None:
    loop = asyncio.get_running_loop()
    with path.open("rb") as file:
        writer.write(b"before")
        assert await loop.sendfile(writer.transport, file, fallback=fallback) == len(BIG)
        assert file.tell() == len(BIG)
        writer.write(b"between")
        assert await loop.sendfile(writer.transport, file, 1000, 70_000, fallback=fallback) == 70_000
        assert file.tell() == 71_000
        assert await loop.sendfile(writer.transport, file, len(BIG), fallback=fallback) == 0
        writer.write(b"after")
    writer.close()


EXPECTED = b"before" + BIG + b"between" + BIG[1000:71_000] + b"after"


async def over_streams(path: Path, directory: Path) -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async with await asyncio.start_server(
        lambda reader, writer: send_all(path, writer, fallback=False), "127.0.0.1", 0
    ) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        await asyncio.sleep(0.05)  # the buffers are full by now: sendfile has to wait
        assert await reader.read() == EXPECTED
        writer.close()
        await writer.wait_closed()

    socket_path = str(directory / "stream.sock")
    async with await asyncio.start_unix_server(
        lambda reader, writer: send_all(path, writer, fallback=False), socket_path
    ):
        reader, writer = await asyncio.open_unix_connection(socket_path)
        assert await reader.read() == EXPECTED
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(
        lambda reader, writer: send_all(path, writer, fallback=True), "127.0.0.1", 0, ssl=server_context
    ) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.sockets[0].getsockname()[1], ssl=client_context, server_hostname="localhost"
        )
        assert await reader.read() == EXPECTED
        writer.close()
        await writer.wait_closed()


async def refusals(path: Path) -> None:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[BaseException | None] = loop.create_future()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with path.open("rb") as file:
                while True:
                    await loop.sendfile(writer.transport, file, fallback=False)
        except (OSError, RuntimeError) as error:
            outcome.set_result(error)
        finally:
            writer.close()

    async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        await reader.readexactly(100_000)
        writer.transport.abort()
        assert isinstance(await outcome, ConnectionError | RuntimeError), outcome

        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        with path.open("rb") as file:
            writer.transport.close()
            try:
                await loop.sendfile(writer.transport, file)
            except RuntimeError:
                pass
            else:
                raise AssertionError("a file was sent on a closed transport")
        outcome = loop.create_future()
        await asyncio.wait([outcome], timeout=10)


async def bare_sockets(path: Path) -> None:
    loop = asyncio.get_running_loop()

    async def collect(source: socket.socket) -> bytes:
        received = bytearray()
        while data := await loop.sock_recv(source, 100_000):
            received += data
        return bytes(received)

    for family in ("unix", "tcp"):
        if family == "unix":
            ours, theirs = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ours = socket.create_connection(listener.getsockname())
                theirs, _ = listener.accept()
        with ours, theirs, path.open("rb") as file:
            ours.setblocking(False)
            theirs.setblocking(False)
            receiving = asyncio.create_task(collect(theirs))
            assert await loop.sock_sendfile(ours, file, fallback=False) == len(BIG)
            assert await loop.sock_sendfile(ours, file, 10, 20, fallback=False) == 20
            ours.shutdown(socket.SHUT_WR)
            assert await receiving == BIG + BIG[10:30]


async def main() -> None:
    async with asyncio.timeout(40):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            path = directory / "file"
            path.write_bytes(BIG)
            await over_streams(path, directory)
            await refusals(path)
            await bare_sockets(path)
    report("sendfile: TCP, Unix, TLS, bare sockets")


if __name__ == "__main__":
    asyncio.run(main())
