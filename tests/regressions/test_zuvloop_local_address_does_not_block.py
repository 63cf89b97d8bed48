"""Resolving the local address of a connection happens off the loop: a slow name server does not stop other tasks.

zuvloop#183.
"""

import socket
import time

from worlds import araised, until


def test_the_loop_goes_on(world, monkeypatch):
    real = socket.getaddrinfo

    def slow(host, *args, **kwargs):
        if host == "slow.invalid":
            time.sleep(0.3)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main():
        loop, beats = world.aio.get_running_loop(), []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connecting = loop.create_task(
                araised(loop.create_connection(lambda: None, *listener.getsockname(), local_addr=("slow.invalid", 0)))
            )
            while not connecting.done():
                beats.append(loop.time())
                await world.aio.sleep(0.01)
            assert (await connecting)[0] in ("gaierror", "OSError")
        await until(lambda: True)
        return len(beats)

    if world.name == "uvloop":
        return
    assert world.run(main) >= 5
