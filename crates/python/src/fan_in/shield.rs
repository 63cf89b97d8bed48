//! shield: waiting for a future without cancelling it.
//!
//! Invariants
//! - I1: the inner collector's `owner` is the outer future, its `held` the one that clears, if there is one. The outer
//!   collector's `owner` is the inner future, its `held` the inner collector.

use super::child;
use super::collector::{Collector, Kind};
use super::task_group::mentions;
use crate::ffi::error::PyResult;
use crate::ffi::{Args, Native, Obj, Own, Raw, call};
use crate::future::Future;
use crate::state::imports;
use crate::task::cancel::cancel_future;
use crate::waiters;
use std::sync::atomic::{AtomicBool, Ordering};

static INNER: Kind = Kind {
    qualname: "shield.<locals>._inner_done_callback",
    settle: |_, _| true,
    run: |this, inner| inner_done(this, inner),
};

/// From 3.14 on: the inner future is done, and awaited by nobody any more.
static CLEAR: Kind = Kind {
    qualname: "shield.<locals>._clear_awaited_by_callback",
    settle: |_, _| false,
    run: |this, inner| child::discard_awaited_by(inner, this.task.get().as_ref()),
};

static OUTER: Kind = Kind {
    qualname: "shield.<locals>._outer_done_callback",
    // Usually it is done because the inner one is.
    settle: |this, _| !Future::of_final(this.owner_or_none()).is_some_and(Future::is_done),
    run: |this, _| outer_done(this),
};

fn inner_done(this: &Collector, inner: &Obj) -> PyResult<()> {
    let outer = this.owner.get_or_none();
    if waiters::is_cancelled(&outer)? {
        if cfg!(not(Py_3_14)) && !child::is_cancelled(inner)? {
            // Nobody will look at it.
            child::exception(inner)?;
        }
        return Ok(());
    }
    if child::is_cancelled(inner)? {
        return cancel_future(&outer, None).map(drop);
    }
    match child::exception(inner)? {
        Some(exception) => set_exception(&outer, &exception),
        None => waiters::set_result(&outer, child::result(inner)?),
    }
}

fn set_exception(outer: &Obj, exception: &Obj) -> PyResult<()> {
    match Future::of_exact(outer.as_ptr()) {
        Some(native) => native.set_exception(exception.as_ptr()),
        None => {
            let name = call::interned("set_exception")?;
            call::call_method(name.as_ptr(), &[outer.as_ptr(), exception.as_ptr()], None).map(drop)
        }
    }
}

fn outer_done(this: &Collector) -> PyResult<()> {
    let inner = this.owner.get_or_none();
    if child::is_done(&inner)? {
        return Ok(());
    }
    let Some(collector) = this.held.get() else {
        return Ok(());
    };
    // SAFETY: I1.
    let inside = unsafe { Own::<Collector>::from_obj_unchecked(collector) };
    inside.remove_from(&inner)?;
    let Some(clearing) = inside.held.get() else {
        return Ok(());
    };
    // SAFETY: I1.
    let clearing = unsafe { Own::<Collector>::from_obj_unchecked(clearing) };
    clearing.remove_from(&inner)?;
    child::discard_awaited_by(&inner, clearing.task.get().as_ref())
}

/// Some versions of 3.14 tell the exception handler what fails after the outer future was cancelled.
static TELLS: AtomicBool = AtomicBool::new(false);

pub(super) fn look_up() -> PyResult<()> {
    let twin = Obj::from_borrowed(imports::stdlib_shield());
    TELLS.store(mentions(&twin, "_log_on_exception")?, Ordering::Relaxed);
    Ok(())
}

/// `shield(arg)`.
pub(crate) fn shield(args: Args<'_>) -> PyResult<Obj> {
    match args.positional() {
        [given] if !args.has_keywords() && !TELLS.load(Ordering::Relaxed) => shield_one(*given),
        _ => args.forward(imports::stdlib_shield()),
    }
}

fn shield_one(given: Raw) -> PyResult<Obj> {
    let inner = child::ensure_future(given, None)?;
    if child::is_done(&inner)? {
        return Ok(inner);
    }
    let event_loop = child::event_loop(&inner)?;
    let outer = waiters::create_future(&event_loop)?;
    let inside = Collector::create(&INNER)?;
    inside.owner.set(outer.clone());
    if cfg!(Py_3_14)
        && let Some(task) = child::current_task(&event_loop)?
    {
        child::add_awaited_by(&inner, Some(&task))?;
        let clearing = Collector::create(&CLEAR)?;
        clearing.task.set(task);
        clearing.add_to(&inner)?;
        inside.held.set(clearing.into_obj());
    }
    let outside = Collector::create(&OUTER)?;
    outside.owner.set(inner.clone());
    outside.held.set(inside.obj());
    inside.add_to(&inner)?;
    outside.add_to(&outer)?;
    Ok(outer)
}
