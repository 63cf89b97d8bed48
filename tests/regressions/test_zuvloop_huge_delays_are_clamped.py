"""Timers of huge delays wait, stay cancellable and do not disturb others, nor make the poll wait fail or spin.

zuvloop#76. CPython: MAXIMUM_SELECT_TIMEOUT.
"""

import math
import time

import pytest

HUGE = [86_400.0 * 365 * 100, 2.0**31, 2.0**32, 2.0**53, 2.0**63 / 1e9, 2.0**64, 1e300, math.inf]


@pytest.mark.parametrize("delay", HUGE, ids=repr)
def test_a_huge_delay(world, delay):
    with world.loop() as loop:
        seen = []
        timers = [loop.call_later(delay, seen.append, "huge"), loop.call_at(delay, seen.append, "huge")]
        cpu = time.process_time()
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        assert time.process_time() - cpu < 0.5
        assert seen == []
        assert timers[0].when() >= 1e9 or timers[0].when() >= delay
        for timer in timers:
            timer.cancel()


def test_only_huge_timers_and_a_thread_that_wakes(world):
    """With nothing else to wait for, the poll itself gets the clamped timeout."""
    import threading

    with world.loop() as loop:
        timer = loop.call_later(math.inf, print)
        thread = threading.Timer(0.03, lambda: loop.call_soon_threadsafe(loop.stop))
        thread.start()
        cpu = time.process_time()
        loop.run_forever()
        assert time.process_time() - cpu < 0.5
        thread.join()
        timer.cancel()


def test_sleeping_for_ever_and_being_cancelled(world):
    async def main():
        tasks = [world.aio.create_task(world.aio.sleep(delay)) for delay in HUGE]
        await world.aio.sleep(0.005)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await world.aio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    world.run(main)


def test_not_a_number_does_not_break_the_order(ours):
    """Stock takes nan and its heap is then unordered; ours refuses it or treats it as due, and others run in order."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    with ours.loop() as loop:
        seen, now = [], loop.time()
        try:
            loop.call_later(math.nan, int).cancel()
            loop.call_at(math.nan, int)
        except ValueError:
            pass
        for offset in (0.003, 0.001, 0.002):
            loop.call_at(now + offset, seen.append, offset)
        loop.call_at(now + 0.005, loop.stop)
        loop.run_forever()
        assert seen == [0.001, 0.002, 0.003]
