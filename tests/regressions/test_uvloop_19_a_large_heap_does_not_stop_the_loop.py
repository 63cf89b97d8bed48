"""Starting a child neither copies the heap nor waits for the child's program.

uvloop#118, skypilot#10804: fork() copies the page tables of the heap. How long the loop stands still is measured in
bench/longest_stop.py; here is what makes it short.
"""

import mmap
import resource
import subprocess

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
