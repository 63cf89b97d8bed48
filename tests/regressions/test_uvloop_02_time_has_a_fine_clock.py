"""loop.time() read 2000 times in a tight loop gives at least 1000 distinct values.

uvloop#739: its clock was cached and had milliseconds; two values came out. rloop#-: microseconds.
"""

import time


def test_distinct_values(world):
    with world.loop() as loop:
        values = [loop.time() for _ in range(2000)]
    assert len(set(values)) >= 1000
    assert values == sorted(values)


def test_inside_a_callback_too(world):
    async def main():
        loop = world.aio.get_running_loop()
        return len({loop.time() for _ in range(2000)})

    assert world.run(main) >= 1000


def test_it_moves_while_a_callback_blocks(world):
    async def main():
        loop = world.aio.get_running_loop()
        before = loop.time()
        time.sleep(0.02)
        return loop.time() - before

    assert world.run(main) >= 0.02
