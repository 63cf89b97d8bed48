"""Writing to a child that exited ends in BrokenPipeError or ConnectionResetError from drain(), never in RuntimeError;
what is written after close() is dropped, with asyncio's warning."""

import pytest
from worlds import asyncio_log


def test_drain_says_so(world):
    async def main():
        child = await world.aio.create_subprocess_exec("/bin/true", stdin=world.aio.subprocess.PIPE)
        await child.wait()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1000):
                child.stdin.write(b"x" * 10_000)
                await child.stdin.drain()
                await world.aio.sleep(0)
        child.stdin.close()

    with asyncio_log():
        world.run(main)


def test_a_child_that_dies_meanwhile(world):
    async def main():
        child = await world.aio.create_subprocess_exec("/bin/sleep", "60", stdin=world.aio.subprocess.PIPE)
        child.stdin.write(b"x" * 10_000_000)
        drained = world.aio.ensure_future(child.stdin.drain())
        await world.aio.sleep(0)
        child.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await drained
        assert await child.wait() == -9

    world.run(main)


def test_after_close(world):
    async def main():
        child = await world.aio.create_subprocess_exec("/bin/cat", stdin=world.aio.subprocess.PIPE)
        transport = child._transport.get_pipe_transport(0)
        transport.close()
        with asyncio_log() as records:
            for _ in range(8):
                transport.write(b"dropped")
        assert await child.wait() == 0
        return records

    told = world.run(main)
    assert all("pipe closed by peer or os.write(pipe, data) raised exception." in text for _, text in told)
