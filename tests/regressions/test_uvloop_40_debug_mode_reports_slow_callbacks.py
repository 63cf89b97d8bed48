"""Debug mode names whatever held the loop for longer than `slow_callback_duration`.

rloop has no such report. tests/parity/test_debug_mode.py compares the texts; here is every kind of thing a loop runs.
"""

import asyncio
import logging
import socket
import threading
import time

import pytest

LIMIT_SECONDS = 0.01
# A busy machine makes other things slow as well: of the reports, those about what is slow by intention.
CULPRITS = ("hold", "readable", "culprit", "Slow.data_received", "_read_ready")


def hold(*_):
    time.sleep(2 * LIMIT_SECONDS)


@pytest.fixture
def reports(caplog):
    caplog.set_level(logging.WARNING, logger="asyncio")

    def about_culprits():
        messages = [record.getMessage() for record in caplog.records]
        slow = [message for message in messages if message.startswith("Executing")]
        return [message for message in slow if any(culprit in message for culprit in CULPRITS)]

    return about_culprits


def by_call_soon(world, loop):
    loop.call_soon(hold)


def by_timer(world, loop):
    loop.call_at(loop.time(), hold)


def by_another_thread(world, loop):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(hold,))
    thread.start()
    thread.join()


def by_done_callback(world, loop):
    future = loop.create_future()
    future.add_done_callback(hold)
    future.set_result(None)


def by_reader(world, loop):
    ours, theirs = socket.socketpair()

    def readable():
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
        hold()

    loop.add_reader(ours, readable)
    theirs.send(b"x")


@pytest.mark.parametrize("way", [by_call_soon, by_timer, by_another_thread, by_done_callback, by_reader])
def test_a_slow_callback(world, way, reports):
    with world.loop(debug=True) as loop:
        loop.slow_callback_duration = LIMIT_SECONDS
        way(world, loop)
        loop.run_until_complete(world.aio.sleep(LIMIT_SECONDS))
        assert len(reports()) == 1
        assert reports()[0].startswith(
            ("Executing <Handle ", "Executing <TimerHandle ", "Executing <_ThreadSafeHandle ")
        )


def test_a_slow_step_names_its_task(world, reports):
    async def quick_then_slow():
        await world.aio.sleep(0)
        hold()

    with world.loop(debug=True) as loop:
        loop.slow_callback_duration = LIMIT_SECONDS
        loop.run_until_complete(loop.create_task(quick_then_slow(), name="the culprit"))
    assert len(reports()) == 1
    assert "name='the culprit'" in reports()[0]
    assert "quick_then_slow" in reports()[0]


def test_a_slow_protocol(world, reports):
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            hold()
            self.transport.close()

        def connection_made(self, transport):
            self.transport = transport

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        loop = world.aio.get_running_loop()
        ours, theirs = socket.socketpair()
        protocol = Slow()
        protocol.lost = loop.create_future()
        await loop.create_connection(lambda: protocol, sock=ours)
        loop.slow_callback_duration = LIMIT_SECONDS
        theirs.send(b"x")
        await protocol.lost
        theirs.close()

    world.run(main, debug=True)
    assert len(reports()) == 1
