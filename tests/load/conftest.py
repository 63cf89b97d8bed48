"""Thousands of connections at once, and peers that are slow, silent, or gone (make load).

The server runs in the test's process, on our loop; its peers are processes of their own (peers.py). Nothing is timed:
bytes are compared, connections, tasks and descriptors counted.

    make load                              1,000 idle and 100 busy connections
    make load LOAD=full                    10,000 and 1,000; both processes need 11,100 descriptors
    make load ARGS="-k many"               one of the tests
"""

import logging
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("servers", "driver")

from sizes import BUSY, IDLE  # noqa: E402

SPARE = 100  # descriptors beside the connections
SECONDS_MAX = 600  # of one test; what hangs ends then


def pytest_configure(config: pytest.Config) -> None:
    needed = IDLE + BUSY + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard < needed:
        raise pytest.UsageError(f"{needed} descriptors are needed, RLIMIT_NOFILE allows {hard}: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ASYNCHROTRON_REQUIRED") != "1":
        try:
            import aiohttp  # noqa: F401
            import asynchrotron  # noqa: F401
        except ImportError as missing:
            for item in items:
                item.add_marker(pytest.mark.skip(reason=f"make load: {missing}"))
    for item in items:
        item.add_marker(pytest.mark.timeout(SECONDS_MAX))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log records: pytest keeps them with their tracebacks, and those keep connections."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
