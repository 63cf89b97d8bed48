"""anyio's own sockets: TCP by name (happy eyeballs), Unix, UDP, TLS, half-close, back-pressure; files, processes,
signals."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener, TLSStream

from outcome import report

BIG = os.urandom(4_000_000)


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)
        await stream.send_eof()


async def tls_echo(stream: TLSStream) -> None:
    # No half-close in TLS: the number of bytes is agreed on.
    async with stream:
        left = len(BIG)
        while left:
            chunk = await stream.receive()
            left -= len(chunk)
            await stream.send(chunk)


async def exchange(stream: ByteStream) -> None:
    async with stream:
        received = bytearray()
        async with anyio.create_task_group() as group:

            async def send() -> None:
                await stream.send(BIG)
                await stream.send_eof()

            group.start_soon(send)
            async for chunk in stream:
                received += chunk
        assert received == BIG


async def tcp_and_unix(directory: Path) -> None:
    async with anyio.create_task_group() as group:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        group.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        for host in ("127.0.0.1", "localhost"):
            await exchange(await anyio.connect_tcp(host, port))

        unix_listener = await anyio.create_unix_listener(directory / "echo.sock")
        group.start_soon(unix_listener.serve, echo)
        await exchange(await anyio.connect_unix(directory / "echo.sock"))

        async def one_of_many(number: int) -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                buffered = BufferedByteReceiveStream(stream)
                for step in range(10):
                    await stream.send(f"{number} {step}\n".encode())
                    assert await buffered.receive_until(b"\n", 100) == f"{number} {step}".encode()

        async with anyio.create_task_group() as many:
            for number in range(50):
                many.start_soon(one_of_many, number)

        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            with anyio.move_on_after(0.02) as scope:
                await stream.receive()
            assert scope.cancelled_caught
            await stream.send(b"still here")
            assert await stream.receive() == b"still here"
        group.cancel_scope.cancel()
    await listener.aclose()
    await unix_listener.aclose()
    try:
        await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        pass
    else:
        raise AssertionError("the closed listener still answers")


async def tls() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    tcp_listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = tcp_listener.extra(SocketAttribute.local_port)
    listener = TLSListener(tcp_listener, server_context)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, tls_echo)
        async with await anyio.connect_tcp("localhost", port, ssl_context=client_context) as stream:
            received = bytearray()
            async with anyio.create_task_group() as both:
                both.start_soon(stream.send, BIG)
                while len(received) < len(BIG):
                    received += await stream.receive()
            assert received == BIG
        group.cancel_scope.cancel()
    await listener.aclose()


async def udp() -> None:
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
        port = server.extra(SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
            for number in range(50):
                await client.send(f"packet {number}".encode())
                packet, address = await server.receive()
                await server.sendto(packet.upper(), *address)
                assert await client.receive() == f"PACKET {number}".encode()


async def processes_and_signals(directory: Path) -> None:
    script = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1]); sys.exit(3)"
    completed = await anyio.run_process([sys.executable, "-c", script], input=BIG, check=False)
    assert completed.returncode == 3
    assert completed.stdout == BIG[::-1]

    async with await anyio.open_process("read line; echo got $line; exec sleep 60") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"something\n")
        assert await process.stdout.receive() == b"got something\n"
        process.terminate()
        assert await process.wait() == -signal.SIGTERM

    try:
        await anyio.run_process([sys.executable, "-c", "raise SystemExit(5)"])
    except subprocess.CalledProcessError as error:
        assert error.returncode == 5
    else:
        raise AssertionError("the failure was not noticed")

    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await anext(signals) == signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGUSR2)
        assert await anext(signals) == signal.SIGUSR2

    path = anyio.Path(directory / "file")
    assert await path.write_bytes(BIG) == len(BIG)
    async with await anyio.open_file(path, "rb") as file:
        assert await file.read() == BIG


async def main() -> None:
    async with asyncio.timeout(40):
        with tempfile.TemporaryDirectory() as name:
            await tcp_and_unix(Path(name))
            await tls()
            await udp()
            await processes_and_signals(Path(name))
    report("anyio: TCP, Unix, TLS, UDP, processes, signals, files")


if __name__ == "__main__":
    asyncio.run(main())
