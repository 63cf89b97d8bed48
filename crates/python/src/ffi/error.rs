//! Python exceptions as Rust results. `Raised` is the proof that the error indicator is set.

use super::{Obj, Raw, c};
use std::ffi::{CStr, CString};

/// A Python exception is set in the thread state.
#[derive(Debug)]
pub(crate) struct Raised;

pub(crate) type PyResult<T> = Result<T, Raised>;

/// Wraps a new reference, or NULL with an exception set.
#[inline]
pub(crate) fn owned(raw: Raw) -> PyResult<Obj> {
    Obj::from_owned(raw).ok_or(Raised)
}

/// Wraps a C status, negative with an exception set.
#[inline]
pub(crate) fn status(code: std::ffi::c_int) -> PyResult<()> {
    if code < 0 { Err(Raised) } else { Ok(()) }
}

fn cstring(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).expect("no NUL is left")
}

#[cold]
pub(crate) fn raise(kind: Raw, text: &str) -> Raised {
    // SAFETY: A1; `kind` is a live exception class.
    unsafe { c::PyErr_SetString(kind, cstring(text).as_ptr()) };
    Raised
}

macro_rules! raisers {
    ($($name:ident => $exc:ident),* $(,)?) => {$(
        #[cold]
        pub(crate) fn $name(text: &str) -> Raised {
            // SAFETY: a static of the interpreter.
            raise(unsafe { c::$exc }, text)
        }
    )*};
}
raisers! {
    type_error => PyExc_TypeError, value_error => PyExc_ValueError, runtime_error => PyExc_RuntimeError,
    system_error => PyExc_SystemError, attribute_error => PyExc_AttributeError, import_error => PyExc_ImportError, index_error => PyExc_IndexError,
}

/// Raises `kind(arg)`.
#[cold]
pub(crate) fn raise_object(kind: Raw, arg: &Obj) -> Raised {
    // SAFETY: A1.
    unsafe { c::PyErr_SetObject(kind, arg.as_ptr()) };
    Raised
}

/// `OSError` (its right subclass) for an errno.
#[cold]
pub(crate) fn os_error(error: &std::io::Error) -> Raised {
    let code = error.raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: errno is thread-local and PyErr_SetFromErrno reads it at once.
    unsafe { *libc::__errno_location() = code };
    // SAFETY: A1.
    unsafe { c::PyErr_SetFromErrno(c::PyExc_OSError) };
    Raised
}

/// An `OSError` instance that is not raised.
pub(crate) fn os_error_object(error: &std::io::Error) -> Obj {
    let Raised = os_error(error);
    take()
}

#[inline]
pub(crate) fn occurred() -> bool {
    // SAFETY: A1.
    unsafe { !c::PyErr_Occurred().is_null() }
}

/// Takes the raised exception, normalized, its traceback attached.
pub(crate) fn take() -> Obj {
    take_if_any().unwrap_or_else(|| {
        let Raised = system_error("an error was reported without an exception");
        take_if_any().expect("just set")
    })
}

pub(crate) fn take_if_any() -> Option<Obj> {
    #[cfg(Py_3_12)]
    {
        // SAFETY: A1.
        Obj::from_owned(unsafe { c::PyErr_GetRaisedException() })
    }
    #[cfg(not(Py_3_12))]
    {
        let (mut kind, mut value, mut traceback) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: A1; three out-pointers, normalized together as the C API asks.
        unsafe {
            c::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut traceback);
            if kind.is_null() {
                return None;
            }
            c::PyErr_NormalizeException(&raw mut kind, &raw mut value, &raw mut traceback);
            if !traceback.is_null() {
                c::PyException_SetTraceback(value, traceback);
                c::Py_DECREF(traceback);
            }
            c::Py_DECREF(kind);
        }
        Obj::from_owned(value)
    }
}

/// Raises an exception instance again, with the traceback it carries.
pub(crate) fn restore(exception: Obj) -> Raised {
    #[cfg(Py_3_12)]
    // SAFETY: A1; the reference is given away.
    unsafe {
        c::PyErr_SetRaisedException(exception.into_ptr());
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: A1; PyErr_Restore takes over all three references.
    unsafe {
        let value = exception.into_ptr();
        let kind = super::object::type_of(value).cast::<c::PyObject>();
        c::Py_INCREF(kind);
        let traceback = c::PyException_GetTraceback(value);
        c::PyErr_Restore(kind, value, traceback);
    }
    Raised
}

/// Makes `context` what was being handled when `exception` was raised, as the interpreter does for Python code.
#[cold]
pub(crate) fn chain(exception: &Obj, context: &Obj) {
    let mut earlier = Some(context.clone());
    while let Some(link) = earlier {
        if link.is(exception.as_ptr()) {
            return;
        }
        // SAFETY: A1; a new reference or NULL.
        earlier = Obj::from_owned(unsafe { c::PyException_GetContext(link.as_ptr()) });
    }
    // SAFETY: A1; takes over the reference.
    unsafe { c::PyException_SetContext(exception.as_ptr(), context.clone().into_ptr()) };
}

/// The exception that is being handled (`sys.exc_info()`).
#[cold]
pub(crate) fn handled() -> Option<Obj> {
    // SAFETY: A1; a new reference or NULL.
    let raw = unsafe { c::PyErr_GetHandledException() };
    Obj::from_owned(raw).filter(|handled| !handled.is_none())
}

/// Makes `exception` the one that is being handled until the guard is dropped.
#[cold]
pub(crate) fn handle(exception: &Obj) -> Handling {
    // SAFETY: A1; a new reference or NULL.
    let before = Obj::from_owned(unsafe { c::PyErr_GetHandledException() });
    // SAFETY: A1; takes no reference of ours.
    unsafe { c::PyErr_SetHandledException(exception.as_ptr()) };
    Handling(before)
}

pub(crate) struct Handling(Option<Obj>);

impl Drop for Handling {
    fn drop(&mut self) {
        let before = self.0.as_ref().map_or(std::ptr::null_mut(), Obj::as_ptr);
        // SAFETY: A1; NULL means that none is.
        unsafe { c::PyErr_SetHandledException(before) };
    }
}

pub(crate) fn clear() {
    // SAFETY: A1.
    unsafe { c::PyErr_Clear() };
}

/// Does the raised exception match `kind`?
pub(crate) fn matches(kind: Raw) -> bool {
    // SAFETY: A1.
    unsafe { c::PyErr_ExceptionMatches(kind) != 0 }
}

pub(crate) fn is_instance_of(exception: Raw, kind: Raw) -> bool {
    // SAFETY: A1; both live.
    unsafe { c::PyErr_GivenExceptionMatches(exception, kind) != 0 }
}

/// Neither the loop nor a task swallows these: `SystemExit` and `KeyboardInterrupt`.
pub(crate) fn is_exit(exception: Raw) -> bool {
    // SAFETY: statics of the interpreter.
    unsafe { is_instance_of(exception, c::PyExc_SystemExit) || is_instance_of(exception, c::PyExc_KeyboardInterrupt) }
}

/// Reports an exception nobody can receive, as CPython does in finalisers.
pub(crate) fn write_unraisable(context: Raw) {
    // SAFETY: A1; an exception is set.
    unsafe { c::PyErr_WriteUnraisable(context) };
}

/// `warnings.warn(text, category, stacklevel)`.
#[cfg(Py_3_12)]
pub(crate) fn warn(category: Raw, text: &str, stack_level: isize) -> PyResult<()> {
    // SAFETY: A1.
    status(unsafe { c::PyErr_WarnEx(category, cstring(text).as_ptr(), stack_level) })
}

unsafe extern "C" {
    // Not in pyo3-ffi: variadic, documented C API.
    fn PyErr_ResourceWarning(source: Raw, stack_level: isize, format: *const std::ffi::c_char, ...) -> std::ffi::c_int;
}

/// A `ResourceWarning` naming `source`, for finalisers: an error it becomes is reported as unraisable.
pub(crate) fn resource_warning(source: Raw, text: &str) {
    let format: &CStr = c"%s";
    let text = cstring(text);
    // SAFETY: A1; a variadic call with the one string the format names.
    let code = unsafe { PyErr_ResourceWarning(source, 1, format.as_ptr(), text.as_ptr()) };
    if code < 0 {
        write_unraisable(source);
    }
}
