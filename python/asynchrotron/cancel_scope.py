"""CancelScope: cancellation as a state of a block, not as a single event.

A task in a cancelled scope is cancelled by `task.cancel()`, again in each turn in which it waits for something, until
it has left the scope. Each of these calls is counted, and undone by `task.uncancel()` at the exit; so what anybody else
asked of the task, by `task.cancel()` or a timeout, is still there to be seen.

A task's scopes hang on the task itself: a task nobody holds any more is collected with them.
"""

import asyncio
import math
from types import TracebackType
from typing import Any, Self

from ._core import current_task

_STACK = "_asynchrotron_cancel_scopes"
# A task that goes on in spite of this many cancellations waits for something it must wait for: its children, say.
_PATIENCE_DELIVERIES = 50
_PAUSE_SECONDS = 0.02


class _Stack:
    """The scopes a task is in, and the callback that cancels it if one of them is cancelled."""

    __slots__ = ("delivery", "innermost", "task")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        self.innermost: CancelScope | None = None
        self.delivery: asyncio.Handle | None = None

    def in_force(self) -> "CancelScope | None":
        """Find the nearest cancelled scope, from the innermost outwards, that no shield holds off."""
        scope = self.innermost
        while scope is not None and not scope._cancel_called:
            scope = None if scope._shield else scope._parent
        return scope

    def requests_of_others(self) -> int:
        """Count the cancel requests of the task that come from none of its scopes."""
        requests = self.task.cancelling()
        scope = self.innermost
        while scope is not None:
            requests -= scope._deliveries
            scope = scope._parent
        return requests

    def stop(self) -> None:
        if self.delivery is not None:
            self.delivery.cancel()
            self.delivery = None

    def deliver(self) -> None:
        """Cancel the task if it waits in a cancelled scope, and look again soon."""
        self.stop()
        scope = self.in_force()
        if scope is None:
            return
        task: Any = self.task
        loop = task.get_loop()
        if task is not current_task(loop) and not task._must_cancel:
            waiter = task._fut_waiter
            # A result that is there already is not taken away: the task runs first.
            if waiter is None or not waiter.done():
                scope._deliveries += 1
                scope._was_delivered = True
                task.cancel("a CancelScope was cancelled")
        if scope._deliveries < _PATIENCE_DELIVERIES:
            self.delivery = loop.call_soon(self.deliver)
        else:
            self.delivery = loop.call_later(_PAUSE_SECONDS, self.deliver)


def _checked(deadline: float) -> float:
    if not isinstance(deadline, int | float):
        raise TypeError(f"the deadline of a CancelScope must be a number, not {type(deadline).__name__}")
    return deadline


class CancelScope:
    """A block that can be cancelled: `with CancelScope(deadline=…) as scope: …`, and anybody may `scope.cancel()`.

    Everything awaited in a cancelled block is cancelled, also what is awaited after a CancelledError was caught. The
    block's CancelledError ends at its scope. A cancellation from outside (`task.cancel()`, a timeout) goes on.
    """

    def __init__(self, *, deadline: float = math.inf, shield: bool = False) -> None:
        """Prepare a scope; `deadline` is a time of the loop's clock, `shield` holds cancelled scopes around it off."""
        self._deadline = _checked(deadline)
        self._shield = shield
        self._cancel_called = False
        self._cancelled_caught = False
        self._entered = False
        self._stack: _Stack | None = None  # while the task is in it
        self._parent: CancelScope | None = None
        self._deliveries = 0
        self._was_delivered = False
        self._requests_before = 0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "cancelled" if self._cancel_called else "active" if self._stack is not None else "idle"
        return f"<CancelScope [{state}] deadline={self._deadline} shield={self._shield}>"

    def cancel(self) -> None:
        """Cancel what runs in the scope, now and at every later await, until it leaves. Once is enough."""
        if not self._cancel_called:
            self._cancel_called = True
            self._stop_timer()
            if self._stack is not None:
                self._stack.deliver()

    @property
    def cancel_called(self) -> bool:
        """Whether the scope was cancelled, by `cancel()` or by its deadline."""
        return self._cancel_called

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended because of that: its CancelledError ended here."""
        return self._cancelled_caught

    @property
    def deadline(self) -> float:
        """When the scope cancels itself, on the loop's clock; `math.inf` is never."""
        return self._deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._deadline = _checked(when)
        if self._stack is not None and not self._cancel_called:
            self._start_timer(self._stack.task.get_loop())

    @property
    def shield(self) -> bool:
        """Whether cancelled scopes around this one leave it alone."""
        return self._shield

    @shield.setter
    def shield(self, on: bool) -> None:
        self._shield = on
        if self._stack is not None:
            self._stack.deliver()

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a CancelScope can be entered only once")
        task = current_task()
        if task is None:
            raise RuntimeError("a CancelScope needs a task that runs")
        stack: _Stack | None = getattr(task, _STACK, None)
        if stack is None:
            stack = _Stack(task)
            setattr(task, _STACK, stack)
        self._entered = True
        self._requests_before = stack.requests_of_others()
        self._stack, self._parent, stack.innermost = stack, stack.innermost, self
        if not self._cancel_called:
            self._start_timer(task.get_loop())
        if stack.in_force() is not None or stack.delivery is not None:
            stack.deliver()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        stack = self._stack
        # A coroutine that is closed or collected leaves its blocks wherever that happens to be.
        is_closed = exc_type is GeneratorExit
        if stack is None or not (is_closed or stack.task is current_task()):
            raise RuntimeError("a CancelScope must be left by the task that entered it")
        if stack.innermost is not self:
            raise RuntimeError("a CancelScope must be left before the one around it")
        self._stop_timer()
        for _ in range(self._deliveries):
            stack.task.uncancel()
        self._deliveries = 0
        is_ours = self._was_delivered and isinstance(exc, asyncio.CancelledError)
        stack.innermost, self._stack, self._parent = self._parent, None, None
        if stack.innermost is None:
            stack.stop()
        if is_closed:
            return False
        outer = stack.in_force()
        if outer is not None:
            # Later awaits are cancelled for it. A shield has held it off from this block, so an exception that is ours
            # ends here; otherwise it gets the one that is on its way.
            stack.deliver()
            if not self._shield:
                outer._was_delivered |= is_ours
                return False
        self._cancelled_caught = is_ours and stack.requests_of_others() <= self._requests_before
        return self._cancelled_caught

    def _start_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop_timer()
        if self._deadline == math.inf:
            return
        if self._deadline <= loop.time():
            self.cancel()
        else:
            self._timer = loop.call_at(self._deadline, self.cancel)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
