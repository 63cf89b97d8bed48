"""Runs a program in a world and says what happened, in words that are the same in every world that behaves the same."""

import asyncio
import contextlib
import functools
import gc
import itertools
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import worlds
from clockwork import Clock
from worlds import normal, outcome

_ROUNDS_OF_CANCEL = 60  # for what is left in the end; each takes a task at least one step further


class Broken(Exception):
    """What the programs raise."""


class Ordered(dict):  # type: ignore[type-arg]
    """A set that keeps the order: a task group cancels its tasks in the order of its set, which is by address."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def run(aio: types.ModuleType, loop_class: Callable[[], Any], clock: Clock, program: str) -> list[Any]:
    """The trace of a program: a line for each step, then what is left, then how that takes being cancelled."""
    loop = loop_class()
    loop.begin(clock)
    trace: list[Any] = []
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(worlds.context_summary(context)))
    kept: dict[str, Any] = {}
    tasks: dict[str, Any] = {name: Absent() for name in "abcd"}

    def log(number: int, *values: Any) -> bool:
        task = aio.current_task()
        count = task.cancelling() if task is not None else None
        trace.append((f"step {number}", f"tick {clock.tick}, turn {loop.turns}", count, *map(describe, values)))
        return True

    def group() -> Any:
        made = aio.TaskGroup()
        if type(getattr(made, "__dict__", {}).get("_tasks")) is set:
            made._tasks = Ordered()
        return made

    names = {
        "aio": aio,
        "Broken": Broken,
        "group": group,
        "keep": kept.update,
        "log": log,
        "outcome": outcome,
        "steps": lambda: len(trace),
        "tasks": tasks,
        "ticks": clock.ticks,
    }
    exec(compiled(program), names)
    with quiet(reports):
        main = loop.create_task(names["main"](), name="main")
        run_all(loop, trace)
        trace.append(("main", describe(main)))
        trace.extend((name, describe(task)) for name, task in tasks.items())
        for _ in range(_ROUNDS_OF_CANCEL):
            trace.append(("state", *(f"{name}: {describe(value)}" for name, value in kept.items())))
            left = sorted(aio.all_tasks(loop), key=task_number)
            trace.append(("left", *map(describe, left)))
            if not left:
                break
            for task in left:
                task.cancel("the end")
            run_all(loop, trace)
        else:
            raise AssertionError("tasks that cannot be cancelled")
        loop.close()
        # What nobody asked for is reported when it goes.
        for names_of in (names, tasks, kept):
            names_of.clear()
        del main
    trace.append(("reports", *sorted(reports, key=str)))
    return trace


@contextlib.contextmanager
def quiet(reports: list[Any]) -> Iterator[None]:
    """Warnings, and exceptions that nobody could be told of, become reports. All garbage is collected at the end."""

    def ignored(about: Any) -> None:
        reports.append(("ignored", describe(about.exc_value)))

    unraisable, sys.unraisablehook = sys.unraisablehook, ignored
    # asyncio loses tasks that only a cycle holds: if it must, not at random.
    gc.disable()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            gc.collect()
        reports += [(warning.category.__name__, str(warning.message)) for warning in warned]
    finally:
        gc.enable()
        gc.freeze()  # what lives on need not be looked at again
        sys.unraisablehook = unraisable


@functools.lru_cache(4)
def compiled(program: str) -> types.CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # 3.14 does not like a return in a finally block
        return compile(program, "program.py", "exec")


def run_all(loop: Any, trace: list[Any]) -> None:
    try:
        loop.run_forever()
    except BaseException as error:
        trace.append(("raised", describe(error)))
    else:
        trace.append(("finished", loop.finished))


class Absent:
    """Stands for a task that a program speaks of and does not have."""

    def cancel(self, *_: Any) -> None: ...

    cancelling = add_done_callback = cancel

    def __await__(self) -> Iterator[None]:
        return iter(())


def task_number(task: Any) -> tuple[int, str]:
    """Tasks without a name of their own are numbered in the order they were made."""
    name = task.get_name()
    return int(found[1]) if (found := re.fullmatch(r"Task-(\d+)", name)) else 0, name


def describe(value: Any) -> Any:
    if isinstance(value, BaseException):
        return describe_error(value)
    if isinstance(value, asyncio.Task):
        name = normal(value.get_name())
        coro = getattr(value.get_coro(), "__qualname__", "?").rpartition(".")[2]
        return f"task {name} {coro}: {state(value)}"
    if asyncio.isfuture(value):
        return f"future: {state(value)}"
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Absent):
        return "absent"
    return normal(repr(value))


def state(future: Any) -> str:
    if not future.done():
        return f"pending, {future.cancelling()} cancels" if isinstance(future, asyncio.Task) else "pending"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return f"failed: {describe_error(error)}" if error is not None else f"result: {describe(future.result())}"


def describe_error(error: BaseException, seen: tuple[BaseException, ...] = ()) -> str:
    """Type, text, members, and the same of its cause and context."""
    if error in seen:
        return "..."
    seen = (*seen, error)
    words = [f"{type(error).__name__}({normal(error)})"]
    if isinstance(error, BaseExceptionGroup):
        words.append(f"[{', '.join(describe_error(member, seen) for member in error.exceptions)}]")
    if error.__cause__ is not None:
        words.append(f"from {describe_error(error.__cause__, seen)}")
    elif error.__context__ is not None and not error.__suppress_context__:
        words.append(f"after {describe_error(error.__context__, seen)}")
    return " ".join(words)


def first_difference(expected: list[Any], got: list[Any]) -> str:
    """Where two traces part, with the three lines before."""
    for index, (mine, theirs) in enumerate(itertools.zip_longest(expected, got)):
        if mine != theirs:
            before = "\n".join(f"    {line}" for line in expected[max(0, index - 3) : index])
            return f"{before}\n  - {mine}\n  + {theirs}"
    return ""
