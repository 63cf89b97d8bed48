"""What programs see of queues: private attributes that they read and change, copies, subclasses, mocks, isinstance."""

import asyncio
import collections
import copy
import heapq
import inspect
import types
import weakref

import pytest
from queue_words import CLASSES, STOCK, fill, look
from worlds import Generations, araised, drain, error, normal, outcome, parity, raised, since

# --- attributes that programs look at -----------------------------------------------------------------------------


@parity
def test_the_deque_is_real(w):
    async def main():
        queue = fill(w.aio.Queue(), 1, 2, 3, 4, 5)
        inner = queue._queue
        trace = [type(inner) is collections.deque, list(inner), queue._queue is inner]
        inner.remove(3)
        inner.appendleft(0)
        inner[1] = "changed"
        trace.append(look(queue))
        await queue.put(6)
        trace.append((inner[-1], await queue.get(), queue.get_nowait(), len(inner)))
        inner.clear()
        trace.append((look(queue), raised(queue.get_nowait)))
        getter = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(7)
        trace.append(await getter)
        queue._queue = [10, 11]
        trace.append((queue.qsize(), queue.empty(), raised(queue.get_nowait)))
        return trace

    return w.run(main)


@parity
@pytest.mark.parametrize("name", ["PriorityQueue", "LifoQueue"])
def test_the_list_is_real(w, name):
    with w.loop():
        queue = fill(getattr(w.aio, name)(), 5, 3, 4)
        inner = queue._queue
        trace = [type(inner) is list, list(inner), queue._queue is inner]
        inner.remove(4)
        trace += [queue.get_nowait(), look(queue)]
        queue._queue = collections.deque([1, 2])
        trace += [outcome(queue.put_nowait, 0), outcome(queue.get_nowait), list(queue._queue)]
        return trace


@parity
def test_waiters_are_real_deques(w):
    with w.loop() as loop:
        turns = Generations(loop)
        queue = w.aio.Queue(1)

        async def get(name):
            turns((name, await queue.get()))

        tasks = [loop.create_task(get(name)) for name in "abcd"]
        drain(loop, 2)
        getters = queue._getters
        trace = [type(getters) is collections.deque, len(getters), [fut.done() for fut in getters]]
        getters.rotate(1)
        queue.put_nowait(1)
        trace.append(len(queue._getters))
        drain(loop, 2)
        tasks[0].cancel()
        drain(loop, 2)
        trace.append((queue._getters is getters, len(getters)))
        putter = loop.create_future()
        queue._putters.append(putter)
        queue.put_nowait(2)
        drain(loop, 2)
        trace.append((putter.done(), len(queue._putters), [task.cancelled() for task in tasks]))
        queue._getters = collections.deque()
        queue._putters = collections.deque()
        return turns.log, trace, look(queue)


@parity
def test_a_limit_that_changes(w):
    async def main():
        queue = fill(w.aio.Queue(1), 1)
        trace = [raised(queue.put_nowait, 2)]
        queue._maxsize = 3
        fill(queue, 2, 3)
        trace += [look(queue), raised(queue.put_nowait, 4)]
        queue._maxsize = 0
        return [*trace, look(fill(queue, 4))]

    return w.run(main)


@parity
@pytest.mark.parametrize("name", ["Queue", "PriorityQueue", "LifoQueue"])
def test_dir(w, name):
    class Derived(getattr(w.aio, name)):
        pass

    queue, derived = getattr(w.aio, name)(), Derived()
    derived.own = 1
    return [sorted({name for name in dir(thing) if not name.startswith("__")}) for thing in (queue, derived)]


@parity
def test_own_attributes(w):
    with w.loop():
        queue = w.aio.Queue()
        queue.note = "mine"
        alive = weakref.ref(queue)
        names = [name for name in dir(queue) if not name.startswith("__")]
        expected = set(dir(STOCK["Queue"])) | {"note"}
        return queue.note, alive() is queue, sorted(set(names) & expected), normal(w.aio.Queue[int]), hash(queue) != 0


@parity
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("how", ["copy", "deepcopy"])
def test_copies(w, name, how):
    class Own(getattr(w.aio, name)):
        pass

    async def main():
        trace = []
        for kind in (getattr(w.aio, name), Own):
            queue = fill(kind(3), 3, 1, 2)
            queue.note = ["mine"]
            twin = getattr(copy, how)(queue)
            same = twin._queue is queue._queue, twin.note is queue.note, type(twin) is kind
            trace += [look(twin), same, await twin.get(), look(queue), twin._finished.is_set()]
            for _ in range(3):
                twin.task_done()
            await twin.join()
            trace.append((sorted(vars(copy.copy(queue))["note"]), queue._finished.is_set()))
        return trace

    return w.run(main)


@parity
def test_the_loop_it_is_bound_to(w):
    with w.loop() as loop:
        queue = w.aio.Queue()
        trace = [queue._loop]

        async def main():
            await araised(asyncio.wait_for(queue.get(), 0))
            task = asyncio.ensure_future(queue.get())
            await asyncio.sleep(0)
            task.cancel()
            return queue._loop is asyncio.get_running_loop(), queue._get_loop() is queue._loop

        return trace, loop.run_until_complete(main())


@parity
@pytest.mark.parametrize("shown", [False, True])
def test_another_loop(w, shown):
    queue = w.aio.Queue(1)

    async def bind():
        task = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(1)
        joining = asyncio.ensure_future(queue.join())
        await asyncio.sleep(0)
        queue.task_done()
        await joining
        if shown:
            queue._finished
        return await task

    async def use():
        trace = [await araised(queue.get())]
        queue.put_nowait(1)
        trace.append(await araised(queue.put(2)))
        trace.append(await araised(queue.join()))
        return [trace, await queue.get(), look(queue)]

    return w.run(bind), w.run(use)


# --- subclasses ---------------------------------------------------------------------------------------------------


def overriding(base, log):
    """Subclasses, each with something of its own that the stdlib's code calls."""

    class Items(base):
        def _init(self, maxsize):
            log.append(("_init", maxsize))
            self._queue = []

        def _put(self, item):
            log.append(("_put", item))
            heapq.heappush(self._queue, item)

        def _get(self):
            log.append("_get")
            return heapq.heappop(self._queue)

    class PutOnly(base):
        def _put(self, item):
            log.append(("_put", item))
            super()._put(item)

    class GetOnly(base):
        def _get(self):
            log.append("_get")
            return super()._get()

    class Unique(base):
        def _init(self, maxsize):
            super()._init(maxsize)
            self.seen = set()

        def _put(self, item):
            if item not in self.seen:
                self.seen.add(item)
                super()._put(item)

    class Sized(base):
        def qsize(self):
            log.append("qsize")
            return super().qsize()

        def full(self):
            log.append("full")
            return super().full()

        def empty(self):
            log.append("empty")
            return super().empty()

    class Nowait(base):
        def put_nowait(self, item):
            log.append(("put_nowait", item))
            return super().put_nowait(item)

        def get_nowait(self):
            log.append("get_nowait")
            return super().get_nowait()

    class Told(base):
        def _format(self):
            return "told"

    class Woken(base):
        def _wakeup_next(self, waiters):
            log.append(("wakeup", len(waiters)))
            super()._wakeup_next(waiters)

    class Bound(base):
        def _get_loop(self):
            log.append("_get_loop")
            return super()._get_loop()

    class Attribute(base):
        @property
        def _maxsize(self):
            return 2

        @_maxsize.setter
        def _maxsize(self, value):
            log.append(("maxsize", value))

    class Plain(base):
        def __init__(self, *, size):
            super().__init__(size)
            self.size = size

        async def get(self):
            log.append("get")
            return await super().get()

    return [
        (Items, {}), (PutOnly, {}), (GetOnly, {}), (Unique, {}), (Sized, {}), (Nowait, {}), (Told, {}), (Woken, {}),
        (Bound, {}), (Attribute, {}), (Plain, {"size": 2}),
    ]  # fmt: skip


@parity
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("index", range(11))
def test_subclasses(w, name, index):
    log = []
    kind, arguments = overriding(getattr(w.aio, name), log)[index]
    arguments = arguments or {"maxsize": 2}
    with w.loop() as loop:
        turns = Generations(loop)
        queue = kind(**arguments)

        async def put(item):
            await queue.put(item)
            turns(("put", item))

        async def get():
            turns(("got", await queue.get()))

        async def join():
            turns(("joined", await queue.join()))

        for item in (4, 2, 3, 1):
            loop.create_task(put(item))
        drain(loop, 3)
        log.append(look(queue))
        loop.create_task(join())
        tasks = [loop.create_task(get()) for _ in range(5)]
        drain(loop, 5)
        log.append((look(queue), outcome(queue.get_nowait)))
        tasks[-1].cancel()
        drain(loop, 2)
        queue.put_nowait(9)
        log.append(raised(lambda: [queue.put_nowait(item) for item in (7, 8, 6)]))
        for _ in range(queue._unfinished_tasks):
            queue.task_done()
        drain(loop, 3)
        log.append((look(queue), normal(repr(queue)), str(queue), isinstance(queue, getattr(w.aio, name))))
        return turns.log, log


@since(3, 13)
@parity
@pytest.mark.parametrize("index", range(11))
def test_shutdown_of_subclasses(w, index):
    log = []
    kind, arguments = overriding(w.aio.Queue, log)[index]
    with w.loop() as loop:
        queue = kind(**(arguments or {"maxsize": 2}))
        fill(queue, 1, 2)
        putter = loop.create_task(queue.put(3))
        drain(loop, 2)
        queue.shutdown(immediate=True)
        drain(loop, 2)
        return log, look(queue), error(putter.exception()), raised(queue.get_nowait)


@parity
def test_a_subclass_without_items(w):
    class Elsewhere(w.aio.Queue):
        def _init(self, maxsize):
            pass

    with w.loop():
        queue = Elsewhere()
        return normal(repr(queue)), raised(queue.empty), raised(queue.qsize), raised(lambda: queue._queue)


@parity
@pytest.mark.parametrize("what", ["_put", "_get", "full", "empty", "put_nowait", "get_nowait", "_format"])
def test_an_instance_with_a_method_of_its_own(w, what):
    with w.loop() as loop:
        log = []
        queue = fill(w.aio.Queue(3), 1, 2)
        old = getattr(queue, what)

        def replacement(*args):
            log.append((what, args))
            return old(*args)

        setattr(queue, what, replacement)

        async def main():
            await queue.put(3)
            return [await queue.get() for _ in range(3)], look(queue), repr(type(queue.__dict__[what]))

        return loop.run_until_complete(main()), log


@parity
def test_two_bases(w):
    class Both(w.aio.LifoQueue, w.aio.PriorityQueue):
        pass

    class Mixed(w.aio.LifoQueue):
        _init = w.aio.Queue._init

    with w.loop():
        queues = [fill(kind(), 2, 3, 1) for kind in (Both, Mixed)]
        return [(look(queue), [queue.get_nowait() for _ in range(3)]) for queue in queues]


def test_isinstance_both_ways():
    import asynchrotron

    for name in CLASSES:
        ours, theirs = getattr(asynchrotron, name), STOCK[name]
        assert isinstance(ours(), theirs)
        assert isinstance(theirs(), ours)
        assert ours().__class__ is theirs
        assert issubclass(ours, asynchrotron.Queue)
        assert (ours.__name__, ours.__qualname__, ours.__module__) == (name, name, "asyncio.queues")
        assert inspect.iscoroutinefunction(ours.put) and inspect.iscoroutinefunction(ours.get)
        assert isinstance(ours[int], types.GenericAlias)
    assert not isinstance(STOCK["LifoQueue"](), asynchrotron.PriorityQueue)
    assert isinstance(asynchrotron.PriorityQueue(), STOCK["Queue"])
