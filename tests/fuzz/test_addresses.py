"""getaddrinfo() and getnameinfo() with arguments of all kinds answer, and refuse, as stock asyncio's loop does.

tests/regressions/test_zuvloop_getaddrinfo_arguments.py goes through a fixed set; here they are drawn, also by name, too
few and too many. Nothing here may ask a name server: what is no number and not `localhost` has to be refused before.
"""

import asyncio
import os
import socket
import string
from collections.abc import Iterator
from typing import Any

import pytest
import worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LIMITS = settings(
    max_examples=EXAMPLES or 400,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
OURS = ("loop", "native") if worlds.asynchrotron is not None else ()
pytestmark = [
    pytest.mark.timeout(120 + EXAMPLES),
    pytest.mark.filterwarnings("ignore:It looks like `register_random`"),
]


class Number(int):
    pass


class Name(str):
    __slots__ = ()


class Index:
    def __index__(self) -> int:
        return 80

    def __repr__(self) -> str:
        return "Index()"


class Failing:
    def __index__(self) -> int:
        raise ZeroDivisionError("no index")

    __str__ = __bytes__ = __index__  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Failing()"


V4 = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "017700000001",
    "2130706433",
    "0",
    "1.2.3.4 ",
]
V6 = ["::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1%lo", "fe80::1%1", "::1%lo", "::1%", "fe80::1%nowhere"]
V6 += ["fe80::1%4294967296", "2001:DB8::1", "1:2:3:4:5:6:7:8", "[::1]", "::1%0", "ff02::1%lo", "0:0:0:0:0:0:0:0001"]
# The only names that every machine's own files know.
NAMES = ["localhost", "", "\0", "a\0b", "127.0.0.1\0", "localhost\0"]
OTHER = [
    None,
    5,
    127,
    True,
    1.5,
    object,
    (),
    [],
    bytearray(b"127.0.0.1"),
    memoryview(b"::1"),
    Name("127.0.0.1"),
    Failing(),
]
KNOWN = st.sampled_from([*V4, *V6, *NAMES, *OTHER, *(host.encode() for host in (*V4, *V6, *NAMES))])
NUMERIC = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda ip: ip.exploded.upper()),
    st.ip_addresses(v=4).map(lambda ip: str(ip).encode()),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 1 << 33)).map(lambda pair: f"{pair[0]}%{pair[1]}"),
)
# Anything else may only be looked at as a number. Labels of more than 63 letters, and more, the IDNA codec refuses.
LETTERS = string.ascii_lowercase + "0123456789.:%-/[]xäß\u0660。\udc80\0 "
ANY = st.one_of(
    st.text(LETTERS, max_size=20), st.binary(max_size=12), st.sampled_from(["a" * 64, "ä" * 60, "xn--", "a..b"])
)

PORTS = st.one_of(
    st.sampled_from(
        [None, 0, 80, -1, 65535, 65536, "80", b"80", "", b"", "http", "no-such-service", " 80", "80 ", "+80"]
    ),
    st.sampled_from(
        ["0x50", "8\u0660", "1_0", 1 << 31, 1 << 40, 1 << 70, -(1 << 63), 1.5, True, False, Number(80), Name("80")]
    ),
    st.sampled_from(
        [Index(), Failing(), bytearray(b"80"), (), object, "80\0", "-1", "65536", "99999999999999999999", "domain"]
    ),
    st.integers(-2, 1 << 17),
    st.integers(-2, 1 << 17).map(str),
)
ODD = [None, "0", 1.5, Index(), Failing(), Number(0), True, -1, 1 << 31, 1 << 63, 255]
FAMILIES = st.sampled_from([0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, *ODD])
TYPES = st.sampled_from([0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, *ODD])
PROTOCOLS = st.sampled_from([0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, socket.IPPROTO_SCTP, *ODD])
BITS = [socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV]
BITS += [socket.AI_V4MAPPED, socket.AI_ALL, 1 << 30]
FLAGS = st.one_of(
    st.lists(st.sampled_from(BITS), max_size=3).map(lambda bits: sum(set(bits))), st.sampled_from([0, 0, *ODD])
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional arguments and arguments by name."""
    host = draw(st.one_of(KNOWN, NUMERIC, ANY))
    kwargs: dict[str, Any] = {}
    for name, values in (("family", FAMILIES), ("type", TYPES), ("proto", PROTOCOLS), ("flags", FLAGS)):
        if draw(st.booleans()):
            kwargs[name] = draw(values)
    if is_name(host):
        # A name that the files do not have in this family would be asked for.
        if host in ("localhost", b"localhost"):
            kwargs["family"] = draw(st.sampled_from([0, socket.AF_INET]))
            kwargs["flags"] = draw(st.sampled_from([0, socket.AI_PASSIVE, socket.AI_NUMERICHOST]))
        else:
            kwargs["flags"] = draw(st.sampled_from(BITS)) | socket.AI_NUMERICHOST
    args: tuple[Any, ...] = (host, draw(PORTS))
    shape = draw(st.integers(0, 19))
    if shape == 0:
        args += (0,)
    elif shape == 1:
        args = args[:1]
    elif shape == 2:
        kwargs["port"] = args[1]
        args = args[:1]
    elif shape == 3:
        kwargs |= {"host": args[0], "port": args[1]}
        args = ()
    elif shape == 4:
        kwargs["nonsense"] = 1
    return args, kwargs


def is_name(host: Any) -> bool:
    """May somebody be asked for it? Everything that is not surely a number."""
    if not isinstance(host, (str, bytes, bytearray)):
        return False
    try:
        text = host if isinstance(host, str) else bytes(host).decode("ascii")
        return text not in V4[:-1] and not is_numeric(text)
    except UnicodeDecodeError:
        return True


def is_numeric(text: str) -> bool:
    address, _, scope = text.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError, UnicodeError):
        return False
    return scope.isascii() and scope.isalnum() if "%" in text else True


@pytest.fixture(scope="module")
def loops() -> Iterator[dict[str, asyncio.AbstractEventLoop]]:
    made = {name: worlds.WORLDS[name].new_event_loop() for name in ("stock", *OURS)}
    yield made
    for loop in made.values():
        worlds.finish(loop)


def answer(loop: asyncio.AbstractEventLoop, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the call, or awaiting it, came to."""

    async def main() -> Any:
        return await getattr(loop, method)(*args, **kwargs)

    try:
        return loop.run_until_complete(main())
    except Exception as error:
        # The class whose function it is differs.
        return type(error).__name__, worlds.normal(error).replace("BaseEventLoop.", "EventLoop.")


@pytest.mark.parametrize("world", OURS)
@given(call=calls(), debug=st.booleans())
@LIMITS
def test_getaddrinfo(loops: dict[str, Any], world: str, call: Any, debug: bool) -> None:
    for loop in loops.values():
        loop.set_debug(debug)
    expected = answer(loops["stock"], "getaddrinfo", *call)
    assert answer(loops[world], "getaddrinfo", *call) == expected


HOST_FLAGS = st.lists(
    st.sampled_from([socket.NI_NUMERICSERV, socket.NI_NAMEREQD, socket.NI_DGRAM, socket.NI_NOFQDN, 1 << 20]), max_size=3
).map(lambda bits: sum(set(bits)))
SOCKADDRS = st.one_of(
    st.tuples(st.one_of(KNOWN, NUMERIC), PORTS),
    st.tuples(st.one_of(KNOWN, NUMERIC), PORTS, st.sampled_from([0, 1, 1 << 20, -1, 1 << 32, "1", None])),
    st.tuples(
        st.sampled_from(V6), PORTS, st.sampled_from([0, 5, 1 << 20]), st.sampled_from([0, 1, -1, 1 << 32, "1", None])
    ),
    st.sampled_from([(), ("127.0.0.1",), "127.0.0.1", 5, None, ["127.0.0.1", 80], ("::1", 80, 0, 0, 0)]),
)


@pytest.mark.parametrize("world", OURS)
@given(sockaddr=SOCKADDRS, flags=HOST_FLAGS, odd=st.sampled_from([None] * 9 + ODD), by_name=st.booleans())
@LIMITS
def test_getnameinfo(loops: dict[str, Any], world: str, sockaddr: Any, flags: int, odd: Any, by_name: bool) -> None:
    # Numbers only, lest somebody is asked whose they are. (The address is never looked up.)
    chosen: Any = flags | socket.NI_NUMERICHOST
    if odd is not None and not isinstance(odd, int):
        sockaddr, chosen = ("127.0.0.1", 80), odd
    call = ((sockaddr,), {"flags": chosen}) if by_name else ((sockaddr, chosen), {})
    assert answer(loops[world], "getnameinfo", *call) == answer(loops["stock"], "getnameinfo", *call)
