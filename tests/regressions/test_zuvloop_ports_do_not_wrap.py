"""A port above 65535 or below 0 is an error; it does not wrap around to another port.

zuvloop#18: 65536 + n connected to n.
"""

import asyncio
import socket

import pytest
from worlds import STOCK, araised


@pytest.mark.parametrize("port", [65536, 70000, 65536 + 80, -1, 1 << 40])
def test_create_connection_and_server(world, port):
    def main(w):
        async def attempts():
            loop = w.aio.get_running_loop()
            return [
                (await araised(loop.create_connection(asyncio.Protocol, "127.0.0.1", port)))[0],
                (await araised(loop.create_server(asyncio.Protocol, "127.0.0.1", port)))[0],
            ]

        return attempts

    assert world.run(main(world)) == STOCK.run(main(STOCK))


@pytest.mark.parametrize("offset", [65536, 131072])
def test_nobody_is_reached_by_accident(world, offset):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()

        async def main():
            loop = world.aio.get_running_loop()
            kinds = [(await araised(loop.create_connection(asyncio.Protocol, host, port + offset)))[0]]
            with socket.socket() as client:
                client.setblocking(False)
                kinds.append((await araised(loop.sock_connect(client, (host, port + offset))))[0])
            return kinds

        assert set(world.run(main)) <= {"OverflowError", "gaierror"}
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
