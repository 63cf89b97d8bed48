"""How our objects are called: in type names, module names, signatures, pickles of classes, and error texts."""

import asyncio
import inspect
import pickle

import pytest
from worlds import IMPORT_ERROR

if IMPORT_ERROR is not None:
    pytest.skip(f"asynchrotron cannot be imported: {IMPORT_ERROR}", allow_module_level=True)

import asynchrotron
from asynchrotron import _core


@pytest.mark.parametrize("name", ["Future", "Task", "Handle", "TimerHandle", "StreamTransport"])
def test_classes(name):
    kind = getattr(_core, name)
    assert kind.__name__ == name
    assert kind.__qualname__ == name
    assert kind.__module__.split(".")[0] == "asynchrotron"


def test_the_loop_class():
    assert asynchrotron.EventLoop.__name__ == "EventLoop"
    assert asynchrotron.EventLoop.__module__.split(".")[0] == "asynchrotron"
    loop = asynchrotron.new_event_loop()
    assert repr(loop) == "<EventLoop running=False closed=False debug=False>"
    loop.close()


def test_classes_can_be_pickled_by_name():
    for kind in (asynchrotron.EventLoop, _core.Future, _core.Task, _core.Handle):
        assert pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize(
    "name", ["sleep", "current_task", "all_tasks", "create_task", "ensure_future", "run", "new_event_loop", "install"]
)
def test_functions(name):
    function = getattr(asynchrotron, name)
    assert function.__name__ == name
    assert function.__doc__


def test_coroutine_functions_look_like_it():
    """Frameworks ask iscoroutinefunction(asyncio.sleep); a native sleep still gives something to await."""
    made = asynchrotron.sleep(0)
    assert inspect.isawaitable(made)
    if asyncio.iscoroutine(made):
        made.close()


def test_the_version():
    assert isinstance(asynchrotron.__version__, str)
    assert all(part.isdigit() for part in asynchrotron.__version__.split(".")[:2])


def test_tasks_number_their_names():
    loop = asynchrotron.new_event_loop()

    async def noop():
        pass

    tasks = [loop.create_task(noop()) for _ in range(3)]
    numbers = [int(t.get_name().removeprefix("Task-")) for t in tasks]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()


def test_a_closed_set_of_public_names_in_the_package():
    """What is there beside asyncio's names is meant to be there."""
    extra = set(asynchrotron.__all__) - set(asyncio.__all__)
    assert extra <= {"CancelScope", "EventLoop", "EventLoopPolicy", "TaskGroup", "install", "uninstall", "__version__"}


def test_isinstance_works_both_ways():
    loop = asynchrotron.new_event_loop()
    stock = asyncio.SelectorEventLoop()
    try:
        mine, theirs = loop.create_future(), stock.create_future()
        assert isinstance(mine, asyncio.Future)
        assert isinstance(theirs, asynchrotron.Future)
        assert not isinstance(mine, asyncio.Task)
        assert not isinstance(theirs, asynchrotron.Task)
        assert not isinstance(5, asynchrotron.Future)
        assert issubclass(asynchrotron.Task, asynchrotron.Future)
        assert mine.__class__ is asyncio.Future
        assert type(mine) is _core.Future
    finally:
        loop.close()
        stock.close()
