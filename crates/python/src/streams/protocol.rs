//! StreamReaderProtocol: between a transport and a reader (asyncio.StreamReaderProtocol). This file: what it does;
//! construction and garbage collection.
//!
//! Its class is no subclass of the stdlib's `FlowControlMixin`, whose part is done here, too; its exact instances say that
//! they are the stdlib's class, which is.
//!
//! Invariants
//! - I1: `PLAIN` methods were the class's own when the instance was made if `plain` is set.

mod surface;

pub(super) use surface::{build, keep_methods};

use super::life::{Attached, Life};
use super::{
    Methods, StreamReader, assertion, call_method0, default_loop, feed_data, feed_eof, init_as_stdlib, is_debug,
    logger, referent, set_exception, stdlib_protocol,
};
use crate::ffi::collected::collected;
use crate::ffi::error::{PyResult, Raised, owned, raise};
use crate::ffi::trampoline;
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, object, types};
use crate::operation::{Behaviour, Operation, Original, Step};
use crate::waiters::{self, WaiterQueue};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct StreamReaderProtocol {
    head: c::PyObject,
    event_loop: Slot,
    /// The weak reference to the reader.
    reader: Slot,
    strong_reader: Slot,
    /// Up to 3.12.
    writer: Slot,
    task: Slot,
    transport: Slot,
    connected: Slot,
    closed: Slot,
    source_traceback: Slot,
    drains: WaiterQueue,
    attached: Attached,
    plain: Cell<bool>,
    paused: Cell<bool>,
    lost: Cell<bool>,
    rejects: Cell<bool>,
    over_ssl: Cell<bool>,
}

static PROTOCOL: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
/// What `drain()` calls, and the transport.
static PLAIN: Methods = Methods::new();

// SAFETY: repr(C), header first; its Python base class adds nothing to that; zero is valid for every field.
unsafe impl Native for StreamReaderProtocol {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        PROTOCOL.load(Ordering::Relaxed)
    }
}

impl StreamReaderProtocol {
    /// Do `drain()` and the transport find our methods?
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.plain.get() && PLAIN.are_not_in(self.attached.dict.ptr())
    }

    /// The reader that received bytes go to without a call of `data_received`.
    #[inline]
    pub(crate) fn plain_reader(&self) -> Option<Own<StreamReader>> {
        // SAFETY: A1; checked to be a weak reference.
        if !self.is_plain() || !self.reader.is_set() || unsafe { c::PyWeakref_CheckRefExact(self.reader.ptr()) } == 0 {
            return None;
        }
        let reader = referent(&self.reader).ok()??;
        StreamReader::of(reader.as_ptr())
            .filter(|reader| reader.is_plain())
            .map(Native::own)
    }

    /// `_stream_reader`
    fn reader(&self) -> PyResult<Option<Obj>> {
        referent(&self.reader)
    }

    fn data_received(&self, data: Raw) -> PyResult<()> {
        match self.reader()? {
            Some(reader) => call::call_method(feed_data(), &[reader.as_ptr(), data], None).map(drop),
            None => Ok(()),
        }
    }

    fn eof_received(&self) -> PyResult<bool> {
        if let Some(reader) = self.reader()? {
            call_method0(&reader, feed_eof())?;
        }
        // TLS cannot be closed on one side only.
        Ok(!self.over_ssl.get())
    }

    fn connection_lost(&self, exception: Raw) -> PyResult<()> {
        let clean = object::is_none(exception);
        if let Some(reader) = self.reader()? {
            if clean {
                call_method0(&reader, feed_eof())?;
            } else {
                call::call_method(set_exception(), &[reader.as_ptr(), exception], None)?;
            }
        }
        let closed = self.closed.get_or_none();
        settle(&closed, exception)?;
        self.lost.set(true);
        if self.paused.get() {
            for waiter in self.drains.all() {
                settle(&waiter, exception)?;
            }
        }
        for slot in [&self.reader, &self.writer, &self.task, &self.transport] {
            slot.clear();
        }
        Ok(())
    }

    fn pause_writing(&self) -> PyResult<()> {
        if self.paused.get() {
            return Err(assertion(""));
        }
        self.paused.set(true);
        self.log("%r pauses writing")
    }

    fn resume_writing(&self) -> PyResult<()> {
        if !self.paused.get() {
            return Err(assertion(""));
        }
        self.paused.set(false);
        self.log("%r resumes writing")?;
        let none = Obj::none();
        for waiter in self.drains.all() {
            settle(&waiter, none.as_ptr())?;
        }
        Ok(())
    }

    fn log(&self, format: &str) -> PyResult<()> {
        if !is_debug(&self.event_loop.get_or_none())? {
            return Ok(());
        }
        let (debug, format) = (call::interned("debug")?, call::string(format)?);
        call::call_method(debug.as_ptr(), &[logger(), format.as_ptr(), self.raw()], None).map(drop)
    }

    /// `_drain_helper` up to its `await`: the future to wait for, None if there is nothing to wait for.
    #[inline]
    pub(super) fn begin_drain(&self) -> PyResult<Option<Obj>> {
        if self.lost.get() {
            // SAFETY: a static of the interpreter.
            return Err(raise(unsafe { c::PyExc_ConnectionResetError }, "Connection lost"));
        }
        if !self.paused.get() {
            return Ok(None);
        }
        let future = waiters::create_future(&self.event_loop.get_or_none())?;
        self.drains.push(future.clone());
        Ok(Some(future))
    }

    /// The part after it.
    pub(super) fn end_drain(&self, future: &Obj) {
        drop(self.drains.remove(future.as_ptr()));
    }

    fn init(&self, reader: Raw, connected: Option<Raw>, event_loop: Option<Raw>) -> PyResult<()> {
        let given = |value: Option<Raw>| value.filter(|value| !object::is_none(*value)).map(Obj::from_borrowed);
        let event_loop = match given(event_loop) {
            Some(event_loop) => event_loop,
            None => default_loop()?,
        };
        self.event_loop.set(event_loop.clone());
        self.paused.set(false);
        self.lost.set(false);
        self.drains.clear();
        let connected = given(connected);
        if object::is_none(reader) {
            self.reader.clear();
        } else {
            // SAFETY: A1.
            self.reader
                .set(owned(unsafe { c::PyWeakref_NewRef(reader, ptr::null_mut()) })?);
            let stack = call::getattr(reader, call::interned("_source_traceback")?.as_ptr())?;
            self.source_traceback.set_option((!stack.is_none()).then_some(stack));
            if connected.is_some() {
                self.strong_reader.set(Obj::from_borrowed(reader));
            }
        }
        self.rejects.set(false);
        self.over_ssl.set(false);
        for slot in [&self.writer, &self.task, &self.transport] {
            slot.clear();
        }
        self.connected.set_option(connected);
        self.closed.set(waiters::create_future(&event_loop)?);
        Ok(())
    }
}

/// Completes a future that is not done: with None, or with an exception.
fn settle(future: &Obj, exception: Raw) -> PyResult<()> {
    if waiters::is_done(future)? {
        return Ok(());
    }
    if object::is_none(exception) {
        waiters::set_result(future, Obj::none())
    } else {
        waiters::set_exception(future, exception)
    }
}

// ---- _drain_helper -------------------------------------------------------------------------------

#[inline]
fn protocol_of(this: &Operation) -> &StreamReaderProtocol {
    // SAFETY: `create` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<StreamReaderProtocol>() }
}

static DRAIN_HELPER: Behaviour = Behaviour {
    module: "asyncio.streams",
    class: "StreamReaderProtocol",
    name: "_drain_helper",
    parameters: &[c"self"],
    required: 1,
    create: |behaviour, bound| match bound.get(0).and_then(StreamReaderProtocol::of) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    },
    start: |this| {
        let Some(future) = protocol_of(this).begin_drain()? else {
            return Ok(Step::Done(Obj::none()));
        };
        this.third.set(future.clone());
        this.wait_for(future)
    },
    resume: |this, _| {
        leave(this);
        Ok(Step::Done(Obj::none()))
    },
    raised: |this, exception| {
        leave(this);
        Err(crate::ffi::error::restore(exception))
    },
    original: Original::new(),
};

fn leave(this: &Operation) {
    if let Some(future) = this.third.take() {
        protocol_of(this).end_drain(&future);
    }
}

// ---- birth and death -----------------------------------------------------------------------------

unsafe extern "C" fn new(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let plain = PLAIN.are_of(kind.cast())?;
        let made = types::allocate(kind)?;
        // SAFETY: just made.
        unsafe { &*made.as_ptr().cast::<StreamReaderProtocol>() }
            .plain
            .set(plain);
        Ok(made)
    })
}

collected!(StreamReaderProtocol, this =>
    weak this.attached.weaklist;
    this.event_loop,
    this.reader,
    this.strong_reader,
    this.writer,
    this.task,
    this.transport,
    this.connected,
    this.closed,
    this.source_traceback,
    this.drains,
    this.attached.dict,
);

impl Life for StreamReaderProtocol {
    fn has_finaliser(&self) -> bool {
        true
    }

    fn init_with(&self, args: Args<'_>) -> PyResult<()> {
        let names = &[c"stream_reader", c"client_connected_cb", c"loop"];
        match args.bind("StreamReaderProtocol.__init__", names, 3, 1) {
            Ok([Some(reader), connected, event_loop]) => self.init(reader, connected, event_loop),
            Ok(_) => Ok(()),
            Err(Raised) => init_as_stdlib(stdlib_protocol(), self.raw(), args),
        }
    }
}
