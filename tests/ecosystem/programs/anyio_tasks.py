"""anyio's structured concurrency: task groups, cancel scopes (nested, shielded, with deadlines), which read a task's
private state; events, locks, limiters, memory streams, threads both ways, portals with our loop as loop_factory."""

import asyncio
import threading
from functools import partial

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskStatus

from outcome import report


async def groups() -> None:
    results: list[int] = []

    async def child(number: int) -> None:
        await anyio.sleep(0.001 * (number % 3))
        results.append(number)

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(child, number, name=f"child {number}")
        assert len(anyio.get_running_tasks()) >= 200
    assert sorted(results) == list(range(200))

    async def fail(delay: float, error: type[Exception]) -> None:
        await anyio.sleep(delay)
        raise error

    survivors = []

    async def long() -> None:
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            survivors.append("was cancelled")
            raise

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(long)
            group.start_soon(fail, 0.01, LookupError)
    except* LookupError as caught:
        assert len(caught.exceptions) == 1
    else:
        raise AssertionError("the group lost the exception")
    assert survivors == ["was cancelled"]

    async def service(*, task_status: TaskStatus[str]) -> None:
        await anyio.sleep(0.005)
        task_status.started("ready")
        await anyio.sleep(60)

    async with anyio.create_task_group() as group:
        assert await group.start(service) == "ready"
        group.cancel_scope.cancel("enough")


async def scopes() -> None:
    with anyio.move_on_after(0.02) as scope:
        await anyio.sleep(60)
    assert scope.cancelled_caught
    assert scope.cancel_called

    try:
        with anyio.fail_after(0.02):
            await anyio.Event().wait()
    except TimeoutError:
        pass
    else:
        raise AssertionError("fail_after did not fail")

    # The outer deadline passes while a shield holds it off, and takes effect where the shield ends.
    reached = []
    with anyio.move_on_after(0.02) as outer:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.06)
            reached.append("shielded")
        await anyio.sleep(0)
        reached.append("not reached")
    assert outer.cancelled_caught
    assert reached == ["shielded"]

    # Level cancellation: it is delivered again at each await until the scope ends.
    attempts = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(3):
            try:
                await anyio.sleep(60)
            except anyio.get_cancelled_exc_class():
                attempts += 1
    assert attempts == 3

    # Cancellation from asyncio's side passes through a scope that was not cancelled.
    async def wait_in_scope() -> None:
        with anyio.CancelScope():
            await anyio.sleep(60)

    task = asyncio.create_task(wait_in_scope())
    await anyio.sleep(0.005)
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(cancel_self())
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def cancel_self() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def primitives() -> None:
    send, receive = anyio.create_memory_object_stream[int](5)
    received = []

    async def consume() -> None:
        async with receive.clone() as stream:
            received.extend([item async for item in stream])

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(consume)
        async with send:
            for number in range(300):
                await send.send(number)
    receive.close()
    assert sorted(received) == list(range(300))

    lock, semaphore, limiter = anyio.Lock(), anyio.Semaphore(3), anyio.CapacityLimiter(4)
    condition, inside = anyio.Condition(), 0

    async def contend() -> None:
        nonlocal inside
        async with semaphore, limiter:
            inside += 1
            assert inside <= 3
            async with lock:
                await anyio.sleep(0)
            inside -= 1
        async with condition:
            condition.notify_all()

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(contend)


async def threads() -> None:
    main_thread = threading.get_ident()
    assert await anyio.to_thread.run_sync(threading.get_ident) != main_thread

    async def on_loop(value: int) -> int:
        await anyio.sleep(0.001)
        assert threading.get_ident() == main_thread
        return value * 2

    def in_thread(value: int) -> int:
        anyio.from_thread.check_cancelled()
        assert anyio.from_thread.run_sync(threading.get_ident) == main_thread
        return anyio.from_thread.run(on_loop, value)

    async with anyio.create_task_group() as group:
        results: dict[int, int] = {}

        async def run(number: int) -> None:
            results[number] = await anyio.to_thread.run_sync(in_thread, number)

        for number in range(50):
            group.start_soon(run, number)
    assert results == {number: 2 * number for number in range(50)}

    with anyio.move_on_after(0.02) as scope:
        await anyio.to_thread.run_sync(threading.Event().wait, 0.5, abandon_on_cancel=True)
    assert scope.cancelled_caught

    # A second loop, in a thread of its own, made by the same factory as this one.
    loop_class = type(asyncio.get_running_loop())

    async def which_loop() -> type:
        await anyio.sleep(0)
        return type(asyncio.get_running_loop())

    def use_portal() -> None:
        options = {"loop_factory": loop_class}
        with anyio.from_thread.start_blocking_portal(backend_options=options) as portal:
            assert portal.call(which_loop) is loop_class
            futures = [portal.start_task_soon(anyio.sleep, 0.001) for _ in range(50)]
            for future in futures:
                future.result(10)
            endless = portal.start_task_soon(anyio.sleep, 60)
            endless.cancel()
        assert anyio.run(which_loop, backend_options=options) is loop_class

    await anyio.to_thread.run_sync(use_portal)
    assert await anyio.to_thread.run_sync(partial(int, "7")) == 7


async def main() -> None:
    async with asyncio.timeout(30):
        await groups()
        await scopes()
        await primitives()
        await threads()
    report("anyio: groups, scopes, primitives, threads, portals")


if __name__ == "__main__":
    asyncio.run(main())
