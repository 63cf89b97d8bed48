"""What reaches exception handlers, and the default handler's text, compared word for word."""

import asyncio
import contextvars
import gc
import logging
import re
import socket
import sys
import traceback

import pytest
from worlds import asyncio_log, drain, normal, parity, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


class Full(logging.Handler):
    """Keeps message and traceback of each record, without the loop's own frames."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        frames = []
        if record.exc_info:
            kind, exc, tb = record.exc_info
            frames = [
                (frame.name, frame.line)
                for frame in traceback.extract_tb(tb)
                if "/asyncio/" not in frame.filename and "/asynchrotron/" not in frame.filename
            ]
            frames.append((kind.__name__, str(exc)))
        message = re.sub(r"when=[\d.]+", "when=W", normal(record.getMessage()))
        self.records.append((record.levelname, message, frames))


def logged(w, scene, *, debug=False):
    """Run `scene(loop)` with the default handler and give all that was logged."""
    keep, logger = Full(), logging.getLogger("asyncio")
    logger.addHandler(keep)
    propagate, logger.propagate = logger.propagate, False
    try:
        with w.loop(debug=debug) as loop:
            loop.set_exception_handler(None)
            scene(loop)
            drain(loop, 5)
            gc.collect()
    finally:
        logger.removeHandler(keep)
        logger.propagate = propagate
    return keep.records


def boom(*args):
    raise ZeroDivisionError("boom")


async def aboom():
    boom()


@parity
def test_a_callback_fails(w):
    def scene(loop):
        loop.call_soon(boom)
        loop.call_soon(boom, 1, "two")
        loop.call_soon(lambda: boom())
        loop.call_later(-1, boom, 3)

    records = logged(w, scene)
    assert len(records) == 4
    assert records[0][1].startswith("Exception in callback boom() at test_exception_handler.py:")
    return records


def handled():
    """The exception that a handler's log.exception() and traceback.print_exc() would show."""
    kind, error, tb = sys.exc_info()
    frames = [frame.name for frame in traceback.extract_tb(tb) if frame.filename == __file__]
    return kind, str(error), frames


@parity
def test_what_is_being_handled_in_a_handler(w):
    """sys.exc_info() is the callback's exception, and a handler that fails is told to have failed during it."""
    seen = []

    def scene(loop):
        loop.set_exception_handler(lambda _, context: seen.append(handled()))
        loop.call_soon(boom)
        loop.call_later(0, boom)
        loop.create_future().add_done_callback(boom)
        left, right = socket.socketpair()
        with left, right:
            right.send(b"1")
            loop.add_reader(left, lambda: (loop.remove_reader(left), boom()))
            drain(loop, 5)
        seen.append(handled())

    logged(w, scene)
    return seen


@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received", "connection_lost"])
@parity
def test_what_is_being_handled_when_a_protocol_failed(w, callback):
    seen = []
    protocol_class = type("Failing", (asyncio.Protocol,), {callback: lambda self, *args: boom()})

    def scene(loop):
        loop.set_exception_handler(lambda _, context: seen.append(handled()))
        left, right = socket.socketpair()
        with right:
            loop.run_until_complete(loop.create_connection(protocol_class, sock=left))
            right.send(b"1")
            loop.run_until_complete(w.aio.sleep(0.01))
        loop.run_until_complete(w.aio.sleep(0.01))

    logged(w, scene)
    assert seen
    return seen


@parity
def test_what_a_handler_failed_during(w):
    seen = []

    def handler(loop, context):
        raise KeyError("in the handler")

    def scene(loop):
        loop.set_exception_handler(handler)
        loop.call_soon(boom)
        drain(loop, 2)

    class Chain(logging.Handler):
        def emit(self, record):
            if record.exc_info:
                error = record.exc_info[1]
                while error is not None:
                    seen.append((type(error).__name__, str(error)))
                    error = error.__context__

    keep = Chain()
    logging.getLogger("asyncio").addHandler(keep)
    try:
        logged(w, scene)
    finally:
        logging.getLogger("asyncio").removeHandler(keep)
    return seen


@parity
def test_a_future_is_forgotten(w):
    def scene(loop):
        fut = loop.create_future()
        fut.set_exception(ZeroDivisionError("forgotten"))

    records = logged(w, scene)
    assert records[0][1].startswith("Future exception was never retrieved\nfuture: <Future finished exception=")
    return records


@parity
def test_a_task_is_forgotten(w):
    def scene(loop):
        loop.create_task(aboom(), name="forgotten")

    records = logged(w, scene)
    assert records[0][1].startswith("Task exception was never retrieved\nfuture: <Task finished name='forgotten'")
    return records


@parity
def test_chained_exceptions_keep_their_chain(w):
    contexts = []
    with w.loop() as loop:
        loop.set_exception_handler(lambda _, c: contexts.append(c["exception"]))

        def fail():
            try:
                boom()
            except ZeroDivisionError as exc:
                raise KeyError("outer") from exc

        loop.call_soon(fail)
        drain(loop, 3)
        exc = contexts.pop()
        names = [f.name for f in traceback.extract_tb(exc.__traceback__) if "test_exception_handler" in f.filename]
        inner = [f.name for f in traceback.extract_tb(exc.__cause__.__traceback__)]
    return names[-1:], inner, repr(exc), repr(exc.__cause__)


@parity
def test_in_debug_mode_the_place_of_creation_is_told(w):
    def scene(loop):
        loop.call_soon(boom)
        fut = w.aio.Future(loop=loop)
        fut.set_exception(ZeroDivisionError("forgotten"))

    texts = [message for _, message, _ in logged(w, scene, debug=True)]
    assert len(texts) == 2
    trace = []
    for text in texts:
        assert "created at (most recent call last):" in text
        lines = [line.strip() for line in text.splitlines()]
        trace.append(
            (lines[0].split(" created at")[0], [line for line in lines if line.startswith(("loop.", "fut ="))])
        )
    return trace


@parity
@pytest.mark.parametrize(
    "context",
    [
        {"message": "only words"},
        {},
        {"message": "with values", "zebra": 1, "apple": [1], "key": None},
        {"message": "with an exception", "exception": ZeroDivisionError("given")},
        {"message": "with no exception", "exception": None},
        {"message": None},
    ],
    ids=lambda context: str(context.get("message", "empty")),
)
def test_default_exception_handler(w, context):
    def scene(loop):
        loop.default_exception_handler(dict(context))
        loop.call_exception_handler(dict(context))

    records = logged(w, scene)
    assert len(records) == 2
    return records


@parity
def test_a_source_traceback_in_the_context(w):
    def scene(loop):
        stack = traceback.StackSummary.from_list([("file.py", 1, "name", "source line")])
        loop.call_exception_handler({"message": "m", "source_traceback": stack, "handle_traceback": stack})

    records = logged(w, scene)
    assert "Object created at (most recent call last):" in records[0][1]
    assert "Handle created at (most recent call last):" in records[0][1]
    return records


@parity
def test_a_handler_that_fails(w):
    def scene(loop):
        def handler(_, context):
            raise KeyError("from the handler")

        loop.set_exception_handler(handler)
        loop.call_soon(boom)
        drain(loop, 3)
        loop.set_exception_handler(None)

    records = logged(w, scene)
    assert records[0][1].startswith("Unhandled error in exception handler")
    return [
        (level, re.sub(r"<Handle.*?>(?=[,}])", "HANDLE", message), frames[-1:]) for level, message, frames in records
    ]


@parity
def test_an_overridden_default_handler_that_fails(w):
    probe = w.new_event_loop()
    probe.close()

    class Mine(type(probe)):
        def default_exception_handler(self, context):
            raise KeyError("from the default handler")

    loop = Mine()
    try:
        with asyncio_log() as log:
            loop.call_soon(boom)
            drain(loop, 3)
    finally:
        loop.close()
    assert log == [("ERROR", "Exception in default exception handler")]
    return log


@parity
def test_an_overridden_call_exception_handler(w):
    """Subclasses that override it (sentry, uvicorn's tests) see what callbacks, tasks and futures report."""
    probe = w.new_event_loop()
    probe.close()
    seen = []

    class Mine(type(probe)):
        def call_exception_handler(self, context):
            seen.append((normal(context["message"]).split("(")[0], repr(context["exception"]), sorted(context)))

    loop = Mine()
    try:
        loop.call_soon(boom)
        loop.create_future().set_exception(KeyError("future"))
        loop.create_task(aboom())
        drain(loop, 4)
        gc.collect()
    finally:
        loop.close()
    assert len(seen) == 3
    return sorted(seen)


@parity
def test_call_exception_handler_replaced_on_the_instance(w):
    seen = []
    loop = w.new_event_loop()
    try:
        loop.call_exception_handler = lambda context: seen.append(context["message"].split("(")[0])
        loop.call_soon(boom)
        loop.create_future().set_exception(KeyError("future"))
        drain(loop, 4)
        gc.collect()
    finally:
        loop.close()
    return sorted(seen)


@parity
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_wants_out(w, kind):
    with w.loop() as loop:

        def handler(_, context):
            raise kind("out")

        loop.set_exception_handler(handler)
        loop.call_soon(boom)
        answer = raised(loop.run_forever)
        loop.set_exception_handler(None)
        return answer, loop.is_running()


@parity
def test_get_and_set(w):
    with w.loop() as loop:

        def handler(loop, context):
            pass

        trace = []
        loop.set_exception_handler(None)
        trace.append(loop.get_exception_handler())
        loop.set_exception_handler(handler)
        trace.append(loop.get_exception_handler() is handler)
        for junk in (1, "text", []):
            trace.append(raised(loop.set_exception_handler, junk))
        assert trace[2] == ("TypeError", "A callable object or None is expected, got 1")
        return trace


@parity
def test_the_handler_gets_the_loop_and_a_context(w):
    with w.loop() as loop:
        seen = []

        def handler(a_loop, context):
            seen.append((a_loop is loop, type(context).__name__, VARIABLE.get(), sorted(context)))

        loop.set_exception_handler(handler)
        context = contextvars.Context()
        context.run(VARIABLE.set, "of the callback")
        loop.call_soon(boom, context=context)
        drain(loop, 3)
        task = loop.create_task(aboom(), context=context)
        drain(loop, 3)
        del task
        gc.collect()
        fut = loop.create_future()
        fut.set_exception(KeyError("k"))
        del fut
        assert len(seen) == 3
        return seen


@parity
def test_a_handler_may_change_itself_and_schedule(w):
    with w.loop() as loop:
        seen = []

        def first(a_loop, context):
            seen.append("first")
            a_loop.set_exception_handler(second)
            a_loop.call_soon(boom)

        def second(a_loop, context):
            seen.append("second")
            a_loop.stop()

        loop.set_exception_handler(first)
        loop.call_soon(boom)
        loop.run_forever()
        return seen


@parity
def test_traceback_of_an_awaited_exception(w):
    """The frames a user reads when a task's exception travels: only the program's own, once each."""

    async def inner():
        await w.aio.sleep(0)
        boom()

    async def outer():
        await w.aio.create_task(inner())

    with w.loop() as loop:
        try:
            loop.run_until_complete(outer())
        except ZeroDivisionError as exc:
            names = [
                (frame.name, frame.line)
                for frame in traceback.extract_tb(exc.__traceback__)
                if "/asyncio/" not in frame.filename and "/asynchrotron/" not in frame.filename
            ]
    assert [name for name, _ in names[-4:]] == ["outer", "inner", "boom"] or names[-3][0] == "outer"
    return names


@parity
def test_sys_exc_info_is_clean_in_callbacks(w):
    with w.loop() as loop:
        seen = []
        loop.set_exception_handler(
            lambda *_: seen.append(type(sys.exception() if sys.version_info >= (3, 11) else None))
        )

        def look():
            seen.append(sys.exc_info())

        loop.call_soon(boom)
        loop.call_soon(look)

        async def coroutine():
            try:
                boom()
            except ZeroDivisionError:
                loop.call_soon(look)
                await w.aio.sleep(0)
                seen.append(sys.exc_info()[0].__name__)
            seen.append(sys.exc_info())

        task = loop.create_task(coroutine())
        drain(loop, 5)
        assert task.done()
        return [str(entry) for entry in seen[1:]]


@parity
def test_asyncio_protocol_of_unraisable_hooks_is_not_used(w):
    """Errors of callbacks go to the loop's handler, never to sys.unraisablehook."""
    unraisable = []
    before, sys.unraisablehook = sys.unraisablehook, unraisable.append
    errors = []
    try:
        with w.loop(errors=errors) as loop:
            loop.call_soon(boom)
            loop.create_future().set_exception(KeyError("k"))
            drain(loop, 3)
            gc.collect()
    finally:
        sys.unraisablehook = before
    return len(errors), len(unraisable)


def test_asyncio_names_nothing_of_ours(world):
    """The logger is asyncio's own, so that existing logging configuration keeps working."""
    with asyncio_log() as log, world.loop() as loop:
        loop.set_exception_handler(None)
        loop.call_soon(boom)
        drain(loop, 3)
    assert len(log) == 1
    assert asyncio.log.logger.name == "asyncio"
