"""Cold Python behind the native core: reprs, stacks, reports of failed and slow callbacks.

All texts are made by the running version's own asyncio functions, so that logs read as they always did. The core
imports this module when it first needs one of these functions; nothing here runs per callback or per await.
"""

import sys
import traceback
from asyncio import base_events, base_futures, base_tasks, coroutines, format_helpers, futures, tasks
from asyncio.log import logger
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any, TextIO

from . import _core

_futures: Any = base_futures
_tasks: Any = base_tasks
_coroutines: Any = coroutines
_base_events: Any = base_events
_formats: Any = format_helpers
_tasks_module: Any = tasks
_futures_module: Any = futures

# The stdlib's own functions, whatever install() puts in their place, for the done callbacks inside them.
_AROUND = {
    function.__name__: function
    for function in (
        tasks.gather,
        _tasks_module._wait,
        tasks.as_completed,
        tasks.shield,
        tasks.run_coroutine_threadsafe,
        _futures_module._chain_future,
    )
}


def _callback_source(loop: Any, callback: object, args: Any) -> str:
    if sys.version_info >= (3, 13):
        # Arguments may hold secrets, so they are shown in debug mode only.
        text = _formats._format_callback_source(callback, args, debug=loop.get_debug())
    else:
        text = _formats._format_callback_source(callback, args)
    return str(text)


def report_callback_exception(loop: Any, handle: Any, exc: BaseException) -> None:
    """Hand what a callback raised to the loop's exception handler, as Handle._run does."""
    context = {
        "message": f"Exception in callback {_callback_source(loop, handle._callback, handle._args)}",
        "exception": exc,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def handle_repr(handle: Any) -> str:
    """Represent a Handle or TimerHandle, as Handle.__repr__ and its _repr_info do."""
    if handle._repr is not None:
        # Kept when a debugged loop's handle was cancelled, which drops the callback.
        return str(handle._repr)
    info = [handle.__class__.__name__]
    if handle._cancelled:
        info.append("cancelled")
    when = getattr(handle, "_when", None)
    if when is not None:
        info.append(f"when={when}")
    if handle._callback is not None:
        info.append(_callback_source(handle._loop, handle._callback, handle._args))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(info)}>"


def slow_callback(loop: Any, handle: Any, seconds: float) -> None:
    """Log what kept a debugged loop busy: a Handle, or a Task whose step took that long."""
    what = repr(handle) if isinstance(handle, _core.Future) else _base_events._format_handle(handle)
    _base_events.logger.warning("Executing %s took %.3f seconds", what, seconds)


def future_repr(fut: Any) -> str:
    """Represent a Future, as Future.__repr__ does."""
    return _futures._future_repr(fut)  # type: ignore[no-any-return]


def task_repr(task: Any) -> str:
    """Represent a Task, as Task.__repr__ does."""
    return _tasks._task_repr(task)  # type: ignore[no-any-return]


def task_get_stack(task: Any, limit: int | None) -> list[FrameType]:
    """Return the frames of a Task's coroutine, or of the exception that ended it."""
    return _tasks._task_get_stack(task, limit)  # type: ignore[no-any-return]


def task_print_stack(task: Any, limit: int | None, file: TextIO | None) -> None:
    """Print the frames that task_get_stack() finds."""
    _tasks._task_print_stack(task, limit, file)


def format_coroutine(coro: Any) -> str:
    """Describe a coroutine in one line: name, state, place."""
    return _coroutines._format_coroutine(coro)  # type: ignore[no-any-return]


def extract_stack() -> traceback.StackSummary:
    """Return the stack of the Python code that called into the core, for debug mode."""
    try:
        # Native functions have no frames, so the caller's frame is the user's own line.
        frame = sys._getframe(1)
    except ValueError:
        # The loop itself called, outside of any Python code.
        return traceback.StackSummary.from_list([])
    return format_helpers.extract_stack(frame)


def create_task_with_factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
    """What the version's own loop.create_task() does when a task factory is set."""
    return _base_events.BaseEventLoop.create_task(loop, coro, **kwargs)


def create_future_as_asyncio(loop: Any) -> Any:
    """A future of the class that stands in asyncio.futures, where somebody put another one there."""
    return _base_events.BaseEventLoop.create_future(loop)


def nested_function(qualname: str) -> FunctionType:
    """Return asyncio's function inside a function, not to be called: it tells where a native callback's twin is."""
    around, _, name = qualname.partition(".<locals>.")
    inside: Any = _AROUND[around].__code__
    code: CodeType = next(each for each in inside.co_consts if isinstance(each, CodeType) and each.co_name == name)
    return FunctionType(code, vars(tasks), name, None, tuple(CellType() for _ in code.co_freevars))


def nested_names(function: Any) -> set[str]:
    """Return the names that the functions inside a function use."""
    inside = [each for each in function.__code__.co_consts if isinstance(each, CodeType)]
    return {name for code in inside for name in code.co_names}


def make_default_executor(loop: Any) -> Any:
    """Make the loop's default executor, as run_in_executor does when it is first needed."""
    executor = _base_events.concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop._default_executor = executor
    return executor


async def awaiting(awaitable: Any) -> Any:
    """An await, with everything the interpreter checks at one."""
    return await awaitable


def returncode_of_reaped(transport: Any, pid: int) -> int:
    """Say how a child ended that somebody else has reaped: what Popen knows, else 255 and a warning."""
    process = transport._proc
    if process is not None and process.returncode is not None:
        return int(process.returncode)
    if sys.version_info >= (3, 12):
        logger.warning("child process pid %d exit status already read:  will report returncode 255", pid)
    else:
        logger.warning("Unknown child process pid %d, will report returncode 255", pid)
    return 255
