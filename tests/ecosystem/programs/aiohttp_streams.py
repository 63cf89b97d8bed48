"""aiohttp bodies of many megabytes: chunked upload, streamed download with back-pressure, files by sendfile, both
ends going away in the middle."""

import asyncio
import hashlib
import io
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from outcome import report

CHUNK = os.urandom(64 * 1024)
CHUNKS = 256  # 16 MiB
DIGEST = hashlib.sha256(CHUNK * CHUNKS).hexdigest()


class Service:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.left = asyncio.Event()

    async def upload(self, request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for chunk in request.content.iter_chunked(100_000):
            digest.update(chunk)
        return web.Response(text=digest.hexdigest())

    async def download(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(CHUNKS):
            await response.write(CHUNK)
        await response.write_eof()
        return response

    async def send_file(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self.file)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(CHUNK)
        except ConnectionError:
            self.left.set()
        return response

    async def broken(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(CHUNK)
        assert request.transport is not None
        request.transport.abort()
        return response


async def chunks(pause: float = 0) -> AsyncIterator[bytes]:
    for number in range(CHUNKS):
        yield CHUNK
        if number % 64 == 0:
            await asyncio.sleep(pause)


async def digest_of(response: aiohttp.ClientResponse) -> str:
    digest = hashlib.sha256()
    async for chunk in response.content.iter_any():
        digest.update(chunk)
    return digest.hexdigest()


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "file.bin")
        file.write_bytes(CHUNK * CHUNKS)
        service = Service(file)
        application = web.Application(client_max_size=2**30)
        application.router.add_post("/upload", service.upload)
        application.router.add_get("/download", service.download)
        application.router.add_get("/file", service.send_file)
        application.router.add_get("/endless", service.endless)
        application.router.add_get("/broken", service.broken)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()

        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            for body in (chunks(), chunks(0.001), io.BytesIO(CHUNK * CHUNKS)):
                async with session.post("/upload", data=body) as response:
                    assert await response.text() == DIGEST
            with file.open("rb") as opened:
                async with session.post("/upload", data=opened) as response:
                    assert await response.text() == DIGEST

            for path in ("/download", "/file"):
                async with session.get(path) as response:
                    assert await digest_of(response) == DIGEST
            async with session.get("/file", headers={"Range": "bytes=65530-65545"}) as response:
                assert response.status == 206
                assert await response.read() == (CHUNK * 2)[65530:65546]

            async def fetch() -> str:
                async with session.get("/download") as response:
                    await asyncio.sleep(0.05)  # the server has to wait for us
                    return await digest_of(response)

            assert set(await asyncio.gather(*(fetch() for _ in range(4)))) == {DIGEST}

            async with session.get("/endless") as response:
                await response.content.readexactly(1_000_000)
                response.close()
            async with asyncio.timeout(10):
                await service.left.wait()

            async with session.get("/broken") as response:
                try:
                    await response.read()
                except aiohttp.ClientPayloadError:
                    pass
                else:
                    raise AssertionError("a cut-off body was taken for a whole one")
        await runner.cleanup()
    report(f"aiohttp: {10 * CHUNKS * len(CHUNK) >> 20} MiB streamed")


if __name__ == "__main__":
    asyncio.run(main())
