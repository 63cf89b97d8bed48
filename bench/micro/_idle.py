"""What an idle connection adds to a server's process. The other ends are sockets of another process (_idle_peers.py).

A connection is *fresh* when nothing was ever sent over it, *used* after one message of 32 KiB that came back: what
stays then are buffers that somebody kept.
"""

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any

from micro.sleeping_task_memory import resident_bytes

MESSAGE_LEN = 32 * 1024
BACKLOG = 4096
WARM = 50
SPARE = 100  # descriptors beside the connections


class Arrivals:
    def __init__(self) -> None:
        self.count = 0
        self.awaited = 0
        self.complete = asyncio.Event()

    def one_more(self) -> None:
        self.count += 1
        if self.count == self.awaited:
            self.complete.set()

    async def wait_for(self, count: int) -> None:
        self.awaited = count
        self.complete.clear()
        if self.count < count:
            await self.complete.wait()


class Echo(asyncio.Protocol):
    def __init__(self, arrivals: Arrivals) -> None:
        self.arrivals = arrivals

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.arrivals.one_more()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(kind: str, listener: socket.socket, arrivals: Arrivals, context: ssl.SSLContext | None) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrivals.one_more()
        while True:
            data = await reader.readexactly(MESSAGE_LEN)  # comes in parts, which the reader has to keep
            writer.write(data)
            del data  # what the program holds while it waits is not the loop's
            await writer.drain()

    if kind == "streams":
        return await asyncio.start_server(answer, sock=listener, backlog=BACKLOG, ssl=context)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Echo(arrivals), sock=listener, backlog=BACKLOG, ssl=context)


async def memory(count: int, variant: str, context: ssl.SSLContext | None = None) -> float:
    """Bytes per connection."""
    kind, _, use = variant.partition("/")
    allow_descriptors(count + WARM + SPARE)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    arrivals = Arrivals()
    server = await serve(kind, listener, arrivals, context)
    command = [sys.executable, str(Path(__file__).with_name("_idle_peers.py")), str(listener.getsockname()[1])]
    with subprocess.Popen(
        [*command, "tls" if context else "tcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peers:
        assert peers.stdin is not None and peers.stdout is not None

        async def tell(text: str) -> None:
            print(text, file=peers.stdin, flush=True)
            if await asyncio.to_thread(peers.stdout.readline) != "done\n":
                raise RuntimeError("the peers failed")

        async def connect(more: int) -> None:
            wanted = arrivals.count + more
            await tell(f"connect {more}")
            await arrivals.wait_for(wanted)
            if use == "used":
                await tell("use")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()

        await connect(WARM)
        before = resident_bytes()
        await connect(count)
        after = resident_bytes()
        assert peers.poll() is None
        assert server.is_serving()
        peers.kill()
    return (after - before) / count


def allow_descriptors(needed: int) -> None:
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if hard < needed:
        raise RuntimeError(f"{needed} descriptors are needed, RLIMIT_NOFILE allows {hard}")
    setrlimit(RLIMIT_NOFILE, (max(soft, needed), hard))
