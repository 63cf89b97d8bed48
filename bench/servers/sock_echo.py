"""An echo on bare sockets: sock_recv with a generous size, sock_sendall."""

import asyncio
import socket
from collections.abc import Callable

RECEIVE = 256 * 1024


async def answer(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        while data := await loop.sock_recv(connection, RECEIVE):
            await loop.sock_sendall(connection, data)


async def serve(listener: socket.socket, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()
    ready()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the transports do by themselves
        task = asyncio.create_task(answer(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
