"""cpython#86296: 3.11's wait_for() returns its result and forgets that it was cancelled, if both come in one turn."""

import sys

import pytest
from worlds import drain


@pytest.mark.parametrize("kind", ["future", "task", "coroutine"])
@pytest.mark.parametrize("first", ["result", "cancel"])
def test_cancelled_in_the_turn_in_which_the_result_comes(ours, kind, first):
    if sys.version_info < (3, 12) and ours.name != "native":
        pytest.skip("stock 3.11's own wait_for")
    with ours.loop() as loop:
        waiter = loop.create_future()

        async def inner():
            return await waiter

        async def main():
            awaited = inner() if kind == "coroutine" else inner_task or waiter
            return await ours.aio.wait_for(awaited, 60)

        inner_task = loop.create_task(inner()) if kind == "task" else None
        task = loop.create_task(main())
        drain(loop, 3)
        if first == "result":
            waiter.set_result("result")
            task.cancel()
        else:
            task.cancel()
            if not waiter.done():
                waiter.set_result("result")
        drain(loop, 8)
        assert task.cancelled()
        assert task.cancelling() == 1


def test_cancelled_by_the_task_it_waits_for(ours):
    if sys.version_info < (3, 12) and ours.name != "native":
        pytest.skip("stock 3.11's own wait_for")
    with ours.loop() as loop:

        async def inner():
            waiting.cancel()
            return "result"

        async def main(task):
            return await ours.aio.wait_for(task, 60)

        task = loop.create_task(inner())
        waiting = loop.create_task(main(task))
        drain(loop, 8)
        assert waiting.cancelled()
