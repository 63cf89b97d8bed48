//! The ready queue and its one-word entries.
//!
//! An entry owns what it names. The tag lies in the three low bits, which object addresses leave free.
//! The queue is only touched attached (A1) and no Python code runs while it is borrowed; a free-threaded
//! build gives it to the loop's thread alone, other threads already use the inbox.

use crate::ffi::{Native, Obj, Own};
use crate::future::Future;
use crate::handle::Handle;
use crate::offload::Job;
use crate::task::Task;
use crate::timeouts::Alarm;
use std::cell::UnsafeCell;
use std::collections::VecDeque;

const HANDLE: u64 = 0;
const TASK: u64 = 1;
const FUTURE: u64 = 2;
const READINESS: u64 = 3;
const ALARM: u64 = 4;
const JOB: u64 = 5;
const TAGS: u64 = 7;

/// What an entry asks the loop to do.
pub(crate) enum Work {
    /// Call it.
    Handle(Own<Handle>),
    /// Step it.
    Task(Own<Task>),
    /// A sleep is over, or a wait: set its result.
    Future(Own<Future>),
    /// A timeout's time is up.
    Alarm(Own<Alarm>),
    /// What another thread did is done: complete the future.
    Job(Own<Job>),
    /// A descriptor is ready, if the registration is still the one meant.
    Readiness { fd: i32, generation: u32, bits: u8 },
}

pub(crate) struct Entry(u64);

// SAFETY: an entry is an owned reference or plain data; references are only used attached (A1).
unsafe impl Send for Entry {}

impl Entry {
    #[inline]
    pub(crate) fn handle(handle: Own<Handle>) -> Entry {
        Entry(handle.into_obj().into_ptr() as u64 | HANDLE)
    }

    #[inline]
    pub(crate) fn task(task: Own<Task>) -> Entry {
        Entry(task.into_obj().into_ptr() as u64 | TASK)
    }

    #[inline]
    pub(crate) fn future(future: Own<Future>) -> Entry {
        Entry(future.into_obj().into_ptr() as u64 | FUTURE)
    }

    #[inline]
    pub(crate) fn alarm(alarm: Own<Alarm>) -> Entry {
        Entry(alarm.into_obj().into_ptr() as u64 | ALARM)
    }

    #[inline]
    pub(crate) fn job(job: Own<Job>) -> Entry {
        Entry(job.into_obj().into_ptr() as u64 | JOB)
    }

    /// Descriptors have 24 bits: the kernel's own limit is 2^20 by default.
    #[inline]
    pub(crate) fn readiness(fd: i32, generation: u32, bits: u8) -> Entry {
        Entry(u64::from(generation) << 32 | (fd as u64 & 0xff_ffff) << 8 | u64::from(bits) << 4 | READINESS)
    }

    #[inline]
    pub(crate) fn into_work(self) -> Work {
        let word = self.0;
        std::mem::forget(self);
        let object = || {
            // SAFETY: object entries were made from a live reference, which moves out here.
            unsafe { Obj::from_owned((word & !TAGS) as *mut _).unwrap_unchecked() }
        };
        // SAFETY: the tag tells the type the entry was made from.
        unsafe {
            match word & TAGS {
                TASK => Work::Task(Own::from_obj_unchecked(object())),
                HANDLE => Work::Handle(Own::from_obj_unchecked(object())),
                FUTURE => Work::Future(Own::from_obj_unchecked(object())),
                ALARM => Work::Alarm(Own::from_obj_unchecked(object())),
                JOB => Work::Job(Own::from_obj_unchecked(object())),
                _ => Work::Readiness {
                    fd: (word >> 8 & 0xff_ffff) as i32,
                    generation: (word >> 32) as u32,
                    bits: (word >> 4 & 3) as u8,
                },
            }
        }
    }

    /// The object it owns, if any; borrowed.
    pub(crate) fn object(&self) -> Option<crate::ffi::Raw> {
        (self.0 & TAGS != READINESS).then_some((self.0 & !TAGS) as *mut _)
    }

    /// The handle it owns, if it is one.
    pub(crate) fn as_handle(&self) -> Option<&Handle> {
        // SAFETY: the tag tells the type; the entry keeps it alive.
        (self.0 & TAGS == HANDLE).then(|| unsafe { &*(self.0 as *const Handle) })
    }

    /// The future it owns, if it is one.
    pub(crate) fn as_future(&self) -> Option<&Future> {
        // SAFETY: the tag tells the type; the entry keeps it alive.
        (self.0 & TAGS == FUTURE).then(|| unsafe { &*((self.0 & !TAGS) as *const Future) })
    }

    /// The alarm it owns, if it is one.
    pub(crate) fn as_alarm(&self) -> Option<&Alarm> {
        // SAFETY: the tag tells the type; the entry keeps it alive.
        (self.0 & TAGS == ALARM).then(|| unsafe { &*((self.0 & !TAGS) as *const Alarm) })
    }

    /// Cancelled before it came due?
    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        match self.0 & TAGS {
            HANDLE => self.as_handle().is_some_and(Handle::is_cancelled),
            FUTURE => self.as_future().is_some_and(Future::is_settled),
            ALARM => self.as_alarm().is_some_and(|alarm| !alarm.is_set()),
            _ => false,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(raw) = self.object() {
            drop(Obj::from_owned(raw));
        }
    }
}

/// First in, first out.
pub(crate) struct ReadyQueue(UnsafeCell<VecDeque<Entry>>);

impl ReadyQueue {
    pub(crate) fn new() -> ReadyQueue {
        ReadyQueue(UnsafeCell::new(VecDeque::with_capacity(64)))
    }

    #[inline]
    pub(crate) fn push(&self, entry: Entry) {
        // SAFETY: A1; pushing runs no Python code.
        unsafe { (*self.0.get()).push_back(entry) };
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Entry> {
        // SAFETY: as `push`; the entry is moved out.
        unsafe { (*self.0.get()).pop_front() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: as `push`.
        unsafe { (*self.0.get()).len() }
    }

    pub(crate) fn take_all(&self) -> VecDeque<Entry> {
        // SAFETY: as `push`.
        unsafe { std::mem::take(&mut *self.0.get()) }
    }

    /// Looks at each entry; `look` must not run Python code.
    pub(crate) fn for_each(&self, look: impl FnMut(&Entry)) {
        // SAFETY: as `push`.
        unsafe { (*self.0.get()).iter() }.for_each(look);
    }
}

/// Whether the loop is the only owner of `object`.
#[inline]
pub(crate) fn is_unique<T: Native>(object: &T) -> bool {
    is_unique_object(object.raw())
}

/// Whether there is only one reference to it.
#[inline]
pub(crate) fn is_unique_object(object: crate::ffi::Raw) -> bool {
    // SAFETY: A1; a live object.
    unsafe { pyo3_ffi::Py_REFCNT(object) == 1 }
}
