"""Runs scripts (scripts.py) in a process of its own and answers what happened: `python actor.py WORLD SECONDS
[hostile]`.

A script comes on standard input, a JSON string per line; its trace goes to standard output, a JSON list per line. A
crash ends the process with faulthandler's report on standard error, a script that takes longer than SECONDS does too.
"""

import collections
import contextlib
import contextvars
import copy
import faulthandler
import functools
import gc
import json
import logging
import os
import pickle
import re
import sys
import types
import warnings
import weakref
from typing import Any

RUNS_MAX = 4  # of each block
DEPTH_MAX = 3  # of blocks that are run by what other blocks do
TURNS_AT_THE_END = 6

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+|(?<=\.\.\.)[0-9a-fx]+")
_LOOP = re.compile(r"<(?:[\w.]*\.)?(?:_UnixSelectorEventLoop|EventLoop) running=")
# Native functions count their arguments in the words of C functions (docs/compat.md).
_COUNTED = re.compile(
    r"(takes|missing|got an unexpected|got multiple values|got some positional|missing a required) .*"
    r"|.*\b(keyword|positional) argument.*"
)
_WORDS = {
    "Task-": re.compile(r"Task-\d+"),
    "S seconds": re.compile(r"\d+\.\d{3} seconds"),
    "when=T": re.compile(r"when=[\d.]+"),
    # One that ran has let go of its callback (docs/compat.md).
    "<Handle>": re.compile(r"<Handle (?!cancelled)(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>"),
}


class Broken(Exception):
    """What scripts raise."""


class Picky(Exception):
    """Cannot be made from nothing."""

    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(one, two)


def normal(text: str) -> str:
    """Without what differs between two runs."""
    text = _LOOP.sub("<LOOP running=", _ADDRESS.sub("0x..", text))
    for word, pattern in _WORDS.items():
        text = pattern.sub(word, text)
    text = (
        text.replace("_UnixSelectorEventLoop", "EventLoop")
        .replace("BaseEventLoop", "EventLoop")
        .replace("_asyncio.", "")
    )
    return text.replace("asynchrotron._core.", "").replace(os.path.dirname(__file__), "")


def error(exc: BaseException) -> str:
    try:
        text = str(exc)
    except BaseException as worse:
        text = f"<no text: {type(worse).__name__}>"
    if type(exc) is TypeError and "argument" in text and _COUNTED.search(text):
        return "TypeError of arguments"
    return f"{type(exc).__name__}({normal(text)})"


class Run:
    """One script: its names, and what they note."""

    def __init__(self, aio: types.ModuleType, new_event_loop: Any, text: str, hostile: bool) -> None:
        self.aio, self.trace, self.hostile = aio, [], hostile
        self.depth, self.runs = 0, collections.Counter()
        self.reports: list[str] = []
        self.loop = new_event_loop()
        self.loop.set_exception_handler(self.told)
        self.turn_of = type(self.loop).run_forever
        self.names = self.make_names(text)

    def told(self, _: Any, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        self.reports.append(f"{normal(str(context.get('message')))}: {exception and error(exception)}")

    # ---- what statements are made of ---------------------------------------------------------------------------

    def act(self, number: int, call: Any, name: str | None = None) -> None:
        try:
            value = call()
        except BaseException as exc:
            self.trace.append(f"{number}: raised {error(exc)}")
            return
        self.trace.append(f"{number}: {self.describe(value)}")
        if name is not None:
            self.names[name] = value

    def react(self, block: int) -> Any:
        """Run a block, from wherever this is called."""
        body = self.names.get(f"body{block}")
        if body is None or self.depth >= DEPTH_MAX or self.runs[block] >= RUNS_MAX:
            return None
        self.runs[block] += 1
        self.depth += 1
        self.trace.append(f"block {block} begins")
        try:
            return body()
        finally:
            self.depth -= 1
            self.trace.append(f"block {block} ends")

    def describe(self, value: Any) -> str:
        kind = type(value)
        if value is None or kind in (bool, int, float, str, bytes):
            return normal(repr(value))[:200]
        if kind in (list, tuple) and len(value) < 5:
            return f"{kind.__name__} of {[self.describe(each) for each in value]}"
        if isinstance(value, BaseException):
            return error(value)
        # Since 3.14 stock has a class for handles of other threads, which is not public.
        return normal(kind.__name__.replace("_ThreadSafeHandle", "Handle"))

    def turn(self, count: int = 1) -> str:
        loop, ends = self.loop, []
        if loop.is_running():
            return "running"
        for _ in range(count):
            loop.call_soon(loop.stop)
            try:
                self.turn_of(loop)
            except BaseException as exc:
                ends.append(error(exc))
        return f"turned {ends}"

    def until(self, awaitable: Any) -> Any:
        """run_until_complete(), of which each turn is the last."""
        waits = True

        def stop() -> None:
            if waits:
                self.loop.call_soon(stop)
                self.loop.stop()

        if not self.loop.is_running():
            stop()
        try:
            return self.loop.run_until_complete(awaitable)
        finally:
            waits = False

    def watch(self, thing: Any, block: int) -> None:
        self.names["watched"].append(weakref.ref(thing, lambda _: self.react(block)))

    def drop(self, name: str) -> None:
        self.names[name] = None

    def on_collection(self, block: int) -> None:
        gc.callbacks.append(lambda phase, info: phase == "stop" and self.react(block))

    def collect(self) -> None:
        gc.collect()

    def collected_within(self, block: int, call: Any) -> Any:
        """The call, with a collection at the first chance, that runs a block."""
        before = gc.get_threshold()
        garbage = self.names["Evil"](block)
        garbage.me = garbage
        del garbage
        gc.set_threshold(1)
        gc.enable()
        try:
            return call()
        finally:
            gc.disable()
            gc.set_threshold(*before)

    def near_the_limit(self, call: Any) -> Any:
        """The call where little of the stack is left."""

        def down(left: int) -> Any:
            return call() if left == 0 else down(left - 1)

        depth, frame = 0, sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        return down(max(sys.getrecursionlimit() - depth - 12, 0))

    # ---- the names of a script -----------------------------------------------------------------------------------

    def make_names(self, text: str) -> dict[str, Any]:
        aio, loop, run = self.aio, self.loop, self
        react = self.react

        def evil_class(base: type, *made_of: Any) -> type:
            """A class whose special methods, and end, run the block that an instance was made for."""

            class Evil(base):  # type: ignore[misc, valid-type]
                def __new__(cls, block: int = 0, *_: Any) -> Any:
                    return base.__new__(cls, *made_of)

                def __init__(self, block: int = 0, *_: Any) -> None:
                    self.block = block

                def __eq__(self, other: object) -> Any:
                    return react(self.block)

                def __hash__(self) -> Any:
                    react(self.block)
                    return 7

                def __repr__(self) -> str:
                    react(self.block)
                    return "<evil>"

                def __del__(self) -> None:
                    react(self.block)

                def __call__(self, *_: Any) -> Any:
                    return react(self.block)

                def __getattr__(self, name: str) -> Any:
                    if name.startswith("__"):
                        raise AttributeError(name)
                    return react(self.__dict__.get("block", 0))

                def answer(self, *_: Any) -> Any:
                    return react(self.block)

                __bool__ = __lt__ = __gt__ = __le__ = __ge__ = answer

            for name in ("__index__", "__float__", "__len__", "__str__", "__iter__", "__add__", "__radd__", "__sub__"):
                if base is object:
                    setattr(Evil, name, Evil.answer)
            if not run.hostile:
                # An argument goes when its caller's frame goes, and native functions have none.
                del Evil.__del__
            Evil.__name__ = Evil.__qualname__ = f"Evil{base.__name__}"
            return Evil

        class Everything:
            def __eq__(self, other: object) -> bool:
                return True

        class Awaitable:
            def __init__(self, block: int) -> None:
                self.block = block

            def __await__(self) -> Any:
                yield
                react(self.block)
                yield run.names["other"]
                return react(self.block)

        class Subclass(aio.Future):  # type: ignore[name-defined, misc]
            def set_result(self, *args: Any) -> Any:
                react(1)
                return super().set_result(*args)

            def cancel(self, *args: Any, **kwargs: Any) -> Any:
                react(1)
                return super().cancel(*args, **kwargs)

            def add_done_callback(self, *args: Any, **kwargs: Any) -> Any:
                react(2)
                return super().add_done_callback(*args, **kwargs)

            def done(self) -> Any:
                react(2)
                return super().done()

            if run.hostile:

                def __del__(self) -> None:
                    react(3)

        async def reacting(block: int) -> Any:
            try:
                react(block)
                await aio.sleep(0)
                return react(block)
            finally:
                react(block)

        async def done() -> str:
            return "done"

        async def failed() -> None:
            raise Broken("failed")

        async def stuck() -> None:
            await loop.create_future()

        async def swallowing() -> None:
            for _ in range(3):
                try:
                    await loop.create_future()
                except (aio.CancelledError, Broken):
                    react(1)

        async def stopping(code: int) -> None:
            raise SystemExit(code)

        def raising(*_: Any) -> None:
            raise Broken("raising")

        def exiting(*_: Any) -> None:
            raise KeyboardInterrupt("exiting")

        names: dict[str, Any] = {
            "aio": aio,
            "loop": loop,
            "act": self.act,
            "Broken": Broken,
            "Picky": Picky,
            "Evil": evil_class(object),
            "EvilStr": evil_class(str, "evil"),
            "EvilInt": evil_class(int, 2),
            "EvilList": evil_class(list),
            "EvilError": evil_class(Exception),
            "EvilBase": evil_class(BaseException),
            "Awaitable": Awaitable,
            "everything": Everything(),
            # A callback that nobody else holds.
            "fresh": lambda: lambda *_: None,
            "Subclass": Subclass,
            "note": lambda *args: self.trace.append(f"note of {len(args)}"),
            "context": contextvars.copy_context(),
            "watched": [],
            "weakref": weakref,
            "copy": copy,
            "pickle": pickle,
            "gc": gc,
            "partial": functools.partial,
            "parent": lambda thing: type(thing).__mro__[1],
            "bare": lambda kind: kind.__new__(kind),
            "traverse": lambda thing: len(gc.get_referents(*gc.get_referents(thing))),
        }
        for each in (reacting, done, failed, stuck, swallowing, stopping, raising, exiting):
            names[each.__name__] = each
        for each in (
            "turn",
            "until",
            "watch",
            "drop",
            "on_collection",
            "collect",
            "collected_within",
            "near_the_limit",
        ):
            names[each] = getattr(self, each)
        names["turns"] = self.turn
        for block in range(1, 4):
            names[f"block{block}"] = functools.partial(self.called, block)
        exec(compile(text, "script", "exec"), names)
        return names

    def called(self, block: int, *_: Any) -> Any:
        return self.react(block)

    async def furnish(self) -> None:
        """One of everything; most primitives want a running loop."""
        aio, names, loop = self.aio, self.names, self.loop
        names["future"], names["other"] = loop.create_future(), aio.Future(loop=loop)
        names["subclass"] = names["Subclass"](loop=loop)
        names["lock"], names["event"], names["condition"] = aio.Lock(), aio.Event(), aio.Condition()
        names["semaphore"], names["bounded"], names["barrier"] = (
            aio.Semaphore(1),
            aio.BoundedSemaphore(2),
            aio.Barrier(2),
        )
        names["queue"], names["stack"], names["heap"] = aio.Queue(1), aio.LifoQueue(), aio.PriorityQueue(2)
        names["reader"] = aio.StreamReader(limit=60, loop=loop)
        names["handle"], names["timer"] = loop.call_soon(names["note"]), loop.call_later(1e6, names["note"])
        names["group"], names["timeout"] = aio.TaskGroup(), aio.timeout(None)
        names["coro"], names["second"] = names["reacting"](2), names["lock"].acquire()
        names["task"] = loop.create_task(names["reacting"](1), name="first")
        names["idle"] = loop.create_task(names["stuck"](), name="idle")
        names["gathered"] = aio.gather(names["other"], names["stuck"]())
        names["evil"] = names["Evil"](3)

    def play(self) -> list[str]:
        with contextlib.suppress(TypeError):
            # Functions of the script run here, too, and may have put the loop into no state to run.
            self.loop.run_until_complete(self.furnish())
        self.act(0, lambda: self.react(0))
        self.turn(3)
        self.trace.append("the end")
        self.finish()
        # What goes away unasked depends on who is in a cycle, and asyncio loses tasks (docs/compat.md).
        told = [each for each in self.reports if "never retrieved" not in each and "was destroyed" not in each]
        return [*self.trace, *sorted(told)]

    def finish(self) -> None:
        """Everything ends: what is left is cancelled, the loop closes, the names go, one by one."""
        aio, loop, names = self.aio, self.loop, self.names
        gc.callbacks.clear()
        for _ in range(TURNS_AT_THE_END):
            with contextlib.suppress(Exception):
                for task in aio.all_tasks(loop):
                    with contextlib.suppress(Exception):
                        task.cancel()
            self.turn(2)
        gc.collect()
        # From here on nobody notes anything that depends on the order in which things go.
        noted, self.trace = self.trace, []
        reports, self.reports = self.reports, []
        with contextlib.suppress(BaseException):
            loop.close()
        for name in list(names):
            if not name.startswith(("body", "Evil")):
                with contextlib.suppress(BaseException):
                    names[name] = None
        gc.collect()
        self.runs.update(dict.fromkeys(range(10), RUNS_MAX))
        names.clear()
        gc.collect()
        self.trace, self.reports = noted, reports


def main(world: str, seconds: float, hostile: bool) -> None:
    if world == "stock":
        import asyncio as aio
        from asyncio import new_event_loop
    elif world == "loop":
        import asyncio as aio

        from asynchrotron import new_event_loop
    else:
        import asynchrotron as aio
        from asynchrotron import new_event_loop
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    gc.disable()
    gc.collect()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        faulthandler.dump_traceback_later(seconds, exit=True)
        trace = Run(aio, new_event_loop, json.loads(line), hostile).play()
        faulthandler.cancel_dump_traceback_later()
        gc.freeze()  # what lives on need not be looked at again
        print(json.dumps(trace), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), "hostile" in sys.argv[3:])
