"""An aiohttp server and its client under faults: a response is whole, or the request fails."""

import asyncio
import hashlib
from typing import Any

import aiohttp
import asynchrotron
import pytest
from aiohttp import web
from faulted import GENTLE, HARSH, faulted, injected

REQUESTS = 6


@pytest.fixture(autouse=True)
def installed() -> Any:
    """aiohttp uses asyncio's names."""
    asynchrotron.install()
    yield
    asynchrotron.uninstall()


def body_of(number: int, size: int) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(size)


async def exchange(random: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        number, size = int(request.query["number"]), int(request.query["size"])
        sent = await request.read()
        assert sent == body_of(-number, len(sent)), "the server got other bytes than the client sent"
        if number % 2:
            return web.Response(body=body_of(number, size))
        response = web.StreamResponse()
        await response.prepare(request)
        data = body_of(number, size)
        for start in range(0, size, 10_000):
            await response.write(data[start : start + 10_000])
        await response.write_eof()
        return response

    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    connector = aiohttp.TCPConnector(limit=3)
    try:
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(number: int) -> None:
                size = random.choice((0, 10, 5000, 100_000))
                data = body_of(-number, random.choice((0, 10, 5000, 100_000)))
                where = f"http://127.0.0.1:{port}/?number={number}&size={size}"
                async with session.post(where, data=data) as response:
                    received = await response.read()
                    if response.status == 200:
                        assert received == body_of(number, size), "bytes were lost, mixed up or came twice"

            outcomes = await asyncio.gather(*(one(number) for number in range(REQUESTS)), return_exceptions=True)
        for outcome in outcomes:
            # aiohttp's own errors say that the connection broke; anything else must be an injected one.
            if outcome is not None and not isinstance(outcome, aiohttp.ClientError) and not injected(outcome):
                raise outcome
    finally:
        await connector.close()
        await runner.cleanup()
        await asyncio.sleep(0.001)


@faulted(GENTLE)
async def test_an_http_server_notices_nothing_of_gentle_faults(random: Any) -> None:
    await exchange(random)


@faulted(HARSH)
async def test_an_http_server(random: Any) -> None:
    await exchange(random)
