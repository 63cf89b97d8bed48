"""Task as others see it: reprs, stacks, private attributes, subclasses; what a finished or forgotten one leaves."""

import asyncio
import contextvars
import gc
import inspect
import io
import re
import sys
import weakref

import pytest
from task_makers import fail, lines, maker, value, wait_for_ever, waits
from worlds import drain, normal, outcome, parity, raised

# --- reprs and stacks ---------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("how", ["create_task", "class"])
def test_reprs(w, how):
    with w.loop() as loop:
        create = maker(w, loop, how)
        texts = []

        def show(task):
            texts.append(normal(repr(task)))

        async def sleeper():
            await w.aio.sleep(1000)

        async def shows_itself():
            show(w.aio.current_task())

        def callback(task):
            pass

        fresh = create(value("result"), name="fresh")
        show(fresh)
        fresh.add_done_callback(callback)
        show(fresh)
        sleeping = create(sleeper(), name="sleeping")
        waiting = create(waits(sleeping), name="waiting")
        running = create(shows_itself(), name="running")
        failed = create(fail(KeyError("k")), name="failed")
        drain(loop, 4)
        for task in (fresh, sleeping, waiting, running, failed):
            show(task)
        sleeping.cancel()
        show(sleeping)
        drain(loop, 4)
        show(sleeping)
        show(waiting)
        failed.exception()
        assert re.match(r"<Task pending name='fresh' coro=<value\(\) running at task_makers.py:\d+>>", texts[0])
        return texts


@parity
def test_which_tasks_take_a_number(w):
    """Up to 3.12 asyncio names a task after it was made, so that it had a number for a moment."""

    async def main():
        loop = asyncio.get_running_loop()

        async def number():
            task = loop.create_task(value())
            await task
            return int(task.get_name().removeprefix("Task-"))

        trace = []
        async with w.aio.TaskGroup() as group:
            for create in (w.aio.create_task, loop.create_task, group.create_task):
                for keywords in ({}, {"name": None}, {"name": "own name"}, {"name": 1, "context": None}):
                    before = await number()
                    task = create(value(), **keywords)
                    trace.append((task.get_name().startswith("Task-"), await number() - before))
                    await task
        return trace

    return w.run(main)


@parity
def test_repr_in_debug_mode(w):
    with w.loop(debug=True) as loop:
        task = loop.create_task(value("x" * 200), name="debugged")
        texts = [lines(repr(task))]
        drain(loop, 2)
        texts.append(lines(repr(task)))
        assert "created at" in texts[0]
        return [re.sub(r" created at [\w.]+:L", " created at", text) for text in texts]


@parity
def test_repr_of_odd_coroutines(w):
    class Cython:
        """Has the methods of a coroutine, not the attributes."""

        def send(self, _):
            raise StopIteration("r")

        def throw(self, *args):
            raise args[0]

        def close(self):
            pass

        def __await__(self):
            return self

    import collections.abc

    collections.abc.Coroutine.register(Cython)
    with w.loop() as loop:
        task = loop.create_task(Cython(), name="odd")
        text = lines(repr(task))
        return text, loop.run_until_complete(task)


@parity
def test_stacks(w):
    with w.loop() as loop:
        trace = []

        def stack(task, **kwargs):
            return [(f.f_code.co_name, f.f_lineno - f.f_code.co_firstlineno) for f in task.get_stack(**kwargs)]

        def printed(task, **kwargs):
            out = io.StringIO()
            task.print_stack(file=out, **kwargs)
            return normal(re.sub(r'File "[^"]*/', 'File "', out.getvalue()))

        async def inner():
            await loop.create_future()

        async def outer():
            await inner()

        async def raises():
            await w.aio.sleep(0)
            raise KeyError("from raises")

        async def looks_at_itself():
            trace.append(("running", stack(w.aio.current_task())[-1]))

        pending = loop.create_task(outer(), name="pending")
        trace.append(("fresh", stack(pending), printed(pending)))
        failed = loop.create_task(raises(), name="failed")
        done = loop.create_task(value(), name="done")
        loop.create_task(looks_at_itself())
        drain(loop, 5)
        for task in (pending, failed, done):
            trace.append((stack(task), stack(task, limit=1), printed(task), printed(task, limit=1)))
        failed.exception()
        trace.append([f.f_code.co_name for f in failed.get_stack()])
        assert trace[1][0] == "running"
        return trace


@parity
def test_get_stack_arguments(w):
    with w.loop() as loop:
        task = loop.create_task(wait_for_ever())
        drain(loop, 2)
        return [
            raised(lambda: task.get_stack(1))[0],
            raised(lambda: task.print_stack(1))[0],
            len(task.get_stack(limit=None)),
            len(task.get_stack(limit=0)),
            inspect.isframe(task.get_stack()[0]),
        ]


@parity
def test_get_coro(w):
    with w.loop() as loop:
        coroutine = wait_for_ever()
        task = loop.create_task(coroutine)
        trace = [task.get_coro() is coroutine, task._coro is coroutine]
        drain(loop, 2)
        trace.append(inspect.getcoroutinestate(task.get_coro()))
        task.cancel()
        drain(loop, 3)
        trace.append((task.get_coro() is coroutine, inspect.getcoroutinestate(coroutine)))
        return trace


# --- what libraries read although it is private --------------------------------------------------------------------


@parity
def test_private_attributes_that_libraries_read(w):
    """anyio looks at _callbacks, _must_cancel and _fut_waiter; the loop's own callback marks the root task."""
    with w.loop() as loop:
        trace = []

        def callback(task):
            pass

        async def main():
            task = w.aio.current_task()
            trace.append([(cb.__module__, cb.__name__) for cb, context in task._callbacks])
            child = loop.create_task(waits(fut), name="child")
            await w.aio.sleep(0)
            trace.append(child._fut_waiter is fut)
            trace.append((child._callbacks, child._must_cancel))
            child.add_done_callback(callback)
            child.add_done_callback(callback)
            trace.append(
                [(cb is callback, isinstance(context, contextvars.Context)) for cb, context in child._callbacks]
            )
            trace.append([isinstance(cb, object) for cb, _ in fut._callbacks])
            child.cancel()
            trace.append((child._must_cancel, child._fut_waiter is fut, fut.cancelled()))
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            trace.append((child._must_cancel, child._fut_waiter))
            fresh = loop.create_task(value())
            fresh.cancel("m")
            trace.append((fresh._must_cancel, fresh._fut_waiter, fresh._cancel_message))
            await w.aio.wait([fresh])
            trace.append(w.aio.current_task()._source_traceback)
            trace.append(w.aio.current_task()._loop is loop)

        fut = loop.create_future()
        loop.run_until_complete(main())
        return trace


# --- the class ----------------------------------------------------------------------------------------------------


@parity
def test_the_class(w):
    with w.loop() as loop:
        task = loop.create_task(value())
        hand_made = w.aio.Task(value(), loop=loop)
        drain(loop, 3)
        return [
            isinstance(task, asyncio.Task),
            isinstance(task, asyncio.Future),
            isinstance(task, w.aio.Task),
            isinstance(task, w.aio.Future),
            isinstance(hand_made, w.aio.Task),
            isinstance(hand_made, asyncio.Task),
            issubclass(w.aio.Task, w.aio.Future),
            w.aio.isfuture(task),
            asyncio.isfuture(task),
            w.aio.Task[int].__args__,
            w.aio.Task.__name__,
            hash(task) == hash(task),
            weakref.ref(task)() is task,
            outcome(setattr, task, "attribute", 1),
            task.attribute,
            sorted(name for name in dir(task) if not name.startswith("_")),
        ]


@parity
def test_a_subclass_of_task(w):
    seen = []

    class Mine(w.aio.Task):
        def __init__(self, coroutine, *, tag, **kwargs):
            super().__init__(coroutine, **kwargs)
            self.tag = tag

        def cancel(self, msg=None):
            seen.append(("cancel", msg))
            return super().cancel(msg)

        def add_done_callback(self, fn, *, context=None):
            seen.append("add_done_callback")
            super().add_done_callback(fn, context=context)

    with w.loop() as loop:

        async def body():
            seen.append(w.aio.current_task().tag)
            await w.aio.sleep(0)
            return "result"

        mine = Mine(body(), tag="tag", loop=loop, name="mine")
        outer = loop.create_task(waits(mine))
        seen.append(loop.run_until_complete(outer))
        victim = Mine(wait_for_ever(), tag="victim", loop=loop)
        outer = loop.create_task(waits(victim))
        drain(loop, 3)
        outer.cancel("through the outer one")
        drain(loop, 5)
        seen.append((outer.cancelled(), victim.cancelled(), mine.get_name(), lines(repr(mine))))
        seen.append((isinstance(mine, w.aio.Task), isinstance(mine, w.aio.Future), mine in w.aio.all_tasks(loop)))
        return seen


def test_a_subclass_without_super_init(ours):
    """Stock's own C Task segfaults here, up to 3.13 at least."""

    class Mine(ours.aio.Task):
        def __init__(self):
            pass

    if Mine.__mro__[1].__module__ == "_asyncio":
        pytest.skip("stock's own Task")
    task = Mine()
    calls = [task.done, task.cancel, task.result, task.get_name, task.get_coro, task.cancelling, task.uncancel]
    calls += [lambda: task.set_name("n"), task.get_loop, lambda: task.add_done_callback(print), lambda: repr(task)]
    for call in calls:
        outcome(call)


@parity
def test_initialising_a_task_twice(w):
    async def work():
        return 1

    with w.loop() as loop:
        coro, other = work(), work()
        task = w.aio.Task(coro, loop=loop)
        task._log_destroy_pending = False
        # Before 3.15 the first coroutine would be forgotten.
        first = raised(task.__init__, other, loop=loop) if sys.version_info >= (3, 15) else ("", "")
        other.close()
        return first[0], first[1].rpartition(".")[2], loop.run_until_complete(task)


# --- lifetime -----------------------------------------------------------------------------------------------------


@parity
def test_what_a_finished_task_lets_go(w):
    with w.loop() as loop:

        class Thing:
            pass

        async def body(thing):
            await w.aio.sleep(0)

        thing = Thing()
        ref = weakref.ref(thing)
        task = loop.create_task(body(thing))
        del thing
        drain(loop, 4)
        trace = [task.done(), ref() is None]
        task_ref = weakref.ref(task)
        del task
        trace.append(task_ref() is None)
        assert trace == [True, True, True]
        return trace


@parity
def test_cycles_are_collected(w):
    with w.loop() as loop:
        trace = []

        async def holds_itself(box):
            box.append(w.aio.current_task())

        async def raises_with_frame(box):
            box.append(w.aio.current_task())
            raise KeyError("frame holds box holds task")

        for body in (holds_itself, raises_with_frame):
            task = loop.create_task(body([]))
            drain(loop, 3)
            outcome(task.exception)
            task.me = task
            ref = weakref.ref(task)
            del task
            gc.collect()
            trace.append(ref() is None)
        assert trace == [True, True]
        return trace


@parity
def test_no_cycle_through_an_exception_of_an_awaited_task(w):
    """After a failure was awaited and handled, nothing but the collector's absence may keep objects alive."""
    with w.loop() as loop:

        class Thing:
            pass

        refs = []

        async def child(thing):
            await w.aio.sleep(0)
            raise KeyError("k")

        async def main():
            thing = Thing()
            refs.append(weakref.ref(thing))
            task = loop.create_task(child(thing))
            del thing
            try:
                await task
            except KeyError:
                pass
            del task

        gc.disable()
        try:
            loop.run_until_complete(main())
            return [ref() is None for ref in refs]
        finally:
            gc.enable()


@parity
def test_never_retrieved(w):
    contexts = []
    with w.loop() as loop:
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        task = loop.create_task(fail(KeyError("lost")), name="lost")
        kept = loop.create_task(fail(KeyError("kept")), name="kept")
        drain(loop, 3)
        kept.exception()
        del task
        gc.collect()
        trace = [(c["message"], repr(c["exception"]), sorted(c), lines(repr(c["future"]))) for c in contexts]
        contexts.clear()
    assert [entry[0] for entry in trace] == ["Task exception was never retrieved"]
    return trace


@parity
def test_destroyed_but_pending_on_a_foreign_loop(w):
    """A Task of the world on stock's own loop, which keeps it only weakly."""
    contexts = []
    loop = asyncio.SelectorEventLoop()
    loop.set_debug(False)
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    async def forgotten():
        await loop.create_future()

    try:
        task = w.aio.Task(forgotten(), loop=loop, name="forgotten")
        drain(loop, 3)
        del task
        gc.collect()
        trace = [(c["message"], sorted(c), lines(repr(c["task"]))) for c in contexts]
        contexts.clear()
        gc.collect()
        quiet = w.aio.Task(forgotten(), loop=loop, name="quiet")
        drain(loop, 3)
        quiet._log_destroy_pending = False
        del quiet
        gc.collect()
        trace.append(len(contexts))
    finally:
        loop.close()
    assert trace[0][0] == "Task was destroyed but it is pending!"
    return trace


@parity
def test_destroyed_but_pending_with_its_own_loop(w):
    """A loop that goes away with a task half done: that is said once, and the coroutine's finally runs."""
    contexts, seen = [], []
    loop = w.new_event_loop()
    loop.set_exception_handler(lambda _, context: contexts.append(context["message"]))

    async def half_done():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("finally")

    loop.create_task(half_done(), name="half done")
    drain(loop, 3)
    loop.close()
    del loop
    gc.collect()
    assert seen == ["finally"]
    return seen, contexts
