"""Starting a child neither copies the heap nor waits for the child's program.

uvloop#118, skypilot#10804: fork() copies the page tables of the heap. How long the loop stands still is measured in
bench/longest_stop.py; here is what makes it short.
"""

import asyncio
import contextlib
import fcntl
import functools
import mmap
import os
import resource
import signal
import subprocess
import threading

import pytest

F_SETSIG = 10  # linux/fcntl.h; the fcntl module does not name it
RESCUE_SECONDS = 0.5  # for a loop that stands still
PAGES = (300 << 20) // mmap.PAGESIZE


def test_the_heap_is_not_write_protected(ours):
    """After a fork the parent takes a page fault for each page that it writes to."""

    async def main():
        heap = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # Small pages, or one fault would stand for many.
        heap.madvise(mmap.MADV_NOHUGEPAGE)

        def touch(value):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for page in range(PAGES):
                heap[page * mmap.PAGESIZE] = value
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        assert touch(1) >= PAGES  # the measure works
        child = await ours.aio.create_subprocess_exec("/bin/sleep", "60", stdout=ours.aio.subprocess.PIPE)
        faults = touch(2)
        child.kill()
        await child.communicate()
        # And so does the test: this one forks.
        child = await ours.aio.create_subprocess_exec("/bin/sleep", "60", preexec_fn=int)
        copied = touch(3)
        child.kill()
        await child.wait()
        return faults, copied

    faults, copied = ours.run(main)
    assert faults < PAGES // 8
    assert copied >= PAGES


def test_popen_does_not_read_its_error_pipe(ours, monkeypatch):
    """What would block: `_fork_exec`, which waits for the program, is not called."""
    calls = []
    native = subprocess.Popen._execute_child

    def counted(self, *args):
        calls.append(args)
        native(self, *args)

    async def main():
        await (await ours.aio.create_subprocess_exec("/bin/true", stdin=-1, stdout=-1)).communicate()
        await (await ours.aio.create_subprocess_shell("true", cwd="/", start_new_session=True)).wait()
        monkeypatch.setattr(subprocess.Popen, "_execute_child", counted)
        await (await ours.aio.create_subprocess_exec("/bin/true")).wait()

    import asynchrotron

    spawned = []
    spawn = asynchrotron._core.spawn
    monkeypatch.setattr(asynchrotron._core, "spawn", lambda *args: spawned.append(args) or spawn(*args))
    ours.run(main)
    assert (len(spawned), len(calls)) == (2, 1)


@contextlib.contextmanager
def held_back(path):
    """Whoever opens this file, execve() too, waits until the lease on it is given back: gives that function."""
    file = os.open(path, os.O_RDONLY)
    fcntl.fcntl(file, F_SETSIG, signal.SIGURG)  # it is ignored, other than SIGIO
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        os.close(file)
        pytest.skip("no leases on this file system")
    try:
        yield lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(file)


@pytest.mark.parametrize("keywords", [{}, {"start_new_session": True, "umask": 0o22, "process_group": -1}])
def test_the_loop_turns_while_the_program_is_loaded(ours, tmp_path, keywords):
    """However long that takes. A callback in the loop is what ends it, so no clock decides."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)

    async def main(**keywords):
        loop = asyncio.get_running_loop()
        turns, rescued = 0, None

        def turn():
            nonlocal turns
            turns += 1
            if turns == 500:
                give_back()
            elif rescued is None:
                loop.call_soon(turn)

        def rescue():
            nonlocal rescued
            if turns < 500:
                rescued = turns
                give_back()

        with held_back(program) as give_back:
            starting = asyncio.ensure_future(ours.aio.create_subprocess_exec(program, **keywords))
            loop.call_soon(turn)
            helper = threading.Timer(RESCUE_SECONDS, rescue)
            helper.start()
            child = await starting
            helper.cancel()
            helper.join()
            return rescued, await child.wait()

    assert ours.run(functools.partial(main, **keywords)) == (None, 7)
    # And the test sees a loop that stands still: Popen waits for this one.
    rescued, status = ours.run(functools.partial(main, preexec_fn=int))
    assert rescued < 10
    assert status == 7
