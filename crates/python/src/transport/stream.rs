//! `StreamTransport`: a connected stream socket, the native twin of `selector_events._SelectorSocketTransport`. This
//! file: fields, and what the files beside it share.
//!
//! | file | what it holds |
//! |---|---|
//! | `stream/lifetime.rs` | construction, garbage collection, finaliser |
//! | `stream/reading.rs` | readable sockets: receive, `data_received`, `get_buffer`, end of stream |
//! | `stream/writing.rs` | write, queue, flush, writable sockets, end of output |
//! | `stream/flow.rs` | watermarks: `pause_writing`, `resume_writing` |
//! | `stream/closing.rs` | close, abort, fatal errors, `connection_lost` |
//! | `stream/surface.rs` | the type, its methods and attributes |
//!
//! All callbacks of the protocol that the loop causes run in the transport's own context, captured when it was made.
//!
//! Invariants
//! - I1: the Python socket object owns the descriptor. A system call gets the number only while that object is in `sock`
//!   and still says that it has it (`live_fd`).
//! - I2: `READING` and `WRITING` say whether this transport was registered as reader and writer of `fd`. Taking that back
//!   touches the loop's table only if this transport is still who is registered there.
//! - I3: `queue` is borrowed only by code that runs no Python (`with_queue`). Outside of a writable event the queue is
//!   blocked exactly while `WRITING` is set. If it holds data and is not blocked, somebody flushes: the event that is being
//!   handled (`IN_EVENT`) when it ends, or the loop (`FLUSH_DUE`) at the end of the turn.
//! - I4: `conn_lost` is not 0 from the moment that `connection_lost` is certain to be called; `LOST` from when it is
//!   being called. Once it was, the slots of the socket, the loop, the protocol and the server are empty.
//! - I5: `base` is what the Python base classes lay out: their `__slots__`. The first is `_extra`; the others have
//!   properties of ours in front of them and stay empty.

mod closing;
mod flow;
mod lifetime;
mod reading;
mod surface;
mod writing;

pub(crate) use surface::build_type;

use super::buffer::Bytes;
use super::{name_of_read_ready, name_of_write_ready, native_socket};
use crate::event_loop::{EventLoop, io::Side, ready::is_unique};
use crate::ffi::error::{self, PyResult, owned};
use crate::ffi::{Native, Obj, Own, Raised, Raw, Slot, c, call, context};
use crate::handle::{CANCELLED, Handle};
use crate::state::{helper, names, state};
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use wire::{Flow, WriteQueue};

/// How many slots `transports._FlowControlMixin` and its bases have.
const BASE_SLOTS: usize = 5;

/// The protocol is a `BufferedProtocol`.
const BUFFERED: u16 = 1;
/// Registered as the reader of the descriptor.
const READING: u16 = 1 << 1;
/// Registered as its writer.
const WRITING: u16 = 1 << 2;
/// `pause_reading` was called.
const PAUSED: u16 = 1 << 3;
/// `close` was called, or a fatal error happened.
const CLOSING: u16 = 1 << 4;
/// `write_eof` was called.
const EOF: u16 = 1 << 5;
/// The loop will flush at the end of the turn.
const FLUSH_DUE: u16 = 1 << 6;
/// `connection_lost` is being called, or was.
const LOST: u16 = 1 << 7;
/// The socket object shows its descriptor where `_socket.socket` keeps it.
const FD_VISIBLE: u16 = 1 << 8;
/// An event of this transport is being handled; what is queued meanwhile is flushed when that ends.
const IN_EVENT: u16 = 1 << 9;
/// The last turn with writes had several: the next turn's are kept for its end from the first on.
const JOINS: u16 = 1 << 10;
/// This turn has had a second write.
const SEVERAL: u16 = 1 << 11;
/// The protocol is a stream's, whose reader may be fed without a call.
const STREAM: u16 = 1 << 12;

type Queue = WriteQueue<Bytes>;

#[repr(C)]
pub(crate) struct StreamTransport {
    head: c::PyObject,
    base: [Slot; BASE_SLOTS],
    event_loop: Slot,
    sock: Slot,
    protocol: Slot,
    server: Slot,
    context: Slot,
    empty_waiter: Slot,
    /// The limits as the user gave them; empty while they are the default.
    low_water: Slot,
    high_water: Slot,
    dict: Slot,
    weaklist: Cell<Raw>,
    /// Written by `tp_new`, dropped by `tp_dealloc`.
    queue: UnsafeCell<Queue>,
    flow: Cell<Flow>,
    fd: Cell<i32>,
    /// The turn of the last write outside an event.
    write_turn: Cell<u32>,
    conn_lost: Cell<u32>,
    /// How large the next receive may be, from those before.
    expected_len: Cell<u32>,
    flags: Cell<u16>,
}

// SAFETY: repr(C); starts with the layout of its Python base class, which begins with the object header; every field but
// the queue is valid when zeroed, and `tp_new` makes that whole before anyone sees the object.
unsafe impl Native for StreamTransport {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.stream_transport()
    }
}

impl StreamTransport {
    #[inline]
    fn has(&self, flag: u16) -> bool {
        self.flags.get() & flag != 0
    }

    #[inline]
    fn put(&self, flag: u16, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
    }

    fn extra(&self) -> &Slot {
        &self.base[0]
    }

    /// The loop, until the connection is lost.
    #[inline]
    fn event_loop(&self) -> Option<Own<EventLoop>> {
        // SAFETY: `init` puts nothing but a checked EventLoop there.
        self.event_loop
            .get()
            .map(|event_loop| unsafe { Own::from_obj_unchecked(event_loop) })
    }

    fn is_debug(&self) -> bool {
        self.event_loop().is_some_and(|event_loop| event_loop.is_debug())
    }

    /// No method of an exact instance is replaced by one in its dictionary.
    #[inline]
    pub(crate) fn is_unpatched(&self) -> bool {
        let dict = self.dict.ptr();
        // SAFETY: A1; a dict.
        dict.is_null() || unsafe { c::PyDict_Size(dict) } == 0
    }

    fn is_reading(&self) -> bool {
        !self.has(CLOSING | PAUSED)
    }

    /// The descriptor if the socket object still has it (I1), else -1, which every system call answers with `EBADF`.
    /// Somebody else may close the socket; its number may then belong to another connection.
    #[inline]
    fn live_fd(&self) -> i32 {
        let sock = self.sock.ptr();
        if sock.is_null() {
            return -1;
        }
        let fd = self.fd.get();
        if self.has(FD_VISIBLE) && visible_fd(sock) != fd {
            return -1;
        }
        fd
    }

    /// Becomes the reader or writer of the descriptor.
    fn register(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        if self.has(flag_of(side)) {
            return Ok(());
        }
        let previous = event_loop.set_owner(self.live_fd(), side, self.obj())?;
        self.put(flag_of(side), true);
        if let Some(handle) = previous.as_ref().and_then(|owner| Handle::of(owner.as_ptr())) {
            // Left there by somebody's add_reader; an event of this turn must not run it.
            handle.put(CANCELLED, true);
            handle.release();
        }
        Ok(())
    }

    fn unregister(&self, side: Side) {
        if !self.has(flag_of(side)) {
            return;
        }
        self.put(flag_of(side), false);
        let (Some(event_loop), fd) = (self.event_loop(), self.fd.get()) else {
            return;
        };
        let is_ours = event_loop.with_registry(|registry| {
            let owner = if side == Side::Read {
                registry.reader(fd)
            } else {
                registry.writer(fd)
            };
            owner.is_some_and(|owner| owner.is(self.raw()))
        });
        if is_ours == Some(true) {
            drop(event_loop.clear_owner(fd, side));
        }
    }

    /// Enters the transport's context; the loop leaves it when it runs something else. Gives back a copy if that had to be
    /// entered instead: the context is in use further down the stack, where one of its callbacks runs the loop again.
    #[inline]
    fn enter_context(&self, event_loop: &EventLoop) -> PyResult<Option<Obj>> {
        #[cfg(Py_3_14)]
        crate::task::registry::withdraw(event_loop);
        let wanted = self.context.ptr();
        if wanted.is_null() || event_loop.enter_context(wanted).is_ok() {
            return Ok(None);
        }
        error::clear();
        // SAFETY: A1; a context.
        let copy = owned(unsafe { c::PyContext_Copy(wanted) })?;
        event_loop.enter_context(copy.as_ptr())?;
        Ok(Some(copy))
    }

    /// `protocol.name(argument)`. Looked up at each call, as tests and tools replace these methods on instances; it costs a
    /// few nanoseconds.
    #[inline]
    fn call_protocol_with(&self, name: Raw, argument: Raw) -> PyResult<Obj> {
        let protocol = self.protocol.get_or_none();
        call::call_method(name, &[protocol.as_ptr(), argument], None)
    }

    /// `protocol.name()`
    fn call_protocol(&self, name: Raw) -> PyResult<Obj> {
        let protocol = self.protocol.get_or_none();
        call::call_method(name, &[protocol.as_ptr()], None)
    }

    /// `loop.call_soon(self.name, *arguments)` in the transport's context.
    fn call_soon(&self, event_loop: &EventLoop, name: Raw, arguments: &[Raw]) -> PyResult<()> {
        let function = call::getattr(self.raw(), name)?;
        self.call_soon_function(event_loop, function.as_ptr(), arguments)
    }

    fn call_soon_function(&self, event_loop: &EventLoop, function: Raw, arguments: &[Raw]) -> PyResult<()> {
        event_loop.check_can_schedule()?;
        let context = self.context.get().map_or_else(context::copy_current, Ok)?;
        event_loop.call_soon_native(function, arguments, context)
    }

    /// Debug mode's log, `asyncio.log.logger.debug(format, self, …)`.
    #[cold]
    fn log_debug(&self, format: &str, more: &[Raw], exception: Option<&Obj>) -> PyResult<()> {
        let logger = call::import_from("asyncio.log", "logger")?;
        let format = call::string(format)?;
        let mut all = vec![logger.as_ptr(), format.as_ptr(), self.raw()];
        all.extend_from_slice(more);
        let kwnames = match exception {
            Some(exception) => {
                all.push(exception.as_ptr());
                Some(call::tuple(&[call::interned("exc_info")?.as_ptr()])?)
            }
            None => None,
        };
        call::call_method(call::interned("debug")?.as_ptr(), &all, kwnames.as_ref()).map(drop)
    }

    /// `loop.call_exception_handler` with the four things asyncio's transports say.
    #[cold]
    fn report(&self, event_loop: &EventLoop, message: &str, exception: &Obj) -> PyResult<()> {
        let details = call::dict()?;
        call::dict_set(&details, "message", call::string(message)?.as_ptr())?;
        call::dict_set(&details, "exception", exception.as_ptr())?;
        call::dict_set(&details, "transport", self.raw())?;
        call::dict_set(&details, "protocol", self.protocol.get_or_none().as_ptr())?;
        call::call_method(
            names::call_exception_handler(),
            &[event_loop.raw(), details.as_ptr()],
            None,
        )
        .map(drop)
    }

    /// The loop says that the descriptor is ready. Only `SystemExit` and `KeyboardInterrupt` come back as errors.
    #[inline]
    pub(crate) fn on_ready(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        if self.conn_lost.get() != 0 || !self.has(flag_of(side)) {
            return Ok(());
        }
        if event_loop.is_debug() {
            return self.handle_event_timed(event_loop, side);
        }
        self.handle_event(event_loop, side)
    }

    #[inline]
    fn handle_event(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        let Ok(copy) = self.enter_context(event_loop) else {
            return self.event_failed(event_loop, side);
        };
        let in_event = InEvent::begin(self);
        let outcome = match side {
            Side::Read => self.read_ready(event_loop),
            Side::Write => self.write_ready(),
        };
        drop(in_event);
        // What the protocol wrote in answer is still in the processor's caches, and the peer can begin.
        let outcome = match outcome.and_then(|()| self.flush_now()) {
            Ok(()) => Ok(()),
            Err(Raised) => self.event_failed(event_loop, side),
        };
        if copy.is_some() || self.has(LOST) || is_unique(self) {
            // PyContext_Exit needs the context alive beside the thread state's own reference, and ours may end here.
            event_loop.leave_context();
        }
        outcome
    }

    /// Debug mode: reports events that took too long.
    #[cold]
    fn handle_event_timed(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        let begin_ns = reactor::now_ns();
        self.handle_event(event_loop, side)?;
        let seconds = reactor::now_ns().saturating_sub(begin_ns) as f64 * 1e-9;
        if seconds < event_loop.slow_callback_seconds() {
            return Ok(());
        }
        event_loop.leave_context();
        let handle = self.handle_of_event(event_loop, side)?;
        let (report, seconds) = (helper("slow_callback")?, call::float(seconds)?);
        call::call(
            report.as_ptr(),
            &[event_loop.raw(), handle.raw(), seconds.as_ptr()],
            None,
        )
        .map(drop)
    }

    /// What stands for the event in reports: the handle that it would be in asyncio.
    fn handle_of_event(&self, event_loop: &EventLoop, side: Side) -> PyResult<Own<Handle>> {
        let name = match side {
            Side::Read => name_of_read_ready(),
            Side::Write => name_of_write_ready(),
        };
        let function = call::getattr(self.raw(), name)?;
        Handle::create(event_loop, function.as_ptr(), &[], context::copy_current()?)
    }

    /// Is an event of this transport being handled, with no other run of the loop on top of it? A nested run sets the
    /// loop's context aside.
    #[inline]
    fn is_in_event(&self) -> bool {
        // SAFETY: `init` puts nothing but a checked EventLoop there; borrowed until the end of this function.
        let event_loop = unsafe { self.event_loop.ptr().cast::<EventLoop>().as_ref() };
        self.has(IN_EVENT) && event_loop.is_some_and(|event_loop| event_loop.entered.get() == self.context.ptr())
    }

    /// What escapes from an event is reported as asyncio reports it.
    #[cold]
    fn event_failed(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        let exception = error::take();
        if self.flush_now().is_err() {
            error::write_unraisable(self.raw());
        }
        if error::is_exit(exception.as_ptr()) {
            return Err(error::restore(exception));
        }
        let handle = self.handle_of_event(event_loop, side)?;
        crate::handle::report(event_loop.raw(), handle.raw(), &exception)
    }
}

/// Sets `IN_EVENT` while it lives, which may end with a panic.
struct InEvent<'a>(&'a StreamTransport);

impl<'a> InEvent<'a> {
    #[inline]
    fn begin(transport: &'a StreamTransport) -> InEvent<'a> {
        transport.put(IN_EVENT, true);
        InEvent(transport)
    }
}

impl Drop for InEvent<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.put(IN_EVENT, false);
    }
}

#[inline]
fn flag_of(side: Side) -> u16 {
    match side {
        Side::Read => READING,
        Side::Write => WRITING,
    }
}

/// The start of `PySocketSockObject`, the same in all versions we build for.
#[repr(C)]
struct NativeSocket {
    head: c::PyObject,
    sock_fd: Cell<c_int>,
}

/// What an instance of `_socket.socket` says its descriptor is.
#[inline]
fn visible_fd(sock: Raw) -> i32 {
    // SAFETY: A1; `init` has checked the type, and that this place held the number `fileno()` gave.
    unsafe { &*sock.cast::<NativeSocket>() }.sock_fd.get()
}

fn is_native_socket(sock: Raw) -> bool {
    // SAFETY: A1; both live.
    unsafe { c::PyObject_TypeCheck(sock, native_socket().cast()) != 0 }
}
