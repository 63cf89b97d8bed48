"""The peers of a server under load: python -m asynchrotron peers.py ROLE OPTIONS

many   idle and busy connections at once; all exchange, and leave in three ways
pour   ask for much, and read only when told to, in small pieces
drip   send requests byte by byte; half of them never end
leave  end connections in the middle of a message

Whatever comes back is compared; a difference ends the process with a traceback.
"""

import asyncio
import json
import os
import random
import resource
import socket
import struct
import sys
from typing import Any

from sizes import KERNEL_LEN, POUR_LEN
from wire import answer_length, echo_request, pattern, pour_request

ADDRESSES = 8  # of 127.0.0.0/8, so that port numbers suffice
CONNECTING_MAX = 200
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


def say(word: str, about: Any = None) -> None:
    print(word if about is None else f"{word} {json.dumps(about)}", flush=True)


def hear(word: str) -> None:
    # Meanwhile nothing is read or written: only the kernel answers for these connections.
    heard = sys.stdin.readline().strip()
    assert heard == word, f"told {heard!r} instead of {word}"


def address(number: int, port: int) -> tuple[str, int]:
    return f"127.0.0.{1 + number % ADDRESSES}", port


async def connect(options: Any, numbers: range) -> list[Any]:
    gate = asyncio.Semaphore(CONNECTING_MAX)

    async def one(number: int) -> Any:
        async with gate:
            return await asyncio.open_connection(*address(number, options["port"]))

    return await asyncio.gather(*map(one, numbers))


async def exchange(kind: str, connection: Any, number: int, payload: bytes, pieces: list[int]) -> None:
    reader, writer = connection

    async def send() -> None:
        writer.write(echo_request(kind, number, len(payload)))
        start = 0
        for size in [*pieces, len(payload)]:
            writer.write(payload[start : start + size])
            start += size
            await writer.drain()

    sending = asyncio.ensure_future(send())
    if kind == "aiohttp":
        assert answer_length(await reader.readuntil(b"\r\n\r\n")) == len(payload)
    received = await reader.readexactly(len(payload))
    await sending
    assert received == payload, f"connection {number} got other bytes than it sent"


async def many(options: Any) -> None:
    kind, idle_count, busy_count = options["kind"], options["idle"], options["busy"]
    before = len(os.listdir("/proc/self/fd"))
    connections = await connect(options, range(idle_count + busy_count))
    say("connected")
    hear("exchange")

    async def work(number: int) -> None:
        chance = random.Random(options["seed"] * 100_000 + number)
        for _ in range(options["exchanges"]):
            payload = chance.randbytes(chance.randrange(1, 64 * 1024))
            pieces = [chance.choice((1, 100, 5000)) for _ in range(chance.randrange(3))]
            await exchange(kind, connections[number], number, payload, pieces)

    await asyncio.gather(*map(work, range(idle_count, idle_count + busy_count)))
    say("exchanged")
    hear("leave")
    # The idle ones are alive: each has its exchange.
    for number in range(idle_count):
        await exchange(kind, connections[number], number, b"%d" % number, [])
    for number, (reader, writer) in enumerate(connections):
        if number % 3 == 0:
            writer.write_eof()
            assert await reader.read() == b"", "bytes nobody asked for"
        elif number % 3 == 1:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        writer.close()
        await writer.wait_closed()
    connections.clear()
    after = len(os.listdir("/proc/self/fd"))
    assert after == before, f"{after - before} descriptors more than before"
    say("left", {"resets": len(range(1, idle_count + busy_count, 3))})


def plain_sockets(options: Any, count: int) -> list[socket.socket]:
    made = []
    for number in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_LEN)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(address(number, options["port"]))
        made.append(sock)
    return made


async def pour(options: Any) -> None:
    kind = options["kind"]
    socks = plain_sockets(options, options["count"])
    for number, sock in enumerate(socks):
        sock.sendall(pour_request(kind, number, POUR_LEN))
    say("asked")
    hear("read")
    chance = random.Random(options["seed"])
    for sock in socks:
        if kind == "aiohttp":
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = sock.recv(1)
                assert byte, "the server has closed the connection"
                head += byte
            assert answer_length(head) == POUR_LEN
        received = 0
        while received < POUR_LEN:
            part = sock.recv(chance.randrange(1, 10_000))
            assert part, f"the end after {received} bytes"
            assert part == pattern(received, len(part)), f"other bytes than were sent, at {received}"
            received += len(part)
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b"", "bytes nobody asked for"
        sock.close()
    say("left")


async def drip(options: Any) -> None:
    kind, count = options["kind"], options["count"]
    chance = random.Random(options["seed"])
    socks = plain_sockets(options, count)
    payloads = [chance.randbytes(40) for _ in range(count)]
    messages = [echo_request(kind, number, 40) + payload for number, payload in enumerate(payloads)]
    (quick,) = await connect(options, range(1))
    longest = max(map(len, messages))
    for position in range(longest - 1):
        for sock, message in zip(socks, messages, strict=True):
            if position < len(message) - 1:
                sock.sendall(message[position : position + 1])
        await exchange(kind, quick, count, chance.randbytes(1000), [])
    say("waiting")
    hear("end")
    for number, (sock, message) in enumerate(zip(socks, messages, strict=True)):
        if number % 2:
            sock.sendall(message[-1:])
            answer = sock.makefile("rb")
            if kind == "aiohttp":
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = answer.readline()
                    assert line, "the server has closed the connection"
                    head += line
                assert answer_length(head) == 40
            assert answer.read(40) == payloads[number], f"connection {number} got other bytes than it sent"
            answer.close()
        sock.close()
    quick[1].close()
    await quick[1].wait_closed()
    say("left")


async def leave(options: Any) -> None:
    kind, count = options["kind"], options["count"]
    connections = await connect(options, range(count))

    async def one(number: int) -> tuple[int, str]:
        chance = random.Random(options["seed"] * 100_000 + number)
        reader, writer = connections[number]
        payload = chance.randbytes(chance.randrange(1, 100_000))
        sent = chance.randrange(len(payload))
        writer.write(echo_request(kind, number, len(payload)) + payload[:sent])
        how = chance.choice(("eof", "close", "reset"))
        if how == "eof":
            writer.write_eof()
            received = await reader.read()
            if kind != "aiohttp":
                assert received == payload[:sent], f"connection {number} got other bytes than it sent"
        elif how == "reset":
            await writer.drain()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        return sent, how

    say("left", await asyncio.gather(*map(one, range(count))))


def main() -> None:
    role, options = sys.argv[1], json.loads(sys.argv[2])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run({"many": many, "pour": pour, "drip": drip, "leave": leave}[role](options))


if __name__ == "__main__":
    main()
