//! What makes an Operation a coroutine to those who look: `send`, `throw`, `close`, the `cr_` attributes, the class it
//! claims, the warning when nobody awaited it. Texts are those of `genobject.c`.

use super::extra::Extra;
use super::{FINALIZED, FREE_OPERATIONS, Kind, Operation, STAND_IN, Stage, Step, stand_in, wrapper};
use crate::ffi::error::{self, PyResult, owned, runtime_error, type_error, value_error};
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::{Method, TypeSpec};
use crate::ffi::{Args, Native, Obj, Raised, Raw, c, call, object, slot, stop_iteration, types};
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;

/// `CO_ITERABLE_COROUTINE`: a generator that `types.coroutine` made a coroutine; it may use `yield from` on one.
const ITERABLE_COROUTINE: i64 = 0x100;

// ---- how the interpreter drives it ---------------------------------------------------------------

/// `await operation`: it is its own iterator.
#[inline]
fn am_await(this: &Operation) -> PyResult<Obj> {
    if this.stage.get() == Stage::Suspended {
        return Err(runtime_error("coroutine is being awaited already"));
    }
    Ok(this.obj())
}

#[allow(clippy::inline_always)] // Counted: else it is a call per await.
#[inline(always)]
pub(super) fn iternext(this: &Operation) -> PyResult<Option<Obj>> {
    match this.advance()? {
        Step::Blocked(yielded) => Ok(Some(yielded)),
        // NULL without an exception means "finished with None".
        Step::Done(value) if value.is_none() => Ok(None),
        Step::Done(value) => Err(stop_iteration::raise(value)),
    }
}

unsafe extern "C" fn am_send(slf: Raw, value: Raw, result: *mut Raw) -> c::PySendResult {
    let mut outcome = c::PySendResult::PYGEN_ERROR;
    let value: Raw = trampoline::enter(|| {
        // SAFETY: a slot's receiver.
        let this = unsafe { &*slf.cast::<Operation>() };
        check_sent(this, value)?;
        Ok(match this.advance()? {
            Step::Blocked(yielded) => {
                outcome = c::PySendResult::PYGEN_NEXT;
                yielded
            }
            Step::Done(value) => {
                outcome = c::PySendResult::PYGEN_RETURN;
                value
            }
        })
    });
    // SAFETY: the caller's out-pointer.
    unsafe { *result = value };
    outcome
}

#[inline]
fn check_sent(this: &Operation, value: Raw) -> PyResult<()> {
    if this.stage.get() == Stage::Created && !object::is_none(value) {
        return Err(type_error("can't send non-None value to a just-started coroutine"));
    }
    Ok(())
}

/// `yield from operation`, only where a coroutine could be: a coroutine is not iterable.
fn iter(this: &Operation) -> PyResult<Obj> {
    // SAFETY: A1; a borrowed frame, or NULL when no Python code runs.
    let frame = unsafe { c::PyEval_GetFrame() };
    if !frame.is_null() {
        // SAFETY: A1; a live frame.
        let code = owned(unsafe { c::PyFrame_GetCode(frame) }.cast())?;
        let flags = call::getattr(code.as_ptr(), call::interned("co_flags")?.as_ptr())?;
        if call::as_i64(flags.as_ptr())? & ITERABLE_COROUTINE != 0 {
            return am_await(this);
        }
    }
    Err(type_error("'coroutine' object is not iterable"))
}

// ---- how programs drive it -----------------------------------------------------------------------

/// A step's end as a method tells it.
fn answer(step: Step) -> PyResult<Obj> {
    match step {
        Step::Blocked(yielded) => Ok(yielded),
        Step::Done(value) => {
            // SAFETY: a static of the interpreter.
            let kind = unsafe { c::PyExc_StopIteration };
            // Made by a call, so that a tuple stays one argument.
            let ended = if value.is_none() {
                call::call0(kind)?
            } else {
                call::call1(kind, value.as_ptr())?
            };
            Err(error::restore(ended))
        }
    }
}

pub(super) fn send(this: &Operation, value: Raw) -> PyResult<Obj> {
    check_sent(this, value)?;
    answer(this.advance()?)
}

pub(super) fn throw(this: &Operation, args: Args<'_>) -> PyResult<Obj> {
    if args.has_keywords() {
        return Err(type_error("coroutine.throw() takes no keyword arguments"));
    }
    let (kind, value, traceback) = match *args.positional() {
        [] => return Err(type_error("throw expected at least 1 argument, got 0")),
        [kind] => (kind, None, None),
        [kind, value] => (kind, Some(value), None),
        [kind, value, traceback] => (kind, Some(value), Some(traceback)),
        ref given => {
            return Err(type_error(&format!(
                "throw expected at most 3 arguments, got {}",
                given.len()
            )));
        }
    };
    #[cfg(Py_3_12)]
    if value.is_some() {
        error::warn(
            // SAFETY: a static of the interpreter.
            unsafe { c::PyExc_DeprecationWarning },
            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.",
            1,
        )?;
    }
    let given = |value: Option<Raw>| value.filter(|value| !object::is_none(*value));
    let at_future = this.stage.get() == Stage::Suspended && this.waiter.is_set();
    let exception = match thrown(kind, given(value), given(traceback), at_future) {
        Ok(exception) => exception,
        // It is the await that refuses, and what it refuses with is raised there.
        Err(Raised) if this.stage.get() == Stage::Suspended => error::take(),
        Err(raised) => return Err(raised),
    };
    answer(this.end_with(exception)?)
}

/// The exception that `throw(kind, value, traceback)` means. What is wrong with it says the coroutine, or the future that
/// it waits for.
fn thrown(kind: Raw, value: Option<Raw>, traceback: Option<Raw>, at_future: bool) -> PyResult<Obj> {
    // SAFETY: A1.
    if traceback.is_some_and(|traceback| unsafe { c::PyTraceBack_Check(traceback) } == 0) {
        return Err(type_error(if at_future {
            "throw() third argument must be a traceback"
        } else {
            "throw() third argument must be a traceback object"
        }));
    }
    // SAFETY: A1.
    let (is_class, is_instance) = unsafe {
        (
            c::PyExceptionClass_Check(kind) != 0,
            c::PyExceptionInstance_Check(kind) != 0,
        )
    };
    let exception = if is_class {
        let new = |raw: Option<Raw>| raw.map_or(ptr::null_mut(), |raw| Obj::from_borrowed(raw).into_ptr());
        // Deprecated since 3.12, but nothing else makes an exception of a class and a value as `raise` does.
        // SAFETY: A1; takes over the references, and normalizes as for any raised exception.
        #[allow(deprecated)]
        unsafe {
            c::PyErr_Restore(new(Some(kind)), new(value), ptr::null_mut());
        };
        error::take()
    } else if is_instance {
        if value.is_some() {
            return Err(type_error("instance exception may not have a separate value"));
        }
        Obj::from_borrowed(kind)
    } else if at_future {
        return Err(type_error(
            "exceptions must be classes deriving BaseException or instances of such a class",
        ));
    } else {
        return Err(type_error(&format!(
            "exceptions must be classes or instances deriving from BaseException, not {}",
            object::type_name(kind)
        )));
    };
    if let Some(traceback) = traceback {
        // SAFETY: A1; checked above.
        error::status(unsafe { c::PyException_SetTraceback(exception.as_ptr(), traceback) })?;
    }
    Ok(exception)
}

pub(super) fn close(this: &Operation) -> PyResult<()> {
    match this.stage.get() {
        Stage::Running => Err(value_error("coroutine already executing")),
        Stage::Closed => Ok(()),
        Stage::Created => {
            this.finish();
            Ok(())
        }
        Stage::Suspended => this.close_suspended(),
    }
}

// ---- what programs look at -----------------------------------------------------------------------

/// For `isinstance(x, types.CoroutineType)`, which is what `inspect` and `asyncio` ask.
fn class(_this: &Operation) -> PyResult<Obj> {
    Ok(Obj::from_borrowed((&raw mut c::PyCoro_Type).cast()))
}

fn of_function(this: &Operation, name: &str) -> PyResult<Obj> {
    call::getattr(this.original(), call::interned(name)?.as_ptr())
}

fn show_name(this: &Operation) -> PyResult<Obj> {
    match this.extra_if_any().and_then(|extra| extra.name.clone()) {
        Some(name) => Ok(name),
        None => of_function(this, "__name__"),
    }
}

fn show_qualname(this: &Operation) -> PyResult<Obj> {
    match this.extra_if_any().and_then(|extra| extra.qualname.clone()) {
        Some(name) => Ok(name),
        None => of_function(this, "__qualname__"),
    }
}

fn set_text(
    this: &Operation,
    attribute: &str,
    value: Option<Raw>,
    place: fn(&mut Extra) -> &mut Option<Obj>,
) -> PyResult<()> {
    // SAFETY: A1.
    match value.filter(|value| unsafe { c::PyUnicode_Check(*value) } != 0) {
        Some(value) => {
            let old = place(this.extra()).replace(Obj::from_borrowed(value));
            drop(old);
            Ok(())
        }
        None => Err(type_error(&format!("{attribute} must be set to a string object"))),
    }
}

fn set_name(this: &Operation, value: Option<Raw>) -> PyResult<()> {
    set_text(this, "__name__", value, |extra| &mut extra.name)
}

fn set_qualname(this: &Operation, value: Option<Raw>) -> PyResult<()> {
    set_text(this, "__qualname__", value, |extra| &mut extra.qualname)
}

fn show_await(this: &Operation) -> PyResult<Obj> {
    stand_in::awaited(this)
}

fn show_code(this: &Operation) -> PyResult<Obj> {
    of_function(this, "__code__")
}

fn show_frame(this: &Operation) -> PyResult<Obj> {
    if this.stage.get() == Stage::Closed && !this.has(STAND_IN) {
        return Ok(Obj::none());
    }
    call::getattr(this.shadow()?.as_ptr(), call::interned("cr_frame")?.as_ptr())
}

fn show_origin(this: &Operation) -> PyResult<Obj> {
    Ok(this
        .extra_if_any()
        .and_then(|extra| extra.origin.clone())
        .unwrap_or_else(Obj::none))
}

fn show_running(this: &Operation) -> PyResult<Obj> {
    Ok(Obj::bool(this.stage.get() == Stage::Running))
}

/// Since 3.15.
fn show_state(this: &Operation) -> PyResult<Obj> {
    call::interned(match this.stage.get() {
        Stage::Created => "CORO_CREATED",
        Stage::Running => "CORO_RUNNING",
        Stage::Suspended => "CORO_SUSPENDED",
        Stage::Closed if this.has(STAND_IN) => "CORO_SUSPENDED",
        Stage::Closed => "CORO_CLOSED",
    })
}

fn show_suspended(this: &Operation) -> PyResult<Obj> {
    Ok(Obj::bool(this.stage.get() == Stage::Suspended))
}

fn repr(this: &Operation) -> PyResult<Obj> {
    let name = show_qualname(this)?;
    call::string(&format!(
        "<coroutine object {} at {:p}>",
        call::to_string(name.as_ptr())?,
        this.raw()
    ))
}

// ---- life and death ------------------------------------------------------------------------------

unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    // SAFETY: tp_traverse's receiver.
    unsafe { &*slf.cast::<Operation>() }.traverse(visit, arg)
}

unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        let this = unsafe { &*slf.cast::<Operation>() };
        if this.stage.get() != Stage::Running {
            this.finish();
        }
        Ok(())
    })
}

/// `_PyErr_WarnUnawaitedCoroutine`.
#[cold]
fn warn_never_awaited(this: &Operation) -> PyResult<()> {
    let warn = call::import_from("warnings", "_warn_unawaited_coroutine")?;
    call::call1(warn.as_ptr(), this.raw()).map(drop)
}

/// What failed in a finaliser, as 3.14 says it.
#[derive(Clone, Copy)]
enum Failed {
    /// Closing it.
    Closing,
    /// The warning that nobody awaited it.
    Warning,
}

#[cfg(not(Py_3_14))]
fn write_unraisable(this: &Operation, _failed: Failed) {
    error::write_unraisable(this.raw());
}

#[cfg(Py_3_14)]
fn write_unraisable(this: &Operation, failed: Failed) {
    unsafe extern "C" {
        // Not in pyo3-ffi: variadic, documented C API.
        fn PyErr_FormatUnraisable(format: *const std::ffi::c_char, ...);
    }
    let format = match failed {
        Failed::Closing => c"Exception ignored while closing generator %R",
        Failed::Warning => c"Exception ignored while finalizing coroutine %R",
    };
    // SAFETY: A1; an exception is set, and the one object is what the format names.
    unsafe { PyErr_FormatUnraisable(format.as_ptr(), this.raw()) };
}

/// A suspended one is closed; one that nobody started says so.
unsafe extern "C" fn finalize(slf: Raw) {
    // SAFETY: tp_finalize's receiver.
    let this = unsafe { &*slf.cast::<Operation>() };
    this.put(FINALIZED, true);
    match this.stage.get() {
        Stage::Running | Stage::Closed => {}
        Stage::Suspended => trampoline::enter_void(|| {
            let interrupted = error::take_if_any();
            if this.close_suspended().is_err() {
                write_unraisable(this, Failed::Closing);
            }
            if let Some(interrupted) = interrupted {
                let Raised = error::restore(interrupted);
            }
        }),
        Stage::Created => trampoline::enter_void(|| {
            let interrupted = error::take_if_any();
            if warn_never_awaited(this).is_err() {
                write_unraisable(this, Failed::Warning);
            }
            if let Some(interrupted) = interrupted {
                let Raised = error::restore(interrupted);
            }
        }),
    }
}

/// Is a Ctrl-C on its way out? The interpreter handles signals between a call of native code and the `await` of what it
/// returned, but never before the first step of a Python coroutine: nobody has forgotten this one.
#[cold]
fn is_interrupted() -> bool {
    // SAFETY: a static of the interpreter.
    error::occurred() && error::matches(unsafe { c::PyExc_KeyboardInterrupt })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<Operation>() };
        let unfinished = match this.stage.get() {
            Stage::Created => !crate::ffi::thread::is_finalizing() && !is_interrupted(),
            Stage::Suspended => this.behaviour().is_some(),
            Stage::Running | Stage::Closed => false,
        };
        if unfinished {
            // The finaliser shows it to Python code, which may keep it: it must be as whole as any object.
            this.track();
            // SAFETY: A1; a negative answer means that it was kept.
            if unsafe { c::PyObject_CallFinalizerFromDealloc(slf) } < 0 {
                return;
            }
        }
        this.untrack();
        // A finalized object keeps a mark that would silence its next life's finaliser.
        let fresh = !this.has(FINALIZED);
        if !this.weaklist.get().is_null() {
            // SAFETY: A1; the type has a weaklist offset.
            unsafe { c::PyObject_ClearWeakRefs(slf) };
        }
        if this.stage.get() != Stage::Closed || this.has(STAND_IN) {
            this.finish();
        }
        if this.extra_if_any().is_some() {
            this.free_extra();
        }
        this.progress.set(0);
        this.since.set(0);
        this.kind.set(Kind::Sleep);
        this.point.set(0);
        this.stage.set(Stage::Created);
        this.flags.set(0);
        if !(fresh && FREE_OPERATIONS.push(slf)) {
            // SAFETY: fields are dropped, and it is untracked.
            unsafe { types::free_uncounted(slf) };
        }
    });
}

/// Lets a method replace the wrapper of the slot with the same name.
fn instead_of_slot(mut method: Method) -> Method {
    method.0.ml_flags |= c::METH_COEXIST;
    method
}

pub(super) fn build_types(module: Raw) -> PyResult<Obj> {
    wrapper::build(module)?;
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.coroutine",
        c"A coroutine whose code is native: what sleep() and the loop's sock_ methods return.",
        size_of::<Operation>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.weaklist_offset = Some(offset_of!(Operation, weaklist));
    spec.methods = vec![
        onearg!(
            c"send",
            Operation,
            send,
            c"send($self, arg, /)\n--\n\nSend 'arg' into the coroutine; return what it yields, or raise StopIteration."
        ),
        fastcall!(
            c"throw",
            Operation,
            throw,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception at the await."
        ),
        noargs!(
            c"close",
            Operation,
            close,
            c"close($self, /)\n--\n\nEnd the coroutine at its await."
        ),
        instead_of_slot(noargs!(
            c"__await__",
            Operation,
            wrapper::py_await,
            c"__await__($self, /)\n--\n\nAn iterator that drives the coroutine."
        )),
    ];
    spec.properties = vec![
        property!(c"__class__", Operation, class),
        property!(c"__name__", Operation, show_name, set_name),
        property!(c"__qualname__", Operation, show_qualname, set_qualname),
        property!(c"cr_await", Operation, show_await),
        property!(c"cr_code", Operation, show_code),
        property!(c"cr_frame", Operation, show_frame),
        property!(c"cr_origin", Operation, show_origin),
        property!(c"cr_running", Operation, show_running),
        property!(c"cr_suspended", Operation, show_suspended),
    ];
    if cfg!(Py_3_15) {
        spec.properties.push(property!(c"cr_state", Operation, show_state));
    }
    spec.slots = vec![
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_finalize, finalize as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        (c::Py_am_send, am_send as *mut c_void),
        unary_slot!(c::Py_tp_repr, Operation, repr),
        unary_slot!(c::Py_am_await, Operation, am_await),
        unary_slot!(c::Py_tp_iter, Operation, iter),
        unary_slot!(c::Py_tp_iternext, Operation, iternext),
    ];
    let made = spec.build(module)?;
    // Error texts name a type without its module only if they are told so: "'coroutine' object is not callable".
    let name = call::string("coroutine")?;
    call::setattr(made.as_ptr(), call::interned("__name__")?.as_ptr(), name.as_ptr())?;
    hide_iteration(&made)?;
    Ok(made)
}

/// The interpreter needs the two slots, but to programs a coroutine is no iterator: `collections.abc` looks at names.
fn hide_iteration(kind: &Obj) -> PyResult<()> {
    let raw = kind.as_ptr().cast::<c::PyTypeObject>();
    for name in [c"__iter__", c"__next__"] {
        // SAFETY: A1; a heap type's own dictionary, before anybody else has seen the type.
        error::status(unsafe { c::PyDict_DelItemString((*raw).tp_dict, name.as_ptr()) })?;
    }
    // SAFETY: A1; as asked for after a change past `type.__setattr__`.
    unsafe { c::PyType_Modified(raw) };
    Ok(())
}
