//! FutureIter: what `fut.__await__()` and `iter(fut)` return to Python code.

use super::{Future, Outcome};
use crate::ffi::collected::{self, collected};
use crate::ffi::error::{PyResult, raise_object, restore, type_error};
use crate::ffi::trampoline::{fastcall, noargs, onearg, unary_slot};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, error, object, types};
use crate::state::state;
use std::ptr;

#[repr(C)]
struct FutureIter {
    head: c::PyObject,
    future: Slot,
}

// SAFETY: repr(C), header first, zero is valid.
unsafe impl Native for FutureIter {
    fn type_object() -> *mut c::PyTypeObject {
        state().types.future_iter()
    }
}

pub(super) fn py_await(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    let iter = types::allocate(FutureIter::type_object())?;
    // SAFETY: freshly made of this very type.
    let iter = unsafe { Own::<FutureIter>::from_obj_unchecked(iter) };
    iter.future.set(this.obj());
    Ok(iter.into_obj())
}

fn iter_next(this: &FutureIter) -> PyResult<Option<Obj>> {
    let Some(future) = this.future.get() else {
        return Ok(None);
    };
    let Some(future) = Future::of(future.as_ptr()) else {
        return Ok(None);
    };
    match future.poll()? {
        Outcome::Pending => Ok(Some(future.obj())),
        Outcome::Value(value) => {
            this.future.clear();
            if value.is_none() {
                return Ok(None);
            }
            // Python code may look at its arguments, so it is the ordinary one.
            // SAFETY: a static of the interpreter.
            Err(restore(call::call1(unsafe { c::PyExc_StopIteration }, value.as_ptr())?))
        }
    }
}

fn iter_send(this: &FutureIter, _value: Raw) -> PyResult<Obj> {
    match iter_next(this) {
        Ok(Some(obj)) => Ok(obj),
        // SAFETY: a static of the interpreter.
        Ok(None) => Err(raise_object(unsafe { c::PyExc_StopIteration }, &Obj::none())),
        Err(raised) => Err(raised),
    }
}

fn iter_close(this: &FutureIter) -> PyResult<()> {
    this.future.clear();
    Ok(())
}

fn iter_throw(this: &FutureIter, args: Args<'_>) -> PyResult<Obj> {
    let [kind, value, traceback] = args.bind("throw", &[c"type", c"value", c"traceback"], 3, 1)?;
    let (kind, value) = (
        kind.unwrap_or(ptr::null_mut()),
        value.filter(|value| !object::is_none(*value)),
    );
    let traceback = traceback.filter(|traceback| !object::is_none(*traceback));
    if args.positional().len() > 1 {
        #[cfg(Py_3_12)]
        error::warn(
            // SAFETY: a static of the interpreter.
            unsafe { c::PyExc_DeprecationWarning },
            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.",
            1,
        )?;
    }
    if let Some(traceback) = traceback {
        // SAFETY: A1.
        if unsafe { c::PyTraceBack_Check(traceback) } == 0 {
            return Err(type_error("throw() third argument must be a traceback"));
        }
    }
    // SAFETY: A1.
    let (is_class, is_instance) = unsafe {
        (
            c::PyExceptionClass_Check(kind) != 0,
            c::PyExceptionInstance_Check(kind) != 0,
        )
    };
    this.future.clear();
    let exception = if is_class {
        // SAFETY: A1.
        match value {
            Some(value) if call::isinstance(value, kind)? => Obj::from_borrowed(value),
            Some(value) => call::call1(kind, value)?,
            None => call::call0(kind)?,
        }
    } else if is_instance {
        if value.is_some() {
            return Err(type_error("instance exception may not have a separate value"));
        }
        Obj::from_borrowed(kind)
    } else {
        return Err(type_error(
            "exceptions must be classes deriving BaseException or instances of such a class",
        ));
    };
    if let Some(traceback) = traceback {
        // SAFETY: A1; checked above.
        error::status(unsafe { c::PyException_SetTraceback(exception.as_ptr(), traceback) })?;
    }
    Err(raise_object(object::type_of(exception.as_ptr()).cast(), &exception))
}

fn iter_self(this: &FutureIter) -> PyResult<Obj> {
    Ok(this.obj())
}

collected!(FutureIter, this => this.future);

pub(super) fn build_iter(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.FutureIter",
        c"Iterator over a Future, as `yield from` drives it.",
        size_of::<FutureIter>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![
        onearg!(
            c"send",
            FutureIter,
            iter_send,
            c"send($self, value, /)\n--\n\nResume the iterator."
        ),
        fastcall!(
            c"throw",
            FutureIter,
            iter_throw,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception at the await."
        ),
        noargs!(
            c"close",
            FutureIter,
            iter_close,
            c"close($self, /)\n--\n\nForget the future."
        ),
    ];
    spec.slots = vec![
        unary_slot!(c::Py_tp_iter, FutureIter, iter_self),
        unary_slot!(c::Py_tp_iternext, FutureIter, iter_next),
    ];
    spec.slots.extend(collected::slots::<FutureIter>());
    spec.build(module)
}
