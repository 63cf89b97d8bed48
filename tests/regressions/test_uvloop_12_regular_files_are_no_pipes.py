"""connect_read_pipe(regular file) and connect_write_pipe(regular file) raise ValueError; the process survives.

uvloop aborts; rloop accepts the file.
"""

import asyncio

import pytest

PROGRAM = """
import sys
loop = new_event_loop()
async def main():
    with open(sys.argv[1], "r+b", 0) as file:
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            try:
                await connect(aio.Protocol, file)
            except ValueError as exc:
                print(exc)
        print(file.read())
loop.run_until_complete(main())
loop.close()
"""


def test_as_asyncio(world, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    done = world.program(PROGRAM, str(path))
    assert done.status == 0
    assert done.out.splitlines() == [
        "Pipe transport is for pipes/sockets only.",
        "Pipe transport is only for pipes, sockets and character devices",
        "b'content'",
    ]


@pytest.mark.parametrize("name", ["connect_read_pipe", "connect_write_pipe"])
def test_a_descriptor_that_cannot_be_waited_for(world, name, tmp_path):
    """The file is not closed either: it is still its owner's."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        loop = world.aio.get_running_loop()
        with path.open("r+b", 0) as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await getattr(loop, name)(asyncio.Protocol, file)
            return file.read()

    assert world.run(main) == b"content"
