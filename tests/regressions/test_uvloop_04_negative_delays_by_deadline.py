"""call_later(-k, f, k) for k = 0, 1, 2 runs 2, 1, 0: by deadline, as asyncio does.

uvloop turned delays that are not positive into call_soon and ran 0, 1, 2 (uvloop#739's neighbour).
"""


def test_order(world):
    with world.loop() as loop:
        seen = []
        for k in range(3):
            loop.call_later(-k, seen.append, k)
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        assert seen == [2, 1, 0]


def test_order_inside_a_running_loop(world):
    async def main():
        loop, seen = world.aio.get_running_loop(), []
        for k in range(10):
            loop.call_later(-k, seen.append, k)
        await world.aio.sleep(0.001)
        return seen

    assert world.run(main) == list(range(9, -1, -1))
