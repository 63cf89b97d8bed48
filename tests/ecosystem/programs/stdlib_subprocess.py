"""Child processes: exec and shell, communicate with megabytes, line by line, exit statuses and signals, time limits,
environment, closed and redirected streams, many at once, several loops in threads."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

from outcome import report

BIG = os.urandom(4_000_000)


async def python(script: str, *arguments: str, data: bytes | None = None) -> tuple[int | None, bytes, bytes]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    output, errors = await child.communicate(data)
    return child.returncode, output, errors


async def communicate() -> None:
    echo = "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d); sys.stderr.buffer.write(d[::-1])"
    assert await python(echo, data=BIG) == (0, BIG, BIG[::-1])
    arguments = "import sys; print(ascii(sys.argv[1:])); sys.exit(7)"
    assert await python(arguments, "a b", "ü") == (7, rb"['a b', '\xfc']" + b"\n", b"")

    shell = await asyncio.create_subprocess_shell("echo out; echo err >&2; exit 3", stdout=PIPE, stderr=STDOUT)
    output, errors = await shell.communicate()
    assert (shell.returncode, output, errors) == (3, b"out\nerr\n", None)

    child = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "echo $NAME; pwd", stdout=PIPE, stdin=DEVNULL, env={"NAME": "value"}, cwd="/"
    )
    assert (await child.communicate())[0] == b"value\n/\n"

    # A child that does not read: the broken pipe is not communicate's business.
    child = await asyncio.create_subprocess_exec("/bin/true", stdin=PIPE)
    await child.communicate(BIG)
    assert child.returncode == 0
    assert child.stdin is not None
    await asyncio.gather(child.stdin.wait_closed(), return_exceptions=True)

    try:
        await asyncio.create_subprocess_exec("/nonexistent/program")
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("a program that does not exist was started")


async def converse() -> None:
    child = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    for number in range(100):
        child.stdin.write(b"line %d\n" % number)
        await child.stdin.drain()
        assert await child.stdout.readline() == b"line %d\n" % number
    assert child.returncode is None
    child.stdin.close()
    await child.stdin.wait_closed()
    assert await child.stdout.read() == b""
    assert await child.wait() == 0


async def stop() -> None:
    for send, expected in (
        (asyncio.subprocess.Process.terminate, -signal.SIGTERM),
        (asyncio.subprocess.Process.kill, -signal.SIGKILL),
        (lambda child: child.send_signal(signal.SIGUSR1), -signal.SIGUSR1),
    ):
        child = await asyncio.create_subprocess_exec("/bin/sleep", "60")
        send(child)
        assert await child.wait() == expected == child.returncode

    child = await asyncio.create_subprocess_exec("/bin/sleep", "60", stdout=PIPE)
    try:
        async with asyncio.timeout(0.05):
            await child.communicate()
    except TimeoutError:
        child.kill()
    assert await child.wait() == -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):  # what older Pythons say; newer ones say nothing
        child.kill()

    # Several wait for the same child; one gives up.
    child = await asyncio.create_subprocess_exec("/bin/sleep", "0.1")
    waiting = [asyncio.create_task(child.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [0, 0]


async def many() -> None:
    async def one(number: int) -> None:
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"cat; exit {number % 5}", stdin=PIPE, stdout=PIPE
        )
        assert (await child.communicate(b"%d" % number))[0] == b"%d" % number
        assert child.returncode == number % 5

    await asyncio.gather(*(one(number) for number in range(50)))


async def in_threads() -> None:
    """Other loops, in other threads, have children of their own."""
    loop_class = type(asyncio.get_running_loop())
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_class) as runner:
                runner.run(converse())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads), converse())
    assert not failures, failures


async def main() -> None:
    async with asyncio.timeout(40):
        await communicate()
        await converse()
        await stop()
        await many()
        await in_threads()
    report("subprocess: 68 children")


if __name__ == "__main__":
    asyncio.run(main())
