//! The primitives of `asyncio.locks`, native: docs/internals/waiters.md.
//!
//! Each does what the running version's Python code does, step by step and turn by turn; what a subclass overrides of
//! the methods that the Python code calls through `self` is called.

mod lock;

use crate::ffi::error::{PyResult, type_error};
use crate::ffi::{Obj, Raw, c, call, object, trampoline};
use std::ffi::c_int;

/// `<asyncio.locks.Lock object at 0x… [unlocked]>`: what `object.__repr__` says, and the state.
pub(crate) fn repr_with(this: Raw, state: &str) -> PyResult<Obj> {
    // SAFETY: a static type of the interpreter, which has a repr.
    let plain = match unsafe { c::PyBaseObject_Type.tp_repr } {
        // SAFETY: A1; a slot that takes any object.
        Some(repr) => crate::ffi::error::owned(unsafe { repr(this) })?,
        None => return Err(crate::ffi::error::system_error("object has no repr")),
    };
    let plain = call::to_string(plain.as_ptr())?;
    let inner = plain.get(1..plain.len().saturating_sub(1)).unwrap_or_default();
    call::string(&format!("<{inner} [{state}]>"))
}

/// `tp_init` of a class whose `__init__` has no parameters.
pub(crate) unsafe extern "C" fn init_without_arguments(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        let class = object::type_name(slf);
        let given = call::tuple_len(positional);
        if given > 0 {
            return Err(type_error(&format!(
                "{class}.__init__() takes 1 positional argument but {} were given",
                given + 1
            )));
        }
        // SAFETY: A1; a dict or NULL.
        if !keywords.is_null() && unsafe { c::PyDict_Size(keywords) } > 0 {
            let (mut position, mut name) = (0, std::ptr::null_mut());
            // SAFETY: A1; the first of its keys, borrowed.
            unsafe { c::PyDict_Next(keywords, &raw mut position, &raw mut name, std::ptr::null_mut()) };
            return Err(type_error(&format!(
                "{class}.__init__() got an unexpected keyword argument '{}'",
                call::to_string(name)?
            )));
        }
        Ok(())
    })
}

pub(crate) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    lock::build(module, metaclass)
}
