"""os.register_at_fork() hooks do not run in a child that executes a program.

uvloop#749: libuv forks, and the hooks ran between fork and exec.
"""

PROGRAM = """
import asyncio, os
ran = []
r, wr = os.pipe()
os.set_inheritable(wr, True)
os.register_at_fork(before=lambda: ran.append("before"), after_in_parent=lambda: ran.append("parent"),
                    after_in_child=lambda: os.write(wr, b"child"))

async def main():
    for keywords in ({}, dict(cwd="/"), dict(start_new_session=True), dict(close_fds=False)):
        child = await aio.create_subprocess_exec("/bin/true", **keywords)
        assert await child.wait() == 0

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
os.close(wr)
print(ran, os.read(r, 100))
"""


def test_no_hook_runs(world):
    done = world.program(PROGRAM)
    assert (done.status, done.out, done.err) == (0, "[] b''\n", "")
