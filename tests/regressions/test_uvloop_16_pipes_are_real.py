"""A child can reopen its standard streams by name: they are pipes, not sockets.

uvloop#505, uvloop#532: `cat /dev/stdin` fails with ENXIO.
"""

import os
import stat

import pytest
from children import PYTHON


@pytest.mark.parametrize(
    "program",
    [
        ("/bin/cat", "/dev/stdin"),
        ("/bin/sh", "-c", "cat > /proc/self/fd/1"),
        ("/bin/sh", "-c", "cat < /proc/self/fd/0 > /dev/stdout"),
        ("/bin/sh", "-c", "cat /dev/fd/0 | tee /dev/stderr > /dev/stdout"),
        (*PYTHON, "-c", "open('/proc/self/fd/1', 'wb').write(open('/dev/stdin', 'rb').read())"),
    ],
)
def test_reopened(world, program):
    async def main():
        pipe = world.aio.subprocess.PIPE
        child = await world.aio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe, stderr=pipe)
        output, _ = await child.communicate(b"through\n")
        return output, child.returncode

    assert world.run(main) == (b"through\n", 0)


def test_what_the_descriptors_are(world):
    async def main():
        pipe = world.aio.subprocess.PIPE
        child = await world.aio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe, stderr=pipe)
        modes = [os.stat(f"/proc/{child.pid}/fd/{fd}").st_mode for fd in (0, 1, 2)]
        await child.communicate(b"")
        return modes

    assert all(stat.S_ISFIFO(mode) for mode in world.run(main))
