"""The smallest server: a Protocol that sends back what it receives, and a client that checks it.

Without arguments it serves until Ctrl-C (try `nc 127.0.0.1 PORT`); with `--check` it talks to itself once and ends.
"""

import argparse
import asyncio
import os
from typing import cast


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def check(port: int) -> None:
    payload = os.urandom(256 * 1024)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(payload)
    echoed = await reader.readexactly(len(payload))
    writer.close()
    await writer.wait_closed()
    print(f"{len(echoed)} bytes came back", "unchanged" if echoed == payload else "CHANGED")


async def main(*, port: int = 0, check_only: bool = False) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port)
    async with server:
        port = server.sockets[0].getsockname()[1]
        if check_only:
            await check(port)
        else:
            print(f"echoing on 127.0.0.1:{port}", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Echo whatever arrives.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--check", action="store_true", help="serve, echo a quarter of a megabyte to itself, and end")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(port=arguments.port, check_only=arguments.check))
    except KeyboardInterrupt:
        pass
