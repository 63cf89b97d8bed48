"""Random scripts: calls on one of everything, from callbacks, finalisers and special methods, and how they read.

A script is a few blocks of statements, written as Python source. The first block runs; the others are called by
whatever was given `block1` as its callback, or an `Evil(1)` as a value (see actor.py). Each statement is one call, with
its own number in the trace, and what it raises ends nothing but itself.

There are two vocabularies. The first is asyncio's own: its results and errors are compared with stock's. What `HOSTILE`
adds (private attributes set and deleted, objects made again, their class replaced) must not crash, and that is all;
stock's objects are made of other parts, and go away at other moments.
"""

import sys
from dataclasses import dataclass

from hypothesis import strategies as st

BLOCKS_MAX = 4
STATEMENTS_MAX = 14  # of a block

# ---- values ------------------------------------------------------------------------------------------------------

OBJECTS = (
    *("future", "other", "task", "idle", "lock", "event", "condition", "semaphore", "bounded", "barrier", "queue"),
    *(
        "stack",
        "heap",
        "reader",
        "handle",
        "timer",
        "gathered",
        "group",
        "timeout",
        "subclass",
        "coro",
        "second",
        "loop",
    ),
)
PLAIN = (
    *("None", "0", "1", "True", "-1", "3", "'text'", "b'bytes'", "2.5", "()", "[]", "{}", "int", "object()"),
    *("float('nan')", "float('inf')", "1 << 70", "Broken()", "aio.CancelledError('c')", "[future, task]", "(lock,)"),
)
EVIL = ("Evil(1)", "Evil(2)", "Evil(3)", "evil", "EvilStr(1)", "EvilInt(2)", "EvilError(1)", "EvilList(3)")
HOLES = {
    "A": (  # awaitables
        *("future", "other", "task", "coro", "second", "lock.acquire()", "event.wait()", "queue.get()", "gathered"),
        *("aio.sleep(0)", "aio.sleep(0, 'slept')", "done()", "failed()", "stuck()", "reader.read(2)", "Awaitable(1)"),
        *("Awaitable(2)", "None", "5", "idle", "subclass", "reacting(1)", "swallowing()", "stopping(1)"),
    ),
    "B": (  # bytes
        *("b'x'", "b'line\\n'", "b''", "bytearray(b'ab\\ncd')", "memoryview(b'view')", "b'x' * 70", "'text'", "None"),
        "5",
    ),
    "C": (  # callbacks
        *("block1", "block2", "block3", "note", "loop.stop", "lock.release", "future.cancel", "task.cancel"),
        *(
            "raising",
            "exiting",
            "fresh()",
            "fresh()",
            "None",
            "5",
            "event.set",
            "partial(block1, 1)",
            "done",
            "subclass.cancel",
        ),
    ),
    "D": ("0", "None", "-1", "1e9", "True", "'text'", "float('nan')", "EvilInt(1)"),  # delays
    "E": (  # exceptions
        *(
            "Broken('b')",
            "Broken",
            "aio.CancelledError('thrown')",
            "KeyError('k')",
            "StopIteration(3)",
            "StopIteration",
        ),
        *(
            "KeyboardInterrupt()",
            "GeneratorExit()",
            "TimeoutError()",
            "EvilError(1)",
            "EvilBase(2)",
            "int",
            "None",
            "5",
        ),
        *("SystemExit(3)", "Picky", "EvilError", "StopAsyncIteration()"),
    ),
    "I": ("1", "0", "2", "-1", "5", "None", "'n'", "True", "1.5", "1 << 70", "EvilInt(1)"),  # numbers
    "M": ("'message'", "None", "5", "Evil(1)", "EvilStr(2)"),  # messages
    "S": ("b'\\n'", "b'ab'", "b''", "(b'\\n', b'x')", "()", "'text'", "None", "[b'a']"),  # separators
    "V": (*PLAIN, *EVIL, *OBJECTS),  # anything
    "W": ("0", "-1", "None", "1e9", "True", "2.5"),  # delays of timers, which a heap compares
    "X": ("None", "context", "context.copy()"),  # contexts
}

# ---- asyncio's own words -----------------------------------------------------------------------------------------

FUTURE = (
    *("cancel()", "result()", "exception()", "done()", "cancelled()", "cancel({M})", "cancel(msg={M})", "cancel(1, 2)"),
    *("add_done_callback({C})", "add_done_callback({C})", "add_done_callback({C}, context={X})", "get_loop() is loop"),
    *(
        "add_done_callback()",
        "remove_done_callback({C})",
        "_make_cancelled_error()",
    ),
    *("_state", "_log_traceback", "_asyncio_future_blocking", "_cancel_message", "result(1)", "__await__().send(None)"),
    *("remove_done_callback(everything)", "_callbacks is None"),
)
SETTING = (
    *("set_result({V})", "set_result()", "set_exception({E})", "set_exception()", "set_result(1, 2)"),
    *("_result", "_exception", "set_exception({E})", "set_result({V})"),
)
TASK = (
    *("cancelling()", "uncancel()", "get_name()", "set_name({V})", "set_name('named')", "get_coro() is coro"),
    *("get_stack()", "_must_cancel", "set_result({V})", "set_exception({E})", "get_stack(limit={I})", "uncancel(1)"),
)
QUEUE = (
    *("put_nowait({V})", "put_nowait(1)", "get_nowait()", "task_done()", "qsize()", "empty()", "full()", "maxsize"),
    *("get()", "put({V})", "put(1)", "join()", "get(1)", "put()", "qsize(1)", "task_done(2)"),
)
if sys.version_info >= (3, 13):
    QUEUE += ("shutdown()", "shutdown(immediate={V})", "shutdown({V})", "shutdown(True)")

METHODS = {
    "future": (*FUTURE, *SETTING),
    "other": (*FUTURE, *SETTING),
    "subclass": (*FUTURE, *SETTING),
    "task": (*FUTURE, *TASK),
    "idle": (*FUTURE, *TASK),
    "gathered": FUTURE,
    "lock": (
        "acquire()",
        "release()",
        "locked()",
        "__aenter__()",
        "__aexit__(None, None, None)",
        "release(1)",
        "acquire(2)",
    ),
    "event": ("wait()", "set()", "clear()", "is_set()", "wait(1)", "set({V})"),
    "condition": (
        *("acquire()", "release()", "locked()", "wait()", "wait_for({C})", "notify()", "notify({I})", "notify_all()"),
        *("wait_for()", "notify(1, 2)", "notify(n={I})", "__aenter__()", "__aexit__(1, 2, 3)"),
    ),
    "semaphore": ("acquire()", "release()", "locked()", "release()", "release({V})", "__aenter__()"),
    "bounded": ("acquire()", "release()", "locked()", "release({V})", "__aexit__(None, None, None)"),
    "barrier": ("wait()", "reset()", "abort()", "parties", "n_waiting", "broken", "wait({V})", "__aenter__()"),
    "queue": QUEUE,
    "stack": QUEUE,
    "heap": QUEUE,
    "reader": (
        *("feed_data({B})", "feed_data({B})", "feed_eof()", "set_exception({E})", "exception()", "at_eof()", "read()"),
        *("read({I})", "readline()", "readexactly({I})", "readuntil({S})", "readuntil()", "readuntil(separator={S})"),
        *("read(n={I})", "feed_data()", "__aiter__() is reader", "__anext__()", "feed_eof(1)"),
    ),
    "handle": (
        "cancel()",
        "cancelled()",
        "cancel(1)",
        "get_context()" if sys.version_info >= (3, 12) else "cancelled()",
    ),
    "timer": ("cancel()", "cancelled()", "when() > 0", "__eq__({V})", "__lt__({V})", "__ge__(timer)"),
    "group": (
        *("create_task({A})", "create_task(done(), name={V})", "create_task(done(), context={X})", "create_task()"),
        *("__aenter__()", "__aexit__(None, None, None)", "__aexit__(Broken, Broken(), None)"),
    ),
    "timeout": (
        *("__aenter__()", "__aexit__(None, None, None)", "reschedule({D})", "expired()", "when()", "reschedule()"),
        "__aexit__(aio.CancelledError, aio.CancelledError(), None)",
    ),
    "coro": ("send(None)", "close()", "throw({E})", "send({V})", "cr_running", "cr_await is None", "throw({E}, {V})"),
    "second": ("send(None)", "close()", "throw({E})", "throw()", "send()"),
    "loop": (
        *("call_soon({C})", "call_soon({C}, {V})", "call_soon({C}, context={X})", "call_soon()", "create_task({A})"),
        *("call_later({W}, {C})", "call_at({W}, {C}, {V})", "call_soon_threadsafe({C})", "create_task({A}, name={V})"),
        *(
            "create_future()",
            "create_future(1)",
            "stop()",
            "is_running()",
            "is_closed()",
            "set_debug(True)",
            "set_debug(False)",
        ),
        *(
            "get_debug() in (0, None)",
            "call_exception_handler({{'message': 'told'}})",
            "set_task_factory(None)",
            "run_forever(1)",
        ),
        *("create_task(done(), context={X})", "get_task_factory()", "set_task_factory(5)", "call_later(0)"),
    ),
}
ANYWHERE = (
    *("turn()", "turn()", "turn()", "collect()", "turns(3)", "loop.is_running()"),
    *("until({A})", "repr({V})", "aio.gather({A}, {A})", "aio.gather({A}, return_exceptions=True)", "aio.shield({A})"),
    *("aio.wait([{A}, {A}])", "aio.wait([task, {A}], timeout={D})", "aio.wait_for({A}, {D})", "aio.ensure_future({A})"),
    *(
        "aio.ensure_future({A}, loop=loop)",
        "aio.isfuture({V})",
        "aio.iscoroutine({V})",
        "aio.current_task(loop) is None",
    ),
    *("aio.current_task()", "aio.create_task({A})", "aio.timeout({D})", "aio.sleep({D})"),
    *("aio.Future(loop=loop)", "aio.Future()", "aio.Future(loop={V})", "aio.Task({A}, loop=loop)", "aio.Task({A})"),
    *("aio.Semaphore({I})", "aio.BoundedSemaphore({I})", "aio.Barrier({I})", "aio.Queue({I})", "aio.Condition(lock)"),
    *("aio.Condition({V})", "aio.Lock({V})", "aio.StreamReader(limit={I}, loop=loop)", "aio.wrap_future({V})"),
    *(
        "aio.TaskGroup()",
        "list(aio.as_completed([{A}])) is None",
        "aio.wait({V})",
        "aio.gather(*[{A}, {A}], {A})",
        "aio.wait_for({A})",
    ),
    *("aio.run_coroutine_threadsafe({A}, loop)", "aio.get_running_loop() is loop", "hash({V}) is None", "{V} == {V}"),
)
# Where a result is kept; what was there goes away with it.
KEPT = ("coro", "second", "task", "idle", "future", "other", "gathered", "evil", "handle")
RESULTS = {
    "coro": (
        *("lock.acquire()", "event.wait()", "queue.get()", "queue.put({V})", "condition.wait()", "reader.readline()"),
        *("reader.read(3)", "barrier.wait()", "semaphore.acquire()", "aio.sleep(0)", "aio.wait([{A}])", "reacting(2)"),
        *("queue.join()", "aio.wait_for({A}, {D})", "group.__aexit__(None, None, None)", "timeout.__aenter__()"),
    ),
    "task": (
        "loop.create_task({A})",
        "loop.create_task(coro)",
        "aio.ensure_future({A}, loop=loop)",
        "group.create_task({A})",
    ),
    "future": ("loop.create_future()", "aio.shield({A})", "aio.Future(loop=loop)", "Subclass(loop=loop)"),
    "gathered": ("aio.gather({A}, {A})", "aio.gather({A}, return_exceptions=True)"),
    "evil": ("Evil(1)", "Evil(2)", "EvilError(1)", "EvilList(1)", "None"),
    "handle": ("loop.call_soon({C})", "loop.call_soon({C}, {V})", "loop.call_soon_threadsafe({C})"),
}
RESULTS |= {"second": RESULTS["coro"], "idle": RESULTS["task"], "other": RESULTS["future"]}
GOING = ("drop({o})", "drop({o})", "on_collection(1)")

# ---- what stock's objects would not understand -------------------------------------------------------------------

ATTRIBUTES = (
    *(
        "_loop",
        "_callbacks",
        "_state",
        "_result",
        "_exception",
        "_cancel_message",
        "_asyncio_future_blocking",
        "__class__",
    ),
    *(
        "_log_traceback",
        "_source_traceback",
        "_must_cancel",
        "_fut_waiter",
        "_coro",
        "_num_cancels_requested",
        "_context",
    ),
    *(
        "_name",
        "_waiters",
        "_locked",
        "_value",
        "_lock",
        "_bound_value",
        "_parties",
        "_count",
        "_cond",
        "_queue",
        "_getters",
    ),
    *(
        "_putters",
        "_unfinished_tasks",
        "_finished",
        "_maxsize",
        "_is_shutdown",
        "_buffer",
        "_eof",
        "_waiter",
        "_paused",
    ),
    *(
        "_transport",
        "_limit",
        "_tasks",
        "_errors",
        "_parent_task",
        "_on_completed_fut",
        "_entered",
        "_exiting",
        "_aborting",
    ),
    *("_task", "_timeout_handler", "_when", "_args", "_callback", "_cancelled", "_scheduled", "_repr", "__dict__"),
    *("_children", "_cancel_requested", "_cancelled_exc", "_Future__log_traceback", "cancel", "done", "own", "__doc__"),
    *("_base_error", "_parent_cancel_requested", "_init", "_put", "_get", "full", "_wakeup_next", "acquire", "release"),
)
HOSTILE = (
    # How often callbacks are compared is nobody's promise, and 3.13.0 forgets that it runs when it is run again.
    *("task.add_done_callback(evil)", "future.add_done_callback(Evil(1))", "future.remove_done_callback(Evil(2))"),
    *("future.remove_done_callback(evil)", "task.remove_done_callback(Evil(3))", "loop.call_soon(Evil(1))"),
    "loop.run_forever() if loop.is_running() else 0",
    *("setattr({O}, {attribute}, {V})", "setattr({O}, {attribute}, {V})", "delattr({O}, {attribute})"),
    *("getattr({O}, {attribute})", "setattr({O}, {attribute}, None)", "{O}.__init__()", "{O}.__init__({V})"),
    *("{O}.__init__({V}, {V})", "{O}.__init__(loop=loop)", "{O}.__init__({A}, loop={V})", "{O}.__setstate__({V})"),
    *("{O}.__setstate__({{{attribute}: {V}}})", "setattr({O}, '__class__', type({O}))", "type({O}).__new__(type({O}))"),
    *("copy.copy({O})", "copy.deepcopy({O})", "pickle.dumps({O})", "{O}.__reduce_ex__(4)", "{O}.__dict__.clear()"),
    *(
        "getattr({O}, {attribute}).append({V})",
        "getattr({O}, {attribute}).clear()",
        "vars({O}).update({{{attribute}: 1}})",
    ),
    *("{O}.__getattribute__({attribute})", "{O}.__sizeof__()", "dir({O})", "{O}.__del__()", "weakref.ref({O}, block1)"),
    *(
        "type({O})({V})",
        "type({O})(loop={V})",
        "type({O}).__init__({O}, {A}, loop=loop)",
        "near_the_limit(lambda: {call})",
    ),
    *("near_the_limit(lambda: {call})", "traverse({O})", "collected_within(1, lambda: {call})"),
    *("collected_within(2, lambda: {call})", "collected_within(1, lambda: {call})", "bare(type({O})).{method}"),
    *("loop.call_soon({C}, context={V})", "future.add_done_callback({C}, context={V})"),
    *("loop.create_task(done(), context={V})", "aio.gather({A}, return_exceptions={V})"),
    *("loop.set_debug({V})", "loop.call_at({D}, {C}, {V})", "loop.call_later({D}, {C})"),
    *("watch({O}, 1)", "watch({O}, 2)", "handle._run()", "timer._run()"),
    *("parent({O}).__init__({O})", "parent({O}).__init__({O}, loop={V})", "parent({O}).__init__({O}, {V})"),
    *("parent({O}).__init__({O}, {C}, (), loop)", "parent({O}).set_result({O}, {V})", "parent({O}).cancel({O})"),
    *("parent({O}).__del__({O})", "{O}.__init__({C}, (), {V})", "{O}.__init__(0, {C}, (), {V})"),
    *("type({O}).{method_of}", "iter({O})", "next({O})", "list(gc.get_referents({O}))", "{O}.__await__().throw({E})"),
)
# The loop itself is what ends a script: it is left whole.
WHOLE = ("loop",)


@dataclass(frozen=True, repr=False)
class Script:
    """Its source; a failing test shows that."""

    text: str

    def __repr__(self) -> str:
        return "the script as above"


@st.composite
def scripts(draw: st.DrawFn, hostile: bool) -> Script:
    """A script is about a few objects, so that its statements meet."""
    subjects = draw(st.lists(st.sampled_from(tuple(METHODS)), min_size=1, max_size=3, unique=True))
    breakable = [name for name in subjects if name not in WHOLE] or ["future"]
    number = 0

    def fill(template: str) -> str:
        """The template with something in each of its holes."""
        parts, rest = [], template
        while "{" in rest or "}" in rest:
            at = min(index for index in (rest.find("{"), rest.find("}")) if index >= 0)
            parts.append(rest[:at])
            if rest[at : at + 2] in ("{{", "}}"):
                parts.append(rest[at])
                rest = rest[at + 2 :]
                continue
            hole, _, rest = rest[at + 1 :].partition("}")
            parts.append(filling(hole))
        return "".join([*parts, rest])

    def filling(hole: str) -> str:
        if hole == "O":
            return draw(st.sampled_from(breakable))
        if hole == "o":
            return repr(draw(st.sampled_from((*breakable, "evil"))))
        if hole == "attribute":
            return repr(draw(st.sampled_from(ATTRIBUTES)))
        if hole == "call":
            return call()
        if hole in ("method", "method_of"):
            method = draw(st.sampled_from(METHODS[draw(st.sampled_from(breakable))]))
            return fill(method)
        return draw(st.sampled_from(HOLES[hole]))

    def call() -> str:
        name = draw(st.sampled_from(subjects))
        return f"{name}.{fill(draw(st.sampled_from(METHODS[name])))}"

    def statement() -> str:
        nonlocal number
        number += 1
        kind = draw(st.integers(0, 11 if hostile else 8))
        if kind <= 3:
            return f"act({number}, lambda: {call()})"
        if kind == 4:
            kept = draw(st.sampled_from(KEPT))
            return f"act({number}, lambda: {fill(draw(st.sampled_from(RESULTS[kept])))}, {kept!r})"
        if kind == 5:
            return f"act({number}, lambda: {fill(draw(st.sampled_from(GOING)))})"
        if kind <= 8:
            return f"act({number}, lambda: {fill(draw(st.sampled_from(ANYWHERE)))})"
        return f"act({number}, lambda: {fill(draw(st.sampled_from(HOSTILE)))})"

    lines = []
    for index in range(draw(st.integers(1, BLOCKS_MAX))):
        lines.append(f"def body{index}():")
        count = draw(st.integers(1, STATEMENTS_MAX if index == 0 else STATEMENTS_MAX // 3))
        lines += [f"    {statement()}" for _ in range(count)]
        lines.append(f"    return {draw(st.sampled_from(('None', 'True', 'False', '1 / 0', *HOLES['V'])))}")
    return Script("\n".join([*lines, ""]))
