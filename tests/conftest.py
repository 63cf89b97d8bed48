"""What all test folders share: the `world` fixture, a time limit for each test, and what to do without the package.

The helpers live in tests/parity/worlds.py; this file puts that folder on the path. While asynchrotron cannot be
imported its worlds are skipped, except under ASYNCHROTRON_REQUIRED=1 (the Makefile sets it), where that is an error.
"""

import contextlib
import faulthandler
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "parity"))
pytest.register_assert_rewrite("worlds", "wires")

import worlds  # noqa: E402

HERE = Path(__file__).parent
FOLDERS = tuple(HERE / name for name in ("parity", "regressions", "badinput", "unit", "threads"))
REAL_STDERR = pytest.StashKey[int]()
SECONDS_MAX = 20  # of any single test in those folders; the slowest takes about two


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "timeout(seconds): time limit of one test (pytest-timeout)")
    if worlds.IMPORT_ERROR is not None and os.environ.get("ASYNCHROTRON_REQUIRED") == "1":
        raise pytest.UsageError(f"ASYNCHROTRON_REQUIRED=1, but asynchrotron cannot be imported: {worlds.IMPORT_ERROR}")


def pytest_sessionstart(session: pytest.Session) -> None:
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        session.config.stash[REAL_STDERR] = os.dup(2)


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()  # pytest's own objects: what tests collect is then a hundred times quicker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent in FOLDERS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS_MAX))


@pytest.fixture(autouse=True)
def hard_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """pytest-timeout raises where the test is, and a loop may hand that to its exception handler; this ends all."""
    marker = request.node.get_closest_marker("timeout")
    own = marker.args[0] if marker is not None and marker.args else 0
    stderr = request.config.stash[REAL_STDERR]  # what is captured would go with the process
    faulthandler.dump_traceback_later(max(3 * SECONDS_MAX, 2 * own), exit=True, file=stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(params=worlds.CHOSEN)
def world(request: pytest.FixtureRequest) -> Iterator[worlds.World]:
    """The implementation under test: stock asyncio, our loop under stock's names, our loop and our names."""
    if request.param not in worlds.WORLDS:
        pytest.skip(f"asynchrotron cannot be imported: {worlds.IMPORT_ERROR}")
    yield worlds.WORLDS[request.param]
    gc.collect()  # what a test leaves behind complains here, not in the next one
    gc.freeze()  # and what pytest keeps of it need not be looked at again


@pytest.fixture
def ours(world: worlds.World) -> worlds.World:
    """Only the worlds with our loop: for what stock asyncio does not promise."""
    if not world.ours and world.name != "uvloop":
        pytest.skip("asynchrotron's own promise")
    return world
