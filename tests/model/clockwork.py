"""Loops whose time a test sets, so that two implementations run one program turn by turn in the same way.

Time is counted in ticks. A program asks `clock.ticks(count)` for a delay and gets one that ends at the first free tick
that is at least so far away: no two timers of a program end at the same tick, because the order of equal deadlines is
nobody's promise. Between two ticks everything runs that is ready.

There are two clocks. `JumpingClock` is for loops that ask `loop.time()`: stock asyncio's, and ours when a subclass
keeps the timers. `KernelClock` is for our loop's own timers, which read the kernel's clock: that one runs on, far
slower than ticks come, and is moved ahead from tick to tick.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

TURNS_MAX = 5000  # of one program; they need about a hundred


class Clock:
    """The ticks that somebody waits for. A tick of a cancelled timer is waited for like any other."""

    def __init__(self) -> None:
        self.tick = 0
        self.taken: list[int] = []  # in the future

    def ticks(self, count: int) -> float:
        """A delay of at least `count` ticks, in seconds."""
        tick = self.tick + count
        while tick in self.taken:
            tick += 1
        self.taken.append(tick)
        return self.seconds_until(tick)

    def advance(self) -> bool:
        """Wait for the next tick that is taken; False if there is none."""
        if not self.taken:
            return False
        tick = min(self.taken)
        self.taken.remove(tick)
        self.reach(tick)
        self.tick = tick
        return True

    def seconds_until(self, tick: int) -> float:
        raise NotImplementedError

    def reach(self, tick: int) -> None:
        raise NotImplementedError


class JumpingClock(Clock):
    """A tick is a second, and takes no time."""

    def seconds_until(self, tick: int) -> float:
        return float(tick - self.tick)

    def reach(self, tick: int) -> None:
        pass

    def time(self) -> float:
        return float(self.tick)


class KernelClock(Clock):
    """A tick is so long that the time that really passes is nothing; timers end in its first half."""

    LENGTH = 20.0

    def __init__(self, time: Callable[[], float], advance: Callable[[float], None]) -> None:
        super().__init__()
        self.time, self.advance_by = time, advance
        self.began = time()

    def seconds_until(self, tick: int) -> float:
        return self.began + tick * self.LENGTH - self.time()

    def reach(self, tick: int) -> None:
        self.advance_by(self.seconds_until(tick) + self.LENGTH / 2)


class Driven:
    """What the loops below share: they run until nothing more can happen."""

    clock: Clock
    turns: int  # since the tick began: turns in which nobody has anything to say may be saved at its end

    def begin(self, clock: Clock) -> None:
        self.clock, self.turns = clock, 0

    def turn(self) -> None:
        raise NotImplementedError

    def run_all(self) -> bool:
        """Run turn by turn; False if it did not come to an end."""
        idle, self.turns = False, 0
        for _ in range(TURNS_MAX):
            if self._ready:  # type: ignore[attr-defined]
                idle = False
            else:
                # A turn for timers without delay, which have no tick; then the next tick.
                if idle:
                    if not self.clock.advance():
                        return True
                    self.turns = 0
                idle = not idle
                # A turn never finds nothing: it would wait in the kernel.
                self.call_soon(nothing)  # type: ignore[attr-defined]
            self.turns += 1
            self.turn()
        return False


def nothing() -> None:
    pass


def stock_loop(base: type[asyncio.BaseEventLoop]) -> type[Any]:
    """A loop that is asyncio's in everything but its clock."""

    class JumpingLoop(Driven, base):  # type: ignore[misc, valid-type]
        def time(self) -> float:
            return self.clock.time()  # type: ignore[attr-defined, no-any-return]

        def _run_once(self) -> None:
            # run_forever() calls this until stop(); one call of it is our whole run.
            self.finished = self.run_all()
            self.stop()

        def turn(self) -> None:
            base._run_once(self)  # type: ignore[attr-defined]

    return JumpingLoop


def our_loop(base: type[Any]) -> type[Any]:
    """Our loop with its own timers: only the turns are taken one by one."""

    class TickingLoop(Driven, base):  # type: ignore[misc]
        def _run_turns(self) -> None:
            self.finished = self.run_all()

        def turn(self) -> None:
            self._run_once()

    return TickingLoop


def our_loop_with_other_timers(base: type[Any]) -> type[Any]:
    """Our loop with a subclass that keeps the timers, as simulators do."""

    class JumpingLoop(our_loop(base)):  # type: ignore[misc]
        def begin(self, clock: Clock) -> None:
            super().begin(clock)
            self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
            self.made = 0

        def time(self) -> float:
            return self.clock.time()  # type: ignore[no-any-return]

        def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            return self.call_at(self.time() + delay, callback, *args, context=context)

        def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            self.made += 1
            heapq.heappush(self.timers, (when, self.made, timer))
            return timer

        def turn(self) -> None:
            while self.timers and self.timers[0][0] <= self.clock.tick:
                _, _, timer = heapq.heappop(self.timers)
                if not timer.cancelled():
                    self.call_soon(fire, timer)
            super().turn()

    return JumpingLoop


def fire(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()
