"""The flow information of an IPv6 address tuple reaches the kernel and comes back.

zuvloop#66.
"""

import socket

IPV6_FLOWINFO_SEND = 33  # linux/in6.h; the socket module does not name it
FLOW = 0xA0000  # a traffic class: a flow label would have to be leased first


def test_addresses_have_four_parts(world):
    async def main():
        loop = world.aio.get_running_loop()
        with socket.socket(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as client:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
            listener.bind(("::1", 0))
            listener.listen()
            listener.setblocking(False)
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listener))
            host, port, _, scope = listener.getsockname()
            await loop.sock_connect(client, (host, port, FLOW, scope))
            connection, address = await accepting
            with connection:
                assert len(address) == 4
                assert client.getpeername()[2] == FLOW

    world.run(main)


def test_getaddrinfo_and_getnameinfo(world):
    async def main():
        loop = world.aio.get_running_loop()
        found = await loop.getaddrinfo("::1", 80, type=socket.SOCK_STREAM)
        assert found[0][4] == ("::1", 80, 0, 0)
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await loop.getnameinfo(("::1", 80, 5, 0), flags) == ("::1", "80")

    world.run(main)
