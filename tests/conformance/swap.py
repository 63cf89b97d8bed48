"""What each conformance mode puts in asyncio's place before a test module is imported.

stock    nothing: the control every other mode is compared with
loop     the event loop classes and the default loop factory, and nothing else
objects  asynchrotron.install() with the loop left stock: our Future and Task driven by CPython's loops
install  both, so that our Future and Task run on our loop

`objects` and `install` also put our types under the private names by which CPython's tests reach for "the C
implementation" (`futures._CFuture`, `tasks._CTask`, `tasks._c_current_task`...): its C-variant classes test ours.
"""

import asyncio
import asyncio.futures
import asyncio.tasks
import asyncio.unix_events
import importlib
from types import ModuleType
from typing import Any, cast

MODES = ("stock", "loop", "objects", "install")
OUR_LOOP = "asynchrotron:EventLoop"

_LOOP_NAMES = ("SelectorEventLoop", "EventLoop", "_UnixSelectorEventLoop")
_POLICY_NAMES = ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy", "DefaultEventLoopPolicy")


def apply(mode: str, loop: str = OUR_LOOP) -> None:
    """Make this process's asyncio what `mode` says; `loop` ("module:class") only differs when trying the harness."""
    if mode in ("objects", "install"):
        asynchrotron = importlib.import_module("asynchrotron")
        stock_loops = _loop_names()
        asynchrotron.install()
        if mode == "objects":
            _rebind_loops(stock_loops)
        _swap_native_names(importlib.import_module("asynchrotron._core"))
    if mode in ("loop", "install"):
        module, _, name = loop.partition(":")
        loop_class = _accepting_selector(getattr(importlib.import_module(module), name))
        _rebind_loops(dict.fromkeys(_loop_names(), loop_class))
        _check(loop_class)


def _loop_names() -> dict[tuple[ModuleType | type, str], Any]:
    """Every name through which a test, a policy or a Runner finds the loop class, and what is there now."""
    places: dict[tuple[ModuleType | type, str], Any] = {}
    for module in (asyncio, asyncio.unix_events):
        for name in _LOOP_NAMES:
            if name in vars(module):
                places[module, name] = vars(module)[name]
    for name in _POLICY_NAMES:
        policy = vars(asyncio.unix_events).get(name)
        if policy is not None:
            places[policy, "_loop_factory"] = policy._loop_factory
    return places


def _rebind_loops(places: dict[tuple[ModuleType | type, str], Any]) -> None:
    for (owner, name), loop_class in places.items():
        setattr(owner, name, loop_class)


def _accepting_selector(loop_class: Any) -> type:
    """test_events makes SelectorEventLoop(PollSelector()); only CPython's loop has a use for the selector, so drop it.

    Another project's loop, when trying the harness, gets a subclass for that and for `_default_executor`, which
    CPython's test helpers always look at.
    """
    if not issubclass(loop_class, asyncio.unix_events.SelectorEventLoop):
        loop_class = type(loop_class.__name__, (loop_class,), {"_default_executor": None})
    make = loop_class.__init__

    def __init__(self: Any, selector: object = None) -> None:
        make(self)

    loop_class.__init__ = __init__
    return cast(type, loop_class)


def _swap_native_names(core: ModuleType) -> None:
    futures: Any = asyncio.futures
    tasks: Any = asyncio.tasks
    asyncio.Future = futures.Future = futures._CFuture = core.Future  # type: ignore[misc]
    asyncio.Task = tasks.Task = tasks._CTask = core.Task  # type: ignore[misc]
    for module in (futures, tasks):
        for name in [name for name in vars(module) if name.startswith("_c_")]:
            ours = getattr(core, name.removeprefix("_c_"), None)
            if ours is not None:
                setattr(module, name, ours)
    for name in ("current_task", "all_tasks"):  # 3.11 has no _c_ twin of these; its tests use the plain names
        setattr(tasks, name, getattr(core, name))
        setattr(asyncio, name, getattr(core, name))


def _check(loop_class: type) -> None:
    """A swap that silently missed would report stock's results as ours."""
    loops = [asyncio.new_event_loop(), asyncio.SelectorEventLoop(), asyncio.Runner().get_loop()]
    for loop in loops:
        if type(loop) is not loop_class:
            raise RuntimeError(f"the swap did not reach {type(loop)!r}, expected {loop_class!r}")
        loop.close()
