//! sleep: `asyncio.sleep` of the running version.
//!
//! On a native loop the timer queue holds the future itself, no handle. Everywhere else, and for delays that are not
//! plain numbers, it does what the stdlib's coroutine does: `loop.create_future()` and `loop.call_later()`.

use super::function::table;
use super::{Kind, NATIVE, Operation, Stage, Step};
use crate::event_loop::EventLoop;
use crate::ffi::error::{PyResult, value_error};
use crate::ffi::{Native, Obj, Raised, Raw, c, call, error, object};
use crate::future::{Future, State};
use crate::state::{imports, names};
use std::ptr;

/// Before 3.13 a sleep for NaN seconds was over at once.
const REFUSES_NAN: bool = cfg!(Py_3_13);

/// A float or an int, no subclass: compares and adds as the machine does.
#[inline]
pub(super) fn is_plain_number(delay: Raw) -> bool {
    let kind = object::type_of(delay);
    kind == &raw mut c::PyFloat_Type || kind == &raw mut c::PyLong_Type
}

/// How long to sleep.
enum Delay {
    /// Not positive: one turn.
    Turn,
    Seconds(f64),
    /// Something that only Python's own operators can tell.
    Other,
}

#[inline]
fn read(delay: Raw) -> PyResult<Delay> {
    if delay == table().zero.as_ptr() {
        return Ok(Delay::Turn);
    }
    let kind = object::type_of(delay);
    if kind == &raw mut c::PyFloat_Type {
        let seconds = call::as_f64(delay)?;
        if seconds.is_nan() {
            refuse_nan()?;
        }
        return Ok(if seconds <= 0.0 {
            Delay::Turn
        } else {
            Delay::Seconds(seconds)
        });
    }
    if kind == &raw mut c::PyLong_Type {
        let mut overflow = 0;
        // SAFETY: A1; an int.
        let seconds = unsafe { c::PyLong_AsLongAndOverflow(delay, &raw mut overflow) };
        return if overflow < 0 || (overflow == 0 && seconds <= 0) {
            Ok(Delay::Turn)
        } else if overflow == 0 {
            Ok(Delay::Seconds(seconds as f64))
        } else {
            call::as_f64(delay).map(Delay::Seconds)
        };
    }
    read_other(delay)
}

#[cold]
fn read_other(delay: Raw) -> PyResult<Delay> {
    let zero = call::int(0)?;
    // SAFETY: A1.
    match unsafe { c::PyObject_RichCompareBool(delay, zero.as_ptr(), c::Py_LE) } {
        code if code < 0 => return Err(Raised),
        0 => {}
        _ => return Ok(Delay::Turn),
    }
    if REFUSES_NAN {
        let is_nan = call::call1(call::import_from("math", "isnan")?.as_ptr(), delay)?;
        if call::is_true(is_nan.as_ptr())? {
            refuse_nan()?;
        }
    }
    Ok(Delay::Other)
}

#[cold]
fn refuse_nan() -> PyResult<()> {
    if REFUSES_NAN {
        Err(value_error("Invalid delay: NaN (not a number)"))
    } else {
        Ok(())
    }
}

/// All that happens in a `sleep(0)`: its one bare yield, and its end. None if it is anything else.
#[inline]
pub(super) fn turn(this: &Operation) -> Option<Step> {
    if this.kind.get() != Kind::Sleep {
        return None;
    }
    match this.stage.get() {
        Stage::Created if this.first.ptr() == table().zero.as_ptr() => {
            this.stage.set(Stage::Suspended);
            Some(Step::Blocked(Obj::none()))
        }
        Stage::Suspended if !this.waiter.is_set() && this.extra.get().is_null() => {
            this.stage.set(Stage::Closed);
            this.first.clear();
            Some(Step::Done(this.second.take().unwrap_or_else(Obj::none)))
        }
        _ => None,
    }
}

#[inline(never)]
pub(super) fn start(this: &Operation) -> PyResult<Step> {
    let delay = read(this.first.ptr())?;
    if let Delay::Turn = delay {
        return Ok(Step::Blocked(Obj::none()));
    }
    match EventLoop::running() {
        Some(running) => start_on(this, running, &delay),
        None => start_elsewhere(this, &delay),
    }
}

#[inline]
fn start_on(this: &Operation, event_loop: &EventLoop, delay: &Delay) -> PyResult<Step> {
    match *delay {
        Delay::Seconds(seconds) if event_loop.has_plain_timers() => {
            let future = Future::create_for_timer(event_loop)?;
            event_loop.sleep_until_done(&future, seconds)?;
            Ok(this.block_on(event_loop, future))
        }
        _ => start_foreign(this, &event_loop.obj()),
    }
}

/// Not in a turn of a native loop.
#[cold]
fn start_elsewhere(this: &Operation, delay: &Delay) -> PyResult<Step> {
    let event_loop = call::call0(imports::get_running_loop())?;
    match EventLoop::of(event_loop.as_ptr()) {
        Some(native) => start_on(this, native, delay),
        None => start_foreign(this, &event_loop),
    }
}

/// `loop.create_future()`, `loop.call_later(…)`, and the future's own iterator.
#[cold]
fn start_foreign(this: &Operation, event_loop: &Obj) -> PyResult<Step> {
    let future = call::call_method(call::interned("create_future")?.as_ptr(), &[event_loop.as_ptr()], None)?;
    let (delay, result) = (this.first.get_or_none(), this.second.get_or_none());
    let timer = call::call_method(
        call::interned("call_later")?.as_ptr(),
        &[
            event_loop.as_ptr(),
            delay.as_ptr(),
            imports::set_result_unless_cancelled(),
            future.as_ptr(),
            result.as_ptr(),
        ],
        None,
    )?;
    this.third.set(timer);
    this.track();
    let iterator = call::call_method(call::interned("__await__")?.as_ptr(), &[future.as_ptr()], None)?;
    let step = resume_foreign(iterator.as_ptr());
    // Also after a failure: `finish` cancels the timer of whoever has a waiter.
    this.waiter.set(iterator);
    step
}

/// The next step of another loop's future.
pub(super) fn resume_foreign(iterator: Raw) -> PyResult<Step> {
    let mut result = ptr::null_mut();
    // SAFETY: A1; `result` receives a new reference.
    let status = unsafe { c::PyIter_Send(iterator, c::Py_None(), &raw mut result) };
    match (status, Obj::from_owned(result)) {
        (c::PySendResult::PYGEN_NEXT, Some(yielded)) => Ok(Step::Blocked(yielded)),
        (c::PySendResult::PYGEN_RETURN, Some(value)) => Ok(Step::Done(value)),
        _ => Err(Raised),
    }
}

/// `finally: handle.cancel()`.
#[inline]
pub(super) fn cleanup(this: &Operation, waiter: &Obj) {
    if !this.has(NATIVE) {
        cancel_timer(this);
        return;
    }
    // SAFETY: I1; the caller keeps it.
    let future = unsafe { &*waiter.as_ptr().cast::<Future>() };
    if future.state() == State::Finished {
        return;
    }
    // Ended early: the queue still holds the future, which must not be completed any more.
    future.abandon();
    if let Some(native) = this.native_loop() {
        native.note_dead_timer();
    }
}

#[cold]
fn cancel_timer(this: &Operation) {
    let Some(timer) = this.third.take() else { return };
    let interrupted = error::take_if_any();
    if call::call_method(names::cancel(), &[timer.as_ptr()], None).is_err() {
        error::write_unraisable(timer.as_ptr());
    }
    if let Some(interrupted) = interrupted {
        let Raised = error::restore(interrupted);
    }
}
