"""3.14's call graph functions over the world's tasks: who awaits whom, as text and as data."""

import asyncio
import sys

import pytest
from worlds import normal, parity, raised

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")


def flat(graph):
    """A FutureCallGraph as names: the coroutine's function names, then those who await it."""
    return (
        graph.future.get_name() if isinstance(graph.future, asyncio.Task) else "future",
        [entry.frame.f_code.co_name for entry in graph.call_stack],
        sorted((flat(by) for by in graph.awaited_by), key=str),
    )


@parity
def test_a_chain(w):
    async def main():
        graphs = []

        async def leaf():
            graphs.append(w.aio.capture_call_graph())
            await w.aio.sleep(0)

        async def middle():
            await w.aio.create_task(leaf(), name="leaf")

        await w.aio.create_task(middle(), name="middle")
        return flat(graphs[0])

    answer = w.run(main)
    assert answer[0] == "leaf"
    return normal(answer)


@parity
def test_a_task_seen_from_outside(w):
    async def main():
        event = w.aio.Event()

        async def waiter():
            await event.wait()

        async def group():
            async with w.aio.TaskGroup() as tg:
                tg.create_task(waiter(), name="one")
                tg.create_task(waiter(), name="two")

        outer = w.aio.create_task(group(), name="outer")
        for _ in range(4):
            await w.aio.sleep(0)
        names = {t.get_name(): t for t in w.aio.all_tasks()}
        trace = [flat(w.aio.capture_call_graph(names[n])) for n in ("one", "outer")]
        text = w.aio.format_call_graph(names["one"])
        event.set()
        await outer
        return trace, [line.split(" File")[0].rstrip() for line in normal(text).splitlines()]

    trace, lines = w.run(main)
    assert trace[0][2][0][0] == "outer"
    return trace, lines


@parity
def test_gather_and_wait(w):
    async def main():
        event = w.aio.Event()

        async def waiter():
            await event.wait()

        async def gatherer():
            await w.aio.gather(w.aio.create_task(waiter(), name="child"))

        outer = w.aio.create_task(gatherer(), name="gatherer")
        for _ in range(4):
            await w.aio.sleep(0)
        child = next(t for t in w.aio.all_tasks() if t.get_name() == "child")
        graph = flat(w.aio.capture_call_graph(child))
        event.set()
        await outer
        return graph, sorted(child._asyncio_awaited_by or ())  # None or an empty set: nobody waits any more

    return w.run(main)


@parity
def test_a_future(w):
    async def main():
        fut = w.aio.get_running_loop().create_future()

        async def waiter():
            await fut

        tasks = [w.aio.create_task(waiter(), name=n) for n in ("a", "b")]
        await w.aio.sleep(0)
        graph = flat(w.aio.capture_call_graph(fut))
        fut.set_result(None)
        await w.aio.gather(*tasks)
        return graph

    return w.run(main)


@parity
def test_arguments(w):
    async def main():
        trace = [raised(w.aio.capture_call_graph, 5)]
        task = w.aio.create_task(w.aio.sleep(0), name="t")
        trace.append(len(w.aio.capture_call_graph(task, depth=1).call_stack))
        trace.append(len(w.aio.capture_call_graph(task, limit=0).call_stack))
        await task
        return trace

    return w.run(main)


@parity
def test_printing(w):
    import io

    async def main():
        out = io.StringIO()
        w.aio.print_call_graph(file=out)
        return normal(out.getvalue()).splitlines()[0].split("Task(")[1].split("id=")[0]

    return w.run(main)


@parity
def test_awaited_by_helpers(w):
    async def main():
        loop = w.aio.get_running_loop()
        one, two = loop.create_future(), loop.create_future()
        w.aio.future_add_to_awaited_by(one, two)
        seen = [one._asyncio_awaited_by == {two}]
        w.aio.future_discard_from_awaited_by(one, two)
        seen.append(not one._asyncio_awaited_by)
        return seen

    return w.run(main)
