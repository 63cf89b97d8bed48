"""When the process has no descriptors left, accept waits and tries again; nothing spins and no client is lost.

zuvloop#78. CPython: selector_events._accept_connection, ACCEPT_RETRY_DELAY of one second.
"""

import pytest

PROGRAM = """
import asyncio, logging, os, resource, socket, time

contexts = []
loop = new_event_loop()
def handler(loop, context):
    contexts.append((context["message"], type(context["exception"]).__name__))
loop.set_exception_handler(handler)
accepted = []

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        accepted.append(transport)
    def data_received(self, data):
        accepted[-1].write(data)

async def main():
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.socket() for _ in range(5)]
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
    for client in clients:
        client.setblocking(False)
        await loop.sock_connect(client, address)
    cpu = time.process_time()
    await asyncio.sleep(0.4)
    cpu = time.process_time() - cpu
    print("accepted while full", len(accepted))
    print("told", sorted(set(contexts)))
    print("spins" if cpu > 0.2 else "rests")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in spare:
        os.close(fd)
    deadline = time.monotonic() + 8
    while len(accepted) < 5 and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    print("accepted afterwards", len(accepted))
    for client in clients:
        client.close()
    for transport in accepted:
        transport.abort()
    server.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

loop.run_until_complete(main())
loop.close()
"""


def test_out_of_descriptors(world):
    if world.name == "uvloop":
        pytest.skip("told about, not tested")
    done = world.program(PROGRAM, python=("-W", "ignore"), timeout=20)
    assert done.err == ""
    assert done.out.splitlines() == [
        "accepted while full 0",
        "told [('socket.accept() out of system resource', 'OSError')]",
        "rests",
        "accepted afterwards 5",
    ]
