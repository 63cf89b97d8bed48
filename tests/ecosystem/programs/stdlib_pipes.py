"""connect_read_pipe and connect_write_pipe: megabytes with back-pressure, ends of file, a reader that goes away,
pausing, FIFOs with names, and the program's own standard streams in a child."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from outcome import report

BIG = os.urandom(5_000_000)


async def stream_reader(file: object) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader, transport


async def stream_writer(file: object) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop=loop), file)
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def through(read_file: object, write_file: object) -> None:
    reader, read_transport = await stream_reader(read_file)
    writer = await stream_writer(write_file)

    async def send() -> None:
        writer.write(b"first line\n")
        for start in range(0, len(BIG), 250_000):
            writer.write(BIG[start : start + 250_000])
            await writer.drain()
        writer.close()

    sending = asyncio.create_task(send())
    assert await reader.readline() == b"first line\n"
    read_transport.pause_reading()
    await asyncio.sleep(0.02)
    assert not sending.done(), "everything was sent although nobody reads"
    read_transport.resume_reading()
    assert await reader.read() == BIG
    await sending
    read_transport.close()


class Losing(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def broken_pipe() -> None:
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Losing, os.fdopen(write_end, "wb", 0))
    transport.write(b"x")
    os.close(read_end)
    assert isinstance(await protocol.lost, BrokenPipeError | None)
    assert transport.is_closing()


async def standard_streams() -> None:
    """A child that reads its own stdin and writes its own stdout through the loop: a filter."""
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from stdlib_pipes import stream_reader, stream_writer

async def main():
    reader, _ = await stream_reader(sys.stdin.buffer)
    writer = await stream_writer(sys.stdout.buffer)
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()

asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate(b"some line\n" * 50_000)
    assert child.returncode == 0
    assert output == b"SOME LINE\n" * 50_000


async def main() -> None:
    async with asyncio.timeout(30):
        read_end, write_end = os.pipe()
        await through(os.fdopen(read_end, "rb", 0), os.fdopen(write_end, "wb", 0))

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "fifo")
            os.mkfifo(path)
            # Opening a FIFO waits for the other end, so the first one is opened for both.
            keeper = os.open(path, os.O_RDWR)
            read_file, write_file = path.open("rb", 0), path.open("wb", 0)
            os.close(keeper)
            await through(read_file, write_file)

        await broken_pipe()
        await standard_streams()

        try:
            with tempfile.TemporaryFile() as regular:
                await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, regular)
        except ValueError:
            pass
        else:
            raise AssertionError("a regular file was taken for a pipe")
    report("pipes: read and write ends, back-pressure, FIFOs, standard streams")


if __name__ == "__main__":
    asyncio.run(main())
