"""What asyncio's own all_tasks() must see: our pending tasks, without registering each of them.

The stdlib keeps scheduled tasks in a WeakSet; putting a task there costs more than creating a native one. So the
WeakSet's inner set is replaced by one that, when iterated, also yields our pending tasks, which the core knows from
its own list. (current_task() needs no such thing: the core publishes the current task.)
"""

import asyncio
import sys
import weakref
from asyncio import futures, tasks
from collections.abc import Iterator
from typing import Any

from . import _core


class _ScheduledTasks(set[Any]):
    """The `data` of a WeakSet of tasks: its own weak references, then one for each native task that is pending."""

    def __iter__(self) -> Iterator[Any]:
        yield from list(super().__iter__())
        for task in _core.all_tasks_everywhere():
            # A WeakSet calls what it iterates over to get at the item.
            yield weakref.ref(task)

    def copy(self) -> set[Any]:
        # What WeakSet iterates over from 3.14 on.
        return set(iter(self))

    def __contains__(self, ref: object) -> bool:
        if super().__contains__(ref):
            return True
        task = ref() if isinstance(ref, weakref.ref) else None
        return isinstance(task, _core.Task) and not task.done()


def _weak_sets() -> Iterator[Any]:
    """Find every WeakSet of scheduled tasks that this version's all_tasks() functions read."""
    stdlib: Any = tasks
    for name in ("_scheduled_tasks", "_all_tasks"):  # _all_tasks up to 3.11
        weak_set = getattr(stdlib, name, None)
        if isinstance(weak_set, weakref.WeakSet):
            yield weak_set
    # From 3.14 on, the C module keeps a WeakSet of its own for tasks that are not its own, and shows it to nobody.
    # The weak reference that it makes for a task has a callback, which holds the set.
    probe = _Probe()
    stdlib._register_task(probe)
    try:
        for ref in weakref.getweakrefs(probe):
            for default in getattr(ref.__callback__, "__defaults__", None) or ():
                weak_set = default()
                if isinstance(weak_set, weakref.WeakSet):
                    yield weak_set
    finally:
        stdlib._unregister_task(probe)


class _Probe:
    """Something that can be registered as a task."""

    def done(self) -> bool:
        return True

    def get_loop(self) -> None:
        return None


def make_visible() -> None:
    """Let asyncio.all_tasks() see native tasks, also through references taken before this package was imported.

    And, from 3.14 on, let gather(), TaskGroup and the others note in the call graph who awaits a native future: the C
    functions they call for that pass over futures that are not C futures.
    """
    for weak_set in list(_weak_sets()):
        if not isinstance(weak_set.data, _ScheduledTasks):
            weak_set.data = _ScheduledTasks(weak_set.data)
    if sys.version_info >= (3, 14):
        modules: tuple[Any, Any] = (asyncio, futures)
        for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
            native = getattr(_core, name)
            for module in modules:
                setattr(module, name, native)
            setattr(futures, f"_c_{name}", native)
