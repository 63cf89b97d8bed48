"""A Python that was built without OpenSSL has no ssl module; asyncio works there, and so do we."""

from worlds import run_python

WITHOUT = """
import sys
sys.modules["ssl"] = sys.modules["_ssl"] = None
"""

PROGRAM = """
async def main():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await aio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"plain\\n")
    print((await reader.readline()).decode().strip())
    writer.close()
    server.close()

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


def test_plain_connections(world):
    done = run_python(["-c", WITHOUT + world.preamble + PROGRAM])
    assert (done.status, done.out, done.err) == (0, "plain\n", "")
