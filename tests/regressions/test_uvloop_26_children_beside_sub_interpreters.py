"""Starting a child while a sub-interpreter exists does not crash. (uvloop#650)"""

PROGRAM = """
import asyncio, sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

async def main():
    other = interpreters.create()
    for keywords in ({}, dict(stdout=aio.subprocess.PIPE), dict(start_new_session=True)):
        child = await aio.create_subprocess_exec("/bin/true", **keywords)
        await child.communicate()
        assert child.returncode == 0
    try:
        await aio.create_subprocess_exec("/no/such")
    except FileNotFoundError:
        pass
    interpreters.destroy(other)
    child = await aio.create_subprocess_exec("/bin/true")
    print(await child.wait())

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_no_crash(world):
    done = world.program(PROGRAM)
    assert (done.status, done.out, done.err) == (0, "0\n", "")
