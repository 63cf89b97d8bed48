"""Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier: errors, reprs, attributes, copies, subclasses."""

import asyncio
import collections
import copy
import inspect
import weakref
from unittest import mock

import pytest
from lock_plays import LOCKS, NAMES, make, play, turns
from worlds import STOCK, araised, error, normal, outcome, parity, raised

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
@pytest.mark.parametrize("name", NAMES)
def test_dir_and_mocks_of_an_instance(w, name):
    """What completes names in a shell, and what `mock.Mock(spec=instance)` lets pass."""
    class_ = getattr(w.aio, name)

    class Derived(class_):
        pass

    trace = []
    for made in (class_, Derived):
        thing = made(2) if name == "Barrier" else made()
        thing.own = 1
        shown = [attribute for attribute in dir(thing) if not attribute.startswith("__")]
        trace.append(sorted(set(shown)))
        double = mock.Mock(spec=thing)
        for attribute in ("acquire", "release", "locked", "wait", "notify", "own", "nothing"):
            trace.append((attribute, hasattr(double, attribute)))
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
