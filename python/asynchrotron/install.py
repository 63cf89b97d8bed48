"""install() and uninstall(): asyncio's public names stand for the native objects.

Only names are rebound, in the asyncio package and in those of its modules that hold them; private aliases such as
tasks._CTask or futures._PyFuture stay. No event loop policy is set: where policies exist, the default one is told to
make our loop, so a policy that a program sets on purpose still decides. asyncio.SelectorEventLoop stays the stdlib's.
"""

import asyncio
import logging
import sys
import threading
from asyncio import events, unix_events
from types import ModuleType
from typing import Any

from . import _core
from .loop import EventLoop, new_event_loop

_log = logging.getLogger("asynchrotron")
_lock = threading.RLock()

# The stdlib's own objects, by public name, while ours are in place; empty otherwise.
_replaced: dict[str, Any] = {}

# asyncio's module-level __getattr__ while asyncio does without it.
_kept_getattr: list[Any] = []

_NATIVE = (
    "Future",
    "Task",
    "Handle",
    "TimerHandle",
    "Lock",
    "Queue",
    "PriorityQueue",
    "LifoQueue",
    "Event",
    "Condition",
    "Semaphore",
    "BoundedSemaphore",
    "Barrier",
    "Timeout",
    "StreamReader",
    "StreamWriter",
    "StreamReaderProtocol",
    "open_connection",
    "start_server",
    "open_unix_connection",
    "start_unix_server",
    "sleep",
    "current_task",
    "all_tasks",
    "create_task",
    "ensure_future",
    "gather",
    "wait",
    "as_completed",
    "shield",
    "TaskGroup",
    "timeout",
    "timeout_at",
    "wait_for",
    "wrap_future",
    "run_coroutine_threadsafe",
    "to_thread",
    "eager_task_factory",  # from 3.12 on
    "create_eager_task_factory",
    "future_add_to_awaited_by",  # from 3.14 on
    "future_discard_from_awaited_by",
)


def _replacements() -> dict[str, Any]:
    """Return our objects for those public names that the running version has."""
    names = {name: getattr(_core, name) for name in _NATIVE if hasattr(asyncio, name) and hasattr(_core, name)}
    if sys.version_info >= (3, 13):
        names["EventLoop"] = EventLoop
    if sys.version_info >= (3, 16):
        names["new_event_loop"] = new_event_loop
    return names


def _modules() -> list[tuple[str, ModuleType]]:
    return [(name, module) for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)]


def _rebind(old: dict[str, Any], new: dict[str, Any]) -> None:
    for module_name, module in _modules():
        if module_name.partition(".")[0] != "asyncio":
            continue
        namespace = vars(module)
        for name, obj in old.items():
            if namespace.get(name) is obj:
                namespace[name] = new[name]


def _specialise_access() -> None:
    """Have 3.14's interpreter specialise every `asyncio.sleep` of the program, as it does in all other versions."""
    if (3, 14) <= sys.version_info < (3, 15) and type(asyncio) is ModuleType:
        getattr_hook = vars(asyncio).get("__getattr__")
        # A program may have put its own there.
        if getattr(getattr_hook, "__module__", None) == "asyncio":
            from .policy import WarningModule

            _kept_getattr.append(vars(asyncio).pop("__getattr__"))
            asyncio.__class__ = WarningModule


def _put_getattr_back() -> None:
    if _kept_getattr:
        vars(asyncio).setdefault("__getattr__", _kept_getattr.pop())
        asyncio.__class__ = ModuleType


def _default_policy() -> Any:
    """Return the class of the default event loop policy, or None where there are no policies any more."""
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(unix_events, name, None)
        if policy is not None:
            return policy
    return None


def _holders(old: dict[str, Any]) -> list[tuple[str, str]]:
    """Find where a program keeps one of the old objects under a name of its own."""
    names = {id(obj): name for name, obj in old.items() if name != "_loop_factory"}
    found = []
    for module_name, module in _modules():
        if module_name.partition(".")[0] in ("asyncio", "_asyncio", __package__):
            continue
        for name, obj in list(vars(module).items()):
            old_name = names.get(id(obj))
            # From 3.13 on, EventLoop is one more name of SelectorEventLoop, which stays what it is.
            if old_name is not None and (old_name != "EventLoop" or name == "EventLoop"):
                found.append((module_name, name))
    return found


def install() -> list[tuple[str, str]]:
    """Make asyncio use this package: its loop, and its Future, Task, Handle and the functions around them.

    Returns (module, name) for every module that had imported one of the replaced objects before and so goes on using
    the stdlib's. That works, as both kinds live together, but is slower. The same list is logged at level INFO.
    Calling it again changes nothing, but looks again.
    """
    with _lock:
        if not _replaced:
            new = _replacements()
            old = {name: getattr(asyncio, name) for name in new if getattr(asyncio, name) is not new[name]}
            policy = _default_policy()
            _rebind(old, new)
            _specialise_access()
            if policy is not None:
                old["_loop_factory"] = policy._loop_factory
                policy._loop_factory = EventLoop
            _replaced.update(old)
        found = _holders(_replaced)
    for module_name, name in found:
        _log.info("%s.%s was imported before install() and stays the stdlib's", module_name, name)
    policy_in_place = getattr(events, "_event_loop_policy", None)
    factory = getattr(policy_in_place, "_loop_factory", EventLoop)
    if factory is not EventLoop:
        _log.info("the event loop policy %r was set before install() and goes on making %r", policy_in_place, factory)
    return found


def uninstall() -> None:
    """Undo install(): every name of asyncio stands for the stdlib's object again."""
    with _lock:
        if not _replaced:
            return
        old = dict(_replaced)
        factory = old.pop("_loop_factory", None)
        policy = _default_policy()
        if factory is not None and policy is not None:
            policy._loop_factory = factory
        new = _replacements()
        _rebind({name: new[name] for name in old}, old)
        _put_getattr_back()
        _replaced.clear()
