//! `concurrent.futures.Future` and ours, tied together: `wrap_future` and `run_coroutine_threadsafe`.
//!
//! The callbacks are Collectors, so that a native future keeps them as one word, and reprs show asyncio's functions.
//! What a `concurrent.futures.Future` of exactly that class came to is read off its attributes: it is done, and does not
//! change any more. It is *set* through its own methods, as other threads may wait in them.
//!
//! Invariants
//! - I1: the owner of `CHECK_CANCEL` is a Job or a `concurrent.futures.Future`; of `CALL_SET_STATE` a `Future` of exactly
//!   that class, of a native loop; of `CANCEL_SOURCE` an asyncio future, its loop in `held`; of `SET_CONCURRENT` a
//!   `concurrent.futures.Future`; the same of `SUBMIT`, whose `held` is the coroutine and `task` the loop.

use super::job::Job;
use crate::event_loop::EventLoop;
use crate::event_loop::ready::Entry;
use crate::fan_in::{Collector, Kind, child};
use crate::ffi::error::{self, PyResult, Raised, type_error};
use crate::ffi::{Args, Native, Obj, Own, Raw, c, call, context, object};
use crate::future::{Future, State, current_event_loop};
use crate::handle::Handle;
use crate::state::{helper, imports, names};
use crate::waiters;
use std::sync::atomic::{AtomicBool, Ordering};

/// Does a source that completes in the loop's own thread pass its state on at once?
static COPIES_AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Once the helpers are there.
pub(crate) fn look_up() -> PyResult<()> {
    // Before that, the check was whether the source belongs to the same loop.
    let chain = call::import_from("asyncio.futures", "_chain_future")?;
    let inner = call::call1(helper("nested_names")?.as_ptr(), chain.as_ptr())?;
    let name = call::interned("_get_running_loop")?;
    // SAFETY: A1; a set.
    let found = unsafe { c::PySequence_Contains(inner.as_ptr(), name.as_ptr()) };
    error::status(found)?;
    COPIES_AT_ONCE.store(found != 0, Ordering::Relaxed);
    Ok(())
}

/// The asyncio future was cancelled: so is the work.
pub(super) static CHECK_CANCEL: Kind = Kind {
    qualname: "_chain_future.<locals>._call_check_cancel",
    settle: |_, future| future.state() == State::Cancelled,
    run: |this, future| check_cancel(this, future),
};

/// The `concurrent.futures.Future` is done; in any thread.
static CALL_SET_STATE: Kind = Kind {
    qualname: "_chain_future.<locals>._call_set_state",
    settle: |_, _| true,
    run: |this, source| call_set_state(this, source),
};

/// What the exception handler is told about.
static SET_STATE: Kind = Kind {
    qualname: "_chain_future.<locals>._set_state",
    settle: |_, _| true,
    run: |_, _| Ok(()),
};

/// The `concurrent.futures.Future` of a coroutine was cancelled; in any thread.
static CANCEL_SOURCE: Kind = Kind {
    qualname: "_chain_future.<locals>._call_check_cancel",
    settle: |_, _| true,
    run: |this, destination| cancel_source(this, destination),
};

/// The task of `run_coroutine_threadsafe` is done.
static SET_CONCURRENT: Kind = Kind {
    qualname: "_chain_future.<locals>._call_set_state",
    settle: |_, _| true,
    run: |this, source| set_concurrent(&this.owner.get_or_none(), source),
};

/// In the loop's thread: makes the task.
static SUBMIT: Kind = Kind {
    qualname: "run_coroutine_threadsafe.<locals>.callback",
    settle: |_, _| true,
    run: |this, _| start_submitted(this),
};

pub(super) fn set_state_function(future: &Future) -> PyResult<Obj> {
    let told = Collector::create(&SET_STATE)?;
    told.owner.set(future.obj());
    Ok(told.into_obj())
}

/// Is it a `concurrent.futures.Future` of exactly that class?
#[inline]
fn is_plain(future: Raw) -> bool {
    object::type_of(future).cast::<c::PyObject>() == imports::concurrent_future()
}

fn method(name: &str, arguments: &[Raw]) -> PyResult<Obj> {
    call::call_method(call::interned(name)?.as_ptr(), arguments, None)
}

/// `futures._convert_future_exc`: the one module's exceptions as the other's.
pub(super) fn convert(exception: &Obj) -> PyResult<Obj> {
    call::call1(imports::convert_future_exc(), exception.as_ptr())
}

// ---- from concurrent.futures to asyncio ------------------------------------------------------------

/// `wrap_future(future, *, loop=None)`.
pub(crate) fn wrap_future(args: Args<'_>) -> PyResult<Obj> {
    let [future, event_loop] = args.bind("wrap_future", &[c"future", c"loop"], 1, 1)?;
    let future = Obj::from_borrowed(future.unwrap_or_else(|| unreachable!("bind has seen it")));
    if !is_plain(future.as_ptr()) {
        return args.forward(imports::stdlib_wrap_future());
    }
    let event_loop = match event_loop.filter(|given| !object::is_none(*given)) {
        Some(given) => Obj::from_borrowed(given),
        None => current_event_loop()?,
    };
    wrap(&future, &event_loop)
}

/// `wrap_future(future, loop=event_loop)`.
pub(super) fn wrap(future: &Obj, event_loop: &Obj) -> PyResult<Obj> {
    if is_plain(future.as_ptr()) && EventLoop::of(event_loop.as_ptr()).is_some_and(EventLoop::has_plain_posts) {
        let made = waiters::create_future(event_loop)?;
        if let Some(own) = Future::of_exact(made.as_ptr()).filter(|own| own.native_loop().is_some()) {
            chain(future, own)?;
            return Ok(made);
        }
        return call::call(
            call::import_from("asyncio.futures", "_chain_future")?.as_ptr(),
            &[future.as_ptr(), made.as_ptr()],
            None,
        )
        .map(|_| made);
    }
    let kwnames = call::tuple(&[call::interned("loop")?.as_ptr()])?;
    let arguments = [future.as_ptr(), event_loop.as_ptr()];
    call::call(imports::stdlib_wrap_future(), &arguments, Some(&kwnames))
}

/// `_chain_future(source, destination)` with a `concurrent.futures.Future` as the source.
fn chain(source: &Obj, destination: &Future) -> PyResult<()> {
    let checking = Collector::create(&CHECK_CANCEL)?;
    checking.owner.set(source.clone());
    destination.add_collector(&checking);
    let setting = Collector::create(&CALL_SET_STATE)?;
    setting.owner.set(destination.obj());
    call::call_method(names::add_done_callback(), &[source.as_ptr(), setting.raw()], None).map(drop)
}

fn check_cancel(this: &Collector, future: &Obj) -> PyResult<()> {
    if !child::is_cancelled(future)? {
        return Ok(());
    }
    let source = this.owner.get_or_none();
    if let Some(job) = Job::of_exact(source.as_ptr()) {
        job.forget();
        return Ok(());
    }
    call::call_method(names::cancel(), &[source.as_ptr()], None).map(drop)
}

fn call_set_state(this: &Collector, source: &Obj) -> PyResult<()> {
    let destination = this.owner.get_or_none();
    let Some(future) = Future::of_exact(destination.as_ptr()) else {
        return Ok(());
    };
    let Some(event_loop) = future.native_loop().map(Native::own) else {
        return Ok(());
    };
    let is_here = EventLoop::running().is_some_and(|running| running.raw() == event_loop.raw());
    if is_here && COPIES_AT_ONCE.load(Ordering::Relaxed) {
        return if takes_state(future)? {
            copy_state(source, future)
        } else {
            Ok(())
        };
    }
    if event_loop.is_closed() {
        return Ok(());
    }
    Job::post_foreign(&event_loop, future, source)
}

/// The beginning of `_copy_future_state`: a cancelled future takes nothing, and any other must be pending.
pub(super) fn takes_state(future: &Future) -> PyResult<bool> {
    match future.state() {
        State::Pending => Ok(true),
        State::Cancelled => Ok(false),
        State::Finished => Err(error::raise_object(
            // SAFETY: a static of the interpreter.
            unsafe { c::PyExc_AssertionError },
            &call::tuple(&[])?,
        )),
    }
}

/// `_copy_future_state` from a `concurrent.futures.Future` to a future that is pending.
pub(super) fn copy_state(source: &Obj, future: &Future) -> PyResult<()> {
    let read = |name: &str| call::getattr(source.as_ptr(), call::interned(name)?.as_ptr());
    if call::to_string(read("_state")?.as_ptr())?.starts_with("CANCELLED") {
        return future.cancel(None).map(drop);
    }
    let exception = read("_exception")?;
    if exception.is_none() {
        return future.set_result(read("_result")?);
    }
    future.set_exception(convert(&exception)?.as_ptr())
}

// ---- from asyncio to concurrent.futures ------------------------------------------------------------

/// `run_coroutine_threadsafe(coro, loop)`.
pub(crate) fn run_coroutine_threadsafe(args: Args<'_>) -> PyResult<Obj> {
    let [coroutine, event_loop] = args.bind("run_coroutine_threadsafe", &[c"coro", c"loop"], 2, 2)?;
    let (Some(coroutine), Some(given)) = (coroutine, event_loop) else {
        unreachable!("bind has seen them");
    };
    let Some(event_loop) = EventLoop::of(given).filter(|event_loop| event_loop.has_plain_posts()) else {
        return args.forward(imports::stdlib_run_coroutine_threadsafe());
    };
    if !child::is_plain_coroutine(coroutine)
        && !call::is_true(call::call1(imports::iscoroutine(), coroutine)?.as_ptr())?
    {
        return Err(type_error("A coroutine object is required"));
    }
    event_loop.check_open()?;
    let future = call::call0(imports::concurrent_future())?;
    let starting = Collector::create(&SUBMIT)?;
    starting.may_be_called_alone();
    starting.owner.set(future.clone());
    starting.held.set(Obj::from_borrowed(coroutine));
    starting.task.set(event_loop.obj());
    let handle = Handle::create(event_loop, starting.raw(), &[], context::copy_current()?)?;
    if event_loop.post(Entry::handle(handle)).is_err() {
        event_loop.check_open()?;
    }
    Ok(future)
}

fn start_submitted(this: &Collector) -> PyResult<()> {
    let future = this.owner.get_or_none();
    let (Some(coroutine), Some(event_loop)) = (this.held.take(), this.task.take()) else {
        return Ok(());
    };
    let started = child::ensure_future(coroutine.as_ptr(), Some(&event_loop))
        .and_then(|source| chain_to_concurrent(&source, &future));
    let Err(Raised) = started else { return Ok(()) };
    let exception = error::take();
    if !error::is_exit(exception.as_ptr())
        && call::is_true(method("set_running_or_notify_cancel", &[future.as_ptr()])?.as_ptr())?
    {
        method("set_exception", &[future.as_ptr(), exception.as_ptr()])?;
    }
    Err(error::restore(exception))
}

/// `_chain_future(source, destination)` with a `concurrent.futures.Future` as the destination.
fn chain_to_concurrent(source: &Obj, destination: &Obj) -> PyResult<()> {
    let cancelling = Collector::create(&CANCEL_SOURCE)?;
    cancelling.owner.set(source.clone());
    cancelling.held.set(child::event_loop(source)?);
    call::call_method(
        names::add_done_callback(),
        &[destination.as_ptr(), cancelling.raw()],
        None,
    )?;
    let setting = Collector::create(&SET_CONCURRENT)?;
    setting.owner.set(destination.clone());
    setting.add_to(source)
}

fn cancel_source(this: &Collector, destination: &Obj) -> PyResult<()> {
    if !call::is_true(method("cancelled", &[destination.as_ptr()])?.as_ptr())? {
        return Ok(());
    }
    let (source, event_loop) = (this.owner.get_or_none(), this.held.get_or_none());
    let is_here = EventLoop::running().is_some_and(|running| running.raw() == event_loop.as_ptr());
    if is_here && COPIES_AT_ONCE.load(Ordering::Relaxed) {
        return call::call_method(names::cancel(), &[source.as_ptr()], None).map(drop);
    }
    let cancel = call::getattr(source.as_ptr(), names::cancel())?;
    method("call_soon_threadsafe", &[event_loop.as_ptr(), cancel.as_ptr()]).map(drop)
}

/// `_set_concurrent_future_state`.
fn set_concurrent(destination: &Obj, source: &Obj) -> PyResult<()> {
    if child::is_cancelled(source)? {
        call::call_method(names::cancel(), &[destination.as_ptr()], None)?;
    }
    if !call::is_true(method("set_running_or_notify_cancel", &[destination.as_ptr()])?.as_ptr())? {
        return Ok(());
    }
    match child::exception(source)? {
        Some(exception) => method("set_exception", &[destination.as_ptr(), convert(&exception)?.as_ptr()]),
        None => method("set_result", &[destination.as_ptr(), child::result(source)?.as_ptr()]),
    }
    .map(drop)
}

/// A job's future, with the callback that takes a cancellation to the job.
pub(super) fn watch(future: &Own<Future>, job: &Own<Job>) -> PyResult<()> {
    let checking = Collector::create(&CHECK_CANCEL)?;
    checking.owner.set(job.obj());
    future.add_collector(&checking);
    Ok(())
}
