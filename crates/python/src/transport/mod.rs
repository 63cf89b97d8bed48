//! Transports: the bytes between sockets and protocols.
//!
//! What a transport decides about bytes is in the `wire` crate, what it asks of the kernel in `reactor::sockets`; here
//! is what touches Python objects. This file: names they look up, and steps that must all happen.

pub(crate) mod buffer;
pub(crate) mod datagram;
pub(crate) mod endpoint;
mod flow;
mod lifetime;
pub(crate) mod pipe;
mod receiving;
pub(crate) mod room;
pub(crate) mod sendfile;
pub(crate) mod stream;
mod surface;

use crate::ffi::error::{self, PyResult, restore, take};
use crate::ffi::{Obj, Raw, call};
use crate::state::names;
use std::ptr;

pub(crate) mod tls;

crate::state::table! {
    names:
        attach = "_attach",
        datagram_received = "datagram_received",
        detach = "_detach",
        error_received = "error_received",
        getpeername = "getpeername",
        getsockname = "getsockname",
        name_of_call_connection_lost = "_call_connection_lost",
        name_of_sendto_ready = "_sendto_ready",
        name_of_start_reading = "_start_reading",
        name_of_write_ready = "_write_ready",
        name_of_read_ready = "_read_ready",
        peername = "peername",
        set_exception = "set_exception",
        set_result = "set_result",
        sockname = "sockname",
        socket = "socket";
    imports:
        datagram_transport = "asyncio.transports"."DatagramTransport",
        flow_control_mixin = "asyncio.transports"."_FlowControlMixin",
        read_transport = "asyncio.transports"."ReadTransport",
        native_file = "_io"."FileIO",
        native_socket = "_socket"."socket",
        plain_socket = "socket"."socket",
        transport_socket = "asyncio.trsock"."TransportSocket";
}

/// Steps that all happen, whatever one of them raises: a transport is never left half closed. The first exception is
/// raised at the end; one after it replaces nothing and is reported as unraisable.
struct AllSteps {
    first: Option<Obj>,
}

impl AllSteps {
    fn new() -> AllSteps {
        AllSteps { first: None }
    }

    fn run<T>(&mut self, step: impl FnOnce() -> PyResult<T>) -> Option<T> {
        match step() {
            Ok(value) => Some(value),
            Err(_) if self.first.is_some() => {
                error::write_unraisable(ptr::null_mut());
                None
            }
            Err(_) => {
                self.first = Some(take());
                None
            }
        }
    }

    fn end(self) -> PyResult<()> {
        self.first.map_or(Ok(()), |exception| Err(restore(exception)))
    }
}

/// `waiter.set_result(value)` or `waiter.set_exception(value)`, unless it is done.
pub(super) fn settle(waiter: &Obj, name: Raw, value: &Obj) -> PyResult<()> {
    let done = call::call_method(names::done(), &[waiter.as_ptr()], None)?;
    if call::is_true(done.as_ptr())? {
        return Ok(());
    }
    call::call_method(name, &[waiter.as_ptr(), value.as_ptr()], None).map(drop)
}
