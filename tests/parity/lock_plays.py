"""What the tests of locks share."""

from worlds import Generations, drain, error

NAMES = ["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"]
LOCKS = ["Lock", "Condition", "Semaphore", "BoundedSemaphore"]


def make(w, name):
    return getattr(w.aio, name)(2) if name == "Barrier" else getattr(w.aio, name)()


def chained(exc):
    """An exception and what was being handled when it was raised."""
    trace = []
    while exc is not None:
        trace.append(error(exc))
        exc = exc.__context__
    return trace


def play(w, main, *, debug=False):
    """Run `main(loop, log)`; what it logs gets the number of the turn."""
    with w.loop(debug=debug) as loop:
        log = Generations(loop)
        task = loop.create_task(main(loop, log))
        drain(loop)
        assert task.done()
        task.result()
        return log.log


async def turns(aio, count):
    for _ in range(count):
        await aio.sleep(0)
