"""Child processes: the seam between native children (`_core.Child`), subprocess.Popen and asyncio's transport.

Popen checks the arguments and makes the pipes; the core makes the child, which shares our memory until it executes its
program, so that nothing is copied and nobody waits. asyncio's own transport takes over once the program runs.
docs/internals/subprocess.md has the whole life of a child.

Invariant: a child that was made is watched, or reaped here, whatever is raised.
"""

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
import types
import warnings
from asyncio import base_subprocess, events, tasks, unix_events
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from .loop import EventLoop

    class _StdlibTransport(asyncio.SubprocessTransport):
        """The private part of asyncio's transport that this file calls or sets."""

        _closed: bool
        _loop: asyncio.AbstractEventLoop | None
        _pipes: dict[int, Any]
        _proc: subprocess.Popen[bytes]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def _start(self, *args: Any, **kwargs: Any) -> None: ...
        async def _wait(self) -> int: ...

    _StdlibPopen = subprocess.Popen[bytes]

    class _ReadSubprocessPipeProto:
        """asyncio's protocol of a child's pipe."""
else:
    _ReadSubprocessPipeProto = base_subprocess.ReadSubprocessPipeProto
    _StdlibTransport = unix_events._UnixSubprocessTransport
    _StdlibPopen = subprocess.Popen

_unix_events: Any = unix_events
_base_subprocess: Any = base_subprocess
_subprocess: Any = subprocess

# What tools replace. Where one has, the child is started as the tool means it to be.
_STDLIB_POPEN: Any = subprocess.Popen
_EXECUTE_CHILD: Any = _subprocess.Popen._execute_child
_FORK_EXEC = _subprocess._fork_exec
_ARGUMENTS_OF_EXECUTE_CHILD = 23

# Up to 3.12 every error before the program is said to be about the directory.
_NAMES_DIRECTORY_ONLY = "noexec:chdir" in {c for c in _EXECUTE_CHILD.__code__.co_consts if isinstance(c, str)}

# Turns between the event of an exit and `_process_exited`, as in the version's watcher.
_TURNS_TO_EXIT = 0 if sys.version_info >= (3, 14) else 1 if sys.version_info >= (3, 12) else 2


class _Popen(_StdlibPopen):
    """Popen whose child may not have reached its program yet; an exact Popen afterwards."""

    native_child: _core.Child | None = None
    # The system does not want children made this way; Valgrind neither.
    refused = "vgpreload" in os.environ.get("LD_PRELOAD", "")

    def _execute_child(self, *everything: Any) -> None:
        if _Popen.refused or len(everything) != _ARGUMENTS_OF_EXECUTE_CHILD:
            super()._execute_child(*everything)  # type: ignore[misc]
            return
        (
            args, executable, preexec_fn, close_fds, pass_fds, cwd, env, _startupinfo, _creationflags, shell,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
            restore_signals, gid, gids, uid, umask, start_new_session, process_group,
        ) = everything  # fmt: skip
        # Python code before the program, or other privileges, need a memory of their own. What is no number, or no
        # truth value, is refused in the stdlib's words, or understood as there.
        needs_fork = preexec_fn is not None or (gid, gids, uid) != (None, None, None)
        are_numbers = type(umask) is int and type(process_group) is int
        if needs_fork or not are_numbers or not type(restore_signals) is type(start_new_session) is bool:
            super()._execute_child(*everything)  # type: ignore[misc]
            return

        audited = False

        def audit() -> None:
            nonlocal audited
            audited = True
            sys.audit("subprocess.Popen", executable, arguments, cwd, env)
            if posix_spawn:
                shown = os.environ if env is None and sys.version_info < (3, 13) else env
                sys.audit("os.posix_spawn", executable, arguments, shown)

        try:
            if isinstance(args, str | bytes):
                arguments: list[Any] = [args]
            elif isinstance(args, os.PathLike):
                if shell:
                    raise TypeError
                arguments = [args]
            else:
                arguments = list(args)
            if shell:
                arguments = [executable or "/bin/sh", "-c", *arguments]
            if executable is None:
                executable = arguments[0]
            plain = not (pass_fds or cwd is not None or start_new_session or process_group != -1 or umask >= 0)
            posix_spawn = plain and _would_posix_spawn(executable, close_fds, (p2cread, c2pwrite, errwrite))
            kept = sorted(map(int, set(pass_fds)))
            if kept and kept[0] < 0:
                raise ValueError
            child = _core.spawn(
                _programs(executable, env), arguments, _environment(env), cwd,
                (p2cread, c2pwrite, errwrite), (p2cwrite, c2pread, errread), kept, close_fds,
                restore_signals, start_new_session,
                process_group if process_group >= 0 else None, umask if umask >= 0 else None, audit,
            )  # fmt: skip
        except Exception:
            if audited:
                raise
            # Something cannot be converted. The stdlib has its own words for that, in each version and for each way
            # that it would have started this child.
            super()._execute_child(*everything)  # type: ignore[misc]
            return
        if child is None:
            _Popen.refused = True
            super()._execute_child(*everything)  # type: ignore[misc]
            return
        self.native_child = child
        self.pid = child.pid
        self._child_created = True
        self.program, self.directory = os.fspath(executable) if posix_spawn else executable, cwd
        self.names_program_always = posix_spawn  # as os.posix_spawn() does, whatever failed
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def become_plain(self) -> None:
        """Be what the stdlib would have made."""
        for name in ("native_child", "program", "directory", "names_program_always"):
            self.__dict__.pop(name, None)
        self.__class__ = _StdlibPopen  # type: ignore[assignment]

    def failure(self, step: str, errno: int) -> OSError:
        """Make the error that Popen raises for a child that could not run its program."""
        if step == "program" or self.names_program_always:
            about = self.program
        elif step == "directory" or not _NAMES_DIRECTORY_ONLY:
            about = self.directory
        else:
            return OSError(errno, os.strerror(errno))
        return OSError(errno, os.strerror(errno), about)


# reprs, of this class while it is one, and of the transport.
_Popen.__name__ = _Popen.__qualname__ = "Popen"


def _programs(executable: Any, env: Any) -> list[bytes]:
    """List what to try to execute, as Popen does."""
    program = os.fsencode(executable)
    if os.path.dirname(program):
        return [program]
    return [os.path.join(os.fsencode(folder), program) for folder in os.get_exec_path(env)]


def _environment(env: Any) -> list[bytes] | None:
    if env is None:
        return None
    entries = []
    for name, value in env.items():
        name = os.fsencode(name)
        if b"=" in name:
            raise ValueError
        entries.append(name + b"=" + os.fsencode(value))
    return entries


def _would_posix_spawn(executable: Any, close_fds: bool, child_fds: tuple[int, int, int]) -> bool:
    """Tell whether the stdlib would raise os.posix_spawn()'s audit event too."""
    return bool(
        _subprocess._USE_POSIX_SPAWN
        and os.path.dirname(executable)
        and (not close_fds or getattr(_subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False))
        and all(fd == -1 or fd > 2 for fd in child_fds)
    )


class _ReadPipeProtocol(_core.ProcessPipe, _ReadSubprocessPipeProto):
    """asyncio's protocol of a child's pipe, known to native pipe transports."""


_ReadPipeProtocol.__name__ = _ReadPipeProtocol.__qualname__ = "ReadSubprocessPipeProto"
# asyncio's own way to connect the pipes, which finds that class in place of its own.
_CONNECT_PIPES = types.FunctionType(
    _base_subprocess.BaseSubprocessTransport._connect_pipes.__code__,
    {**vars(base_subprocess), "ReadSubprocessPipeProto": _ReadPipeProtocol},
    "_connect_pipes",
)


class _SubprocessTransport(_StdlibTransport):
    """asyncio's transport, over a Popen that exists already."""

    _connect_pipes = _CONNECT_PIPES

    def _start(self, *args: Any, started: Any = None, **kwargs: Any) -> None:
        if started is None:
            super()._start(*args, **kwargs)
        else:
            self._proc = started

    if sys.version_info < (3, 14):

        def close(self) -> None:
            # 3.14's rule (cpython#114177): the pipes of a closed loop cannot be closed through it.
            if self._closed or self._loop is None or not self._loop.is_closed():
                super().close()
                return
            pipes, self._pipes = self._pipes, {}
            try:
                super().close()
            finally:
                self._pipes = pipes


_SubprocessTransport.__name__ = _SubprocessTransport.__qualname__ = "_UnixSubprocessTransport"


def is_watched_by_others(loop: "EventLoop") -> bool:
    """Tell whether the program has a child watcher of its own, which then watches its children."""
    if sys.version_info >= (3, 14):
        return loop._watcher is not loop._first_watcher
    policy: Any = events.get_event_loop_policy()
    stock: Any = _unix_events._UnixDefaultEventLoopPolicy
    if type(policy).get_child_watcher is not stock.get_child_watcher:
        return True
    # A stock loop in this process may have made asyncio's default one, which is as good as ours.
    return type(getattr(policy, "_watcher", None)) not in (type(None), _default_watcher())


@functools.cache
def _default_watcher() -> Any:
    if sys.version_info >= (3, 12) and _unix_events.can_use_pidfd():
        return _unix_events.PidfdChildWatcher
    return _unix_events.ThreadedChildWatcher


def _can_start() -> bool:
    popen: Any = _subprocess.Popen
    return bool(
        popen is _STDLIB_POPEN
        and popen._execute_child is _EXECUTE_CHILD
        and _subprocess._fork_exec is _FORK_EXEC
        and getattr(_subprocess, "_USE_VFORK", True)
    )


async def make_transport(
    loop: "EventLoop", protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int,
    extra: Any = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Start a child; give back its transport, connected, once the program runs."""
    started: Any = None
    child = None
    if _can_start():
        started = _Popen(
            args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, universal_newlines=False, bufsize=bufsize,
            **kwargs,
        )  # fmt: skip
        child = started.native_child

    def connect(waiter: "asyncio.Future[None]") -> Any:
        transport = _SubprocessTransport(
            loop, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, started=started, **kwargs,
        )  # fmt: skip
        _watch(loop, child, transport)
        return transport

    if child is not None:
        try:
            step, errno = await _decided(loop, child)
        except BaseException as reason:
            child.kill()
            started.become_plain()  # Popen keeps what nobody has reaped, but the native child need not be kept.
            if isinstance(reason, Exception | asyncio.CancelledError):
                # Cancelled, or the kernel can watch no more. The same end as that of a child whose pipes are being
                # connected; how that goes concerns nobody.
                nobody = loop.create_future()
                nobody.cancel()
                await _give_up(connect(nobody))
            raise
        if errno:
            raise await _failed(loop, started, child, step, errno)
    if started is not None:
        started.become_plain()

    waiter = loop.create_future()
    transport = connect(waiter)
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        await _give_up(transport)
        raise
    return transport


async def _give_up(transport: Any) -> None:
    transport.close()
    exited = transport._wait()
    await (tasks.shield(exited) if sys.version_info >= (3, 14) else exited)


def _watch(loop: "EventLoop", child: "_core.Child | None", transport: Any) -> None:
    pid = transport.get_pid()
    if sys.version_info < (3, 14) or loop._watcher_is_native:
        try:
            if child is None:
                child = _core.open_child(pid)
            if child.pidfd != -1:
                child.watch(loop, transport, _TURNS_TO_EXIT)
                return
        except OSError:
            pass  # No pidfds here, or no descriptor is left for one.
        watcher = _threaded_watcher()
    else:
        watcher = loop._watcher
    watcher.add_child_handler(pid, loop._child_watcher_callback, transport)


@functools.cache
def _threaded_watcher() -> Any:
    if sys.version_info >= (3, 14):
        return _unix_events._ThreadedChildWatcher()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _unix_events.ThreadedChildWatcher()


async def _decided(loop: "EventLoop", child: "_core.Child") -> tuple[str, int]:
    """Wait until the program runs, or cannot."""
    while (outcome := child.exec_outcome()) is None:
        await _readable(loop, child.exec_fd)
    return outcome


async def _failed(loop: "EventLoop", started: _Popen, child: "_core.Child", step: str, errno: int) -> OSError:
    """Make the error of a child whose program cannot run, and leave nothing of the child."""
    error = started.failure(step, errno)
    for pipe in (started.stdin, started.stdout, started.stderr):
        if pipe is not None:
            pipe.close()
    started.returncode = 255
    started.become_plain()
    # It has nothing left to do but to exit.
    if child.pidfd != -1:
        if _reap(child):
            return error
        exited = loop.create_future()
        try:
            loop._add_reader(child.pidfd, _reap_at_exit, loop, child, exited)
        except OSError:
            pass  # The kernel can watch no more.
        else:
            await exited
            return error
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child.pid, 0)
    return error


def _reap(child: "_core.Child") -> bool:
    try:
        return child.reap() is not None
    except ChildProcessError:
        return True  # Somebody else was faster.


def _reap_at_exit(loop: "EventLoop", child: "_core.Child", exited: "asyncio.Future[None]") -> None:
    # Also if nobody waits for it any more.
    pidfd = child.pidfd
    if _reap(child):
        loop._remove_reader(pidfd)
        _resolve(exited)


async def _readable(loop: "EventLoop", fd: int) -> None:
    ready = loop.create_future()
    loop._add_reader(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop._remove_reader(fd)


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
