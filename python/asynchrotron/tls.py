"""TLS: asyncio.sslproto with the native half in front (docs/internals/tls.md).

What happens per packet is `_core.TLSProtocol` and `_core.TLSTransport`, first in the MRO. What happens once per
connection is inherited from the running version's SSLProtocol: handshake, shutdown, time-outs, fatal errors, extra
info. Here is only where we differ from it.
"""

import sys
from asyncio import sslproto, streams
from typing import Any

from . import _core

__all__ = ["SSLProtocol"]

_sslproto: Any = sslproto


class _Absent:
    """In the place of the native halves in a Python without an ssl module, where nobody makes a connection of these."""


_Protocol: Any = getattr(_core, "TLSProtocol", _Absent)
_Transport: Any = getattr(_core, "TLSTransport", _Absent)


def check_context(sslcontext: Any) -> None:
    """Objects that are no SSLContext may do, as in asyncio. What cannot is named before anything is made of it."""
    if sslcontext and not isinstance(sslcontext, bool) and not hasattr(sslcontext, "wrap_bio"):
        raise TypeError(f"ssl: expected an ssl.SSLContext or None, got {sslcontext!r}")


class _SSLProtocolTransport(_Transport, _sslproto._SSLProtocolTransport):  # type: ignore[misc]
    __module__ = "asyncio.sslproto"  # what its repr says


class SSLProtocol(_Protocol, _sslproto.SSLProtocol):  # type: ignore[misc]
    """asyncio's SSLProtocol: between a transport and the program's protocol."""

    __module__ = "asyncio.sslproto"
    _app_transport: Any
    _app_transport_created: bool
    _shutdown_timeout_handle: Any

    def __init__(
        self,
        loop: Any,
        app_protocol: Any,
        sslcontext: Any,
        waiter: Any,
        server_side: bool = False,
        server_hostname: str | None = None,
        call_connection_made: bool = True,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        check_context(sslcontext)
        # The stdlib makes its receive buffer here, 256 KiB. The native half makes a small one if it ever needs any.
        self.max_size = 0
        super().__init__(
            loop, app_protocol, sslcontext, waiter, server_side, server_hostname,
            call_connection_made=call_connection_made,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )  # fmt: skip
        del self.max_size
        if server_side and not call_connection_made:
            self._take_early_data(app_protocol)

    def _take_early_data(self, app_protocol: Any) -> None:
        # An upgrade by start_tls(): what a client sent right behind its request is in the stream's reader already, and
        # is the beginning of the handshake. Newer versions do it a moment later (cpython#142352) and find nothing left.
        if isinstance(app_protocol, streams.StreamReaderProtocol):
            reader: Any = getattr(app_protocol, "_stream_reader", None)
            if reader is not None and reader._buffer:
                self._incoming.write(reader._buffer)
                reader._buffer.clear()

    def _get_app_transport(self) -> Any:
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
            self._app_transport = _SSLProtocolTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    if sys.version_info < (3, 14):

        def _on_shutdown_complete(self, shutdown_exc: BaseException | None) -> None:
            # As from 3.14 on: closing the transport below sends what it holds first, for which a peer that does not
            # read lets it wait for ever. The time-out stays, or starts if the peer began, until connection_lost().
            if shutdown_exc:
                super()._on_shutdown_complete(shutdown_exc)
                return
            if self._shutdown_timeout_handle is None:
                self._shutdown_timeout_handle = self._loop.call_later(
                    self._ssl_shutdown_timeout, self._check_shutdown_timeout
                )
            self._loop.call_soon(self._transport.close)
