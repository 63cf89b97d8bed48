"""A timer that ran and its callback's object, which keeps it, are garbage together.

Our handles are not tracked by the collector. Found by tests/model: as_completed(timeout=...) kept its tasks for ever,
so that their exceptions were never reported.
"""

import gc
import weakref

import pytest


class Owner:
    def __init__(self, loop, arm):
        self.timer = arm(loop, self.ran)

    def ran(self):
        pass


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "arm", [lambda loop, call: loop.call_later(0.001, call), lambda loop, call: loop.call_at(loop.time(), call)]
)
def test_the_owner_goes(world, arm, debug):
    with world.loop(debug=debug) as loop:
        gone = weakref.ref(Owner(loop, arm))
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        gc.collect()
        assert gone() is None


def test_so_does_one_that_failed(world):
    errors = []
    with world.loop(errors=errors) as loop:

        class Failing(Owner):
            def ran(self):
                raise ValueError("text")

        gone = weakref.ref(Failing(loop, lambda loop, call: loop.call_later(0.001, call)))
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert len(errors) == 1
        gc.collect()
        assert gone() is None
