"""No descriptors left, no memory for a buffer, recursion to the end: errors, and then work goes on."""

import itertools

import pytest

NO_DESCRIPTORS = """
import os, resource, socket
def starve():
    spare = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(n) for n in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    while True:
        try:
            spare.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    def feed():
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)
    return feed
"""

PROGRAMS = {
    "new loop": """
first = new_event_loop()
feed = starve()
try:
    new_event_loop()
except OSError as exc:
    print("OSError", exc.errno)
feed()
second = new_event_loop()
print(second.run_until_complete(aio.sleep(0, "works")))
second.close()
first.close()
""",
    "connect": """
loop = new_event_loop()
listener = socket.create_server(("127.0.0.1", 0))
async def main():
    feed = starve()
    try:
        await loop.create_connection(aio.Protocol, *listener.getsockname())
    except OSError as exc:
        print("OSError", exc.errno)
    feed()
    transport, _ = await loop.create_connection(aio.Protocol, *listener.getsockname())
    print(await aio.sleep(0, "works"))
    transport.abort()
    await aio.sleep(0.001)
loop.run_until_complete(main())
listener.close()
loop.close()
""",
    "datagram endpoint": """
loop = new_event_loop()
async def main():
    feed = starve()
    try:
        await loop.create_datagram_endpoint(aio.DatagramProtocol, ("127.0.0.1", 0))
    except OSError as exc:
        print("OSError", exc.errno)
    feed()
    transport, _ = await loop.create_datagram_endpoint(aio.DatagramProtocol, ("127.0.0.1", 0))
    print(await aio.sleep(0, "works"))
    transport.abort()
    await aio.sleep(0.001)
loop.run_until_complete(main())
loop.close()
""",
    "pipes": """
loop = new_event_loop()
both = os.pipe()
async def main():
    feed = starve()
    got = bytearray()
    class Reader(aio.Protocol):
        def data_received(self, data):
            got.extend(data)
    source, _ = await loop.connect_read_pipe(Reader, open(both[0], "rb", 0, closefd=False))
    sink, _ = await loop.connect_write_pipe(aio.BaseProtocol, open(both[1], "wb", 0, closefd=False))
    try:
        os.pipe()
    except OSError as exc:
        print("OSError", exc.errno)
    sink.write(b"works")
    while len(got) < 5:
        await aio.sleep(0.001)
    print(got.decode())
    feed()
    source.close()
    sink.close()
    await aio.sleep(0.001)
loop.run_until_complete(main())
loop.close()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_descriptors(world, name):
    done = world.program(NO_DESCRIPTORS + PROGRAMS[name], python=("-W", "ignore"))
    assert done.err == "" or world.stock  # whose half-made loop complains when it goes away
    assert done.out == "OSError 24\nworks\n"


def test_recursion(world):
    """Futures whose callbacks finish the next, thousands deep, and tasks awaiting tasks: no stack overflow."""
    with world.loop() as loop:

        async def chain(depth):
            if depth:
                return await loop.create_task(chain(depth - 1)) + 1
            return 0

        assert loop.run_until_complete(chain(5000)) == 5000

        futures = [loop.create_future() for _ in range(20_000)]
        for one, two in itertools.pairwise(futures):
            one.add_done_callback(lambda _, two=two: two.set_result(None))
        futures[0].set_result(None)
        loop.run_until_complete(futures[-1])


def test_a_long_chain_of_waiting_tasks_can_be_cancelled(world):
    """cancel() walks from task to task; stock may end in RecursionError, a native one must not overflow the stack."""
    done = world.program(
        """
import sys
loop = new_event_loop()
async def wait(inner):
    await inner
task = fut = loop.create_future()
tasks = []
for _ in range(int(sys.argv[1])):
    task = loop.create_task(wait(task))
    tasks.append(task)
for _ in range(3):
    loop.call_soon(loop.stop)
    loop.run_forever()
try:
    task.cancel()
except RecursionError:
    fut.cancel()
async def rest():
    await aio.wait(tasks)
loop.run_until_complete(rest())
print(all(t.done() for t in tasks))
loop.close()
""",
        "20000",
        timeout=60,
    )
    assert done.status == 0, done.err
    assert "Fatal" not in done.err
    assert done.out == "True\n"


def test_a_long_chain_of_futures_can_be_freed(world):
    """Dropping the head of a list of a hundred thousand objects frees them one after the other, not recursively."""
    done = world.program(
        """
loop = new_event_loop()
head = None
for _ in range(100_000):
    fut = loop.create_future()
    fut.set_result(head)
    head = fut
del head, fut
callback = None
for _ in range(100_000):
    fut = loop.create_future()
    fut.add_done_callback(lambda f, c=callback: None)
    callback = fut
del callback, fut
print("freed")
loop.close()
"""
    )
    assert done.status == 0, done.err[-500:]
    assert done.out == "freed\n"


def test_a_pile_of_callbacks_and_timers(world):
    with world.loop() as loop:
        seen = []
        for number in range(100_000):
            loop.call_soon(seen.append, number)
        handles = [loop.call_later(100 + number, seen.append, number) for number in range(50_000)]
        for handle in handles:
            handle.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert len(seen) == 100_000
