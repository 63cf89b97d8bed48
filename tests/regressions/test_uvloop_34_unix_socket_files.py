"""A Unix server's socket file is removed on close, as 3.13 documents, and cleanup_socket=False is honoured.

uvloop#-: it left the file behind. Older interpreters document no removal and keep the file.
"""

import asyncio
import os
import sys

import pytest
from worlds import since


def test_by_the_versions_rule(world, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        server = await world.aio.get_running_loop().create_unix_server(asyncio.Protocol, path)
        assert os.path.exists(path)
        server.close()
        await server.wait_closed()

    world.run(main)
    assert os.path.exists(path) is (sys.version_info < (3, 13))


@since(3, 13)
@pytest.mark.parametrize("cleanup", [True, False])
def test_cleanup_socket(world, tmp_path, cleanup):
    path = str(tmp_path / "socket")

    async def main():
        server = await world.aio.get_running_loop().create_unix_server(asyncio.Protocol, path, cleanup_socket=cleanup)
        server.close()
        await server.wait_closed()

    world.run(main)
    assert os.path.exists(path) is not cleanup


@since(3, 13)
def test_a_file_that_somebody_else_put_there_stays(world, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await world.aio.get_running_loop().create_unix_server(asyncio.Protocol, path)
        path.unlink()
        path.write_text("another program's")
        server.close()
        await server.wait_closed()

    world.run(main)
    assert path.read_text() == "another program's"


@since(3, 13)
def test_a_path_that_is_gone_already(world, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await world.aio.get_running_loop().create_unix_server(asyncio.Protocol, path)
        path.unlink()
        server.close()
        await server.wait_closed()

    world.run(main)
