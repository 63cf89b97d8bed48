"""map(): a function over many items, some at a time.

The calls run as tasks, a bounded number of them. A result keeps its place among them until it is handed out, so a slow
consumer slows the calls down, and memory does not grow with the number of items.

A plain iterable is read between two results. An async one is read by a task of its own, the feeder, so that waiting for
the next item does not hold up results that are there.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from ._core import ensure_future

_T = TypeVar("_T")
_R = TypeVar("_R")

_NOTHING: Any = object()


def map(
    fn: Callable[[_T], Awaitable[_R]],
    iterable: Iterable[_T] | AsyncIterable[_T],
    *,
    limit: int,
    ordered: bool = True,
) -> AsyncGenerator[_R, None]:
    """Call the coroutine function `fn` for each item, at most `limit` calls at a time; iterate over the results.

    Results come in the order of the items, or with ordered=False as they are there. At most `limit` items are being
    worked on or wait for the consumer to take their result. The first error, of a call or of the iterable, cancels all
    other calls; when they have ended it is raised, and results not yet taken are dropped. Closing the iterator, or
    cancelling who iterates, cancels the calls and waits for their end.
    """
    if not callable(fn):
        raise TypeError(f"map() needs a callable, not {type(fn).__name__}")
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"the limit of map() must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"the limit of map() must be at least 1, not {limit}")
    if isinstance(iterable, AsyncIterable):
        return _results(_FanOut(fn, limit, ordered, feed_from=aiter(iterable)))
    kind: Any = type(iterable)
    if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        raise TypeError(f"map() needs an iterable or an async iterable, not {kind.__name__}")
    return _results(_FanOut(fn, limit, ordered, items=iter(iterable)))


async def _results(fan_out: "_FanOut[Any, _R]") -> AsyncGenerator[_R, None]:
    """Hand out the results. A generator, because the loop closes one that nobody holds any more."""
    try:
        while True:
            fan_out.read()
            result = fan_out.take()
            if result is not _NOTHING:
                # The next call runs while the consumer works with this result.
                fan_out.read()
                yield result
            elif fan_out.is_finished():
                return
            else:
                await fan_out.news()
    finally:
        await fan_out.close()


class _FanOut(Generic[_T, _R]):
    """The calls of one map()."""

    def __init__(
        self,
        fn: Callable[[_T], Awaitable[_R]],
        limit: int,
        ordered: bool,
        *,
        items: Iterator[_T] | None = None,
        feed_from: AsyncIterator[_T] | None = None,
    ) -> None:
        self._fn = fn
        self._limit = limit
        self._items = items
        self._feed_from = feed_from
        self._feeder: asyncio.Future[None] | None = None
        self._running: set[asyncio.Future[_R]] = set()
        # What is to be handed out: in order of items, done or not, or else only what is done.
        self._ordered = ordered
        self._next: deque[asyncio.Future[_R]] = deque()
        self._failed: asyncio.Future[Any] | None = None
        self._stopped = False
        # The consumer waits for a result, the feeder for a place.
        self._consumer: asyncio.Future[None] | None = None
        self._feeder_waits: asyncio.Future[None] | None = None

    def _has_room(self) -> bool:
        taken = len(self._next) if self._ordered else len(self._next) + len(self._running)
        return taken < self._limit

    def read(self) -> None:
        """Start calls while there is room for them."""
        if self._feed_from is not None:
            if self._feeder is None:
                self._feeder = ensure_future(self._feed(self._feed_from))
                self._feeder.add_done_callback(self._on_fed)
            if self._has_room():
                _wake(self._feeder_waits)
        while self._items is not None and not self._stopped and self._has_room():
            item = next(self._items, _NOTHING)
            if item is _NOTHING:
                self._items = None
            else:
                self._start(item)

    async def _feed(self, items: AsyncIterator[_T]) -> None:
        while True:
            while not self._has_room():
                self._feeder_waits = asyncio.get_running_loop().create_future()
                await self._feeder_waits
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            if self._stopped:
                return  # the iterable does not let itself be cancelled
            self._start(item)

    def _on_fed(self, feeder: asyncio.Future[None]) -> None:
        if self._failed is None and not self._stopped and (feeder.cancelled() or feeder.exception() is not None):
            self._fail(feeder)
        _wake(self._consumer)

    def _start(self, item: _T) -> None:
        call = ensure_future(self._fn(item))
        if self._ordered:
            self._next.append(call)
        if call.done():
            # It ran eagerly. Callbacks would pile up if the consumer never has to wait.
            self._on_done(call)
        else:
            self._running.add(call)
            call.add_done_callback(self._on_done)

    def _on_done(self, call: asyncio.Future[_R]) -> None:
        self._running.discard(call)
        if self._failed is not None or self._stopped:
            # Cancelled, or else the loop's exception handler is told what went wrong besides.
            return
        if call.cancelled() or call.exception() is not None:
            self._fail(call)
        elif not self._ordered:
            self._next.append(call)
        elif not self._next or self._next[0] is not call:
            return
        _wake(self._consumer)

    def _fail(self, failed: asyncio.Future[Any]) -> None:
        self._failed = failed
        self._stop()

    def _stop(self) -> None:
        """Cancel everything, once."""
        if self._stopped:
            return
        self._stopped = True
        for call in list(self._running):
            call.cancel()
        if self._feeder is not None:
            self._feeder.cancel()

    def take(self) -> _R:
        """Return the next result, or raise the first error; _NOTHING if there is none yet."""
        call: asyncio.Future[Any]
        if self._failed is not None:
            call = self._failed
        elif self._next and self._next[0].done():
            call = self._next.popleft()
            self._running.discard(call)  # its callback may come later
        else:
            return cast(_R, _NOTHING)
        try:
            return cast(_R, call.result())
        finally:
            del call  # the error's traceback holds this frame

    def is_finished(self) -> bool:
        """Whether there will be no more results."""
        fed = self._feed_from is None or (self._feeder is not None and self._feeder.done())
        return fed and self._items is None and not self._next and not self._running

    async def news(self) -> None:
        """Wait until looking again is worth while."""
        self._consumer = asyncio.get_running_loop().create_future()
        try:
            await self._consumer
        finally:
            self._consumer = None

    async def close(self) -> None:
        """Cancel what runs and wait for its end, whoever wants to be quicker."""
        self._stop()
        cancelled: asyncio.CancelledError | None = None
        rest: set[asyncio.Future[Any]] = {*self._running}
        if self._feeder is not None:
            rest.add(self._feeder)
        while rest := {call for call in rest if not call.done()}:
            try:
                await asyncio.wait(rest)
            except asyncio.CancelledError as exc:
                cancelled = exc
        self._next.clear()
        self._failed = None
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                cancelled = None  # as in take()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
