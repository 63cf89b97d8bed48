//! cancel, uncancel, and the cancellation that waits for the next step.

use super::{MUST_CANCEL, THROW, Task};
use crate::fan_in::GatheringFuture;
use crate::ffi::error::PyResult;
use crate::ffi::{Native, Obj, Raw, call};
use crate::future::Future;
use crate::state::names;

/// `Task.cancel(msg)`: cancel what it waits for, or leave a note for the next step.
pub(crate) fn cancel(task: &Task, message: Option<Raw>) -> PyResult<bool> {
    task.future.log_traceback.set(false);
    if task.future.is_done() {
        return Ok(false);
    }
    task.cancel_requests.set(task.cancel_requests.get().saturating_add(1));
    if !task.has(THROW)
        && let Some(waiter) = task.waiter.get()
        && cancel_future(&waiter, message)?
    {
        // The waiter's callbacks will step the task, which then sees the cancellation.
        return Ok(true);
    }
    task.put(MUST_CANCEL, true);
    task.future.set_cancel_message(message);
    Ok(true)
}

/// `future.cancel(msg=message)`, directly for exact native futures and tasks.
pub(crate) fn cancel_future(future: &Obj, message: Option<Raw>) -> PyResult<bool> {
    if let Some(native) = Future::of_exact(future.as_ptr()) {
        return native.cancel(message);
    }
    if let Some(native) = Task::of_exact(future.as_ptr()) {
        return cancel(native, message);
    }
    if let Some(native) = GatheringFuture::of_exact(future.as_ptr()) {
        return native.cancel(message);
    }
    let message = message.map_or_else(Obj::none, Obj::from_borrowed);
    let kwnames = call::tuple(&[names::msg()])?;
    let answer = call::call_method(names::cancel(), &[future.as_ptr(), message.as_ptr()], Some(&kwnames))?;
    call::is_true(answer.as_ptr())
}

pub(crate) fn uncancel(task: &Task) -> u32 {
    let left = task.cancel_requests.get().saturating_sub(1);
    if task.cancel_requests.get() > 0 {
        task.cancel_requests.set(left);
        // Since 3.13 (gh-117407) a request undone before it was delivered is not delivered.
        if cfg!(Py_3_13) && left == 0 {
            task.put(MUST_CANCEL, false);
        }
    }
    left
}
