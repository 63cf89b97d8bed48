"""The interpreter ends while a daemon thread runs Python code that was called by ours: the process ends as ever.

Up to 3.13 CPython unwinds such a thread's stack. Our frames dropped what they held, without the GIL, and the end was
"FATAL: exception not rethrown", an abort or a crash. Loops of ours park at exit, but only between two turns.
"""

import pytest

BEGINNING = """
import asyncio, threading, time
begun = threading.Event()
def spin(*_):
    begun.set()
    while True:
        pass
class Spins:
    __repr__ = __del__ = __await__ = __le__ = __bool__ = spin
"""
END = """
threading.Thread(target=body, daemon=True).start()
begun.wait()
time.sleep(0.01)
print("end")
"""

WITHOUT_A_RUN = {
    "an attribute": """
def body():
    class Loop:
        get_debug = spin
    aio.Future(loop=Loop())
""",
    "a representation": """
def body():
    fut = aio.Future(loop=new_event_loop())
    fut.set_result(Spins())
    repr(fut)
""",
    "a finaliser": """
def body():
    fut = aio.Future(loop=new_event_loop())
    fut.set_result(Spins())
    del fut
""",
    "a truth value": """
def body():
    loop = new_event_loop()
    loop.set_debug(Spins())
    loop.get_debug() or loop.call_soon(print)
    aio.Future(loop=loop)
""",
    "a task factory": """
def body():
    loop = new_event_loop()
    loop.set_task_factory(spin)
    aio.ensure_future(aio.sleep(0), loop=loop)
""",
    "a task of ours on a loop of asyncio's": """
def body():
    async def main():
        spin()
    loop = asyncio.SelectorEventLoop()
    aio.Task(main(), loop=loop)
    loop.run_forever()
""",
    "a step by hand": """
async def main():
    await aio.wait_for(aio.sleep(0), Spins())
def body():
    loop = new_event_loop()
    asyncio._set_running_loop(loop)
    main().send(None)
""",
}
IN_A_RUN = {
    "a callback": """
def body():
    loop = new_event_loop()
    loop.call_soon(spin)
    loop.run_forever()
""",
    "a task": """
def body():
    async def main():
        spin()
    new_event_loop().run_until_complete(main())
""",
    "an awaited object": """
def body():
    async def main():
        await Spins()
    new_event_loop().run_until_complete(main())
""",
}


def ends_well(world, body):
    done = world.program(BEGINNING + body + END, python=("-X", "faulthandler", "-W", "ignore"))
    assert (done.status, done.out, done.err) == (0, "end\n", "")


@pytest.mark.parametrize("name", WITHOUT_A_RUN)
def test_outside_of_a_loop_of_ours(world, name):
    ends_well(world, WITHOUT_A_RUN[name])


@pytest.mark.slow  # at exit the loop is given a second
@pytest.mark.parametrize("name", IN_A_RUN)
def test_in_a_turn_that_does_not_end(world, name):
    ends_well(world, IN_A_RUN[name])
