"""resume_reading() twice, and pause_reading() twice, do nothing the second time: data comes once, no error.

zuvloop#33.
"""

import pytest
from wires import play


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_twice(world, family, side):
    if world.name == "uvloop":
        pytest.skip("raises")

    async def body(s):
        transport = await s.connect()
        transport.resume_reading()
        transport.resume_reading()
        s.peer.send(b"one")
        await s.until_received(3)
        transport.pause_reading()
        transport.pause_reading()
        s.peer.send(b"two")
        await s.settle()
        s.note("paused")
        transport.resume_reading()
        transport.resume_reading()
        await s.until_received(6)
        await s.settle()

    assert play(world, body, family, side)["log"] == ["made", ["data", b"one"], "paused", ["data", b"two"]]


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_resume_inside_data_received_while_paused(world, family):
    """Pausing and resuming within one data_received loses nothing and repeats nothing."""

    def data(proto, _):
        proto.transport.pause_reading()
        proto.transport.resume_reading()
        proto.transport.resume_reading()

    if world.name == "uvloop":
        pytest.skip("raises")

    async def body(s):
        await s.connect(data=data)
        for number in range(20):
            s.peer.send(b"%02d" % number)
            await s.until_received(2 * number + 2)

    trace = play(world, body, family, "client")
    assert trace["log"][1] == ["data", b"".join(b"%02d" % n for n in range(20))]
