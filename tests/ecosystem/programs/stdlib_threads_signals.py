"""What else an ordinary program leans on: executors of threads and processes, calls from other threads, signals and
Ctrl-C, readers and writers on descriptors, names resolved, context variables across all of them."""

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import os
import signal
import socket
import sys
import threading

from outcome import report

request = contextvars.ContextVar("request", default="none")


def square(number: int) -> int:
    return number * number


async def executors() -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.gather(*(loop.run_in_executor(None, square, n) for n in range(200))) == [
        n * n for n in range(200)
    ]
    request.set("mine")
    assert await asyncio.to_thread(request.get) == "mine"

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
        assert await asyncio.gather(*(loop.run_in_executor(processes, square, n) for n in range(20))) == [
            n * n for n in range(20)
        ]

    def fail() -> None:
        raise LookupError("in a thread")

    try:
        await asyncio.to_thread(fail)
    except LookupError as error:
        assert error.args == ("in a thread",)
    else:
        raise AssertionError("the exception stayed in the thread")


async def other_threads() -> None:
    loop = asyncio.get_running_loop()
    arrived: list[int] = []
    everything = asyncio.Event()
    count = 2000

    def arrive(number: int) -> None:
        arrived.append(number)
        if len(arrived) == 4 * count:
            everything.set()

    def flood(first: int) -> None:
        for number in range(first, first + count):
            loop.call_soon_threadsafe(arrive, number)

    threads = [threading.Thread(target=flood, args=(index * count,)) for index in range(4)]
    for thread in threads:
        thread.start()
    await everything.wait()
    for thread in threads:
        thread.join()
    assert sorted(arrived) == list(range(4 * count))
    for index in range(4):  # in order, thread by thread
        mine = [number for number in arrived if number // count == index]
        assert mine == sorted(mine)

    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0.001)
        return a + b

    def from_thread() -> int:
        futures = [asyncio.run_coroutine_threadsafe(add(n, 1), loop) for n in range(100)]
        return sum(future.result(10) for future in futures)

    assert await asyncio.to_thread(from_thread) == sum(range(1, 101))


async def signals() -> None:
    loop = asyncio.get_running_loop()
    seen: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        loop.add_signal_handler(number, seen.put_nowait, number)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
        assert await seen.get() == number
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGTERM)

    # Ctrl-C while the loop sleeps and while it is busy, in a run of its own: only the main thread gets it.
    script = """
import asyncio, os, signal, threading

async def main(busy):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while busy:
            await asyncio.sleep(0)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", end=" ")
        raise

with asyncio.Runner(loop_factory=LOOP) as runner:
    for busy in (False, True):
        try:
            runner.run(main(busy))
        except KeyboardInterrupt:
            print("interrupted", end=" ", flush=True)
"""
    loop_class = type(loop)
    preamble = f"import {loop_class.__module__} as module; LOOP = module.{loop_class.__qualname__}\n"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", preamble + script, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    assert output == b"cancelled interrupted " * 2, output


async def descriptors() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        readable, writable = asyncio.Event(), asyncio.Event()
        loop.add_reader(ours, readable.set)
        loop.add_writer(ours.fileno(), writable.set)
        await writable.wait()
        assert loop.remove_writer(ours)
        assert not loop.remove_writer(ours)
        await asyncio.sleep(0.01)
        assert not readable.is_set()
        theirs.send(b"x")
        await readable.wait()
        assert ours.recv(10) == b"x"
        assert loop.remove_reader(ours.fileno())


async def names() -> None:
    loop = asyncio.get_running_loop()
    assert (await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM))[0][4] == ("127.0.0.1", 80)
    found = await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
    assert found[0][4] == ("127.0.0.1", 80)
    host, service = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    assert (host, service) == ("127.0.0.1", "80")


async def contexts() -> None:
    loop = asyncio.get_running_loop()
    request.set("outer")
    heard: asyncio.Queue[str] = asyncio.Queue()

    def listen() -> None:
        heard.put_nowait(request.get())

    own = contextvars.copy_context()
    own.run(request.set, "own")
    loop.call_soon(listen)
    loop.call_later(0.001, listen, context=own)
    assert [await heard.get() for _ in range(2)] == ["outer", "own"]

    async def child() -> str:
        before = request.get()
        request.set("child's")
        await asyncio.sleep(0)
        return f"{before} {request.get()}"

    assert await asyncio.create_task(child()) == "outer child's"
    assert await asyncio.create_task(child(), context=own) == "own child's"
    assert request.get() == "outer"
    assert own[request] == "child's"


async def main() -> None:
    async with asyncio.timeout(40):
        await executors()
        await other_threads()
        await signals()
        await descriptors()
        await names()
        await contexts()
    report("threads, processes, signals, descriptors, names, contexts")


if __name__ == "__main__":
    asyncio.run(main())
