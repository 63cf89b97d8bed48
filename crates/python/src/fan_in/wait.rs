//! wait: until the first, the first failed, or all of some futures are done.
//!
//! Invariants
//! - I1: once an operation has started, its `first` is a tuple of the futures, its `second` the collector, its `third`
//!   the timer, if there is one.
//! - I2: a collector's `owner` is the future that is waited for, its `held` the timer, its `mode` when to wake.

use super::child;
use super::collector::{Collector, Kind};
use crate::ffi::error::{PyResult, owned, restore, runtime_error, status, type_error, value_error};
use crate::ffi::types::add_to_module;
use crate::ffi::{Native, Obj, Own, Raw, c, call, object};
use crate::future::Future;
use crate::operation::{Behaviour, Bound, KEYWORD_ONLY, Operation, Original, Step, function, show_behind};
use crate::state::{imports, names};
use crate::waiters;
use std::ptr;

const ALL_COMPLETED: u8 = 0;
const FIRST_COMPLETED: u8 = 1;
const FIRST_EXCEPTION: u8 = 2;

// ---- when futures are done -----------------------------------------------------------------------

static WAIT_FOR_ANY: Kind = Kind {
    qualname: "_wait.<locals>._on_completion",
    settle,
    run,
};

#[inline]
fn settle(this: &Collector, child: &Future) -> bool {
    let woken = Future::of_exact(this.owner_or_none()).is_some_and(Future::is_done);
    match this.mode.get() {
        // Also when nobody waits any more: to look for an exception is to retrieve it.
        FIRST_EXCEPTION if child.is_failed() => true,
        FIRST_COMPLETED => !woken,
        _ => !this.count_quietly() && !woken,
    }
}

fn run(this: &Collector, child: &Obj) -> PyResult<()> {
    this.count();
    let wakes = this.finished.get() >= this.expected.get()
        || this.mode.get() == FIRST_COMPLETED
        || (this.mode.get() == FIRST_EXCEPTION && !child::is_cancelled(child)? && child::exception(child)?.is_some());
    if wakes {
        cancel_timer(this.held.get())?;
        let waiter = this.owner.get_or_none();
        if !waiters::is_done(&waiter)? {
            waiters::set_result(&waiter, Obj::none())?;
        }
    }
    child::discard_awaited_by(child, this.task.get().as_ref())
}

pub(super) fn cancel_timer(timer: Option<Obj>) -> PyResult<()> {
    match timer {
        Some(timer) => call::call_method(names::cancel(), &[timer.as_ptr()], None).map(drop),
        None => Ok(()),
    }
}

// ---- the coroutine -------------------------------------------------------------------------------

pub(super) fn is_coroutine(object: Raw) -> PyResult<bool> {
    if Future::of_final(object).is_some() {
        return Ok(false);
    }
    Ok(child::is_plain_coroutine(object) || call::is_true(call::call1(imports::iscoroutine(), object)?.as_ptr())?)
}

fn read_return_when(given: &Obj) -> PyResult<u8> {
    for (name, mode) in [
        ("FIRST_COMPLETED", FIRST_COMPLETED),
        ("FIRST_EXCEPTION", FIRST_EXCEPTION),
        ("ALL_COMPLETED", ALL_COMPLETED),
    ] {
        if call::equal(given.as_ptr(), call::interned(name)?.as_ptr())? {
            return Ok(mode);
        }
    }
    let text = owned(
        // SAFETY: A1.
        unsafe { c::PyObject_Str(given.as_ptr()) },
    )?;
    Err(value_error(&format!(
        "Invalid return_when value: {}",
        call::to_string(text.as_ptr())?
    )))
}

fn start(this: &Operation) -> PyResult<Step> {
    let given = this.first.get_or_none();
    let timeout = this.second.take().filter(|timeout| !timeout.is_none());
    let return_when = this.third.take();
    if child::is_future(given.as_ptr())? || is_coroutine(given.as_ptr())? {
        return Err(type_error(&format!(
            "expect a list of futures, not {}",
            object::type_name(given.as_ptr())
        )));
    }
    if !call::is_true(given.as_ptr())? {
        return Err(value_error("Set of Tasks/Futures is empty."));
    }
    let mode = match return_when {
        Some(return_when) => read_return_when(&return_when)?,
        None => ALL_COMPLETED,
    };
    // SAFETY: A1; each future counts once.
    let set = owned(unsafe { c::PySet_New(given.as_ptr()) })?;
    drop(given);
    // SAFETY: A1.
    let all = owned(unsafe { c::PySequence_Tuple(set.as_ptr()) })?;
    let count = call::tuple_len(all.as_ptr());
    this.first.set(all.clone());
    for index in 0..count {
        if is_coroutine(call::tuple_item(all.as_ptr(), index))? {
            return Err(type_error("Passing coroutines is forbidden, use tasks explicitly."));
        }
    }
    let event_loop = waiters::running_loop()?;
    if event_loop.is_none() {
        return Err(runtime_error("no running event loop"));
    }
    if count == 0 {
        // An iterator is true, and may have nothing to give.
        // SAFETY: a static of the interpreter.
        return Err(crate::ffi::error::raise(
            unsafe { c::PyExc_AssertionError },
            "Set of Futures is empty.",
        ));
    }
    begin(this, &event_loop, &all, timeout, mode)
}

fn begin(this: &Operation, event_loop: &Obj, all: &Obj, timeout: Option<Obj>, mode: u8) -> PyResult<Step> {
    let waiter = waiters::create_future(event_loop)?;
    let collector = Collector::create(&WAIT_FOR_ANY)?;
    collector.owner.set(waiter.clone());
    collector.mode.set(mode);
    let count = call::tuple_len(all.as_ptr());
    collector.expected.set(count);
    if let Some(timeout) = timeout {
        let timer = call::call_method(
            call::interned("call_later")?.as_ptr(),
            &[
                event_loop.as_ptr(),
                timeout.as_ptr(),
                imports::release_waiter(),
                waiter.as_ptr(),
            ],
            None,
        )?;
        collector.held.set(timer.clone());
        this.third.set(timer);
    }
    let task = child::awaiting_task()?;
    collector.task.set_option(task.clone());
    this.second.set(collector.obj());
    for index in 0..count {
        let child = Obj::from_borrowed(call::tuple_item(all.as_ptr(), index));
        collector.add_to(&child)?;
        child::add_awaited_by(&child, task.as_ref())?;
    }
    this.wait_for(waiter)
}

/// Nobody waits any more.
fn clean_up(this: &Operation) -> PyResult<Obj> {
    cancel_timer(this.third.get())?;
    let all = this.first.get_or_none();
    // SAFETY: I1.
    let collector = unsafe { Own::<Collector>::from_obj_unchecked(this.second.get_or_none()) };
    let task = collector.task.get();
    for index in 0..call::tuple_len(all.as_ptr()) {
        let child = Obj::from_borrowed(call::tuple_item(all.as_ptr(), index));
        collector.remove_from(&child)?;
        child::discard_awaited_by(&child, task.as_ref())?;
    }
    Ok(all)
}

fn resume(this: &Operation, _value: Obj) -> PyResult<Step> {
    let all = clean_up(this)?;
    // SAFETY: A1.
    let (done, pending) = unsafe {
        (
            owned(c::PySet_New(ptr::null_mut()))?,
            owned(c::PySet_New(ptr::null_mut()))?,
        )
    };
    for index in 0..call::tuple_len(all.as_ptr()) {
        let child = Obj::from_borrowed(call::tuple_item(all.as_ptr(), index));
        let set = if child::is_done(&child)? { &done } else { &pending };
        // SAFETY: A1; a set.
        status(unsafe { c::PySet_Add(set.as_ptr(), child.as_ptr()) })?;
    }
    call::tuple(&[done.as_ptr(), pending.as_ptr()]).map(Step::Done)
}

fn raised(this: &Operation, exception: Obj) -> PyResult<Step> {
    clean_up(this)?;
    Err(restore(exception))
}

static WAIT: Behaviour = Behaviour {
    module: "asyncio.tasks",
    class: "",
    name: "wait",
    parameters: &[c"fs", KEYWORD_ONLY, c"timeout", c"return_when"],
    required: 1,
    create: |behaviour, bound| Operation::create(behaviour, Bound::new(&[bound.raw(0), bound.raw(2), bound.raw(3)])),
    start,
    resume,
    raised,
    original: Original::new(),
};

/// The coroutine inside that asyncio's awaits.
static INSIDE: Behaviour = Behaviour::only_shown(
    "asyncio.tasks",
    "",
    "_wait",
    &[c"fs", c"timeout", c"return_when", c"loop"],
);

pub(super) fn build(module: Raw) -> PyResult<()> {
    show_behind(&WAIT, &INSIDE)?;
    match function::of_behaviour(&WAIT)? {
        Some(function) => add_to_module(module, c"wait", &function),
        None => Ok(()),
    }
}
