"""Pipes and child processes under faults: every byte arrives in order exactly once, or an error reaches the owner; no
child is left behind."""

import os
from asyncio.subprocess import PIPE
from typing import Any

import asynchrotron as aio
from faulted import GENTLE, HARSH, faulted, injected
from test_echo import BYTES_MAX, pieces


class Reading(aio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = aio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert not self.ended.done()
        self.received += data

    def eof_received(self) -> None:
        assert not self.ended.done()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


class Writing(aio.Protocol):
    def __init__(self, todo: list[bytes]) -> None:
        self.todo = todo
        self.paused = False
        self.ended = aio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.go_on()

    def go_on(self) -> None:
        while self.todo and not self.paused and not self.transport.is_closing():
            self.transport.write(self.todo.pop(0))
        if not self.todo:
            self.transport.close()

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False
        self.go_on()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


async def through_a_pipe(random: Any) -> None:
    loop = aio.get_running_loop()
    data = random.randbytes(random.randrange(2 * BYTES_MAX))
    read_fd, write_fd = os.pipe()
    # The files own the descriptors, and the transports, once they are made, the files.
    read_file, write_file = os.fdopen(read_fd, "rb", 0), os.fdopen(write_fd, "wb", 0)
    reading, writing = Reading(), Writing(pieces(random, data))
    started = []
    try:
        started.append((await loop.connect_read_pipe(lambda: reading, read_file))[0])
        started.append((await loop.connect_write_pipe(lambda: writing, write_file))[0])
        how = await reading.ended
        assert data.startswith(reading.received), "bytes were lost, mixed up or came twice"
        if len(reading.received) < len(data):
            assert injected(how) or injected(await writing.ended), "ended without an error"
    finally:
        for transport in started:
            getattr(transport, "abort", transport.close)()
        read_file.close()
        write_file.close()


@faulted(GENTLE)
async def test_pipes_notice_nothing_of_gentle_faults(random: Any) -> None:
    await through_a_pipe(random)


@faulted(HARSH)
async def test_pipes(random: Any) -> None:
    await through_a_pipe(random)


def assert_no_child() -> None:
    try:
        left, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise AssertionError(f"a child is left: {'running' if left == 0 else f'{left}, not reaped'}")


async def through_a_child(random: Any) -> None:
    data = random.randbytes(random.randrange(BYTES_MAX))
    process = None
    try:
        if random.randrange(8) == 0:
            try:
                await aio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)
            except FileNotFoundError:
                return
            raise AssertionError("it runs")
        process = await aio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)

        async def send() -> None:
            for piece in pieces(random, data):
                process.stdin.write(piece)
                await process.stdin.drain()
            process.stdin.close()
            # It awaits the process's own future: cancelled with us, asyncio could not settle it any more.
            await aio.shield(process.stdin.wait_closed())

        if random.randrange(3) == 0:
            received, errors = await process.communicate(data)
            assert errors == b""
            assert data.startswith(received), "bytes were lost, mixed up or came twice"
            # communicate() says nothing of a broken pipe: then the child has got less.
            code = await process.wait()
            assert code in (0, -13), code
            return
        sending = aio.create_task(send())
        received = b""
        try:
            while chunk := await process.stdout.read(random.choice((1, 1000, 100_000))):
                received += chunk
                assert data.startswith(received), "bytes were lost, mixed up or came twice"
            assert await process.stderr.read() == b""
            (outcome,) = await aio.gather(sending, return_exceptions=True)
            assert len(received) == len(data) or injected(outcome), "ended without an error"
        finally:
            sending.cancel()
            await aio.gather(sending, return_exceptions=True)
    finally:
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
            process._transport.close()
            for _ in range(3):
                await aio.sleep(0)
        assert_no_child()


@faulted(GENTLE)
async def test_children_notice_nothing_of_gentle_faults(random: Any) -> None:
    await through_a_child(random)


@faulted(HARSH)
async def test_children(random: Any) -> None:
    await through_a_child(random)
