"""Task: names, states, results, cancellation counters, contexts, factories, eager start, words of refusals."""

import asyncio
import contextvars
import sys
import types

import pytest
from task_makers import MAKERS, fail, lines, maker, value, wait_for_ever
from worlds import araised, asyncio_log, drain, error, in_thread, outcome, parity, raised, since

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


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
def test_eager_starts_of_both_kinds_of_tasks_inside_each_other(w):
    """Who is current is known to both, by every name, also after somebody looked."""
    kinds = [("C", asyncio.Task), ("world's", w.aio.Task)]
    trace = []

    def look(where):
        current = [function() for function in (asyncio.current_task, w.aio.current_task)]
        trace.append((where, [task.get_name() for task in current]))

    async def leaf(name):
        look(name)
        await w.aio.sleep(0)
        look(f"{name} later")

    async def branch(name):
        look(name)
        loop = asyncio.get_running_loop()
        tasks = []
        for kind, task in kinds * 2:
            leaf_name = f"{kind} in {name}"
            tasks.append(task(leaf(leaf_name), loop=loop, name=leaf_name, eager_start=True))
            look(f"after {leaf_name}")
        for each in tasks:
            await each
        look(f"{name} later")

    async def main():
        loop = asyncio.get_running_loop()
        tasks = []
        for kind, task in kinds * 2:
            tasks.append(task(branch(kind), loop=loop, name=kind, eager_start=True))
            look(f"after {kind}")
        for each in tasks:
            await each
            look("main")

    with w.loop() as loop:
        loop.run_until_complete(loop.create_task(main(), name="main"))
    return trace


@since(3, 12)
def test_an_eager_task_whose_context_cannot_be_entered_is_not_kept(ours):
    """After this asyncio takes the wrong task for the current one, and cannot go on."""
    if ours.name != "native":
        pytest.skip("about our Task")

    async def main():
        loop, current, context = asyncio.get_running_loop(), asyncio.current_task(), contextvars.copy_context()
        refused = context.run(raised, lambda: ours.aio.Task(coroutine, loop=loop, context=context, eager_start=True))
        assert refused[0] == "RuntimeError"
        assert "already entered" in refused[1]
        assert ours.aio.current_task() is current
        await ours.aio.sleep(0)
        return ours.aio.all_tasks() == {current}

    coroutine = value("never")
    with asyncio_log() as log, ours.loop(errors=[]) as loop:
        assert loop.run_until_complete(main())
    coroutine.close()
    # Said in vain: the loop's exception handler is to run in that context, too.
    assert ["Task was destroyed but it is pending!" in text for _, text in log] == [True]


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
