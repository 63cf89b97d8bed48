"""EventLoopPolicy, for programs that still set one. Python 3.16 has no policies; install() does without."""

from asyncio import unix_events
from typing import TYPE_CHECKING

from .loop import EventLoop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    class _DefaultPolicyBase:
        """What asyncio's policies offer; the stubs do not have the class under its lasting name."""

        def get_event_loop(self) -> AbstractEventLoop: ...
        def set_event_loop(self, loop: AbstractEventLoop | None) -> None: ...
        def new_event_loop(self) -> AbstractEventLoop: ...

else:
    # asyncio.DefaultEventLoopPolicy by the name that warns of nothing.
    _DefaultPolicyBase = unix_events._UnixDefaultEventLoopPolicy


class EventLoopPolicy(_DefaultPolicyBase):
    """The default policy of asyncio, with our event loop."""

    _loop_factory = EventLoop
