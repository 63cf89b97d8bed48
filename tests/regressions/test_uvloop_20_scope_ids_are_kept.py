"""getaddrinfo('fe80::1%lo', ...) keeps the scope id, and so does a connection to such an address.

uvloop dropped it. zuvloop#66: the flow information of an IPv6 address went the same way.
"""

import socket

import pytest
from worlds import araised


@pytest.mark.parametrize("name", ["fe80::1%lo", "fe80::1%1"])
def test_getaddrinfo(world, name):
    async def main():
        return await world.aio.get_running_loop().getaddrinfo(name, 80, type=socket.SOCK_STREAM)

    answer = world.run(main)
    assert answer == socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    assert answer[0][4][3] == socket.if_nametoindex("lo")


def test_a_connection_is_tried_with_the_scope_id(world):
    async def main():
        loop, tried = world.aio.get_running_loop(), []

        async def sock_connect(sock, address):
            tried.append(address)
            raise OSError("not today")

        loop.sock_connect = sock_connect
        await araised(loop.create_connection(lambda: None, "fe80::1%lo", 80))
        return tried

    if world.name == "uvloop":
        pytest.skip("connects inside libuv")
    assert world.run(main)[0][3] == socket.if_nametoindex("lo")
