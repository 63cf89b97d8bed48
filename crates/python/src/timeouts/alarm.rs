//! Alarm: what a native loop's timer queue holds for a Timeout, in place of a TimerHandle with a bound method.
//!
//! The queue owns the alarm, the alarm owns its Timeout, and the Timeout knows its alarm without owning it. Alarms are not
//! tracked by the collector: the loop visits what they own.
//!
//! Invariants
//! - I1: while `timeout` is set, the alarm is in a queue of `event_loop`, which is alive as long as it has queues, and the
//!   timeout's `alarm` is this one. Nobody but the queue and, for the length of a call, the stack owns an alarm.
//! - I2: `number` is the alarm's in the timer queue while `queued`; otherwise it is in the ready queue.

use super::Timeout;
use crate::event_loop::EventLoop;
use crate::ffi::error::PyResult;
use crate::ffi::freelist::FreeList;
use crate::ffi::trampoline;
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Own, Raw, Slot, c, call, types};
use crate::handle::Handle;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct Alarm {
    head: c::PyObject,
    timeout: Slot,
    event_loop: Cell<*const EventLoop>,
    number: Cell<u64>,
    queued: Cell<bool>,
}

static ALARM: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
static FREE_ALARMS: FreeList<512> = FreeList::new();

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Alarm {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        ALARM.load(Ordering::Relaxed)
    }
}

impl Alarm {
    /// Sets an alarm for `timeout`, which has none.
    #[inline]
    pub(super) fn set(timeout: &Timeout, event_loop: &EventLoop, when: f64) -> PyResult<()> {
        let obj = match FREE_ALARMS.pop(Alarm::type_object()) {
            Some(obj) => obj,
            None => types::allocate(Alarm::type_object())?,
        };
        // SAFETY: freshly made of this very type.
        let alarm = unsafe { Own::<Alarm>::from_obj_unchecked(obj) };
        alarm.timeout.init(timeout.obj());
        alarm.event_loop.set(event_loop);
        timeout.alarm.set(&raw const *alarm);
        event_loop.schedule_alarm(alarm, when);
        Ok(())
    }

    #[inline]
    pub(crate) fn note_queued(&self, number: u64) {
        self.number.set(number);
        self.queued.set(true);
    }

    /// It goes from the timer queue into the ready queue.
    pub(crate) fn note_due(&self) {
        self.queued.set(false);
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.timeout.is_set()
    }

    /// Takes the timeout out: the alarm does nothing any more.
    #[inline]
    pub(crate) fn take_timeout(&self) -> Option<Own<Timeout>> {
        // SAFETY: only `set` fills the slot.
        let timeout = unsafe { Own::<Timeout>::from_obj_unchecked(self.timeout.take()?) };
        timeout.alarm.set(ptr::null());
        Some(timeout)
    }

    /// Ends it before it goes off; the caller owns it, since the queue may let it go.
    #[inline]
    pub(super) fn cancel(&self) {
        let timeout = self.take_timeout();
        if self.queued.replace(false) {
            // SAFETY: I1, it is in a queue until here.
            unsafe { &*self.event_loop.get() }.drop_alarm(self.number.get());
        }
        drop(timeout);
    }

    /// The handle that asyncio would have; the timeout has that from now on.
    pub(crate) fn to_handle(&self, event_loop: &EventLoop) -> PyResult<Obj> {
        let Some(timeout) = self.take_timeout() else {
            let nothing = Obj::none();
            let context = crate::ffi::context::copy_current()?;
            let handle = Handle::create(event_loop, nothing.as_ptr(), &[], context)?;
            call::call_method(crate::state::names::cancel(), &[handle.raw()], None)?;
            return Ok(handle.into_obj());
        };
        let context = timeout.context_for_callback()?;
        let handle = Handle::create(event_loop, timeout.callback()?.as_ptr(), &[], context)?.into_obj();
        timeout.handler.set(handle.clone());
        Ok(handle)
    }

    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        self.timeout.traverse(visit, arg)
    }
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<Alarm>() };
        drop(this.take_timeout());
        this.queued.set(false);
        if !FREE_ALARMS.push(slf) {
            // SAFETY: fields are dropped.
            unsafe { types::free(slf) };
        }
    });
}

pub(super) fn build(module: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Alarm",
        c"A timeout's place in the timer queue.",
        size_of::<Alarm>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.slots = vec![(c::Py_tp_dealloc, dealloc as *mut c_void)];
    ALARM.store(spec.build(module)?.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
