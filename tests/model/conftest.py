"""The modules of this folder, for each other, and a time limit that fits many runs."""

import faulthandler
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def hard_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """As in tests/conftest.py: what pytest-timeout cannot end, this does."""
    limit = request.node.get_closest_marker("timeout")
    faulthandler.dump_traceback_later(limit.args[0] + 10, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
