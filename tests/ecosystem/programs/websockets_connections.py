"""websockets, server and client: echo, fragments, compression, pings, broadcast, back-pressure, closing from either
side and without warning, TLS, a Unix socket, a hundred connections; and its older client, which feeds a
StreamReader of its own."""

import asyncio
import contextlib
import os
import ssl
import tempfile
import warnings
from pathlib import Path

import trustme
import websockets
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.asyncio.server import ServerConnection, broadcast, unix_serve

from outcome import report

BIG = os.urandom(5_000_000)


async def handler(connection: ServerConnection) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in connection:
            if message == "leave":
                await connection.close(4002, "as you wish")
            elif message == "vanish":
                connection.transport.abort()
            elif message == "flood":
                # More than the buffers hold: this waits until the client reads.
                for _ in range(20):
                    await connection.send(BIG[:1_000_000])
                await connection.send("done")
            else:
                await connection.send(message)


async def use(connection: ClientConnection) -> None:
    await connection.send("héllo")
    assert await connection.recv() == "héllo"
    await connection.send(BIG)
    assert await connection.recv() == BIG
    await connection.send(["a ", "few ", "fragments"])
    assert await connection.recv() == "a few fragments"
    latency = await (await connection.ping())
    assert latency >= 0

    await connection.send("flood")
    await asyncio.sleep(0.1)
    received = 0
    async for message in connection:
        if message == "done":
            break
        received += len(message)
    assert received == 20_000_000


async def one_of_many(url: str, number: int) -> None:
    async with websockets.connect(url) as connection:
        for step in range(10):
            await connection.send(f"{number} {step}")
        assert [await connection.recv() for _ in range(10)] == [f"{number} {step}" for step in range(10)]


async def close_in_every_way(url: str) -> None:
    async with websockets.connect(url) as connection:
        await connection.send("leave")
        try:
            await connection.recv()
        except websockets.ConnectionClosedError as error:
            assert error.rcvd is not None
            assert (error.rcvd.code, error.rcvd.reason) == (4002, "as you wish")
        else:
            raise AssertionError("the server did not leave")

    async with websockets.connect(url) as connection:
        await connection.send("vanish")
        try:
            await connection.recv()
        except websockets.ConnectionClosedError as error:
            assert error.rcvd is None
        else:
            raise AssertionError("the server did not vanish")

    connection = await websockets.connect(url)
    waiting = asyncio.create_task(connection.recv())
    await asyncio.sleep(0)
    waiting.cancel()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    await connection.send("still here")
    assert await connection.recv() == "still here"
    await connection.close()
    await connection.wait_closed()


async def use_old_client(url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from websockets.legacy.client import connect

        async with connect(url) as connection:
            await connection.send("old")
            assert await connection.recv() == "old"
            await connection.send(BIG[:500_000])
            assert await connection.recv() == BIG[:500_000]


async def main() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async with websockets.serve(handler, "127.0.0.1", 0, max_size=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for compression in (None, "deflate"):
            async with websockets.connect(url, max_size=None, compression=compression) as connection:
                await use(connection)
        await close_in_every_way(url)
        await use_old_client(url)
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(one_of_many(url, number))

        listeners = [await websockets.connect(url) for _ in range(20)]
        async with asyncio.timeout(10):
            while len(server.connections) < 20:
                await asyncio.sleep(0.01)
        broadcast(server.connections, "to everybody")
        assert [await listener.recv() for listener in listeners] == ["to everybody"] * 20
    for listener in listeners:  # the server has gone; it said so
        await listener.wait_closed()
        assert listener.close_code == 1001

    async with websockets.serve(handler, "localhost", 0, max_size=None, ssl=server_context) as server:
        url = f"wss://localhost:{server.sockets[0].getsockname()[1]}"
        async with websockets.connect(url, max_size=None, ssl=client_context, compression=None) as connection:
            await use(connection)

    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "ws.sock"))
        async with unix_serve(handler, path, max_size=None):
            async with unix_connect(path, max_size=None, compression=None) as connection:
                await use(connection)
    report("websockets: 128 connections")


if __name__ == "__main__":
    asyncio.run(main())
