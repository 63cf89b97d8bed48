"""asynchrotron.map(): order, the limit, errors, closing, cancellation, async iterables, on our loop and on stock's."""

import asyncio
import contextlib
import gc
import sys
import tracemalloc
import weakref

import pytest
from worlds import IMPORT_ERROR, araised, context_summary, raised

if IMPORT_ERROR is not None:
    pytest.skip(f"asynchrotron cannot be imported: {IMPORT_ERROR}", allow_module_level=True)

import asynchrotron

LOOPS = {"ours": asynchrotron.new_event_loop, "stock": asyncio.new_event_loop}
ORDERED = pytest.mark.parametrize("ordered", [True, False])
FEEDS = pytest.mark.parametrize("feed", ["plain", "async"])


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine function; whatever reaches the loop's exception handler fails the test, or is `errors`."""

    def run(main, errors=None):
        unexpected = []
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            sink = unexpected if errors is None else errors
            runner.get_loop().set_exception_handler(lambda _, context: sink.append(context_summary(context)))
            answer = runner.run(main())
            gc.collect()
            runner.run(asyncio.sleep(0))
        assert not unexpected
        return answer

    return run


def source(feed, items):
    """The items as a plain or an async iterable."""
    if feed == "plain":
        return items

    async def generate():
        for item in items:
            yield item
            await asyncio.sleep(0)

    return generate()


async def settle(turns=5):
    for _ in range(turns):
        await asyncio.sleep(0)


class Calls:
    """A function to map, and what became of its calls. Each one waits until it is let go."""

    def __init__(self):
        self.log, self.gates, self.running, self.most = [], {}, 0, 0

    async def __call__(self, item):
        self.log.append(("begin", item))
        self.running += 1
        self.most = max(self.most, self.running)
        self.gates[item] = asyncio.get_running_loop().create_future()
        try:
            result = await self.gates[item]
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.log.append(("cancelled", item))
            raise
        finally:
            self.running -= 1
        self.log.append(("end", item))
        return result

    def release(self, item, result=None):
        self.gates[item].set_result((item, result))

    def begun(self):
        return [item for what, item in self.log if what == "begin"]


@ORDERED
@FEEDS
@pytest.mark.parametrize("count", [0, 1, 5, 50])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_every_item_once(run, ordered, feed, count, limit):
    active = most = 0

    async def work(item):
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(item * 7 % 5):
            await asyncio.sleep(0)
        active -= 1
        return item * 2

    async def main():
        return [one async for one in asynchrotron.map(work, source(feed, range(count)), limit=limit, ordered=ordered)]

    results = run(main)
    assert (results if ordered else sorted(results)) == [item * 2 for item in range(count)]
    assert most <= limit


@FEEDS
def test_order_of_items(run, feed):
    calls = Calls()

    async def main():
        results = asynchrotron.map(calls, source(feed, "abcd"), limit=3)
        first = asyncio.ensure_future(anext(results))
        await settle(9)
        assert calls.begun() == ["a", "b", "c"]
        calls.release("c")
        calls.release("b")
        await settle()
        assert not first.done()
        assert calls.begun() == ["a", "b", "c"]  # the results wait in their places
        calls.release("a")
        assert await first == ("a", None)
        await settle()
        assert calls.begun() == ["a", "b", "c", "d"]
        assert [await anext(results), await anext(results)] == [("b", None), ("c", None)]
        calls.release("d")
        assert [one async for one in results] == [("d", None)]

    run(main)


@FEEDS
def test_as_completed(run, feed):
    calls = Calls()

    async def main():
        results = asynchrotron.map(calls, source(feed, "abcd"), limit=3, ordered=False)
        first = asyncio.ensure_future(anext(results))
        await settle(9)
        calls.release("c")
        calls.release("a")
        assert await first == ("c", None)
        await settle()
        assert calls.begun() == ["a", "b", "c", "d"]
        assert await anext(results) == ("a", None)
        calls.release("d")
        calls.release("b")
        assert [one async for one in results] == [("d", None), ("b", None)]
        assert calls.most == 3

    run(main)


@ORDERED
@FEEDS
def test_a_slow_consumer_holds_the_calls_up(run, ordered, feed):
    begun = []

    async def work(item):
        begun.append(item)
        return item

    async def main():
        got = []
        async for result in asynchrotron.map(work, source(feed, range(20)), limit=3, ordered=ordered):
            got.append(result)
            await settle(20)
            assert len(begun) <= len(got) + 3
        assert got == list(range(20))

    run(main)


def test_results_are_there_while_the_source_waits(run):
    async def main():
        more = asyncio.Event()

        async def items():
            yield 1
            yield 2
            await more.wait()
            yield 3

        async def work(item):
            return item

        results = asynchrotron.map(work, items(), limit=2)
        assert [await anext(results), await anext(results)] == [1, 2]
        third = asyncio.ensure_future(anext(results))
        await settle()
        assert not third.done()
        more.set()
        assert await third == 3
        assert [one async for one in results] == []

    run(main)


# --- errors -------------------------------------------------------------------------------------------------------


@ORDERED
@FEEDS
@pytest.mark.parametrize("failing", ["a", "c"])
def test_the_first_error_cancels_the_rest(run, ordered, feed, failing):
    calls = Calls()

    async def main():
        results = asynchrotron.map(calls, source(feed, "abcdef"), limit=3, ordered=ordered)
        waiting = asyncio.ensure_future(anext(results))
        await settle(9)
        calls.release("b")
        await settle()
        calls.gates[failing].set_exception(KeyError("k"))
        if not ordered:
            assert await waiting == ("b", None)
            waiting = anext(results)
        assert await araised(waiting) == ("KeyError", "'k'")
        assert calls.running == 0
        rest = set(calls.begun()) - {"b", failing}
        assert {item for what, item in calls.log if what == "cancelled"} == rest
        assert [one async for one in results] == []

    run(main)


def test_an_error_while_the_consumer_works(run):
    calls = Calls()

    async def main():
        results = asynchrotron.map(calls, "abc", limit=2)
        first = asyncio.ensure_future(anext(results))
        await settle()
        calls.release("a")
        await first
        await settle()
        calls.gates["c"].set_exception(KeyError("k"))
        await settle()
        assert calls.log[-1] == ("cancelled", "b")  # at once
        assert await araised(anext(results)) == ("KeyError", "'k'")

    run(main)


def test_further_errors_are_reported(run):
    errors = []

    async def work(item):
        if item == 2:
            raise KeyError("first")
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("on the way out")

    async def main():
        results = asynchrotron.map(work, range(3), limit=3)
        assert await araised(anext(results)) == ("KeyError", "'first'")

    run(main, errors)
    assert [(message, error) for message, error, _ in errors] == [
        ("Task exception was never retrieved", ("ValueError", "on the way out"))
    ] * 2


@FEEDS
@pytest.mark.parametrize("where", ["source", "call", "result"])
def test_errors_of_the_source_and_of_the_call(run, feed, where):
    calls = Calls()

    def items():
        yield "a"
        if where == "source":
            raise KeyError("source")
        yield "b"

    def work(item):
        if item == "b":
            if where == "call":
                raise KeyError("call")
            return "no awaitable"
        return calls(item)

    async def main():
        results = asynchrotron.map(work, source(feed, items()), limit=2)
        kind, text = await araised(anext(results))
        assert calls.running == 0
        if where == "result":
            assert (kind, "awaitable" in text) == ("TypeError", True)
        else:
            assert (kind, text) == ("KeyError", repr(where))

    run(main)


def test_a_call_that_is_cancelled_by_itself(run):
    async def work(item):
        if item:
            asyncio.current_task().cancel("own")
        await asyncio.sleep(0 if item else 60)

    async def main():
        results = asynchrotron.map(work, [0, 1], limit=2)
        assert (await araised(anext(results)))[0] == "CancelledError"
        assert asyncio.current_task().cancelling() == 0

    run(main)


# --- the end ------------------------------------------------------------------------------------------------------


@ORDERED
@FEEDS
def test_closing_early(run, ordered, feed):
    calls = Calls()

    async def main():
        async with contextlib.aclosing(
            asynchrotron.map(calls, source(feed, "abcdef"), limit=3, ordered=ordered)
        ) as results:
            first = asyncio.ensure_future(anext(results))
            await settle(9)
            calls.release("a")
            await first
            await settle()
            assert calls.running == 3
        assert calls.running == 0
        assert sorted(item for what, item in calls.log if what == "cancelled") == ["b", "c", "d"]
        assert [one async for one in results] == []

    run(main)


def test_leaving_the_loop(run):
    calls = Calls()

    async def main():
        asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(calls.release, "a"))
        async for _ in asynchrotron.map(calls, "abc", limit=2):
            break
        gc.collect()
        await settle(10)
        assert calls.running == 0

    run(main)


def test_never_begun(run):
    async def main():
        results = asynchrotron.map(Calls(), "abc", limit=2)
        await results.aclose()
        asynchrotron.map(Calls(), "abc", limit=2)

    run(main)


@ORDERED
@FEEDS
@pytest.mark.parametrize("twice", [False, True])
def test_cancelling_the_consumer(run, ordered, feed, twice):
    calls = Calls()
    caught = []

    async def consume():
        try:
            async for _ in asynchrotron.map(calls, source(feed, "abcdef"), limit=3, ordered=ordered):
                raise AssertionError("no result was expected")
        except asyncio.CancelledError as exc:
            caught.append((exc.args, calls.running))
            raise

    async def main():
        task = asyncio.ensure_future(consume())
        await settle(9)
        assert calls.running == 3
        task.cancel("once")
        if twice:
            await asyncio.sleep(0)
            task.cancel("again")
        await asyncio.wait([task])
        assert task.cancelled()
        assert [running for _, running in caught] == [0]
        assert len([what for what, _ in calls.log if what == "cancelled"]) == 3
        assert task.cancelling() == 1 + twice

    run(main)


def test_a_timeout_around_it(run):
    calls = Calls()

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in asynchrotron.map(calls, range(10), limit=3):
                    pass
        assert calls.running == 0
        assert asyncio.current_task().cancelling() == 0

    run(main)


def test_nothing_is_kept(run):
    """No cycle holds the results or the errors."""

    class Result:
        pass

    async def work(item):
        if item == 5:
            raise KeyError(item)
        return Result()

    async def main():
        seen = []
        gc.disable()
        try:
            with contextlib.suppress(KeyError):
                async for result in asynchrotron.map(work, range(10), limit=2):
                    seen.append(weakref.ref(result))
                    del result
            await settle()
            return [ref() for ref in seen]
        finally:
            gc.enable()

    kept = run(main)
    assert kept and not any(kept)


@ORDERED
@FEEDS
def test_constant_memory(run, ordered, feed):
    async def work(item):
        return bytes(100)

    async def items(count):
        for item in range(count):
            yield item

    async def peak(count):
        gc.collect()
        tracemalloc.start()
        try:
            things = range(count) if feed == "plain" else items(count)
            async for _ in asynchrotron.map(work, things, limit=10, ordered=ordered):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async def main():
        await peak(100)
        return await peak(1000), await peak(20_000)

    few, many = run(main)
    assert many < few + 100_000


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
@ORDERED
@FEEDS
def test_eager_tasks(run, ordered, feed):
    async def work(item):
        if item % 3 == 0:
            await asyncio.sleep(0)
        return item

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return [one async for one in asynchrotron.map(work, source(feed, range(20)), limit=4, ordered=ordered)]

    results = run(main)
    assert (results if ordered else sorted(results)) == list(range(20))


def test_futures_as_awaitables(run):
    async def main():
        loop = asyncio.get_running_loop()

        def work(item):
            fut = loop.create_future()
            loop.call_soon(fut.set_result, item)
            return fut

        return [one async for one in asynchrotron.map(work, range(5), limit=2)]

    assert run(main) == list(range(5))


# --- arguments ----------------------------------------------------------------------------------------------------


async def identity(item):
    return item


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((identity, [1], {"limit": 0}), ("ValueError", "the limit of map() must be at least 1, not 0")),
        ((identity, [1], {"limit": -3}), ("ValueError", "the limit of map() must be at least 1, not -3")),
        ((identity, [1], {"limit": 1.5}), ("TypeError", "the limit of map() must be an int, not float")),
        ((identity, [1], {"limit": None}), ("TypeError", "the limit of map() must be an int, not NoneType")),
        ((identity, [1], {"limit": True}), ("TypeError", "the limit of map() must be an int, not bool")),
        ((identity, 5, {"limit": 1}), ("TypeError", "map() needs an iterable or an async iterable, not int")),
        ((5, [1], {"limit": 1}), ("TypeError", "map() needs a callable, not int")),
    ],
)
def test_arguments(arguments, error):
    fn, iterable, keywords = arguments
    assert raised(asynchrotron.map, fn, iterable, **keywords) == error


def test_the_limit_must_be_given():
    kind, text = raised(asynchrotron.map, identity, [1])
    assert (kind, "limit" in text) == ("TypeError", True)


def test_only_by_its_full_name():
    assert "map" not in asynchrotron.__all__
    assert asynchrotron.map is not map
