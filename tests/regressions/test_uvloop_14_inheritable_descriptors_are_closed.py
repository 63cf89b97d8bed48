"""With close_fds=True no inheritable descriptor of the parent is open in the child; one of the loop never is.

uvloop (reproduced on 0.23): inheritable descriptors leak.
"""

import os

import pytest
from children import state


@pytest.mark.parametrize("keywords", [{}, {"close_fds": True}, {"start_new_session": True}])
def test_closed(world, keywords):
    async def main():
        reads, writes = os.pipe()
        os.set_inheritable(reads, True)
        os.set_inheritable(writes, True)
        high = os.dup2(reads, 190, inheritable=True)
        try:
            return (await state(world, **keywords))["fds"]
        finally:
            for fd in (reads, writes, high):
                os.close(fd)

    assert world.run(main) == [0, 1, 2]


def test_left_open_only_on_request(world):
    async def main():
        reads, writes = os.pipe()
        high = os.dup2(reads, 190, inheritable=True)
        try:
            return (await state(world, close_fds=False))["fds"]
        finally:
            for fd in (reads, writes, high):
                os.close(fd)

    told = world.run(main)
    assert 190 in told
    # Neither the loop's own nor the pipes of this or another start.
    assert [
        os.path.realpath(f"/proc/self/fd/{fd}") for fd in told if "event" in os.path.realpath(f"/proc/self/fd/{fd}")
    ] == []
