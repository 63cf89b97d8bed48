"""Starting child processes: every keyword of Popen, what the child inherits, errors, audit events."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from children import OTHERS_CAN_RUN, OTHERS_CAN_RUN_REASON, PYTHON, open_descriptors, state
from worlds import araised, error, in_thread, parity, since


@parity
def test_plain(w):
    async def main():
        return await state(w, "a b", "ü", "")

    return w.run(main)


@parity
def test_directory_umask_session_group(w, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "wörk dir"
    folder.mkdir(exist_ok=True)

    async def main():
        return [
            await state(w, cwd=folder),
            await state(w, cwd=os.fsencode(folder)),
            await state(w, umask=0o027),
            await state(w, start_new_session=True),
            await state(w, process_group=0),
            await state(w, process_group=-1, umask=-1),
        ]

    return w.run(main)


@parity
def test_joining_a_group(w):
    async def main():
        leader = await w.aio.create_subprocess_exec("/bin/sleep", "60", process_group=0)
        member = await w.aio.create_subprocess_exec("/bin/sleep", "60", process_group=leader.pid)
        seen = os.getpgid(member.pid) == leader.pid
        os.killpg(leader.pid, signal.SIGTERM)
        return seen, await leader.wait(), await member.wait()

    return w.run(main)


@parity
def test_environment(w, monkeypatch):
    monkeypatch.setenv("FIRST", "from the parent")
    monkeypatch.setenv("ÜMLAUT", "ä")

    async def main():
        inherited = await state(w, env=None)
        assert "ÜMLAUT" in inherited["env"]
        return [inherited["first"], await state(w, env={}), await state(w, env={b"FIRST": b"bytes", "SECOND": "2"})]

    return w.run(main)


@pytest.mark.skipif(not OTHERS_CAN_RUN, reason=OTHERS_CAN_RUN_REASON)
@parity
def test_other_users(w):
    async def main():
        return [
            await state(w, user=65534, group=65534, extra_groups=[7, 65534]),
            await state(w, user="nobody"),
            await state(w, extra_groups=[]),
            await araised(w.aio.create_subprocess_exec("/bin/true", user="nobody at all")),
            await araised(w.aio.create_subprocess_exec("/bin/true", group=-2)),
        ]

    return w.run(main)


@parity
def test_preexec_function(w):
    async def main():
        ran = await state(w, preexec_fn=lambda: os.umask(0o011))
        child = w.aio.create_subprocess_exec("/bin/true", preexec_fn=lambda: 1 / 0)
        return ran, await araised(child)

    return w.run(main)


@parity
def test_signals_are_as_python_says(w):
    """A blocked mask is inherited; handlers are not; SIGPIPE and SIGXFSZ are ignored by Python alone."""
    ignored = ("-c", "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status; grep SigCgt /proc/self/status")

    async def main():
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
        try:
            for keywords in ({}, {"restore_signals": False}, {"restore_signals": True, "close_fds": False}):
                child = await w.aio.create_subprocess_exec(
                    "/bin/sh", *ignored, stdout=w.aio.subprocess.PIPE, **keywords
                )
                output, _ = await child.communicate()
                # The C library's own two are ignored by posix_spawn, which older versions use in one of these cases.
                numbers = dict(line.split(":") for line in output.decode().splitlines())
                seen.append({name: int(number, 16) & ~(3 << 31) for name, number in numbers.items()})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
        return seen

    return w.run(main)


@parity
def test_descriptors(w):
    async def overriding(fd):
        with pytest.warns(RuntimeWarning, match="pass_fds overriding close_fds"):
            return (await state(w, close_fds=False, pass_fds=(fd,)))["fds"]

    async def main():
        extra = os.open("/dev/null", os.O_RDONLY)
        high = os.dup2(extra, 150, inheritable=False)
        loose = os.dup2(extra, 151, inheritable=True)
        try:
            told = [
                (await state(w))["fds"],
                (await state(w, pass_fds=(high,)))["fds"],
                (await state(w, pass_fds=[loose, high, high]))["fds"],
                151 in (await state(w, close_fds=False))["fds"],
                await overriding(high),
                os.get_inheritable(high),
                os.get_inheritable(loose),
            ]
        finally:
            for fd in (extra, high, loose):
                os.close(fd)
        return told

    return w.run(main)


@parity
def test_redirections(w, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"redirected-{w.name}"
    aio = w.aio

    async def main():
        seen = []
        script = "echo out; echo err >&2; read line; echo $line"
        with path.open("w+b") as file:
            for stdin, stdout, stderr in (
                (aio.subprocess.DEVNULL, file, aio.subprocess.STDOUT),
                (aio.subprocess.PIPE, aio.subprocess.PIPE, aio.subprocess.STDOUT),
                (aio.subprocess.PIPE, file.fileno(), aio.subprocess.PIPE),
                (aio.subprocess.PIPE, aio.subprocess.DEVNULL, file),
                (aio.subprocess.DEVNULL, aio.subprocess.PIPE, aio.subprocess.PIPE),
            ):
                child = await aio.create_subprocess_exec(
                    "/bin/sh", "-c", script, stdin=stdin, stdout=stdout, stderr=stderr
                )
                streams = [stream is not None for stream in (child.stdin, child.stdout, child.stderr)]
                seen.append((streams, await child.communicate(b"in\n" if child.stdin else None), await child.wait()))
                file.seek(0)
                seen.append(file.read())
                file.truncate(0)
                file.seek(0)
        return seen

    return w.run(main)


SWAPPED = """
import os, sys
sys.path.insert(0, {folder!r})

async def main():
    # Our own 0, 1 and 2 given to a child in another order.
    reads, writes = os.pipe()
    os.write(writes, b"to stdin\\n")
    saved = os.dup(1)
    os.dup2(reads, 1)
    os.dup2(saved, 0)
    os.close(reads)
    os.close(writes)
    child = await aio.create_subprocess_exec("/bin/cat", stdin=1, stdout=0, stderr=0)
    assert await child.wait() == 0
    os.close(0)
    os.close(1)
    child = await aio.create_subprocess_exec(
        "/bin/sh", "-c", "cat; ls -l /proc/self/fd | wc -l", stdin=aio.subprocess.PIPE, stdout=aio.subprocess.PIPE
    )
    told = await child.communicate(b"through low pipes\\n")
    os.write(saved, repr(told).encode())

import asyncio
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@parity
def test_low_descriptors_trade_places(w):
    done = w.program(SWAPPED.format(folder=os.path.dirname(__file__)))
    return done.status, done.out, done.err


@parity
def test_errors_name_the_file(w, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    plain = folder / "plain"
    plain.write_text("no program")
    closed = folder / "closed"
    closed.write_text("#!/nonexistent/interpreter\n")
    closed.chmod(0o755)
    text = folder / "text"
    text.write_text("echo no header\n")
    text.chmod(0o755)

    async def failing(*args, **kwargs):
        try:
            await w.aio.create_subprocess_exec(*args, **kwargs)
        except OSError as exc:
            return type(exc).__name__, exc.errno, exc.strerror, exc.filename, exc.filename2
        raise AssertionError("started")

    async def main():
        before = open_descriptors()
        pipe = w.aio.subprocess.PIPE
        seen = [
            await failing("no-such-program"),
            await failing("/no/such/program", stdin=pipe, stdout=pipe, stderr=pipe),
            await failing(b"/no/such/bytes"),
            await failing(plain),
            await failing(str(folder)),
            await failing(closed),
            await failing(text),
            await failing("/bin/true", cwd="/no/such/folder"),
            await failing("/bin/true", cwd=plain),
            await failing("/bin/true", executable="/no/such/executable"),
            await failing("/bin/true", process_group=2**22 + 1),
            await failing("/bin/true", process_group=2**22 + 1, cwd="/"),
            await failing("/bin/true", pass_fds=[180]),
            await failing("/bin/true", stdin=180),
            await failing("/bin/true", stdin=180, close_fds=False),
            await failing(b"/bin/true", stdout=180, close_fds=False),
            await failing("/bin/true", stderr=180, cwd="/"),
            await failing("no-such-program", env={"PATH": f"{folder}/nowhere:{plain}"}),
            await failing("plain", env={"PATH": f"/nowhere:{folder}"}),
            await failing("x" * 300_000),
            await failing("/bin/true", "x" * 300_000),
        ]
        assert open_descriptors() == before
        return seen

    return w.run(main)


@parity
def test_wrong_arguments(w):
    async def main():
        start, shell = w.aio.create_subprocess_exec, w.aio.create_subprocess_shell
        before = open_descriptors()
        seen = [
            await araised(start("/bin/true\0x")),
            await araised(start("/bin/true", "a\0b")),
            await araised(start("/bin/true", 7)),
            await araised(start(7)),
            await araised(start("/bin/true", cwd="a\0b")),
            await araised(start("/bin/true", cwd=7.5)),
            await araised(start("/bin/true", env={"a=b": "c"})),
            await araised(start("/bin/true", env={"a": "\0"})),
            await araised(start("/bin/true", env={"a": 7})),
            await araised(start("/bin/true", env=7)),
            await araised(start("/bin/true", process_group="x")),
            await araised(start("/bin/true", umask="x")),
            await araised(start("/bin/true", umask=None)),
            await araised(start("/bin/true", pass_fds=[-1])),
            await araised(start("/bin/true", pass_fds=["x"])),
            await araised(start("/bin/true", pass_fds=7)),
            await araised(start("/bin/true", pass_fds=[2**40])),
            await araised(start("/bin/true", startupinfo=7)),
            await araised(start("/bin/true", creationflags=1)),
            await araised(start("/bin/true", bufsize=1)),
            await araised(start("/bin/true", shell=True)),
            await araised(start("/bin/true", text=True)),
            await araised(start("/bin/true", encoding="ascii")),
            await araised(start("/bin/true", errors="ignore")),
            await araised(start("/bin/true", universal_newlines=True)),
            await araised(start("/bin/true", nonsense=1)),
            await araised(start("/bin/true", stdin="x")),
            await araised(start("/bin/true", stdout=-77)),
            await araised(start("/bin/true", preexec_fn=7)),
            await araised(shell(["/bin/true"])),
            await araised(shell(b"true\0")),
        ]
        assert open_descriptors() == before
        return seen

    return w.run(main)


@parity
def test_flags_that_are_no_booleans(w):
    # Up to 3.11 they must be numbers where the stdlib forks; where it calls posix_spawn(), anything has a truth value.
    async def outcome(*command, **kwargs):
        try:
            child = await w.aio.create_subprocess_exec(*command, **kwargs)
        except Exception as exc:
            return error(exc)
        return await child.wait()

    async def main():
        seen = []
        for flag in ("restore_signals", "start_new_session"):
            for value in (None, "x", "", 1, 0, 2**40, 1.5):
                seen.append((flag, value, await outcome("true", cwd="/", **{flag: value})))
                seen.append((flag, value, await outcome("/bin/true", close_fds=False, **{flag: value})))
        return seen

    return w.run(main)


@parity
def test_command_forms(w, tmp_path_factory):
    script = tmp_path_factory.getbasetemp() / "script.sh"
    script.write_text('#!/bin/sh\necho "$0" "$@"\n')
    script.chmod(0o755)

    async def output(child):
        return (await child.communicate())[0].decode("latin-1").replace(str(script.parent), "")

    async def main():
        start, shell, pipe = w.aio.create_subprocess_exec, w.aio.create_subprocess_shell, w.aio.subprocess.PIPE
        return [
            await output(await start(script, "1", stdout=pipe)),
            await output(await start(os.fsencode(script), b"1", "\udcff", stdout=pipe)),
            await output(await start("another name", "-c", "echo $0 $1", "x", "y", executable="/bin/sh", stdout=pipe)),
            await output(await start("script.sh", env={"PATH": f"/nowhere:{script.parent}"}, stdout=pipe)),
            await output(await shell("echo $0; exit 0", stdout=pipe)),
            await output(await shell(b"echo bytes", stdout=pipe)),
            await output(await shell("echo $0", executable="/bin/bash", stdout=pipe)),
            await output(await shell(f"{script} 2", stdout=pipe, close_fds=False)),
        ]

    return w.run(main)


@parity
def test_pipe_sizes(w):
    import fcntl

    async def main():
        child = await w.aio.create_subprocess_exec(
            "/bin/cat", stdin=w.aio.subprocess.PIPE, stdout=w.aio.subprocess.PIPE, pipesize=8192
        )
        sizes = [
            fcntl.fcntl(child._transport.get_pipe_transport(fd).get_extra_info("pipe").fileno(), fcntl.F_GETPIPE_SZ)
            for fd in (0, 1)
        ]
        return sizes, await child.communicate(b"x" * 100_000)

    return w.run(main)


AUDITED = """
import asyncio, sys
seen = []
def hook(event, args):
    if event.startswith(("subprocess", "os.posix_spawn", "os.fork", "os.exec")):
        seen.append((event, [str(arg)[:60] for arg in args]))
sys.addaudithook(hook)

async def main():
    for args, keywords in [
        (("/bin/true", "x"), {}),
        (("true",), {}),
        (("/bin/true",), dict(cwd="/")),
        (("/bin/true",), dict(close_fds=False, env={"A": "B"})),
        (("/bin/true",), dict(start_new_session=True, stdout=asyncio.subprocess.PIPE)),
        (("/bin/true",), dict(preexec_fn=len)),
        (("/no/such",), {}),
    ]:
        try:
            await (await aio.create_subprocess_exec(*args, **keywords)).communicate()
        except Exception as error:
            seen.append(repr(error))
    await (await aio.create_subprocess_shell("true")).wait()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
for line in seen:
    print(line)
"""


@parity
def test_audit_events(w):
    done = w.program(AUDITED)
    return done.status, done.out, done.err


REFUSING = """
import asyncio, sys
def hook(event, args):
    if event == "subprocess.Popen":
        raise PermissionError("no children here")
sys.addaudithook(hook)

async def main():
    await aio.create_subprocess_exec("/bin/true", stdin=-1, stdout=-1)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    try:
        runner.run(main())
    except PermissionError as error:
        print(error)
"""


@parity
def test_an_audit_hook_that_refuses(w):
    done = w.program(REFUSING, python=("-X", "dev"))
    return done.status, done.out, done.err


@parity
def test_no_descriptor_stays(w):
    async def main():
        before = open_descriptors()
        for _ in range(3):
            child = await w.aio.create_subprocess_exec(
                "/bin/cat", stdin=w.aio.subprocess.PIPE, stdout=w.aio.subprocess.PIPE, stderr=w.aio.subprocess.PIPE
            )
            await child.communicate(b"x")
        await w.aio.sleep(0)
        return child.returncode, [fd for fd in open_descriptors() if fd not in before]

    return w.run(main)


@parity
def test_from_any_threads_loop(w):
    def run():
        async def main():
            child = await w.aio.create_subprocess_exec("/bin/sh", "-c", "read x; exit $x", stdin=w.aio.subprocess.PIPE)
            await child.communicate(b"7\n")
            return child.returncode, await araised(w.aio.create_subprocess_exec("/no/such"))

        return w.run(main)

    assert threading.current_thread() is threading.main_thread()
    return in_thread(run), run()


@parity
def test_a_tool_that_replaces_popen_is_used(w, monkeypatch):
    made = []
    init, execute = subprocess.Popen.__init__, subprocess.Popen._execute_child

    class Replaced(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            made.append("class")
            super().__init__(*args, **kwargs)

    def initialised(self, *args, **kwargs):
        made.append("init")
        init(self, *args, **kwargs)

    def executed(self, *args):
        made.append("execute")
        execute(self, *args)

    async def start():
        made.append(await (await w.aio.create_subprocess_exec("/bin/true")).wait())

    async def main():
        await start()
        for owner, name, replacement in (
            (subprocess.Popen, "__init__", initialised),
            (subprocess.Popen, "_execute_child", executed),
            (subprocess, "Popen", Replaced),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, replacement)
                await start()
        await start()
        return made

    return w.run(main)


@parity
def test_what_the_transport_shows(w):
    async def main():
        child = await w.aio.create_subprocess_exec("/bin/cat", stdin=w.aio.subprocess.PIPE)
        transport = child._transport
        popen = transport.get_extra_info("subprocess")
        seen = [
            type(popen) is subprocess.Popen,
            popen.args,
            popen.pid == child.pid == transport.get_pid(),
            repr(popen),
            sorted(vars(popen)),
            isinstance(transport, w.aio.SubprocessTransport),
            type(transport).__name__,
            transport.get_returncode(),
            transport.get_pipe_transport(1),
        ]
        child.stdin.close()
        await child.wait()
        return [*seen, transport.get_returncode(), popen.returncode, popen.poll()]

    return w.run(main)


@since(3, 12)
@parity
def test_children_while_tasks_are_eager(w):
    async def main():
        w.aio.get_running_loop().set_task_factory(w.aio.eager_task_factory)
        children = await w.aio.gather(*(w.aio.create_subprocess_exec("/bin/true") for _ in range(4)))
        return [await child.wait() for child in children], error(None)

    return w.run(main)


@parity
def test_many_at_once(w):
    async def one(number):
        child = await w.aio.create_subprocess_exec(
            "/bin/sh", "-c", "cat; exit $0", str(number), stdin=w.aio.subprocess.PIPE, stdout=w.aio.subprocess.PIPE
        )
        output, _ = await child.communicate(b"%d" % number)
        return output, child.returncode

    async def main():
        before = open_descriptors()
        told = await w.aio.gather(*(one(number) for number in range(40)))
        await w.aio.sleep(0)
        return told, [fd for fd in open_descriptors() if fd not in before]

    return w.run(main)


def test_the_script_of_states_is_json():
    assert json.loads(subprocess.check_output([*PYTHON, "-c", "print('[1]')"])) == [1]
    assert sys.executable == PYTHON[0]
