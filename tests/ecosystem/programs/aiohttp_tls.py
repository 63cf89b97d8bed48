"""aiohttp over TLS: requests, megabytes, WebSockets, a client certificate, refusal of a wrong one, and a CONNECT
proxy (the client then starts TLS on a connection that already exists)."""

import asyncio
import io
import os
import ssl

import aiohttp
import trustme
from aiohttp import web

from outcome import report

BIG = os.urandom(5_000_000)


async def echo(request: web.Request) -> web.Response:
    assert request.transport is not None
    certificate = request.transport.get_extra_info("peercert")
    return web.Response(body=await request.read(), headers={"X-Certificate": "yes" if certificate else "no"})


async def echo_socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(message.data)
    return socket


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = request.decode().split(" ", 2)
    assert method == "CONNECT"
    host, _, port = target.rpartition(":")
    upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(relay(reader, upstream_writer), relay(upstream_reader, writer))


async def main() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server_context)
    authority.configure_trust(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    application = web.Application(client_max_size=2**30)
    application.router.add_post("/", echo)
    application.router.add_get("/socket", echo_socket)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/"

    connector = aiohttp.TCPConnector(ssl=client_context)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        for body in (b"small", BIG):
            async with session.post("/", data=io.BytesIO(body)) as response:
                assert await response.read() == body
                assert response.headers["X-Certificate"] == "no"
        async with session.ws_connect("/socket", max_msg_size=0) as socket:
            await socket.send_bytes(BIG)
            assert await socket.receive_bytes() == BIG

        async def post(number: int) -> bool:
            async with session.post("/", data=str(number)) as response:
                return await response.text() == str(number)

        assert all(await asyncio.gather(*(post(number) for number in range(100))))

    authority.issue_cert("me@example.org").configure_cert(client_context)
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=client_context)) as session:
        async with session.post("/", data=b"who am I?") as response:
            assert response.headers["X-Certificate"] == "yes"

        proxy_server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        proxy_url = f"http://127.0.0.1:{proxy_server.sockets[0].getsockname()[1]}"
        async with session.post("/", data=io.BytesIO(BIG), proxy=proxy_url) as response:
            assert await response.read() == BIG

    # In debug mode the server side reports the failed handshake, rightly.
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    async with aiohttp.ClientSession(url) as stranger:
        try:
            await stranger.post("/", data=b"")
        except aiohttp.ClientConnectorCertificateError:
            pass
        else:
            raise AssertionError("a certificate nobody vouches for was accepted")

    proxy_server.close()
    await runner.cleanup()
    assert all(isinstance(error, OSError) for error in reported), reported
    report("aiohttp: TLS requests, WebSockets, client certificates, a proxy")


if __name__ == "__main__":
    asyncio.run(main())
