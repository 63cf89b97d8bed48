"""A task that nobody keeps runs to its end: our loop holds it until it is done, and not longer.

cpython#91887, cpython#88831, cpython#117379: stock keeps weak references, so a task waiting in a cycle of its own is
collected in the middle of its work.
"""

import asyncio
import gc
import weakref

import pytest


@pytest.fixture(autouse=True)
def only_our_loop(ours):
    if ours.name == "uvloop":
        pytest.skip("our own promise")


def test_a_forgotten_task_finishes(ours):
    done = []

    async def work(fut):
        # Everything that refers to this task is its own future, which only this frame holds.
        await fut
        done.append(True)

    with ours.loop() as loop:
        handles = []

        async def main():
            for _ in range(20):
                fut = loop.create_future()
                asyncio.create_task(work(fut))
                handles.append(weakref.ref(fut))
                del fut
            await ours.aio.sleep(0)
            gc.collect()
            for ref in handles:
                assert ref() is not None
                ref().set_result(None)
            await ours.aio.sleep(0)
            await ours.aio.sleep(0)

        loop.run_until_complete(main())
    assert len(done) == 20


def test_a_finished_task_is_let_go(ours):
    with ours.loop() as loop:
        refs = []

        async def work():
            await ours.aio.sleep(0)

        async def main():
            for _ in range(10):
                refs.append(weakref.ref(asyncio.create_task(work())))
            for _ in range(4):
                await ours.aio.sleep(0)

        loop.run_until_complete(main())
        assert [ref() for ref in refs] == [None] * 10


def test_a_loop_that_is_closed_lets_go(ours):
    async def work():
        await asyncio.get_running_loop().create_future()

    loop = ours.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    ref = weakref.ref(loop.create_task(work()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.collect()
    assert ref() is not None
    loop.close()
    del loop
    gc.collect()
    assert ref() is None
