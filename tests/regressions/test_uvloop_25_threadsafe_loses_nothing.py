"""call_soon_threadsafe from eight threads loses no callback and keeps each thread's order.

uvloop#720: on 3.14t callbacks were lost and the process crashed.
"""

import threading
import time

THREADS, EACH = 8, 3000


def test_eight_threads(world):
    with world.loop() as loop:
        seen = []

        def produce(name):
            for number in range(EACH):
                loop.call_soon_threadsafe(seen.append, (name, number))
            loop.call_soon_threadsafe(finished.append, name)
            loop.call_soon_threadsafe(lambda: len(finished) == THREADS and loop.stop())

        finished = []
        threads = [threading.Thread(target=produce, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        loop.run_forever()
        for thread in threads:
            thread.join()
        assert len(seen) == THREADS * EACH
        for name in range(THREADS):
            assert [number for n, number in seen if n == name] == list(range(EACH))


def test_a_loop_that_sleeps_again_and_again(world):
    """Each post finds the loop asleep, or just going to sleep: every one must wake it."""
    with world.loop() as loop:
        posted = threading.Event()
        seen = []

        def take(number):
            seen.append(number)
            posted.set()

        def produce():
            for number in range(500):
                posted.clear()
                loop.call_soon_threadsafe(take, number)
                assert posted.wait(10)
                if number % 50 == 0:
                    time.sleep(0.002)
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=produce)
        thread.start()
        loop.run_forever()
        thread.join()
        assert seen == list(range(500))


def test_callbacks_and_cancellations_from_threads(world):
    with world.loop() as loop:
        seen = []

        def produce():
            for number in range(2000):
                handle = loop.call_soon_threadsafe(seen.append, number)
                if number % 2:
                    handle.cancel()
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=produce)
        thread.start()
        loop.run_forever()
        thread.join()
        assert seen == sorted(seen)
        assert set(range(0, 2000, 2)) <= set(seen)


def test_posting_while_the_loop_closes(world):
    """A thread that posts to a loop that is being closed gets an error or nothing, never a crash."""
    for _ in range(20):
        loop = world.new_event_loop()
        outcomes, go = [], threading.Event()

        def produce():
            go.wait()
            try:
                for _ in range(200):
                    loop.call_soon_threadsafe(int)
            except RuntimeError as exc:
                outcomes.append(str(exc))

        thread = threading.Thread(target=produce)
        thread.start()
        go.set()
        loop.close()
        thread.join()
        assert outcomes in ([], ["Event loop is closed"])
