"""nest_asyncio, as notebooks use it: apply() in a running program, then run_until_complete and asyncio.run inside a
coroutine, several deep, with timers, threads, tasks and sockets going on outside."""

import asyncio
import concurrent.futures

import nest_asyncio

from outcome import report


async def answer(value: int, delay: float = 0.0) -> int:
    await asyncio.sleep(delay)
    return value


def blocking_call(loop: asyncio.AbstractEventLoop, depth: int) -> int:
    """Ordinary synchronous code that needs a coroutine's result and knows of no `await`."""
    if depth == 0:
        return loop.run_until_complete(answer(1, 0.001))
    return 1 + loop.run_until_complete(nested(loop, depth - 1))


async def nested(loop: asyncio.AbstractEventLoop, depth: int) -> int:
    await asyncio.sleep(0)
    return blocking_call(loop, depth)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def exchange(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 300_000)
    received = await reader.readexactly(300_000)
    writer.close()
    await writer.wait_closed()
    return received


async def main() -> None:
    loop = asyncio.get_running_loop()
    nest_asyncio.apply(loop)
    nest_asyncio.apply(loop)  # idempotent

    assert loop.run_until_complete(answer(1)) == 1
    assert asyncio.run(answer(2, 0.01)) == 2
    assert blocking_call(loop, 5) == 6

    # What was going on outside goes on inside the nested run.
    outside = asyncio.create_task(answer(3, 0.02))
    assert loop.run_until_complete(answer(4, 0.1)) == 4
    assert outside.done()
    assert outside.result() == 3

    # Not the default executor: from 3.14 on, nest_asyncio does not survive its shutdown, on any loop.
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert loop.run_until_complete(loop.run_in_executor(threads, lambda: 5)) == 5
    gathered = loop.run_until_complete(asyncio.gather(*(nested(loop, 2) for _ in range(5))))
    assert gathered == [3] * 5

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert loop.run_until_complete(exchange(port)) == b"x" * 300_000
    assert await exchange(port) == b"x" * 300_000
    server.close()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("inside")

    try:
        loop.run_until_complete(fail())
    except LookupError as error:
        assert error.args == ("inside",)
    else:
        raise AssertionError("the nested run lost the exception")

    task = asyncio.current_task()
    assert task is not None
    assert not task.done()
    report("nest_asyncio: runs within runs, six deep")


if __name__ == "__main__":
    asyncio.run(main())
