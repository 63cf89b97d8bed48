"""A burst of call_soon_threadsafe wakes the loop once, not once per call.

zuvloop#119 (2.1 times quicker there). Counted by system calls, not by time.
"""

import shutil

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
    """Counts write and send calls of the whole process where strace is there to count them."""
    if shutil.which("strace") is None or ours.name == "uvloop":
        pytest.skip("needs strace")
    import re
    import subprocess
    import sys

    from worlds import PACKAGE_ROOT

    done = subprocess.run(
        ["strace", "-f", "-c", "-e", "trace=write,sendto,sendmsg", sys.executable, "-c", ours.preamble + PROGRAM],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": PACKAGE_ROOT, "PATH": "/usr/bin:/bin"},
        timeout=60,
        check=False,
    )
    counts = [int(n) for n in re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)", done.stderr, re.MULTILINE)]
    assert sum(counts) < 2500, done.stderr


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
