"""Peers as processes, and what a test must not leave behind."""

import asyncio
import contextlib
import functools
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asynchrotron

PEERS = Path(__file__).with_name("peers.py")


class Peer:
    """A process of peers.py. It says a word and some JSON per line, and goes on when it is told to."""

    def __init__(self, process: Any) -> None:
        self.process = process

    async def says(self, word: str) -> Any:
        line = await self.process.stdout.readline()
        said, _, rest = line.decode().partition(" ")
        assert said.strip() == word, f"the peers said {line!r} instead of {word}; their error is above"
        return json.loads(rest) if rest else None

    def tell(self, word: str) -> None:
        self.process.stdin.write(f"{word}\n".encode())

    async def ends(self) -> None:
        assert await self.process.wait() == 0

    def send_signal(self, signum: int) -> None:
        self.process.send_signal(signum)


@contextlib.asynccontextmanager
async def peers(role: str, **options: Any) -> AsyncIterator[Peer]:
    command = [sys.executable, "-m", "asynchrotron", str(PEERS), role, json.dumps(options)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=16 * 1024 * 1024)
    try:
        yield Peer(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()


async def serve_others(kind: str, port: int, busy: int = 20) -> None:
    """Connections beside the slow ones: all their exchanges are made, whatever those do."""
    async with peers("many", kind=kind, port=port, idle=0, busy=busy, exchanges=5, seed=7) as others:
        await others.says("connected")
        others.tell("exchange")
        await others.says("exchanged")
        others.tell("leave")
        await others.says("left")
        await others.ends()


def open_descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found.add(f"{name}: {os.readlink(f'/proc/self/fd/{name}')}")
    return found


def loaded(body: Callable[..., Awaitable[Any]]) -> Callable[..., None]:
    """Run a test on our loop; nothing of it may be left afterwards. It gives back the books of its servers."""

    @functools.wraps(body)
    def test(**given: Any) -> None:
        async def main() -> Any:
            book = await body(**given)
            # Handlers whose connection is gone end within a few turns.
            for _ in range(10):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"{len(left)} tasks left behind: {list(left)[:3]}"
            return book.left_alive

        asynchrotron.install()
        try:
            asyncio.run(asyncio.sleep(0))  # what a process has from its first loop on is there
            gc.collect()  # a closed loop keeps what other threads may wake it by
            before = open_descriptors()
            alive = asyncio.run(main())
        finally:
            asynchrotron.uninstall()
        gc.collect()
        after = open_descriptors()
        assert after == before, f"descriptors: {after - before} more, {before - after} fewer"
        assert not list(alive), f"{len(alive)} transports are still alive"

    return test
