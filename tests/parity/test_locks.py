"""Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier: order of wake-ups, turns, cancellation, errors, reprs.

Turn numbers come from `Generations`: every world must wake its tasks in the same turn of the loop, in the same order.
"""

import asyncio
import collections
import contextvars
import copy
import gc
import inspect
import sys
import warnings
import weakref

import pytest
from worlds import STOCK, Generations, araised, drain, error, normal, outcome, parity, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")
NAMES = ["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"]
LOCKS = ["Lock", "Condition", "Semaphore", "BoundedSemaphore"]


def make(w, name):
    return getattr(w.aio, name)(2) if name == "Barrier" else getattr(w.aio, name)()


def chained(exc):
    """An exception and what was being handled when it was raised."""
    trace = []
    while exc is not None:
        trace.append(error(exc))
        exc = exc.__context__
    return trace


def play(w, main, *, debug=False):
    """Run `main(loop, log)`; what it logs gets the number of the turn."""
    with w.loop(debug=debug) as loop:
        log = Generations(loop)
        task = loop.create_task(main(loop, log))
        drain(loop)
        assert task.done()
        task.result()
        return log.log


async def turns(aio, count):
    for _ in range(count):
        await aio.sleep(0)


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


# --- refusals, reprs, attributes ----------------------------------------------------------------------------------


@parity
def test_refused_arguments(w):
    trace = []
    for name in NAMES:
        class_ = getattr(w.aio, name)
        for args, kwargs in [
            ((), {}),
            ((1, 2), {}),
            ((), {"loop": None}),
            (("text",), {}),
            ((-1,), {}),
            ((0,), {}),
            ((0.5,), {}),
            ((None,), {}),
            ((1,), {"value": 2}),
            ((), {"value": 3}),
            ((), {"parties": 3}),
            ((), {"lock": None}),
            ((10**30,), {}),
            ((True,), {}),
        ]:
            try:
                trace.append((name, args, kwargs, normal(class_(*args, **kwargs))))
            except Exception as exc:
                trace.append((name, args, kwargs, error(exc)))

            class Derived(class_):
                pass

            try:
                trace.append((name, args, kwargs, normal(Derived(*args, **kwargs))))
            except Exception as exc:
                trace.append((name, args, kwargs, error(exc)))
    return trace


@parity
def test_refused_calls(w):
    async def main():
        trace = [outcome(w.aio.Lock().release), outcome(w.aio.BoundedSemaphore(2).release)]
        condition = w.aio.Condition()
        trace += [outcome(condition.notify), outcome(condition.notify_all), outcome(condition.release)]
        trace += [await araised(condition.wait()), await araised(condition.wait_for(lambda: False))]
        trace += [outcome(condition.notify, 1, 2), outcome(condition.notify, m=1), outcome(condition.notify, "many")]
        await condition.acquire()
        trace += [outcome(condition.notify, 1, 2), outcome(condition.notify, m=1), outcome(condition.notify, "many")]
        trace += [outcome(condition.notify, n=2), outcome(condition.notify_all, 2)]
        for thing, names in [
            (w.aio.Lock(), ("locked", "release", "acquire")),
            (w.aio.Event(), ("set", "clear", "is_set", "wait")),
            (w.aio.Semaphore(), ("locked", "release", "acquire")),
            (w.aio.BoundedSemaphore(), ("locked", "release", "acquire")),
            (w.aio.Barrier(1), ("wait", "reset", "abort")),
            (condition, ("notify_all", "notify", "wait", "wait_for")),
        ]:
            for method in names:
                trace += [raised(getattr(thing, method), 1, 2, 3), raised(getattr(thing, method), x=1)]
        for name in LOCKS:
            lock = make(w, name)
            for call in (lock.acquire, lock.__aenter__, lock.__aexit__):
                trace.append(raised(call, 1, 2, 3, 4, 5))
            if name != "Condition":
                trace.append(raised(type(lock).acquire))
            try:
                with lock:
                    pass
            except Exception as exc:
                trace.append(error(exc))
        for name in NAMES:
            thing = make(w, name)
            try:
                await thing
            except Exception as exc:
                trace.append(error(exc))
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("name", NAMES)
def test_what_it_is(w, name):
    class_, stock = getattr(w.aio, name), getattr(asyncio, name)
    thing = make(w, name)

    class Derived(class_):
        """Has attributes and weak references."""

    derived = Derived(2) if name == "Barrier" else Derived()
    derived.x = thing.x = 1
    trace = [normal(thing), normal(derived), class_.__name__, class_.__module__, class_.__qualname__]
    trace += [isinstance(thing, stock), isinstance(derived, class_), issubclass(Derived, class_)]
    trace += [isinstance(thing, class_), isinstance(stock(2) if name == "Barrier" else stock(), class_)]
    trace += [weakref.ref(thing)() is thing, sorted(thing.__dict__), hasattr(thing, "__aenter__")]
    trace += [thing.__class__.__name__, type(derived) is derived.__class__, str(inspect.signature(class_))]
    trace += [thing._loop, hasattr(class_, "__class_getitem__")]
    for method in ("acquire", "wait", "wait_for", "reset", "abort", "__aenter__", "__aexit__"):
        if hasattr(class_, method) and name != "Condition":
            function = getattr(class_, method)
            trace.append((method, str(inspect.signature(function)), inspect.iscoroutinefunction(function)))
    trace[11] = [key for key in trace[11] if not hasattr(class_, key) and key in ("x",)]
    return trace


@parity
def test_attributes_that_are_read_and_set(w):
    async def main():
        lock, event, condition = w.aio.Lock(), w.aio.Event(), w.aio.Condition()
        semaphore, bounded, barrier = w.aio.Semaphore(3), w.aio.BoundedSemaphore(3), w.aio.Barrier(3)
        trace = [lock._waiters, lock._locked, event._waiters, event._value, condition._waiters]
        trace += [semaphore._waiters, semaphore._value, bounded._value, bounded._bound_value]
        trace += [barrier._parties, barrier._count, str(barrier._state), normal(barrier._cond)]
        trace += [isinstance(condition._lock, asyncio.Lock), condition.acquire == condition._lock.acquire]
        await lock.acquire()
        waiting = [w.aio.ensure_future(lock.acquire()) for _ in range(2)]
        await w.aio.sleep(0)
        trace.append((type(lock._waiters).__name__, len(lock._waiters), lock._waiters is lock._waiters))
        fut = asyncio.get_running_loop().create_future()
        lock._waiters.appendleft(fut)
        lock.release()
        trace.append((fut.done(), fut.result(), normal(lock)))
        lock._waiters.popleft()
        lock._wake_up_first()
        await waiting[0]
        trace.append(normal(lock))
        lock._locked = False
        lock._wake_up_first()
        await waiting[1]
        lock._waiters = None
        trace.append((normal(lock), lock._waiters, await araised(w.aio.wait_for(lock.acquire(), 0))))
        semaphore._value = 0
        semaphore._waiters = collections.deque([asyncio.get_running_loop().create_future()])
        trace.append((normal(semaphore), semaphore.locked()))
        semaphore.release()
        trace.append((normal(semaphore), semaphore.locked(), semaphore._waiters[0].result()))
        semaphore._waiters.clear()
        semaphore._value = 1.5
        trace.append((normal(semaphore), await semaphore.acquire(), semaphore._value, semaphore.locked()))
        bounded._bound_value = 4
        bounded.release()
        trace.append((bounded._value, outcome(bounded.release)))
        event._value = True
        trace.append((await event.wait(), normal(event)))
        barrier._count, barrier._parties = 2, 3
        trace.append((normal(barrier), await barrier.wait(), normal(barrier), barrier._count))
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("name", NAMES)
def test_copies(w, name):
    async def main():
        thing = make(w, name)
        thing.note = ["x"]
        if name in LOCKS:
            await thing.acquire()
        if name == "Event":
            thing.set()
        trace = []
        for how in (copy.copy, copy.deepcopy):
            twin = how(thing)
            trace.append((normal(twin), twin.note, twin.note is thing.note, type(twin) is type(thing)))
            if name in LOCKS and name != "Condition":
                twin.release()
                trace.append((normal(twin), normal(thing)))
        return trace

    return w.run(main)


PICKLING = """
import pickle, sys
if aio is not sys.modules["asyncio"]:
    aio.install()
for name in ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"):
    class_ = getattr(aio, name)
    thing = class_(3) if name == "Barrier" else class_()
    if hasattr(thing, "acquire"):
        thing.acquire().close()
        thing.note = name
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(thing, protocol))
        print(name, type(twin) is class_, repr(twin).partition("[")[2], getattr(twin, "note", None))
"""


@parity
def test_pickles(w):
    done = w.program(PICKLING, python=("-W", "ignore"))
    assert done.out
    return [done.status, done.out, done.err]


# --- subclasses, replaced methods, other locks --------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", [*LOCKS, "Event", "Barrier"])
def test_subclasses_with_overrides(w, name):
    async def main(loop, log):
        base = getattr(w.aio, name)

        def override(method):
            original = getattr(base, method, None)
            if original is None:
                return None
            if inspect.iscoroutinefunction(original):

                async def replaced(self, *args):
                    log(("called", method, *map(type, args[:1])))
                    try:
                        return await original(self, *args)
                    finally:
                        log(("left", method))
            else:

                def replaced(self, *args):
                    log(("called", method))
                    return original(self, *args)

            return replaced

        names = ["wait", "notify", "_notify", "_wake_up_first", "_wake_up_next", "_get_loop", "set"]
        names += ["_block", "_wait", "_exit", "_release", "reset"]
        if name != "Condition":
            names += ["acquire", "release", "locked"]
        methods = {method: override(method) for method in names if hasattr(base, method)}
        thing = type("Derived", (base,), methods)(*[2] * (name == "Barrier"))

        async def worker(number):
            if name in LOCKS:
                async with thing:
                    log((number, "in", normal(thing)))
                    await w.aio.sleep(0)
                    if name == "Condition" and number == 0:
                        await thing.wait_for(lambda: len(seen) > 1)
                    seen.append(number)
                    if name == "Condition":
                        thing.notify_all()
            else:
                log((number, await thing.wait()))

        seen = []
        tasks = [loop.create_task(worker(number)) for number in range(4)]
        await turns(w.aio, 2)
        log(normal(thing))
        if name == "Event":
            thing.set()
        await turns(w.aio, 3)
        tasks[3].cancel()
        await w.aio.wait(tasks)
        log(normal(thing))

    return play(w, main)


@parity
@pytest.mark.parametrize("name", NAMES)
def test_plain_subclasses(w, name):
    async def main(loop, log):
        class Derived(getattr(w.aio, name)):
            def __init__(self, *args):
                super().__init__(*args)
                self.name = "with attributes"

        thing = Derived(2) if name == "Barrier" else Derived()

        async def worker(number):
            if name in LOCKS:
                async with thing:
                    log(number)
                    await w.aio.sleep(0)
            else:
                log((number, await thing.wait()))

        tasks = [loop.create_task(worker(number)) for number in range(4)]
        await turns(w.aio, 2)
        log((normal(thing), thing.name))
        if name == "Event":
            thing.set()
        await w.aio.wait(tasks)
        if name != "Condition":
            Derived.acquire = Derived.wait = lambda self: log("replaced later")
        if name in ("Lock", "Semaphore"):
            log(await araised(thing.__aenter__()))

    return play(w, main)


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_methods_replaced_on_the_object(w, name):
    async def main():
        thing, trace = make(w, name), []
        original = thing.acquire, thing.release

        async def acquire():
            trace.append("acquire")
            return await original[0]()

        def release():
            trace.append("release")
            return original[1]()

        thing.acquire, thing.release = acquire, release
        async with thing:
            trace.append(normal(thing))
            if name == "Condition":
                asyncio.get_running_loop().call_soon(trace.append, "turn")
                trace.append(await araised(w.aio.wait_for(thing.wait(), 0)))
        del thing.acquire, thing.release
        if name != "Condition":
            async with thing:
                trace.append(normal(thing))
        return trace

    return w.run(main)


class OwnLock:
    """A lock of a program's own, over a future list."""

    def __init__(self, log):
        self.log, self.held, self.waiting = log, False, []

    def locked(self):
        return self.held

    async def acquire(self):
        self.log("acquire")
        while self.held:
            fut = asyncio.get_running_loop().create_future()
            self.waiting.append(fut)
            await fut
        self.held = True
        return "own"

    def release(self):
        self.log("release")
        self.held = False
        if self.waiting:
            fut = self.waiting.pop(0)
            outcome(fut.set_result, None)


@parity
@pytest.mark.parametrize("kind", ["own", "stock", "derived", "shared", "semaphore"])
def test_a_condition_with_a_given_lock(w, kind):
    async def main(loop, log):
        class Derived(w.aio.Lock):
            async def acquire(self):
                log("derived acquires")
                return await super().acquire()

        lock = {
            "own": lambda: OwnLock(log),
            "stock": STOCK.aio.Lock,
            "derived": Derived,
            "shared": w.aio.Lock,
            "semaphore": w.aio.Semaphore,
        }[kind]()
        condition = w.aio.Condition(lock)
        log((condition._lock is lock, condition.acquire == lock.acquire, await condition.acquire(), lock.locked()))
        condition.release()

        async def worker(number):
            async with condition:
                log((number, await condition.wait()))

        tasks = [loop.create_task(worker(number)) for number in range(3)]
        await turns(w.aio, 3)
        await lock.acquire()
        condition.notify(2)
        log("notified")
        await turns(w.aio, 2)
        tasks[0].cancel()
        await turns(w.aio, 2)
        lock.release()
        await turns(w.aio, 6)
        async with condition:
            condition.notify_all()
        await w.aio.wait(tasks)
        log([task.cancelled() for task in tasks])

    return play(w, main)


@parity
def test_a_condition_with_an_unfit_lock(w):
    return [raised(w.aio.Condition, 1), raised(w.aio.Condition, lock="text"), raised(w.aio.Condition, object())]


# --- loops --------------------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", NAMES)
def test_another_loop(w, name):
    thing, trace = make(w, name), []

    async def use():
        if name in LOCKS:
            await thing.acquire()
            if name == "Condition":
                await thing.wait()
        await (thing.acquire() if name in LOCKS else thing.wait())

    with w.loop() as first, w.loop() as second:
        tasks = [first.create_task(use()) for _ in range(2)]
        drain(first, 3)
        trace.append((thing._loop is first, normal(thing)))
        if name == "Condition":
            thing._lock._locked = True
            use = thing.wait
        trace.append(second.run_until_complete(araised(use())))
        if name == "Condition":
            trace.append((normal(thing), normal(thing._lock)))
            thing._lock._locked = True
        trace.append((normal(thing), second.run_until_complete(araised(use()))))
        for task in tasks:
            task.cancel()
    return trace


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_without_a_loop(w, name):
    """Nothing that need not wait needs a loop."""
    thing, trace = make(w, name), []
    for coro in (
        thing.acquire(),
        thing.acquire(),
        thing.__aexit__(None, None, None),
        thing.__aexit__(None, None, None),
    ):
        try:
            coro.send(None)
        except StopIteration as exc:
            trace.append(("value", exc.value))
        except Exception as exc:
            trace.append(error(exc))
    return [*trace, normal(thing)]


@parity
def test_on_stock_loops(w):
    """The objects on asyncio's own loop, driven by asyncio's own tasks."""
    trace = []

    async def main():
        lock, event, condition = w.aio.Lock(), w.aio.Event(), w.aio.Condition()
        semaphore, barrier = w.aio.Semaphore(1), w.aio.Barrier(3)

        async def worker(number):
            async with lock:
                trace.append((number, "lock"))
                await asyncio.sleep(0)
            async with semaphore:
                trace.append((number, "semaphore"))
                await asyncio.sleep(0)
            trace.append((number, await barrier.wait()))
            async with condition:
                trace.append((number, await condition.wait()))
            trace.append((number, await event.wait()))

        tasks = [asyncio.ensure_future(worker(number)) for number in range(3)]
        while not len(condition._waiters) == 3:
            await asyncio.sleep(0)
        async with condition:
            condition.notify_all()
        await turns(asyncio, 5)
        tasks[1].cancel()
        event.set()
        await asyncio.wait(tasks)
        trace.append([task.cancelled() for task in tasks])
        trace.extend(map(normal, (lock, event, condition, semaphore, barrier)))

    loop = STOCK.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    return trace


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_debug_mode(w, name):
    async def main(loop, log):
        thing = make(w, name)
        coro = thing.acquire()
        log((coro.cr_origin is not None, coro.__qualname__, coro.cr_frame is not None, await coro))
        other = thing.__aexit__(None, None, None)
        log((other.__qualname__, other.cr_frame.f_code.co_name, await other))
        task = loop.create_task(use(thing))
        second = loop.create_task(use(thing))
        await w.aio.sleep(0)
        log([frame.f_code.co_name for frame in second.get_stack()])
        await task
        await second

    async def use(thing):
        async with thing:
            await asyncio.sleep(0)

    return play(w, main, debug=True)


# --- coroutines by hand -------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["close", "throw", "throw cancelled", "throw exit", "send", "finish"])
def test_driving_by_hand(w, name, how):
    with w.loop() as loop:

        async def main():
            thing, trace = make(w, name), []
            if name in LOCKS:
                await thing.acquire()
            coro = thing.wait() if hasattr(thing, "wait") else thing.acquire()
            fut = coro.send(None)
            trace += [normal(thing), fut.done(), coro.cr_frame is not None, inspect.getcoroutinestate(coro)]
            if how == "close":
                trace.append(outcome(coro.close))
            elif how == "throw":
                trace.append(raised(coro.throw, KeyError("thrown")))
            elif how == "throw cancelled":
                trace.append(raised(coro.throw, asyncio.CancelledError("thrown")))
            elif how == "throw exit":
                trace.append(raised(coro.throw, GeneratorExit()))
            elif how == "send":
                trace.append(raised(coro.send, None))
                coro.close()
            else:
                fut._asyncio_future_blocking = False
                fut.set_result(True)
                try:
                    trace.append(type(coro.send(None)).__name__)
                    coro.close()
                except StopIteration as exc:
                    trace.append(exc.value)
            trace += [normal(thing), getattr(thing, "_value", None), inspect.getcoroutinestate(coro)]
            trace.append(raised(coro.send, None))
            return trace

        return loop.run_until_complete(main())


@parity
def test_closing_while_the_lock_is_held_by_another(w):
    """A condition's wait cannot end before it has the lock."""
    with w.loop() as loop:

        async def main():
            condition, trace = w.aio.Condition(), []
            await condition.acquire()
            coro = condition.wait()
            coro.send(None)
            await condition.acquire()
            trace.append(outcome(coro.close))
            trace.append((normal(condition), normal(condition._lock), inspect.getcoroutinestate(coro)))
            condition.release()
            trace.append(raised(coro.send, None))
            trace.append((normal(condition), normal(condition._lock)))
            return trace

        return loop.run_until_complete(main())


@parity
@pytest.mark.parametrize("name", LOCKS)
def test_never_awaited(w, name):
    thing = make(w, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thing.acquire()
        gc.collect()
    return [normal(thing), [normal(entry.message) for entry in caught]]


@parity
def test_contexts(w):
    """Each task has its own, also in what a predicate sees."""

    async def main():
        condition, trace = w.aio.Condition(), []

        async def worker(number):
            VARIABLE.set(number)
            async with condition:
                await condition.wait_for(lambda: trace.append(VARIABLE.get()) or len(trace) > 4)

        tasks = [asyncio.ensure_future(worker(number)) for number in range(2)]
        while len(trace) < 6:
            await w.aio.sleep(0)
            async with condition:
                condition.notify_all()
        await w.aio.wait(tasks)
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("name", NAMES)
def test_cycles_are_collected(w, name):
    class Derived(getattr(w.aio, name)):
        pass

    async def main():
        thing = Derived(2) if name == "Barrier" else Derived()
        thing.itself = thing
        if name in LOCKS:
            await thing.acquire()
        waiting = thing.wait() if hasattr(thing, "wait") else thing.acquire()
        waiting.send(None)
        thing.waiting = waiting
        reference = weakref.ref(thing)
        del thing, waiting
        gc.collect()
        return [reference() is None]

    return w.run(main)


@parity
def test_a_predicate_that_interferes(w):
    """It releases the lock, and replaces what it stands in."""

    async def main():
        condition, trace = w.aio.Condition(), []

        def predicate():
            trace.append(condition.locked())
            condition.release()
            return False

        async with condition:
            trace.append(await araised(condition.wait_for(predicate)))
            await condition.acquire()
        trace.append(normal(condition))
        return trace

    return w.run(main)


@parity
def test_a_future_that_interferes(w):
    """A callback of a waiter's future is run in a turn of its own, whatever it does to the lock."""

    async def main(loop, log):
        lock = w.aio.Lock()
        await lock.acquire()
        tasks = [loop.create_task(lock.acquire()) for _ in range(2)]
        await w.aio.sleep(0)
        lock._waiters[0].add_done_callback(lambda fut: (log(normal(lock)), outcome(lock.release)))
        lock.release()
        await w.aio.wait(tasks)
        log(normal(lock))

    return play(w, main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks(world):
    traces = []
    for w in (STOCK, world):
        with w.loop() as loop:
            loop.set_task_factory(w.aio.eager_task_factory)

            async def main(w=w, loop=loop):
                lock, log = w.aio.Lock(), []

                async def worker(number):
                    async with lock:
                        log.append(number)
                        await w.aio.sleep(0)

                tasks = [loop.create_task(worker(number)) for number in range(3)]
                log.append([task.done() for task in tasks])
                await w.aio.wait(tasks)
                return log

            traces.append(loop.run_until_complete(main()))
    assert traces[0] == traces[1]
