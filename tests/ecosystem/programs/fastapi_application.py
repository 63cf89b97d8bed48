"""The FastAPI application that uvicorn serves in these tests, in its own process or inside a program."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

CHUNK = b"0123456789abcdef" * 4096
CHUNKS = 128  # 8 MiB


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    application.state.noted = []
    yield
    application.state.noted.clear()


application = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float


async def scale() -> int:
    await asyncio.sleep(0)
    return 2


@application.get("/loop")
async def loop_class() -> dict[str, str | int]:
    loop = type(asyncio.get_running_loop())
    return {"loop": f"{loop.__module__}.{loop.__qualname__}", "process": os.getpid()}


@application.post("/items/{number}")
async def make_item(number: int, item: Item, factor: int = Depends(scale)) -> dict[str, str | float]:
    return {"name": item.name * number, "price": item.price * factor}


@application.get("/thread")
def in_a_thread() -> dict[str, bool]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return {"in_loop": False}
    return {"in_loop": True}


@application.get("/missing")
async def missing() -> None:
    raise HTTPException(404, "nothing here")


@application.post("/digest")
async def digest(request: Request) -> PlainTextResponse:
    result = hashlib.sha256()
    async for chunk in request.stream():
        result.update(chunk)
    return PlainTextResponse(result.hexdigest())


@application.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(CHUNKS):
            yield CHUNK
            if number % 32 == 0:
                await asyncio.sleep(0.001)

    return StreamingResponse(chunks())


@application.post("/note")
async def note(text: str, background: BackgroundTasks) -> None:
    async def remember() -> None:
        await asyncio.sleep(0)
        application.state.noted.append(text)

    background.add_task(remember)


@application.get("/noted")
async def noted() -> list[str]:
    notes: list[str] = application.state.noted
    return notes


@application.get("/slow")
async def slow(request: Request) -> None:
    """Answers nobody: it ends when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@application.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_bytes(await socket.receive_bytes())
    except WebSocketDisconnect:
        pass
