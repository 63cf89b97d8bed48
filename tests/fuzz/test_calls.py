"""Random calls on everything, from everywhere: the same results and errors as stock's, and no crash whatever is called.

FUZZ_EXAMPLES=20000 looks for longer, at scripts that a usual run does not see; without it the same scripts are run
each time. A failure shows the smallest script found; `python tests/fuzz/actor.py native 10` runs one (a JSON string).
"""

import itertools
import os
from collections.abc import Iterator

import pytest
import worlds
from actors import Actor, Crashed
from hypothesis import HealthCheck, given, settings
from scripts import Script, scripts

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LIMITS = settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
OURS = ("loop", "native") if worlds.asynchrotron is not None else ()
pytestmark = [
    pytest.mark.timeout(120 + EXAMPLES),
    pytest.mark.filterwarnings("ignore:It looks like `register_random`"),
]


@pytest.fixture(scope="module")
def actors() -> Iterator[dict[str, Actor]]:
    made = {world: Actor(world) for world in ("stock", *OURS)}
    made |= {f"{world}, hostile": Actor(world, hostile=True) for world in OURS}
    yield made
    for actor in made.values():
        actor.end()


@pytest.mark.parametrize("world", OURS)
@given(script=scripts(hostile=False))
@LIMITS
def test_calls_answer_as_stocks(actors: dict[str, Actor], world: str, script: Script) -> None:
    stock, ours = actors["stock"], actors[world]
    stock.send(script.text)
    ours.send(script.text)
    try:
        expected, got = stock.answer(), ours.answer()
    except Crashed as crash:
        fail(crash, script)
    if got != expected:
        pytest.fail(
            f"{world} does otherwise (-: stock, +: {world}):\n{first_difference(expected, got)}\n\n{script.text}"
        )


@pytest.mark.parametrize("world", OURS)
@given(script=scripts(hostile=True))
@LIMITS
def test_nothing_crashes(actors: dict[str, Actor], world: str, script: Script) -> None:
    try:
        actors[f"{world}, hostile"].play(script.text)
    except Crashed as crash:
        fail(crash, script)


def fail(crash: Crashed, script: Script) -> None:
    pytest.fail(f"{crash.args[0]}\n\n{script.text}")


def first_difference(expected: list[str], got: list[str]) -> str:
    """Where two traces part, with the lines before."""
    for index, (mine, theirs) in enumerate(itertools.zip_longest(expected, got)):
        if mine != theirs:
            before = "\n".join(f"    {line}" for line in expected[max(0, index - 5) : index])
            return f"{before}\n  - {mine}\n  + {theirs}"
    return ""
