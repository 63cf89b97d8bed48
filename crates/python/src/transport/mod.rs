//! Transports: the bytes between sockets and protocols.
//!
//! What a transport decides about bytes is in the `wire` crate, what it asks of the kernel in `reactor::sockets`; here
//! is what touches Python objects. This file: names they look up, and steps that must all happen.

pub(crate) mod buffer;
mod room;
pub(crate) mod stream;

use crate::ffi::error::{self, PyResult, restore, take};
use crate::ffi::{Obj, Raw, call};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

macro_rules! table {
    (names: $($name:ident = $text:literal),* ; imports: $($import:ident = $module:literal . $attribute:literal),* $(;)?) => {
        /// What transports look up once per connection, beside the names all of the crate uses.
        struct Table { $($name: Obj,)* $($import: Obj),* }

        fn load() -> PyResult<Table> {
            Ok(Table {
                $($name: call::interned($text)?,)*
                $($import: call::import_from($module, $attribute)?),*
            })
        }

        $(fn $name() -> Raw { table().$name.as_ptr() })*
        $(fn $import() -> Raw { table().$import.as_ptr() })*
    };
}

table! {
    names:
        attach = "_attach",
        detach = "_detach",
        getpeername = "getpeername",
        getsockname = "getsockname",
        name_of_call_connection_lost = "_call_connection_lost",
        name_of_start_reading = "_start_reading",
        name_of_write_ready = "_write_ready",
        name_of_read_ready = "_read_ready",
        peername = "peername",
        set_exception = "set_exception",
        set_result = "set_result",
        sockname = "sockname",
        socket = "socket";
    imports:
        flow_control_mixin = "asyncio.transports"."_FlowControlMixin",
        native_socket = "_socket"."socket",
        transport_socket = "asyncio.trsock"."TransportSocket";
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// Filled when the module is imported, never freed.
fn table() -> &'static Table {
    // SAFETY: `load_table` ran before any transport could exist.
    unsafe { &*TABLE.load(Ordering::Relaxed) }
}

fn load_table() -> PyResult<()> {
    TABLE.store(Box::into_raw(Box::new(load()?)), Ordering::Release);
    Ok(())
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
