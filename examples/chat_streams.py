"""A chat room on streams: a task per visitor, a queue per visitor, and a slow reader holds up nobody else.

`python chat_streams.py` serves until Ctrl-C (join with `nc 127.0.0.1 PORT`, first line is your name);
with `--check` three visitors join, talk, leave, and the program ends.
"""

import argparse
import asyncio
import contextlib

BACKLOG_LINES_MAX = 100


class Room:
    def __init__(self) -> None:
        self.visitors: dict[str, asyncio.Queue[str]] = {}

    def say(self, line: str) -> None:
        for queue in self.visitors.values():
            # A visitor who does not read loses lines; the others lose nothing.
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(line)

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        if not name or name in self.visitors:
            writer.write(b"that name cannot be used\n")
            writer.close()
            return
        queue = self.visitors[name] = asyncio.Queue(BACKLOG_LINES_MAX)
        sender = asyncio.create_task(self.send_lines(queue, writer))
        self.say(f"{name} joined")
        try:
            async for line in reader:
                self.say(f"{name}: {line.decode().rstrip()}")
        finally:
            del self.visitors[name]
            self.say(f"{name} left")
            sender.cancel()
            writer.close()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sender

    async def send_lines(self, queue: "asyncio.Queue[str]", writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(f"{await queue.get()}\n".encode())
            await writer.drain()


async def visitor(port: int, name: str, said: str, heard: list[str], everybody: asyncio.Barrier) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{name}\n".encode())
    while (await reader.readline()).decode() != f"{name} joined\n":
        pass
    await everybody.wait()
    writer.write(f"{said}\n".encode())
    talk = 0
    while talk < everybody.parties:
        line = (await reader.readline()).decode().strip()
        if ": " in line:
            heard.append(line)
            talk += 1
    await everybody.wait()
    writer.close()
    await writer.wait_closed()


async def check(port: int) -> None:
    sayings = {"ada": "hello", "grace": "nanoseconds", "radia": "trees"}
    heard: dict[str, list[str]] = {name: [] for name in sayings}
    everybody = asyncio.Barrier(len(sayings))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for name, said in sayings.items():
            group.create_task(visitor(port, name, said, heard[name], everybody))
    expected = sorted(f"{name}: {said}" for name, said in sayings.items())
    agree = all(sorted(lines) == expected for lines in heard.values())
    print(f"{len(sayings)} visitors heard", "everything" if agree else f"different things: {heard}")


async def main(*, port: int = 0, check_only: bool = False) -> None:
    server = await asyncio.start_server(Room().visit, "127.0.0.1", port)
    async with server:
        port = server.sockets[0].getsockname()[1]
        if check_only:
            await check(port)
        else:
            print(f"chat on 127.0.0.1:{port}", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat room.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--check", action="store_true", help="let three visitors talk, and end")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(port=arguments.port, check_only=arguments.check))
    except KeyboardInterrupt:
        pass
