"""asyncio, native: `import asynchrotron as asyncio`, or install(), or `python -m asynchrotron app.py`.

Every public name of the running version's asyncio is here. The event loop, Future, Task, Handle, TimerHandle and the
functions around them are native; the rest, asyncio's submodules for instance, is the stdlib's own, which runs on them.
"""

import sys

if sys.platform != "linux":
    raise ImportError("asynchrotron supports Linux only for now")

import asyncio
import atexit
from asyncio import *  # noqa: F403
from typing import TYPE_CHECKING

from . import _core, _helpers, registry
from ._core import __version__ as __version__
from .cancel_scope import CancelScope as CancelScope
from .fan_out import map as map
from .install import install as install
from .install import uninstall as uninstall

if sys.version_info < (3, 16):
    from .policy import EventLoopPolicy as EventLoopPolicy

if TYPE_CHECKING:
    # For a type checker, the native classes are asyncio's: isinstance() agrees, in both directions.
    from asyncio import TaskGroup as TaskGroup

    from .loop import EventLoop as _EventLoop

    if sys.version_info < (3, 13):
        EventLoop = _EventLoop
else:
    from ._core import Barrier as Barrier
    from ._core import BoundedSemaphore as BoundedSemaphore
    from ._core import Condition as Condition
    from ._core import Event as Event
    from ._core import Future as Future
    from ._core import Handle as Handle
    from ._core import LifoQueue as LifoQueue
    from ._core import Lock as Lock
    from ._core import PriorityQueue as PriorityQueue
    from ._core import Queue as Queue
    from ._core import Semaphore as Semaphore
    from ._core import StreamReader as StreamReader
    from ._core import StreamReaderProtocol as StreamReaderProtocol
    from ._core import StreamWriter as StreamWriter
    from ._core import Task as Task
    from ._core import TaskGroup as TaskGroup
    from ._core import Timeout as Timeout
    from ._core import TimerHandle as TimerHandle
    from ._core import all_tasks as all_tasks
    from ._core import as_completed as as_completed
    from ._core import create_task as create_task
    from ._core import current_task as current_task
    from ._core import ensure_future as ensure_future
    from ._core import gather as gather
    from ._core import open_connection as open_connection
    from ._core import open_unix_connection as open_unix_connection
    from ._core import run_coroutine_threadsafe as run_coroutine_threadsafe
    from ._core import shield as shield
    from ._core import sleep as sleep
    from ._core import start_server as start_server
    from ._core import start_unix_server as start_unix_server
    from ._core import timeout as timeout
    from ._core import timeout_at as timeout_at
    from ._core import to_thread as to_thread
    from ._core import wait as wait
    from ._core import wait_for as wait_for
    from ._core import wrap_future as wrap_future
    from .loop import EventLoop as EventLoop
    from .loop import new_event_loop as new_event_loop
    from .runners import Runner as Runner
    from .runners import run as run

    if sys.version_info >= (3, 12):
        from ._core import create_eager_task_factory as create_eager_task_factory
        from ._core import eager_task_factory as eager_task_factory

    if sys.version_info >= (3, 14):
        from ._core import future_add_to_awaited_by as future_add_to_awaited_by
        from ._core import future_discard_from_awaited_by as future_discard_from_awaited_by

_OWN = ("CancelScope", "EventLoop", "TaskGroup", "__version__", "install", "uninstall")

__all__ = list(dict.fromkeys([*asyncio.__all__, *_OWN]))

registry.make_visible()
_core._use_helpers(_helpers)
atexit.register(_core._park_loops)
if sys.version_info >= (3, 14):
    from ._thread_state import offsets as _offsets

    _core._use_thread_state(*(_offsets() or (0, 0)))


# asyncio's submodules and what else it has. No `__getattr__` for that: it would slow every `asynchrotron.sleep` down.
globals().update({name: value for name, value in vars(asyncio).items() if not name.startswith("__")} | globals())

if (3, 14) <= sys.version_info < (3, 16):
    from .policy import WarningModule

    sys.modules[__name__].__class__ = WarningModule
