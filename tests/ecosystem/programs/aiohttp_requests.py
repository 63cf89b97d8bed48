"""aiohttp, client and server: requests of every kind, forms, errors, keep-alive, many at once, a Unix socket."""

import asyncio
import tempfile
from pathlib import Path

import aiohttp
from aiohttp import web

from outcome import report


async def reflect(request: web.Request) -> web.Response:
    assert request.transport is not None
    peer = request.transport.get_extra_info("peername")
    return web.json_response(
        {
            "method": request.method,
            "query": dict(request.query),
            "body": await request.text(),
            "client_port": peer[1] if peer else None,
        }
    )


async def form(request: web.Request) -> web.Response:
    fields = await request.post()
    upload = fields["file"]
    assert isinstance(upload, web.FileField)
    return web.Response(body=upload.file.read(), headers={"X-Name": upload.filename, "X-Note": str(fields["note"])})


async def fail(request: web.Request) -> web.Response:
    raise web.HTTPConflict(text="somebody was quicker")


async def redirect(request: web.Request) -> web.Response:
    raise web.HTTPFound("/reflect?redirected=yes")


def make_application() -> web.Application:
    application = web.Application(client_max_size=16 * 1024 * 1024)
    application.router.add_route("*", "/reflect", reflect)
    application.router.add_post("/form", form)
    application.router.add_get("/fail", fail)
    application.router.add_get("/redirect", redirect)
    return application


async def use(session: aiohttp.ClientSession) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        async with session.request(method, "/reflect", params={"a": "1 & 2"}, data="héllo") as response:
            answer = await response.json()
            assert response.status == 200
            assert (answer["method"], answer["query"], answer["body"]) == (method, {"a": "1 & 2"}, "héllo")

    body = aiohttp.FormData()
    body.add_field("note", "ünicode")
    body.add_field("file", b"\0\xff" * 100_000, filename="data.bin", content_type="application/octet-stream")
    async with session.post("/form", data=body) as response:
        assert response.headers["X-Name"] == "data.bin"
        assert response.headers["X-Note"] == "ünicode"
        assert await response.read() == b"\0\xff" * 100_000

    async with session.get("/fail") as response:
        assert response.status == 409
        assert await response.text() == "somebody was quicker"
    async with session.get("/redirect") as response:
        assert (await response.json())["query"] == {"redirected": "yes"}
        assert len(response.history) == 1
    async with session.get("/nowhere") as response:
        assert response.status == 404


async def client_port(session: aiohttp.ClientSession, **headers: str) -> int:
    async with session.get("/reflect", headers=headers) as response:
        port = (await response.json())["client_port"]
        assert isinstance(port, int)
        return port


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        socket_path = str(Path(directory, "http.sock"))
        runner = web.AppRunner(make_application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await web.UnixSite(runner, socket_path).start()
        port = runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}"

        async with aiohttp.ClientSession(url) as session:
            await use(session)

            # Keep-alive: one connection for requests in a row, a new one once somebody asked to close it.
            ports = {await client_port(session) for _ in range(20)}
            assert len(ports) == 1, ports
            assert await client_port(session, Connection="close") in ports
            assert await client_port(session) not in ports

        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=50)) as session:
            many = await asyncio.gather(*(client_port(session) for _ in range(500)))
            assert len(many) == 500
            assert 1 < len(set(many)) <= 50

        async with aiohttp.ClientSession("http://here", connector=aiohttp.UnixConnector(socket_path)) as session:
            await use(session)

        await runner.cleanup()
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(url)
            except aiohttp.ClientConnectorError:
                pass
            else:
                raise AssertionError("the closed server still answers")
    report("aiohttp: 560 requests over TCP and a Unix socket")


if __name__ == "__main__":
    asyncio.run(main())
