"""A writelines larger than the high-water mark calls pause_writing; the order is kept when only a part could be sent.

uvloop's sentence 37 (reported there as missing back-pressure); cpython's own 3.12.1 and 3.13.0 did not pause either.
"""

import pytest
from wires import play


def stock_pauses():
    """Whether the running interpreter's own transport has the fix (gh-112932 and its neighbours)."""
    import asyncio
    import inspect

    source = inspect.getsource(asyncio.selector_events._SelectorSocketTransport)
    return "_maybe_pause_protocol" in source[source.find("def writelines") :] or "def writelines" not in source


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_it_pauses_and_keeps_the_order(world, family, side):
    if world.stock and not stock_pauses():
        pytest.skip("this Python's own transport does not")
    if world.name == "uvloop":
        pytest.skip("told about, not tested")

    async def body(s):
        transport = await s.connect(tight=True)
        transport.set_write_buffer_limits(high=1000)
        pieces = [b"%07d" % n * 1000 for n in range(60)]
        transport.writelines(pieces)
        s.note("written")
        transport.write(b"tail")
        assert await s.peer_read(7000 * 60 + 4) == b"".join(pieces) + b"tail"
        await s.until(lambda: "resume" in s.log)

    assert play(world, body, family, side)["log"] == ["made", "pause", "written", "resume"]


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_more_pieces_than_one_system_call_takes(world, family):
    """IOV_MAX is 1024: longer lists need several calls, or one joined buffer."""
    if world.stock and not stock_pauses():
        pytest.skip("this Python's own transport sends nothing here")

    async def body(s):
        transport = await s.connect()
        pieces = [b"%d," % n for n in range(5000)]
        transport.writelines(pieces)
        transport.writelines([b""] * 2000)
        transport.writelines([b"."])
        expected = b"".join(pieces) + b"."
        assert await s.peer_read(len(expected)) == expected

    assert play(world, body, family, "client")["log"] == ["made"]


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_after_the_connection_is_lost(ours, family):
    """Dropped, with asyncio's warning from the fifth time on; stock 3.12.1 and 3.13.0 raised TypeError."""

    async def body(s):
        transport = await s.connect()
        s.peer.close()
        await s.until_lost()
        for _ in range(6):
            transport.writelines([b"x", b"y"])

    if ours.name == "uvloop":
        pytest.skip("our own promise")
    assert play(ours, body, family, "client")["logged"] == [("WARNING", "socket.send() raised exception.")] * 2
