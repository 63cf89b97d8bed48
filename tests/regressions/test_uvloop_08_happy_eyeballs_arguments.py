"""create_connection(happy_eyeballs_delay=..., interleave=..., all_errors=True) is accepted and works.

uvloop: TypeError about unexpected keyword arguments.
"""

import socket
import sys

from wires import Recorder
from worlds import until


def test_accepted(world):
    async def main():
        loop = world.aio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            arguments = {"happy_eyeballs_delay": 0.25, "interleave": 1}
            if sys.version_info >= (3, 12):
                arguments["all_errors"] = True
            transport, proto = await loop.create_connection(
                lambda: Recorder([]), "localhost", listener.getsockname()[1], **arguments
            )
            assert transport.get_extra_info("peername") == listener.getsockname()
            transport.close()
            await until(lambda: proto.is_lost)

    world.run(main)
