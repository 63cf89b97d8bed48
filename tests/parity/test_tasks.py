"""Task: names, states, results, cancellation counters, stacks, contexts, reprs, factories, words of refusals."""

import asyncio
import contextvars
import gc
import inspect
import io
import re
import sys
import types
import weakref

import pytest
from worlds import araised, drain, error, in_thread, normal, outcome, parity, raised, since

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


async def value(result=None):
    return result


async def fail(exc):
    raise exc


async def wait_for_ever():
    await asyncio.get_running_loop().create_future()


def task_class(w, loop):
    """Task called as a class; under stock's names that is the C Task on our loop."""
    return lambda coroutine, **kwargs: w.aio.Task(coroutine, loop=loop, **kwargs)


MAKERS = ["create_task", "class", "function"]


def maker(w, loop, how):
    if how == "create_task":
        return loop.create_task
    if how == "class":
        return task_class(w, loop)
    return lambda coroutine, **kwargs: w.aio.ensure_future(coroutine, loop=loop)


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_states(w, how):
    with w.loop() as loop:
        create = maker(w, loop, how)
        tasks = [create(value("v")), create(fail(KeyError("k"))), create(wait_for_ever()), create(value("never"))]

        def look():
            return [
                (
                    task.done(),
                    task.cancelled(),
                    task.cancelling(),
                    task._state,
                    task._must_cancel,
                    task._fut_waiter is not None,
                    outcome(task.result),
                    outcome(lambda task=task: repr(task.exception())),
                )
                for task in tasks
            ]

        trace = [look()]
        tasks[3].cancel("early")
        trace.append(look())
        drain(loop, 4)
        trace.append(look())
        tasks[2].cancel("why")
        trace.append(look())
        drain(loop, 4)
        trace.append(look())
        trace.append([task.cancel() for task in tasks])
        trace.append([task.get_coro().__name__ for task in tasks])
        trace.append([task.get_loop() is loop for task in tasks])
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_what_a_task_refuses(w, how):
    with w.loop() as loop:
        task = maker(w, loop, how)(wait_for_ever())
        drain(loop, 2)
        trace = [
            raised(task.set_result, 1),
            raised(task.set_exception, KeyError("k")),
            raised(task.result),
            raised(task.exception),
        ]
        assert trace[0] == ("RuntimeError", "Task does not support set_result operation")
        assert trace[1] == ("RuntimeError", "Task does not support set_exception operation")
        return trace


@parity
def test_what_cannot_become_a_task(w):
    with w.loop() as loop:

        def plain():
            yield 1

        async def asyncgen():
            yield 1

        trace = []
        for thing in (None, 1, "coroutine", value, plain, asyncgen(), loop.create_future(), print):
            trace.append(raised(loop.create_task, thing))
            trace.append(raised(w.aio.Task, thing, loop=loop))
        trace.append(raised(w.aio.ensure_future, 1, loop=loop))
        trace.append(raised(w.aio.ensure_future, value, loop=loop))
        trace.append(raised(loop.create_task)[0])
        trace.append(raised(w.aio.Task)[0])
        coroutine = value()
        trace.append(raised(loop.create_task, coroutine, nonsense=1)[0])
        trace.append(raised(w.aio.create_task, coroutine))
        coroutine.close()
        return trace


@parity
def test_tasks_of_other_awaitables(w):
    class Awaitable:
        def __await__(self):
            yield
            return "awaitable"

    @types.coroutine
    def generator_based():
        yield
        return "generator based"

    with w.loop() as loop:
        fut = loop.create_future()
        future_again = w.aio.ensure_future(fut, loop=loop) is fut
        trace = [
            loop.run_until_complete(w.aio.ensure_future(Awaitable(), loop=loop)),
            future_again,
            raised(loop.create_task, Awaitable())[0],
        ]
        coroutine = generator_based()
        trace.append(outcome(lambda: loop.run_until_complete(loop.create_task(coroutine))))
        return trace


@parity
@pytest.mark.parametrize("how", ["create_task", "class"])
def test_names(w, how):
    with w.loop() as loop:
        create = maker(w, loop, how)
        named = create(value(), name="given")
        numbered = create(value(), name=5)
        default, following = create(value()), create(value())
        trace = [named.get_name(), numbered.get_name(), type(numbered.get_name()).__name__]
        first, second = (int(t.get_name().removeprefix("Task-")) for t in (default, following))
        trace.append(second - first)
        for name in ("new", 7, None, ("a", "b")):
            trace.append((outcome(default.set_name, name), default.get_name()))
        trace.append(raised(default.set_name)[0])

        class Name:
            def __str__(self):
                return "from str()"

        trace.append(create(value(), name=Name()).get_name())
        drain(loop, 3)
        trace.append(named.get_name())
        return trace


@parity
def test_create_task_function_names_and_context(w):
    async def child():
        return VARIABLE.get(), w.aio.current_task().get_name()

    async def main():
        context = contextvars.Context()
        context.run(VARIABLE.set, "of the context")
        VARIABLE.set("of main")
        return [
            await w.aio.create_task(child(), name="one"),
            await w.aio.create_task(child(), name="two", context=context),
            await w.aio.create_task(child(), name="three", context=None),
            raised(w.aio.create_task),
        ][:3]

    return w.run(main)


@parity
@pytest.mark.parametrize("how", ["create_task", "class"])
def test_context_of_a_task(w, how):
    with w.loop() as loop:
        create = maker(w, loop, how)
        seen = []

        async def body(name):
            seen.append((name, VARIABLE.get()))
            VARIABLE.set(name)
            await w.aio.sleep(0)
            seen.append((name, VARIABLE.get()))
            fut = loop.create_future()
            loop.call_soon(fut.set_result, None)
            await fut
            seen.append((name, VARIABLE.get()))

        given = contextvars.Context()
        given.run(VARIABLE.set, "of the given one")

        def start():
            VARIABLE.set("at creation")
            tasks = [create(body("copied")), create(body("given"), context=given)]
            VARIABLE.set("after creation")
            return tasks

        tasks = contextvars.Context().run(start)
        tasks[0].add_done_callback(lambda _: seen.append(("callback", VARIABLE.get())))
        drain(loop, 8)
        seen.append(given[VARIABLE])
        if sys.version_info >= (3, 12):
            seen.append((tasks[1].get_context() is given, tasks[0].get_context()[VARIABLE]))
        return seen


@parity
def test_current_task_and_all_tasks(w):
    with w.loop() as loop, w.loop() as other:
        trace = []

        async def child(name):
            await w.aio.sleep(0)
            trace.append((name, w.aio.current_task().get_name(), asyncio.current_task().get_name()))
            await w.aio.sleep(0)

        async def main():
            one, two = loop.create_task(child("one"), name="one"), loop.create_task(child("two"), name="two")
            elsewhere = other.create_task(value(), name="elsewhere")
            here = sorted(t.get_name() for t in w.aio.all_tasks())
            trace.append(here)
            trace.append(sorted(t.get_name() for t in asyncio.all_tasks(loop)))
            trace.append(sorted(t.get_name() for t in w.aio.all_tasks(other)))
            trace.append((w.aio.current_task() is main_task, w.aio.current_task(loop) is main_task))
            trace.append(w.aio.current_task(other))
            await one
            trace.append(sorted(t.get_name() for t in w.aio.all_tasks()))
            await two
            trace.append(sorted(t.get_name() for t in w.aio.all_tasks()))
            trace.append(type(w.aio.all_tasks()).__name__)
            inside = []
            loop.call_soon(lambda: inside.append(w.aio.current_task()))
            loop.call_soon(lambda: inside.append(asyncio.current_task()))
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            trace.append(inside)
            return elsewhere

        main_task = loop.create_task(main(), name="main")
        elsewhere = loop.run_until_complete(main_task)
        trace.append(w.aio.current_task(loop))
        trace.append(len(w.aio.all_tasks(loop)))
        trace.append(raised(w.aio.current_task))
        trace.append(raised(w.aio.all_tasks))
        other.run_until_complete(elsewhere)
        return trace


@parity
def test_current_task_in_done_callbacks_and_after_an_exception(w):
    with w.loop() as loop:
        trace = []

        async def main():
            failing = loop.create_task(fail(KeyError("k")))
            failing.add_done_callback(lambda _: trace.append(w.aio.current_task()))
            trace.append(await araised(failing))
            trace.append(w.aio.current_task() is task)

        task = loop.create_task(main())
        loop.run_until_complete(task)
        return trace


@parity
def test_cancel_counters(w):
    with w.loop() as loop:
        trace = []

        async def main():
            task = w.aio.current_task()
            trace.append((task.cancelling(), task.uncancel(), task.cancelling()))
            task.cancel()
            task.cancel()
            trace.append(task.cancelling())
            try:
                await w.aio.sleep(0)
            except asyncio.CancelledError:
                trace.append((task.uncancel(), task.uncancel(), task.uncancel(), task.cancelling()))
            await w.aio.sleep(0)
            return "end"

        trace.append(loop.run_until_complete(main()))
        return trace


@parity
def test_uncancel_before_the_cancellation_arrives(w):
    """From 3.13 on it takes the request back; before, the exception still comes."""

    async def main():
        task = w.aio.current_task()
        task.cancel()
        left = task.uncancel()
        try:
            await w.aio.sleep(0)
        except asyncio.CancelledError:
            return left, "cancelled", task._must_cancel
        return left, "went on", task._must_cancel

    return w.run(main)


@parity
@pytest.mark.parametrize("message", [(), (None,), ("text",), (1,), (["list"],)], ids=str)
def test_cancel_messages(w, message):
    with w.loop() as loop:
        seen = []

        async def body():
            try:
                await loop.create_future()
            except asyncio.CancelledError as exc:
                seen.append(repr(exc.args))
                raise

        task = loop.create_task(body())
        drain(loop, 2)
        task.cancel(*message)
        drain(loop, 3)
        for _ in range(2):
            try:
                task.result()
            except asyncio.CancelledError as exc:
                seen.append((repr(exc.args), type(exc.__context__).__name__))
        try:
            task.exception()
        except asyncio.CancelledError as exc:
            seen.append(repr(exc.args))
        return seen


@parity
def test_two_cancels_keep_which_message(w):
    with w.loop() as loop:
        seen = []

        async def body():
            try:
                await loop.create_future()
            except asyncio.CancelledError as exc:
                seen.append(exc.args)
                raise

        one, two = loop.create_task(body()), loop.create_task(body())
        drain(loop, 2)
        one.cancel("first")
        one.cancel("second")
        two.cancel(msg="by name")
        drain(loop, 4)
        return seen, one.cancelled(), raised(one.cancel, 1, 2)[0]


@parity
def test_a_coroutine_that_raises_cancelled_error_itself(w):
    with w.loop() as loop:
        task = loop.create_task(fail(asyncio.CancelledError("own words")))
        drain(loop, 3)
        return task.cancelled(), raised(task.result), task.cancelling()


@parity
@pytest.mark.parametrize(
    "exc", [KeyError("k"), StopIteration(1), GeneratorExit(), RecursionError(), BaseException("b")], ids=repr
)
def test_exceptions_that_leave_a_task(w, exc):
    with w.loop() as loop:

        class Raises:
            def __await__(self):
                raise type(exc)(*exc.args)
                yield

        async def body():
            await Raises()

        task = loop.create_task(body())
        answer = outcome(drain, loop, 3)
        return answer, task.done(), task.cancelled(), error(task.exception()), repr(task.exception().__cause__)


@parity
def test_a_coroutine_that_ignores_generator_exit(w):
    with w.loop() as loop:

        async def body():
            try:
                await loop.create_future()
            finally:
                await w.aio.sleep(0)

        coroutine = body()
        task = loop.create_task(coroutine)
        drain(loop, 2)
        answer = raised(coroutine.close)
        task.cancel()
        drain(loop, 5)
        return answer, task.done()


@parity
def test_a_coroutine_closed_behind_the_back_of_its_task(w):
    with w.loop() as loop:
        coroutine = wait_for_ever()
        task = loop.create_task(coroutine)
        drain(loop, 2)
        coroutine.close()
        task.cancel()
        drain(loop, 3)
        return task.done(), outcome(task.result)


@parity
def test_two_tasks_of_one_coroutine(w):
    with w.loop() as loop:

        async def body():
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            return "r"

        coroutine = body()
        one, two = loop.create_task(coroutine), loop.create_task(coroutine)
        drain(loop, 8)
        return [(t.done(), outcome(t.result)) for t in (one, two)]


# --- reprs and stacks ---------------------------------------------------------------------------------------------


def lines(text):
    """Line numbers out of a repr, so that bodies may move."""
    return re.sub(r"(\.py):\d+", r"\1:L", normal(text))


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
        assert re.match(r"<Task pending name='fresh' coro=<value\(\) running at test_tasks.py:\d+>>", texts[0])
        return texts


async def waits(what):
    return await what


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
def test_task_factories(w):
    with w.loop() as loop:
        seen = []

        class Mine(w.aio.Task):
            pass

        def factory(a_loop, coroutine, **kwargs):
            seen.append((a_loop is loop, coroutine.__name__, sorted(kwargs)))
            return Mine(coroutine, loop=a_loop, **kwargs)

        trace = [loop.get_task_factory()]
        loop.set_task_factory(factory)
        trace.append(loop.get_task_factory() is factory)

        async def main():
            one = loop.create_task(value(1))
            two = w.aio.create_task(value(2), name="named")
            three = w.aio.ensure_future(value(3))
            four = w.aio.create_task(value(4), context=contextvars.copy_context())
            trace.append([type(t) is Mine for t in (one, two, three, four)])
            return await w.aio.gather(one, two, three, four, value(5)), two.get_name()

        trace.append(loop.run_until_complete(main()))
        loop.set_task_factory(None)
        task = loop.create_task(value())
        trace.append(type(task) is Mine)
        loop.run_until_complete(task)
        trace.append(raised(loop.set_task_factory, 1))
        assert trace[-1] == ("TypeError", "task factory must be a callable or None")
        return trace, seen


@parity
def test_a_task_factory_may_return_something_else(w):
    with w.loop() as loop:

        class Named(w.aio.Future):
            def set_name(self, name):
                pass

        def factory(a_loop, coroutine, **kwargs):
            coroutine.close()
            fut = Named(loop=a_loop)
            fut.set_result("not a task")
            return fut

        loop.set_task_factory(factory)
        answer = loop.run_until_complete(value())
        loop.set_task_factory(None)
        return answer


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


@parity
def test_a_task_of_another_loop_cannot_be_awaited(w):
    with w.loop() as one, w.loop() as two:
        task = one.create_task(wait_for_ever(), name="of one")

        async def main():
            return await araised(task)

        kind, text = two.run_until_complete(main())
        return kind, lines(text)


@parity
def test_creating_tasks_in_a_thread_without_a_loop(w):
    def create():
        coroutine = value()
        try:
            return raised(w.aio.create_task, coroutine)
        finally:
            coroutine.close()

    return in_thread(create)


@parity
@since(3, 12)
@pytest.mark.parametrize("suspends", [False, True])
def test_eager_start(w, suspends):
    """Task(eager_start=True): runs at once in the given context; what finishes at once never reaches the loop."""
    with w.loop() as loop:
        trace = []

        async def body(name):
            trace.append((name, w.aio.current_task() is not outer, VARIABLE.get()))
            if suspends:
                await w.aio.sleep(0)
            return name

        async def main():
            VARIABLE.set("of main")
            task = w.aio.Task(body("plain"), loop=loop, eager_start=True, name="plain")
            trace.append((task.done(), w.aio.current_task() is outer, task in w.aio.all_tasks()))
            trace.append(await task)
            context = contextvars.Context()
            task = w.aio.Task(body("in context"), loop=loop, eager_start=True, context=context)
            trace.append((task.done(), VARIABLE.get()))
            trace.append(await task)
            failing = w.aio.Task(fail(KeyError("eager")), loop=loop, eager_start=True)
            trace.append((failing.done(), outcome(failing.result)))
            if sys.version_info >= (3, 13):  # 3.12.1 segfaults
                trace.append(task.get_coro() is None)

        outer = loop.create_task(main())
        loop.run_until_complete(outer)
        return trace


@parity
@since(3, 12)
def test_eager_start_without_a_running_loop(w):
    with w.loop() as loop:
        coroutine = value("late")
        try:
            task = w.aio.Task(coroutine, loop=loop, eager_start=True)
        except RuntimeError as exc:
            coroutine.close()
            return error(exc)
        return task.done(), loop.run_until_complete(task)


@parity
@since(3, 12)
def test_eager_task_factories(w):
    with w.loop() as loop:
        trace = []

        class Mine(w.aio.Task):
            pass

        async def child(name):
            trace.append(("runs", name))
            return name

        async def main():
            one = loop.create_task(child("one"), name="one")
            trace.append((one.done(), type(one).__name__))
            trace.append(await w.aio.gather(child("two"), child("three")))
            async with w.aio.TaskGroup() as group:
                four = group.create_task(child("four"))
                trace.append(four.done())

        for factory in (w.aio.eager_task_factory, w.aio.create_eager_task_factory(Mine)):
            loop.set_task_factory(factory)
            coroutine = main()
            loop.set_task_factory(None)
            task = loop.create_task(coroutine)
            loop.set_task_factory(factory)
            loop.run_until_complete(task)
            loop.set_task_factory(None)
        return trace


@parity
@since(3, 14)
def test_eager_start_through_create_task(w):
    with w.loop() as loop:
        trace = []

        async def main():
            for eager in (True, False, None):
                task = loop.create_task(value(eager), eager_start=eager, name=f"eager {eager}")
                trace.append((task.done(), task.get_name()))
                trace.append(await task)
            task = w.aio.create_task(value("function"), eager_start=True)
            trace.append(task.done())
            async with w.aio.TaskGroup() as group:
                trace.append(group.create_task(value("group"), eager_start=True).done())

        loop.run_until_complete(main())
        return trace


@parity
@pytest.mark.skipif(sys.version_info < (3, 15), reason="asyncio accepts any context before 3.15 and fails later")
@pytest.mark.parametrize("way", ["class", "create_task", "eager"])
def test_wrong_context(w, way):
    async def work():
        pass

    with w.loop() as loop:
        coro = work()

        async def main():
            if way == "create_task":
                return outcome(loop.create_task, coro, context=5)
            options = {"eager_start": True} if way == "eager" else {}
            return outcome(w.aio.Task, coro, loop=loop, context={}, **options)

        try:
            return loop.run_until_complete(main()), w.aio.all_tasks(loop) == set()
        finally:
            coro.close()


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
