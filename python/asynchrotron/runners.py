"""run() and Runner: the stdlib's, with our loop where no loop_factory is given."""

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from .loop import new_event_loop

_T = TypeVar("_T")

if TYPE_CHECKING:

    class _StdlibRunner:
        """What this file uses of asyncio.Runner, which the stubs declare final."""

        _loop: asyncio.AbstractEventLoop | None
        _set_event_loop: bool

        def __init__(self, *, debug: bool | None, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None: ...
        def __enter__(self) -> "Runner": ...
        def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None: ...
        def close(self) -> None: ...
        def get_loop(self) -> asyncio.AbstractEventLoop: ...
        def run(self, coro: Coroutine[Any, Any, _T], *, context: Context | None = None) -> _T: ...
        def _lazy_init(self) -> None: ...

else:
    _StdlibRunner = asyncio.Runner


class Runner(_StdlibRunner):
    """asyncio.Runner, which makes an asynchrotron loop unless it is given a loop_factory."""

    def __init__(
        self, *, debug: bool | None = None, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    ) -> None:
        super().__init__(debug=debug, loop_factory=loop_factory or new_event_loop)
        self._makes_current = loop_factory is None

    def _lazy_init(self) -> None:
        super()._lazy_init()
        # Without a factory, the stdlib's Runner makes its loop the thread's current one, and close() takes it back.
        if self._makes_current and not self._set_event_loop:
            events.set_event_loop(self._loop)
            self._set_event_loop = True


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine on a new event loop, then close the loop; as asyncio.run() does."""
    if events._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
