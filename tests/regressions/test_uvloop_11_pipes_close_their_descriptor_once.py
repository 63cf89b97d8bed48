"""After a pipe transport closed, its descriptor is closed, and once: what takes over the number stays open.

uvloop#763: the second close() hit a stranger.
"""

import asyncio
import gc
import os

import pytest
from worlds import until


class Watching(asyncio.Protocol):
    lost = False

    def connection_lost(self, exc):
        self.lost = True


@pytest.mark.parametrize("end", ["reading", "writing"])
@pytest.mark.parametrize("how", ["close", "peer", "both"])
def test_the_next_user_of_the_number(world, end, how):
    async def main():
        loop = world.aio.get_running_loop()
        reading, writing = os.pipe()
        own, other = (reading, writing) if end == "reading" else (writing, reading)
        pipe = open(own, "rb" if end == "reading" else "wb", 0)
        connect = loop.connect_read_pipe if end == "reading" else loop.connect_write_pipe
        transport, proto = await connect(Watching, pipe)
        if how in ("peer", "both"):
            os.close(other)
        if how in ("close", "both"):
            transport.close()
        await until(lambda: proto.lost)
        strangers = [os.open(os.devnull, os.O_RDONLY)]
        while strangers[-1] < own:  # the lowest free number
            strangers.append(os.open(os.devnull, os.O_RDONLY))
        assert strangers[-1] == own
        transport.close()
        pipe.close()
        del transport, pipe
        gc.collect()
        await asyncio.sleep(0.002)
        for stranger in strangers:
            os.fstat(stranger)
            os.close(stranger)
        if how == "close":
            os.close(other)

    world.run(main)
