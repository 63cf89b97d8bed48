"""Async generators: finalisation by the loop, shutdown_asyncgens, and what is said about those left open."""

import asyncio
import gc
import warnings

from worlds import araised, drain, normal, parity


async def generator(log, name="g", fail=None):
    log.append((name, "starts"))
    try:
        for number in range(10):
            yield number
    finally:
        log.append((name, "finally"))
        await asyncio.sleep(0)
        log.append((name, "after await"))
        if fail:
            raise fail


@parity
def test_a_dropped_generator_is_closed_by_the_loop(w):
    log = []

    async def main():
        iterator = generator(log)
        await anext(iterator)
        log.append("dropping")
        del iterator
        gc.collect()
        log.append("dropped")
        for turn in range(4):
            await w.aio.sleep(0)
            log.append(turn)

    w.run(main)
    assert ("g", "after await") in log
    return log


@parity
def test_break_out_of_a_loop(w):
    log = []

    async def main():
        async for value in generator(log):
            log.append(value)
            if value == 2:
                break
        await w.aio.sleep(0)
        await w.aio.sleep(0)
        await w.aio.sleep(0)
        log.append("end")

    w.run(main)
    return log


@parity
def test_shutdown_closes_those_still_open(w):
    log, errors = [], []
    with w.loop(errors=errors) as loop:
        iterators = [generator(log, n, KeyError(n) if n == "b" else None) for n in "abc"]

        async def main():
            for iterator in iterators:
                await anext(iterator)

        loop.run_until_complete(main())
        log.append("shutdown")
        loop.run_until_complete(loop.shutdown_asyncgens())
        head, tail = log[:4], sorted(map(str, log[4:]))
        texts = [(m.split(" <")[0], exc, keys) for m, exc, keys in errors]
    assert len(tail) == 6
    return head, tail, texts


@parity
def test_a_generator_started_after_shutdown_warns(w):
    log = []
    with w.loop() as loop:

        async def main():
            await loop.shutdown_asyncgens()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                iterator = generator(log)
                await anext(iterator)
                await iterator.aclose()
            return [(c.category.__name__, normal(c.message)) for c in caught]

        texts = loop.run_until_complete(main())
    assert texts[0][0] == "ResourceWarning"
    assert "was scheduled after loop.shutdown_asyncgens() call" in texts[0][1]
    return texts, log


@parity
def test_a_generator_iterated_in_two_tasks(w):
    async def slow():
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    async def main():
        iterator = slow()
        first = w.aio.create_task(anext(iterator))
        second = w.aio.create_task(anext(iterator))
        answers = [await first, await araised(second)]
        await iterator.aclose()
        return answers

    async def anext(iterator):
        return await iterator.__anext__()

    return w.run(main)


@parity
def test_cancelling_inside_a_generator(w):
    log = []

    async def waits():
        try:
            yield 1
            await asyncio.sleep(1000)
            yield 2
        finally:
            log.append("cleaned")

    async def consume():
        async for value in waits():
            log.append(value)

    async def main():
        task = w.aio.create_task(consume())
        await w.aio.sleep(0)
        await w.aio.sleep(0)
        task.cancel()
        await w.aio.wait([task])
        return task.cancelled()

    return w.run(main), log


@parity
def test_shutdown_twice_and_with_nothing_open(w):
    with w.loop() as loop:
        return loop.run_until_complete(loop.shutdown_asyncgens()), loop.run_until_complete(loop.shutdown_asyncgens())


@parity
def test_a_generator_finalised_from_another_thread(w):
    log = []
    with w.loop() as loop:

        async def main():
            box = [generator(log)]
            await anext(box[0])
            await w.aio.to_thread(box.clear)
            await w.aio.to_thread(gc.collect)
            for _ in range(6):
                await w.aio.sleep(0.001)

        loop.run_until_complete(main())
    assert log[-1] == ("g", "after await")
    return log


@parity
def test_a_generator_left_by_a_loop_that_ends(w):
    """Without shutdown_asyncgens the generator outlives its loop; finalising it then must not raise or crash."""
    log = []

    async def plain():
        try:
            yield 1
        finally:
            log.append("finally")

    loop = w.new_event_loop()
    iterator = plain()
    loop.run_until_complete(iterator.__anext__())
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del iterator
        gc.collect()
    return log, [str(c.message) for c in caught]


@parity
def test_async_context_managers_and_comprehensions(w):
    import contextlib

    log = []

    @contextlib.asynccontextmanager
    async def manager():
        log.append("enter")
        try:
            yield "value"
        except KeyError as exc:
            log.append(repr(exc))
        finally:
            await w.aio.sleep(0)
            log.append("exit")

    async def main():
        async with manager() as value:
            log.append(value)
            log.append([n async for n in generator(log) if n % 2])
            raise KeyError("k")
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(manager())
            stack.push_async_callback(w.aio.sleep, 0)

    w.run(main)
    return log


@parity
def test_hooks_see_generators_of_tasks(w):
    with w.loop() as loop:
        log = []

        async def consume(name):
            iterator = generator(log, name)
            await anext(iterator)
            return iterator

        one, two = loop.create_task(consume("one")), loop.create_task(consume("two"))
        drain(loop, 3)
        kept = [one.result(), two.result()]
        loop.run_until_complete(loop.shutdown_asyncgens())
        return sorted(map(str, log)), [str(it.ag_running) for it in kept]
