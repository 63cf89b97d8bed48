"""Living with child processes: exits, signals, pipes, waiters, closing, cancellation, what a protocol is told."""

import asyncio
import contextlib
import gc
import os
import re
import signal
import sys
import threading
import time
import warnings

import pytest
from children import PYTHON, open_descriptors
from worlds import araised, asyncio_log, in_thread, normal, outcome, parity, until

SLEEPER = ("/bin/sleep", "60")


def reaped(pid):
    """True once nobody has to wait for the process any more."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


class Recorder(asyncio.SubprocessProtocol):
    """Keeps the order of what it is told, per descriptor for data."""

    def __init__(self):
        self.told = []
        self.data = {1: b"", 2: b""}
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.told.append("connection_made")

    def pipe_data_received(self, fd, data):
        self.data[fd] += data

    def pipe_connection_lost(self, fd, exc):
        self.told.append(("pipe_connection_lost", fd, exc))

    def process_exited(self):
        self.told.append(("process_exited", self.transport.get_returncode()))

    def connection_lost(self, exc):
        self.told.append(("connection_lost", exc))
        if not self.over.done():
            self.over.set_result(None)


@parity
def test_exit_statuses(w):
    async def status(script):
        child = await w.aio.create_subprocess_exec("/bin/sh", "-c", script)
        return await child.wait(), child.returncode

    async def main():
        return [await status(f"exit {number}") for number in (0, 1, 127, 255, 256)] + [
            await status(f"kill -{name} $$") for name in ("TERM", "KILL", "USR1", "HUP")
        ]

    return w.run(main)


@parity
def test_signals_to_a_child(w):
    async def main():
        seen = []
        for act in (
            lambda child: child.terminate(),
            lambda child: child.kill(),
            lambda child: child.send_signal(signal.SIGUSR2),
            lambda child: child._transport.kill(),
        ):
            child = await w.aio.create_subprocess_exec(*SLEEPER)
            seen.append(outcome(child.send_signal, 0))
            act(child)
            seen.append(await child.wait())
            # A second one hits nobody.
            seen.append((outcome(child.kill), outcome(child.send_signal, signal.SIGTERM)))
        child = await w.aio.create_subprocess_exec(*SLEEPER)
        seen.append(outcome(child.send_signal, 4711))
        child.kill()
        return seen, await child.wait()

    return w.run(main)


@parity
def test_a_child_stopped_and_continued(w):
    async def main():
        child = await w.aio.create_subprocess_exec(*SLEEPER)
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        with contextlib.suppress(TimeoutError):
            async with w.aio.timeout(0.02):
                await child.wait()
        running = child.returncode
        child.send_signal(signal.SIGCONT)
        child.terminate()
        return running, await child.wait()

    return w.run(main)


@parity
def test_several_wait(w):
    async def main():
        child = await w.aio.create_subprocess_exec("/bin/cat", stdin=w.aio.subprocess.PIPE)
        waiting = [w.aio.ensure_future(child.wait()) for _ in range(4)]
        await w.aio.sleep(0)
        waiting[1].cancel()
        child.stdin.close()
        results = await w.aio.gather(*waiting, return_exceptions=True)
        return [repr(result) for result in results], await child.wait()

    return w.run(main)


@parity
def test_communicate(w):
    async def main():
        big = os.urandom(1_000_000)
        pipe = w.aio.subprocess.PIPE
        child = await w.aio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe)
        output, errors = await child.communicate(big)
        seen = [output == big, errors]
        child = await w.aio.create_subprocess_shell("cat; echo err >&2", stdin=pipe, stdout=pipe, stderr=pipe)
        seen.append(await child.communicate(b"in"))
        child = await w.aio.create_subprocess_exec("/bin/true", stdin=pipe)
        seen.append(await child.communicate(big))
        child = await w.aio.create_subprocess_exec("/bin/true")
        seen.append(await child.communicate())
        return seen

    return w.run(main)


@parity
def test_limit_and_lines(w):
    async def main():
        child = await w.aio.create_subprocess_exec(
            "/bin/cat", stdin=w.aio.subprocess.PIPE, stdout=w.aio.subprocess.PIPE, limit=64
        )
        child.stdin.write(b"short\n")
        seen = [await child.stdout.readline()]
        child.stdin.write(b"x" * 1000 + b"\n")
        child.stdin.close()
        seen.append(await araised(child.stdout.readline()))
        rest = len(await child.stdout.read())
        return seen, rest <= 1000, await child.wait()

    return w.run(main)


@parity
def test_writing_to_a_child_that_is_gone(w):
    async def main():
        child = await w.aio.create_subprocess_exec("/bin/true", stdin=w.aio.subprocess.PIPE)
        await child.wait()
        try:
            for _ in range(100):
                child.stdin.write(b"x" * 100_000)
                await child.stdin.drain()
                await w.aio.sleep(0)
        except (BrokenPipeError, ConnectionResetError) as error:
            told = isinstance(error, ConnectionError)
        child.stdin.close()
        return told, outcome(child.stdin.write, b"y")

    return w.run(main)


@parity
def test_pipes_end_before_the_process(w):
    async def main():
        child = await w.aio.create_subprocess_exec(
            "/bin/sh", "-c", "exec >&-; read line; exit 3", stdin=w.aio.subprocess.PIPE, stdout=w.aio.subprocess.PIPE
        )
        ended = await child.stdout.read()
        running = child.returncode
        child.stdin.write(b"\n")
        return ended, running, await child.wait()

    return w.run(main)


@parity
def test_exit_is_noticed_though_a_grandchild_holds_the_pipes(w):
    async def main():
        loop = w.aio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            Recorder, "/bin/sh", "-c", "sleep 60 & echo $!; exit 5", stdin=None, stderr=None
        )
        await until(lambda: transport.get_returncode() is not None and protocol.data[1].endswith(b"\n"))
        await until(lambda: ("process_exited", 5) in protocol.told)
        told = list(protocol.told)
        os.kill(int(protocol.data[1]), signal.SIGKILL)
        await protocol.over
        transport.close()
        return told, protocol.told

    return w.run(main)


@parity
def test_what_a_protocol_is_told(w):
    async def main():
        loop = w.aio.get_running_loop()
        transport, protocol = await loop.subprocess_shell(Recorder, "cat; echo err >&2; exit 4")
        seen = [list(protocol.told), transport.is_closing(), transport.get_protocol() is protocol]
        transport.get_pipe_transport(0).write(b"data")
        transport.get_pipe_transport(0).close()
        await protocol.over
        lost = [event for event in protocol.told if event[0] == "pipe_connection_lost"]
        seen += [
            sorted(lost),
            protocol.data,
            protocol.told[0],
            protocol.told[-1],
            ("process_exited", 4) in protocol.told,
        ]
        seen += [transport.get_returncode(), transport.is_closing(), outcome(transport.kill), outcome(transport.close)]
        return seen

    return w.run(main)


@parity
def test_the_order_around_an_exit(w):
    """No pipes: exit, then the end, each in a turn of its own."""

    async def main():
        loop = w.aio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(Recorder, "/bin/true", stdin=None, stdout=None, stderr=None)
        await protocol.over
        text = normal(repr(transport)).replace(str(transport.get_pid()), "PID")
        transport.close()
        return protocol.told, text

    return w.run(main)


@parity
def test_closing_a_transport_kills(w):
    async def main():
        loop = w.aio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(Recorder, *SLEEPER)
        transport.close()
        transport.close()
        closing = transport.is_closing()
        await protocol.over
        lost = [event[1] for event in protocol.told if event[0] == "pipe_connection_lost"]
        return closing, transport.get_returncode(), sorted(lost), reaped(transport.get_pid())

    return w.run(main)


@parity
def test_popen_reaps_first(w):
    """Somebody calls poll() or wait() on the Popen inside."""

    async def main():
        child = await w.aio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
        popen = child._transport.get_extra_info("subprocess")
        code = popen.wait()
        returncode = await child.wait()
        # Stock's watchers may have been faster, or say 255.
        return code in (0, 3), returncode in (3, 255)

    with asyncio_log():
        return w.run(main)


@parity
def test_debug_mode(w):
    async def main():
        with asyncio_log(10) as records:
            child = await w.aio.create_subprocess_exec("/bin/sh", "-c", "exit 3", stdout=w.aio.subprocess.PIPE)
            pid = str(child.pid)
            await child.communicate()
            shell = await w.aio.create_subprocess_shell("exit 4")
            shell_pid = str(shell.pid)
            await shell.wait()
        texts = [text.replace(pid, "PID").replace(shell_pid, "PID") for _, text in records]
        # Which pipes are open meanwhile is not for us to say, nor what a watcher tells.
        texts = [re.sub(r"PID.*>", "PID ...>", text) for text in texts]
        return sorted(text for text in texts if re.match(r"process '|execute|<_Unix", text))

    return w.run(main, debug=True)


@parity
def test_reprs(w):
    async def main():
        child = await w.aio.create_subprocess_exec(*SLEEPER)
        transport = child._transport
        seen = [repr(child), repr(transport)]
        child.kill()
        await child.wait()
        seen += [repr(child), repr(transport)]
        return [normal(text).replace(str(child.pid), "PID") for text in seen]

    return w.run(main)


@parity
def test_a_transport_left_open_warns(w):
    async def main():
        child = await w.aio.create_subprocess_exec(*SLEEPER)
        return child.pid

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = w.new_event_loop()
        pid = loop.run_until_complete(main())
        loop.close()
        del loop
        os.kill(pid, signal.SIGKILL)
        # A watcher's thread may keep it until then.
        deadline = time.monotonic() + 10
        while not (texts := [text for text in map(str_of, caught) if "_UnixSubprocessTransport" in text]):
            assert time.monotonic() < deadline
            gc.collect()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return [text.replace(str(pid), "PID") for text in texts]


def str_of(warning):
    return f"{warning.category.__name__}: {warning.message}"


@parity
def test_cancelled_while_starting(w):
    async def main():
        seen = []
        before = open_descriptors()
        for turns in range(6):
            task = w.aio.ensure_future(w.aio.create_subprocess_exec(*SLEEPER, stdin=w.aio.subprocess.PIPE))
            for _ in range(turns):
                await w.aio.sleep(0)
            task.cancel()
            try:
                child = await task
            except asyncio.CancelledError:
                seen.append("cancelled")
            else:
                child.kill()
                await child.wait()
                child.stdin.close()
                await w.aio.sleep(0)
        await until(lambda: open_descriptors() == before, what="for descriptors to go")
        children = subprocesses()
        return seen[0], children

    return w.run(main)


@parity
def test_cancelled_while_a_missing_program_starts(w):
    async def main():
        before = open_descriptors()
        for turns in range(4):
            task = w.aio.ensure_future(w.aio.create_subprocess_exec("/no/such", stdout=w.aio.subprocess.PIPE))
            for _ in range(turns):
                await w.aio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, FileNotFoundError):
                await task
        await until(lambda: open_descriptors() == before, what="for descriptors to go")
        return (subprocesses(),)

    return w.run(main)


def subprocesses():
    """Children of this process that nobody has reaped."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as children:
            found += children.read().split()
    return found


@parity
def test_a_time_limit_around_communicate(w):
    async def main():
        child = await w.aio.create_subprocess_exec(*SLEEPER, stdout=w.aio.subprocess.PIPE)
        try:
            await w.aio.wait_for(child.communicate(), 0.01)
        except TimeoutError:
            child.kill()
        return await child.communicate(), child.returncode

    return w.run(main)


@parity
def test_flow_control_towards_a_child(w):
    async def main():
        child = await w.aio.create_subprocess_exec(
            *PYTHON, "-c", "import sys; sys.stdin.read(1); sys.stdin.read()", stdin=w.aio.subprocess.PIPE
        )
        child.stdin.transport.set_write_buffer_limits(high=10)
        child.stdin.write(b"x" * 1_000_000)
        await child.stdin.drain()
        child.stdin.close()
        await child.stdin.wait_closed()
        return (await child.wait(),)

    return w.run(main)


@parity
def test_a_reader_that_is_slow(w):
    async def main():
        child = await w.aio.create_subprocess_exec(
            "/usr/bin/head", "-c", "3000000", "/dev/zero", stdout=w.aio.subprocess.PIPE, limit=1000
        )
        total = 0
        while data := await child.stdout.read(7000):
            total += len(data)
            await w.aio.sleep(0)
        return total, await child.wait()

    return w.run(main)


@parity
def test_signal_handlers_beside_children(w):
    """add_signal_handler, signal.signal, and SIGCHLD, which stays the program's own."""

    async def main():
        loop, seen = w.aio.get_running_loop(), []
        arrived = w.aio.Event()

        def note(name):
            seen.append(name)
            if len(seen) >= 3:
                arrived.set()

        previous = signal.signal(signal.SIGUSR2, lambda *_: note("signal.signal"))
        children_before = signal.getsignal(signal.SIGCHLD)
        loop.add_signal_handler(signal.SIGUSR1, note, "loop")
        try:
            for name in ("USR1", "USR2", "USR1"):
                child = await w.aio.create_subprocess_exec("/bin/sh", "-c", f"kill -{name} $PPID")
                assert await child.wait() == 0
            await arrived.wait()
            chld = []
            loop.add_signal_handler(signal.SIGCHLD, chld.append, 1)
            child = await w.aio.create_subprocess_exec("/bin/true")
            code = await child.wait()
            await until(lambda: chld)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
            loop.remove_signal_handler(signal.SIGCHLD)
            signal.signal(signal.SIGUSR2, previous)
        return sorted(seen), code, children_before == signal.SIG_DFL

    return w.run(main)


@parity
def test_children_of_loops_in_threads(w):
    def run():
        async def main():
            children = [await w.aio.create_subprocess_exec("/bin/sh", "-c", f"exit {number}") for number in range(5)]
            return [await child.wait() for child in children]

        return w.run(main)

    box = []
    threads = [threading.Thread(target=lambda: box.append(run())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return sorted(box), in_thread(run)


LEFT = """
import asyncio, sys

async def main():
    global child
    child = await aio.create_subprocess_exec("/bin/cat", stdin=aio.subprocess.PIPE)

loop = new_event_loop()
loop.run_until_complete(main())
print("left")
"""


@parity
def test_interpreter_exit_with_a_child(w):
    done = w.program(LEFT, python=("-W", "ignore"))
    # Stock 3.13.0 prints what its transports raise when they are collected.
    return done.status, done.out, w.stock or "Traceback" not in done.err


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="no watchers to set")
@pytest.mark.parametrize("name", ["SafeChildWatcher", "FastChildWatcher", "MultiLoopChildWatcher", "own"])
@parity
def test_a_watcher_of_the_programs_own_is_used(w, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return watched(w, name)


def watched(w, name):
    used = []
    base = getattr(asyncio, name, asyncio.ThreadedChildWatcher)

    class Watcher(base):
        def add_child_handler(self, pid, callback, *args):
            used.append(pid)
            super().add_child_handler(pid, callback, *args)

    policy = asyncio.get_event_loop_policy()
    before = policy._watcher
    watcher = Watcher()
    loop = w.new_event_loop()
    watcher.attach_loop(loop)
    policy._watcher = watcher
    try:

        async def main():
            child = await w.aio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
            missing = await araised(w.aio.create_subprocess_exec("/no/such"))
            return await child.wait(), used == [child.pid], missing

        return loop.run_until_complete(main())
    finally:
        watcher.close()
        policy._watcher = before
        loop.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="no watchers to set")
@parity
def test_a_watcher_that_is_not_active(w):
    policy = asyncio.get_event_loop_policy()
    before = policy._watcher
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy._watcher = asyncio.SafeChildWatcher()
    try:

        async def main():
            return await araised(w.aio.create_subprocess_exec("/bin/true"))

        return w.run(main)
    finally:
        policy._watcher = before
