"""Locks and queues under attack: nonsense thrown at an await, collections at the worst moment, chains without end,
awaitables that are none, and subclasses that hold what the base class keeps elsewhere.
"""

import asyncio
import gc
import random
import sys
import weakref

import pytest
from worlds import error, normal, outcome, parity

KINDS = ["lock", "semaphore", "event", "condition", "notification", "get", "put", "join", "barrier"]


async def blocked(w, kind):
    """A primitive, and a fresh operation of it that will block."""
    if kind in ("get", "put", "join"):
        queue = w.aio.Queue(1)
        if kind == "get":
            return queue, queue.get()
        queue.put_nowait(1)
        return queue, queue.put(2) if kind == "put" else queue.join()
    if kind == "barrier":
        barrier = w.aio.Barrier(2)
        return barrier, barrier.wait()
    name = {"notification": "condition"}.get(kind, kind).capitalize()
    primitive = getattr(w.aio, name)()
    if kind == "event":
        return primitive, primitive.wait()
    await primitive.acquire()
    return primitive, primitive.wait() if kind == "notification" else primitive.acquire()


def loop_class(w):
    loop = w.new_event_loop()
    loop.close()
    return type(loop)


def anything(call, *args):
    """As `outcome`, for exceptions of all kinds; a future or coroutine is only named."""
    try:
        value = call(*args)
    except BaseException as exc:
        return error(exc)
    return value if value is None or isinstance(value, (bool, int, str, tuple)) else type(value).__name__


# --- throw() ------------------------------------------------------------------------------------------------------


def skip_without_throw(w):
    if w.name == "loop":
        pytest.skip("a native future is its own iterator, without throw(): the coroutine itself refuses nonsense")


NONSENSE = {
    "int": (42,),
    "class": (int,),
    "traceback": (ValueError, ValueError(1), 5),
    "value": (ValueError(), 3),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thrown", NONSENSE)
@parity
def test_nonsense_thrown_at_the_await(w, kind, thrown):
    """What the await refuses it with is raised there: the waiter leaves the line."""
    skip_without_throw(w)

    async def main():
        primitive, operation = await blocked(w, kind)
        operation.send(None)
        return anything(operation.throw, *NONSENSE[thrown]), normal(primitive), anything(operation.send, None)

    return w.run(main)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["Lock", "Semaphore"])
@parity
def test_nonsense_thrown_takes_nobodys_turn(w, name):
    skip_without_throw(w)

    async def main(loop):
        primitive = getattr(w.aio, name)()
        await primitive.acquire()
        operation = primitive.acquire()
        operation.send(None)
        anything(operation.throw, 42)
        task = loop.create_task(primitive.acquire())
        await w.aio.sleep(0)
        primitive.release()
        for _ in range(4):
            await w.aio.sleep(0)
        done = task.done()
        task.cancel()
        return [done, normal(primitive)]

    with w.loop() as loop:
        trace = loop.run_until_complete(main(loop))
    assert trace[0]
    return trace


@pytest.mark.parametrize("kind", KINDS)
@parity
def test_stop_iteration_thrown_at_the_await(w, kind):
    """A future's iterator raises it, which looks like its end: the await is over, with that value."""
    skip_without_throw(w)

    async def main():
        trace = []
        for exception in (StopIteration(4), StopIteration, StopAsyncIteration(3), GeneratorExit(), KeyboardInterrupt):
            primitive, operation = await blocked(w, kind)
            operation.send(None)
            trace.append(anything(operation.throw, exception))
            trace.append((normal(primitive), operation.cr_running, anything(operation.close), normal(primitive)))
        return trace

    return w.run(main)


# --- awaitables ---------------------------------------------------------------------------------------------------


class Awaitable:
    """A future that is none."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __await__(self):
        return self.iterator()

    def done(self):
        return False

    cancelled = done

    def cancel(self):
        return False


async def nothing():
    pass


FUTURES = {
    "error": lambda: 1 / 0,
    "None": lambda: None,
    "int": lambda: 5,
    "non-iterator": lambda: Awaitable(lambda: 5),
    "coroutine": lambda: Awaitable(lambda: COROUTINE),
    "iterator": lambda: Awaitable(lambda: iter([1, 2])),
}
COROUTINE = nothing()
COROUTINE.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", FUTURES)
@parity
def test_what_create_future_answers(w, kind, answer):
    """Also on a subclass of our loop it is the loop's create_future() that is called."""

    class Loop(loop_class(w)):
        odd = None

        def create_future(self):
            return self.odd() if self.odd else super().create_future()

    loop = Loop()

    async def main():
        primitive, operation = await blocked(w, kind)
        loop.odd = FUTURES[answer]
        trace = [anything(operation.send, None), anything(operation.throw, ValueError(1)), anything(operation.close)]
        loop.odd = None
        return [*trace, normal(primitive)]

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@parity
def test_futures_that_are_done_for_long(w):
    """Each wait is over at once, and the next one begins: that is no recursion without end."""

    class Loop(loop_class(w)):
        left = 0

        def create_future(self):
            future = super().create_future()
            if self.left:
                self.left -= 1
                future.set_result(None)
            return future

    loop = Loop()

    async def main():
        queue = w.aio.Queue()
        operation = queue.get()
        loop.left = 200
        trace = [anything(operation.send, None), loop.left, normal(queue)]
        operation.close()
        return trace

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


# --- the collector ------------------------------------------------------------------------------------------------


class Finaliser:
    """Garbage in a cycle; `call` runs when it is collected."""

    def __init__(self, call):
        self.call, self.me = call, self

    def __del__(self):
        self.call()


def collected_within(call, finaliser):
    """`call()`, with a collection at the first chance, which runs `finaliser`."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.disable()
    gc.set_threshold(1)
    try:
        Finaliser(finaliser)
        gc.enable()
        return call()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
        gc.collect()


@pytest.mark.parametrize("attribute", ["_queue", "_getters", "_finished"])
@parity
def test_a_collection_looks_at_the_queue_too(w, attribute):
    """Both who look see the same object, and nothing gets lost."""

    async def main(loop):
        queue = w.aio.Queue()
        tasks = []
        if attribute == "_getters":
            tasks = [loop.create_task(queue.get()) for _ in range(3)]
        else:
            for number in range(3):
                queue.put_nowait(number)
        if attribute == "_finished":
            tasks = [loop.create_task(queue.join()) for _ in range(3)]
        await w.aio.sleep(0)
        looks = []
        seen = collected_within(lambda: getattr(queue, attribute), lambda: looks.append(getattr(queue, attribute)))
        trace = [seen is looks[0], seen is getattr(queue, attribute), normal(queue)]
        if attribute == "_finished":
            trace.append(len(seen._waiters))
            for _ in range(3):
                queue.task_done()
        for number in range(3):
            queue.put_nowait(number)
        for _ in range(3):
            await w.aio.sleep(0)
        trace.append([task.done() for task in tasks])
        for task in tasks:
            task.cancel()
        return trace

    with w.loop() as loop:
        return loop.run_until_complete(main(loop))


@pytest.mark.parametrize("change", ["close", "look"])
@parity
def test_a_collection_changes_the_line(w, change):
    async def main(loop):
        lock = w.aio.Lock()
        await lock.acquire()
        gone = [lock.acquire() for _ in range(3)]
        for operation in gone:
            operation.send(None)
        task = loop.create_task(lock.acquire())
        await w.aio.sleep(0)

        def interfere():
            if change == "look":
                assert lock._waiters
            else:
                for operation in gone:
                    operation.close()

        seen = collected_within(lambda: lock._waiters, interfere)
        trace = [seen is lock._waiters]
        for operation in gone:
            operation.close()
        trace.append((len(seen), normal(lock)))
        lock.release()
        for _ in range(3):
            await w.aio.sleep(0)
        trace.append(task.done())
        task.cancel()
        return trace

    with w.loop() as loop:
        return loop.run_until_complete(main(loop))


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@parity
def test_what_nobody_awaits_is_collected(w):
    """A coroutine that was never started, in a cycle through its argument."""

    class Item:
        pass

    trace = []
    item = Item()
    item.operation = w.aio.Queue().put(item)
    trace.append(weakref.ref(item))
    condition = w.aio.Condition()

    item = Item()
    item.operation = condition.wait_for(item)
    trace.append(weakref.ref(item))
    del item, condition
    gc.collect()
    return [reference() is None for reference in trace]


# --- chains without end -------------------------------------------------------------------------------------------

CHAINS = {
    "_loop": "link = aio.Event(); link._loop = chain",
    "_waiters": "link = aio.Lock(); link._waiters = chain",
    "_bound_value": "link = aio.BoundedSemaphore(); link._bound_value = chain",
    "attribute": "link = aio.Semaphore(); link.next = chain",
    "lock": "link = aio.Condition(chain)",
    "item": "link = aio.Queue(); link.put_nowait(chain)",
}


@pytest.mark.parametrize("link", CHAINS)
@parity
def test_a_long_chain_is_freed(w, link):
    done = w.program(
        "chain = None\n"
        "for _ in range(100_000):\n"
        f"    {CHAINS[link]}\n"
        "    chain = link\n"
        "del link\n"
        "chain = None\n"
        "print('freed')"
    )
    assert (done.status, done.out) == (0, "freed\n"), done.err
    return done.out


def test_a_condition_is_its_own_lock(world):
    """Its methods are its lock's, so they cannot be found; stock has them as attributes since it was made."""
    done = world.program(
        "condition, other = aio.Condition(), aio.Condition()\n"
        "condition._lock, other._lock = condition, condition\n"
        "fresh = aio.Condition.__new__(aio.Condition)\n"
        "for call in (lambda: condition.locked(), lambda: repr(other), lambda: fresh.__init__(fresh)):\n"
        "    try: call()\n"
        "    except (RecursionError, AttributeError): pass\n"
        "print('alive')"
    )
    assert (done.status, done.out) == (0, "alive\n"), done.err


# --- states and subclasses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Lock", "Event", "Queue"])
def test_a_state_that_is_no_mapping(world, name):
    """Only ours have a __setstate__ of their own."""
    if not world.ours or world.aio is asyncio:
        pytest.skip("our own promise")
    source = f"""
class State:
    def __init__(self, items): self.all = items
    def items(self): return self.all
for items in ([1], [(1,)], [()], [("_loop",)], [(1, 2)], [("a", 1, 2)], 5, "ab"):
    try: aio.{name}().__setstate__(State(items))
    except (TypeError, ValueError) as exc: print(type(exc).__name__)
"""
    done = world.program(source)
    assert done.status == 0, done.err
    assert len(done.out.split()) == 8


@parity
def test_a_subclass_keeps_the_state_itself(w):
    """A property, or a plain class attribute, in the place of what the base class keeps."""
    trace = []

    def kept(name):
        def get(self):
            return self.__dict__.get("kept", False)

        def put(self, value):
            trace.append((name, value))
            self.__dict__["kept"] = value

        return property(get, put)

    class Lock(w.aio.Lock):
        _locked = kept("_locked")

    class Event(w.aio.Event):
        _value = kept("_value")

    class Semaphore(w.aio.Semaphore):
        _value = kept("_value")

    class Plain(w.aio.Lock):
        _locked = True

    async def main():
        lock, event, semaphore, plain = Lock(), Event(), Semaphore(3), Plain()
        trace.extend([lock.locked(), event.is_set(), semaphore.locked(), plain.locked()])
        async with lock, semaphore, plain:
            trace.extend([lock.locked(), normal(lock), normal(semaphore), plain.locked(), normal(plain)])
        event.set()
        trace.extend([await event.wait(), event.is_set(), normal(event)])
        event.clear()
        semaphore.release()
        trace.extend([event.is_set(), normal(event), normal(lock), normal(semaphore), plain.locked()])
        return trace

    return w.run(main)


# --- all of it, in disorder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
@parity
def test_operations_driven_in_disorder(w, seed):
    """Started, resumed, closed, thrown at and dropped by hand, while others release, notify and look."""
    skip_without_throw(w)
    chance = random.Random(seed)

    async def main():
        aio = w.aio
        lock, semaphore, condition, event = aio.Lock(), aio.Semaphore(), aio.Condition(), aio.Event()
        barrier, queue = aio.Barrier(2), aio.Queue(1)
        starts = [
            *(lock.acquire, semaphore.acquire, condition.acquire, condition.wait, barrier.wait, event.wait),
            *(queue.get, lambda: queue.put(1), queue.join, lambda: condition.wait_for(lambda: chance.random() < 0.5)),
            *(lock.__aenter__, condition.__aenter__, lambda: lock.__aexit__(None, None, None)),
        ]
        calls = [
            *(lock.release, semaphore.release, condition.release, condition.notify, condition.notify_all),
            *(event.set, event.clear, queue.task_done, queue.get_nowait, lambda: queue.put_nowait(1)),
            *(lambda: lock._waiters and len(lock._waiters), lambda: len(queue._getters)),
        ]
        thrown = [asyncio.CancelledError("x"), ValueError, GeneratorExit, StopIteration(4), KeyboardInterrupt]
        operations, trace = [], []
        for _ in range(60):
            if (kind := chance.random()) < 0.3 or not operations:
                operations.append(chance.choice(starts)())
                trace.append(anything(operations[-1].send, None) is None)
            elif kind < 0.5:
                trace.append(outcome(chance.choice(calls)))
            else:
                operation = chance.choice(operations)
                act = chance.randrange(4)
                if act == 0:
                    trace.append(anything(operation.close))
                elif act == 1:
                    trace.append(anything(operation.throw, chance.choice(thrown)) is None)
                elif act == 2:
                    trace.append(anything(operation.send, None) is None)
                else:
                    operations.remove(operation)
                    del operation
            trace.append((lock.locked(), semaphore._value, condition.locked(), queue.qsize(), barrier.n_waiting))
        trace.append([normal(each) for each in (lock, semaphore, condition, event, barrier, queue)])
        operations.clear()
        gc.collect()
        return trace

    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # "coroutine ignored GeneratorExit"
    try:
        return w.run(main)
    finally:
        sys.unraisablehook = hook
