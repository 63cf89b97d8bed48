"""How children are started and watched: the native way where it is to be had, asyncio's where it is refused."""

import asyncio
import errno
import os
import platform
import threading

import asynchrotron
import pytest
from asynchrotron import processes
from children import open_descriptors

PIPE = asyncio.subprocess.PIPE


def run(main):
    with asyncio.Runner(loop_factory=asynchrotron.new_event_loop) as runner:
        return runner.run(main())


async def scenario():
    """Start, fail to start, end in several ways."""
    child = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
    seen = [await child.communicate(b"x"), child.returncode]
    for args, keywords in ((["/no/such"], {}), (["/bin/true"], {"cwd": "/no/such"})):
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec(*args, **keywords)
        seen.append(caught.value.filename)
    child = await asyncio.create_subprocess_exec("/bin/sleep", "60")
    child.kill()
    return [*seen, await child.wait()]


EXPECTED = [(b"x", None), 0, "/no/such", "/no/such", -9]


def test_natively(monkeypatch):
    made = []
    spawn = processes._core.spawn

    def spy(*args):
        made.append(spawn(*args))
        return made[-1]

    monkeypatch.setattr(processes._core, "spawn", spy)

    async def main():
        # A loop has threads of its own for names only.
        before = threading.active_count()
        told = await scenario()
        return told, threading.active_count() - before

    assert run(main) == (EXPECTED, 0)
    assert len(made) == 4
    assert None not in made
    assert [(child.pidfd, child.exec_fd) for child in made] == [(-1, -1)] * 4


def test_where_the_clone_is_refused(monkeypatch):
    monkeypatch.setattr(processes._Popen, "refused", False)
    asked = []
    monkeypatch.setattr(processes._core, "spawn", lambda *args: asked.append(args))
    assert run(scenario) == EXPECTED
    assert processes._Popen.refused
    assert len(asked) == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EMFILE, errno.EPERM])
def test_where_pidfds_are_refused(monkeypatch, number):
    monkeypatch.setattr(processes._Popen, "refused", True)

    def refuse(pid):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(processes._core, "open_child", refuse)
    assert run(scenario) == EXPECTED


# A sandbox: the kernel answers ENOSYS to some system calls of this process and its children.
SANDBOX = """
import asyncio, ctypes, struct, sys

def refuse(*rules):
    # Classic BPF over struct seccomp_data: the number at 0, the low half of the first argument at 16.
    code = []
    for number, flags, without in rules:
        # Load the number; jump over this rule if it is another call.
        code.append((0x20, 0, 0, 0))
        code.append((0x15, 0, 4 if flags else 1, number))
        if flags:
            code.append((0x20, 0, 0, 16))
            code.append((0x45, 2, 0, without))
            code.append((0x45, 0, 1, flags))
        code.append((0x06, 0, 0, 0x00050000 | 38))
    code.append((0x06, 0, 0, 0x7fff0000))
    program = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()
    return buffer

CLONE, PIDFD_OPEN, CLOSE_RANGE = {clone}, 434, 436
CLONE_VM, CLONE_VFORK, CLONE_PIDFD, CLONE_THREAD = 0x100, 0x4000, 0x1000, 0x10000
rules = {rules}
kept = refuse(*rules)

from asynchrotron import processes, new_event_loop
PIPE = asyncio.subprocess.PIPE

async def main():
    import os
    high = os.dup2(0, 150, inheritable=True)
    for _ in range(2):
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", "cat; cd /proc/$$/fd; echo *; exit 3", stdin=PIPE, stdout=PIPE, pass_fds=sys.argv[1:])
        print(await child.communicate(b"x"), child.returncode)
    try:
        await asyncio.create_subprocess_exec("/no/such")
    except FileNotFoundError as error:
        print(error.filename)
    print(processes._Popen.refused)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers of system calls")
@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ("[(CLOSE_RANGE, 0, 0)]", False),
        ("[(CLONE, CLONE_VM, CLONE_VFORK | CLONE_THREAD)]", True),
        ("[(CLONE, CLONE_VM, CLONE_VFORK | CLONE_THREAD), (PIDFD_OPEN, 0, 0)]", True),
    ],
    ids=["close_range", "clone", "clone and pidfd_open"],
)
def test_in_a_sandbox(rules, refused):
    import worlds

    number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    done = worlds.run_python(["-c", SANDBOX.replace("{clone}", str(number)).replace("{rules}", rules)])
    line = "(b'x0 1 2 3\\n', None) 3\n"
    assert (done.status, done.out, done.err) == (0, f"{line}{line}/no/such\n{refused}\n", "")


def test_a_child_that_is_dropped_while_it_starts():
    async def main():
        before = open_descriptors()
        starting = asyncio.create_subprocess_exec("/bin/sleep", "60", stdin=PIPE)
        task = asyncio.ensure_future(starting)
        await asyncio.sleep(0)
        return before, task

    async def cancelled(task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop = asynchrotron.new_event_loop()
    before, task = loop.run_until_complete(main())
    loop.run_until_complete(cancelled(task))
    loop.run_until_complete(asyncio.sleep(0))
    assert open_descriptors() == before
    loop.close()


class Undecided:
    """A child that never says whether its program runs."""

    def __init__(self, child):
        self.child = child

    def __getattr__(self, name):
        return getattr(self.child, name)

    def exec_outcome(self):
        return None


def test_a_generator_exit_while_it_starts(monkeypatch):
    """The coroutine is closed by hand, outside of any loop's run."""
    spawn = processes._core.spawn
    monkeypatch.setattr(processes._core, "spawn", lambda *args: Undecided(spawn(*args)))
    loop = asynchrotron.new_event_loop()
    before = None

    async def main():
        nonlocal before
        before = open_descriptors()
        loop.starting = asyncio.create_subprocess_exec("/bin/sleep", "60")
        loop.starting.send(None)

    loop.run_until_complete(main())
    with pytest.warns(ResourceWarning, match="is still running"):
        loop.starting.close()
    assert open_descriptors() == before
    import subprocess

    while subprocess._active:  # What Popen keeps of children whose objects are gone.
        subprocess._cleanup()
    loop.close()


def test_children_are_not_made_by_hand():
    with pytest.raises(TypeError):
        asynchrotron._core.Child()
    with pytest.raises(ProcessLookupError):
        asynchrotron._core.open_child(2**22 + 1)
    with pytest.raises(TypeError):
        asynchrotron._core.spawn()


def refuse(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def children():
    """The children there are, also dead ones that nobody reaped. Those of multiprocessing live on after other tests."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as listed:
            found.update(listed.read().split())
    return found


def test_where_the_start_cannot_be_watched(monkeypatch):
    """Found by injected faults: the child was killed, and nobody reaped it."""

    async def undecided(loop, child):
        refuse()

    async def main():
        monkeypatch.setattr(processes, "_decided", undecided)
        before, children_before = open_descriptors(), children()
        with pytest.raises(OSError, match="No space left"):
            await asyncio.create_subprocess_exec("/bin/sleep", "60", stdin=PIPE, stdout=PIPE)
        assert children() == children_before
        # The child's exit may be known before its pipes have ended, which takes them a turn each, as asyncio's.
        for _ in range(5):
            await asyncio.sleep(0)
        return open_descriptors() == before

    assert run(main)


def test_where_the_exit_of_a_failed_start_cannot_be_watched(monkeypatch):
    async def main():
        monkeypatch.setattr(processes, "_reap", lambda child: False)  # not yet
        # The program is missing: only what waits for the child's exit watches its pidfd.
        add_reader = asyncio.get_running_loop()._add_reader

        def only_the_start(fd, callback, *args):
            return refuse() if callback is processes._reap_at_exit else add_reader(fd, callback, *args)

        monkeypatch.setattr(asyncio.get_running_loop(), "_add_reader", only_the_start)
        before = children()
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such")
        assert children() == before

    run(main)
