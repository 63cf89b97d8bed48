//! Where CPython calls us: each C entry point catches panics and turns results into C values.
//!
//! A panic must not unwind into C (that aborts); it becomes a `SystemError` carrying the panic's text.

use super::error::{PyResult, system_error};
use super::{Obj, Raised, Raw};
use std::any::Any;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// A C return type with its own sign for "an exception is set".
pub(crate) trait CReturn {
    fn raised() -> Self;
}

impl CReturn for Raw {
    fn raised() -> Raw {
        ptr::null_mut()
    }
}

impl CReturn for c_int {
    fn raised() -> c_int {
        -1
    }
}

impl CReturn for isize {
    fn raised() -> isize {
        -1
    }
}

/// What a Rust body may return where C wants `C`.
pub(crate) trait IntoC<C> {
    fn into_c(self) -> C;
}

impl IntoC<Raw> for Obj {
    #[inline]
    fn into_c(self) -> Raw {
        self.into_ptr()
    }
}

impl IntoC<Raw> for () {
    #[inline]
    fn into_c(self) -> Raw {
        Obj::none().into_ptr()
    }
}

impl IntoC<Raw> for bool {
    #[inline]
    fn into_c(self) -> Raw {
        Obj::bool(self).into_ptr()
    }
}

/// `am_send`/`tp_iternext` style: NULL without an exception.
impl IntoC<Raw> for Option<Obj> {
    #[inline]
    fn into_c(self) -> Raw {
        self.map_or(ptr::null_mut(), Obj::into_ptr)
    }
}

impl IntoC<c_int> for () {
    #[inline]
    fn into_c(self) -> c_int {
        0
    }
}

impl IntoC<c_int> for c_int {
    #[inline]
    fn into_c(self) -> c_int {
        self
    }
}

impl IntoC<isize> for isize {
    #[inline]
    fn into_c(self) -> isize {
        self
    }
}

/// Runs one entry point's body.
#[inline]
pub(crate) fn enter<C: CReturn, R: IntoC<C>>(body: impl FnOnce() -> PyResult<R>) -> C {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value.into_c(),
        Ok(Err(Raised)) => C::raised(),
        Err(panic) => {
            let Raised = panicked(panic);
            C::raised()
        }
    }
}

/// The exception a caught panic becomes.
#[cold]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Raised {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned();
    super::error::clear();
    system_error(&format!("asynchrotron: internal error, please report it: {text}"))
}

/// Runs a body that cannot report anything (deallocators): a panic is written to stderr.
pub(crate) fn enter_void(body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        let Raised = panicked(panic);
        super::error::write_unraisable(ptr::null_mut());
    }
}

/// `METH_NOARGS`: `fn(&T) -> PyResult<R>`.
macro_rules! noargs {
    ($name:literal, $type:ty, $body:path, $doc:literal) => {{
        unsafe extern "C" fn entry(slf: $crate::ffi::Raw, _: $crate::ffi::Raw) -> $crate::ffi::Raw {
            // SAFETY: CPython checks the receiver's type for method descriptors.
            $crate::ffi::trampoline::enter(|| $body(unsafe { &*slf.cast::<$type>() }))
        }
        $crate::ffi::types::Method::noargs($name, entry, $doc)
    }};
}

/// `METH_O`: `fn(&T, Raw) -> PyResult<R>`.
macro_rules! onearg {
    ($name:literal, $type:ty, $body:path, $doc:literal) => {{
        unsafe extern "C" fn entry(slf: $crate::ffi::Raw, arg: $crate::ffi::Raw) -> $crate::ffi::Raw {
            // SAFETY: as in `noargs!`.
            $crate::ffi::trampoline::enter(|| $body(unsafe { &*slf.cast::<$type>() }, arg))
        }
        $crate::ffi::types::Method::onearg($name, entry, $doc)
    }};
}

/// `METH_FASTCALL | METH_KEYWORDS`: `fn(&T, Args) -> PyResult<R>`.
macro_rules! fastcall {
    ($name:literal, $type:ty, $body:path, $doc:literal) => {{
        unsafe extern "C" fn entry(
            slf: $crate::ffi::Raw,
            args: *const $crate::ffi::Raw,
            nargs: isize,
            kwnames: $crate::ffi::Raw,
        ) -> $crate::ffi::Raw {
            $crate::ffi::trampoline::enter(|| {
                // SAFETY: as in `noargs!`; the vectorcall protocol for the arguments.
                $body(unsafe { &*slf.cast::<$type>() }, unsafe {
                    $crate::ffi::Args::new(args, nargs as usize, kwnames)
                })
            })
        }
        $crate::ffi::types::Method::fastcall($name, entry, $doc)
    }};
}

/// A module function, `METH_FASTCALL | METH_KEYWORDS`: `fn(Args) -> PyResult<R>`.
macro_rules! function {
    ($name:literal, $body:path, $doc:literal) => {{
        unsafe extern "C" fn entry(
            _: $crate::ffi::Raw,
            args: *const $crate::ffi::Raw,
            nargs: isize,
            kwnames: $crate::ffi::Raw,
        ) -> $crate::ffi::Raw {
            // SAFETY: the vectorcall protocol.
            $crate::ffi::trampoline::enter(|| $body(unsafe { $crate::ffi::Args::new(args, nargs as usize, kwnames) }))
        }
        $crate::ffi::types::Method::fastcall($name, entry, $doc)
    }};
}

/// A property: `fn(&T) -> PyResult<Obj>`, and optionally `fn(&T, Option<Raw>) -> PyResult<()>`.
macro_rules! property {
    ($name:literal, $type:ty, $get:path) => {{
        unsafe extern "C" fn get(slf: $crate::ffi::Raw, _: *mut std::ffi::c_void) -> $crate::ffi::Raw {
            // SAFETY: as in `noargs!`.
            $crate::ffi::trampoline::enter(|| $get(unsafe { &*slf.cast::<$type>() }))
        }
        $crate::ffi::types::Property::new($name, get, None)
    }};
    ($name:literal, $type:ty, $get:path, $set:path) => {{
        unsafe extern "C" fn get(slf: $crate::ffi::Raw, _: *mut std::ffi::c_void) -> $crate::ffi::Raw {
            // SAFETY: as in `noargs!`.
            $crate::ffi::trampoline::enter(|| $get(unsafe { &*slf.cast::<$type>() }))
        }
        unsafe extern "C" fn set(
            slf: $crate::ffi::Raw,
            value: $crate::ffi::Raw,
            _: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            $crate::ffi::trampoline::enter(|| {
                // SAFETY: as in `noargs!`.
                $set(unsafe { &*slf.cast::<$type>() }, (!value.is_null()).then_some(value))
            })
        }
        $crate::ffi::types::Property::new($name, get, Some(set))
    }};
}

/// A unary slot (`tp_repr`, `am_await`, `tp_iternext`, …): `fn(&T) -> PyResult<R>`.
macro_rules! unary_slot {
    ($slot:expr, $type:ty, $body:path) => {{
        unsafe extern "C" fn entry(slf: $crate::ffi::Raw) -> $crate::ffi::Raw {
            // SAFETY: slots are called with instances of their type.
            $crate::ffi::trampoline::enter(|| $body(unsafe { &*slf.cast::<$type>() }))
        }
        ($slot, entry as *mut std::ffi::c_void)
    }};
}

pub(crate) use {fastcall, function, noargs, onearg, property, unary_slot};
