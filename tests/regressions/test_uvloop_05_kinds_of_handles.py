"""call_later(0, f) gives an asyncio.TimerHandle with when(); call_soon gives an asyncio.Handle.

uvloop#482, uvloop#704: isinstance checks of libraries failed, and a zero delay lost when().
"""

import asyncio


def test_kinds(world):
    with world.loop() as loop:
        for delay in (0, -1, 0.5):
            timer = loop.call_later(delay, print)
            assert isinstance(timer, asyncio.TimerHandle)
            assert isinstance(timer, asyncio.Handle)
            assert isinstance(timer, world.aio.TimerHandle)
            assert abs(timer.when() - loop.time() - delay) < 5
            timer.cancel()
        for handle in (loop.call_soon(int), loop.call_soon_threadsafe(int)):
            assert isinstance(handle, asyncio.Handle)
            assert isinstance(handle, world.aio.Handle)
            assert not isinstance(handle, asyncio.TimerHandle)


def test_stocks_handles_are_handles_of_every_world(world):
    """And the other way round: what stock's own loop gives out is an instance of the world's names."""
    loop = asyncio.SelectorEventLoop()
    try:
        assert isinstance(loop.call_soon(int), world.aio.Handle)
        assert isinstance(loop.call_later(1, int), world.aio.TimerHandle)
    finally:
        loop.close()
