//! One step of a task: send into the coroutine, and let what it yielded decide what follows.
//!
//! Any call below may run anything, the task's own `cancel` included: references are taken out first,
//! and the task's state is looked at again afterwards.

use super::{MUST_CANCEL, THROW, Task, cancel, registry, wakeup_function};
use crate::event_loop::EventLoop;
use crate::ffi::error::{self, PyResult, raise, restore, take};
use crate::ffi::{Args, Native, Obj, Raised, Raw, c, call, context, object};
use crate::future::Future;
use crate::state::{imports, names};
use std::ptr;

/// What the coroutine did.
enum Sent {
    Returned(Obj),
    Yielded(Obj),
    Raised(Obj),
}

/// Steps a task from a native loop's ready queue; its context is entered. Errors are exits only.
#[inline]
pub(crate) fn run(task: &Task, event_loop: &EventLoop) -> PyResult<()> {
    registry::enter(event_loop, task)?;
    match step(task, None) {
        Ok(()) => {
            registry::leave(event_loop, task);
            Ok(())
        }
        Err(Raised) => {
            let exception = take();
            registry::leave(event_loop, task);
            task.let_go_if_stuck();
            Err(restore(exception))
        }
    }
}

/// `task.__step(exc)` from a foreign loop's callback, or from the debugger's hand.
pub(crate) fn step_from_python(task: &Task, args: Args<'_>) -> PyResult<()> {
    let [exception] = args.bind("task_step", &[c"exc"], 1, 0)?;
    let exception = exception
        .filter(|exception| !object::is_none(*exception))
        .map(Obj::from_borrowed);
    step_anywhere(task, exception)
}

/// `task.__wakeup(future)`: the callback given to foreign futures.
pub(crate) fn wakeup(task: &Task, future: Raw) -> PyResult<()> {
    let exception = match Future::of_exact(future) {
        Some(native) => native.result().err().map(|_| take()),
        None => call::call_method(names::result(), &[future], None)
            .err()
            .map(|_| take()),
    };
    step_anywhere(task, exception)
}

/// A step on whatever loop the task has; the caller's context is the task's already.
fn step_anywhere(task: &Task, exception: Option<Obj>) -> PyResult<()> {
    let task = task.own();
    task.show();
    let event_loop = task.future.event_loop.get_or_none();
    if let Some(native) = EventLoop::of(event_loop.as_ptr()) {
        registry::enter(native, &task)?;
        let outcome = step(&task, exception);
        let failure = outcome.err().map(|_| take());
        registry::leave(native, &task);
        return failure.map_or(Ok(()), |exception| {
            task.let_go_if_stuck();
            Err(restore(exception))
        });
    }
    registry::enter_foreign(event_loop.as_ptr(), &task)?;
    let outcome = step(&task, exception);
    let failure = outcome.err().map(|_| take());
    let left = registry::leave_foreign(event_loop.as_ptr(), &task);
    match failure {
        Some(exception) => Err(restore(exception)),
        None => left,
    }
}

impl Task {
    /// First step inside `create_task`, in the task's own context (3.12's eager tasks).
    pub(crate) fn start_eagerly(&self) -> PyResult<()> {
        let task = self.own();
        let event_loop = task.future.event_loop.get_or_none();
        let native = EventLoop::of(event_loop.as_ptr());
        let context = task.context.get_or_none();
        if let Some(native) = native.filter(|_| task.future.native.get()) {
            task.link(native);
        } else {
            // all_tasks() shows it from inside its first step on.
            registry::register_foreign(&task)?;
        }
        let previous = match native {
            Some(native) => registry::swap_in(native, &task)?,
            None => registry::Previous::Foreign(registry::swap_foreign(event_loop.as_ptr(), Some(task.raw()))?),
        };
        let outcome = context::enter(context.as_ptr()).and_then(|()| {
            let outcome = step(&task, None);
            let failure = outcome.err().map(|_| take());
            let exited = context::exit(context.as_ptr());
            match failure {
                Some(exception) => Err(restore(exception)),
                None => exited,
            }
        });
        let failure = outcome.err().map(|_| take());
        match (previous, native) {
            (registry::Previous::Native(previous, told), Some(native)) => {
                registry::swap_back(native, previous, told)?;
            }
            (registry::Previous::Foreign(previous), _) => {
                registry::swap_foreign(event_loop.as_ptr(), previous.as_ref().map(Obj::as_ptr))?;
            }
            (registry::Previous::Native(..), None) => {}
        }
        if task.future.is_done() {
            task.coroutine.clear();
        }
        match failure {
            Some(exception) => {
                task.let_go_if_stuck();
                Err(restore(exception))
            }
            None => Ok(()),
        }
    }

    /// After a step that failed: if the task was not ended by it, as where a future of the program's own refuses the
    /// callback or the context cannot be entered, nothing will ever step it again. So the loop must not keep it, or
    /// whoever ends the loop would wait for it for ever; asyncio's weak set shows it as long as somebody else does.
    #[cold]
    fn let_go_if_stuck(&self) {
        if self.future.is_done() || self.waiter.is_set() {
            return;
        }
        if let Some(owned) = self.leave_loop() {
            if registry::register_foreign(self).is_err() {
                error::clear();
            }
            drop(owned);
        }
    }
}

#[inline]
fn step(task: &Task, thrown: Option<Obj>) -> PyResult<()> {
    let mut exception = thrown;
    if task.future.is_done() {
        return Err(already_done(task, exception.as_ref()));
    }
    if let Some(waiter) = task.waiter.take() {
        if task.has(THROW) {
            task.put(THROW, false);
            exception = Some(waiter);
        } else if exception.is_none()
            && let Some(future) = Future::of_final(waiter.as_ptr()).or_else(|| Future::of(waiter.as_ptr()))
            && (future.is_failed() || future.state() == crate::future::State::Cancelled)
        {
            // The failure is thrown at the await, also where a hand-written `__await__` yielded the future.
            exception = future.result().err().map(|_| take());
        }
    }
    if task.has(MUST_CANCEL) {
        let is_cancelled = exception
            .as_ref()
            .is_some_and(|exception| error::is_instance_of(exception.as_ptr(), imports::cancelled_error()));
        if !is_cancelled {
            exception = Some(task.future.make_cancelled_error()?);
        }
        task.put(MUST_CANCEL, false);
    }
    match send(task, exception)? {
        Sent::Yielded(yielded) => wait_for(task, yielded),
        Sent::Returned(result) => {
            if task.has(MUST_CANCEL) {
                // Cancelled by itself just before it returned.
                task.put(MUST_CANCEL, false);
                let message = task.future.cancel_message();
                finish(task, |future| {
                    future.cancel(message.as_ref().map(Obj::as_ptr)).map(drop)
                })
            } else {
                finish(task, |future| future.set_result(result))
            }
        }
        Sent::Raised(exception) => end_with(task, exception),
    }
}

#[cold]
fn already_done(task: &Task, exception: Option<&Obj>) -> Raised {
    let Ok(task) = call::repr(task.raw()) else {
        return Raised;
    };
    let exception = match exception.map(|exception| call::repr(exception.as_ptr())) {
        None => String::new(),
        Some(Ok(text)) => text,
        Some(Err(raised)) => return raised,
    };
    raise(
        imports::invalid_state_error(),
        &format!("__step(): already done: {task} {exception}"),
    )
}

/// Completes the task, then drops the loop's reference to it.
#[inline]
fn finish(task: &Task, complete: impl FnOnce(&Future) -> PyResult<()>) -> PyResult<()> {
    let linked = task.unlink();
    let completed = complete(&task.future);
    drop(linked);
    completed
}

#[inline]
fn send(task: &Task, exception: Option<Obj>) -> PyResult<Sent> {
    let Some(coroutine) = task.coroutine.get() else {
        return Err(error::runtime_error("uninitialized Task object"));
    };
    let mut result = ptr::null_mut();
    if let Some(exception) = exception {
        return throw(&coroutine, &exception);
    }
    // SAFETY: A1; `result` receives a new reference.
    let status = unsafe { c::PyIter_Send(coroutine.as_ptr(), c::Py_None(), &raw mut result) };
    Ok(match (status, Obj::from_owned(result)) {
        (c::PySendResult::PYGEN_NEXT, Some(yielded)) => Sent::Yielded(yielded),
        (c::PySendResult::PYGEN_RETURN, Some(returned)) => Sent::Returned(returned),
        _ => Sent::Raised(take()),
    })
}

fn throw(coroutine: &Obj, exception: &Obj) -> PyResult<Sent> {
    match call::call_method(names::throw(), &[coroutine.as_ptr(), exception.as_ptr()], None) {
        Ok(yielded) => Ok(Sent::Yielded(yielded)),
        Err(Raised) => {
            // SAFETY: a static of the interpreter.
            if error::matches(unsafe { c::PyExc_StopIteration }) {
                let stop = take();
                let value = call::getattr(stop.as_ptr(), call::interned("value")?.as_ptr())?;
                return Ok(Sent::Returned(value));
            }
            Ok(Sent::Raised(take()))
        }
    }
}

/// The coroutine raised: cancelled, failed, or failed with an exit that also leaves the loop.
fn end_with(task: &Task, exception: Obj) -> PyResult<()> {
    // SAFETY: a static of the interpreter.
    if error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_StopIteration }) {
        // A hand-written coroutine object ends by raising it.
        let value = call::getattr(exception.as_ptr(), call::interned("value")?.as_ptr())?;
        return finish(task, |future| future.set_result(value));
    }
    if error::is_instance_of(exception.as_ptr(), imports::cancelled_error()) {
        return finish(task, |future| future.finish_cancelled(Some(exception)));
    }
    let is_forked = task.future.native_loop().is_some_and(EventLoop::is_forked);
    if is_forked || error::is_exit(exception.as_ptr()) {
        let completed = finish(task, |future| future.set_exception_instance(exception.clone()));
        // In a fork's child nobody can be told. What ended the coroutine says more than that.
        if is_forked && completed.is_err() {
            drop(take());
        } else {
            completed?;
        }
        return Err(restore(exception));
    }
    finish(task, |future| future.set_exception_instance(exception))
}

/// The coroutine yielded: wait for it, go on next turn, or fail at the await.
#[inline]
fn wait_for(task: &Task, yielded: Obj) -> PyResult<()> {
    if yielded.is_none() {
        return step_again(task);
    }
    let raw = yielded.as_ptr();
    if let Some(future) = Future::of_final(raw) {
        return wait_for_native(task, future, yielded);
    }
    wait_for_other(task, yielded)
}

#[inline]
fn step_again(task: &Task) -> PyResult<()> {
    match task.future.native_loop() {
        Some(native) => native.schedule_task(task.own()),
        None => {
            let function = super::step_function(&task.obj())?;
            task.call_soon_foreign(function.as_ptr(), None)
        }
    }
}

#[inline]
fn wait_for_native(task: &Task, future: &Future, yielded: Obj) -> PyResult<()> {
    if yielded.as_ptr() == task.raw() {
        return fail_soon(
            task,
            &format!("Task cannot await on itself: {}", call::repr(task.raw())?),
        );
    }
    if future.event_loop.ptr() != task.future.event_loop.ptr() {
        return different_loop(task, &yielded);
    }
    if !future.blocking.get() {
        return not_awaited(task, &yielded);
    }
    future.blocking.set(false);
    if future.is_done() {
        // Done already, yielded all the same by a hand-written `__await__`: wake up next turn.
        task.waiter.set_option(Some(yielded));
        return step_again(task);
    }
    future.add_waiting_task(task);
    task.waiter.set_option(Some(yielded));
    if task.has(MUST_CANCEL) {
        deliver_cancel(task)
    } else {
        Ok(())
    }
}

/// A cancellation asked for while the coroutine ran reaches the future it now waits for.
#[cold]
fn deliver_cancel(task: &Task) -> PyResult<()> {
    let Some(waiter) = task.waiter.get() else { return Ok(()) };
    let message = task.future.cancel_message();
    if cancel::cancel_future(&waiter, message.as_ref().map(Obj::as_ptr))? {
        task.put(MUST_CANCEL, false);
    }
    Ok(())
}

fn wait_for_other(task: &Task, yielded: Obj) -> PyResult<()> {
    if yielded.as_ptr() == task.raw() {
        return fail_soon(
            task,
            &format!("Task cannot await on itself: {}", call::repr(task.raw())?),
        );
    }
    let blocking = match call::getattr_optional(yielded.as_ptr(), names::asyncio_future_blocking()) {
        Ok(blocking) => blocking,
        Err(Raised) => return throw_soon(task, take()),
    };
    if let Some(blocking) = blocking.filter(|blocking| !blocking.is_none()) {
        return wait_for_foreign_future(task, &yielded, &blocking);
    }
    let (task_text, yielded_text) = (call::repr(task.raw())?, call::repr(yielded.as_ptr())?);
    // SAFETY: a static type of the interpreter.
    let is_generator = object::type_of(yielded.as_ptr()) == &raw mut c::PyGen_Type;
    if is_generator {
        fail_soon(
            task,
            &format!("yield was used instead of yield from for generator in task {task_text} with {yielded_text}"),
        )
    } else {
        fail_soon(task, &format!("Task got bad yield: {yielded_text}"))
    }
}

/// A C Future, a subclass, or any object following the future protocol.
fn wait_for_foreign_future(task: &Task, yielded: &Obj, blocking: &Obj) -> PyResult<()> {
    let their_loop = match call::getattr_optional(yielded.as_ptr(), names::get_loop())? {
        Some(method) => call::call0(method.as_ptr())?,
        None => call::getattr(yielded.as_ptr(), names::loop_())?,
    };
    if their_loop.as_ptr() != task.future.event_loop.ptr() {
        return different_loop(task, yielded);
    }
    if !call::is_true(blocking.as_ptr())? {
        return not_awaited(task, yielded);
    }
    call::setattr(
        yielded.as_ptr(),
        names::asyncio_future_blocking(),
        Obj::bool(false).as_ptr(),
    )?;
    let function = wakeup_function(&task.obj())?;
    let context = task.context.get_or_none();
    let kwnames = call::tuple(&[names::context()])?;
    call::call_method(
        names::add_done_callback(),
        &[yielded.as_ptr(), function.as_ptr(), context.as_ptr()],
        Some(&kwnames),
    )?;
    task.waiter.set_option(Some(yielded.clone()));
    if task.has(MUST_CANCEL) {
        deliver_cancel(task)
    } else {
        Ok(())
    }
}

#[cold]
fn different_loop(task: &Task, yielded: &Obj) -> PyResult<()> {
    let (task_text, yielded_text) = (call::repr(task.raw())?, call::repr(yielded.as_ptr())?);
    fail_soon(
        task,
        &format!("Task {task_text} got Future {yielded_text} attached to a different loop"),
    )
}

#[cold]
fn not_awaited(task: &Task, yielded: &Obj) -> PyResult<()> {
    let (task_text, yielded_text) = (call::repr(task.raw())?, call::repr(yielded.as_ptr())?);
    fail_soon(
        task,
        &format!("yield was used instead of yield from in task {task_text} with {yielded_text}"),
    )
}

/// Throws `RuntimeError(text)` into the coroutine next turn.
#[cold]
fn fail_soon(task: &Task, text: &str) -> PyResult<()> {
    let text = call::string(text)?;
    // SAFETY: a static of the interpreter.
    let exception = call::call1(unsafe { c::PyExc_RuntimeError }, text.as_ptr())?;
    throw_soon(task, exception)
}

#[cold]
fn throw_soon(task: &Task, exception: Obj) -> PyResult<()> {
    if let Some(native) = task.future.native_loop() {
        task.waiter.set_option(Some(exception));
        task.put(THROW, true);
        return native.schedule_task(task.own());
    }
    let function = super::step_function(&task.obj())?;
    task.call_soon_foreign(function.as_ptr(), Some(exception.as_ptr()))
}
