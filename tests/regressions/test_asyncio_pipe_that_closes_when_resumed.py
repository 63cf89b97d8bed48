"""A protocol that writes and closes in resume_writing() has its last bytes delivered.

asyncio's pipe transport calls connection_lost() right after resume_writing(), whatever was written in it.
"""

import asyncio
import os

from worlds import until

LAST = bytes(300_000)


class Finishing(asyncio.BaseProtocol):
    lost = False

    def connection_made(self, transport):
        self.transport = transport

    def resume_writing(self):
        if not self.transport.is_closing():
            self.transport.write(LAST)
            self.transport.close()

    def connection_lost(self, exc):
        self.lost = True


def test_nothing_is_lost(ours):
    async def main():
        loop = ours.aio.get_running_loop()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        transport, proto = await loop.connect_write_pipe(Finishing, open(writing, "wb", 0))
        transport.write(bytes(200_000))
        count = 0
        while True:
            try:
                piece = os.read(reading, 1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            if not piece:
                break
            count += len(piece)
        await until(lambda: proto.lost)
        os.close(reading)
        return count

    assert ours.run(main) == 200_000 + len(LAST)
