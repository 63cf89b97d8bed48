"""What peers and servers say to each other. Two commands: echo so many bytes, and pour so many bytes of a pattern.

Over plain connections a command is a head of 13 bytes; an echo's bytes follow it. Over HTTP they are a POST to /echo
and a GET of /pour. The number is the connection's, so that each can be accounted for.
"""

import struct

HEAD = struct.Struct(">cIQ")  # command, number, length
ECHO, POUR = b"E", b"P"

# No power of two, so that lost or doubled blocks are noticed.
_PERIOD = bytes(value % 251 for value in range(251 * 400))


def pattern(start: int, length: int) -> bytes:
    """Bytes start to start + length of what is poured."""
    begin = start % 251
    assert begin + length <= len(_PERIOD)
    return _PERIOD[begin : begin + length]


def echo_request(kind: str, number: int, length: int) -> bytes:
    if kind != "aiohttp":
        return HEAD.pack(ECHO, number, length)
    return f"POST /echo?number={number} HTTP/1.1\r\nHost: load\r\nContent-Length: {length}\r\n\r\n".encode()


def pour_request(kind: str, number: int, length: int) -> bytes:
    if kind != "aiohttp":
        return HEAD.pack(POUR, number, length)
    return f"GET /pour?number={number}&length={length} HTTP/1.1\r\nHost: load\r\n\r\n".encode()


def answer_length(head: bytes) -> int:
    """What an HTTP answer's head says about its body."""
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "http/1.1 200 ok", lines[0]
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
