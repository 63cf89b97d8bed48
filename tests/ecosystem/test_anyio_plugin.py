"""anyio's pytest plugin with our loop as its loop_factory, and pytest itself under `python -m asynchrotron`."""

import sys
from pathlib import Path

import harness
import pytest

pytestmark = pytest.mark.timeout(120)

MODULE = """
import asyncio
import importlib

import anyio
import pytest

FACTORY = {factory!r}


@pytest.fixture(scope="module")
def anyio_backend():
    if FACTORY is None:
        return "asyncio", {{}}
    module, _, name = FACTORY.partition(":")
    return "asyncio", {{"loop_factory": getattr(importlib.import_module(module), name)}}


@pytest.fixture(scope="module")
async def loop_of_the_fixture():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 3600)
        yield asyncio.get_running_loop()
        group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(20))
async def test_same_loop(loop_of_the_fixture, number):
    await anyio.sleep(0.001)
    loop = asyncio.get_running_loop()
    assert loop is loop_of_the_fixture
    if number == 0:
        print()
        print("ran on", f"{{type(loop).__module__}}.{{type(loop).__qualname__}}")


@pytest.mark.anyio
async def test_timeout(loop_of_the_fixture):
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(3600)
    assert scope.cancelled_caught
"""


def test_anyio_plugin(mode: str, tmp_path: Path) -> None:
    factory = harness.FACTORY if mode in {"loop", "debug"} else None
    module = tmp_path / "test_inside.py"
    module.write_text(MODULE.format(factory=factory))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    interpreter = [sys.executable, *(["-X", "dev"] if mode in {"stock", "debug"} else [])]
    if mode == "install":
        interpreter += ["-m", "asynchrotron"]
    ended = harness.run([*interpreter, "-m", "pytest", "-s", "-p", "no:cacheprovider", str(module)], cwd=tmp_path)
    assert ended.exit_status == 0, str(ended)
    assert "21 passed" in ended.stdout, str(ended)
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("ran on "))
    assert harness.ran_on(line.removeprefix("ran on "), mode), str(ended)
