//! Threads: giving up the GIL around a wait, thread identity, pending signals.

use super::c;
use super::error::{PyResult, status};
use std::ffi::c_ulong;

/// Runs `wait` without the GIL. It must not touch any Python object: A1 is given up inside.
pub(crate) fn detached<T>(wait: impl FnOnce() -> T) -> T {
    struct Attach(*mut c::PyThreadState);
    impl Drop for Attach {
        fn drop(&mut self) {
            // SAFETY: the state saved by this very thread; also on unwind, so A1 holds again.
            unsafe { c::PyEval_RestoreThread(self.0) };
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
