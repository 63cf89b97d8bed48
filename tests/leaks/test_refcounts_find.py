"""What refcounts.py is for, it finds; on any Python, since here not only references are left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import os
import pytest

kept, cache = [], []

def test_clean():
    [object() for _ in range(100)]

def test_object():
    kept.append(object())

def test_descriptor():
    os.dup(1)

def test_cache_that_fills():
    if len(cache) < 6:
        cache.append(object())

@pytest.mark.parametrize("fails", [False])
def test_fails_the_second_time(fails):
    assert not os.environ.get("RAN")
    os.environ["RAN"] = "1"
"""


@pytest.mark.timeout(120)
def test_what_each_run_leaves_is_found(tmp_path):
    module = tmp_path / "test_leaving.py"
    module.write_text(MODULE)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("refcounts.py"), "-rA", "--rootdir", tmp_path, module],
        capture_output=True, text=True, env=os.environ | {"TEST_WORLDS": "native"}, cwd=tmp_path, check=False,
    )  # fmt: skip
    said = done.stdout
    assert done.returncode == 1, said + done.stderr
    for name, result in (
        ("clean", "PASSED"),
        ("cache_that_fills", "PASSED"),
        ("object", "FAILED"),
        ("descriptor", "FAILED"),
        ("fails_the_second_time[False]", "FAILED"),
    ):
        assert f"{result} test_leaving.py::test_{name}" in said, said
    assert "FAILED test_leaving.py::test_object - each run left blocks: [" in said, said
    assert "FAILED test_leaving.py::test_descriptor - each run left descriptors: [1, " in said, said
