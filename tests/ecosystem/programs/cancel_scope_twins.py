"""What anyio's tests of CancelScope ask for, asked of anyio's and of ours on the same loop: both must leave the same
trace. What differs on purpose is in docs/extensions.md."""

import asyncio
import math

import anyio
import asynchrotron

from outcome import report


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def seen(scope) -> tuple[bool, bool]:
    return scope.cancel_called, scope.cancelled_caught


async def nothing_happens(Scope):
    with Scope() as scope:
        await asyncio.sleep(0)
    return seen(scope), scope.deadline == math.inf, scope.shield


async def cancelled_inside(Scope):
    with Scope() as scope:
        scope.cancel()
        await for_ever()
    return seen(scope), asyncio.current_task().cancelling()


async def cancelled_without_an_await(Scope):
    with Scope() as scope:
        scope.cancel()
    return seen(scope)


async def cancelled_before_it_began(Scope):
    scope = Scope()
    scope.cancel()
    with scope:
        await for_ever()
    return seen(scope)


async def every_await_is_cancelled(Scope):
    caught = 0
    with Scope() as scope:
        scope.cancel()
        for _ in range(5):
            try:
                await for_ever()
            except asyncio.CancelledError:
                caught += 1
    return caught, seen(scope)


async def deadlines(Scope):
    loop, trace = asyncio.get_running_loop(), []
    for deadline in (loop.time() + 0.005, loop.time() - 1, -math.inf):
        with Scope(deadline=deadline) as scope:
            await for_ever()
        trace.append(seen(scope))
    with Scope(deadline=loop.time() + 60) as scope:
        scope.deadline = loop.time() + 0.005
        await for_ever()
    trace.append(seen(scope))
    with Scope() as scope:
        scope.deadline = loop.time() - 1
        await for_ever()
    trace.append(seen(scope))
    return trace


async def inner_and_outer(Scope):
    with Scope() as outer:
        with Scope() as inner:
            inner.cancel()
            await for_ever()
        await asyncio.sleep(0)
    trace = [seen(outer), seen(inner)]
    with Scope() as outer:
        with Scope() as inner:
            outer.cancel()
            await for_ever()
        trace.append("went on")
    trace += [seen(outer), seen(inner)]
    with Scope() as outer:
        with Scope() as inner:
            inner.cancel()
            outer.cancel()
            await for_ever()
        trace.append("went on")
    return [*trace, seen(outer), seen(inner)]


async def shields(Scope):
    trace = []
    with Scope() as outer:
        outer.cancel()
        with Scope(shield=True) as inner:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            trace.append("inside")
        await for_ever()
        trace.append("went on")
    trace += [seen(outer), seen(inner)]
    with Scope() as outer:
        outer.cancel()
        with Scope() as inner:
            inner.shield = True
            await asyncio.sleep(0)
            inner.shield = False
            await for_ever()
        trace.append("went on")
    trace += [seen(outer), seen(inner)]
    with Scope() as outer:
        with Scope(shield=True) as middle:
            with Scope() as inner:
                outer.cancel()
                await asyncio.sleep(0)
                middle.cancel()
                await for_ever()
            trace.append("went on")
        await for_ever()
        trace.append("went on")
    return [*trace, seen(outer), seen(middle), seen(inner)]


async def clean_up_behind_a_shield(Scope):
    trace = []
    with Scope() as outer:
        outer.cancel()
        try:
            await for_ever()
        finally:
            with Scope(shield=True, deadline=asyncio.get_running_loop().time() + 0.005) as inner:
                await for_ever()
            trace.append(seen(inner))
    return [*trace, seen(outer)]


async def other_exceptions_pass(Scope):
    trace = []
    for raised in (KeyError("k"), GeneratorExit("g")):
        try:
            with Scope() as scope:
                scope.cancel()
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    raise raised from None
        except BaseException as exc:
            trace.append(type(exc).__name__)
        trace.append(seen(scope))
    return trace


async def cancelled_from_outside(Scope):
    scopes, trace = [], []

    async def work():
        with Scope() as scope:
            scopes.append(scope)
            await for_ever()
        trace.append("went on")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return [*trace, task.cancelled(), seen(scopes[0])]


async def left_by_uncancel(Scope):
    """The count of cancel requests is what it was."""
    trace = []
    task = asyncio.current_task()
    for _ in range(3):
        with Scope() as scope:
            scope.cancel()
            for _ in range(3):
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    pass
            await for_ever()
        trace.append((seen(scope), task.cancelling()))
        await asyncio.sleep(0)
    return trace


async def a_timeout_inside(Scope):
    trace = []
    with Scope() as scope:
        try:
            async with asyncio.timeout(0.001):
                await for_ever()
        except TimeoutError:
            trace.append("timeout")
        await asyncio.sleep(0)
    return [*trace, seen(scope)]


BODIES = [
    nothing_happens,
    cancelled_inside,
    cancelled_without_an_await,
    cancelled_before_it_began,
    every_await_is_cancelled,
    deadlines,
    inner_and_outer,
    shields,
    clean_up_behind_a_shield,
    other_exceptions_pass,
    cancelled_from_outside,
    left_by_uncancel,
    a_timeout_inside,
]


async def main() -> None:
    for body in BODIES:
        theirs = await asyncio.create_task(body(anyio.CancelScope))
        ours = await asyncio.create_task(body(asynchrotron.CancelScope))
        assert ours == theirs, f"{body.__name__}: anyio {theirs}, ours {ours}"
    report(f"{len(BODIES)} questions about cancel scopes")


if __name__ == "__main__":
    asyncio.run(main())
