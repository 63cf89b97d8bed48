"""`await asyncio.sleep(d)` never returns before d by time.monotonic().

uvloop#739, uvloop#755: delays were rounded to milliseconds, downwards, so sleep(0.0104) was early every time.
"""

import time

import pytest


@pytest.mark.parametrize(("delay", "lanes"), [(0.0004, 1), (0.0015, 1), (0.0104, 4), (0.1, 20)])
def test_sleep_one_after_the_other(world, delay, lanes):
    """A hundred times; the long ones in a few lanes beside each other, each begun a little later."""
    times = []

    async def lane():
        for _ in range(100 // lanes):
            started = time.monotonic()
            await world.aio.sleep(delay)
            times.append(time.monotonic() - started)

    async def main():
        running = []
        for _ in range(lanes):
            running.append(world.aio.ensure_future(lane()))
            await world.aio.sleep(delay * 0.037)
        await world.aio.gather(*running)

    world.run(main)
    assert len(times) == 100
    assert min(times) >= delay


def test_many_sleeps_at_once(world):
    async def sleeper(delay):
        started = time.monotonic()
        await world.aio.sleep(delay)
        return time.monotonic() - started - delay

    async def main():
        return await world.aio.gather(*(sleeper(0.05 + n * 0.0001037) for n in range(500)))

    assert min(world.run(main)) >= 0


def test_call_later_and_call_at(world):
    with world.loop() as loop:
        early = []

        def check(due):
            if loop.time() < due:
                early.append(due)

        for number in range(300):
            due = loop.time() + number * 0.000137
            loop.call_at(due, check, due)
            loop.call_later(number * 0.000137, check, due)
        loop.call_later(0.06, loop.stop)
        loop.run_forever()
        assert early == []


def test_short_sleeps_are_not_rounded_up_to_a_millisecond(ours):
    """Beside never early: the poller waits in nanoseconds. The quickest of many is what the loop can do."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")

    async def main():
        best = 1.0
        for _ in range(200):
            started = time.monotonic()
            await ours.aio.sleep(0.0003)
            best = min(best, time.monotonic() - started)
        return best

    assert 0.0003 <= ours.run(main) < 0.001
