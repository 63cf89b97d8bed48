"""What was sent is received two sleep(0) later, if the turn in which it was sent took longer than a poll is put off.

The suite of websockets counts on it: asyncio polls in every turn. Ours puts a poll off for 20 microseconds, but did so
for 160 after one that had brought nothing, as the first turn of every run begins with.
"""

import asyncio
import socket
import time

import pytest
from worlds import parity

# Longer than a poll is put off, and well below 160 microseconds.
TURN_NS = 60_000


@parity
@pytest.mark.parametrize("attempt", range(3))
def test_two_turns_after_a_send(w, attempt):
    received = []
    with w.loop() as loop:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop.add_reader(theirs, lambda: received.append(theirs.recv(16)))

        async def main():
            end = time.perf_counter_ns() + TURN_NS
            ours.send(b"message")
            while time.perf_counter_ns() < end:
                pass
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return list(received)

        seen = loop.run_until_complete(main())
        loop.remove_reader(theirs)
        ours.close()
        theirs.close()
    return seen
