"""asyncio's streams: readline, readuntil, readexactly, read, iteration, limits, drain under back-pressure, half-close,
connections that break, over TCP, a Unix socket and a socket of our own."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path

from outcome import report

BIG = os.urandom(8_000_000)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One command a line: what to do next with this connection."""
    async for line in reader:
        match line.split():
            case [b"echo", length]:
                writer.write(await reader.readexactly(int(length)))
                await writer.drain()
            case [b"lines", count]:
                writer.writelines(f"line {number}\n".encode() for number in range(int(count)))
            case [b"drip", count]:
                for number in range(int(count)):
                    writer.write(b"%d," % number)
                    await asyncio.sleep(0)
            case [b"big"]:
                for start in range(0, len(BIG), 100_000):
                    writer.write(BIG[start : start + 100_000])
                    await writer.drain()
            case [b"until-end"]:
                writer.write(b"%d\n" % len(await reader.read()))
                writer.write_eof()
            case [b"part"]:
                writer.write(b"half a li")
                break
            case [b"abort"]:
                writer.transport.abort()
                break
    writer.close()


async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for length in (1, 65535, 65536, 65537, 1_000_000):
        writer.write(b"echo %d\n" % length)
        writer.write(BIG[:length])
        await writer.drain()
        assert await reader.readexactly(length) == BIG[:length]

    writer.write(b"lines 10000\n")
    for number in range(10_000):
        assert await reader.readline() == b"line %d\n" % number
    writer.write(b"drip 500\n")
    for number in range(500):
        assert await reader.readuntil(b",") == b"%d," % number

    writer.write(b"big\n")
    await asyncio.sleep(0.05)  # everything that fits into the buffers is there now; the server waits in drain()
    received = bytearray()
    while len(received) < len(BIG):
        received += await reader.read(70_001)
    assert received == BIG

    try:
        async with asyncio.timeout(0.02):
            await reader.readline()
    except TimeoutError:
        pass
    else:
        raise AssertionError("a line came from nowhere")

    # Nobody reads what we write until all is written: drain has to wait, and the transport to say so.
    writer.write(b"until-end\n")
    for _ in range(4):
        writer.write(BIG)
        await writer.drain()
    writer.write_eof()
    assert await reader.readline() == b"%d\n" % (4 * len(BIG))
    assert await reader.read() == b""
    assert reader.at_eof()
    writer.close()
    await writer.wait_closed()
    assert writer.is_closing()


async def odd_ends(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"part\n")
    try:
        await reader.readexactly(100)
    except asyncio.IncompleteReadError as error:
        assert (error.partial, error.expected) == (b"half a li", 100)
    else:
        raise AssertionError("a part was taken for the whole")
    writer.close()
    await writer.wait_closed()

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"abort\n")
    assert await reader.read() == b""
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=100)
    writer.write(b"echo 1000\n" + b"x" * 1000)
    try:
        await reader.readline()
    except ValueError:
        pass
    else:
        raise AssertionError("a line longer than the limit was returned")
    writer.close()
    await writer.wait_closed()

    try:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            await asyncio.open_connection("127.0.0.1", unused.getsockname()[1])
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("somebody answered on a port nobody listens on")


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await use(*await asyncio.open_connection("127.0.0.1", port))
    await use(*await asyncio.open_connection("localhost", port, family=socket.AF_INET))
    await odd_ends(port)

    async def one_of_many() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for length in range(1, 25):
            writer.write(b"echo %d\n" % length + BIG[:length])
            assert await reader.readexactly(length) == BIG[:length]
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one_of_many() for _ in range(200)))
    server.close()

    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "stream.sock"))
        async with await asyncio.start_unix_server(serve, path):
            await use(*await asyncio.open_unix_connection(path))

    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(serve(*await asyncio.open_connection(sock=theirs)))
    await use(*await asyncio.open_connection(sock=ours))
    await serving
    report("streams: 206 connections over TCP, a Unix socket and a socket pair")


if __name__ == "__main__":
    asyncio.run(main())
