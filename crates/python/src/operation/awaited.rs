//! What an operation awaits that is no native future, and what an await makes of what is thrown at it.

use super::{Operation, Step};
use crate::ffi::error::{PyResult, runtime_error};
use crate::ffi::{Native, Obj, c, call, error, object};
use crate::state::names;

/// `awaitable.__await__()`, or the coroutine itself.
pub(super) fn await_iterator(awaitable: &Obj) -> PyResult<Obj> {
    let kind = object::type_of(awaitable.as_ptr());
    if kind == &raw mut c::PyCoro_Type {
        return Ok(awaitable.clone());
    }
    // SAFETY: A1; a type's table of slots, where it has one.
    let am_await = unsafe { (*kind).tp_as_async.as_ref() }.and_then(|slots| slots.am_await);
    let Some(am_await) = am_await else {
        let name = object::full_type_name(awaitable.as_ptr());
        return Err(error::type_error(&if cfg!(Py_3_14) {
            format!("'{name}' object can't be awaited")
        } else {
            format!("object {name} can't be used in 'await' expression")
        }));
    };
    // SAFETY: A1; a slot called with its own object.
    let iterator = error::owned(unsafe { am_await(awaitable.as_ptr()) })?;
    let got = object::type_of(iterator.as_ptr());
    let is_coroutine = got == &raw mut c::PyCoro_Type || got == Operation::type_object();
    // SAFETY: A1.
    let fits = unsafe { c::PyIter_Check(iterator.as_ptr()) } != 0 && !is_coroutine;
    if fits || kind == Operation::type_object() {
        return Ok(iterator);
    }
    Err(not_to_be_awaited(awaitable, &iterator, is_coroutine))
}

/// `awaitable.__await__()` has returned what it may not.
#[cfg(not(Py_3_15))]
#[cold]
fn not_to_be_awaited(_awaitable: &Obj, returned: &Obj, is_coroutine: bool) -> error::Raised {
    if is_coroutine {
        return error::type_error("__await__() returned a coroutine");
    }
    error::type_error(&format!(
        "__await__() returned non-iterator of type '{}'",
        object::full_type_name(returned.as_ptr())
    ))
}

/// `awaitable.__await__()` has returned what it may not.
#[cfg(Py_3_15)]
#[cold]
fn not_to_be_awaited(awaitable: &Obj, returned: &Obj, is_coroutine: bool) -> error::Raised {
    let name = |object: &Obj| object::qualified_type_name(object.as_ptr());
    let returned = if is_coroutine {
        Ok("coroutine".to_owned())
    } else {
        name(returned)
    };
    match (name(awaitable), returned) {
        (Ok(awaitable), Ok(returned)) => error::type_error(&format!(
            "{awaitable}.__await__() must return an iterator, not {returned}"
        )),
        _ => error::Raised,
    }
}

/// What throwing `exception` at the await of a future comes to. The future's iterator raises it, and so seems to be at
/// its end when that is a `StopIteration`.
#[inline]
pub(super) fn raised_by_future(exception: Obj) -> PyResult<Step> {
    // SAFETY: a static of the interpreter.
    if error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_StopIteration }) {
        return call::getattr(exception.as_ptr(), call::interned("value")?.as_ptr()).map(Step::Done);
    }
    Err(error::restore(exception))
}

/// `iterator.throw(exception)`, as an await hands on what is thrown at it.
pub(super) fn throw_into(iterator: &Obj, exception: Obj) -> PyResult<Step> {
    // SAFETY: a static of the interpreter.
    if error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_GeneratorExit }) {
        let close = call::getattr_optional(iterator.as_ptr(), names::close())?;
        if let Some(close) = close {
            call::call0(close.as_ptr())?;
        }
        return Err(error::restore(exception));
    }
    let Some(throw) = call::getattr_optional(iterator.as_ptr(), names::throw())? else {
        return Err(error::restore(exception));
    };
    match call::call1(throw.as_ptr(), exception.as_ptr()) {
        Ok(yielded) => Ok(Step::Blocked(yielded)),
        // SAFETY: a static of the interpreter.
        Err(error::Raised) if error::matches(unsafe { c::PyExc_StopIteration }) => {
            let stop = error::take();
            call::getattr(stop.as_ptr(), call::interned("value")?.as_ptr()).map(Step::Done)
        }
        Err(raised) => Err(raised),
    }
}

/// PEP 479: what raises `StopIteration` would look like what returns.
#[inline]
pub(super) fn without_stop_iteration(raised: error::Raised, who: &str) -> error::Raised {
    // SAFETY: a static of the interpreter.
    if !error::matches(unsafe { c::PyExc_StopIteration }) {
        return raised;
    }
    let cause = error::take();
    let error::Raised = runtime_error(&format!("{who} raised StopIteration"));
    let exception = error::take();
    // SAFETY: A1; both setters take over a reference.
    unsafe {
        c::PyException_SetCause(exception.as_ptr(), cause.clone().into_ptr());
        c::PyException_SetContext(exception.as_ptr(), cause.into_ptr());
    }
    error::restore(exception)
}
