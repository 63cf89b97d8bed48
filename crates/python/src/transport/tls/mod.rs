//! TLS: the native half of `asyncio.sslproto`: docs/internals/tls.md.
//!
//! | file | what it holds |
//! |---|---|
//! | `tls/openssl.rs` | OpenSSL's own functions, where they can be had |
//! | `tls/pipes.rs` | BIOs of ours in the place of the memory BIOs |
//! | `tls/window.rs` | memory lent to the engine's Python methods |
//! | `tls/engine.rs` | the user's SSLObject and its BIOs as bytes see them |
//! | `tls/reading.rs` | what was received: decrypted, handed over |
//! | `tls/writing.rs` | what is to be sent: encrypted, passed on |
//! | `tls/flow.rs` | limits, and whether one is crossed |
//! | `tls/surface.rs` | `TlsProtocol` as a type: the attributes that the stdlib's methods use |
//! | `tls/app_transport.rs` | `TlsTransport`: what the program writes to |
//!
//! What happens once per connection (handshake, shutdown, time-outs, fatal errors) is the running version's own
//! `SSLProtocol`, which the Python class inherits from and which finds its state in the fields here. What happens per
//! packet is here.
//!
//! Invariants
//! - I1: `engine` is what `Engine::new` makes of the three objects in `sslobj`, `incoming` and `outgoing`; whoever changes
//!   one of them renews it. Without one (a stand-in of a test, a subclass with methods of its own) the stdlib's code runs.
//! - I2: nothing is borrowed across a call into Python: an engine is cloned, buffers are moved out.

mod app_transport;
mod engine;
mod flow;
mod openssl;
mod pipes;
mod reading;
mod surface;
mod window;
mod writing;

pub(crate) use surface::{build, functions};

use crate::ffi::error::{self, PyResult, Raised};
use crate::ffi::{Native, Obj, Raw, Slot, c, call, object};
use crate::state::imports;
use crate::streams::StreamReaderProtocol;
use crate::transport::stream::StreamTransport;
use engine::Engine;
use flow::Limits;
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

crate::state::table! {
    names:
        backlog_append = "append",
        backlog_popleft = "popleft",
        call_eof_received = "_call_eof_received",
        control_app_writing = "_control_app_writing",
        control_ssl_reading = "_control_ssl_reading",
        do_flush = "_do_flush",
        do_handshake = "_do_handshake",
        do_read = "_do_read",
        do_shutdown = "_do_shutdown",
        do_write = "_do_write",
        fatal_error = "_fatal_error",
        pending = "pending",
        process_outgoing = "_process_outgoing",
        read = "read",
        sslobj = "_sslobj",
        start_shutdown = "_start_shutdown",
        write = "write",
        write_appdata = "_write_appdata";
    imports:
        memory_bio = "_ssl"."MemoryBIO",
        native_ssl_socket = "_ssl"."_SSLSocket",
        ssl_object = "ssl"."SSLObject",
        syscall_error = "ssl"."SSLSyscallError",
        want_read_error = "ssl"."SSLWantReadError",
        protocol_state = "asyncio.sslproto"."SSLProtocolState",
        stdlib_protocol = "asyncio.sslproto"."SSLProtocol";
}

/// `sslproto.SSLProtocolState`
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unwrapped,
    DoHandshake,
    Wrapped,
    Flushing,
    Shutdown,
}

const STATES: [(State, &str); 5] = [
    (State::Unwrapped, "UNWRAPPED"),
    (State::DoHandshake, "DO_HANDSHAKE"),
    (State::Wrapped, "WRAPPED"),
    (State::Flushing, "FLUSHING"),
    (State::Shutdown, "SHUTDOWN"),
];

#[repr(C)]
pub(crate) struct TlsProtocol {
    head: c::PyObject,
    event_loop: Slot,
    /// The member of the enumeration, as Python code set it.
    state_member: Slot,
    sslobj: Slot,
    incoming: Slot,
    outgoing: Slot,
    transport: Slot,
    app_protocol: Slot,
    /// A deque: what was written and is not encrypted yet.
    backlog: Slot,
    /// What transports of others receive into, while there are any.
    received: Slot,
    received_view: Slot,
    /// Written by `tp_new`, dropped by `tp_dealloc` (I1).
    engine: UnsafeCell<Option<Engine>>,
    backlog_len: Cell<i64>,
    incoming_limits: Limits,
    outgoing_limits: Limits,
    /// How large the next message may be, from those before.
    expected_len: Cell<u32>,
    state: Cell<State>,
    /// The transport is a `StreamTransport` of ours, which takes bytes without a call.
    over_stream: Cell<bool>,
    /// The protocol above is a `BufferedProtocol`, and none of ours.
    app_buffered: Cell<bool>,
    /// It is a stream's, whose reader may be fed without a call.
    app_stream: Cell<bool>,
    /// It is one of these: TLS in TLS.
    app_tls: Cell<bool>,
    ssl_writing_paused: Cell<bool>,
    ssl_reading_paused: Cell<bool>,
    app_writing_paused: Cell<bool>,
    app_reading_paused: Cell<bool>,
}

static PROTOCOL: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first; every field but the engine is valid when zeroed, and `tp_new` makes that whole before
// anyone sees the object.
unsafe impl Native for TlsProtocol {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        PROTOCOL.load(Ordering::Relaxed)
    }
}

impl TlsProtocol {
    /// May a transport of ours hand over what it received without a call of `get_buffer` and `buffer_updated`?
    pub(crate) fn takes_bytes(raw: Raw) -> bool {
        TlsProtocol::check(raw) && surface::has_own_methods(raw)
    }

    #[inline]
    fn engine(&self) -> Option<Engine> {
        // SAFETY: I2; the clone runs no Python code.
        unsafe { (*self.engine.get()).clone() }
    }

    /// I1
    fn renew_engine(&self) -> PyResult<()> {
        let fresh = match (self.sslobj.get(), self.incoming.get(), self.outgoing.get()) {
            (Some(object), Some(incoming), Some(outgoing)) => Engine::new(&object, &incoming, &outgoing)?,
            _ => None,
        };
        // SAFETY: I2; the old one drops after it was replaced.
        drop(unsafe { std::mem::replace(&mut *self.engine.get(), fresh) });
        Ok(())
    }

    #[inline]
    fn has_pipes(&self) -> bool {
        // SAFETY: I2; no Python code runs.
        unsafe { &*self.engine.get() }.as_ref().is_some_and(Engine::has_pipes)
    }

    fn settle_engine(&self) {
        // SAFETY: I2; no Python code runs.
        if let Some(engine) = unsafe { &mut *self.engine.get() } {
            engine.settle();
        }
    }

    fn unsettle_engine(&self) -> PyResult<()> {
        self.engine().map_or(Ok(()), |engine| engine.unsettle())
    }

    fn set_transport(&self, transport: Raw) -> PyResult<()> {
        self.over_stream.set(StreamTransport::check_exact(transport));
        self.transport.set(Obj::from_borrowed(transport));
        if object::is_none(transport)
            && let Some(engine) = self.engine()
        {
            engine.take_outgoing()?; // the connection is lost: nobody else will
        }
        Ok(())
    }

    /// The transport below if it is ours.
    #[inline]
    fn stream(&self) -> Option<crate::ffi::Own<StreamTransport>> {
        if !self.over_stream.get() {
            return None;
        }
        // Somebody may have put a `write` of their own into it.
        StreamTransport::of_exact(self.transport.ptr())
            .filter(|stream| stream.is_unpatched())
            .map(Native::own)
    }

    fn set_app_protocol(&self, protocol: Raw) -> PyResult<()> {
        let tls = TlsProtocol::takes_bytes(protocol);
        self.app_tls.set(tls);
        self.app_stream.set(StreamReaderProtocol::check(protocol));
        // The stdlib asks for the attribute first, too.
        let buffered = !tls
            && call::getattr_optional(protocol, crate::state::names::get_buffer())?.is_some()
            && call::isinstance(protocol, imports::buffered_protocol())?;
        self.app_buffered.set(buffered);
        self.app_protocol.set(Obj::from_borrowed(protocol));
        Ok(())
    }

    /// `self.name()`: what happens once per connection.
    fn call_own(&self, name: Raw) -> PyResult<()> {
        call::call_method(name, &[self.raw()], None).map(drop)
    }

    /// The stdlib's `SSLProtocol.name(self, …)`.
    fn call_stdlib(&self, name: Raw, arguments: &[Raw]) -> PyResult<()> {
        let function = call::getattr(stdlib_protocol(), name)?;
        let all = [&[self.raw()], arguments].concat();
        call::call(function.as_ptr(), &all, None).map(drop)
    }

    fn has_backlog(&self) -> PyResult<bool> {
        let backlog = self.backlog.ptr();
        if backlog.is_null() {
            return Ok(false);
        }
        // SAFETY: A1; anything with a length.
        match unsafe { c::PyObject_Size(backlog) } {
            ..0 => Err(Raised),
            len => Ok(len > 0),
        }
    }

    /// `except Exception as ex: self._fatal_error(ex, 'Fatal error on SSL protocol')`
    #[cold]
    fn failed(&self, raised: Raised) -> PyResult<()> {
        // SAFETY: a static of the interpreter.
        if !error::matches(unsafe { c::PyExc_Exception }) {
            return Err(raised);
        }
        let exception = error::take();
        let message = call::string("Fatal error on SSL protocol")?;
        // It logs the exception that is being handled.
        let handled = error::handle(&exception);
        let outcome = call::call_method(fatal_error(), &[self.raw(), exception.as_ptr(), message.as_ptr()], None);
        drop(handled);
        outcome.map(drop)
    }

    fn slots(&self) -> [&Slot; 12] {
        [
            &self.event_loop,
            &self.state_member,
            &self.sslobj,
            &self.incoming,
            &self.outgoing,
            &self.transport,
            &self.app_protocol,
            &self.backlog,
            &self.received,
            &self.received_view,
            self.incoming_limits.slot(),
            self.outgoing_limits.slot(),
        ]
    }
}

/// The member of the stdlib's enumeration as ours.
fn state_of(member: Raw) -> PyResult<State> {
    for (state, name) in STATES {
        let known = call::getattr(protocol_state(), call::interned(name)?.as_ptr())?;
        if known.is(member) {
            return Ok(state);
        }
    }
    Err(error::type_error(&format!(
        "not a state of SSLProtocol: {}",
        object::type_name(member)
    )))
}
