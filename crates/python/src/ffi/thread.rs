//! Threads: giving up the GIL around a wait, thread identity, pending signals.

use super::c;
use super::error::{PyResult, status};
use std::ffi::c_ulong;

unsafe extern "C-unwind" {
    // As in pyo3-ffi, but said to unwind: up to 3.13 CPython ends a daemon thread that comes back during
    // interpreter shutdown with pthread_exit.
    fn PyEval_RestoreThread(state: *mut c::PyThreadState);
}

/// Stops such an unwinding: the thread waits for the process's end instead, as CPython has it do from 3.14 on.
/// Dropping what lies on its stack would touch Python objects without the GIL.
pub(crate) struct HangThread;

impl Drop for HangThread {
    fn drop(&mut self) {
        hang();
    }
}

/// Waits for the end of the process.
fn hang() -> ! {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Gives the GIL up for good: the interpreter shuts down and this daemon thread has nothing to do any more.
pub(crate) fn park_for_ever() -> ! {
    // SAFETY: A1 holds and is given up.
    unsafe { c::PyEval_SaveThread() };
    hang()
}

/// Runs `wait` without the GIL. It must not touch any Python object: A1 is given up inside.
pub(crate) fn detached<T>(wait: impl FnOnce() -> T) -> T {
    struct Attach(*mut c::PyThreadState);
    impl Drop for Attach {
        fn drop(&mut self) {
            let hang = HangThread;
            // SAFETY: the state saved by this very thread; also on unwind, so A1 holds again.
            unsafe { PyEval_RestoreThread(self.0) };
            std::mem::forget(hang);
        }
    }
    // SAFETY: A1 holds on entry.
    let attach = Attach(unsafe { c::PyEval_SaveThread() });
    let value = wait();
    drop(attach);
    value
}

/// `threading.get_ident()`: CPython's own thread identifier on pthreads.
#[inline]
pub(crate) fn ident() -> c_ulong {
    // SAFETY: no precondition.
    unsafe { libc::pthread_self() as c_ulong }
}

/// Runs Python signal handlers that are due (main thread only).
#[inline]
pub(crate) fn check_signals() -> PyResult<()> {
    // SAFETY: A1.
    status(unsafe { c::PyErr_CheckSignals() })
}

unsafe extern "C" {
    #[cfg_attr(Py_3_13, link_name = "Py_IsFinalizing")]
    #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
    fn is_interpreter_finalizing() -> std::ffi::c_int;
}

/// Is the interpreter shutting down? Then modules may be half gone.
pub(crate) fn is_finalizing() -> bool {
    // SAFETY: no precondition.
    unsafe { is_interpreter_finalizing() != 0 }
}

/// The running task's field in the thread state (3.14 on), at the offset CPython publishes for debuggers.
#[cfg(Py_3_14)]
pub(crate) mod state_field {
    use crate::ffi::{Obj, Raw, c};
    use std::ptr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Zero: unknown.
    static RUNNING_TASK: AtomicUsize = AtomicUsize::new(0);
    /// No thread state of a known version is larger; the fields of interest lie in its first part.
    const LIMIT: usize = 4096;

    fn field(offset: usize) -> *mut Raw {
        // SAFETY: A1: this thread has a thread state.
        unsafe { c::PyThreadState_Get().cast::<u8>().add(offset).cast() }
    }

    pub(crate) fn is_plausible(running_loop: usize, running_task: usize) -> bool {
        let aligned = |offset: usize| offset != 0 && offset % align_of::<Raw>() == 0 && offset < LIMIT;
        aligned(running_loop) && aligned(running_task) && running_task == running_loop + size_of::<Raw>()
    }

    /// Is `expected` what stands at a plausible offset?
    pub(crate) fn holds(offset: usize, expected: &Obj) -> bool {
        // SAFETY: within the thread state: CPython's own section of this very binary names the offset.
        unsafe { *field(offset) == expected.as_ptr() }
    }

    pub(crate) fn is_null(offset: usize) -> bool {
        // SAFETY: as `holds`.
        unsafe { (*field(offset)).is_null() }
    }

    pub(crate) fn use_offset(offset: usize) {
        RUNNING_TASK.store(offset, Ordering::Relaxed);
    }

    /// Is this the thread's running task, as far as the place is known?
    #[inline]
    pub(crate) fn is_running_task(task: Raw) -> bool {
        let offset = RUNNING_TASK.load(Ordering::Relaxed);
        // SAFETY: confirmed by `use_thread_state`.
        offset != 0 && unsafe { *field(offset) } == task
    }

    /// False if the place is not known.
    #[inline]
    pub(crate) fn set_running_task(task: Raw) -> bool {
        let offset = RUNNING_TASK.load(Ordering::Relaxed);
        if offset == 0 {
            return false;
        }
        // SAFETY: confirmed by `use_thread_state`.
        unsafe { put(field(offset), task) };
        true
    }

    /// The same, if the thread's running loop is this one.
    #[inline]
    pub(crate) fn switch_running_task(event_loop: Raw, task: Raw) -> bool {
        let offset = RUNNING_TASK.load(Ordering::Relaxed);
        if offset == 0 {
            return false;
        }
        let place = field(offset);
        // SAFETY: `is_plausible`: the loop's field lies right before the task's; confirmed by `use_thread_state`.
        unsafe {
            if *place.sub(1) != event_loop {
                return false;
            }
            put(place, task);
        }
        true
    }

    /// # Safety
    /// `place` is the running task's in the thread state.
    #[inline]
    unsafe fn put(place: *mut Raw, task: Raw) {
        let new = if task.is_null() {
            ptr::null_mut()
        } else {
            Obj::from_borrowed(task).into_ptr()
        };
        // SAFETY: as the caller's; the field owns a reference, the old one is dropped last.
        let old = unsafe { ptr::replace(place, new) };
        drop(Obj::from_owned(old));
    }
}
