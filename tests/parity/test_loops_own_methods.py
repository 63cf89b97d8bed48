"""Methods of a loop that a program has replaced, in a subclass or on the object, are called by what would call them."""

import asyncio
import dataclasses
import functools

import pytest
from worlds import outcome, parity, raised


async def value(result):
    await asyncio.sleep(0)
    return result


def operations(aio, loop):
    """What calls methods of the loop, as name -> coroutine function."""

    async def group(**keywords):
        async with aio.TaskGroup() as tasks:
            tasks.create_task(value(1), **keywords)

    async def served():
        async def answer(reader, writer):
            writer.close()

        server = await aio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()
        server.close()
        await aio.sleep(0.001)

    async def timed():
        async with aio.timeout(60):
            await value(1)

    async def waited():
        event = aio.Event()
        loop.call_soon(event.set)
        await event.wait()

    def from_a_thread():
        return aio.run_coroutine_threadsafe(value(1), loop).result(10)

    async def for_each():
        for task in aio.as_completed([value(1)]):
            await task

    async def create(**keywords):
        await aio.create_task(value(1), **keywords)

    return {
        "create_task": create,
        "create_task, named": functools.partial(create, name="own name"),
        "ensure_future": lambda: aio.ensure_future(value(1)),
        "gather": lambda: aio.gather(value(1), value(2)),
        "shield": lambda: aio.shield(value(1)),
        "wait_for": lambda: aio.wait_for(value(1), 60),
        "as_completed": for_each,
        "group": group,
        "group, named": functools.partial(group, name="own name"),
        "streams": served,
        "from a thread": functools.partial(aio.to_thread, from_a_thread),
        "sleep": lambda: aio.sleep(0.0001),
        "timeout": timed,
        "event": waited,
    }


# The operations that are sure to call it, in every version. How often is not looked at, except for create_task: our
# handles and timers go through fewer hands, and accepting a connection needs no task.
CALLERS = {
    "create_task": {*operations(asyncio, None)} - {"sleep", "timeout", "event", "wait_for"},
    "call_soon": {"create_task", "gather", "group", "streams"},
    "call_soon_threadsafe": {"from a thread"},
    "call_later": {"sleep"},
    "call_at": {"timeout"},
    "create_future": {"sleep", "event"},
}


async def calls_of(w, name, calls):
    trace = {}
    for operation, run in operations(w.aio, asyncio.get_running_loop()).items():
        if operation in CALLERS[name]:
            calls.clear()
            await run()
            is_counted = name == "create_task" and operation != "streams"
            trace[operation] = len(calls) if is_counted else calls != []
    return trace


def counting(method, calls):
    @functools.wraps(method)
    def counted(*args, **kwargs):
        calls.append(args)
        return method(*args, **kwargs)

    return counted


def with_methods(w, make):
    """The world with a subclass of its loop that has the methods which `make` gives for the class."""
    with w.loop() as loop:
        base = type(loop)
    return dataclasses.replace(w, new_event_loop=type("Derived", (base,), make(base)))


@parity
@pytest.mark.parametrize("name", CALLERS)
def test_in_a_subclass(w, name):
    calls = []
    derived = with_methods(w, lambda base: {name: counting(getattr(base, name), calls)})
    with derived.loop() as loop:
        return loop.run_until_complete(calls_of(w, name, calls))


@parity
@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("when", ["before the run", "during the run"])
def test_on_the_object(w, name, when):
    """And it is the class's again when it is taken off."""
    calls = []
    with w.loop() as loop:

        def put_on():
            setattr(loop, name, counting(getattr(loop, name), calls))

        async def main():
            if when == "during the run":
                put_on()
            seen = await calls_of(w, name, calls)
            delattr(loop, name)
            return seen, await calls_of(w, name, calls)

        if when == "before the run":
            put_on()
        return loop.run_until_complete(main())


@parity
@pytest.mark.parametrize("where", ["subclass", "object"])
def test_a_create_task_that_takes_no_keywords(w, where):
    """Up to 3.12 asyncio names the task afterwards."""

    async def main():
        trace = []
        for name in (None, "own name"):
            coro = value(1)
            task = outcome(w.aio.create_task, coro, name=name)
            if isinstance(task, tuple):
                coro.close()
                trace.append(task)
            else:
                trace.append((task.get_name() == name, await task))
        return [*trace, raised(w.aio.create_task), raised(w.aio.create_task, 1)]

    def only_a_coroutine(create_task):
        def create(*args):
            return create_task(*args)

        return create

    if where == "subclass":
        derived = with_methods(w, lambda base: {"create_task": only_a_coroutine(base.create_task)})
        return derived.run(main)
    with w.loop() as loop:
        loop.create_task = only_a_coroutine(loop.create_task)
        return loop.run_until_complete(main())
