"""TaskGroup: what is raised and when, cancellation at every await, refusals, subclasses, eager tasks, references.

Each body also runs with the world's class on the stdlib's loop: there tasks are the C module's.
"""

import asyncio
import gc
import inspect
import sys
import weakref

import pytest
from companies import LOOPS, place
from task_makers import failing, stubborn, value
from worlds import Generations, araised, normal, outcome, parity, raised, since


async def cleaning_up(exc, turns):
    """Fails when it is cancelled."""
    try:
        await value(None, turns)
    finally:
        raise exc


def tree(exc):
    """An exception with those in it, and how it was raised."""
    if exc is None:
        return None
    inner = [tree(each) for each in exc.exceptions] if isinstance(exc, BaseExceptionGroup) else None
    context = type(exc.__context__).__name__, type(exc.__cause__).__name__, exc.__suppress_context__
    return (type(exc).__name__, normal(exc), inner, context)


async def caught(coro):
    try:
        return await coro
    except BaseException as exc:
        return tree(exc)


def shown(task):
    if task.cancelled():
        return "cancelled"
    if not task.done():
        return "pending"
    return repr(task.exception() or task.result())


def state(group):
    return (
        repr(group),
        group._entered,
        group._exiting,
        group._aborting,
        group._parent_cancel_requested,
        len(group._tasks),
        None if group._errors is None else [repr(exc) for exc in group._errors],
        repr(group._base_error),
        group._loop is None,
        group._parent_task is None,
        group._on_completed_fut is None,
    )


TASKS = {
    "none": list,
    "values": lambda: [value(1, 3), value(2), value(3, 5), value(4, 3)],
    "many at once": lambda: [value(n, n % 2) for n in range(30)],
    "one fails": lambda: [value(1, 3), failing(KeyError("k"), 2), value(3, 9)],
    "the last fails": lambda: [value(1, 2), failing(KeyError("k"), 5)],
    "several fail": lambda: [failing(KeyError(n), 3) for n in range(3)] + [cleaning_up(ValueError("v"), 6)],
    "some are stubborn": lambda: [failing(KeyError(1), 1), stubborn(6), value(1, 8)],
    "one is cancelled": lambda: [failing(asyncio.CancelledError("c"), 2), value(2, 4)],
}
BODIES = {
    "passes": lambda: value(None),
    "takes long": lambda: value(None, 4),
    "fails": lambda: failing(RuntimeError("body"), 2),
    "fails at once": lambda: failing(RuntimeError("body")),
    "is cancelled": lambda: failing(asyncio.CancelledError("body"), 2),
}


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("tasks", TASKS)
def test_turns_and_errors(w, tasks, body, where):
    async def main():
        log = Generations(asyncio.get_running_loop())
        started = []
        group = w.aio.TaskGroup()
        trace = [state(group)]

        async def use():
            async with group as entered:
                assert entered is group
                for number, coro in enumerate(TASKS[tasks]()):
                    started.append(group.create_task(coro))
                    started[-1].add_done_callback(lambda task, number=number: log(number))
                trace.append(state(group))
                try:
                    await BODIES[body]()
                finally:
                    log("body")

        user = asyncio.create_task(use())
        user.add_done_callback(lambda task: log("user"))
        trace.append(await caught(user))
        log("end")
        trace += [user.cancelled(), user.cancelling(), state(group), [shown(task) for task in started]]
        return [*trace, log.log]

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("tasks", ["values", "one fails", "several fail", "some are stubborn"])
@pytest.mark.parametrize("turns", [(0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,), (2, 3), (3, 3), (4, 6)])
def test_cancelled_from_outside(w, turns, tasks, where):
    async def main():
        log = Generations(asyncio.get_running_loop())
        group = w.aio.TaskGroup()
        started = []

        async def use():
            async with group:
                started.extend(group.create_task(coro) for coro in TASKS[tasks]())
                await value(None, 2)
            log("left")
            await value(None, 2)

        user = asyncio.create_task(use())
        for turn in range(max(turns) + 1):
            for _ in range(turns.count(turn)):
                log((user.cancel(f"at {turn}"), user.cancelling()))
            await value(None, 1)
        trace = [await caught(user), user.cancelling(), state(group), [shown(task) for task in started]]
        return [*trace, log.log]

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_groups_in_groups(w, where):
    async def inner(turns):
        async with w.aio.TaskGroup() as group:
            group.create_task(failing(KeyError("inner"), turns))
            group.create_task(value(1, 8))
            await value(None, 9)

    async def outer(first, second):
        async with w.aio.TaskGroup() as group:
            group.create_task(inner(first))
            group.create_task(failing(ValueError("outer"), second))
            async with w.aio.TaskGroup() as another:
                another.create_task(cleaning_up(OSError("late"), 12))
                await value(None, 10)

    async def main():
        trace = []
        for first, second in ((1, 4), (4, 1), (2, 2), (3, 2), (2, 3)):
            user = asyncio.create_task(outer(first, second))
            trace += [await caught(user), user.cancelling()]
        return trace

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("exit_class", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("from_body", [False, True])
def test_exits(w, from_body, exit_class, where):
    w = place(w, where)
    trace = []
    with w.loop() as loop:
        started = []

        async def use():
            async with w.aio.TaskGroup() as group:
                started.append(group.create_task(value(1, 5)))
                if from_body:
                    raise exit_class("body")
                started.append(group.create_task(failing(exit_class("task"), 1)))
                await value(None, 9)

        user = loop.create_task(use())
        for _ in range(3):
            try:
                trace.append(shown(user) if user.done() else loop.run_until_complete(user))
            except BaseException as exc:
                trace.append((type(exc).__name__, str(exc)))
        trace += [shown(task) for task in started]
    return trace


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("debug", [False, True])
def test_refusals(w, debug, where):
    async def main():
        group = w.aio.TaskGroup()
        coros = [value(n) for n in range(6)]
        trace = [raised(group.create_task, coros[0])]
        async with group:
            trace += [
                raised(group.create_task),
                raised(group.create_task, coros[1], 2),
                raised(group.create_task, 3),
                await araised(group.__aenter__()),
            ]
            if sys.version_info < (3, 14):  # from then on the loop refuses it, in its own words
                trace.append(raised(group.create_task, coros[1], nothing=2))
            task = group.create_task(coro=coros[1], name="by name")
            trace += [task.get_name(), group.create_task(coros[2], name=None).get_name()[:5]]
        trace += [raised(group.create_task, coros[3]), await araised(group.__aenter__())]
        group = w.aio.TaskGroup()

        async def late():
            try:
                await value(None, 9)
            finally:
                trace.append(raised(group.create_task, coros[4]))

        async def use():
            async with group:
                group.create_task(late())
                group.create_task(failing(KeyError(1), 1))

        trace.append(await caught(use()))
        trace += [raised(group.__aexit__), raised(w.aio.TaskGroup, 1), raised(w.aio.TaskGroup, loop=1)]
        trace += [inspect.iscoroutinefunction(group.__aexit__), str(inspect.signature(group.__aenter__))]
        trace.append([inspect.getcoroutinestate(coro) for coro in coros])
        for coro in coros:
            coro.close()
        return trace

    return place(w, where).run(main, debug=debug)


@parity
def test_outside_of_a_task(w):
    with w.loop() as loop:
        trace = []

        def call():
            group = w.aio.TaskGroup()
            coro = group.__aenter__()
            trace.append((raised(coro.send, None), state(group)))
            loop.stop()

        loop.call_soon(call)
        loop.run_forever()
        group = w.aio.TaskGroup()
        trace.append((raised(group.__aenter__().send, None), state(group)))
        return trace


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_task_of_a_group_outlives_the_parent(w, where):
    w = place(w, where)
    reports = []

    async def main():
        group = w.aio.TaskGroup()

        async def use():
            await group.__aenter__()
            group.create_task(failing(KeyError(1), 3))

        await asyncio.create_task(use())
        await value(None, 5)
        return [normal(repr(group)), reports]

    return w.run(main, errors=reports)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_new_tasks_while_leaving(w, where):
    async def main():
        log = Generations(asyncio.get_running_loop())

        async def next_one(left):
            await value(None, left)
            if left:
                group.create_task(next_one(left - 1)).add_done_callback(lambda task: log(left))

        async with w.aio.TaskGroup() as group:
            group.create_task(next_one(3))
            group.create_task(next_one(2))
        log("left")

        async def at_the_last_moment(task):
            await asyncio.wait([task])
            coro = value(1)
            log(outcome(lambda: group.create_task(coro).get_coro().__name__))
            coro.close()

        async with w.aio.TaskGroup() as group:
            task = group.create_task(value(1, 2))
            watching = asyncio.create_task(at_the_last_moment(task))
            task.add_done_callback(lambda task: log(len(group._tasks)))
        log("left")
        await watching
        return log.log

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_subclasses(w, where):
    trace = []

    class Telling(w.aio.TaskGroup):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def create_task(self, coro, *, name=None):
            trace.append(("create_task", name))
            return super().create_task(coro, name=name)

        def _on_task_done(self, task):
            trace.append(("_on_task_done", task.get_name()))
            super()._on_task_done(task)

        def _abort(self):
            trace.append("_abort")
            super()._abort()

        def _is_base_error(self, exc):
            trace.append(("_is_base_error", repr(exc)))
            return isinstance(exc, OSError) or super()._is_base_error(exc)

        async def __aenter__(self):
            trace.append("__aenter__")
            return await super().__aenter__()

        async def __aexit__(self, et, exc, tb):
            trace.append(("__aexit__", repr(exc)))
            try:
                return await super().__aexit__(et, exc, tb)
            finally:
                trace.append(("left", self.name))

    class Persistent(w.aio.TaskGroup):
        """Goes on when a task fails: written against the attributes."""

        failures = 0

        def _on_task_done(self, task):
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                self.failures += 1
            if self._on_completed_fut is not None and not self._tasks and not self._on_completed_fut.done():
                self._on_completed_fut.set_result(True)

    class Quiet(w.aio.TaskGroup):
        """Cancels what is left when asked to."""

        def stop(self):
            self._abort()
            self._parent_cancel_requested = True
            self._parent_task.cancel()

    async def use(coros):
        async with Telling("telling") as group:
            for number, coro in enumerate(coros):
                group.create_task(coro, name=f"n{number}")
            await value(None, 4)

    async def stopped():
        async with Quiet() as group:
            task = group.create_task(value(1, 9))
            group.create_task(value(1, 2)).add_done_callback(lambda task: group.stop())
            await value(None, 2)
        trace.append((shown(task), asyncio.current_task().cancelling()))

    async def main():
        for plan in TASKS.values():
            trace.append(await caught(asyncio.create_task(use(plan()))))
        trace.append(await caught(asyncio.create_task(use([failing(OSError("o"), 2), failing(KeyError(1), 2)]))))
        async with Persistent() as group:
            group.create_task(failing(KeyError(1)))
            group.create_task(value(1, 3))
            group.create_task(failing(KeyError(1), 5))
        trace.append((group.failures, repr(group), isinstance(group, w.aio.TaskGroup)))
        trace.append(await caught(asyncio.create_task(stopped())))
        return trace

    return place(w, where).run(main)


@since(3, 12)
@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("tasks", TASKS)
def test_eager_tasks(w, tasks, where):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(w.aio.eager_task_factory)
        log = Generations(loop)
        started = []

        async def use():
            async with w.aio.TaskGroup() as group:
                for coro in TASKS[tasks]():
                    started.append(group.create_task(coro))
                    log((len(group._tasks), shown(started[-1])))
                started.append(group.create_task(value("quick")))
                started.append(group.create_task(failing(KeyError("quick"))))
                log(len(group._tasks))
                await value(None, 2)

        trace = [await caught(use()), [shown(task) for task in started]]
        return [*trace, log.log]

    return place(w, where).run(main)


@since(3, 15)
@parity
@pytest.mark.parametrize("where", LOOPS)
def test_cancelling_the_group(w, where):
    async def main():
        trace = []
        for turn in range(6):
            group = w.aio.TaskGroup()

            async def use(group, started):
                async with group:
                    started += [group.create_task(value(1, 3)), group.create_task(stubborn(5))]
                    await value(None, 2)
                return "went on"

            started = []
            if turn == 0:
                group.cancel()
            user = asyncio.create_task(use(group, started))
            await value(None, turn)
            group.cancel()
            group.cancel()
            trace += [group._aborting, group._parent_cancel_requested, await caught(user), user.cancelling()]
            trace.append([shown(task) for task in started])
            group.cancel()
            trace.append(state(group))
        return trace

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_driven_by_hand(w, where):
    async def main():
        trace = []
        for ending in ("result", "throw", "cancel", "close"):
            group = w.aio.TaskGroup()
            await group.__aenter__()
            task = group.create_task(value(1, 2))
            coro = group.__aexit__(None, None, None)
            yielded = coro.send(None)
            trace.append(
                (asyncio.isfuture(yielded), yielded._asyncio_future_blocking, yielded is group._on_completed_fut)
            )
            yielded._asyncio_future_blocking = False
            if ending == "result":
                await value(None, 4)
                trace.append(raised(coro.send, None))
            elif ending == "throw":
                trace.append(raised(coro.throw, KeyError("thrown")))
            elif ending == "cancel":
                trace.append(asyncio.isfuture(coro.throw(asyncio.CancelledError("thrown"))))
                await value(None, 4)
                trace.append(raised(coro.send, None))
            else:
                coro.close()
            trace += [state(group), raised(coro.send, None)]
            await value(None, 4)
            trace.append(shown(task))
        return trace

    return place(w, where).run(main, errors=[])


@parity
def test_nothing_keeps_a_group_alive(w):
    class Marked(Exception):
        pass

    async def main():
        gc.collect()
        gc.disable()
        try:
            refs = []
            for plan in ("values", "one fails"):
                group = w.aio.TaskGroup()
                refs.append(weakref.ref(group))
                try:
                    async with group:
                        for coro in TASKS[plan]():
                            group.create_task(coro)
                except BaseExceptionGroup as exc:
                    del exc
                del group, coro
                await value(None, 3)
            return refs[0]() is None  # the stdlib's own does not always manage that for a group that failed
        finally:
            gc.enable()

    return w.run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
@pytest.mark.parametrize("look_at", [None, 0, 150])
def test_many_tasks_come_and_go(w, look_at, where):
    """In an order of its own, while others join: 300 in all."""

    async def main():
        ended = []

        async def member(number):
            await value(None, number * 7919 % 31)
            if number < 150:
                group.create_task(member(number + 150))
            if number == look_at:
                group._tasks.discard(group.create_task(value("nobody waits for it", 60)))
            ended.append(number)

        async with w.aio.TaskGroup() as group:
            if look_at == 0:
                assert group._tasks == set()
            for number in range(150):
                group.create_task(member(number))
        group = None
        try:
            async with w.aio.TaskGroup() as group:
                members = [group.create_task(value(number, number * 7919 % 31)) for number in range(200)]
                group.create_task(failing(KeyError("k"), 15))
                if look_at is not None:
                    await value(None, 5)
                    group._tasks
                await value(None, 40)
        except BaseExceptionGroup as exc:
            return [ended, tree(exc), [shown(task) for task in members]]

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("order", ["first", "last", "middle", "at random"])
@pytest.mark.parametrize("where", LOOPS)
def test_tasks_leave_in_any_order(w, order, where):
    count = 40
    turns = {
        "first": lambda index: index,
        "last": lambda index: count - index,
        "middle": lambda index: abs(index - count // 2),
        "at random": lambda index: index * 17 % count,
    }[order]

    async def main():
        left = []
        async with w.aio.TaskGroup() as group:
            for index in range(count):
                group.create_task(value(index, turns(index))).add_done_callback(lambda task: left.append(task.result()))
        return left, len(group._tasks), repr(group)

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_a_factory_that_gives_the_same_task_again(w, where):
    async def main():
        loop, made = asyncio.get_running_loop(), []

        def factory(loop, coro, **options):
            if made:
                coro.close()
            else:
                made.append(w.aio.Task(coro, loop=loop, **options))
            return made[0]

        async with w.aio.TaskGroup() as group:
            group.create_task(value("before"))
            loop.set_task_factory(factory)
            tasks = [group.create_task(value(index, 3)) for index in range(3)]
            loop.set_task_factory(None)
            group.create_task(value("after"))
            trace = [repr(group), len(set(tasks))]
        return [*trace, await tasks[0], repr(group)]

    return place(w, where).run(main)


@parity
@pytest.mark.parametrize("where", LOOPS)
def test_what_tasks_show(w, where):
    async def main():
        trace = []
        async with w.aio.TaskGroup() as group:
            task = group.create_task(value(1, 2))
            trace += [normal(repr(task)), len(task._callbacks), task._callbacks[0][0].__qualname__]
            trace += [group._loop is asyncio.get_running_loop(), group._parent_task is asyncio.current_task()]
            trace += [group._tasks == {task}, isinstance(group, asyncio.TaskGroup), type(group).__qualname__]
            if sys.version_info >= (3, 14):
                trace.append([each is asyncio.current_task() for each in task._asyncio_awaited_by])
        trace.append(task._callbacks)
        return trace

    return place(w, where).run(main)


@parity
def test_own_attributes(w):
    async def main():
        async with w.aio.TaskGroup() as group:
            group.mark = 1
            answer = vars(group)["mark"], "mark" in dir(group), group.__dict__["mark"]
            del group.mark
        return answer, hasattr(group, "mark"), "mark" in vars(group)

    return w.run(main)
