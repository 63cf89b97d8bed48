"""aiohttp WebSockets: text, binary, JSON, megabytes, compression, heartbeats, both ways of closing, many at once."""

import asyncio
import os

import aiohttp
from aiohttp import WSMsgType, web

from outcome import report


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0, heartbeat=5)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            if message.data == "goodbye":
                await socket.close(code=4001, message=b"as you wish")
            else:
                await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def talk(session: aiohttp.ClientSession, number: int) -> None:
    async with session.ws_connect("/echo") as socket:
        for step in range(20):
            await socket.send_json({"from": number, "step": step})
        for step in range(20):
            assert await socket.receive_json(timeout=10) == {"from": number, "step": step}


async def main() -> None:
    application = web.Application()
    application.router.add_get("/echo", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    big = os.urandom(3_000_000)

    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        for compress in (0, 15):
            async with session.ws_connect("/echo", max_msg_size=0, compress=compress) as socket:
                await socket.send_str("héllo")
                assert await socket.receive_str() == "héllo"
                await socket.send_bytes(big)
                assert await socket.receive_bytes() == big
                await socket.ping()
                await socket.send_str("after the ping")
                assert await socket.receive_str() == "after the ping"
            assert socket.close_code == 1000

        async with session.ws_connect("/echo") as socket:
            await socket.send_str("goodbye")
            message = await socket.receive()
            assert message.type is WSMsgType.CLOSE
            assert message.data == 4001
            assert message.extra == "as you wish"

        async with session.ws_connect("/echo", heartbeat=0.4) as socket:
            try:
                # Not receive(timeout=...): each answered heartbeat would start that one anew.
                async with asyncio.timeout(1):
                    await socket.receive()
            except TimeoutError:
                pass
            else:
                raise AssertionError("nothing was sent")
            assert not socket.closed, "the heartbeat was not answered"

        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(talk(session, number))
    await runner.cleanup()
    report("aiohttp: 34 WebSocket conversations")


if __name__ == "__main__":
    asyncio.run(main())
