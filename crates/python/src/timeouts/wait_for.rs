//! `asyncio.wait_for`, as it is since 3.12: `async with timeout(…): return await fut`, with the Timeout in the operation.
//!
//! In 3.11 a coroutine becomes a task, and a waiter stands between the future and the caller (`waiter.rs`); the timer is
//! the same. `timeout=None` needs no task there.
//!
//! Invariants
//! - I1: `first` and `second` are the arguments. `third` is the Timeout while `point` is `AWAITS`, the future while it is
//!   `CANCELS`. For the points of `waiter.rs` see there.

use super::{COUNTS_FROM_ENTRY, INSERTS_ERROR, RULES, TAKES_SUBCLASSES, Timeout, running_loop, timeout_error, waiter};
use crate::ffi::error::{self, PyResult, Raised, restore, take};
use crate::ffi::types::add_to_module;
use crate::ffi::{Native, Obj, Own, Raw, c, call, object};
use crate::future::Future;
use crate::operation::{Behaviour, Operation, Original, Step, function, raise_it};
use crate::state::{helper, imports, names};
use crate::task::{Task, registry};
use std::ffi::c_int;
use std::sync::atomic::Ordering;

/// `await fut` under a timeout.
const AWAITS: u8 = 0;
/// `await _cancel_and_wait(fut)`: there was no time to begin with.
const CANCELS: u8 = 1;
/// 3.11's `await fut` without a timeout.
const AWAITS_ONLY: u8 = 2;
/// The points of `waiter.rs`.
pub(super) const WAITS: u8 = 3;
pub(super) const EXPIRED: u8 = 4;
pub(super) const CANCELLED: u8 = 5;

static WAIT_FOR: Behaviour = Behaviour {
    module: "asyncio.tasks",
    class: "",
    name: "wait_for",
    parameters: &[c"fut", c"timeout"],
    required: 2,
    create: Operation::create,
    start,
    resume,
    raised,
    original: Original::new(),
};

#[inline]
fn rules() -> u8 {
    if cfg!(Py_3_12) {
        RULES.load(Ordering::Relaxed)
    } else {
        (COUNTS_FROM_ENTRY | TAKES_SUBCLASSES) & !INSERTS_ERROR
    }
}

/// `timeout <= 0`.
#[inline]
fn is_no_time(timeout: Raw) -> PyResult<bool> {
    if object::type_of(timeout) == &raw mut c::PyFloat_Type {
        return Ok(call::as_f64(timeout)? <= 0.0);
    }
    let zero = call::int(0)?;
    // SAFETY: A1.
    let code: c_int = unsafe { c::PyObject_RichCompareBool(timeout, zero.as_ptr(), c::Py_LE) };
    error::status(code).map(|()| code != 0)
}

fn start(this: &Operation) -> PyResult<Step> {
    let (awaited, timeout) = (this.first.get_or_none(), this.second.get_or_none());
    if cfg!(not(Py_3_12)) {
        drop(running_loop()?);
        if timeout.is_none() {
            this.point.set(AWAITS_ONLY);
            return directly(awaited)?.begin(this);
        }
    }
    if !timeout.is_none() && is_no_time(timeout.as_ptr())? {
        return cancel_at_once(this, &awaited);
    }
    if cfg!(not(Py_3_12)) && registry::current()?.is_none() {
        // Outside a task nobody could be cancelled, but 3.11 makes one.
        this.point.set(AWAITS_ONLY);
        let arguments = [awaited.as_ptr(), timeout.as_ptr()];
        return this.wait_for(call::call(WAIT_FOR.original.get(), &arguments, None)?);
    }
    let entered = Timeout::create_after(timeout.as_ptr())?;
    entered.enter()?;
    this.third.set(entered.into_obj());
    // Once the await has begun, `resume` and `raised` see what comes of it; until then it is for us to leave.
    match prepare(this, awaited) {
        Ok(prepared) => prepared.begin(this),
        Err(Raised) => raised(this, take()),
    }
}

enum Awaited {
    Future(Own<Future>),
    Iterator(Obj),
}

impl Awaited {
    #[inline]
    fn begin(self, this: &Operation) -> PyResult<Step> {
        match self {
            Awaited::Future(future) => this.wait_for_future(future),
            Awaited::Iterator(iterator) => this.wait_for_iterator(iterator),
        }
    }
}

#[inline]
fn prepare(this: &Operation, awaited: Obj) -> PyResult<Awaited> {
    if cfg!(not(Py_3_12)) {
        // Refuses futures of another loop, too.
        let event_loop = running_loop()?;
        let future = registry::ensure_future_of(awaited.as_ptr(), Some(event_loop.as_ptr()))?;
        return directly(waiter::start(this, &event_loop, future)?);
    }
    directly(awaited)
}

#[inline]
fn directly(awaited: Obj) -> PyResult<Awaited> {
    match native_future(&awaited) {
        Some(future) => Ok(Awaited::Future(future)),
        None => iterator_of(awaited).map(Awaited::Iterator),
    }
}

#[inline]
pub(super) fn native_future(awaited: &Obj) -> Option<Own<Future>> {
    let raw = awaited.as_ptr();
    // SAFETY: a Task starts with a Future.
    (Future::check_exact(raw) || Task::check_exact(raw))
        .then(|| unsafe { Own::<Future>::from_obj_unchecked(awaited.clone()) })
}

#[inline]
fn is_coroutine(awaited: &Obj) -> bool {
    object::type_of(awaited.as_ptr()) == &raw mut c::PyCoro_Type || Operation::check_exact(awaited.as_ptr())
}

/// What an `await` would step: coroutines that nobody awaits, directly; anything else through a coroutine in Python, so
/// that the interpreter decides, and words, what can be awaited.
#[inline]
fn iterator_of(awaited: Obj) -> PyResult<Obj> {
    let is_free = match Operation::of_exact(awaited.as_ptr()) {
        Some(operation) => !operation.is_suspended(),
        None if is_coroutine(&awaited) => call::getattr(awaited.as_ptr(), names::cr_await())?.is_none(),
        None => false,
    };
    if is_free {
        return Ok(awaited);
    }
    call::call1(helper("awaiting")?.as_ptr(), awaited.as_ptr())
}

/// `ensure_future(awaited)`; in 3.11 with the running loop, which refuses another loop's futures.
fn future_for(awaited: &Obj) -> PyResult<Obj> {
    if cfg!(Py_3_12) {
        registry::ensure_future_of(awaited.as_ptr(), None)
    } else {
        registry::ensure_future_of(awaited.as_ptr(), Some(running_loop()?.as_ptr()))
    }
}

/// `future.result()`.
#[inline]
pub(super) fn result_of(future: &Obj) -> PyResult<Obj> {
    match native_future(future) {
        Some(native) => native.result(),
        None => call::call_method(names::result(), &[future.as_ptr()], None),
    }
}

pub(super) fn has_ended(future: &Obj) -> PyResult<bool> {
    let done = call::call_method(names::done(), &[future.as_ptr()], None)?;
    call::is_true(done.as_ptr())
}

/// `timeout <= 0`: what is not done already is cancelled, and does not begin.
#[cold]
fn cancel_at_once(this: &Operation, awaited: &Obj) -> PyResult<Step> {
    let future = future_for(awaited)?;
    if has_ended(&future)? {
        return result_of(&future).map(Step::Done);
    }
    this.third.set(future.clone());
    this.point.set(CANCELS);
    await_cancelled(this, &future)
}

/// `await _cancel_and_wait(future)`.
#[cold]
pub(super) fn await_cancelled(this: &Operation, future: &Obj) -> PyResult<Step> {
    let function = call::getattr(imports::tasks_module(), call::interned("_cancel_and_wait")?.as_ptr())?;
    let waiting = if cfg!(Py_3_12) {
        call::call1(function.as_ptr(), future.as_ptr())?
    } else {
        let kwnames = call::tuple(&[call::interned("loop")?.as_ptr()])?;
        let event_loop = running_loop()?;
        call::call(
            function.as_ptr(),
            &[future.as_ptr(), event_loop.as_ptr()],
            Some(&kwnames),
        )?
    };
    this.wait_for(waiting)
}

/// What a cancelled future came to.
pub(super) fn result_or_timeout(future: &Obj) -> PyResult<Step> {
    match result_of(future) {
        Ok(result) => Ok(Step::Done(result)),
        Err(Raised) if error::matches(imports::cancelled_error()) => Err(raise_timeout(take())),
        Err(raised) => Err(raised),
    }
}

fn resume(this: &Operation, value: Obj) -> PyResult<Step> {
    match this.point.get() {
        AWAITS => timeout_of(this).exit(None, None, rules()).map(|_| Step::Done(value)),
        CANCELS => result_or_timeout(&this.third.get_or_none()),
        AWAITS_ONLY => Ok(Step::Done(value)),
        _ => waiter::resume(this),
    }
}

fn raised(this: &Operation, exception: Obj) -> PyResult<Step> {
    match this.point.get() {
        AWAITS => {}
        WAITS => return waiter::raised(this, exception, rules()),
        _ => return raise_it(this, exception),
    }
    let kind: Raw = object::type_of(exception.as_ptr()).cast();
    match timeout_of(this).exit(Some(kind), Some(&exception), rules()) {
        Ok(false) => Err(restore(exception)),
        Ok(true) => Err(raise_timeout(exception)),
        Err(raised) => Err(raised),
    }
}

#[inline]
pub(super) fn timeout_of(this: &Operation) -> &Timeout {
    // SAFETY: I1; the slot keeps it while the operation runs.
    unsafe { &*this.third.ptr().cast::<Timeout>() }
}

/// `raise TimeoutError from cancelled`, where that is being handled.
#[cold]
fn raise_timeout(cancelled: Obj) -> Raised {
    match timeout_error(Some(&cancelled)) {
        Ok(made) => {
            // SAFETY: A1; takes over the reference.
            unsafe { c::PyException_SetContext(made.as_ptr(), cancelled.into_ptr()) };
            restore(made)
        }
        Err(raised) => raised,
    }
}

pub(super) fn build(module: Raw) -> PyResult<()> {
    match function::of_behaviour(&WAIT_FOR)? {
        Some(function) => add_to_module(module, c"wait_for", &function),
        None => Ok(()),
    }
}
