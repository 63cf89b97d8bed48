"""The 8 bytes that a waiting datagram counts for are taken off when it is sent, so that the writer is resumed.

3.13.0 only adds them: get_write_buffer_size() grows for ever, and resume_writing() is never called.
"""

import asyncio
import os
import socket

from worlds import until


class Flow(asyncio.DatagramProtocol):
    def __init__(self):
        self.log = []

    def pause_writing(self):
        self.log.append("pause")

    def resume_writing(self):
        self.log.append("resume")

    def connection_lost(self, exc):
        self.log.append("lost")


def test_the_buffer_gets_empty(ours, tmp_path):
    path = os.path.join(tmp_path, "receiver")

    async def main():
        loop = ours.aio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            receiver.setblocking(False)
            sender, proto = await loop.create_datagram_endpoint(Flow, remote_addr=path, family=socket.AF_UNIX)
            sender.set_write_buffer_limits(high=1000, low=0)
            for _ in range(300):
                sender.sendto(b"x" * 100)
            assert proto.log == ["pause"]
            count = 0
            while count < 300:
                try:
                    count += len(receiver.recv(1000)) == 100
                except BlockingIOError:
                    await asyncio.sleep(0)
            await until(lambda: proto.log == ["pause", "resume"])
            assert sender.get_write_buffer_size() == 0
            sender.close()
            await until(lambda: "lost" in proto.log)

    ours.run(main)
