//! The C API, and the end of a daemon thread in the middle of it.
//!
//! Up to 3.13 CPython ends a daemon thread that wants the GIL back during interpreter shutdown with `pthread_exit`,
//! which unwinds its stack. On Rust frames that would drop what they hold without the GIL, and end in the C library's
//! abort where a panic would be caught. So whatever may run Python code, and thus let another thread run, is declared
//! here once more as a function that unwinds, with a frame around it that stops the unwinding: the thread waits for
//! the process's end, as CPython has it do from 3.14 on. `detached` in `thread.rs` does the same for waits of ours.
//!
//! In a linked module a C function is declared once: a name that pyo3-ffi's own inline functions use, as `Py_DECREF` there
//! uses `_Py_Dealloc`, would be one that does not unwind. So those are written here, too.
//!
//! What only allocates is not among them, although the collector may run finalisers there.

#[cfg(not(Py_3_14))]
use super::thread::HangThread;
pub(crate) use pyo3_ffi::*;
#[cfg(not(Py_3_14))]
use std::ffi::{c_char, c_int};

macro_rules! guarded {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        #[cfg(not(Py_3_14))]
        mod unwinding {
            use pyo3_ffi::{Py_buffer, Py_hash_t, Py_ssize_t, PyObject, PySendResult};
            use std::ffi::{c_char, c_int};

            unsafe extern "C-unwind" {
                $(pub(super) fn $name($($argument: $type),*) $(-> $result)?;)*
            }
        }
        $(
            /// # Safety
            /// As the function of the C API.
            #[cfg(not(Py_3_14))]
            #[allow(non_snake_case, dead_code)] // some versions use fewer
            #[inline(always)]
            pub(crate) unsafe fn $name($($argument: $type),*) $(-> $result)? {
                let hang = HangThread;
                // SAFETY: the caller's.
                let result = unsafe { unwinding::$name($($argument),*) };
                std::mem::forget(hang);
                result
            }
        )*
    };
}

guarded! {
    fn PyObject_CallNoArgs(callable: *mut PyObject) -> *mut PyObject;
    fn PyObject_Call(callable: *mut PyObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject;
    fn PyObject_Vectorcall(
        callable: *mut PyObject, args: *const *mut PyObject, nargsf: usize, kwnames: *mut PyObject
    ) -> *mut PyObject;
    fn PyObject_VectorcallMethod(
        name: *mut PyObject, args: *const *mut PyObject, nargsf: usize, kwnames: *mut PyObject
    ) -> *mut PyObject;
    fn PyIter_Send(iter: *mut PyObject, value: *mut PyObject, result: *mut *mut PyObject) -> PySendResult;
    fn PyObject_GetAttr(object: *mut PyObject, name: *mut PyObject) -> *mut PyObject;
    fn PyObject_SetAttr(object: *mut PyObject, name: *mut PyObject, value: *mut PyObject) -> c_int;
    fn PyObject_IsTrue(object: *mut PyObject) -> c_int;
    fn PyObject_RichCompare(left: *mut PyObject, right: *mut PyObject, operator: c_int) -> *mut PyObject;
    fn PyObject_RichCompareBool(left: *mut PyObject, right: *mut PyObject, operator: c_int) -> c_int;
    fn PyObject_Repr(object: *mut PyObject) -> *mut PyObject;
    fn PyObject_Str(object: *mut PyObject) -> *mut PyObject;
    fn PyObject_Hash(object: *mut PyObject) -> Py_hash_t;
    fn PyObject_IsInstance(object: *mut PyObject, class: *mut PyObject) -> c_int;
    fn PyObject_IsSubclass(class: *mut PyObject, other: *mut PyObject) -> c_int;
    fn PyObject_GetItem(object: *mut PyObject, key: *mut PyObject) -> *mut PyObject;
    fn PyObject_SetItem(object: *mut PyObject, key: *mut PyObject, value: *mut PyObject) -> c_int;
    fn PyObject_Size(object: *mut PyObject) -> Py_ssize_t;
    fn PySequence_Tuple(object: *mut PyObject) -> *mut PyObject;
    fn PySequence_Contains(sequence: *mut PyObject, value: *mut PyObject) -> c_int;
    fn PyMapping_Items(object: *mut PyObject) -> *mut PyObject;
    fn PyNumber_Add(left: *mut PyObject, right: *mut PyObject) -> *mut PyObject;
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut Py_buffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut Py_buffer);
    fn PyImport_ImportModule(name: *const c_char) -> *mut PyObject;
    fn PyErr_CheckSignals() -> c_int;
    fn PyErr_WarnEx(category: *mut PyObject, message: *const c_char, stack_level: Py_ssize_t) -> c_int;
    fn PyErr_WriteUnraisable(object: *mut PyObject);
    fn PyObject_CallFinalizerFromDealloc(object: *mut PyObject) -> c_int;
    fn PyObject_ClearWeakRefs(object: *mut PyObject);
    fn _Py_DecRef(object: *mut PyObject);
    fn _Py_Dealloc(object: *mut PyObject);
}

/// # Safety
/// As the macro of the C API.
#[cfg(not(Py_3_14))]
#[allow(non_snake_case)]
#[inline]
pub(crate) unsafe fn Py_DECREF(object: *mut PyObject) {
    // SAFETY: the caller's. Some builds count in ways of their own.
    unsafe {
        #[cfg(any(py_sys_config = "Py_REF_DEBUG", Py_GIL_DISABLED, target_pointer_width = "32"))]
        _Py_DecRef(object);
        #[cfg(not(any(py_sys_config = "Py_REF_DEBUG", Py_GIL_DISABLED, target_pointer_width = "32")))]
        {
            #[cfg(not(Py_3_12))]
            let count = &mut (*object).ob_refcnt;
            #[cfg(Py_3_12)]
            let count = &mut (*object).ob_refcnt.ob_refcnt;
            #[cfg(Py_3_12)]
            if (*count as i32) < 0 {
                return; // immortal
            }
            *count -= 1;
            if *count == 0 {
                _Py_Dealloc(object);
            }
        }
    }
}

/// # Safety
/// As the macro of the C API.
#[cfg(not(Py_3_14))]
#[allow(non_snake_case)]
#[inline]
pub(crate) unsafe fn Py_XDECREF(object: *mut PyObject) {
    if !object.is_null() {
        // SAFETY: the caller's.
        unsafe { Py_DECREF(object) };
    }
}
