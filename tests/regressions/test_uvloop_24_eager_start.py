"""create_task(eager_start=True) works on 3.14 and newer, by the loop's method and by the function.

uvloop#746, uvloop#754: TypeError.
"""

import pytest
from worlds import since

pytestmark = since(3, 14)


@pytest.mark.parametrize("how", ["loop", "function"])
def test_it_runs_at_once(world, how):
    async def main():
        loop, log = world.aio.get_running_loop(), []
        create = loop.create_task if how == "loop" else world.aio.create_task

        async def child(name, pause):
            log.append((name, "start"))
            if pause:
                await world.aio.sleep(0)
            log.append((name, "end"))
            return name

        quick = create(child("quick", False), eager_start=True)
        assert quick.done()
        slow = create(child("slow", True), eager_start=True, name="named")
        assert not slow.done()
        assert slow.get_name() == "named"
        late = create(child("late", False), eager_start=False)
        log.append("created")
        assert [await quick, await slow, await late] == ["quick", "slow", "late"]
        return log

    assert world.run(main)[:4] == [("quick", "start"), ("quick", "end"), ("slow", "start"), "created"]
