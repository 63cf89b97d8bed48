//! contextvars: a context entered once serves all consecutive entries that share it.

use super::error::{PyResult, owned, status};
use super::{Obj, Raw, c};

/// `contextvars.copy_context()`: 14 ns.
#[inline]
pub(crate) fn copy_current() -> PyResult<Obj> {
    // SAFETY: A1.
    owned(unsafe { c::PyContext_CopyCurrent() })
}

#[inline]
pub(crate) fn enter(context: Raw) -> PyResult<()> {
    // SAFETY: A1; a live context object. Fails when it is entered already.
    status(unsafe { c::PyContext_Enter(context) })
}

#[inline]
pub(crate) fn exit(context: Raw) -> PyResult<()> {
    // The thread state may have the last reference. It gives that back before the context has forgotten the one that
    // was entered before it, and would take a reference of that with it.
    let _kept = Obj::from_borrowed(context);
    // SAFETY: A1.
    status(unsafe { c::PyContext_Exit(context) })
}

pub(crate) fn check(context: Raw) -> bool {
    // SAFETY: A1.
    unsafe { c::PyContext_CheckExact(context) != 0 }
}
