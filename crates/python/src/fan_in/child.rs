//! What fan-in asks of a future it waits for. A native one is looked at directly; any other, also a subclass, is asked
//! through its methods, as asyncio's Python code does.

use crate::event_loop::EventLoop;
use crate::ffi::error::{self, PyResult, value_error};
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::future::{Future, State};
use crate::state::{imports, names, state};
use crate::task::{LOG_DESTROY, Task, registry};

fn ask(child: &Obj, method: &str) -> PyResult<Obj> {
    call::call_method(call::interned(method)?.as_ptr(), &[child.as_ptr()], None)
}

fn asks_true(child: &Obj, method: &str) -> PyResult<bool> {
    call::is_true(ask(child, method)?.as_ptr())
}

/// `futures.isfuture(object)`.
#[inline]
pub(crate) fn is_future(object: Raw) -> PyResult<bool> {
    if Future::of_final(object).is_some() {
        return Ok(true);
    }
    call::is_true(call::call1(imports::stdlib_isfuture(), object)?.as_ptr())
}

/// Exactly a coroutine, the interpreter's or ours.
#[inline]
pub(crate) fn is_plain_coroutine(object: Raw) -> bool {
    let kind = object::type_of(object);
    kind == &raw mut c::PyCoro_Type || kind == state().types.operation()
}

#[inline]
pub(crate) fn is_done(child: &Obj) -> PyResult<bool> {
    match Future::of_final(child.as_ptr()) {
        Some(native) => Ok(native.is_done()),
        None => asks_true(child, "done"),
    }
}

#[inline]
pub(crate) fn is_cancelled(child: &Obj) -> PyResult<bool> {
    match Future::of_final(child.as_ptr()) {
        Some(native) => Ok(native.state() == State::Cancelled),
        None => asks_true(child, "cancelled"),
    }
}

/// `child.exception()` of one that is done and not cancelled: it counts as looked at.
#[inline]
pub(crate) fn exception(child: &Obj) -> PyResult<Option<Obj>> {
    if let Some(native) = Future::of_final(child.as_ptr())
        && native.state() == State::Finished
    {
        native.log_traceback.set(false);
        return Ok(native.value.get().filter(|_| native.is_failed()));
    }
    Ok(Some(ask(child, "exception")?).filter(|exception| !exception.is_none()))
}

#[inline]
pub(crate) fn result(child: &Obj) -> PyResult<Obj> {
    match Future::of_final(child.as_ptr()) {
        Some(native) => native.result(),
        None => call::call_method(names::result(), &[child.as_ptr()], None),
    }
}

pub(crate) fn make_cancelled_error(child: &Obj) -> PyResult<Obj> {
    match Future::of_final(child.as_ptr()) {
        Some(native) => native.make_cancelled_error(),
        None => ask(child, "_make_cancelled_error"),
    }
}

/// `child._cancel_message`.
pub(crate) fn cancel_message(child: &Obj) -> PyResult<Option<Obj>> {
    let message = match Future::of_final(child.as_ptr()) {
        Some(native) => return Ok(native.cancel_message()),
        None => call::getattr(child.as_ptr(), call::interned("_cancel_message")?.as_ptr())?,
    };
    Ok(Some(message).filter(|message| !message.is_none()))
}

/// `futures._get_loop(child)`.
#[inline]
pub(crate) fn event_loop(child: &Obj) -> PyResult<Obj> {
    match Future::of_final(child.as_ptr()) {
        Some(native) => Ok(native.event_loop.get_or_none()),
        None => call::call1(imports::stdlib_get_loop(), child.as_ptr()),
    }
}

/// Nobody but us holds it: it may be destroyed pending without a word.
#[inline]
pub(crate) fn forget_silently(child: &Obj) -> PyResult<()> {
    match Task::of_exact(child.as_ptr()) {
        Some(native) => {
            native.put(LOG_DESTROY, false);
            Ok(())
        }
        None => call::setattr(
            child.as_ptr(),
            call::interned("_log_destroy_pending")?.as_ptr(),
            Obj::bool(false).as_ptr(),
        ),
    }
}

/// `ensure_future(object, loop=loop)`.
#[inline]
pub(crate) fn ensure_future(object: Raw, event_loop: Option<&Obj>) -> PyResult<Obj> {
    if let Some(native) = Future::of_final(object) {
        if event_loop.is_some_and(|event_loop| event_loop.as_ptr() != native.event_loop.ptr()) {
            return Err(value_error(
                "The future belongs to a different loop than the one specified as the loop argument",
            ));
        }
        return Ok(Obj::from_borrowed(object));
    }
    if is_plain_coroutine(object) {
        let native = match event_loop {
            Some(event_loop) => EventLoop::of(event_loop.as_ptr()),
            None => EventLoop::running(),
        };
        if let Some(native) = native {
            return crate::event_loop::schedule::create_task_of(native, object)
                .inspect_err(|_| close_after_runtime_error(object));
        }
    }
    let kwnames = call::tuple(&[call::interned("loop")?.as_ptr()])?;
    let event_loop = event_loop.map_or_else(Obj::none, Clone::clone);
    call::call(
        imports::stdlib_ensure_future(),
        &[object, event_loop.as_ptr()],
        Some(&kwnames),
    )
}

/// asyncio closes the coroutine if there can be no task for it: it would say that it was never awaited.
#[cold]
fn close_after_runtime_error(coroutine: Raw) {
    // SAFETY: a static of the interpreter.
    if !error::matches(unsafe { c::PyExc_RuntimeError }) {
        return;
    }
    let exception = error::take();
    if call::call_method(names::close(), &[coroutine], None).is_err() {
        error::write_unraisable(coroutine);
    }
    let error::Raised = error::restore(exception);
}

/// The task that runs now, as the one that awaits; for 3.14's call graph.
pub(crate) fn awaiting_task() -> PyResult<Option<Obj>> {
    if !cfg!(Py_3_14) {
        return Ok(None);
    }
    let running = crate::waiters::running_loop()?;
    if running.is_none() {
        return Ok(None);
    }
    current_task(&running)
}

/// The task that runs on `event_loop`. Where code has put a `current_task` of its own in `asyncio.tasks`, as those do
/// that bring their own tasks, that one knows.
pub(crate) fn current_task(event_loop: &Obj) -> PyResult<Option<Obj>> {
    let task = registry::current_task_of(event_loop)?;
    if !task.is_none() {
        return Ok(Some(task));
    }
    let function = call::getattr(imports::tasks_module(), call::interned("current_task")?.as_ptr())?;
    if function.is(imports::stdlib_current_task()) {
        return Ok(None);
    }
    let task = call::call1(function.as_ptr(), event_loop.as_ptr())?;
    Ok(Some(task).filter(|task| !task.is_none()))
}

/// Notes, from 3.14 on, that `task` waits for `child`. A native one sees it from its callbacks.
#[inline]
pub(crate) fn add_awaited_by(child: &Obj, task: Option<&Obj>) -> PyResult<()> {
    edge(child, task, "future_add_to_awaited_by")
}

#[inline]
pub(crate) fn discard_awaited_by(child: &Obj, task: Option<&Obj>) -> PyResult<()> {
    edge(child, task, "future_discard_from_awaited_by")
}

#[inline]
fn edge(child: &Obj, task: Option<&Obj>, change: &str) -> PyResult<()> {
    match task {
        Some(task) if cfg!(Py_3_14) && Future::of_final(child.as_ptr()).is_none() => {
            let change = call::getattr(imports::futures_module(), call::interned(change)?.as_ptr())?;
            call::call(change.as_ptr(), &[child.as_ptr(), task.as_ptr()], None).map(drop)
        }
        _ => Ok(()),
    }
}
