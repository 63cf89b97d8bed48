"""Random programs do on ours, turn by turn, what they do on stock asyncio.

MODEL_EXAMPLES=100000 looks for longer, at programs that a usual run does not see; without it the same programs are run
each time, three hundred. A failure shows the smallest program found, as Python code.
"""

import asyncio
import os

import pytest
import worlds
from clockwork import JumpingClock, KernelClock, our_loop, our_loop_with_other_timers, stock_loop
from hypothesis import HealthCheck, given, settings
from programs import Program, programs, source
from runs import first_difference, run

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
LIMITS = settings(
    max_examples=EXAMPLES or 300,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
pytestmark = [
    pytest.mark.timeout(120 + EXAMPLES),
    # Hypothesis looks for who refers to its own generator, and gc.freeze() in conftest.py has hidden them.
    pytest.mark.filterwarnings("ignore:It looks like `register_random`"),
]

STOCK = stock_loop(asyncio.SelectorEventLoop)
if worlds.asynchrotron is not None:
    aio = worlds.asynchrotron
    base = aio.new_event_loop()
    base.close()
    TICKING, JUMPING = our_loop(type(base)), our_loop_with_other_timers(type(base))

    def kernel_clock() -> KernelClock:
        return KernelClock(base.time, aio._core._advance_clock)

    WAYS = {
        "our loop": lambda text: run(asyncio, TICKING, kernel_clock(), text),
        "ours": lambda text: run(aio, TICKING, kernel_clock(), text),
        "ours, with timers of a subclass": lambda text: run(aio, JUMPING, JumpingClock(), text),
        "our names on asyncio's loop": lambda text: run(aio, STOCK, JumpingClock(), text),
    }
else:
    WAYS = {}


@pytest.mark.parametrize("way", WAYS)
@given(program=programs())
@LIMITS
def test_the_trace_is_stocks(way: str, program: Program) -> None:
    text = source(program)
    expected = run(asyncio, STOCK, JumpingClock(), text)
    got = WAYS[way](text)
    if got != expected:
        pytest.fail(
            f"{way} does otherwise than stock (-: stock, +: {way}):\n{first_difference(expected, got)}\n\n{text}"
        )


@given(program=programs())
@LIMITS
def test_stock_does_the_same_twice(program: Program) -> None:
    text = source(program)
    assert run(asyncio, STOCK, JumpingClock(), text) == run(asyncio, STOCK, JumpingClock(), text)
