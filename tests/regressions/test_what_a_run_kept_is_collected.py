"""While a loop runs, the collector does not look at the tasks and sleeps that the loop owns: they live in any case.

Whatever leaves that ownership, and everything at the end of the run, it must see again.
"""

import contextvars
import gc
import threading
import warnings
import weakref

import pytest

VAR = contextvars.ContextVar("VAR")


class Owner:
    pass


def test_a_loop_that_was_forgotten_goes_with_all_its_tasks(world):
    """Asleep, waiting, ready: none of them is left, nor what they hold."""
    aio = world.aio
    loop = world.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # tasks that die pending say so
    gone = []

    async def sleeps(owner):
        await aio.sleep(1000)

    async def waits(owner):
        owner.future = loop.create_future()  # noqa: F821  # deleted at the end
        await owner.future

    async def is_ready(owner):
        while True:
            await aio.sleep(0)

    async def in_a_group(owner):
        await aio.gather(aio.sleep(1000), aio.sleep(2000))

    # A sleep of asyncio's own keeps its timer's handle, which the collector does not see (docs/compat.md).
    bodies = (waits, is_ready) if world.name == "loop" else (sleeps, waits, is_ready, in_a_group)

    async def main():
        for body in bodies:  # noqa: F821  # deleted at the end
            owner = Owner()
            owner.task = aio.create_task(body(owner))
            gone.append(weakref.ref(owner))
        await aio.sleep(0.01)

    task = loop.create_task(main())
    loop.run_until_complete(task)
    for fate in gone:
        assert gc.is_tracked(fate().task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, task, main, sleeps, waits, is_ready, in_a_group, bodies
        gc.collect()
        assert [fate() for fate in gone if fate() is not None] == []


@pytest.mark.parametrize("ending", ["returned", "failed", "cancelled"])
def test_a_finished_task_in_a_cycle(world, ending):
    """Collected while the loop goes on."""
    aio = world.aio

    class Worker(Owner):
        async def work(self):
            await aio.sleep(0)
            if ending == "failed":
                raise ValueError("text")
            if ending == "cancelled":
                await aio.sleep(1000)
            return self

    async def main():
        worker = Worker()
        worker.task = aio.create_task(worker.work())
        for _ in range(3):
            await aio.sleep(0)
        if ending == "cancelled":
            worker.task.cancel()
        await aio.wait([worker.task])
        if ending == "failed":
            assert isinstance(worker.task.exception(), ValueError)
        gone = weakref.ref(worker)
        del worker
        await aio.sleep(0)
        gc.collect()
        return gone()

    with world.loop() as loop:
        assert loop.run_until_complete(main()) is None


def test_the_future_of_a_sleep_that_somebody_took(world):
    aio = world.aio

    async def main():
        fates = []
        for delay, ends in ((0.001, True), (1000, False)):
            coroutine = aio.sleep(delay)
            future = coroutine.send(None)
            future.owner = owner = Owner()
            owner.future = future
            fates.append(weakref.ref(owner))
            if ends:
                await aio.sleep(0.02)
                assert future.done()
            coroutine.close()
            del coroutine, future, owner
        # What was cancelled leaves the timers when they are tidied up, asyncio's and ours.
        gc.collect()
        return fates[0]()

    with world.loop() as loop:
        assert loop.run_until_complete(main()) is None


@pytest.mark.parametrize("burst", [1, 300])
def test_the_context_of_a_callback(world, burst):
    """A token keeps its context, the context what was set in it, and that the token."""
    aio = world.aio
    gone = []

    def callback():
        owner = Owner()
        owner.token = VAR.set(owner)
        gone.append(weakref.ref(owner))

    async def main():
        loop = aio.get_running_loop()
        for _ in range(burst):
            loop.call_soon(callback)
        thread = threading.Thread(target=lambda: [loop.call_soon_threadsafe(callback) for _ in range(burst)])
        thread.start()
        while len(gone) < 2 * burst:
            await aio.sleep(0.001)
        thread.join()
        gc.collect()
        return [fate for fate in gone if fate() is not None]

    with world.loop() as loop:
        assert loop.run_until_complete(main()) == []


def test_the_context_of_a_handle_that_waits(world):
    """Seen through `get_context()` it is as any other, and it outlives its handle."""
    aio = world.aio

    async def main():
        loop = aio.get_running_loop()
        handles, contexts = [], []

        def post():
            for number in range(100):
                VAR.set(number)
                handles.append(loop.call_soon_threadsafe(lambda: None))

        thread = threading.Thread(target=post)
        thread.start()
        thread.join()
        if hasattr(handles[0], "get_context"):
            contexts = [handle.get_context() for handle in handles]
            assert [context[VAR] for context in contexts] == list(range(100))
            assert all(gc.is_tracked(context) for context in contexts)
        for handle in handles[::2]:
            handle.cancel()
        handles.clear()
        await aio.sleep(0.01)
        gc.collect()
        return [context[VAR] for context in contexts]

    with world.loop() as loop:
        assert loop.run_until_complete(main()) in ([], list(range(100)))
