"""CancelScope: level-triggered, nested, shielded, with a deadline; beside task.cancel(), timeouts and task groups."""

import asyncio
import gc
import math
import sys
import weakref

import pytest
from worlds import World, drain

aio = pytest.importorskip("asynchrotron")
CancelScope = aio.CancelScope


@pytest.fixture(params=["native", "our loop, C tasks", "stock loop", "stock loop, our tasks"])
def world(request):
    """A CancelScope works wherever a task runs."""
    if request.param == "native":
        return World("native", aio, aio.new_event_loop, "")
    if request.param == "our loop, C tasks":

        def new_event_loop():
            loop = aio.new_event_loop()
            loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))
            return loop

        return World("loop", asyncio, new_event_loop, "")
    if request.param == "stock loop":
        return World("stock", asyncio, asyncio.new_event_loop, "")

    def new_stock_loop():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(lambda loop, coro, **kwargs: aio.Task(coro, loop=loop, **kwargs))
        return loop

    return World("foreign", aio, new_stock_loop, "")


def run(main):
    """Make a test of a coroutine function; it gets the world's namespace."""

    def test(world):
        assert world.run(main, world.aio) is None

    test.__name__ = main.__name__
    return test


async def for_ever():
    await asyncio.get_running_loop().create_future()


def cancelling():
    return asyncio.current_task().cancelling()


@run
async def test_nothing_happens(w):
    with CancelScope() as scope:
        assert (scope.cancel_called, scope.cancelled_caught, scope.deadline, scope.shield) == (
            False,
            False,
            math.inf,
            False,
        )
        await w.sleep(0)
    assert not scope.cancel_called and not scope.cancelled_caught


@run
async def test_cancelled_from_elsewhere(w):
    with CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await for_ever()
        raise AssertionError("went on")
    assert scope.cancel_called and scope.cancelled_caught
    assert cancelling() == 0
    await w.sleep(0)
    await w.sleep(0.001)


@run
async def test_cancelled_by_itself(w):
    with CancelScope() as scope:
        scope.cancel()
        scope.cancel()
        before = "not cancelled before the next await"
        await w.sleep(0)
        raise AssertionError("went on")
    assert before and scope.cancelled_caught and cancelling() == 0
    with CancelScope() as scope:
        scope.cancel()
    assert scope.cancel_called and not scope.cancelled_caught
    await w.sleep(0)
    await w.sleep(0)
    assert cancelling() == 0


@run
async def test_cancelled_before_it_began(w):
    scope = CancelScope()
    scope.cancel()
    with scope:
        await for_ever()
    assert scope.cancelled_caught


@run
async def test_every_await_is_cancelled(w):
    caught = []
    loop = asyncio.get_running_loop()
    with CancelScope() as scope:
        scope.cancel()
        for wait in (
            lambda: w.sleep(0),
            for_ever,
            lambda: w.sleep(5),
            lambda: w.wait_for(for_ever(), 5),
            lambda: w.sleep(0),
        ):
            try:
                await wait()
            except asyncio.CancelledError:
                caught.append(wait)
        lock = w.Lock()
        await lock.acquire()  # what need not wait is not cancelled
        done = loop.create_future()
        done.set_result(1)
        assert await done == 1
        try:
            await lock.acquire()
        except asyncio.CancelledError:
            caught.append("lock")
    assert len(caught) == 6
    # Everything was caught inside.
    assert scope.cancel_called and not scope.cancelled_caught and cancelling() == 0
    await w.sleep(0)
    await w.sleep(0)


@run
async def test_hundreds_of_times(w):
    caught = 0
    with CancelScope() as scope:
        scope.cancel()
        for _ in range(60):
            try:
                await for_ever()
            except asyncio.CancelledError:
                caught += 1
    assert caught == 60 and cancelling() == 0


@run
async def test_a_result_that_is_there_is_not_lost(w):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    with CancelScope() as scope:

        def both():
            future.set_result("result")
            scope.cancel()

        loop.call_soon(both)
        assert await future == "result"
        await w.sleep(0)
    assert scope.cancelled_caught


@run
async def test_deadline(w):
    loop = asyncio.get_running_loop()
    with CancelScope(deadline=loop.time() + 0.005) as scope:
        await for_ever()
    assert scope.cancelled_caught and loop.time() >= scope.deadline
    with CancelScope(deadline=loop.time() - 1) as scope:
        assert scope.cancel_called
        await w.sleep(0)
    assert scope.cancelled_caught
    with CancelScope(deadline=-math.inf) as scope:
        await w.sleep(0)
    assert scope.cancelled_caught
    with CancelScope(deadline=loop.time() + 60) as scope:
        scope.deadline = loop.time() + 70
        await w.sleep(0)
        assert not scope.cancel_called
        scope.deadline = math.inf
        await w.sleep(0)
        scope.deadline = loop.time() + 0.002
        await for_ever()
    assert scope.cancelled_caught
    with CancelScope(deadline=loop.time() + 60) as scope:
        scope.deadline = 0
        await for_ever()
    assert scope.cancelled_caught
    with CancelScope(deadline=loop.time() + 0.001) as scope:
        pass
    await w.sleep(0.003)
    assert not scope.cancel_called and cancelling() == 0


@run
async def test_nested(w):
    with CancelScope() as outer:
        with CancelScope() as inner:
            inner.cancel()
            await for_ever()
        assert inner.cancelled_caught
        await w.sleep(0)
        await w.sleep(0)
        with CancelScope() as inner:
            outer.cancel()
            await for_ever()
        raise AssertionError("went on")
    assert outer.cancelled_caught and not inner.cancel_called and not inner.cancelled_caught
    assert cancelling() == 0
    with CancelScope() as outer:
        with CancelScope() as inner:
            inner.cancel()
            outer.cancel()
            await for_ever()
        raise AssertionError("went on")
    assert outer.cancelled_caught and not inner.cancelled_caught and inner.cancel_called
    with CancelScope() as outer:
        try:
            with CancelScope() as inner:
                inner.cancel()
                try:
                    await for_ever()
                finally:
                    outer.cancel()
        except asyncio.CancelledError:
            pass
        with pytest.raises(asyncio.CancelledError):
            await w.sleep(0)
    assert not outer.cancelled_caught and cancelling() == 0
    await w.sleep(0)


@run
async def test_shield(w):
    with CancelScope() as outer:
        with CancelScope(shield=True) as inner:
            outer.cancel()
            await w.sleep(0)
            await w.sleep(0.002)
            reached = True
        assert not inner.cancel_called
        await w.sleep(0)
        raise AssertionError("went on")
    assert reached and outer.cancelled_caught
    with CancelScope() as outer:
        outer.cancel()
        try:
            await for_ever()
        finally:
            with CancelScope(shield=True, deadline=asyncio.get_running_loop().time() + 0.005) as inner:
                await for_ever()
            assert inner.cancelled_caught
    assert outer.cancelled_caught and cancelling() == 0
    with CancelScope() as outer:
        outer.cancel()
        with CancelScope(shield=True) as inner:
            await w.sleep(0)
            with CancelScope():
                await w.sleep(0)
            inner.shield = False
            await for_ever()
        raise AssertionError("went on")
    assert outer.cancelled_caught and not inner.cancelled_caught
    with CancelScope() as outer:
        outer.cancel()
        with CancelScope() as inner:
            inner.shield = True
            await w.sleep(0)
            await w.sleep(0)
            inner.cancel()
            await for_ever()
        # A shield that was cancelled itself ends that cancellation, as anyio's does.
        assert inner.cancelled_caught
        await w.sleep(0)
        raise AssertionError("went on")
    assert outer.cancelled_caught and cancelling() == 0


@run
async def test_a_shielded_scope_catches_its_own_cancellation(w):
    """Also in a cancelled scope: what comes after it, in a clean-up say, is still run."""
    reached = []
    with CancelScope() as outer:
        outer.cancel()
        try:
            await for_ever()
        finally:
            with CancelScope(shield=True, deadline=asyncio.get_running_loop().time() + 0.002) as inner:
                await for_ever()
            reached.append(inner.cancelled_caught)
            with CancelScope(shield=True) as inner:
                inner.cancel()
                with CancelScope() as innermost:
                    await for_ever()
            reached.append((inner.cancelled_caught, innermost.cancelled_caught))
    assert reached == [True, (True, False)]
    assert outer.cancelled_caught and cancelling() == 0
    with CancelScope() as outer:
        with CancelScope(shield=True) as inner:
            outer.cancel()
            inner.cancel()
            inner.shield = False
            await for_ever()
        raise AssertionError("went on")
    assert outer.cancelled_caught and not inner.cancelled_caught and cancelling() == 0


def outside(world, main):
    """Run `main`, cancel its task once it waits, and return the task."""
    with world.loop() as loop:
        task = loop.create_task(main())
        drain(loop, 5)
        task.cancel("outside")
        drain(loop, 10)
        assert task.done()
        return task


def test_cancelled_from_outside(world):
    scopes = []

    async def main():
        with CancelScope() as scope:
            scopes.append(scope)
            await for_ever()

    assert outside(world, main).cancelled()
    assert not scopes[0].cancel_called and not scopes[0].cancelled_caught


@pytest.mark.parametrize("first", ["scope", "outside"])
def test_cancelled_from_outside_and_by_the_scope(world, first):
    scopes = []

    async def main():
        with CancelScope() as scope:
            scopes.append(scope)
            await for_ever()

    with world.loop() as loop:
        task = loop.create_task(main())
        drain(loop, 5)
        for act in (scopes[0].cancel, task.cancel) if first == "scope" else (task.cancel, scopes[0].cancel):
            act()
        drain(loop, 10)
        assert task.cancelled() and task.cancelling() == 1
        assert not scopes[0].cancelled_caught


def test_cancelled_from_outside_earlier(world):
    seen = []

    async def main():
        try:
            await for_ever()
        except asyncio.CancelledError:
            seen.append(cancelling())
        with CancelScope() as scope:
            scope.cancel()
            await for_ever()
        seen.append((scope.cancelled_caught, cancelling()))

    outside(world, main)
    assert seen == [1, (True, 1)]


def test_cancelled_from_outside_and_uncancelled_inside(world):
    seen = []

    async def main():
        with CancelScope() as scope:
            try:
                await for_ever()
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()
            await asyncio.sleep(0)
            scope.cancel()
            await for_ever()
        seen.append((scope.cancelled_caught, cancelling()))

    outside(world, main)
    assert seen == [(True, 0)]


@run
async def test_a_timeout_inside(w):
    with CancelScope() as scope:
        with pytest.raises(TimeoutError):
            async with w.timeout(0):
                await for_ever()
        assert cancelling() == 0 and not scope.cancel_called
        with pytest.raises(TimeoutError):
            await w.wait_for(for_ever(), 0.001)
        async with w.timeout(60):
            scope.cancel()
            await for_ever()
        raise AssertionError("went on")
    assert scope.cancelled_caught and cancelling() == 0


@run
async def test_a_timeout_inside_that_expires_too(w):
    with CancelScope() as scope:
        async with w.timeout(0):
            asyncio.get_running_loop().call_soon(scope.cancel)
            try:
                await for_ever()
            finally:
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    pass
    assert scope.cancelled_caught and cancelling() == 0


@run
async def test_a_timeout_around(w):
    with pytest.raises(TimeoutError):
        async with w.timeout(0.001):
            with CancelScope() as scope:
                await for_ever()
    assert not scope.cancel_called and not scope.cancelled_caught and cancelling() == 0
    async with w.timeout(60):
        with CancelScope() as scope:
            scope.cancel()
            await for_ever()
        await w.sleep(0)
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        async with w.timeout(0):
            with CancelScope() as scope:
                scope.cancel()
                await for_ever()
            await w.sleep(0)
    assert cancelling() == 0


@run
async def test_a_task_group_inside(w):
    ended = []

    async def child(name):
        try:
            await for_ever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.002)
            raise
        finally:
            ended.append(name)

    with CancelScope() as scope:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("a"))
            group.create_task(child("b"))
            await w.sleep(0)
            scope.cancel()
    assert scope.cancelled_caught and sorted(ended) == ["a", "b"] and cancelling() == 0
    await w.sleep(0)
    with CancelScope() as scope:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("c"))
            asyncio.get_running_loop().call_later(0.001, scope.cancel)
            await for_ever()
    assert scope.cancelled_caught and ended[2:] == ["c"] and cancelling() == 0


@run
async def test_a_task_group_that_fails(w):
    async def fail():
        raise KeyError("k")

    async def slow():
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise ValueError("while it was cancelled") from None

    with pytest.raises(ExceptionGroup):
        with CancelScope() as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await for_ever()
    assert not scope.cancel_called and cancelling() == 0
    with pytest.raises(ExceptionGroup):
        with CancelScope() as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(slow())
                await w.sleep(0)
                scope.cancel()
                await for_ever()
    assert not scope.cancelled_caught and cancelling() == 0
    await w.sleep(0)
    await w.sleep(0)


@run
async def test_in_a_child(w):
    scopes = []

    async def child():
        with CancelScope() as scope:
            scopes.append(scope)
            await for_ever()
        return "ended"

    async with asyncio.TaskGroup() as group:
        task = group.create_task(child())
        await w.sleep(0)
        await w.sleep(0)
        scopes[0].cancel()
    assert task.result() == "ended" and scopes[0].cancelled_caught


@run
async def test_other_exceptions(w):
    with pytest.raises(KeyError):
        with CancelScope() as scope:
            scope.cancel()
            try:
                await for_ever()
            except asyncio.CancelledError:
                raise KeyError("k") from None
    assert scope.cancel_called and not scope.cancelled_caught and cancelling() == 0
    with pytest.raises(asyncio.CancelledError):
        with CancelScope() as scope:
            scope.cancel()
            raise asyncio.CancelledError("not the scope's doing")
    assert not scope.cancelled_caught
    await w.sleep(0)


@run
async def test_awaited_tasks_are_cancelled_too(w):
    caught = 0

    async def stubborn():
        nonlocal caught
        for _ in range(5):
            try:
                await for_ever()
            except asyncio.CancelledError:
                caught += 1
        return "at last"

    with CancelScope() as scope:
        task = w.create_task(stubborn())
        await w.sleep(0)
        scope.cancel()
        assert await task == "at last"
    assert caught == 5 and not scope.cancelled_caught and cancelling() == 0


@run
async def test_misuse(w):
    scope = CancelScope()
    with scope:
        with pytest.raises(RuntimeError, match="only once"):
            scope.__enter__()
    with pytest.raises(RuntimeError, match="only once"):
        scope.__enter__()
    with pytest.raises(RuntimeError, match="by the task"):
        scope.__exit__(None, None, None)
    outer, inner = CancelScope(), CancelScope()
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="around"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)

    async def leave():
        outer.__exit__(None, None, None)

    with pytest.raises(RuntimeError, match="by the task"):
        await w.create_task(leave())
    outer.__exit__(None, None, None)
    assert repr(CancelScope()) == "<CancelScope [idle] deadline=inf shield=False>"


def test_without_a_task(world):
    with pytest.raises(RuntimeError):
        CancelScope().__enter__()
    with world.loop() as loop:
        told = []

        def callback():
            try:
                CancelScope().__enter__()
            except RuntimeError as exc:
                told.append(str(exc))

        loop.call_soon(callback)
        drain(loop, 2)
        assert told == ["a CancelScope needs a task that runs"]


def test_dropped_with_its_task(world):
    if world.name in ("stock", "foreign") and sys.version_info >= (3, 12):
        pytest.skip("one kind of loop will do")
    keep = []

    async def main():
        with CancelScope(deadline=asyncio.get_running_loop().time() + 60) as scope:
            keep.append(weakref.ref(scope))
            await for_ever()

    loop = world.new_event_loop()
    task = loop.create_task(main())
    drain(loop, 3)
    task._log_destroy_pending = False
    loop.close()
    del task, loop
    gc.collect()
    assert keep[0]() is None


def test_a_deadline_that_is_no_number():
    with pytest.raises(TypeError, match="must be a number, not str"):
        CancelScope(deadline="soon")  # type: ignore[arg-type]
    scope = CancelScope()
    with pytest.raises(TypeError, match="must be a number, not None"):
        scope.deadline = None  # type: ignore[assignment]
    assert scope.deadline == float("inf")
