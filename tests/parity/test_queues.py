"""Queue, PriorityQueue, LifoQueue: items, order of wake-ups turn by turn, cancellation, join, shutdown."""

import asyncio
import random
import sys

import pytest
from queue_words import CLASSES, fill, look
from worlds import Generations, araised, drain, error, normal, outcome, parity, raised, since

# --- items --------------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", CLASSES)
def test_order_of_items(w, name):
    async def main():
        queue = getattr(w.aio, name)()
        trace = []
        for item in (3, 1, 2, 5, 4):
            await queue.put(item)
        trace.append(look(queue))
        trace.append([await queue.get() for _ in range(2)])
        trace.append([queue.get_nowait() for _ in range(3)])
        trace.append((look(queue), raised(queue.get_nowait), raised(queue._get)))
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("name", CLASSES)
def test_limits(w, name):
    with w.loop():
        queue = getattr(w.aio, name)(2)
        fill(queue, 1, 2)
        return look(queue), raised(queue.put_nowait, 3), look(queue)


@parity
@pytest.mark.parametrize(
    "maxsize", [0, -1, 1, True, 2.5, float("inf"), 10**30, -(10**30), "text", None], ids=lambda value: repr(value)[:6]
)
def test_odd_limits(w, maxsize):
    with w.loop():
        queue = w.aio.Queue(maxsize)
        return (
            queue.maxsize, outcome(queue.full), [outcome(queue.put_nowait, item) for item in range(4)],
            outcome(queue.full), queue.qsize(), normal(repr(queue)),
        )  # fmt: skip


@parity
def test_arguments(w):
    with w.loop() as loop:
        make = w.aio.Queue
        queue = make(maxsize=3)
        queue.put_nowait(item=1)
        put = queue.put(item=2)
        loop.run_until_complete(put)
        return (
            queue.maxsize, list(queue._queue), raised(make, 1, 2), raised(make, size=1), raised(make, 1, maxsize=1),
            raised(queue.put_nowait), raised(queue.put_nowait, 1, 2), raised(queue.put_nowait, thing=1),
            raised(queue.put), raised(queue.put, 1, 2), raised(queue.get, 1), raised(queue.join, 1),
            raised(make.get),
        )  # fmt: skip


@parity
def test_a_second_init(w):
    async def main():
        queue = fill(w.aio.Queue(3), 1, 2)
        queue.__init__(5)
        return look(queue), queue._finished.is_set()

    return w.run(main)


@parity
def test_items_that_do_not_compare(w):
    with w.loop():
        queue = w.aio.PriorityQueue()
        queue.put_nowait(1)
        return raised(queue.put_nowait, "text"), look(queue), queue._finished.is_set()


@parity
def test_a_long_queue(w):
    async def main():
        queue = w.aio.Queue()
        fill(queue, *range(5000))
        first = [await queue.get() for _ in range(4990)]
        fill(queue, *range(20))
        return first == list(range(4990)), [queue.get_nowait() for _ in range(queue.qsize())]

    return w.run(main)


# --- turns --------------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("maxsize", [0, 1, 3])
def test_producers_and_consumers_turn_by_turn(w, maxsize):
    with w.loop() as loop:
        turns = Generations(loop, 60)
        queue = w.aio.Queue(maxsize)

        async def produce(name):
            for number in range(5):
                await queue.put((name, number))
                turns(("put", name, number))

        async def consume(name):
            for _ in range(5):
                item = await queue.get()
                turns(("got", name, item))
                queue.task_done()

        async def wait():
            await queue.join()
            turns("joined")

        for name in "ab":
            loop.create_task(consume(name))
            loop.create_task(produce(name))
        loop.call_soon(lambda: loop.create_task(wait()))
        drain(loop, 70)
        return turns.log


@parity
def test_waking_by_hand_turn_by_turn(w):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = w.aio.Queue(1)

        async def get(name):
            turns((name, await queue.get()))

        async def put(name):
            turns((name, await queue.put(name)))

        for name in "abc":
            loop.create_task(get(name))
        drain(loop, 2)
        queue.put_nowait(1)
        state = [look(queue)]
        drain(loop, 3)
        for name in "xyz":
            loop.create_task(put(name))
        drain(loop, 5)
        state.append(look(queue))
        loop.create_task(put("late"))
        drain(loop, 2)
        state.append(look(queue))
        taken = queue.get_nowait()
        drain(loop, 3)
        return turns.log, state, taken, look(queue)


@parity
def test_a_newcomer_may_be_first(w):
    """A woken getter finds the queue empty again and waits at the end."""
    with w.loop() as loop:
        turns = Generations(loop)
        queue = w.aio.Queue()

        async def get(name):
            turns((name, await queue.get()))

        loop.create_task(get("first"))
        loop.create_task(get("second"))
        drain(loop, 2)
        queue.put_nowait(1)
        stolen = queue.get_nowait()
        drain(loop, 3)
        state = look(queue)
        fill(queue, 2, 3)
        drain(loop, 3)
        return stolen, state, turns.log


@parity
@pytest.mark.parametrize("seed", range(40))
def test_anything_in_any_order(w, seed):
    """Whatever tasks do to a queue, they are woken in the same turns."""
    choose = random.Random(seed)
    name, maxsize = choose.choice(CLASSES), choose.choice([0, 1, 2, 3])
    with w.loop() as loop:
        turns = Generations(loop, 400)
        queue = getattr(w.aio, name)(maxsize)
        tasks = []

        async def work(number, what):
            try:
                if what == "get":
                    turns((number, await queue.get()))
                elif what == "put":
                    turns((number, await queue.put(number)))
                else:
                    turns((number, await queue.join()))
            except BaseException as exc:
                turns((number, error(exc)))
                raise

        def step(number):
            what = choose.choices(
                ["get", "put", "join", "cancel", "get_nowait", "put_nowait", "done", "show", "shutdown"],
                [8, 8, 1, 4, 2, 2, 3, 0.3, 0.2],
            )[0]
            if what in ("get", "put", "join"):
                tasks.append(loop.create_task(work(number, what)))
            elif what == "cancel" and tasks:
                choose.choice(tasks).cancel(number)
            elif what == "get_nowait":
                turns((what, outcome(queue.get_nowait)))
            elif what == "put_nowait":
                turns((what, outcome(queue.put_nowait, number)))
            elif what == "done":
                turns((what, outcome(queue.task_done)))
            elif what == "show":
                getattr(queue, choose.choice(["_queue", "_getters", "_putters", "_finished"]))
            elif what == "shutdown" and sys.version_info >= (3, 13):
                queue.shutdown(choose.random() < 0.5)
            turns(normal(repr(queue)))

        for number in range(150):
            step(number)
            drain(loop, choose.randrange(1, 4))
        for task in tasks:
            task.cancel("end")
        drain(loop, 10)
        for task in tasks:
            assert task.cancelled() or task.exception() or task.done()
        return turns.log, look(queue)


# --- cancellation -------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("which", ["first", "second", "both"])
def test_cancelled_getters(w, which, woken):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = w.aio.Queue()

        async def get(name):
            try:
                turns((name, await queue.get()))
            except asyncio.CancelledError as exc:
                turns((name, error(exc), look(queue)))
                raise

        tasks = [loop.create_task(get(name)) for name in ("first", "second", "third")]
        drain(loop, 2)
        if woken:
            queue.put_nowait(1)
        for index, name in enumerate(("first", "second")):
            if which in (name, "both"):
                tasks[index].cancel("why")
        states = [look(queue)]
        drain(loop, 3)
        states.append(look(queue))
        fill(queue, 2, 3, 4)
        drain(loop, 4)
        return turns.log, states, look(queue), [task.cancelled() for task in tasks]


@parity
@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("which", ["first", "second", "both"])
def test_cancelled_putters(w, which, woken):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = fill(w.aio.Queue(1), 0)

        async def put(name):
            try:
                await queue.put(name)
                turns(name)
            except asyncio.CancelledError as exc:
                turns((name, error(exc), look(queue)))
                raise

        tasks = [loop.create_task(put(name)) for name in ("first", "second", "third")]
        drain(loop, 2)
        if woken:
            queue.get_nowait()
        for index, name in enumerate(("first", "second")):
            if which in (name, "both"):
                tasks[index].cancel("why")
        states = [look(queue)]
        drain(loop, 3)
        states.append(look(queue))
        for _ in range(2):
            if not queue.empty():
                queue.get_nowait()
            drain(loop, 3)
        return turns.log, states, look(queue), [task.cancelled() for task in tasks]


@parity
@pytest.mark.parametrize("shown", [False, True])
def test_a_cancelled_join(w, shown):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = fill(w.aio.Queue(), 1)
        if shown:
            assert not queue._finished.is_set()

        async def join(name):
            try:
                turns((name, await queue.join()))
            except asyncio.CancelledError as exc:
                turns((name, error(exc)))

        tasks = [loop.create_task(join(name)) for name in "abc"]
        drain(loop, 2)
        tasks[1].cancel("why")
        drain(loop, 3)
        queue.task_done()
        tasks[2].cancel("late")
        drain(loop, 3)
        return turns.log, raised(queue.task_done), queue._finished.is_set(), len(queue._finished._waiters)


@parity
@pytest.mark.parametrize("debug", [False, True])
def test_timeouts(w, debug):
    async def main():
        queue = w.aio.Queue(1)
        trace = [await araised(asyncio.wait_for(queue.get(), 0.001))]
        queue.put_nowait(1)
        trace.append(await araised(asyncio.wait_for(queue.put(2), 0.001)))
        trace.append(await araised(asyncio.wait_for(queue.join(), 0.001)))
        return [trace, look(queue)]

    return w.run(main, debug=debug)


# --- join ---------------------------------------------------------------------------------------------------------


@parity
def test_join(w):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = w.aio.Queue()

        async def join(name):
            turns((name, await queue.join()))

        loop.create_task(join("empty"))
        drain(loop, 2)
        fill(queue, 1, 2)
        for name in "ab":
            loop.create_task(join(name))
        drain(loop, 2)
        queue.task_done()
        drain(loop, 2)
        queue.task_done()
        queue.put_nowait(3)  # they were woken, and go
        drain(loop, 3)
        return turns.log, look(queue), queue._finished.is_set()


@parity
def test_finished_looked_at_while_somebody_joins(w):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = fill(w.aio.Queue(), 1, 2, 3)

        async def join(name):
            turns((name, await queue.join()))

        loop.create_task(join("before"))
        drain(loop, 2)
        event = queue._finished
        trace = [event.is_set(), len(event._waiters), event is queue._finished, isinstance(event, asyncio.Event)]
        loop.create_task(join("after"))
        drain(loop, 2)
        trace.append(len(event._waiters))
        # Known from programs that empty a queue this way.
        queue._queue.clear()
        queue._finished.set()
        queue._unfinished_tasks = 0
        drain(loop, 3)
        loop.create_task(join("third"))
        drain(loop, 2)
        queue.put_nowait(1)
        trace += [event.is_set(), len(event._waiters), look(queue)]
        loop.create_task(join("fourth"))
        drain(loop, 2)
        queue.task_done()
        drain(loop, 3)
        return turns.log, trace


@parity
def test_finished_replaced(w):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = fill(w.aio.Queue(), 1)

        async def join(name):
            turns((name, await queue.join()))

        waiting = loop.create_task(join("old"))
        drain(loop, 2)
        queue._finished = asyncio.Event()
        loop.create_task(join("new"))
        drain(loop, 2)
        queue.task_done()
        drain(loop, 3)
        waiting.cancel()
        drain(loop, 2)
        return turns.log, waiting.cancelled()


@parity
def test_unfinished_tasks_set_by_hand(w):
    async def main():
        queue = w.aio.Queue()
        queue._unfinished_tasks = 2
        await queue.join()  # the event is set still
        queue.task_done()
        queue.task_done()
        return raised(queue.task_done), look(queue)

    return w.run(main)


# --- shutdown -----------------------------------------------------------------------------------------------------


@since(3, 13)
@parity
@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_shutdown(w, name, immediate):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = fill(getattr(w.aio, name)(2), 2, 1)

        async def note(what, coro):
            try:
                turns((what, await coro))
            except Exception as exc:
                turns((what, error(exc)))

        for number in range(2):
            loop.create_task(note(f"put {number}", queue.put(number)))
        loop.create_task(note("join", queue.join()))
        drain(loop, 2)
        queue.shutdown(immediate=immediate)
        states = [(look(queue), queue._is_shutdown)]
        drain(loop, 4)
        for number in range(3):
            loop.create_task(note(f"get {number}", queue.get()))
        loop.create_task(note("put", queue.put(3)))
        drain(loop, 4)
        states += [look(queue), raised(queue.put_nowait, 4), raised(queue.get_nowait)]
        while queue._unfinished_tasks:
            queue.task_done()
        drain(loop, 3)
        return turns.log, states, look(queue)


@since(3, 13)
@parity
def test_shutdown_of_an_empty_queue_with_getters(w):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = w.aio.Queue()

        async def get(name):
            try:
                turns((name, await queue.get()))
            except Exception as exc:
                turns((name, error(exc)))

        for name in "abc":
            loop.create_task(get(name))
        drain(loop, 2)
        queue.shutdown()
        drain(loop, 3)
        queue.shutdown(True)
        queue._is_shutdown = False
        queue.put_nowait(1)
        return turns.log, look(queue), raised(queue.shutdown, 1, 2), raised(queue.shutdown, now=True)
