"""EventLoop: the native reactor and scheduler under the running version's own asyncio loop.

What happens per callback, packet or await is native (`_core.EventLoop`, first in the MRO). What happens once per loop,
server or connection is inherited from the interpreter's SelectorEventLoop, so texts and semantics are those of the
version at hand. This file is the seam: start and end of a run, signals, descriptors, accepting, name resolution.

Invariant: no Python selector and no self-pipe exist. Python code reaches the poller only through `_add_reader`,
`_remove_reader`, `_add_writer` and `_remove_writer`; the loop wakes through the reactor's own eventfd.
"""

import asyncio
import concurrent.futures
import contextvars
import errno
import functools
import inspect
import io
import os
import signal
import socket
import sys
import threading
import types
import warnings
import weakref
from asyncio import base_events, constants, events, exceptions, trsock, unix_events
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import _core, processes, tls

if TYPE_CHECKING:
    import ssl
    from typing import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

    class _StdlibLoop(asyncio.SelectorEventLoop):
        """The private part of the stdlib's loop that this file calls, sets or overrides."""

        _default_executor: concurrent.futures.Executor | None
        _internal_fds: int
        _signal_handlers: dict[int, asyncio.Handle]
        _ssock: socket.socket | None
        _csock: socket.socket | None

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        def _asyncgen_firstiter_hook(self, agen: Any) -> None: ...
        def _asyncgen_finalizer_hook(self, agen: Any) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _run_forever_setup(self) -> None: ...
        def _run_forever_cleanup(self) -> None: ...
        def _accept_connection2(self, *args: Any, **kwargs: Any) -> Any: ...
        def _getaddrinfo_debug(self, *args: Any) -> Any: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        def _sock_sendfile_update_filepos(self, fileno: int, offset: int, *total_sent: int) -> None: ...
        async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any: ...
        def _child_watcher_callback(self, pid: int, returncode: int, transport: Any) -> None: ...

else:
    _StdlibLoop = asyncio.SelectorEventLoop

_T = TypeVar("_T")

# Names that tests replace (base_events.socket) or that the stubs leave out are looked up here, late.
_base_events: Any = base_events
_unix_events: Any = unix_events

# From 3.15 on, a server keeps one context and each connection runs in a copy of it.
_TRANSPORTS_TAKE_CONTEXT = sys.version_info >= (3, 15)

# 3.14 tries once more than the backlog, and goes on after a connection that was aborted before it was accepted.
_ACCEPT_ONE_MORE = 1 if sys.version_info >= (3, 14) else 0

# Up to 3.13 the file's position stays where it is if nothing was sent.
_SEEK_TAKES_TOTAL = "total_sent" in inspect.signature(_StdlibLoop._sock_sendfile_update_filepos).parameters

# accept() keeps failing with these until something else lets go of descriptors or memory.
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What it answers when it can watch no more descriptors.
_CANNOT_WATCH = frozenset({errno.ENOSPC, errno.ENOMEM})

# Lookups wait on the network, hardly ever on the processor, and a dead name server holds each for many seconds.
_RESOLVER_THREADS_MAX = 16

_AFTER_FORK = (
    "This event loop was created before os.fork() and belongs to the parent process; "
    "create a new event loop in the child"
)


class EventLoop(_core.EventLoop, _StdlibLoop):
    """asyncio's event loop, native.

    nest_asyncio works as with the stdlib's loop: it replaces `run_forever` and `_run_once` of this class by Python
    functions, which read `_ready`, `_scheduled` and `_selector`; those are views of the native queues.
    """

    def __init__(self) -> None:
        # Not BaseSelectorEventLoop.__init__: it would make a selector and a self-pipe.
        base_events.BaseEventLoop.__init__(self)
        self._internal_fds = 1  # The reactor's own, which other threads wake it through.
        # By descriptor: what add_reader() and the like must keep off.
        self._transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._signal_handlers = {}
        if sys.version_info >= (3, 13):
            self._unix_server_sockets: dict[socket.socket, int] = {}
        if sys.version_info >= (3, 14):
            use_pidfd = _unix_events.can_use_pidfd()
            self._watcher = _unix_events._PidfdChildWatcher() if use_pidfd else _unix_events._ThreadedChildWatcher()
            self._first_watcher = self._watcher  # A program's own, put in its place, is used.
            self._watcher_is_native = use_pidfd
        self._owner_pid = os.getpid()
        # The pair that signals wake the loop with; made at the first run in the main thread.
        self._ssock = self._csock = None
        self._wakes_on_signals = False
        self._resolver: concurrent.futures.ThreadPoolExecutor | None = None
        self._lookups: set[concurrent.futures.Future[Any]] = set()

    # Running and closing

    def _check_running(self) -> None:
        if os.getpid() != self._owner_pid:
            raise RuntimeError(_AFTER_FORK)
        super()._check_running()

    if sys.version_info < (3, 13):

        def _run_forever_setup(self) -> None:
            self._check_closed()
            self._check_running()
            self._set_coroutine_origin_tracking(self._debug)
            self._old_agen_hooks = sys.get_asyncgen_hooks()
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
            events._set_running_loop(self)

        def _run_forever_cleanup(self) -> None:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*self._old_agen_hooks)

    def run_forever(self) -> None:
        """Run until stop() is called."""
        # Outside of the try, as 3.14 has it: a refused second run must not clean up after the first.
        self._run_forever_setup()
        try:
            self._arm_wakeup()
            self._run_turns()
        finally:
            try:
                self._disarm_wakeup()
            finally:
                self._run_forever_cleanup()

    def close(self) -> None:
        """Close the event loop: drop what is queued, let the executors go, without waiting for them."""
        if os.getpid() != self._owner_pid:
            self._abandon()
            return
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        # While the self-pipe still exists, so that no signal finds a closed wake-up descriptor.
        self._disarm_wakeup()
        if not _unix_events.sys.is_finalizing():
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        elif self._signal_handlers:
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, skipping signal handlers removal",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self._signal_handlers.clear()
        self._close_self_pipe()
        self._internal_fds -= 1
        base_events.BaseEventLoop.close(self)
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            # Idle threads end at once. One that waits for a name server is not waited for.
            resolver.shutdown(wait=not self._lookups, cancel_futures=True)
        self._close_core()

    def _abandon(self) -> None:
        """Close in a forked child: the poller, the executors' threads and the connections are the parent's."""
        if self._closed:
            return
        self._closed = True
        self._thread_id = None
        self._default_executor = self._resolver = None
        for sock in (self._ssock, self._csock):
            if sock is not None:
                sock.close()
        self._ssock = self._csock = None
        self._close_core()

    # Signals
    #
    # epoll ends with EINTR only if the kernel delivers the signal to the thread that waits, and after the wait has
    # begun. A wake-up descriptor covers the other cases, so one is set for each run in the main thread, not only once
    # add_signal_handler() is called. A descriptor that somebody else has set stays.

    def _arm_wakeup(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        self._wakes_on_signals = True
        if self._signal_handlers:
            return  # add_signal_handler() has set it, for longer than this run.
        if self._csock is None:
            self._make_self_pipe()
            assert self._csock is not None
        own = self._csock.fileno()
        try:
            # No warning when the buffer is full (a profiler's timer, a long callback): the wake-up is pending then.
            previous = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
            if previous not in (-1, own):
                signal.set_wakeup_fd(previous, warn_on_full_buffer=False)
        except (ValueError, OSError):
            pass  # Not the main interpreter, or the previous descriptor is gone.

    def _disarm_wakeup(self) -> None:
        if not self._wakes_on_signals:
            return
        if self._csock is not None and not self._signal_handlers:
            try:
                current = signal.set_wakeup_fd(-1)
                if current not in (-1, self._csock.fileno()):
                    # Somebody else's, from before the run or set during it.
                    signal.set_wakeup_fd(current, warn_on_full_buffer=False)
            except (ValueError, OSError):
                pass
        # Last, so that close() tries again if a signal's handler raised in between.
        self._wakes_on_signals = False

    def add_signal_handler(self, sig: int, callback: "Callable[[Unpack[_Ts]], object]", *args: "Unpack[_Ts]") -> None:
        """Add a handler for a signal, which runs in the loop."""
        if self._csock is None and not self.is_closed():
            self._make_self_pipe()
        try:
            super().add_signal_handler(sig, callback, *args)
        finally:
            self._rearm_wakeup()

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove a handler for a signal; return True if there was one."""
        try:
            return super().remove_signal_handler(sig)
        finally:
            self._rearm_wakeup()

    def _rearm_wakeup(self) -> None:
        # The stdlib unsets the wake-up descriptor with the last handler; the run that goes on still wants it.
        if self._wakes_on_signals:
            self._arm_wakeup()

    def _make_self_pipe(self) -> None:
        try:
            super()._make_self_pipe()
        except BaseException:
            # A pair that nobody watches would swallow the signals of the next run.
            if self._ssock is not None and self._csock is not None:
                self._ssock.close()
                self._csock.close()
                self._ssock = self._csock = None
                self._internal_fds -= 1
            raise
        assert self._csock is not None
        self._wakeup_fd = self._csock.fileno()
        _own_wakeup_fds.add(self._wakeup_fd)

    def _close_self_pipe(self) -> None:
        if self._csock is None:
            return
        _own_wakeup_fds.discard(self._wakeup_fd)
        if self._ssock is None or self._ssock.fileno() == -1:
            # This loop is garbage, and the collector has finalised the sockets first.
            self._ssock = self._csock = None
            self._internal_fds -= 1
        else:
            super()._close_self_pipe()

    def _add_callback(self, handle: Any) -> None:
        # Signals come this way with the Handle made in add_signal_handler().
        if not handle._cancelled:
            self.call_soon(_run_handle, handle)

    # Transports

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> _core.StreamTransport:
        self._ensure_fd_no_transport(sock)
        transport = _core.StreamTransport(self, sock, protocol, waiter, extra, server, context)
        self._transports[transport._sock_fd] = transport
        return transport

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: "ssl.SSLContext | None",
        waiter: "asyncio.Future[None] | None" = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = tls.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        transport = _core.StreamTransport(self, rawsock, ssl_protocol, None, extra, server, context)
        self._transports[transport._sock_fd] = transport
        return ssl_protocol._app_transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> _core.DatagramTransport:
        transport = _core.DatagramTransport(self, sock, protocol, address, waiter, extra)
        self._transports[transport._sock_fd] = transport
        return transport

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> _core.ReadPipeTransport:
        return _core.ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> _core.WritePipeTransport:
        return _core.WritePipeTransport(self, pipe, protocol, waiter, extra)

    # Sending files

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        if not hasattr(_unix_events.os, "sendfile"):
            raise exceptions.SendfileNotAvailableError("os.sendfile() is not available")
        try:
            fileno = file.fileno()
        except (AttributeError, io.UnsupportedOperation):
            raise exceptions.SendfileNotAvailableError("not a regular file")  # as the stdlib chains it
        try:
            size = os.fstat(fileno).st_size
        except OSError:
            raise exceptions.SendfileNotAvailableError("not a regular file")
        if not (count or size):
            return 0
        self._ensure_fd_no_transport(sock)
        sending = _core._sendfile(self, sock, fileno, offset, count)
        try:
            await sending.future
        except OSError as exc:
            if not sending.sent and not sending.lost:
                # Mostly because the file is none that the kernel can map; the caller falls back on plain send().
                raise exceptions.SendfileNotAvailableError("os.sendfile call failed") from None
            if sending.waited and exc.errno == errno.ENOTCONN and type(exc) is not ConnectionError:
                # Closed in the middle: the same error on all systems.
                raise ConnectionError("socket is not connected", errno.ENOTCONN) from exc
            raise
        finally:
            sending.stop()
            # A file that was closed meanwhile has no position, and its number may be another file's.
            if _has_descriptor(file, fileno):
                total = (sending.sent,) if _SEEK_TAKES_TOTAL else ()
                self._sock_sendfile_update_filepos(fileno, sending.offset, *total)
        return sending.sent

    # TLS

    if not TYPE_CHECKING:  # For a type checker they are what is inherited.

        @functools.wraps(base_events.BaseEventLoop.create_server)
        async def create_server(self, *args: Any, **kwargs: Any) -> Any:
            # A context that cannot do is refused now, not when somebody connects and nobody looks.
            tls.check_context(kwargs.get("ssl"))
            return await super().create_server(*args, **kwargs)

        @functools.wraps(asyncio.SelectorEventLoop.create_unix_server)
        async def create_unix_server(self, *args: Any, **kwargs: Any) -> Any:
            tls.check_context(kwargs.get("ssl"))
            return await super().create_unix_server(*args, **kwargs)

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: "ssl.SSLContext",
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade a transport to TLS; return the new transport, for the same protocol."""
        # The stdlib's own coroutine, except for the class whose name it looks up.
        original = base_events.BaseEventLoop.start_tls
        function = types.FunctionType(original.__code__, {**vars(base_events), "sslproto": tls})
        function.__kwdefaults__ = original.__kwdefaults__
        return await function(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    # Child processes

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        if processes.is_watched_by_others(self):
            return await super()._make_subprocess_transport(*args, **kwargs)
        return await processes.make_transport(self, *args, **kwargs)

    # Accepting

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: "ssl.SSLContext | None" = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> None:
        rest = (sslcontext, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout, context)
        try:
            self._add_reader(sock.fileno(), self._accept_connection, protocol_factory, sock, *rest)
        except OSError:
            # Nobody has the server yet, or it serves on some of its sockets only and cannot be started again.
            if server is not None:
                server.close()
            raise

    def _resume_serving(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket, *args: Any
    ) -> None:
        if sock.fileno() < 0:
            return  # The server was closed in the meantime.
        try:
            self._add_reader(sock.fileno(), self._accept_connection, protocol_factory, sock, *args)
        except OSError as exc:
            if exc.errno not in _CANNOT_WATCH:
                raise
            self.call_later(constants.ACCEPT_RETRY_DELAY, self._resume_serving, protocol_factory, sock, *args)

    def _accept_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: "ssl.SSLContext | None" = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> None:
        """Accept what waits on a listening socket, at most `backlog` connections in one turn of the loop."""
        # The stdlib starts a task for each connection. Only a TLS handshake has something to wait for, and only a
        # task factory or debug mode can tell the difference.
        plain = sslcontext is None and not self._debug and self._task_factory is None
        for _ in range(backlog + _ACCEPT_ONE_MORE):
            try:
                conn, addr = sock.accept()
                if self._debug:
                    logger.debug("%r got a new connection from %r: %r", server, addr, conn)
                conn.setblocking(False)
            except ConnectionAbortedError:
                if _ACCEPT_ONE_MORE:
                    continue
                return
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno not in _OUT_OF_RESOURCES:
                    raise  # The loop reports it.
                # The socket stays readable, so it is left alone for a while. (The stdlib goes on with the next try
                # of this turn, and reports and schedules as often as the backlog allows; once is enough.)
                self.call_exception_handler(
                    {
                        "message": "socket.accept() out of system resource",
                        "exception": exc,
                        "socket": trsock.TransportSocket(sock),
                    }
                )
                self._remove_reader(sock.fileno())
                rest = (sslcontext, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
                last = (context,) if _TRANSPORTS_TAKE_CONTEXT else ()
                self.call_later(
                    constants.ACCEPT_RETRY_DELAY, self._resume_serving, protocol_factory, sock, *rest, *last
                )
                return
            extra = {"peername": addr}
            if plain:
                # What the factory sets is seen by this connection's callbacks and by no other connection.
                own_context = contextvars.copy_context() if context is None else context.copy()
                own_context.run(
                    self._connection_accepted,
                    protocol_factory,
                    conn,
                    extra,
                    server,
                    own_context if context is not None else None,
                )
                if sock.fileno() < 0:
                    return  # The factory has closed the server.
            elif _TRANSPORTS_TAKE_CONTEXT:
                conn_context = None if context is None else context.copy()
                accept = self._accept_connection2(
                    protocol_factory, conn, extra, sslcontext, server,
                    ssl_handshake_timeout, ssl_shutdown_timeout, context=conn_context,
                )  # fmt: skip
                self.create_task(accept, context=conn_context)
            else:
                accept = self._accept_connection2(
                    protocol_factory, conn, extra, sslcontext, server, ssl_handshake_timeout, ssl_shutdown_timeout
                )
                self.create_task(accept)

    def _connection_accepted(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        conn: socket.socket,
        extra: dict[str, Any],
        server: Any,
        context: contextvars.Context | None,
    ) -> None:
        try:
            self._make_socket_transport(conn, protocol_factory(), extra=extra, server=server, context=context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # As BaseSelectorEventLoop._accept_connection2: reported in debug mode only, which does not come here.
            conn.close()

    # Names and addresses

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, Any, int, str, Any]]:
        """socket.getaddrinfo() without blocking the loop; numeric addresses are answered at once."""
        lookup: Callable[..., Any] = self._getaddrinfo_debug if self._debug else _base_events.socket.getaddrinfo
        if _is_numeric_host(host) and _is_numeric_port(port):
            # The same call as in a thread, so the same answer; without names in it, it asks nobody.
            return lookup(host, port, family, type, proto, flags)  # type: ignore[no-any-return]
        return await self._resolve(lookup, host, port, family, type, proto, flags)

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]:
        """socket.getnameinfo() without blocking the loop; a numeric answer is given at once."""
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        # What is no number is refused by getnameinfo() itself.
        if isinstance(flags, int) and flags & numeric == numeric:
            return _base_events.socket.getnameinfo(sockaddr, flags)  # type: ignore[no-any-return]
        return await self._resolve(_base_events.socket.getnameinfo, sockaddr, flags)

    def _resolve(self, lookup: Callable[..., _T], *args: Any) -> "asyncio.Future[_T]":
        # Not the default executor: lookups that hang must not keep the program's own jobs waiting, nor the reverse.
        self._check_closed()
        if self._resolver is None:
            self._resolver = concurrent.futures.ThreadPoolExecutor(
                max_workers=_RESOLVER_THREADS_MAX, thread_name_prefix="asynchrotron-resolver"
            )
        lookup_job = self._resolver.submit(lookup, *args)
        self._lookups.add(lookup_job)
        lookup_job.add_done_callback(self._lookups.discard)
        return _core.wrap_future(lookup_job, loop=self)


def _run_handle(handle: Any) -> None:
    if not handle._cancelled:
        handle._run()


def _has_descriptor(file: Any, fileno: int) -> bool:
    try:
        return bool(file.fileno() == fileno)
    except (OSError, ValueError):
        return False  # Closed.


def _is_numeric_host(host: object) -> bool:
    """Tell whether getaddrinfo() answers for this host without asking files or servers."""
    if host is None:
        return True
    if isinstance(host, bytes | bytearray):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    if not isinstance(host, str):
        return False
    if ":" in host:
        family, host = socket.AF_INET6, host.partition("%")[0]
    elif host[-1:].isdigit():
        family = socket.AF_INET
    else:
        return False
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _is_numeric_port(port: object) -> bool:
    if port is None or isinstance(port, int):
        return True
    # A service name is looked up in files or servers, so it goes to a thread.
    return isinstance(port, str | bytes) and port.isascii() and port.isdigit()


# Write ends of the pairs that signals may be sent to.
_own_wakeup_fds: set[int] = set()

if sys.version_info < (3, 12):
    # A forked child would write its signals into the parent's loop. (From 3.12 on, asyncio.events sees to it.)

    def _forget_wakeup_fd() -> None:
        current = signal.set_wakeup_fd(-1)
        if current not in _own_wakeup_fds and current != -1:
            signal.set_wakeup_fd(current)

    os.register_at_fork(after_in_child=_forget_wakeup_fd)


def _send_before_fork() -> None:
    # What waits for the end of an event or a turn would be sent by the child, too, when it leaves the loop by an
    # exception or closes its transports.
    loop = events._get_running_loop()
    if isinstance(loop, EventLoop):
        for transport in list(loop._transports.values()):
            if isinstance(transport, _core.StreamTransport):
                _core.StreamTransport.get_write_buffer_size(transport)


os.register_at_fork(before=_send_before_fork)


def new_event_loop() -> EventLoop:
    """Make a new event loop, not yet set as the current one."""
    return EventLoop()
