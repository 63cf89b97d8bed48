"""A future whose callbacks go away while they are compared or shown, and a task that is made anew, do no harm.

Found with tests/fuzz: the callbacks were looked at through borrowed references; a task made anew by `Future.__init__`
stayed in the list of a loop that it did not know any more; and one made anew by itself had its old context freed by the
very call that leaves it.
"""

import sys

import pytest
from worlds import STOCK

PROGRAMS = {
    "removed while compared": """
loop = new_event_loop()
future = aio.Future(loop=loop)
class Everything:
    def __eq__(self, other):
        return True
class Removing:
    busy = False
    def __eq__(self, other):
        if not self.busy:
            self.busy = True
            print(future.remove_done_callback(Everything()))
        return False
for number in range(5):
    future.add_done_callback(lambda _, number=number: None)
future.remove_done_callback(Removing())
print(future._callbacks)
loop.close()
""",
    "called while compared": """
loop = new_event_loop()
future = aio.Future(loop=loop)
class Completing:
    def __eq__(self, other):
        if not future.done():
            future.set_result(None)
            loop.call_soon(loop.stop)
            loop.run_forever()
        return False
for number in range(5):
    future.add_done_callback(lambda _, number=number: print(number))
future.remove_done_callback(Completing())
print(future._callbacks, future.done())
loop.close()
""",
    "collected while shown": """
import gc
loop = new_event_loop()
class Everything:
    def __eq__(self, other):
        return True
class Garbage:
    def __init__(self):
        self.me = self
    def __del__(self):
        future.remove_done_callback(Everything())
gc.disable()
for number in range(200):
    future = aio.Future(loop=loop)
    for each in range(5):
        future.add_done_callback(lambda _, each=each: None)
    gc.collect()
    Garbage()
    gc.set_threshold(1 + number % 20)
    gc.enable()
    future._callbacks
    gc.disable()
    gc.set_threshold(700)
print("shown")
loop.close()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_callbacks_that_go_away(world, name):
    if name == "collected while shown" and world.name != "native":
        pytest.skip("asyncio's own Future crashes, at least in 3.11")
    done = world.program(PROGRAMS[name], python=("-X", "dev"))
    assert done.status == 0, done.err
    assert done.out == ("shown\n" if name == "collected while shown" else STOCK.program(PROGRAMS[name]).out)


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="refused since Python 3.15")
def test_a_task_made_a_future_again(world):
    if world.name == "loop":
        pytest.skip("asyncio's Future takes no task of ours")
    done = world.program(
        """
loop = new_event_loop()
class Foreign:
    def get_debug(self):
        return False
    def call_soon(self, *args, **kwargs):
        pass
    def call_exception_handler(self, context):
        pass
async def main():
    for foreign in (Foreign(), aio.get_running_loop()):
        for awaitable in (aio.sleep(0), aio.sleep(1000), aio.Event().wait()):
            task = aio.create_task(awaitable)
            await aio.sleep(0)
            aio.Future.__init__(task, loop=foreign)
            repr(task)
            await aio.sleep(0)
            task.cancel()
            await aio.sleep(0)
            del task
    print("went on")
loop.set_exception_handler(lambda *_: None)
loop.run_until_complete(main())
loop.close()
""",
        python=("-X", "dev", "-W", "ignore"),
    )
    assert done.status == 0, done.err
    assert done.out == "went on\n"


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="refused since Python 3.15")
@pytest.mark.parametrize("then", ["pass", "await aio.sleep(0)", "task.cancel()", "await stuck()"])
def test_a_task_made_anew_by_itself(ours, then):
    """asyncio's own task crashes here."""
    done = ours.program(
        f"""
import contextvars
loop = new_event_loop()
loop.set_exception_handler(lambda *_: None)
async def stuck():
    await loop.create_future()
async def selfish():
    type(task).__init__(task, stuck(), loop=loop)
    {then}
def turn():
    loop.call_soon(loop.stop)
    loop.run_forever()
contextvars.ContextVar("variable").set(1)
for _ in range(20):
    task = loop.create_task(selfish())
    turn()
    turn()
    contextvars.copy_context()
    task.cancel()
    turn()
print(len(contextvars.copy_context()))
loop.close()
""",
        python=("-X", "dev", "-W", "ignore"),
    )
    assert done.status == 0, done.err
    assert done.out == "1\n"
