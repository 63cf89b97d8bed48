"""aiohttp under time limits and cancellation: total, connect and read timeouts, a cancelled request, and a server
that stops waiting for a slow handler."""

import asyncio
import socket
from collections.abc import Callable

import aiohttp
from aiohttp import ClientTimeout, web

from outcome import report


class Service:
    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0

    async def slow(self, request: web.Request) -> web.Response:
        self.started += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return web.Response()

    async def dripping(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await asyncio.sleep(60)
        return response

    async def quick(self, request: web.Request) -> web.Response:
        return web.Response(text="quick")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def expect_timeout(session: aiohttp.ClientSession, path: str, timeout: ClientTimeout) -> None:
    try:
        async with asyncio.timeout(10), session.get(path, timeout=timeout) as response:
            await response.read()
    except TimeoutError:
        return
    raise AssertionError(f"{path} did not time out")


async def main() -> None:
    service = Service()
    application = web.Application()
    application.router.add_get("/slow", service.slow)
    application.router.add_get("/dripping", service.dripping)
    application.router.add_get("/quick", service.quick)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    loop = asyncio.get_running_loop()
    started = loop.time()

    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        await expect_timeout(session, "/slow", ClientTimeout(total=0.05))
        await expect_timeout(session, "/slow", ClientTimeout(sock_read=0.05))
        await expect_timeout(session, "/dripping", ClientTimeout(sock_read=0.05))
        async with session.get("/quick", timeout=ClientTimeout(total=10)) as response:
            assert await response.text() == "quick"

        started_before = service.started
        request = asyncio.create_task(session.get("/slow"))
        await until(lambda: service.started > started_before)
        request.cancel("no longer wanted")
        try:
            await request
        except asyncio.CancelledError as error:
            assert error.args in {("no longer wanted",), ()}
        else:
            raise AssertionError("the request was not cancelled")
        # The server notices that its clients have gone.
        await until(lambda: service.cancelled == service.started)

        # Something that listens but never answers a handshake: its backlog is full.
        with socket.socket() as deaf, socket.socket() as filler, socket.socket() as filler2:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            for client in (filler, filler2):
                client.setblocking(False)
                client.connect_ex(deaf.getsockname())
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
            async with aiohttp.ClientSession() as elsewhere:
                await expect_timeout(elsewhere, url, ClientTimeout(sock_connect=0.1))

        # One connection only, and it is busy: the second request waits for the pool, not for the network.
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{runner.addresses[0][1]}", connector=aiohttp.TCPConnector(limit=1)
        ) as narrow:
            started_before = service.started
            busy = asyncio.create_task(narrow.get("/slow"))
            await until(lambda: service.started > started_before)
            await expect_timeout(narrow, "/quick", ClientTimeout(connect=0.05))
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)

        started_before = service.started
        lingering = asyncio.create_task(session.get("/slow"))
        await until(lambda: service.started > started_before)
        await runner.cleanup()
        (result,) = await asyncio.gather(lingering, return_exceptions=True)
        assert isinstance(result, aiohttp.ClientError), result
    elapsed = loop.time() - started
    assert elapsed < 30, elapsed
    report("aiohttp: 5 kinds of timeout, cancellation, bounded shutdown")


if __name__ == "__main__":
    asyncio.run(main())
