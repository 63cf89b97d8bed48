"""Random programs: what they may do, and how they read.

A program is a few tasks that share one of each primitive, two futures and a queue with room for one. It is drawn as a
tree of `Step`s and executed as the Python code that `source()` writes, which is also what a failure shows. Every step
is logged under its number; what may raise without meaning anything for the rest is called through `outcome`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

TASKS = "abcd"

PRIMITIVES = {
    "lock": "aio.Lock()",
    "event": "aio.Event()",
    "condition": "aio.Condition()",
    "semaphore": "aio.Semaphore(2)",
    "bounded": "aio.BoundedSemaphore(1)",
    "barrier": "aio.Barrier(2)",
    "queue": "aio.Queue(1)",
    "stack": "aio.LifoQueue(2)",
    "heap": "aio.PriorityQueue()",
    "first": "loop.create_future()",
    "second": "loop.create_future()",
}

SHUTDOWN = sys.version_info >= (3, 13)


@dataclass(frozen=True)
class Subject:
    """What a program can do with one thing: expressions to await, calls, and `async with` statements.

    Simplest first: shrinking goes to the front. {n} is the number of the step.
    """

    awaits: tuple[str, ...]
    calls: tuple[str, ...]
    around: tuple[str, ...] = ()


def a_queue(name: str) -> Subject:
    awaits = ("get()", "put({n})", "get()", "put({n})", "join()")
    calls = ("put_nowait({n})", "get_nowait()", "task_done()", "task_done()")
    if SHUTDOWN:
        calls += ("shutdown()", "shutdown(immediate=True)")
    timed = (f"aio.wait_for({name}.get(), ticks(3))", f"aio.wait_for({name}.put({{n}}), ticks(2))")
    waits = (*timed, f"aio.wait_for({name}.get(), 0)", f"aio.gather({name}.get(), {name}.put({{n}}), {name}.get())")
    return Subject((*(f"{name}.{call}" for call in awaits), *waits), tuple(f"{name}.{call}" for call in calls))


SUBJECTS = (
    Subject(
        ("lock.acquire()", "aio.wait_for(lock.acquire(), ticks(1))", "aio.wait_for(lock.acquire(), None)"),
        ("lock.release()", "lock.locked()"),
        ("async with lock",),
    ),
    Subject(
        ("event.wait()", "aio.wait_for(event.wait(), ticks(1))", "aio.gather(event.wait(), event.wait())"),
        ("event.set()", "event.set()", "event.clear()", "event.is_set()"),
    ),
    Subject(
        ("condition.wait()", "condition.wait_for(lambda: steps() > {n})"),
        ("condition.notify()", "condition.notify(2)", "condition.notify_all()", "condition.locked()"),
        ("async with condition",),
    ),
    Subject(
        ("semaphore.acquire()", "aio.wait_for(semaphore.acquire(), ticks(2))"),
        ("semaphore.release()", "semaphore.locked()"),
        ("async with semaphore", "async with semaphore", "async with bounded"),
    ),
    Subject(("bounded.acquire()",), ("bounded.release()", "bounded.locked()"), ("async with bounded",)),
    Subject(
        ("barrier.wait()", "barrier.wait()", "barrier.reset()", "barrier.abort()"),
        ("(barrier.parties, barrier.n_waiting, barrier.broken)",),
        ("async with barrier",),
    ),
    a_queue("queue"),
    a_queue("stack"),
    a_queue("heap"),
    Subject(
        (
            "first",
            "second",
            "aio.shield(first)",
            "aio.wait_for(second, ticks(2))",
            "aio.wait_for(first, 0)",
            "aio.gather(first, second)",
            "aio.gather(first, second, first, return_exceptions=True)",
            "aio.gather()",
        ),
        (
            "first.set_result({n})",
            "second.set_exception(Broken({n}))",
            "first.cancel('first {n}')",
            "second.cancel()",
            "second.set_result({n})",
        ),
    ),
    Subject(
        ("{next}", "{last}", "aio.shield({next})", "aio.wait_for({next}, ticks(4))"),
        (
            "aio.current_task().uncancel()",
            "aio.current_task().cancel()",
            *(f"tasks[{name!r}].cancel('step {{n}}')" for name in TASKS),
            *(f"tasks[{name!r}].cancel()" for name in TASKS),
            "tasks['a'].add_done_callback(lambda t: log({n}, 'callback', outcome(t.result)))",
        ),
    ),
)

CATCHES = ("aio.CancelledError", "TimeoutError", "Broken", "Exception", "BaseException")


@dataclass(frozen=True)
class Step:
    """A statement: what it is, its words, and the blocks in it."""

    kind: str
    words: tuple[Any, ...] = ()
    blocks: tuple[tuple["Step", ...], ...] = ()


# The words of each kind of step that do not depend on a subject, and the numbers of blocks it may have.
DELAYS = (1, 2, 3, 0, None)
KINDS: dict[str, tuple[tuple[tuple[Any, ...], ...], tuple[int, ...]]] = {
    "sleep": (((0, 1, 2, 3, 4),), (0,)),
    "raise": ((), (0,)),
    "return": ((), (0,)),
    "try": ((CATCHES, (False, True)), (2,)),
    "finally": ((), (2,)),
    "timeout": ((DELAYS,), (1,)),
    "wait_for": ((DELAYS,), (1,)),
    "shield": ((), (1,)),
    "gather": (((False, True),), (1, 2, 3)),
    "group": ((), (1, 2, 3)),
    "wait": ((("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"), DELAYS), (1, 2, 3)),
    "as_completed": ((DELAYS,), (1, 2, 3)),
}
if sys.version_info < (3, 12):
    # 3.11's wait_for loses a cancellation that comes in the turn of the result. Ours does not: docs/compat.md.
    SUBJECTS = tuple(
        replace(subject, awaits=tuple(words for words in subject.awaits if not words.startswith("aio.wait_for(")))
        for subject in SUBJECTS
    )
    del KINDS["wait_for"]
PLAIN = ("sleep", "call", "await") * 6 + ("raise", "return")
NESTED = tuple(kind for kind, (_, blocks) in KINDS.items() if blocks != (0,))

STEPS_MAX = 30  # of a program
DEPTH_MAX = 3


@dataclass(frozen=True, repr=False)
class Program:
    """The bodies of its tasks."""

    tasks: tuple[tuple[Step, ...], ...]

    def __repr__(self) -> str:
        return "the program as above"


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program is about a few subjects only, so that its tasks meet."""
    subjects = draw(st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=3, unique=True))
    awaits = [words for subject in subjects for words in subject.awaits]
    calls = [words for subject in subjects for words in subject.calls]
    around = [words for subject in subjects for words in subject.around]
    left = STEPS_MAX

    def step(depth: int) -> Step:
        nonlocal left
        left -= 1
        if depth == DEPTH_MAX or left < 3 or draw(st.integers(0, 4)) < 3:
            kind = draw(st.sampled_from(PLAIN))
        else:
            kind = draw(st.sampled_from((*NESTED, "with", "with", "with") if around else NESTED))
        if kind == "with":
            return Step(kind, (draw(st.sampled_from(around)),), (block(depth + 1, 3),))
        if kind in ("await", "call"):
            return Step(kind, (draw(st.sampled_from(awaits if kind == "await" else calls)),))
        choices, counts = KINDS[kind]
        words = tuple(draw(st.sampled_from(choice)) for choice in choices)
        return Step(kind, words, tuple(block(depth + 1, 2) for _ in range(draw(st.sampled_from(counts)))))

    def block(depth: int, most: int) -> tuple[Step, ...]:
        steps = [step(depth)]
        while len(steps) < most and left > 0 and draw(st.integers(0, 2)):
            steps.append(step(depth))
        return tuple(steps)

    tasks = [block(0, 6)]
    while len(tasks) < len(TASKS) and left > 0 and draw(st.integers(0, 4)):
        tasks.append(block(0, 6))
    return Program(tuple(tasks))


def source(program: Program) -> str:
    """The program as a module with one coroutine function, `main`."""
    writer = Writer()
    for name, body in zip(TASKS, program.tasks):
        writer.task(name, body)
    text = "\n".join(writer.lines)
    used = [f"    {name} = {made}" for name, made in PRIMITIVES.items() if name in text]
    made = ", ".join(f"{name}={name}" for name in PRIMITIVES if name in text)
    names = TASKS[: len(program.tasks)]
    starts = [f"    tasks[{name!r}] = aio.create_task({name}(), name={name!r})" for name in names]
    ends = [f"    keep({made})"] if made else []
    return "\n".join(
        ["async def main():", "    loop = aio.get_running_loop()", *used, *ends, "", *writer.lines, *starts, ""]
    )


class Writer:
    """Writes steps as lines, and numbers them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.indent = 1
        self.number = 0
        self.next_task = self.last_task = ""

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def next(self) -> int:
        self.number += 1
        return self.number

    def task(self, name: str, body: tuple[Step, ...]) -> None:
        others = [f"tasks[{other!r}]" for other in TASKS if other > name] or ["second"]
        self.next_task, self.last_task = others[0], others[-1]
        self.line(f"async def {name}():")
        self.body(body)
        self.line(f"    return {name!r}")
        self.lines.append("")

    def body(self, body: tuple[Step, ...]) -> None:
        self.indent += 1
        for step in body:
            self.step(step)
        self.indent -= 1

    def fill(self, n: int, text: str) -> str:
        """Tasks wait only for tasks after them: a circle cannot be cancelled, in asyncio either."""
        return text.format(n=n, next=self.next_task, last=self.last_task)

    def inner(self, blocks: tuple[tuple[Step, ...], ...]) -> Iterator[str]:
        """The blocks as coroutine functions of their own; what calls each of them."""
        for block in blocks:
            name = f"part{self.next()}"
            self.line(f"async def {name}():")
            self.body(block)
            self.line(f"    return {name!r}")
            yield f"{name}()"

    def step(self, step: Step) -> None:
        getattr(self, f"write_{step.kind}")(self.next(), step.words, step.blocks)

    def write_sleep(self, n: int, words: tuple[Any, ...], _: Any) -> None:
        self.line(f"log({n}, await aio.sleep({f'ticks({words[0]})' if words[0] else 0}, 'slept'))")

    def write_call(self, n: int, words: tuple[Any, ...], _: Any) -> None:
        self.locked(words[0], f"log({n}, outcome(lambda: {self.fill(n, words[0])}))")

    def write_await(self, n: int, words: tuple[Any, ...], _: Any) -> None:
        self.locked(words[0], f"log({n}, await {self.fill(n, words[0])})")

    def locked(self, words: str, line: str) -> None:
        """Conditions are used under their lock, or nothing ever happens."""
        if words.startswith("condition."):
            self.line("async with condition:")
            line = "    " + line
        self.line(line)

    def write_raise(self, n: int, *_: Any) -> None:
        self.line(f"if log({n}, 'raises'): raise Broken({n})")

    def write_return(self, n: int, *_: Any) -> None:
        self.line(f"if log({n}, 'returns'): return {n}")

    def write_with(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        self.line(f"{words[0]}:")
        self.line(f"    log({n}, 'in')")
        self.body(blocks[0])
        self.line(f"log({n}, 'out')")

    def write_try(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        self.line("try:")
        self.body(blocks[0])
        self.line(f"except {words[0]} as e:")
        self.line(f"    log({n}, e)")
        self.body(blocks[1])
        if words[1]:
            self.line("    raise")

    def write_finally(self, n: int, _: Any, blocks: Any) -> None:
        self.line("try:")
        self.body(blocks[0])
        self.line("finally:")
        self.line(f"    log({n}, 'finally')")
        self.body(blocks[1])

    def write_timeout(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        self.line(f"async with aio.timeout({delay(words[0])}) as scope{n}:")
        self.body(blocks[0])
        self.line(f"log({n}, scope{n}.expired())")

    def write_wait_for(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        (part,) = self.inner(blocks)
        self.line(f"log({n}, await aio.wait_for({part}, {delay(words[0])}))")

    def write_shield(self, n: int, _: Any, blocks: Any) -> None:
        (part,) = self.inner(blocks)
        self.line(f"log({n}, await aio.shield({part}))")

    def write_gather(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        parts = ", ".join(self.inner(blocks))
        self.line(f"log({n}, await aio.gather({parts}, return_exceptions={words[0]}))")

    def write_group(self, n: int, _: Any, blocks: Any) -> None:
        first, *others = blocks
        parts = list(self.inner(tuple(others)))
        self.line(f"async with group() as scope{n}:")
        for part in parts:
            self.line(f"    scope{n}.create_task({part})")
        self.body(first)
        self.line(f"log({n}, 'out')")

    def write_wait(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        parts = list(self.inner(blocks))
        self.line(f"many = [{', '.join(f'aio.create_task({part})' for part in parts)}]")
        self.line(f"done, _ = await aio.wait(many, timeout={delay(words[1])}, return_when=aio.{words[0]})")
        self.line(f"log({n}, [(t in done, t) for t in many])")

    def write_as_completed(self, n: int, words: tuple[Any, ...], blocks: Any) -> None:
        parts = list(self.inner(blocks))
        self.line(f"many = [{', '.join(f'aio.create_task({part})' for part in parts)}]")
        self.line(f"for one in aio.as_completed(many, timeout={delay(words[0])}):")
        self.line(f"    log({n}, await one)")


def delay(ticks: int | None) -> str:
    return f"ticks({ticks})" if ticks else str(ticks)
