"""transport.write(bytearray): changing it afterwards does not change what is sent.

asyncio fails here too from 3.12 on, where it keeps a memoryview of what it could not send. zuvloop#61.
"""

import pytest
from wires import Scene


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("size", [10, 20_000, 2_000_000], ids=["small", "medium", "large"])
@pytest.mark.parametrize("how", ["write", "view", "writelines"])
def test_mutation_after_write(ours, family, size, how):
    if ours.name == "uvloop":
        pytest.skip("uvloop fails, too")

    async def main(loop):
        s = Scene(ours, loop, family, "client")
        transport = await s.connect(tight=True)
        data = bytearray(b"a" * size)
        if how == "write":
            transport.write(data)
        elif how == "view":
            transport.write(memoryview(data))
        else:
            transport.writelines([b"<", data, b">"])
        data[:] = b"b" * size
        got = await s.peer_read(size + (2 if how == "writelines" else 0))
        assert b"b" not in got
        assert got.count(b"a") == size
        await s.end()

    with ours.loop() as loop:
        loop.run_until_complete(main(loop))


def test_it_can_be_resized_at_once(ours):
    """No exported buffer is left on the program's bytearray."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")

    async def main(loop):
        s = Scene(ours, loop, "tcp", "client")
        transport = await s.connect(tight=True)
        data = bytearray(b"a" * 1_000_000)
        transport.write(data)
        data.clear()
        data.extend(b"b" * 10)
        assert await s.peer_read(1_000_000) == b"a" * 1_000_000
        await s.end()

    with ours.loop() as loop:
        loop.run_until_complete(main(loop))
