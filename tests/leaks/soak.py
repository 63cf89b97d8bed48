"""Everything a loop does, all at once, for as long as wanted: memory and descriptors stay where they are.

    make soak                               a minute; SOAK_SECONDS=14400 for four hours
    tests/leaks/soak.py --loop asyncio      the same work on stock asyncio, to compare with

One process, one loop. A round does every kind of work at once, as much of each as the seed says, and ends when all of
it has ended: then no task, no descriptor and no child may be left. Memory is looked at after each round: anonymous
pages of the process and blocks of the interpreter; SOAK_REPORT_SECONDS apart (300) a line says how it stands, so that a
long run that is ended early has said something. The first part of the time is for warming up. Of what follows, the
least memory of the last third must not be more than the least of the first third by MIB_MAX or BLOCKS_MAX: what is lost
cannot be had back, while what is only late can.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from caches import clear_attribute_cache

WARM_UP = 0.25  # of the time
# What the ends of arenas and the caches may take: up to 45 blocks more were seen in 40 seconds, 22 less in a quarter of
# an hour. A single object lost in every round would be 400 in 40 seconds, one for each connection more than 1,000.
MIB_MAX, BLOCKS_MAX = 1.0, 100
REPORT_SECONDS = float(os.environ.get("SOAK_REPORT_SECONDS", "300"))


class Unwanted(Exception):
    """What some of the work raises on purpose."""


# ---- kinds of work: each is called with the number of things to do --------------------------------------------------


class LineServer:
    """Sends each line back. Leaving it waits for the end of all that it served."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.suppress(OSError, EOFError):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def __aenter__(self) -> tuple[str, int]:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls, limit=1 << 17)
        address: tuple[str, int] = self.server.sockets[0].getsockname()
        return address

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()
        while self.serving:
            await asyncio.wait({self.serving.pop()})


async def talk(address: tuple[str, int], number: int, tls: ssl.SSLContext | None = None) -> None:
    """One client, which ends in one of three ways."""
    name = None if tls is None else "localhost"
    reader, writer = await asyncio.open_connection(*address, ssl=tls, server_hostname=name, limit=1 << 17)
    writer.write(b"x" * (number * 997 % 50_000) + b"\n")
    if number % 3:
        await reader.readline()
    if number % 3 == 2:
        writer.transport.abort()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def connections(count: int) -> None:
    async with LineServer() as address:
        await asyncio.gather(*(talk(address, number) for number in range(count)))


async def handshakes(count: int) -> None:
    server, client = certificates()
    async with LineServer(server) as address:
        await asyncio.gather(*(talk(address, number, client) for number in range(count // 4)))
        # Who does not trust the certificate does not come in.
        with contextlib.suppress(ssl.SSLError):
            await talk(address, 1, ssl.create_default_context())


async def tasks(count: int) -> None:
    async def work(depth: int) -> int:
        await asyncio.sleep(0)
        if depth == 0:
            return 1
        return sum(await asyncio.gather(work(depth - 1), work(depth - 1)))

    assert await work(count.bit_length()) == 1 << count.bit_length()
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(fail() if number == count // 2 else asyncio.sleep(1000))


async def fail() -> None:
    await asyncio.sleep(0)
    raise Unwanted


async def cancelling(count: int) -> None:
    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[int](1)

    async def wait(number: int) -> None:
        kind = number % 5
        if kind == 0:
            async with lock:
                await event.wait()
        elif kind == 1:
            await queue.get()
        elif kind == 2:
            async with asyncio.timeout(1000):
                await event.wait()
        elif kind == 3:
            await asyncio.wait_for(asyncio.shield(asyncio.sleep(0.001)), 1000)
        else:
            try:
                await event.wait()
            finally:
                await asyncio.sleep(0)

    waiting = [asyncio.create_task(wait(number)) for number in range(count * 4)]
    await asyncio.sleep(0)
    for number, task in enumerate(waiting):
        if number % 7:
            task.cancel()
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def timers(count: int) -> None:
    loop = asyncio.get_running_loop()
    kept = [loop.call_later(1000 + number, print) for number in range(count * 10)]
    await asyncio.gather(*(asyncio.sleep(number % 10 / 1000) for number in range(count)))
    for handle in kept:
        handle.cancel()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(1000), 0.001)


class Answering(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: object) -> None:
        self.transport.sendto(data, address)  # type: ignore[arg-type]


class Asking(asyncio.DatagramProtocol):
    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set_result(None)


async def datagrams(count: int) -> None:
    loop = asyncio.get_running_loop()
    count = min(count, 50)  # as many as the kernel keeps
    there, _ = await loop.create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    address = there.get_extra_info("sockname")
    here, asking = await loop.create_datagram_endpoint(lambda: Asking(count), remote_addr=address)
    for number in range(count):
        here.sendto(bytes(number + 1))  # asyncio before 3.14 sends no empty ones
    await asking.done
    here.close()
    there.close()


async def children(count: int) -> None:
    async def child(number: int) -> None:
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if number % 2:
            process.kill()
        out, _ = await process.communicate(b"x" * number)
        assert number % 2 or out == b"x" * number
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # to one that was killed; older asyncio reports it if nobody asks
            await process.stdin.wait_closed()

    await asyncio.gather(*map(child, range(count // 8)))
    with contextlib.suppress(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program")


async def raw_sockets(count: int) -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        for number in range(count):
            await loop.sock_sendall(left, b"x" * (number + 1))
            assert len(await loop.sock_recv(right, 1 << 16)) == number + 1
        waiting = asyncio.create_task(loop.sock_recv(right, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        loop.add_reader(right, print)
        loop.remove_reader(right)


async def threads(count: int) -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.gather(*(asyncio.to_thread(int, str(number)) for number in range(count))) == list(range(count))
    await loop.getaddrinfo("127.0.0.1", 80)
    with contextlib.suppress(ValueError):
        await asyncio.to_thread(int, "no number")


async def generators(count: int) -> None:
    async def numbers():  # type: ignore[no-untyped-def]
        try:
            for number in range(10):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0)

    async def take(number: int) -> None:
        async for found in numbers():
            if found == number % 12:
                break

    await asyncio.gather(*map(take, range(count)))


WORK: list[Callable[[int], Awaitable[None]]] = [
    connections, handshakes, tasks, cancelling, timers, datagrams, children, raw_sockets, threads, generators,
]  # fmt: skip


_contexts: list[ssl.SSLContext] = []


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows, and who trusts it."""
    if not _contexts:
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder, "key"), Path(folder, "certificate")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                 "-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-keyout", key, "-out", certificate],
                check=True, capture_output=True,
            )  # fmt: skip
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(certificate, key)
            _contexts.extend([server, ssl.create_default_context(cafile=str(certificate))])
    return _contexts[0], _contexts[1]


# ---- what is looked at ----------------------------------------------------------------------------------------------


def resident_kib(what: str = "RssAnon") -> int:
    """Anonymous pages; VmRSS is all that is in memory, libraries included."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{what}:"))


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the folder's own
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


async def settled(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    """What has been closed goes in one of the next turns, a thread's or a child's last word may take a moment."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise SystemExit(f"soak: left after a round: {what()}")


async def soak(seconds: float, seed: int) -> str:
    chosen = random.Random(seed)
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    unexpected: list[object] = []
    loop.set_exception_handler(lambda _, context: unexpected.append(context))
    times, pages, blocks = array("d"), array("q"), array("q")
    opened: int | None = None
    rounds, next_report = 0, REPORT_SECONDS
    while (now := time.monotonic() - began) < seconds or len(times) < 12:
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*(work(chosen.choice((8, 30, 100))) for work in WORK))
        except TimeoutError:
            raise SystemExit(f"soak: a round hangs; the loop reported {unexpected[:3]}") from None
        await settled(lambda: len(asyncio.all_tasks()) == 1, asyncio.all_tasks)
        clear_attribute_cache()
        gc.collect()
        if opened is None:
            opened = len(descriptors())
        await settled(lambda: len(descriptors()) <= opened, descriptors)
        if unexpected:
            raise SystemExit(f"soak: the loop reported {unexpected[:3]}")
        rounds += 1
        if now >= next_report:
            next_report += REPORT_SECONDS
            print(
                f"soak: {now:.0f} s, {rounds} rounds: {resident_kib('VmRSS') / 1024:.1f} MiB resident, "
                f"{resident_kib() / 1024:.1f} anonymous, {sys.getallocatedblocks()} blocks, "
                f"{len(descriptors())} descriptors, {len(asyncio.all_tasks())} task",
                flush=True,
            )
        if now > seconds * WARM_UP:
            times.append(now)
            pages.append(resident_kib())
            blocks.append(sys.getallocatedblocks())
    third = len(times) // 3
    mib = (min(pages[-third:]) - min(pages[:third])) / 1024
    more = min(blocks[-third:]) - min(blocks[:third])
    told = (
        f"{len(times)} rounds after warming up, in {time.monotonic() - began:.0f} s (seed {seed}): "
        f"{mib:+.2f} MiB of {min(pages) / 1024:.1f}, {more:+} blocks of {min(blocks)}, {opened} descriptors"
    )
    if mib > MIB_MAX or more > BLOCKS_MAX:
        raise SystemExit(f"soak: memory grows: {told}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description="Does memory stay where it is?")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_SECONDS", "60")))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--loop", choices=["asynchrotron", "asyncio"], default="asynchrotron")
    options = parser.parse_args()
    if options.loop == "asynchrotron":
        import asynchrotron

        asynchrotron.install()
    print("soak:", asyncio.run(soak(options.seconds, options.seed)))


if __name__ == "__main__":
    main()
