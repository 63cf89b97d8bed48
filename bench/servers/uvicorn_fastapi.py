"""A FastAPI route with a path and a query parameter that answers a pydantic model, under uvicorn with httptools."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Item(BaseModel):
    number: int
    label: str
    tags: list[str]


application = FastAPI(openapi_url=None)


@application.get("/items/{number}")
async def item(number: int, label: str = "none") -> Item:
    return Item(number=number, label=label, tags=["a", "b"])


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        application, http="httptools", ws="none", lifespan="off", log_level="warning", access_log=False
    )
    ready()
    await uvicorn.Server(config).serve(sockets=[listener])
