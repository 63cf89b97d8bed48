"""Executors for work that outgrows the process: DaskExecutor gives run_in_executor the workers of a Dask cluster.

Nothing here imports distributed: the client that is passed in brings everything. Two loops may take part, the caller's
and the client's; they are the same one if the client is asynchronous. What touches the cluster, besides submitting,
runs on the client's.

Invariant: a future stays PENDING until its outcome is there, so it can be cancelled while the call runs elsewhere.
"""

import asyncio
import concurrent.futures
import functools
import threading
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["DaskExecutor"]

_T = TypeVar("_T")


class DaskExecutor(concurrent.futures.Executor):
    """A `concurrent.futures` executor over a `distributed.Client`, made for event loops.

    Unlike the client's own `get_executor()` it never blocks the loop: cancelling a future, from wherever, cancels the
    call on the cluster in the background, for asynchronous clients too, and `shutdown(wait=True)` refuses to wait on a
    loop's thread. Use `async with`, or `aclose()`. The client stays open; it is its owner's.
    """

    def __init__(self, client: Any, **options: Any) -> None:
        """Prepare an executor; `options` go to every `client.submit` (`workers=`, `resources=`, `retries=`, …).

        Calls are not `pure` unless the options say so: the same call twice is made twice.
        """
        self._client = client
        self._options = {"pure": False, **options}
        self._lock = threading.Lock()
        self._shut_down = False
        self._pending: set[concurrent.futures.Future[Any]] = set()
        self._ending: weakref.WeakSet[concurrent.futures.Future[Any]] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[Any]] = set()  # on the client's loop, which keeps weak references only

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> "concurrent.futures.Future[_T]":
        """Have `fn(*args, **kwargs)` called by a worker; function, arguments and result travel pickled.

        Returns at once. If `fn` is a coroutine function, the worker runs it in its event loop.
        """
        # Names that client.submit takes for itself (key, workers, ...) are the function's here.
        call = functools.partial(fn, **kwargs) if kwargs else fn
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            remote = self._client.submit(call, *args, **self._options)
            future: concurrent.futures.Future[_T] = concurrent.futures.Future()
            self._pending.add(future)
        future.add_done_callback(functools.partial(self._ended, remote))
        self._on_clients_loop(self._follow, remote, future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; cancel those that are not done, if asked to, or wait for them.

        Raises RuntimeError if it would have to wait on the thread of a running loop: use `aclose()` there.
        """
        with self._lock:
            self._shut_down = True
            pending = set(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        elif wait and pending:
            if asyncio._get_running_loop() is not None:
                raise RuntimeError(
                    "DaskExecutor.shutdown(wait=True) would block the running event loop: "
                    "use 'async with', or await aclose()"
                )
            concurrent.futures.wait(pending)

    async def aclose(self, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those under way, or cancel them, without blocking the loop."""
        self.shutdown(wait=False, cancel_futures=cancel_futures)
        with self._lock:
            pending = list(self._pending)
        if pending:
            await asyncio.wait([asyncio.shield(asyncio.wrap_future(future)) for future in pending])
        # And until the cluster has been told of every cancellation.
        loop = self._client.loop.asyncio_loop
        if not loop.is_closed():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._settle(), loop))

    async def __aenter__(self) -> Self:
        """Enter the block at whose end `aclose()` is awaited."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the calls under way; after an exception cancel them."""
        await self.aclose(cancel_futures=exc_type is not None)

    async def _settle(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _on_clients_loop(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        remote: Any,
        future: "concurrent.futures.Future[Any] | None" = None,
    ) -> None:
        loop: asyncio.AbstractEventLoop = self._client.loop.asyncio_loop

        def ended(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if future is not None and task.cancelled():
                self._give_up(future)  # maybe before it began

        def start() -> None:
            task = loop.create_task(function(remote) if future is None else function(remote, future))
            self._tasks.add(task)
            task.add_done_callback(ended)

        loop.call_soon_threadsafe(start)

    async def _follow(self, remote: Any, future: "concurrent.futures.Future[Any]") -> None:
        """Bring the outcome of a call home."""
        try:
            result = await self._client.gather(remote, asynchronous=True)
        except asyncio.CancelledError:
            # Here or on the cluster; or else the client's loop ends, and its client with it.
            self._give_up(future)
            if not remote.cancelled():
                raise
        except BaseException as exc:
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(result)

    def _give_up(self, future: "concurrent.futures.Future[Any]") -> None:
        self._ending.add(future)
        if future.cancel():
            future.set_running_or_notify_cancel()

    def _ended(self, remote: Any, future: "concurrent.futures.Future[Any]") -> None:
        # In whichever thread the future was completed or cancelled.
        with self._lock:
            self._pending.discard(future)
        if future.cancelled() and not remote.cancelled() and future not in self._ending:
            try:
                self._on_clients_loop(self._cancel, remote)
            except RuntimeError:
                pass  # The client's loop is closed, and with it what it asked the cluster for.

    async def _cancel(self, remote: Any) -> None:
        await self._client.cancel([remote], asynchronous=True, reason="cancelled", msg="by the caller")
