"""Worker processes of Dask behind run_in_executor: results, errors, cancelling for real, shutting down on a loop."""

import asyncio
import concurrent.futures
import os
import tempfile
import threading
import time
from pathlib import Path

from distributed import Client, LocalCluster

from outcome import report


def work(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def fail(text: str) -> None:
    raise LookupError(text)


def touch_and_wait(folder: str, name: str) -> str:
    Path(folder, f"{name}.began").touch()
    deadline = time.monotonic() + 30
    while not Path(folder, "go").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    return name


def count(path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    return 1


def arguments_of_tasks(dask_worker) -> list[str]:
    return [str(task.run_spec.args) for task in dask_worker.state.tasks.values() if task.run_spec is not None]


async def names_in_workers(client) -> set[str]:
    answers = (
        client.run(arguments_of_tasks) if client.asynchronous else asyncio.to_thread(client.run, arguments_of_tasks)
    )
    texts = [text for texts in (await answers).values() for text in texts]
    return {name for name in "abcd" if any(f"'{name}'" in text for text in texts)}


async def until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("still waiting")


async def calls(executor) -> None:
    loop = asyncio.get_running_loop()
    answers = await asyncio.gather(*(loop.run_in_executor(executor, work, n) for n in range(20)))
    assert [square for square, _ in answers] == [n * n for n in range(20)]
    assert os.getpid() not in {pid for _, pid in answers}
    try:
        await loop.run_in_executor(executor, fail, "far away")
        raise AssertionError("nothing was raised")
    except LookupError as exc:
        assert str(exc) == "far away"
    # Keywords that client.submit has itself are the function's.
    assert executor.submit(dict, key=1, workers=2, pure=3) is not None
    assert await asyncio.wrap_future(executor.submit(dict, key=1, workers=2)) == {"key": 1, "workers": 2}


async def not_pure(executor, folder: str) -> None:
    loop = asyncio.get_running_loop()
    path = os.path.join(folder, "count")
    for _ in range(3):
        await loop.run_in_executor(executor, count, path)
    assert Path(path).read_text() == "xxx"
    # The same call three times at once, too, which one key would make one.
    await asyncio.gather(*(loop.run_in_executor(executor, count, path) for _ in range(3)))
    assert Path(path).read_text() == "xxxxxx"


async def cancelling(executor, client, folder: str) -> None:
    """One thread in each of two workers: two calls run, the third waits on the cluster and is never made."""
    loop = asyncio.get_running_loop()
    running = [loop.run_in_executor(executor, touch_and_wait, folder, name) for name in "ab"]
    await until(lambda: all(Path(folder, f"{name}.began").exists() for name in "ab"))
    queued = loop.run_in_executor(executor, touch_and_wait, folder, "c")
    kept = loop.run_in_executor(executor, touch_and_wait, folder, "d")
    await asyncio.sleep(0.05)
    queued.cancel()
    running[1].cancel()
    for cancelled in (queued, running[1]):
        try:
            await cancelled
            raise AssertionError("not cancelled")
        except asyncio.CancelledError:
            pass
    # Until the workers themselves know nothing of "c"; the thread of "b" goes on.
    while await names_in_workers(client) - {"a", "b", "d"}:
        await asyncio.sleep(0.01)
    Path(folder, "go").touch()
    assert await running[0] == "a"
    assert await kept == "d"
    assert not Path(folder, "c.began").exists()


async def shutting_down(make, folder: str) -> None:
    loop = asyncio.get_running_loop()
    for name in ("go", *(f"{name}.began" for name in "abcd")):
        Path(folder, name).unlink(missing_ok=True)
    async with make() as executor:
        pending = loop.run_in_executor(executor, touch_and_wait, folder, "e")
        try:
            executor.shutdown()
            raise AssertionError("it blocked the loop")
        except RuntimeError as exc:
            assert "would block the running event loop" in str(exc)
        try:
            executor.submit(work, 1)
            raise AssertionError("took one more")
        except RuntimeError as exc:
            assert str(exc) == "cannot schedule new futures after shutdown"
        loop.call_later(0.05, Path(folder, "go").touch)
    assert pending.done() or await pending == "e"
    Path(folder, "go").unlink()
    try:
        async with make() as executor:
            pending = loop.run_in_executor(executor, touch_and_wait, folder, "f")
            raise KeyError("out")
    except KeyError:
        pass
    try:
        await pending
        raise AssertionError("not cancelled")
    except asyncio.CancelledError:
        pass
    Path(folder, "go").touch()


async def scenario(client) -> None:
    from asynchrotron.executors import DaskExecutor

    # A worker may begin with the call that is cancelled last while the folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        executor = DaskExecutor(client)
        await calls(executor)
        await not_pure(executor, folder)
        await cancelling(executor, client, folder)
        await executor.aclose()
        await shutting_down(lambda: DaskExecutor(client), folder)


async def main() -> None:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    # An asynchronous client on this very loop.
    async with LocalCluster(asynchronous=True, **options) as cluster, Client(cluster, asynchronous=True) as client:
        await scenario(client)

        # The scheduler tells every client of a cancellation; one that comes between a new client and its first
        # message travels with that message, which dask takes for an error.
        await until(lambda: all(task.state in {"memory", "erred"} for task in cluster.scheduler.tasks.values()))

        # A client with a loop of its own in another thread; made off this loop, as it blocks until it is connected.
        blocking = await asyncio.to_thread(Client, cluster.scheduler_address, set_as_default=False)
        assert threading.active_count() > 1
        await scenario(blocking)

        # Without a loop around it is an ordinary executor.
        def without_a_loop() -> list[int]:
            from asynchrotron.executors import DaskExecutor

            with DaskExecutor(blocking) as executor:
                futures = [executor.submit(work, n) for n in range(4)]
            assert all(future.done() for future in futures)
            concurrent.futures.wait(futures)
            return [future.result()[0] for future in futures]

        assert await asyncio.to_thread(without_a_loop) == [0, 1, 4, 9]
        await asyncio.to_thread(blocking.close)
    report("dask executor")


if __name__ == "__main__":
    asyncio.run(main())
