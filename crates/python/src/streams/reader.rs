//! StreamReader: what a connection has brought and nobody has read yet (asyncio.StreamReader). This file: being fed,
//! waking who waits, and pausing the transport; construction and garbage collection.
//!
//! Invariants
//! - I1: `store` is whole from `tp_new` to `tp_dealloc`.
//! - I2: `PLAIN` methods were the class's own when the instance was made if `plain` is set.

mod reads;
mod surface;

pub(super) use surface::{build, keep_methods};

use super::life::{Attached, Life};
use super::store::Store;
use super::{
    LIMIT_LEN_DEFAULT, Methods, assertion, call_method0, default_loop, init_as_stdlib, is_debug, pause_reading,
    resume_reading, stdlib_reader, wakeup_waiter,
};
use crate::ffi::collected::collected;
use crate::ffi::error::{self, PyResult, runtime_error, value_error};
use crate::ffi::trampoline;
use crate::ffi::{Args, Native, Obj, Raised, Raw, Slot, c, call, object, types};
use crate::state::helper;
use crate::transport::buffer::{self, Bytes};
use crate::waiters;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct StreamReader {
    head: c::PyObject,
    /// Written by `tp_new`, dropped by `tp_dealloc`.
    store: Store,
    event_loop: Slot,
    waiter: Slot,
    exception: Slot,
    transport: Slot,
    /// As the user gave it; `limit_len` and `pause_len` say how many bytes that and twice that is.
    limit: Slot,
    source_traceback: Slot,
    attached: Attached,
    limit_len: Cell<i64>,
    pause_len: Cell<i64>,
    /// What a `read(n)` on an empty buffer waits for; 0 if none does.
    wanted: Cell<usize>,
    eof: Cell<bool>,
    paused: Cell<bool>,
    plain: Cell<bool>,
}

static READER: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
static PLAIN: Methods = Methods::new();

// SAFETY: repr(C), header first; every field but the store is valid when zeroed, and `tp_new` makes that whole before
// anyone sees the object.
unsafe impl Native for StreamReader {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        READER.load(Ordering::Relaxed)
    }
}

impl StreamReader {
    /// Does asyncio's code, when it calls the reader's methods, find ours? Then they need not be called.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain.get() && PLAIN.are_not_in(self.attached.dict.ptr())
    }

    /// How many bytes a receive should bring at most, so that they are read without a copy. 0: any.
    #[inline]
    pub(crate) fn wanted_len(&self) -> usize {
        self.wanted.get()
    }

    /// `feed_data(data)`
    #[inline]
    pub(crate) fn feed(&self, data: Bytes) -> PyResult<()> {
        if self.eof.get() {
            return Err(after_eof());
        }
        if data.as_ref().is_empty() {
            return Ok(());
        }
        self.store.push(data)?;
        self.has_been_fed()
    }

    /// The same for any object.
    fn feed_any(&self, data: Raw) -> PyResult<()> {
        if let Some(bytes) = Bytes::of(data) {
            return self.feed(bytes);
        }
        if self.eof.get() {
            return Err(after_eof());
        }
        if !call::is_true(data)? {
            return Ok(());
        }
        // SAFETY: A1.
        if unsafe { c::PyObject_CheckBuffer(data) } != 0 {
            buffer::with_bytes(data, |bytes| self.store.push_copy(bytes))??;
        } else {
            let shown = self.store.show()?;
            call::call_method(call::interned("extend")?.as_ptr(), &[shown.as_ptr(), data], None)?;
        }
        self.has_been_fed()
    }

    #[inline]
    fn has_been_fed(&self) -> PyResult<()> {
        self.wanted.set(0);
        self.wake()?;
        if !self.paused.get() && self.store.len() as i64 > self.pause_len.get() {
            return self.pause();
        }
        Ok(())
    }

    /// `self._wakeup_waiter()`
    #[inline]
    fn wake(&self) -> PyResult<()> {
        if self.is_plain() {
            self.wake_natively()
        } else {
            call::call_method(wakeup_waiter(), &[self.raw()], None).map(drop)
        }
    }

    #[inline]
    fn wake_natively(&self) -> PyResult<()> {
        let Some(waiter) = self.waiter.take() else {
            return Ok(());
        };
        if waiters::is_cancelled(&waiter)? {
            return Ok(());
        }
        waiters::set_result(&waiter, Obj::none())
    }

    #[cold]
    fn pause(&self) -> PyResult<()> {
        let Some(transport) = self.transport.get() else {
            return Ok(());
        };
        match call_method0(&transport, pause_reading()) {
            Ok(_) => {
                self.paused.set(true);
                Ok(())
            }
            // SAFETY: a static of the interpreter.
            Err(Raised) if error::matches(unsafe { c::PyExc_NotImplementedError }) => {
                // It cannot pause: do not ask again.
                error::clear();
                self.transport.clear();
                Ok(())
            }
            Err(raised) => Err(raised),
        }
    }

    /// `_maybe_resume_transport()`
    #[inline]
    fn maybe_resume(&self) -> PyResult<()> {
        if self.paused.get() && self.store.len() as i64 <= self.limit_len.get() {
            return self.resume();
        }
        Ok(())
    }

    #[cold]
    fn resume(&self) -> PyResult<()> {
        self.paused.set(false);
        call_method0(&self.transport.get_or_none(), resume_reading()).map(drop)
    }

    /// `feed_eof()`
    pub(super) fn end(&self) -> PyResult<()> {
        self.eof.set(true);
        self.wake()
    }

    /// `set_exception(exc)`
    pub(super) fn fail(&self, exception: Raw) -> PyResult<()> {
        self.exception
            .set_option((!object::is_none(exception)).then(|| Obj::from_borrowed(exception)));
        let Some(waiter) = self.waiter.take() else {
            return Ok(());
        };
        if waiters::is_cancelled(&waiter)? {
            return Ok(());
        }
        waiters::set_exception(&waiter, exception)
    }

    /// `exception()`, None if there is none.
    #[inline]
    pub(super) fn failure(&self) -> Option<Obj> {
        self.exception.get()
    }

    /// The part of `_wait_for_data` before its `await`: the future to wait for.
    #[inline]
    fn begin_wait(&self, function: &str) -> PyResult<Obj> {
        if self.waiter.is_set() {
            return Err(runtime_error(&format!(
                "{function}() called while another coroutine is already waiting for incoming data"
            )));
        }
        if self.eof.get() {
            return Err(assertion("_wait_for_data after EOF"));
        }
        if self.paused.get() {
            self.resume()?;
        }
        let future = waiters::create_future(&self.event_loop.get_or_none())?;
        self.waiter.set(future.clone());
        Ok(future)
    }

    /// The part after it.
    #[inline]
    fn end_wait(&self) {
        self.wanted.set(0);
        self.waiter.clear();
    }

    fn set_limit(&self, limit: Raw) -> PyResult<()> {
        // SAFETY: A1.
        let (limit_len, pause_len) = if unsafe { c::PyLong_Check(limit) } != 0 {
            let mut overflow = 0;
            // SAFETY: A1; an int.
            let len = unsafe { c::PyLong_AsLongLongAndOverflow(limit, &raw mut overflow) };
            match overflow {
                0 => (len, len.saturating_mul(2)),
                1.. => (i64::MAX, i64::MAX),
                _ => (i64::MIN, i64::MIN),
            }
        } else {
            // Lengths are whole: above one exactly if above its whole part.
            let len = call::as_f64(limit)?;
            (len.floor() as i64, (len * 2.0).floor() as i64)
        };
        self.limit_len.set(limit_len);
        self.pause_len.set(pause_len);
        self.limit.set(Obj::from_borrowed(limit));
        Ok(())
    }

    fn init(&self, limit: Option<Raw>, event_loop: Option<Raw>) -> PyResult<()> {
        match limit {
            Some(limit) => {
                let zero = call::int(0)?;
                // SAFETY: A1.
                match unsafe { c::PyObject_RichCompareBool(limit, zero.as_ptr(), c::Py_LE) } {
                    ..0 => return Err(Raised),
                    0 => self.set_limit(limit)?,
                    _ => return Err(value_error("Limit cannot be <= 0")),
                }
            }
            None => self.set_limit(call::int(LIMIT_LEN_DEFAULT)?.as_ptr())?,
        }
        let event_loop = match event_loop.filter(|value| !object::is_none(*value)) {
            Some(event_loop) => Obj::from_borrowed(event_loop),
            None => default_loop()?,
        };
        self.event_loop.set(event_loop.clone());
        self.eof.set(false);
        self.paused.set(false);
        self.store.clear()?;
        for slot in [&self.waiter, &self.exception, &self.transport] {
            slot.clear();
        }
        if is_debug(&event_loop)? {
            self.source_traceback
                .set(call::call0(helper("extract_stack")?.as_ptr())?);
        }
        Ok(())
    }
}

#[cold]
fn after_eof() -> Raised {
    assertion("feed_data after feed_eof")
}

// ---- birth and death -----------------------------------------------------------------------------

unsafe extern "C" fn new(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let plain = PLAIN.are_of(kind.cast())?;
        let made = types::allocate(kind)?;
        let this = made.as_ptr().cast::<StreamReader>();
        // SAFETY: a fresh zeroed instance that nobody else sees; no Python code has run since.
        unsafe {
            (&raw mut (*this).store).write(Store::new());
            (*this).plain.set(plain);
        }
        // 3.11 makes method calls quick for instances that have a dict, later versions for those that do not yet.
        #[cfg(not(Py_3_12))]
        // SAFETY: as above; the collector may look at it from here on.
        unsafe {
            (*this).attached.dict.set(call::dict()?);
        }
        Ok(made)
    })
}

// Native bytes refer to nothing.
collected!(StreamReader, this =>
    weak this.attached.weaklist;
    this.store.slot(),
    this.event_loop,
    this.waiter,
    this.exception,
    this.transport,
    this.limit,
    this.source_traceback,
    this.attached.dict,
);

impl Life for StreamReader {
    fn has_finaliser(&self) -> bool {
        false
    }

    fn init_with(&self, args: Args<'_>) -> PyResult<()> {
        match args.bind("StreamReader.__init__", &[c"limit", c"loop"], 2, 0) {
            Ok([limit, event_loop]) => self.init(limit, event_loop),
            Err(Raised) => init_as_stdlib(stdlib_reader(), self.raw(), args),
        }
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: as the trait says; I1.
        unsafe { ptr::drop_in_place(&raw mut (*this).store) };
    }
}
