"""A burst of call_soon_threadsafe wakes the loop once, not once per call.

zuvloop#119 (2.1 times quicker there). Counted by system calls, not by time.
"""

import os

import pytest

PROGRAM = """
import threading
loop = new_event_loop()
def burst():
    for _ in range(5000):
        loop.call_soon_threadsafe(int)
    loop.call_soon_threadsafe(loop.stop)
worker = threading.Thread(target=burst)
worker.start()
loop.run_forever()
worker.join()
loop.close()
"""


def test_few_writes_for_a_burst(ours):
    """The waker is written with write(); the kernel counts those of this process."""
    if ours.name == "uvloop" or not os.path.exists("/proc/self/io"):
        pytest.skip("nothing counts system calls here")
    count = "int(pathlib.Path('/proc/self/io').read_text().split('syscw: ')[1].split()[0])"
    done = ours.program(f"import pathlib\nbefore = {count}\n{PROGRAM}\nprint({count} - before)\n")
    assert (done.status, done.err) == (0, "")
    assert 0 <= int(done.out) < 1000


def test_all_of_a_burst_arrives(world):
    done = world.program(PROGRAM + "print('end')\n")
    assert (done.status, done.out, done.err) == (0, "end\n", "")


def test_posts_from_the_loops_own_thread_need_no_wakeup(world):
    with world.loop() as loop:
        seen = []

        def post(left):
            seen.append(left)
            if left:
                loop.call_soon_threadsafe(post, left - 1)
            else:
                loop.stop()

        loop.call_soon(post, 2000)
        loop.run_forever()
        assert seen == list(range(2000, -1, -1))
