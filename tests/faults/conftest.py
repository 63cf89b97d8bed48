"""Scenarios under injected faults, for a build with the feature `faults` (make faults); without one they are skipped.

A scenario is an `async def body(random)` decorated with `@faulted(...)`. It runs once per seed on a fresh loop. A fault
of its own (an OSError with one of the injected numbers) may end it; wrong bytes, a hang, a task or a descriptor left
behind fail it.

    ASYNCHROTRON_FAULT_SEEDS=5000 make faults            more seeds than the usual ones
    ASYNCHROTRON_FAULT_SEED=1234 make faults ARGS="-k …"   only this one: what a failure prints
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("faulted")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        from asynchrotron import _core

        able = hasattr(_core, "_inject_faults")
    except ImportError:
        able = False
    if able:
        from faulted import SEEDS

        for item in items:
            item.add_marker(pytest.mark.timeout(max(60, SEEDS / 10)))  # a seed takes a fiftieth of a second
        return
    if os.environ.get("ASYNCHROTRON_REQUIRED") == "1":
        raise pytest.UsageError("ASYNCHROTRON_REQUIRED=1, but this build of asynchrotron injects no faults")
    for item in items:
        item.add_marker(pytest.mark.skip(reason="needs a build with injected faults: make faults"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log records: pytest keeps them with their tracebacks, and those keep whole loops."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
