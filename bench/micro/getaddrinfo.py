"""`loop.getaddrinfo()` of a name that the hosts file has, and of an address in numbers, as each connection to one
makes it."""

import asyncio
import socket
from typing import Any

TITLE = "getaddrinfo,"
VARIANTS = ("localhost", "127.0.0.1")
UNIT = 500
CORES = 2
DETERMINISTIC = False


async def bench(count: int, timed: Any, variant: str) -> None:
    loop = asyncio.get_running_loop()
    with timed:
        for _ in range(count):
            await loop.getaddrinfo(variant, 80, type=socket.SOCK_STREAM)
