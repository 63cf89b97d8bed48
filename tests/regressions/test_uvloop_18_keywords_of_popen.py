"""process_group, umask, user, group, extra_groups and pipesize do what they do for subprocess.Popen.

uvloop 0.23 rejects some of them.
"""

import fcntl
import json
import subprocess

import pytest
from children import OTHERS_CAN_RUN, OTHERS_CAN_RUN_REASON, PYTHON, STATE, state

AS_OTHERS = pytest.mark.skipif(not OTHERS_CAN_RUN, reason=OTHERS_CAN_RUN_REASON)


@pytest.mark.parametrize(
    "keywords",
    [
        {"process_group": 0},
        {"umask": 0o22},
        {"umask": 0o777, "process_group": 0, "cwd": "/"},
        pytest.param({"user": 65534}, marks=AS_OTHERS),
        pytest.param({"group": 65534}, marks=AS_OTHERS),
        pytest.param({"extra_groups": [7, 8]}, marks=AS_OTHERS),
        pytest.param(
            {"user": 65534, "group": 65534, "extra_groups": [7], "umask": 0o27, "process_group": 0},
            marks=AS_OTHERS,
        ),
    ],
)
def test_as_popen(world, keywords):
    async def main():
        return await state(world, **keywords)

    expected = subprocess.run(
        [*PYTHON, "-c", STATE], stdout=subprocess.PIPE, env={"FIRST": "1"}, check=True, **keywords
    )
    assert world.run(main) == json.loads(expected.stdout)


def test_pipesize(world):
    async def main():
        pipe = world.aio.subprocess.PIPE
        child = await world.aio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe, pipesize=4096)
        files = [child._transport.get_pipe_transport(fd).get_extra_info("pipe") for fd in (0, 1)]
        sizes = [fcntl.fcntl(file.fileno(), fcntl.F_GETPIPE_SZ) for file in files]
        await child.communicate(b"")
        return sizes

    assert world.run(main) == [4096, 4096]
