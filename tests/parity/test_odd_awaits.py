"""Awaiting in odd ways: junk yielded to a Task, foreign futures, C and native objects mixed, coroutines driven by hand.

`asyncio.Future` and `asyncio.Task` are the interpreter's own C types here (nothing is installed in this process), so
the bodies that name them mix two implementations in the world under test.
"""

import asyncio
import collections.abc
import concurrent.futures
import gc
import inspect
import threading
import types
import warnings

import pytest
from worlds import araised, drain, normal, outcome, parity, raised


async def wait_for(fut):
    return await fut


class Yields:
    """An awaitable that yields the given things and notes what is sent back."""

    def __init__(self, *things, result="result"):
        self.things, self.result, self.sent = things, result, []

    def __await__(self):
        for thing in self.things:
            self.sent.append((yield thing))
        return self.result


JUNK = {
    "integer": lambda loop: 1,
    "string": lambda loop: "text",
    "tuple": lambda loop: (),
    "class": lambda loop: int,
    "exception": lambda loop: KeyError("k"),
    "generator": lambda loop: (n for n in ()),
    "object": lambda loop: types.SimpleNamespace(),
    "false": lambda loop: False,
    "future without await": lambda loop: loop.create_future(),
    "done future without await": lambda loop: done(loop),
}


def done(loop):
    fut = loop.create_future()
    fut.set_result(1)
    return fut


@parity
@pytest.mark.parametrize("what", JUNK)
def test_junk_yielded_to_a_task(w, what):
    with w.loop() as loop:
        thing = JUNK[what](loop)
        awaitable = Yields(thing)

        async def body():
            return await awaitable

        task = loop.create_task(body(), name="junk")
        drain(loop, 5)
        text = normal(outcome(task.result))
        if isinstance(thing, types.GeneratorType):
            assert "yield was used instead of yield from for generator in task" in text
        elif asyncio.isfuture(thing):
            assert "yield was used instead of yield from in task" in text
        else:
            assert "Task got bad yield" in text
        return text, awaitable.sent


@parity
def test_junk_can_be_survived(w):
    with w.loop() as loop:
        seen = []

        async def body():
            for thing in (1, None, "x", None):
                seen.append(outcome(lambda t=thing: None))
                try:
                    seen.append(await Yields(thing))
                except RuntimeError as exc:
                    seen.append(normal(exc))
            return "end"

        seen.append(loop.run_until_complete(body()))
        return seen


@parity
def test_yield_none_is_one_turn(w):
    with w.loop() as loop:
        seen = []
        awaitable = Yields(None, None, result="r")

        async def body():
            seen.append("start")
            seen.append(await awaitable)

        loop.create_task(body())
        for _ in range(3):
            loop.call_soon(seen.append, "turn")
            loop.call_soon(loop.stop)
            loop.run_forever()
        return seen, awaitable.sent


@parity
def test_a_task_that_awaits_itself(w):
    with w.loop() as loop:

        async def body():
            return await araised(w.aio.current_task())

        kind, text = loop.run_until_complete(body())
        assert text.startswith("Task cannot await on itself")
        return kind, text


@parity
def test_futures_of_another_loop(w):
    with w.loop() as one, w.loop() as two:
        pending, finished = one.create_future(), done(one)

        async def body():
            return await araised(pending), await finished

        (kind, text), value = two.run_until_complete(two.create_task(body(), name="stranger"))
        assert "attached to a different loop" in text
        assert text.startswith("Task <Task pending name='stranger'")
        return kind, text, value


@parity
@pytest.mark.parametrize("method", ["result", "exception", "cancel"])
def test_c_futures_awaited_by_the_worlds_tasks(w, method):
    with w.loop() as loop:
        fut = asyncio.Future(loop=loop)

        async def body():
            return await fut

        task = loop.create_task(body())
        drain(loop, 2)
        trace = [task._fut_waiter is fut, fut._asyncio_future_blocking]
        if method == "result":
            fut.set_result("value")
        elif method == "exception":
            fut.set_exception(KeyError("k"))
        else:
            trace.append(task.cancel("why"))
        drain(loop, 3)
        trace += [outcome(task.result), fut.done(), fut.cancelled(), task.cancelled()]
        return trace


@parity
@pytest.mark.parametrize("method", ["result", "exception", "cancel"])
def test_the_worlds_futures_awaited_by_c_tasks(w, method):
    with w.loop() as loop:
        fut = loop.create_future()

        async def body():
            current = asyncio.current_task() is task, w.aio.current_task() is task
            return current, await fut

        task = asyncio.Task(body(), loop=loop, name="C task")
        drain(loop, 2)
        trace = [task._fut_waiter is fut, fut._asyncio_future_blocking, normal(repr(task))]
        if method == "result":
            fut.set_result("value")
        elif method == "exception":
            fut.set_exception(KeyError("k"))
        else:
            trace.append(task.cancel("why"))
        drain(loop, 3)
        trace += [outcome(task.result), fut.done(), fut.cancelled(), task.cancelled()]
        return trace


@parity
def test_c_tasks_and_the_worlds_tasks_await_each_other(w):
    with w.loop() as loop:
        order = []

        async def leaf(name):
            order.append((name, asyncio.current_task().get_name(), w.aio.current_task().get_name()))
            await w.aio.sleep(0)
            await asyncio.sleep(0.001)
            order.append((name, asyncio.current_task().get_name(), w.aio.current_task().get_name()))
            return name

        async def branch(name, inner):
            return name, await inner

        ours = loop.create_task(leaf("leaf 1"), name="world 1")
        theirs = asyncio.Task(branch("branch 1", ours), loop=loop, name="C 1")
        top = loop.create_task(branch("top", theirs), name="world 2")
        theirs_leaf = asyncio.Task(leaf("leaf 2"), loop=loop, name="C 2")
        ours_top = loop.create_task(branch("top 2", theirs_leaf), name="world 3")
        names = (
            sorted(t.get_name() for t in asyncio.all_tasks(loop)),
            sorted(t.get_name() for t in w.aio.all_tasks(loop)),
        )
        assert len(names[0]) == len(names[1]) == 5
        result = loop.run_until_complete(asyncio.gather(top, ours_top))
        return names, order, result


@parity
def test_cancelling_through_mixed_tasks(w):
    with w.loop() as loop:
        order = []

        async def leaf():
            try:
                await loop.create_future()
            except asyncio.CancelledError as exc:
                order.append(("leaf", exc.args))
                raise

        async def branch(name, inner):
            try:
                return await inner
            except asyncio.CancelledError as exc:
                order.append((name, exc.args))
                raise

        inner = loop.create_task(leaf())
        middle = asyncio.Task(branch("C", inner), loop=loop)
        outer = loop.create_task(branch("world", middle))
        drain(loop, 4)
        outer.cancel("down")
        drain(loop, 6)
        return order, [t.cancelled() for t in (inner, middle, outer)]


@parity
def test_stock_gather_wait_and_groups_over_the_worlds_tasks(w):
    with w.loop() as loop:

        async def child(value):
            await w.aio.sleep(0)
            return value

        async def main():
            gathered = await asyncio.gather(w.aio.create_task(child(1)), child(2), asyncio.Task(child(3)))
            done_set, pending = await asyncio.wait([w.aio.create_task(child(n)) for n in range(3)])
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(child(n)) for n in range(3)]
            shielded = await asyncio.shield(w.aio.create_task(child("shielded")))
            waited = await asyncio.wait_for(w.aio.create_task(child("in time")), 10)
            async with asyncio.timeout(10):
                await child(None)
            return (
                gathered,
                sorted(t.result() for t in done_set),
                pending,
                [t.result() for t in tasks],
                shielded,
                waited,
            )

        return loop.run_until_complete(main())


@parity
def test_stock_primitives_between_the_worlds_tasks(w):
    with w.loop() as loop:

        async def main():
            lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue(1)
            seen = []

            async def user(name):
                await event.wait()
                async with lock:
                    await queue.put(name)

            tasks = [w.aio.create_task(user(n)) for n in range(4)]
            await asyncio.sleep(0)
            event.set()
            for _ in tasks:
                seen.append(await queue.get())
            await asyncio.gather(*tasks)
            return seen

        return loop.run_until_complete(main())


@parity
def test_a_duck_typed_future(w):
    """isfuture() asks only for _asyncio_future_blocking; Task needs add_done_callback, result, cancel and a loop."""

    class Duck:
        _asyncio_future_blocking = None

        def __init__(self, loop):
            self.loop, self.callbacks, self.calls = loop, [], []
            self._asyncio_future_blocking = False
            self._loop = loop

        def get_loop(self):
            self.calls.append("get_loop")
            return self.loop

        def add_done_callback(self, fn, *, context=None):
            self.calls.append("add_done_callback")
            self.callbacks.append((fn, context))

        def result(self):
            self.calls.append("result")
            return "duck"

        def cancel(self, msg=None):
            self.calls.append("cancel")
            return False

        def finish(self):
            for fn, context in self.callbacks:
                self.loop.call_soon(fn, self, context=context)

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self
            return "awaited"

    with w.loop() as loop:
        duck = Duck(loop)

        async def body():
            return await duck

        task = loop.create_task(body())
        drain(loop, 2)
        trace = [w.aio.isfuture(duck), duck._asyncio_future_blocking, task._fut_waiter is duck]
        loop.call_soon(duck.finish)
        trace.append(loop.run_until_complete(task))
        assert "add_done_callback" in duck.calls
        return trace, [call for call in duck.calls if call != "get_loop"]


@parity
def test_a_future_whose_add_done_callback_raises(w):
    class Broken(w.aio.Future):
        def add_done_callback(self, fn, *, context=None):
            raise ZeroDivisionError("no callbacks today")

    errors = []
    with w.loop(errors=errors) as loop:
        coroutine = wait_for(Broken(loop=loop))
        task = loop.create_task(coroutine, name="waiter")
        drain(loop, 3)
        task._log_destroy_pending = False
        del task
        coroutine.close()
        gc.collect()
    assert any(exc[0] == "ZeroDivisionError" for message, exc, keys in errors if exc)
    return ["reported"]


@parity
def test_a_task_that_can_never_go_on_does_not_keep_its_loop_from_ending(w):
    class Broken:
        _asyncio_future_blocking = True

        def get_loop(self):
            raise ZeroDivisionError("whose loop?")

        def __await__(self):
            yield self

    errors = []

    async def main():
        task = w.aio.get_running_loop().create_task(wait_for(Broken()), name="stuck")
        task._log_destroy_pending = False
        await w.aio.sleep(0)
        trace = [task in w.aio.all_tasks(), task.done()]
        del task
        gc.collect()  # the exception that was reported holds the task's frames
        trace.append([each.get_name() for each in w.aio.all_tasks() if each is not w.aio.current_task()])
        return trace

    with w.loop(errors=errors) as loop:
        trace = loop.run_until_complete(main())
        assert [exc[0] for message, exc, keys in errors] == ["ZeroDivisionError"]
        errors.clear()
        return trace, len(w.aio.all_tasks(loop))


def test_a_blocking_flag_that_cannot_be_read(ours):
    """Not as asyncio, where the task never ends (docs/compat.md)."""

    class Broken:
        @property
        def _asyncio_future_blocking(self):
            raise ZeroDivisionError("no flag")

        def __await__(self):
            yield self

    with ours.loop() as loop:
        assert loop.run_until_complete(araised(Broken())) == ("ZeroDivisionError", "no flag")


@parity
def test_a_generator_based_coroutine(w):
    @types.coroutine
    def generator(fut):
        first = yield from fut
        yield
        second = yield from w.aio.sleep(0, "slept").__await__()
        return first, second

    with w.loop() as loop:
        fut = loop.create_future()
        loop.call_soon(fut.set_result, "future")

        async def body():
            return await generator(fut)

        return loop.run_until_complete(body())


@parity
def test_an_awaitable_class_around_a_future(w):
    class Wrapper:
        def __init__(self, inner):
            self.inner = inner

        def __await__(self):
            return self.inner.__await__()

    class Iterator:
        """Passes every call through by hand, as wrappers for tracing do."""

        def __init__(self, inner):
            self.inner = inner.__await__()

        def __await__(self):
            return self

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.inner)

    with w.loop() as loop:
        futures = [loop.create_future() for _ in range(2)]
        for fut in futures:
            loop.call_soon(fut.set_result, "value")

        async def body():
            return await Wrapper(futures[0]), await Iterator(futures[1]), await Wrapper(w.aio.sleep(0, "slept"))

        return loop.run_until_complete(body())


@parity
def test_things_that_are_not_awaitable(w):
    class NoIterator:
        def __await__(self):
            return 5

    class IsCoroutine:
        def __await__(self):
            return coroutine

    async def inner():
        return 1

    coroutine = inner()

    async def body():
        answers = []
        for thing in (1, None, NoIterator(), IsCoroutine(), [], iter(())):
            try:
                await thing
            except TypeError as exc:
                answers.append(str(exc))
        return answers

    try:
        return w.run(body)
    finally:
        coroutine.close()


@parity
def test_awaiting_a_coroutine_twice(w):
    async def inner():
        await w.aio.sleep(0)

    async def body():
        coroutine = inner()
        await coroutine
        again = await araised(coroutine)
        running = inner()
        task = w.aio.create_task(running)
        await w.aio.sleep(0)
        concurrently = await araised(running)
        await task
        return again, concurrently

    return w.run(body)


@parity
def test_sleep_driven_by_hand(w):
    """sleep(0) yields None once; a longer one yields a future of the running loop."""
    with w.loop() as loop:
        coroutine = w.aio.sleep(0, "r")
        trace = [coroutine.send(None)] if inspect.iscoroutine(coroutine) else [next(coroutine.__await__())]

        async def main():
            async def sleeper():
                return await w.aio.sleep(0.001, "slept")

            inner = sleeper()
            fut = inner.send(None)
            trace.append((asyncio.isfuture(fut), fut.get_loop() is loop, fut._asyncio_future_blocking))
            fut._asyncio_future_blocking = False
            while not fut.done():
                await asyncio.sleep(0.001)
            with pytest.raises(StopIteration) as stop:
                inner.send(None)
            trace.append(stop.value.value)

        if inspect.iscoroutine(coroutine):
            trace.append(raised(coroutine.send, None)[0])
        loop.run_until_complete(main())
        return trace[0], trace[-2:]


@parity
def test_a_hand_written_driver_runs_real_code(w):
    """A tiny scheduler of somebody else: it sends None and waits for the futures it is given."""
    with w.loop() as loop:

        async def work(name):
            await w.aio.sleep(0)
            fut = loop.create_future()
            loop.call_soon(fut.set_result, "value")
            first = await fut
            await w.aio.sleep(0.001)
            return name, first

        def drive(coroutine, finished):
            def step(_=None):
                try:
                    yielded = coroutine.send(None)
                except StopIteration as stop:
                    finished.set_result(stop.value)
                    return
                if yielded is None:
                    loop.call_soon(step)
                else:
                    yielded._asyncio_future_blocking = False
                    yielded.add_done_callback(step)

            step()

        async def main():
            results = [loop.create_future() for _ in range(3)]
            for number, finished in enumerate(results):
                drive(work(number), finished)
            return [await r for r in results]

        return loop.run_until_complete(main())


@parity
def test_concurrent_futures(w):
    with w.loop() as loop:

        async def main():
            trace = []
            for finish in (
                lambda f: f.set_result("r"),
                lambda f: f.set_exception(KeyError("k")),
                lambda f: f.cancel(),
                lambda f: f.set_exception(concurrent.futures.CancelledError("c")),
                lambda f: f.set_exception(concurrent.futures.TimeoutError("t")),
                lambda f: f.set_exception(concurrent.futures.InvalidStateError("i")),
            ):
                source = concurrent.futures.Future()
                wrapped = w.aio.wrap_future(source)
                thread = threading.Thread(target=finish, args=(source,))
                thread.start()
                try:
                    trace.append(await wrapped)
                except BaseException as exc:
                    trace.append((type(exc).__name__, str(exc)))
                thread.join()
            source = concurrent.futures.Future()
            wrapped = w.aio.wrap_future(source)
            wrapped.cancel()
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            trace.append(source.cancelled())
            trace.append(w.aio.wrap_future(wrapped) is wrapped)
            trace.append(raised(w.aio.wrap_future, 1)[0])
            done_already = concurrent.futures.Future()
            done_already.set_result("done")
            trace.append(await w.aio.wrap_future(done_already))
            return trace

        return loop.run_until_complete(main())


@parity
def test_a_wrapped_future_after_its_loop_closed(w):
    source = concurrent.futures.Future()
    with w.loop() as loop:
        wrapped = w.aio.wrap_future(source, loop=loop)
    answer = outcome(source.set_result, "late")
    return answer, wrapped.done()


@parity
def test_iscoroutine_and_friends(w):
    async def coroutine():
        pass

    @types.coroutine
    def generator_based():
        yield

    class Custom(collections.abc.Coroutine):
        def send(self, value):
            raise StopIteration("custom")

        def throw(self, *args):
            raise args[0]

        def close(self):
            pass

        def __await__(self):
            return self

    things = [coroutine(), generator_based(), Custom(), coroutine, 1]
    answers = [w.aio.iscoroutine(thing) for thing in things]
    things[0].close()
    with w.loop() as loop:
        answers.append(loop.run_until_complete(Custom()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        answers += [w.aio.iscoroutinefunction(thing) for thing in (coroutine, generator_based, 1)]
    return answers


@parity
def test_greenlet_style_switch_inside_a_callback(w):
    """A step that runs another coroutine to its end without the loop, as sync bridges do, keeps the current task."""
    with w.loop() as loop:
        seen = []

        async def inner():
            seen.append(w.aio.current_task().get_name())
            return "inner"

        async def main():
            coroutine = inner()
            try:
                coroutine.send(None)
            except StopIteration as stop:
                seen.append(stop.value)
            await w.aio.sleep(0)
            seen.append(w.aio.current_task().get_name())

        loop.run_until_complete(loop.create_task(main(), name="main"))
        return seen


@parity
def test_entering_and_leaving_tasks_by_hand(w):
    """anyio and others run code "as" another task through these."""
    with w.loop() as loop:
        seen = []

        async def other():
            await loop.create_future()

        async def main():
            here = w.aio.current_task()
            there = loop.create_task(other(), name="there")
            asyncio.tasks._leave_task(loop, here)
            seen.append(w.aio.current_task())
            asyncio.tasks._enter_task(loop, there)
            seen.append((w.aio.current_task() is there, asyncio.current_task() is there))
            seen.append(raised(asyncio.tasks._enter_task, loop, here))
            asyncio.tasks._leave_task(loop, there)
            asyncio.tasks._enter_task(loop, here)
            seen.append(w.aio.current_task() is here)
            await w.aio.sleep(0)
            seen.append(w.aio.current_task() is here)

        loop.run_until_complete(loop.create_task(main(), name="here"))
        return seen


@parity
def test_nested_run_until_complete_as_nest_asyncio_does_it(w):
    """The running loop and the current task are taken off, the same loop turns inside itself, and all is put back."""
    with w.loop() as loop:
        seen = []

        async def inner(name):
            await w.aio.sleep(0)
            seen.append((name, w.aio.current_task().get_name()))
            return name

        async def main():
            task = w.aio.current_task()
            other = w.new_event_loop()
            running = asyncio._get_running_loop()
            asyncio.tasks._leave_task(loop, task)
            asyncio._set_running_loop(None)
            try:
                seen.append(other.run_until_complete(other.create_task(inner("inner"), name="inner task")))
            finally:
                asyncio._set_running_loop(running)
                asyncio.tasks._enter_task(loop, task)
                other.close()
            await w.aio.sleep(0)
            seen.append(w.aio.current_task() is task)

        loop.run_until_complete(main())
        return seen
