"""Tests of other people's code: mocks that stand for an object, and methods patched in a class for a while."""

import collections
import unittest.mock as mock

import pytest
from worlds import normal, parity

CLASSES = [
    "Queue",
    "Lock",
    "Event",
    "Condition",
    "Semaphore",
    "Future",
    "Task",
    "StreamReader",
    "StreamWriter",
    "Handle",
]
CLASSES += ["TaskGroup", "Timeout", "Barrier", "TimerHandle", "PriorityQueue"]


class Proxy:
    """Says that it is what it stands for, as werkzeug's and wrapt's do."""

    def __init__(self, kind):
        self.kind = kind

    @property
    def __class__(self):
        return self.kind


class Silent:
    """Has no class to show."""

    @property
    def __class__(self):
        raise AttributeError("none of your business")


@pytest.mark.parametrize("name", CLASSES)
@parity
def test_whose_instance_a_mock_is(w, name):
    kind = getattr(w.aio, name)
    subclass = None if name in ("Handle", "TimerHandle") else type("Mine", (kind,), {})
    answers = [
        isinstance(mock.Mock(spec=kind), kind),
        isinstance(mock.create_autospec(kind, instance=True), kind),
        isinstance(Proxy(kind), kind),
        isinstance(Proxy(collections.deque), kind),
        isinstance(Proxy("text"), kind),
        isinstance(Silent(), kind),
    ]
    if subclass is not None:
        answers += [isinstance(Proxy(subclass), kind), isinstance(Proxy(kind), subclass)]
    return answers


def broken(text):
    return mock.Mock(side_effect=ValueError(text))


async def outcome(awaitable):
    try:
        return await awaitable
    except Exception as error:
        return type(error).__name__, normal(error)


async def entered(manager):
    async with manager:
        return "entered"


async def waited_for(condition, aio):
    async with condition:
        return await aio.wait_for(condition.wait_for(lambda: False), 0.01)


async def released(manager):
    await manager.acquire()
    return await entered(manager)


async def notified(condition):
    async with condition:
        return condition.notify_all()


# Class, patched method, and what is done with an instance made meanwhile: other methods that call the patched one.
PATCHED = [
    ("Lock", "acquire", lambda lock, aio: entered(lock)),
    ("Lock", "release", lambda lock, aio: entered(lock)),
    ("Semaphore", "acquire", lambda semaphore, aio: entered(semaphore)),
    ("Semaphore", "release", lambda semaphore, aio: entered(semaphore)),
    ("Semaphore", "locked", lambda semaphore, aio: released(semaphore)),
    ("BoundedSemaphore", "locked", lambda semaphore, aio: released(semaphore)),
    ("Condition", "wait", lambda condition, aio: waited_for(condition, aio)),
    ("Condition", "notify", lambda condition, aio: notified(condition)),
    ("Barrier", "wait", lambda barrier, aio: entered(barrier)),
    ("Queue", "put_nowait", lambda queue, aio: queue.put(1)),
    ("Queue", "get_nowait", lambda queue, aio: aio.wait_for(queue.get(), 0.01)),
    ("Queue", "empty", lambda queue, aio: aio.wait_for(queue.get(), 0.01)),
    ("Queue", "full", lambda queue, aio: queue.put(1)),
    ("Queue", "_put", lambda queue, aio: queue.put(1)),
    ("PriorityQueue", "_put", lambda queue, aio: queue.put(1)),
    ("PriorityQueue", "full", lambda queue, aio: queue.put(1)),
]


@pytest.mark.parametrize(("name", "method", "use"), PATCHED, ids=[f"{name}.{method}" for name, method, _ in PATCHED])
@parity
def test_a_method_patched_in_the_class(w, name, method, use):
    arguments = (1,) if name == "Barrier" else ()

    async def used():
        return await outcome(w.aio.wait_for(use(getattr(w.aio, name)(*arguments), w.aio), 0.1))

    async def main():
        before = await used()
        with mock.patch.object(getattr(w.aio, name), method, broken("patched")):
            patched = await used()
        return before, patched, await used()

    return w.run(main)


@parity
def test_a_subclass_of_a_patched_class(w):
    class Mine(w.aio.Lock):
        pass

    async def main():
        answers = []
        for kind in (Mine, w.aio.Lock):
            with mock.patch.object(w.aio.Lock, "acquire", broken("patched")):
                answers.append(await outcome(entered(kind())))
            answers.append(await outcome(entered(kind())))
        return answers

    return w.run(main)


@parity
def test_patched_numbers_of_items(w):
    with mock.patch.object(w.aio.Queue, "qsize", return_value=7):
        answers = w.aio.Queue().empty(), w.aio.Queue(3).full(), w.aio.LifoQueue(3).full()
    return answers, w.aio.Queue().empty(), w.aio.Queue(3).full()
