"""Three call_at at +3.0, +2.6 and +2.2 ms, registered in that order, run in time order.

uvloop#739, libuv#4773: rounded to milliseconds they ran in the order of registration. Equal deadlines keep theirs.
"""

import random


def test_three_timers(world):
    for _ in range(5):
        with world.loop() as loop:
            seen, now = [], loop.time()
            for offset in (0.0030, 0.0026, 0.0022):
                loop.call_at(now + offset, seen.append, offset)
            loop.call_at(now + 0.004, loop.stop)
            loop.run_forever()
            assert seen == [0.0022, 0.0026, 0.0030]


def test_many_random_timers(world):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chooser = random.Random(seed)
    with world.loop() as loop:
        seen, now = [], loop.time()
        offsets = [chooser.random() * 0.02 for _ in range(1000)]
        handles = [loop.call_at(now + offset, seen.append, offset) for offset in offsets]
        cancelled = set()
        for number in chooser.sample(range(1000), 600):
            handles[number].cancel()
            cancelled.add(offsets[number])
        loop.call_at(now + 0.03, loop.stop)
        loop.run_forever()
        assert seen == sorted(set(offsets) - cancelled)


def test_equal_deadlines_run_in_the_order_of_registration(ours):
    with ours.loop() as loop:
        seen, when = [], loop.time() + 0.002
        for number in range(500):
            loop.call_at(when, seen.append, number)
        loop.call_at(when + 0.001, loop.stop)
        loop.run_forever()
        assert seen == list(range(500))
