"""Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier: order of wake-ups, turns, cancellation.

Turn numbers come from `Generations`: every world must wake its tasks in the same turn of the loop, in the same order.
"""

import pytest
from lock_plays import LOCKS, chained, make, play, turns
from worlds import araised, normal, outcome, parity

# --- order and turns ----------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("inside", [0, 1, 2])
def test_turns_of_acquiring(w, name, inside):
    async def main(loop, log):
        lock = make(w, name)

        async def worker(number):
            for attempt in range(2):
                log((number, attempt, "wants"))
                async with lock:
                    log((number, attempt, "has"))
                    await turns(w.aio, inside)
                log((number, attempt, "released"))

        await w.aio.gather(*(worker(number) for number in range(4)))
        log(normal(lock))

    return play(w, main)


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_turns_with_acquire_and_release(w, name):
    async def main(loop, log):
        lock = make(w, name)

        async def worker(number):
            log((number, await lock.acquire()))
            lock.release()
            log((number, lock.locked(), "first done"))
            log((number, await lock.acquire()))
            await w.aio.sleep(0)
            lock.release()

        tasks = [loop.create_task(worker(number)) for number in range(3)]
        await w.aio.sleep(0)
        log(normal(lock))
        await w.aio.wait(tasks)
        log(normal(lock))

    return play(w, main)


@parity
def test_turns_of_an_event(w):
    async def main(loop, log):
        event = w.aio.Event()

        async def worker(number):
            log((number, await event.wait(), event.is_set()))
            event.clear()
            log((number, await event.wait()))

        tasks = [loop.create_task(worker(number)) for number in range(3)]
        await turns(w.aio, 2)
        log(normal(event))
        event.set()
        event.set()
        log(normal(event))
        await turns(w.aio, 3)
        log(normal(event))
        event.set()
        await w.aio.wait(tasks)
        log((normal(event), await event.wait()))

    return play(w, main)


@parity
@pytest.mark.parametrize("how", [(), (1,), (2,), (0,), (-3,), (99,), (True,), (1.5,), "all"])
def test_turns_of_a_condition(w, how):
    async def main(loop, log):
        condition = w.aio.Condition()

        async def worker(number):
            async with condition:
                log((number, "waits"))
                log((number, await condition.wait(), condition.locked()))

        tasks = [loop.create_task(worker(number)) for number in range(4)]
        await turns(w.aio, 3)
        for _ in range(4):
            async with condition:
                log(normal(condition))
                if how == "all":
                    condition.notify_all()
                else:
                    condition.notify(*how)
                log("notified")
            await turns(w.aio, 4)
        async with condition:
            condition.notify_all()
        await w.aio.wait(tasks)
        log(normal(condition))

    return play(w, main)


@parity
def test_turns_of_wait_for(w):
    async def main(loop, log):
        condition = w.aio.Condition()
        state = {"value": 0}

        async def worker(number):
            async with condition:
                log((number, await condition.wait_for(lambda: state["value"] > number and ["yes", number])))

        tasks = [loop.create_task(worker(number)) for number in range(3)]
        for _ in range(4):
            await turns(w.aio, 3)
            async with condition:
                state["value"] += 1
                log(state["value"])
                condition.notify_all()
        await w.aio.wait(tasks)
        async with condition:
            log(await condition.wait_for(lambda: "at once"))
            log(await araised(condition.wait_for(lambda: 1 / 0)))
            log(condition.locked())

    return play(w, main)


@parity
@pytest.mark.parametrize("value", [0, 1, 2, 3])
@pytest.mark.parametrize("bounded", [False, True])
def test_turns_of_a_semaphore(w, value, bounded):
    async def main(loop, log):
        semaphore = (w.aio.BoundedSemaphore if bounded else w.aio.Semaphore)(value)

        async def worker(number):
            await semaphore.acquire()
            log((number, "in", semaphore.locked(), semaphore._value))
            await turns(w.aio, number % 3)
            outcome(semaphore.release)
            log((number, "out", semaphore.locked(), semaphore._value))

        tasks = [loop.create_task(worker(number)) for number in range(6)]
        await turns(w.aio, 2)
        log((normal(semaphore), outcome(semaphore.release), outcome(semaphore.release)))
        await turns(w.aio, 1)
        log((normal(semaphore), semaphore.locked()))
        await turns(w.aio, 12)
        for task in tasks:
            task.cancel()
        await turns(w.aio, 3)
        log((normal(semaphore), outcome(semaphore.release)))

    return play(w, main)


@parity
@pytest.mark.parametrize("parties", [1, 2, 3])
@pytest.mark.parametrize("enter", [False, True])
def test_turns_of_a_barrier(w, parties, enter):
    async def main(loop, log):
        barrier = w.aio.Barrier(parties)

        async def worker(number):
            for attempt in range(2):
                if enter:
                    async with barrier as index:
                        log((number, attempt, index, normal(barrier)))
                else:
                    log((number, attempt, await barrier.wait(), normal(barrier)))

        tasks = [loop.create_task(worker(number)) for number in range(2 * parties)]
        await w.aio.sleep(0)
        log((normal(barrier), barrier.parties, barrier.n_waiting, barrier.broken, barrier._count, str(barrier._state)))
        await w.aio.wait(tasks)
        log(normal(barrier))

    return play(w, main)


@parity
@pytest.mark.parametrize("how", ["reset", "abort", "abort, reset", "cancel first", "cancel last", "release lock"])
def test_a_disturbed_barrier(w, how):
    async def main(loop, log):
        barrier = w.aio.Barrier(3)

        async def worker(number):
            try:
                log((number, await barrier.wait()))
            except BaseException as exc:
                log((number, chained(exc), normal(barrier)))

        tasks = [loop.create_task(worker(number)) for number in range(2)]
        await turns(w.aio, 2)
        log(normal(barrier))
        if how.startswith("cancel"):
            tasks[0 if how == "cancel first" else 1].cancel()
            await turns(w.aio, 2)
        elif how == "release lock":
            await barrier._cond.acquire()
            tasks[0].cancel()
            await turns(w.aio, 2)
            log(normal(barrier._cond))
            barrier._cond.release()
        else:
            for step in how.split(", "):
                await getattr(barrier, step)()
                log(normal(barrier))
        tasks += [loop.create_task(worker(number)) for number in (2, 3, 4)]
        await turns(w.aio, 8)
        log(normal(barrier))
        await barrier.reset()
        await turns(w.aio, 8)
        log((normal(barrier), [task.done() for task in tasks]))
        await barrier.abort()
        await turns(w.aio, 5)
        log(normal(barrier))
        assert issubclass(w.aio.BrokenBarrierError, RuntimeError)
        log([type(exc) is w.aio.BrokenBarrierError for exc in [(await kept(barrier.wait()))]])

    return play(w, main)


async def kept(awaitable):
    try:
        await awaitable
    except BaseException as exc:
        return exc


# --- cancellation -------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("released", [0, 1, 2])
def test_cancelling_while_acquiring(w, name, before, released):
    """Cancelled before, in, and after the turn in which the lock comes free."""

    async def main(loop, log):
        lock = make(w, name)
        await lock.acquire()

        async def worker(number):
            try:
                async with lock:
                    log((number, "has"))
            except BaseException as exc:
                log((number, chained(exc), normal(lock)))
                raise

        tasks = [loop.create_task(worker(number)) for number in range(4)]
        await w.aio.sleep(0)
        for turn in range(4):
            if turn == released:
                lock.release()
                log(normal(lock))
            if turn == before:
                tasks[0].cancel("message")
                tasks[2].cancel()
                log(normal(lock))
            await w.aio.sleep(0)
        await turns(w.aio, 6)
        log((normal(lock), [task.done() for task in tasks], getattr(lock, "_value", None)))
        for task in tasks:
            task.cancel()
        await w.aio.wait(tasks)

    return play(w, main)


@parity
@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", [0, 1, 2])
def test_cancelling_a_wait_on_a_condition(w, first, second):
    """Once or twice: in the wait, after the notification, while it gets the lock again."""

    async def main(loop, log):
        condition = w.aio.Condition()

        async def worker(number):
            async with condition:
                try:
                    log((number, await condition.wait()))
                except BaseException as exc:
                    log((number, chained(exc), condition.locked(), normal(condition)))
                    raise

        async def holder():
            async with condition:
                condition.notify(1)
                await turns(w.aio, 4)

        tasks = [loop.create_task(worker(number)) for number in range(3)]
        await turns(w.aio, 2)
        tasks.append(loop.create_task(holder()))
        for turn in range(8):
            if turn == first:
                tasks[0].cancel("first")
            if second and turn == first + second:
                tasks[0].cancel("second")
            log(normal(condition))
            await w.aio.sleep(0)
        async with condition:
            condition.notify_all()
        await turns(w.aio, 6)
        log((normal(condition), [normal(repr(task.done() and task.cancelled())) for task in tasks]))

    return play(w, main)


@parity
@pytest.mark.parametrize("before", range(5))
def test_cancelling_event_and_barrier(w, before):
    async def main(loop, log):
        event, barrier = w.aio.Event(), w.aio.Barrier(3)

        async def worker(number):
            try:
                log((number, await event.wait()))
                log((number, await barrier.wait()))
            except BaseException as exc:
                log((number, chained(exc), normal(event), normal(barrier)))
                raise

        tasks = [loop.create_task(worker(number)) for number in range(4)]
        await w.aio.sleep(0)
        event.set()
        for turn in range(5):
            if turn == before:
                tasks[1].cancel()
            await w.aio.sleep(0)
        log((normal(event), normal(barrier), [task.done() for task in tasks]))
        await turns(w.aio, 6)
        for task in tasks:
            task.cancel()
        await turns(w.aio, 4)
        log((normal(event), normal(barrier)))

    return play(w, main)


@parity
def test_timeouts(w):
    async def main(loop, log):
        lock, event = w.aio.Lock(), w.aio.Event()
        await lock.acquire()
        for wait in (lock.acquire, event.wait, w.aio.Semaphore(0).acquire, w.aio.Barrier(2).wait):
            log(await araised(w.aio.wait_for(wait(), 0)))
            try:
                async with w.aio.timeout(0):
                    await wait()
            except TimeoutError:
                log("timeout")
        log((normal(lock), normal(event)))

    with w.loop() as loop:
        log = []
        loop.run_until_complete(main(loop, log.append))
        return log
