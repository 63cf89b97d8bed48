//! Which of a loop's methods are ours. A subclass may override them, and a test may put others on the loop itself; native
//! code calls those, as asyncio's does, and does without a call where they are ours.

use super::EventLoop;
use crate::ffi::error::{PyResult, status};
use crate::ffi::{Native, Raised, Raw, c, call, object, trampoline};
use std::ffi::{CStr, c_int};

/// The methods that native code does without calling them, while they are ours.
const SKIPPED: [&CStr; 6] = [
    c"call_soon",
    c"call_soon_threadsafe",
    c"call_later",
    c"call_at",
    c"create_future",
    c"create_task",
];

/// Which of them are ours, in the class and on the loop itself, whose attributes these are?
pub(super) fn look_for_others(this: &EventLoop, attributes: Raw) -> PyResult<()> {
    let kind: Raw = object::type_of(this.raw()).cast();
    let uses_ours = |name| Ok(uses_our(kind, name)? && !has_attribute(attributes, name)?);
    this.plain.set(uses_ours("call_soon")?);
    this.plain_posts
        .set(this.is_plain() && uses_ours("call_soon_threadsafe")?);
    this.plain_tasks.set(this.is_plain() && uses_ours("create_task")?);
    // A clock put on the loop is not asked, see compat.md.
    let plain_timers = uses_ours("call_later")? && uses_ours("call_at")? && uses_our(kind, "time")?;
    this.plain_timers.set(plain_timers && uses_ours("create_future")?);
    this.other_call_at.set(!uses_ours("call_at")?);
    Ok(())
}

fn has_attribute(attributes: Raw, name: &str) -> PyResult<bool> {
    if attributes.is_null() {
        return Ok(false);
    }
    // SAFETY: A1; a dict.
    match unsafe { c::PyDict_Contains(attributes, call::interned(name)?.as_ptr()) } {
        -1 => Err(Raised),
        found => Ok(found == 1),
    }
}

/// A method put on the loop itself, as tests do, or taken off again.
pub(super) unsafe extern "C" fn setattro(slf: Raw, name: Raw, value: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: A1; no value means to delete.
        status(unsafe { c::PyObject_GenericSetAttr(slf, name, value) })?;
        // SAFETY: A1; the name of an attribute that could be set is a string.
        let is_skipped = |skipped: &CStr| unsafe { c::PyUnicode_CompareWithASCIIString(name, skipped.as_ptr()) } == 0;
        if SKIPPED.into_iter().any(is_skipped) {
            let attributes = call::getattr(slf, call::interned("__dict__")?.as_ptr())?;
            // SAFETY: a slot's receiver.
            look_for_others(unsafe { &*slf.cast::<EventLoop>() }, attributes.as_ptr())?;
        }
        Ok(())
    })
}

/// Does the class use our own method of this name?
fn uses_our(kind: Raw, name: &str) -> PyResult<bool> {
    let name = call::interned(name)?;
    let ours = call::getattr(EventLoop::type_object().cast(), name.as_ptr())?;
    Ok(call::getattr(kind, name.as_ptr())?.is(ours.as_ptr()))
}
