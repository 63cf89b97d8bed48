"""DaskExecutor against a client that is made up; tests/ecosystem has the real one, with worker processes."""

import asyncio
import concurrent.futures
import functools
import threading

import pytest

aio = pytest.importorskip("asynchrotron")
from asynchrotron.executors import DaskExecutor  # noqa: E402


class Remote:
    def __init__(self, call, options):
        self.call, self.options = call, options
        self.done = asyncio.Event()
        self.outcome = None

    def cancelled(self):
        return self.outcome == "cancelled"


class Client:
    """Makes a call when `release(n)` says so; everything else as an asynchronous client has it."""

    def __init__(self, loop):
        self.asyncio_loop, self.loop = loop, self
        self.submitted, self.cancelled = [], []

    def submit(self, fn, *args, **options):
        self.submitted.append(Remote(functools.partial(fn, *args), options))
        return self.submitted[-1]

    def release(self, index):
        self.submitted[index].outcome = "finished"
        self.asyncio_loop.call_soon_threadsafe(self.submitted[index].done.set)

    async def gather(self, remote, asynchronous):
        assert asynchronous
        await remote.done.wait()
        if remote.outcome == "cancelled":
            raise asyncio.CancelledError
        return remote.call()

    async def cancel(self, remotes, asynchronous, reason, msg):
        assert asynchronous
        for remote in remotes:
            self.cancelled.append(remote)
            remote.outcome = "cancelled"
            remote.done.set()


def run(main):
    with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
        return runner.run(main(runner.get_loop(), Client(runner.get_loop())))


def test_results_errors_and_options():
    async def main(loop, client):
        executor = DaskExecutor(client, workers=["a"])
        first = loop.run_in_executor(executor, int, "5")
        second = loop.run_in_executor(executor, int, "x")
        third = executor.submit(dict, key=1, workers=2)
        assert [remote.options for remote in client.submitted] == [{"pure": False, "workers": ["a"]}] * 3
        for index in range(3):
            client.release(index)
        assert await first == 5
        with pytest.raises(ValueError, match="invalid literal"):
            await second
        assert await asyncio.wrap_future(third) == {"key": 1, "workers": 2}
        async with DaskExecutor(client, pure=True) as executor:
            executor.submit(int)
            assert client.submitted[-1].options == {"pure": True}
            client.release(3)

    run(main)


def test_cancelling_reaches_the_cluster():
    async def main(loop, client):
        executor = DaskExecutor(client)
        future = loop.run_in_executor(executor, int)
        await asyncio.sleep(0)
        future.cancel()
        while not client.cancelled:
            await asyncio.sleep(0)
        assert client.cancelled == client.submitted
        await executor.aclose()
        # And from the cluster to here.
        executor = DaskExecutor(client)
        future = loop.run_in_executor(executor, int)
        await client.cancel(client.submitted[1:], asynchronous=True, reason="", msg="")
        with pytest.raises(asyncio.CancelledError):
            await future
        assert len(client.cancelled) == 2

    run(main)


def test_a_result_and_a_cancellation_at_once():
    async def main(loop, client):
        executor = DaskExecutor(client)
        future = executor.submit(int)
        client.release(0)
        await asyncio.sleep(0)
        assert future.cancel() in (True, False)
        await executor.aclose()
        assert future.done()

    run(main)


def test_shutdown_never_blocks_a_loop():
    async def main(loop, client):
        executor = DaskExecutor(client)
        future = executor.submit(int, "3")
        with pytest.raises(RuntimeError, match=r"would block the running event loop.*aclose"):
            executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(int)
        closing = loop.create_task(executor.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        client.release(0)
        await closing
        assert future.result() == 3
        executor.shutdown()  # nothing to wait for
        await executor.aclose()

    run(main)


def test_leaving_the_block():
    async def main(loop, client):
        async with DaskExecutor(client) as executor:
            future = executor.submit(int)
            client.release(0)
        assert future.result() == 0
        with pytest.raises(KeyError):
            async with DaskExecutor(client) as executor:
                future = executor.submit(int)
                raise KeyError
        assert future.cancelled()

    run(main)


def test_aclose_that_is_cancelled_leaves_the_calls_alone():
    async def main(loop, client):
        executor = DaskExecutor(client)
        future = executor.submit(int)
        closing = loop.create_task(executor.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await asyncio.sleep(0)
        assert closing.cancelled() and not future.done() and not client.cancelled
        client.release(0)
        assert await asyncio.wrap_future(future) == 0

    run(main)


def test_from_a_thread_without_a_loop():
    loop = aio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        client = Client(loop)
        with DaskExecutor(client) as executor:
            futures = [executor.submit(int, str(n)) for n in range(3)]
            for index in range(3):
                client.release(index)
        assert [future.result(0) for future in futures] == [0, 1, 2]
        executor = DaskExecutor(client)
        future = executor.submit(int)
        executor.shutdown(cancel_futures=True)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)
        asyncio.run_coroutine_threadsafe(executor.aclose(), loop).result(10)
        assert client.cancelled == client.submitted[3:]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_the_clients_loop_is_closed():
    loop = aio.new_event_loop()
    executor = DaskExecutor(Client(loop))
    future = executor.submit(int)
    loop.close()
    assert future.cancel()


def test_the_clients_loop_ends_first():
    """Its tasks are cancelled, as asyncio.run does: who waits elsewhere is told, the cluster is not asked."""
    kept = []

    async def main(loop, client):
        executor = DaskExecutor(client)
        kept.extend([executor.submit(int), client])
        await asyncio.sleep(0)

    run(main)
    assert kept[0].cancelled() and not kept[1].cancelled
