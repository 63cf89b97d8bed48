"""pass_fds gives a child those descriptors and no others, and leaves ours as they were; no child holds the end of
another child's pipe, or of its own.

zuvloop#56: descriptors in pass_fds stayed inheritable. zuvloop#6: a pipe end leaked into the child, so that it never
saw the end of its input.
"""

import os

from children import state


def test_pass_fds(world):
    async def main():
        reads, writes = os.pipe()
        try:
            told = await state(world, pass_fds=[writes])
            return told["fds"] == [0, 1, 2, writes], os.get_inheritable(writes), os.get_inheritable(reads)
        finally:
            os.close(reads)
            os.close(writes)

    assert world.run(main) == (True, False, False)


def test_a_child_sees_the_end_of_its_input_beside_others(world):
    async def main():
        pipe = world.aio.subprocess.PIPE
        start = world.aio.create_subprocess_exec
        # Started at the same time, so that each could inherit the others' pipes.
        children = await world.aio.gather(*(start("/bin/cat", stdin=pipe, stdout=pipe) for _ in range(8)))
        for child in children:
            # Once it answers, its loader has closed the files of its own.
            child.stdin.write(b"?")
            assert await child.stdout.readexactly(1) == b"?"
            inodes = [os.stat(f"/proc/{child.pid}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{child.pid}/fd")]
            assert len(inodes) == len(set(inodes)) == 3
        for child in children:
            child.stdin.close()
            assert await child.stdout.read() == b""
            assert await child.wait() == 0

    world.run(main)


def test_also_with_close_fds_off(world):
    async def main():
        pipe = world.aio.subprocess.PIPE
        start = world.aio.create_subprocess_exec
        children = await world.aio.gather(
            *(start("/bin/cat", stdin=pipe, stdout=pipe, close_fds=False) for _ in range(8))
        )
        for child in children:
            child.stdin.close()
            assert await child.stdout.read() == b""
            assert await child.wait() == 0

    world.run(main)
