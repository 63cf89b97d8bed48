"""What the ecosystem tests share: the modes, the servers of a session, and a way to run a program in a mode."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it out

import harness
import services

RunProgram = Callable[..., harness.Ended]


@pytest.fixture(autouse=True)
def hard_limit() -> None:
    """Not the one of the other test folders: here each program has a limit and a process of its own, and installing
    a server may take minutes."""


@pytest.fixture(params=harness.MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """A test for which only some modes make sense parametrizes this fixture itself, with indirect=True."""
    mode: str = request.param
    if mode != "stock" and (reason := harness.why_not_importable()):
        pytest.fail(f"{harness.FACTORY} cannot be imported by {sys.executable}:\n{reason}", pytrace=False)
    return mode


@pytest.fixture
def run_program(mode: str) -> RunProgram:
    """Runs a file of programs/ in the test's mode and checks how it ended."""

    def run(name: str, env: Mapping[str, str] | None = None) -> harness.Ended:
        ended = harness.run(harness.command(mode, harness.PROGRAMS / f"{name}.py"), env=env)
        harness.check(ended, mode)
        return ended

    return run


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Mapping[str, str]]:
    with services.postgresql() as variables:
        yield variables


@pytest.fixture(scope="session")
def redis() -> Iterator[Mapping[str, str]]:
    with services.redis() as variables:
        yield variables
