"""Name look-ups do not wait for the default executor, and numeric addresses need no thread at all.

cpython#112169, cpython#120644: getaddrinfo shares the executor's few threads with everything else; when they are busy,
no connection can be opened.
"""

import asyncio
import os
import socket
import threading

import pytest
from worlds import until


@pytest.fixture(autouse=True)
def only_our_loop(ours):
    if ours.name == "uvloop":
        pytest.skip("our own promise")


@pytest.fixture
def busy(ours):
    """A loop whose default executor has no free thread."""
    release = threading.Event()
    with ours.loop() as loop:
        jobs = [loop.run_in_executor(None, release.wait, 15) for _ in range(min(32, (os.cpu_count() or 1) + 4) + 4)]
        yield loop
        release.set()
        loop.run_until_complete(asyncio.gather(*jobs))


def test_a_name_is_looked_up(busy):
    async def main():
        return await asyncio.wait_for(busy.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM), 5)

    assert sorted(busy.run_until_complete(main())) == sorted(
        socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    )


def test_a_number_is_looked_up(busy):
    async def main():
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        return await asyncio.wait_for(busy.getnameinfo(("127.0.0.1", 80), flags), 5)

    assert busy.run_until_complete(main()) == ("127.0.0.1", "80")


def test_a_connection_by_name_is_made(busy):
    class Noted(asyncio.Protocol):
        lost = False

        def connection_lost(self, exc):
            self.lost = True

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            transport, proto = await asyncio.wait_for(busy.create_connection(Noted, "localhost", port), 5)
            transport.close()
            await until(lambda: proto.lost)

    busy.run_until_complete(main())


def test_numeric_addresses_are_answered_at_once(ours):
    """No thread is started for them, and no other task gets a turn long enough to notice."""
    before = threading.active_count()

    async def main():
        loop = ours.aio.get_running_loop()
        answers = [
            await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
            await loop.getaddrinfo("::1", 443, type=socket.SOCK_STREAM),
        ]
        return answers, threading.active_count()

    answers, threads = ours.run(main)
    assert threads == before
    assert answers[0] == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert answers[1] == socket.getaddrinfo("::1", 443, type=socket.SOCK_STREAM)


def test_the_program_can_end_while_a_look_up_hangs(ours):
    """A look-up that does not come back holds neither close() nor the end of the interpreter."""
    done = ours.program(
        """
import socket, threading, time
def slow(*args, **kwargs):
    time.sleep(1.5)
    raise socket.gaierror(-2, "late")
socket.getaddrinfo = slow
loop = new_event_loop()
async def main():
    task = loop.create_task(loop.getaddrinfo("hangs.invalid", 80))
    await aio.sleep(0.01)
    task.cancel()
    await aio.wait([task])
    return task.cancelled()
print(loop.run_until_complete(main()))
loop.close()
"""
    )
    assert (done.status, done.out, done.err) == (0, "True\n", "")


def test_a_cancelled_look_up_leaves_the_queue(ours, monkeypatch):
    """What waits for one of the lane's sixteen threads is never begun once it is cancelled."""
    release, asked = threading.Event(), []

    def slow(host, *args):
        asked.append(host)
        release.wait(15)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main():
        loop = ours.aio.get_running_loop()
        hanging = [loop.create_task(loop.getaddrinfo(f"{n}.invalid", 80)) for n in range(16)]
        await until(lambda: len(asked) == 16)
        late = [loop.create_task(loop.getaddrinfo(name, 80)) for name in ("cancelled.invalid", "kept.invalid")]
        await asyncio.sleep(0)
        late[0].cancel()
        await asyncio.wait(late[:1])
        hanging[0].cancel()
        await asyncio.wait(hanging[:1])
        names = {thread.name for thread in threading.enumerate() if thread.name.startswith("asynchrotron-resolver")}
        release.set()
        await asyncio.gather(*hanging[1:], late[1])
        return late[0].cancelled(), hanging[0].cancelled(), len(names)

    assert ours.run(main) == (True, True, 16)
    assert "cancelled.invalid" not in asked
    assert "kept.invalid" in asked
