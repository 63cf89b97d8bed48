"""The worlds a test body runs in, and the rule that every world leaves the same trace.

A body takes a `World` first and uses only what that world offers: its namespace `aio` (asyncio, or asynchrotron
imported in asyncio's place) and its event loops. `@parity` runs the body on the running interpreter's stock asyncio
and then in the world under test, and compares what both returned. In stock's own world this checks that the body is
deterministic. Nothing here may call asynchrotron.install(): the names of stock asyncio stay stock in this process.
"""

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

try:
    import asynchrotron
    from asynchrotron import new_event_loop as our_new_event_loop
except Exception as error:  # whatever stops the import; ASYNCHROTRON_REQUIRED=1 makes it fatal
    IMPORT_ERROR: Exception | None = error
    asynchrotron = None
else:
    IMPORT_ERROR = None

HELPERS = (pytest.MonkeyPatch, pytest.WarningsRecorder)
STOCK_NAMES = (asyncio.Future, asyncio.Task, asyncio.Handle, asyncio.TimerHandle)


@dataclass(frozen=True)
class World:
    """One implementation: the namespace bodies use, the loops they run on, and how to start a program in it."""

    name: str
    aio: ModuleType
    new_event_loop: Callable[[], asyncio.AbstractEventLoop]
    preamble: str  # one line that gives a program `aio` and `new_event_loop`

    @property
    def stock(self) -> bool:
        return self.name == "stock"

    @property
    def ours(self) -> bool:
        return self.name in ("loop", "native")

    @contextlib.contextmanager
    def loop(self, *, debug: bool = False, errors: list[Any] | None = None) -> Iterator[asyncio.AbstractEventLoop]:
        """A fresh loop, ended properly. What reaches its exception handler goes to `errors`, or fails the test."""
        loop = self.new_event_loop()
        loop.set_debug(debug)
        unexpected: list[Any] = []
        sink = unexpected if errors is None else errors
        loop.set_exception_handler(lambda _, context: sink.append(context_summary(context)))
        try:
            yield loop
        finally:
            if not loop.is_closed():
                finish(loop)
        assert not unexpected

    def run(self, main: Callable[..., Any], *args: Any, debug: bool = False, errors: list[Any] | None = None) -> Any:
        """Run the coroutine function `main` to its end on a fresh loop."""
        with self.loop(debug=debug, errors=errors) as loop:
            return loop.run_until_complete(main(*args))

    def program(self, source: str, *args: str, python: tuple[str, ...] = (), timeout: float = 30) -> "Outcome":
        """Run `source` as a program of its own; `aio` and `new_event_loop` are there already, on its first line."""
        return run_python([*python, "-c", self.preamble + "\n" + source, *args], timeout=timeout)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """What a finished program left."""

    status: int
    out: str
    err: str


def run_python(
    args: list[str],
    *,
    timeout: float = 30,
    cwd: Path | None = None,
    stdin: str = "",
    env: dict[str, str] | None = None,
) -> Outcome:
    """Run this interpreter with `args`; the environment is ours without what would change asyncio's behaviour."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")) if p)
    environment |= env or {}
    done = subprocess.run(
        [sys.executable, *args], input=stdin, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=environment
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


PACKAGE_ROOT = str(Path(asynchrotron.__file__).parent.parent) if IMPORT_ERROR is None else ""

STOCK = World("stock", asyncio, asyncio.new_event_loop, "import asyncio as aio; from asyncio import new_event_loop")
WORLDS = {"stock": STOCK}
if IMPORT_ERROR is None:
    WORLDS["loop"] = World(
        "loop", asyncio, our_new_event_loop, "import asyncio as aio; from asynchrotron import new_event_loop"
    )
    WORLDS["native"] = World(
        "native",
        asynchrotron,
        our_new_event_loop,
        "import asynchrotron as aio; from asynchrotron import new_event_loop",
    )
try:
    import uvloop
except ImportError:
    pass
else:  # a control only: TEST_WORLDS=stock,uvloop shows which tests a loop with known differences fails
    WORLDS["uvloop"] = World(
        "uvloop", asyncio, uvloop.new_event_loop, "import asyncio as aio; from uvloop import new_event_loop"
    )

CHOSEN = os.environ.get("TEST_WORLDS", "stock,loop,native").split(",")


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """End a loop the way asyncio.Runner does, but without patience for tasks that do not want to end."""
    leftovers = asyncio.all_tasks(loop)
    for task in leftovers:
        task.cancel()
    if leftovers:
        loop.run_until_complete(asyncio.wait(leftovers, timeout=2))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def parity(body: Callable[..., Any]) -> Callable[..., None]:
    """Turn `body(w, ...)`, which returns a trace, into a test that compares the world's trace with stock's."""
    first, *rest = inspect.signature(body).parameters.values()
    known: dict[str, Any] = {}  # stock's traces: the worlds of one test share them

    @functools.wraps(body)
    def test(world: World, **arguments: Any) -> None:
        assert (asyncio.Future, asyncio.Task, asyncio.Handle, asyncio.TimerHandle) == STOCK_NAMES
        # Pytest's own helpers are other ones each time, and nothing that stock's trace depends on.
        key = repr([(name, argument) for name, argument in arguments.items() if not isinstance(argument, HELPERS)])
        if key not in known:
            known[key] = body(STOCK, **arguments)
        expected = known[key]
        assert expected is not None and expected != [], "a body returns what it saw"
        changes = list(differences(expected, body(world, **arguments)))
        if changes:
            pytest.fail("\n".join([f"stock != {world}:", *changes[:8], f"... {len(changes)} in all"]))

    del test.__wrapped__  # type: ignore[attr-defined]
    test.__signature__ = inspect.Signature([first.replace(name="world", kind=first.POSITIONAL_OR_KEYWORD), *rest])  # type: ignore[attr-defined]
    return test


def differences(expected: Any, got: Any, where: str = "trace") -> Iterator[str]:
    """The places where two traces differ, so that a failure can be read."""
    if type(expected) is type(got) and isinstance(expected, (list, tuple)):
        for index, pair in enumerate(zip(expected, got)):
            yield from differences(*pair, f"{where}[{index}]")
        for name, longer, start in (("missing", expected, len(got)), ("extra", got, len(expected))):
            for index in range(start, len(longer)):
                yield f"{where}[{index}]: {name}: {longer[index]!r}"
    elif type(expected) is type(got) and isinstance(expected, dict):
        for key in expected | got:
            yield from differences(expected.get(key, "(none)"), got.get(key, "(none)"), f"{where}[{key!r}]")
    elif expected != got:
        yield f"{where}: {expected!r} != {got!r}"


# --- words for traces ---------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_LOOP = re.compile(r"<(?:[\w.]*\.)?(?:_UnixSelectorEventLoop|EventLoop|Loop) running=")
_SECONDS = re.compile(r"\d+\.\d{3} seconds")
_TASK_NUMBER = re.compile(r"\bTask-\d+\b")
_TRANSPORT = re.compile(r"<(?:_SelectorSoc|StreamTransp)[^>]*>+")
_KINDS = {
    "_SelectorSocketTransport": "StreamTransport",
    "_SelectorDatagramTransport": "DatagramTransport",
    "_UnixReadPipeTransport": "ReadPipeTransport",
    "_UnixWritePipeTransport": "WritePipeTransport",
}
_DESCRIPTOR = re.compile(r"\bfd=\d+")
_HERE = re.compile(r"(?:/[^\s:'\"<>]+/)(?=[\w.-]+\.py)")


def normal(text: object) -> str:
    """The text without what differs between two runs: addresses, folders, default task numbers, the loop's class."""
    words = _LOOP.sub("<LOOP running=", _ADDRESS.sub("0x..", str(text)))
    words = _DESCRIPTOR.sub("fd=N", words)
    words = _TRANSPORT.sub("<TRANSPORT>", words)
    for theirs, ours in _KINDS.items():
        words = words.replace(theirs, ours)
    return _HERE.sub("", _TASK_NUMBER.sub("Task-N", _SECONDS.sub("S seconds", words)))


def error(exc: BaseException | None) -> tuple[str, str] | None:
    """An exception as a trace shows it: type and text."""
    return None if exc is None else (type(exc).__name__, normal(exc))


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call answers: its value, or the type and text of what it raised."""
    try:
        return call(*args, **kwargs)
    except (Exception, asyncio.CancelledError) as exc:
        return error(exc)


def raised(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, str]:
    """Type and text of what the call must raise."""
    try:
        value = call(*args, **kwargs)
    except BaseException as exc:
        return type(exc).__name__, normal(exc)
    if inspect.iscoroutine(value):
        value.close()
    raise AssertionError(f"{call!r} raised nothing and returned {value!r}")


async def araised(awaitable: Any) -> tuple[str, str]:
    """Type and text of what awaiting must raise."""
    try:
        value = await awaitable
    except BaseException as exc:
        return type(exc).__name__, normal(exc)
    raise AssertionError(f"nothing was raised; the result is {value!r}")


def context_summary(context: dict[str, Any]) -> tuple[Any, ...]:
    """What an exception handler was told: message, exception, and which keys came along."""
    return (normal(context.get("message")), error(context.get("exception")), tuple(sorted(context)))


class Generations:
    """Numbers the turns of a loop: a callback that queues itself again parts one round of call_soon from the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rounds: int = 30) -> None:
        self.loop, self.rounds, self.now = loop, rounds, 0
        self.log: list[tuple[int, Any]] = []
        loop.call_soon(self._next)

    def _next(self) -> None:
        self.now += 1
        if self.now < self.rounds:
            self.loop.call_soon(self._next)

    def __call__(self, event: Any) -> None:
        self.log.append((self.now, event))


def drain(loop: asyncio.AbstractEventLoop, turns: int = 40) -> None:
    """Run the loop until `turns` rounds of call_soon have passed."""
    left = turns

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


async def until(condition: Callable[[], Any], *, seconds: float = 10, what: str = "") -> None:
    """Wait until the condition holds; not a sleep of a guessed length."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {seconds} s {what}"
        await asyncio.sleep(0.001)


def in_thread(call: Callable[[], Any], name: str = "helper") -> Any:
    """Run `call` in another thread to its end and give its outcome."""
    box: list[Any] = []
    thread = threading.Thread(target=lambda: box.append(outcome(call)), name=name)
    thread.start()
    thread.join(20)
    assert box, "the thread did not finish"
    return box[0]


@contextlib.contextmanager
def asyncio_log(level: int = logging.WARNING) -> Iterator[list[tuple[str, str]]]:
    """What goes to asyncio's logger meanwhile, as (level, normalised text), without exc_info."""
    records: list[tuple[str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append((record.levelname, normal(record.getMessage())))

    logger, keep = logging.getLogger("asyncio"), Keep(level)
    before, propagate = logger.level, logger.propagate
    logger.addHandler(keep)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield records
    finally:
        logger.removeHandler(keep)
        logger.setLevel(before)
        logger.propagate = propagate


def since(*version: int) -> pytest.MarkDecorator:
    """Skip below this Python."""
    return pytest.mark.skipif(sys.version_info < version, reason=f"new in Python {version[0]}.{version[1]}")
