"""What the tests of futures share.

`make` gives a Future of the world: with our loop under stock's names that is the loop's own create_future().
"""

MAKERS = ["create_future", "class"]


def make(w, loop, how="create_future"):
    return loop.create_future() if how == "create_future" else w.aio.Future(loop=loop)


def note(fut):
    """A done callback with a place in a file, for reprs."""
