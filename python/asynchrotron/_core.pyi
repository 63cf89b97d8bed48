"""Typed picture of the native extension.

For a type checker, Future, Task, Handle and TimerHandle are subclasses of asyncio's. At run time they are types of
their own, whose isinstance() relation to asyncio's holds in both directions.
"""

import asyncio
import sys
from asyncio import AbstractEventLoop, BaseProtocol
from asyncio import as_completed as as_completed
from asyncio import gather as gather
from asyncio import run_coroutine_threadsafe as run_coroutine_threadsafe
from asyncio import shield as shield
from asyncio import to_thread as to_thread
from asyncio import wait as wait
from asyncio import wrap_future as wrap_future
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Executor
from contextvars import Context
from socket import socket
from traceback import StackSummary
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, Unpack, final, overload, type_check_only

from _typeshed import SupportsRichComparisonT
from typing_extensions import disjoint_base

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Ts = TypeVarTuple("_Ts")
_FutureT = TypeVar("_FutureT", bound=asyncio.Future[Any])
_TaskT = TypeVar("_TaskT", bound=asyncio.Task[Any])
_CoroutineLike: TypeAlias = Coroutine[Any, Any, _T]
_FutureLike: TypeAlias = asyncio.Future[_T] | Awaitable[_T]

__version__: str

@disjoint_base
class Handle(asyncio.Handle):
    _callback: Callable[..., object] | None
    _args: Sequence[Any]
    _context: Context
    _loop: AbstractEventLoop
    _source_traceback: StackSummary | None
    _cancelled: bool
    def get_context(self) -> Context: ...

@disjoint_base
class TimerHandle(asyncio.TimerHandle):
    _when: float
    _scheduled: bool
    def __lt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class Future(asyncio.Future[_T]): ...

@disjoint_base
class Task(asyncio.Task[_T_co]):
    """At run time a subclass of the Future above."""

@disjoint_base
class Queue(asyncio.Queue[_T]): ...

class PriorityQueue(asyncio.PriorityQueue[SupportsRichComparisonT]):
    """At run time a subclass of the Queue above."""

class LifoQueue(asyncio.LifoQueue[_T]):
    """At run time a subclass of the Queue above."""

@disjoint_base
class Lock(asyncio.Lock): ...

@disjoint_base
class Event(asyncio.Event): ...

@disjoint_base
class Condition(asyncio.Condition): ...

@disjoint_base
class Semaphore(asyncio.Semaphore): ...

class BoundedSemaphore(asyncio.BoundedSemaphore): ...

@disjoint_base
class Barrier(asyncio.Barrier): ...

@disjoint_base
class TaskGroup(asyncio.TaskGroup): ...

@disjoint_base
class EventLoop:
    """The native base of asynchrotron.EventLoop; of no use alone."""

    slow_callback_duration: float
    _closed: bool
    _stopping: bool
    _debug: bool
    _thread_id: int | None
    _task_factory: Callable[..., asyncio.Future[Any]] | None
    _clock_resolution: float
    _timer_cancelled_count: int
    # Views of the native queues and of the poller, and what BaseEventLoop.__init__ assigns.
    _ready: Any
    _scheduled: Any
    _selector: Any

    # asyncio's own interface
    def time(self) -> float: ...
    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> Handle: ...
    def call_later(
        self, delay: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> TimerHandle: ...
    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> TimerHandle: ...
    def create_future(self) -> Future[Any]: ...
    if sys.version_info >= (3, 13):
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: object = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> asyncio.Task[_T]: ...
    else:
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: object = None,
            context: Context | None = None,
        ) -> asyncio.Task[_T]: ...
    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]: ...
    def get_debug(self) -> bool: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def stop(self) -> None: ...

    # What the Python side and the stdlib's own classes call
    def _run_once(self) -> None: ...
    def _run_turns(self) -> None:
        """Run turns until _stopping is set."""
    def _add_reader(
        self, fd: Any, callback: Callable[..., object], /, *args: Any, context: Context | None = None
    ) -> Handle: ...
    def _remove_reader(self, fd: Any, /) -> bool: ...
    def _add_writer(
        self, fd: Any, callback: Callable[..., object], /, *args: Any, context: Context | None = None
    ) -> Handle: ...
    def _remove_writer(self, fd: Any, /) -> bool: ...
    def _timer_handle_cancelled(self, handle: Any, /) -> None: ...
    def _write_to_self(self) -> None: ...
    def _close_core(self) -> None:
        """Drop everything pending and close the poller; in a forked child, without touching the parent's interests."""

@final
class StreamTransport(asyncio.Transport):
    """TCP, Unix and other stream sockets; connection_made, then reading, then the waiter, each by call_soon."""

    @property
    def _sock(self) -> Any: ...
    _sock_fd: int
    def __init__(
        self,
        loop: EventLoop,
        sock: socket,
        protocol: BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,
    ) -> None: ...
    def _force_close(self, exc: BaseException | None) -> None: ...
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...

@disjoint_base
class DatagramTransport(asyncio.DatagramTransport):
    """UDP and Unix datagrams; connection_made, then reading, then the waiter, each by call_soon."""

    @property
    def _sock(self) -> Any: ...
    _sock_fd: int
    def __init__(
        self,
        loop: EventLoop,
        sock: socket,
        protocol: BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_write_buffer_limits(self) -> tuple[int, int]: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def _force_close(self, exc: BaseException | None, /) -> None: ...

@final
@type_check_only
class Sendfile:
    """A file on its way into a socket. The future is done when it is there, or has failed."""

    @property
    def future(self) -> asyncio.Future[None]: ...
    @property
    def sent(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def waited(self) -> bool: ...
    @property
    def lost(self) -> bool: ...
    def stop(self) -> None: ...

@disjoint_base
class ReadPipeTransport(asyncio.ReadTransport):
    """Pipes, sockets and character devices, for reading; connection_made, then reading, then the waiter."""

    _pipe: Any
    @property
    def _fileno(self) -> int: ...
    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def _close(self, exc: BaseException | None, /) -> None: ...

@disjoint_base
class WritePipeTransport(asyncio.Transport):
    """The same for writing; where possible it watches for the end of the reader."""

    _pipe: Any
    @property
    def _fileno(self) -> int: ...
    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def _close(self, exc: BaseException | None = None) -> None: ...

@disjoint_base
class Timeout(asyncio.Timeout):  # type: ignore[misc]
    # What the stdlib's own coroutines, which serve subclasses, keep there.
    _state: Any
    _when: Any
    _timeout_handler: asyncio.Handle | None
    _task: asyncio.Task[Any] | None
    _cancelling: int
    def _on_timeout(self) -> None: ...

def timeout(delay: float | None) -> Timeout: ...
def timeout_at(when: float | None) -> Timeout: ...
async def wait_for(fut: _FutureLike[_T], timeout: float | None) -> _T: ...

@disjoint_base
class StreamReader(asyncio.StreamReader):
    _buffer: bytearray
    _limit: int
    _loop: AbstractEventLoop
    _waiter: asyncio.Future[None] | None
    _exception: Exception | None
    _transport: asyncio.BaseTransport | None
    _source_traceback: StackSummary | None
    _eof: bool
    _paused: bool

@disjoint_base
class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """At run time no subclass of FlowControlMixin, whose methods it has itself."""

@disjoint_base
class StreamWriter(asyncio.StreamWriter):
    _transport: asyncio.WriteTransport
    _protocol: BaseProtocol
    _reader: asyncio.StreamReader | None
    _loop: AbstractEventLoop

@disjoint_base
class TLSProtocol:
    """The native half of asyncio.sslproto.SSLProtocol, whose attributes these are; absent without an ssl module."""

    _loop: AbstractEventLoop
    _write_backlog: Any
    _sslobj: Any
    _incoming: Any
    _outgoing: Any
    _ssl_writing_paused: bool
    _ssl_reading_paused: bool
    _app_writing_paused: bool
    _app_reading_paused: bool
    _incoming_high_water: Any
    _incoming_low_water: Any
    _outgoing_high_water: Any
    _outgoing_low_water: Any
    _transport: Any
    _app_protocol: Any
    _state: Any
    _write_buffer_size: int
    def get_buffer(self, sizehint: int, /) -> memoryview: ...
    def buffer_updated(self, nbytes: int, /) -> None: ...
    def _write_appdata(self, list_of_data: Any, /) -> None: ...
    def _do_read(self) -> None: ...
    def _do_write(self) -> None: ...
    def _process_outgoing(self) -> None: ...
    def _get_read_buffer_size(self) -> int: ...
    def _get_write_buffer_size(self) -> int: ...
    def _held_len(self) -> int | None: ...
    def _is_direct(self) -> bool | None: ...

@disjoint_base
class TLSTransport(asyncio.Transport):
    """The native half of asyncio.sslproto._SSLProtocolTransport."""

    _ssl_protocol: Any
    _closed: bool

def _use_openssl_functions(wanted: bool, /) -> bool: ...

# The stdlib's functions, with the classes above.
open_connection = asyncio.open_connection
open_unix_connection = asyncio.open_unix_connection
start_server = asyncio.start_server
start_unix_server = asyncio.start_unix_server

@overload
async def sleep(delay: float) -> None: ...
@overload
async def sleep(delay: float, result: _T) -> _T: ...
def current_task(loop: AbstractEventLoop | None = None) -> asyncio.Task[Any] | None: ...
def all_tasks(loop: AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]: ...
def all_tasks_everywhere() -> list[Task[Any]]:
    """Return the native tasks that are not done, of all loops and threads."""

def create_task(
    coro: _CoroutineLike[_T], *, name: str | None = None, context: Context | None = None
) -> asyncio.Task[_T]: ...
@overload
def ensure_future(coro_or_future: _FutureT, *, loop: AbstractEventLoop | None = None) -> _FutureT: ...  # type: ignore[overload-overlap]
@overload
def ensure_future(coro_or_future: Awaitable[_T], *, loop: AbstractEventLoop | None = None) -> asyncio.Task[_T]: ...

if sys.version_info >= (3, 12):
    def eager_task_factory(
        loop: AbstractEventLoop | None,
        coro: _CoroutineLike[_T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]: ...
    def create_eager_task_factory(custom_task_constructor: Callable[..., _TaskT]) -> Callable[..., _TaskT]: ...

@final
class Child:
    """A child process. Dropping it neither kills nor reaps."""

    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int:
        """Readable once it has exited; -1 after the reaping, or if the kernel gives none."""

    @property
    def exec_fd(self) -> int:
        """Readable once it is decided whether the program runs; -1 after that was told."""

    def exec_outcome(self) -> tuple[str, int] | None:
        """Return None while undecided; else the step that failed and its errno, or "" and 0 if the program runs."""

    def kill(self) -> None: ...
    def reap(self) -> int | None:
        """Return the return code, or None while it runs; raise ChildProcessError if somebody else has reaped it."""

    def watch(self, loop: EventLoop, transport: Any, turns: int, /) -> None:
        """On exit, so many turns later: reap, and call transport._process_exited(returncode)."""

    def _exited(self, loop: EventLoop, transport: Any, turns: int, /) -> None: ...

class ProcessPipe:
    """Base of the protocol of a child's pipe, whose data goes to a stream's reader without a call."""

def spawn(
    programs: Sequence[bytes],
    arguments: Sequence[Any],
    environment: Sequence[bytes] | None,
    directory: Any,
    stdio: tuple[int, int, int],
    parent_ends: tuple[int, int, int],
    kept: Sequence[int],
    close_others: bool,
    restore_signals: bool,
    new_session: bool,
    process_group: int | None,
    umask: int | None,
    begin: Callable[[], object],
    /,
) -> Child | None:
    """Start a child process without waiting for its program; None where the system refuses this way of doing it.

    Calls begin() once every argument is converted.
    """

def open_child(pid: int) -> Child:
    """Return a Child for a child process that somebody else started, and that is not reaped yet."""

def _park_loops() -> None: ...
def _sendfile(loop: EventLoop, sock: Any, fileno: int, offset: int, count: int | None = None) -> Sendfile: ...
def _advance_clock(seconds: float, /) -> None: ...
def _use_helpers(module: Any, /) -> None: ...

if sys.version_info >= (3, 14):
    def _use_thread_state(running_loop: int, running_task: int, /) -> bool: ...
