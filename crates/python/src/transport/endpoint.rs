//! What every native transport is made of: the object that owns the descriptor, loop, protocol, context, registrations and
//! watermarks. `Core` is a part of each transport's struct, `Endpoint` what is done to it.
//!
//! All callbacks of the protocol that the loop causes run in the transport's own context, captured when it was made, but
//! for `connection_made`, which runs in another copy unless the transport was given its context.
//!
//! Invariants
//! - E1: the Python object in `file` owns the descriptor. A system call gets the number only while that object is there
//!   and still says that it has it (`live_fd`).
//! - E2: `READING` and `WRITING` say whether this transport was registered as reader and writer of `fd`. Taking that back
//!   touches the loop's table only if this transport is still who is registered there.
//! - E3: `event_loop` holds nothing but a checked EventLoop.
//! - E4: once `LOST` is set and `connection_lost` returned, `file`, `event_loop` and `protocol` are empty.

use super::{
    getpeername, getsockname, name_of_read_ready, name_of_write_ready, native_file, native_socket, peername, socket,
    sockname, transport_socket,
};
use crate::event_loop::{EventLoop, io::Side, ready::is_unique};
use crate::ffi::error::{self, PyResult, owned, status};
use crate::ffi::{Native, Obj, Own, Raised, Raw, Slot, c, call, context, object};
use crate::handle::{CANCELLED, Handle};
use crate::state::{helper, names};
use std::cell::Cell;
use std::ffi::c_int;
use std::ops::Deref;
use wire::Flow;

/// Registered as the reader of the descriptor.
pub(super) const READING: u16 = 1 << 1;
/// Registered as its writer.
pub(super) const WRITING: u16 = 1 << 2;
/// `pause_reading` was called.
pub(super) const PAUSED: u16 = 1 << 3;
/// `close` was called, or a fatal error happened.
pub(super) const CLOSING: u16 = 1 << 4;
/// `connection_lost` is being called, or was.
pub(super) const LOST: u16 = 1 << 7;
/// The object in `file` shows its descriptor where `_socket.socket` and `_io.FileIO` keep it.
pub(super) const FD_VISIBLE: u16 = 1 << 8;
/// An event of this transport is being handled.
pub(super) const IN_EVENT: u16 = 1 << 9;

/// The protocol is a stream's, whose reader may be fed without a call.
pub(super) const STREAM: u16 = 1 << 12;
/// The last event brought about as much as the one before, and so did that.
pub(super) const EVEN: u16 = 1 << 13;
pub(super) const EVEN_AGAIN: u16 = 1 << 14;
/// All of these; the other bits are each transport's own.
pub(super) const FLAGS: u16 =
    READING | WRITING | PAUSED | CLOSING | LOST | FD_VISIBLE | IN_EVENT | STREAM | EVEN | EVEN_AGAIN;

#[repr(C)]
pub(crate) struct Core {
    pub(super) event_loop: Slot,
    /// The socket or the pipe.
    pub(super) file: Slot,
    pub(super) protocol: Slot,
    pub(super) context: Slot,
    /// The limits as the user gave them; empty while they are the default.
    pub(super) low_water: Slot,
    pub(super) high_water: Slot,
    pub(super) dict: Slot,
    pub(super) weaklist: Cell<Raw>,
    pub(super) flow: Cell<Flow>,
    pub(super) fd: Cell<i32>,
    pub(super) conn_lost: Cell<u32>,
    pub(super) flags: Cell<u16>,
}

impl Core {
    #[inline]
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags.get() & flag != 0
    }

    #[inline]
    pub(super) fn put(&self, flag: u16, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
    }

    /// The loop, until the connection is lost.
    #[inline]
    pub(super) fn event_loop(&self) -> Option<Own<EventLoop>> {
        // SAFETY: E3.
        self.event_loop
            .get()
            .map(|event_loop| unsafe { Own::from_obj_unchecked(event_loop) })
    }

    pub(super) fn is_debug(&self) -> bool {
        self.event_loop().is_some_and(|event_loop| event_loop.is_debug())
    }

    /// No method of an exact instance is replaced by one in its dictionary.
    #[inline]
    pub(crate) fn is_unpatched(&self) -> bool {
        let dict = self.dict.ptr();
        // SAFETY: A1; a dict.
        dict.is_null() || unsafe { c::PyDict_Size(dict) } == 0
    }

    pub(super) fn is_reading(&self) -> bool {
        !self.has(CLOSING | PAUSED)
    }

    /// Takes `file` in, and learns its descriptor.
    pub(super) fn init_file(&self, file: Raw) -> PyResult<()> {
        self.file.set(Obj::from_borrowed(file));
        let fd = call::call_method(names::fileno(), &[file], None)?;
        self.fd.set(call::as_i64(fd.as_ptr())? as i32);
        self.put(FD_VISIBLE, shows_fd(file) && visible_fd(file) == self.fd.get());
        // A socket operation that trusts its descriptor would not ask whose it is.
        let known = self
            .event_loop()
            .and_then(|event_loop| event_loop.known_sockets(|known| known.forget(self.fd.get())));
        drop(known);
        Ok(())
    }

    /// The descriptor if its owner still has it (E1), else -1, which every system call answers with `EBADF`.
    /// Somebody else may close the owner; the number may then belong to another connection.
    #[inline]
    pub(super) fn live_fd(&self) -> i32 {
        let file = self.file.ptr();
        if file.is_null() {
            return -1;
        }
        let fd = self.fd.get();
        if self.has(FD_VISIBLE) && visible_fd(file) != fd {
            return -1;
        }
        fd
    }

    /// `protocol.name(argument)`. Looked up at each call, as tests and tools replace these methods on instances; it costs a
    /// few nanoseconds.
    #[inline]
    pub(super) fn call_protocol_with(&self, name: Raw, argument: Raw) -> PyResult<Obj> {
        let protocol = self.protocol.get_or_none();
        call::call_method(name, &[protocol.as_ptr(), argument], None)
    }

    /// `protocol.name()`
    pub(super) fn call_protocol(&self, name: Raw) -> PyResult<Obj> {
        let protocol = self.protocol.get_or_none();
        call::call_method(name, &[protocol.as_ptr()], None)
    }

    pub(super) fn slots(&self) -> [&Slot; 7] {
        [
            &self.event_loop,
            &self.file,
            &self.protocol,
            &self.context,
            &self.low_water,
            &self.high_water,
            &self.dict,
        ]
    }
}

/// A native transport. `raw()` is its Python object, dereferencing gives its `Core`.
pub(crate) trait Endpoint: Native + Deref<Target = Core> {
    /// What `_read_ready` and `_write_ready` of asyncio's transport do.
    fn handle_side(&self, event_loop: &EventLoop, side: Side) -> PyResult<()>;

    /// How many bytes the kernel has not taken.
    fn unsent_len(&self) -> usize;

    /// A fatal error: reported if it is unusual, then the end.
    fn end_with(&self, exception: &Obj, message: &str) -> PyResult<()>;

    /// Sends what an event left to be sent.
    #[inline]
    fn event_over(&self) -> PyResult<()> {
        Ok(())
    }

    /// Keeps a loop and a context, the current one if none was given.
    fn init_loop(&self, event_loop: &EventLoop, context: Option<Obj>) -> PyResult<()> {
        self.context.set(context.map_or_else(context::copy_current, Ok)?);
        self.event_loop.set(event_loop.obj());
        self.flow.set(Flow::default());
        Ok(())
    }

    /// `loop.call_soon(protocol.connection_made, self)`, then `start` of the transport, then the waiter's result. What
    /// `connection_made` sets is seen by the later callbacks only if all were `given` their context.
    fn schedule_start(
        &self,
        event_loop: &EventLoop,
        given: Option<Raw>,
        start: Option<Raw>,
        waiter: Option<Raw>,
    ) -> PyResult<()> {
        let connection_made = call::getattr(self.protocol.get_or_none().as_ptr(), names::connection_made())?;
        event_loop.check_can_schedule()?;
        let context = given.map_or_else(context::copy_current, |given| Ok(Obj::from_borrowed(given)))?;
        event_loop.call_soon_native(connection_made.as_ptr(), &[self.raw()], context)?;
        // Reading starts only after connection_made, and the waiter wakes after both.
        if let Some(start) = start {
            self.call_soon(event_loop, start, &[])?;
        }
        if let Some(waiter) = waiter {
            let none = Obj::none();
            let arguments = [waiter, none.as_ptr()];
            let set_result = crate::state::imports::set_result_unless_cancelled();
            self.call_soon_function(event_loop, set_result, &arguments)?;
        }
        Ok(())
    }

    /// Becomes the reader or writer of the descriptor.
    fn register(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        if self.has(flag_of(side)) {
            return Ok(());
        }
        let previous = event_loop.set_owner(self.live_fd(), side, self.obj())?;
        self.put(flag_of(side), true);
        if side == Side::Read {
            event_loop.poll_next_turn();
        }
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

    /// What the loop calls after `connection_made`. A connection that the kernel cannot watch ends here, as nobody would
    /// ever hear of it again.
    fn start_reading(&self) -> PyResult<()> {
        if self.watch().is_ok() {
            return Ok(());
        }
        let exception = error::take();
        if is_out_of_room(&exception) {
            self.end_with(&exception, "Fatal error: the connection cannot be watched")
        } else {
            Err(error::restore(exception))
        }
    }

    fn watch(&self) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        match self.event_loop() {
            Some(event_loop) => self.register(&event_loop, Side::Read),
            None => Ok(()),
        }
    }

    fn pause_reading(&self) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        self.put(PAUSED, true);
        self.unregister(Side::Read);
        if self.is_debug() {
            self.log("debug", "%r pauses reading", &[], None)
        } else {
            Ok(())
        }
    }

    fn resume_reading(&self) -> PyResult<()> {
        if self.has(CLOSING) || !self.has(PAUSED) {
            return Ok(());
        }
        self.put(PAUSED, false);
        if let Err(raised) = self.watch() {
            self.put(PAUSED, true);
            return Err(raised);
        }
        if self.is_debug() {
            self.log("debug", "%r resumes reading", &[], None)
        } else {
            Ok(())
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

    /// `asyncio.log.logger.level(format, self, …)`; debug mode's, mostly.
    #[cold]
    fn log(&self, level: &str, format: &str, more: &[Raw], exception: Option<&Obj>) -> PyResult<()> {
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
        call::call_method(call::interned(level)?.as_ptr(), &all, kwnames.as_ref()).map(drop)
    }

    /// `loop.call_exception_handler` with the four things asyncio's transports say.
    #[cold]
    fn report(&self, event_loop: &EventLoop, message: &str, exception: &Obj) -> PyResult<()> {
        let details = call::dict()?;
        call::dict_set(&details, "message", call::string(message)?.as_ptr())?;
        call::dict_set(&details, "exception", exception.as_ptr())?;
        call::dict_set(&details, "transport", self.raw())?;
        call::dict_set(&details, "protocol", self.protocol.get_or_none().as_ptr())?;
        let _handling = error::handle(exception);
        call::call_method(
            names::call_exception_handler(),
            &[event_loop.raw(), details.as_ptr()],
            None,
        )
        .map(drop)
    }

    /// The loop says that the descriptor is ready. Only `SystemExit` and `KeyboardInterrupt` come back as errors.
    #[inline]
    fn on_ready(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        if self.has(LOST) || !self.has(flag_of(side)) {
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
        let outcome = self.handle_side(event_loop, side);
        drop(in_event);
        // What the protocol wrote in answer is still in the processor's caches, and the peer can begin.
        let outcome = match outcome.and_then(|()| self.event_over()) {
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
        let function = call::getattr(self.raw(), self.name_of_event(side))?;
        Handle::create(event_loop, function.as_ptr(), &[], context::copy_current()?)
    }

    fn name_of_event(&self, side: Side) -> Raw {
        match side {
            Side::Read => name_of_read_ready(),
            Side::Write => name_of_write_ready(),
        }
    }

    /// What escapes from an event is reported as asyncio reports it.
    #[cold]
    fn event_failed(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        let exception = error::take();
        if self.event_over().is_err() {
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
struct InEvent<'a>(&'a Core);

impl<'a> InEvent<'a> {
    #[inline]
    fn begin(transport: &'a impl Endpoint) -> InEvent<'a> {
        let core: &Core = transport;
        core.put(IN_EVENT, true);
        InEvent(core)
    }
}

impl Drop for InEvent<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.put(IN_EVENT, false);
    }
}

#[inline]
pub(super) fn flag_of(side: Side) -> u16 {
    match side {
        Side::Read => READING,
        Side::Write => WRITING,
    }
}

/// The start of `PySocketSockObject`, and of `fileio`: the same in all versions we build for.
#[repr(C)]
struct WithDescriptor {
    head: c::PyObject,
    fd: Cell<c_int>,
}

/// What an instance of `_socket.socket` or `_io.FileIO` says its descriptor is.
#[inline]
pub(super) fn visible_fd(file: Raw) -> i32 {
    // SAFETY: A1; callers have checked the type with `shows_fd`.
    unsafe { &*file.cast::<WithDescriptor>() }.fd.get()
}

pub(super) fn shows_fd(file: Raw) -> bool {
    // SAFETY: A1; all live.
    unsafe {
        c::PyObject_TypeCheck(file, native_socket().cast()) != 0
            || c::PyObject_TypeCheck(file, native_file().cast()) != 0
    }
}

/// `extra[name] = value` for any mapping, as in asyncio.
pub(super) fn set_extra(extra: &Obj, name: Raw, value: &Obj) -> PyResult<()> {
    // SAFETY: A1.
    status(unsafe { c::PyObject_SetItem(extra.as_ptr(), name, value.as_ptr()) })
}

/// The EventLoop that a transport is made for.
pub(super) fn checked_loop<'a>(event_loop: Raw) -> PyResult<&'a EventLoop> {
    EventLoop::of(event_loop).ok_or_else(|| {
        let name = object::type_name(event_loop);
        error::type_error(&format!("loop must be an asynchrotron.EventLoop, not {name}"))
    })
}

/// What `get_extra_info` knows of a socket, in the order of `_SelectorTransport.__init__`.
pub(super) fn init_socket_extra(extra: &Obj, sock: Raw) -> PyResult<()> {
    set_extra(extra, socket(), &call::call1(transport_socket(), sock)?)?;
    set_extra(extra, sockname(), &address_or_none(sock, getsockname())?)?;
    // SAFETY: A1.
    let known = unsafe { c::PySequence_Contains(extra.as_ptr(), peername()) };
    status(known)?;
    if known == 0 {
        set_extra(extra, peername(), &address_or_none(sock, getpeername())?)?;
    }
    Ok(())
}

/// `sock.getsockname()` or `sock.getpeername()`; None if the system does not know.
fn address_or_none(sock: Raw, name: Raw) -> PyResult<Obj> {
    call::call_method(name, &[sock], None).or_else(|raised| {
        // SAFETY: a static of the interpreter.
        if !error::matches(unsafe { c::PyExc_OSError }) {
            return Err(raised);
        }
        error::clear();
        Ok(Obj::none())
    })
}

/// Can the kernel watch no more descriptors? Any other error says something about this one, and is reported as such.
#[cold]
fn is_out_of_room(exception: &Obj) -> bool {
    let errno = call::interned("errno").and_then(|name| call::getattr(exception.as_ptr(), name.as_ptr()));
    match errno.and_then(|errno| call::as_i64(errno.as_ptr())) {
        Ok(errno) => [libc::ENOSPC, libc::ENOMEM].map(i64::from).contains(&errno),
        Err(Raised) => {
            error::clear();
            false
        }
    }
}
