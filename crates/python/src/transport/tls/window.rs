//! `Window`: a Python object that lends memory of ours for the length of one call, so that the engine's methods read from
//! it and write to it without a copy.

use crate::ffi::error::PyResult;
use crate::ffi::{Native, Obj, Own, Raw, c, types};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Invariant W1: the memory is alive while `address` is not null, which it is only inside `Window::lend`.
#[repr(C)]
pub(super) struct Window {
    head: c::PyObject,
    address: Cell<*mut u8>,
    len: Cell<usize>,
    readonly: Cell<bool>,
}

static WINDOW: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Window {
    fn type_object() -> *mut c::PyTypeObject {
        WINDOW.load(Ordering::Relaxed)
    }
}

impl Window {
    /// Calls `look` with an object whose buffer is this memory.
    pub(super) fn lend<T>(
        address: *mut u8,
        len: usize,
        readonly: bool,
        look: impl FnOnce(Raw) -> PyResult<T>,
    ) -> PyResult<T> {
        // SAFETY: just made as one.
        let window: Own<Window> = unsafe { Own::from_obj_unchecked(types::allocate(Window::type_object())?) };
        window.address.set(address);
        window.len.set(len);
        window.readonly.set(readonly);
        let outcome = look(window.raw());
        window.address.set(ptr::null_mut());
        window.len.set(0);
        outcome
    }
}

unsafe extern "C" fn get_buffer(slf: Raw, view: *mut c::Py_buffer, flags: c_int) -> c_int {
    // SAFETY: bf_getbuffer's receiver.
    let this = unsafe { &*slf.cast::<Window>() };
    // SAFETY: A1; W1. The engine's methods give the buffer back before they return.
    unsafe {
        c::PyBuffer_FillInfo(
            view,
            slf,
            this.address.get().cast(),
            this.len.get() as isize,
            c_int::from(this.readonly.get()),
            flags,
        )
    }
}

unsafe extern "C" fn dealloc(slf: Raw) {
    // SAFETY: a dead instance without references.
    unsafe { types::free(slf) };
}

pub(super) fn build(module: Raw) -> PyResult<Obj> {
    let mut spec = types::TypeSpec::new(
        c"asynchrotron._core._Window",
        c"Memory lent for one call.",
        size_of::<Window>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.slots = vec![
        (c::Py_bf_getbuffer, get_buffer as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
    ];
    let made = spec.build(module)?;
    WINDOW.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    Ok(made)
}
