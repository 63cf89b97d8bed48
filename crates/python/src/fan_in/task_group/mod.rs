//! TaskGroup: tasks that end before their `async with` does (asyncio.TaskGroup). Entering and leaving it is in
//! `scope.rs`, what programs see in `class.rs`.
//!
//! What subclasses override of `_on_task_done`, `_abort` and `_is_base_error` is called; the attributes that asyncio's
//! Python code keeps can be read and set, so that a subclass which brings its own `create_task` works, too.
//!
//! Invariants
//! - I1: the collector's `owner` is the group. The group lets go of it when it is left, so that no cycle remains.
//! - I2: the collector's `flag` is set if it waits for tasks that do not tell it at once when they are done.

mod class;
mod members;
mod scope;

pub(super) use class::build;
pub(super) use scope::mentions;

use super::child;
use super::collector::{Collector, Kind};
use crate::event_loop::{EventLoop, schedule};
use crate::ffi::error::{self, PyResult, runtime_error};
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, object};
use crate::future::{Future, State};
use crate::state::{names, state};
use crate::task::cancel::cancel_future;
use crate::waiters;
use members::Members;
use std::cell::Cell;

#[repr(C)]
pub(crate) struct TaskGroup {
    head: c::PyObject,
    event_loop: Slot,
    parent_task: Slot,
    tasks: Members,
    errors: Slot,
    base_error: Slot,
    on_completed: Slot,
    collector: Slot,
    dict: Slot,
    weaklist: Cell<Raw>,
    entered: Cell<bool>,
    exiting: Cell<bool>,
    aborting: Cell<bool>,
    parent_cancel_requested: Cell<bool>,
    cancel_on_enter: Cell<bool>,
}

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for TaskGroup {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.task_group()
    }
}

impl TaskGroup {
    /// Is every method the one defined here?
    #[inline]
    fn is_plain(&self) -> bool {
        // SAFETY: A1; a dict or NULL.
        TaskGroup::check_exact(self.raw()) && (!self.dict.is_set() || unsafe { c::PyDict_Size(self.dict.ptr()) } == 0)
    }

    #[inline]
    fn has_tasks(&self) -> bool {
        self.tasks.len() > 0
    }

    fn error_count(&self) -> usize {
        match self.errors.get() {
            // SAFETY: A1; checked to be a list.
            Some(errors) if unsafe { c::PyList_Check(errors.as_ptr()) } != 0 => unsafe {
                c::PyList_Size(errors.as_ptr()) as usize
            },
            _ => 0,
        }
    }

    /// `self._errors.append(exc)`: there is no list any more once the group is left.
    fn add_error(&self, exception: &Obj) -> PyResult<()> {
        let errors = self.errors.get_or_none();
        call::call_method(
            call::interned("append")?.as_ptr(),
            &[errors.as_ptr(), exception.as_ptr()],
            None,
        )
        .map(drop)
    }

    /// `self._abort()`.
    fn abort(&self) -> PyResult<()> {
        if self.is_plain() {
            return cancel_all(self);
        }
        call::call_method(call::interned("_abort")?.as_ptr(), &[self.raw()], None).map(drop)
    }

    /// `self._is_base_error(exc)`.
    fn is_base_error(&self, exception: &Obj) -> PyResult<bool> {
        if self.is_plain() {
            return Ok(error::is_exit(exception.as_ptr()));
        }
        let name = call::interned("_is_base_error")?;
        let answer = call::call_method(name.as_ptr(), &[self.raw(), exception.as_ptr()], None)?;
        call::is_true(answer.as_ptr())
    }

    fn cancel_parent(&self) -> PyResult<()> {
        self.parent_cancel_requested.set(true);
        cancel_task(&self.parent_task.get_or_none())
    }

    #[inline]
    fn own_collector(&self) -> PyResult<Own<Collector>> {
        if let Some(collector) = self.collector.get() {
            // SAFETY: only filled below.
            return Ok(unsafe { Own::<Collector>::from_obj_unchecked(collector) });
        }
        let collector = Collector::create(&TASK_GROUP)?;
        collector.owner.set(self.obj());
        if cfg!(Py_3_14) {
            collector.task.set_option(self.parent_task.get());
        }
        self.collector.set(collector.obj());
        Ok(collector)
    }

    /// `task.add_done_callback(self._on_task_done)`.
    #[inline]
    fn watch(&self, task: &Obj) -> PyResult<()> {
        if !self.is_plain() {
            let method = call::getattr(self.raw(), call::interned("_on_task_done")?.as_ptr())?;
            return call::call_method(names::add_done_callback(), &[task.as_ptr(), method.as_ptr()], None).map(drop);
        }
        let collector = self.own_collector()?;
        if Future::of_final(task.as_ptr()).is_none_or(|native| native.native_loop().is_none()) {
            collector.flag.set(true);
        }
        collector.add_to_or_queue(task)
    }
}

/// `task.cancel()`; whatever else a parent is, it has the method.
fn cancel_task(task: &Obj) -> PyResult<()> {
    if Future::of_final(task.as_ptr()).is_some() {
        return cancel_future(task, None).map(drop);
    }
    call::call_method(names::cancel(), &[task.as_ptr()], None).map(drop)
}

// ---- when a task is done -------------------------------------------------------------------------

static TASK_GROUP: Kind = Kind {
    qualname: "TaskGroup._on_task_done",
    settle,
    run: |this, task| match this.owner.get() {
        Some(group) => match TaskGroup::of(group.as_ptr()) {
            Some(group) => on_task_done(group, task.as_ptr()),
            None => Ok(()),
        },
        None => Ok(()),
    },
};

/// One that did not fail just leaves the set, unless it could be the last to leave.
#[inline]
fn settle(this: &Collector, task: &Future) -> bool {
    if task.is_failed() || this.flag.get() || task.state() == State::Pending {
        return true;
    }
    let owner = this.owner.ptr();
    if owner.is_null() {
        return true;
    }
    // SAFETY: I1; the collector keeps it.
    let group = unsafe { &*owner.cast::<TaskGroup>() };
    if group.tasks.len() <= this.queued() + 1 || !group.is_plain() {
        return true;
    }
    group.tasks.discard(task.raw()).is_err()
}

/// `_on_task_done(task)`.
fn on_task_done(this: &TaskGroup, task: Raw) -> PyResult<()> {
    let (this, task) = (this.own(), Obj::from_borrowed(task));
    this.tasks.discard(task.as_ptr())?;
    if cfg!(Py_3_14) {
        child::discard_awaited_by(&task, Some(&this.parent_task.get_or_none()))?;
    }
    if let Some(waiter) = this.on_completed.get()
        && !this.has_tasks()
        && !waiters::is_done(&waiter)?
    {
        waiters::set_result(&waiter, Obj::bool(true))?;
    }
    if child::is_cancelled(&task)? {
        return Ok(());
    }
    match child::exception(&task)? {
        Some(exception) => on_task_failed(&this, &task, &exception),
        None => Ok(()),
    }
}

#[cold]
fn on_task_failed(this: &TaskGroup, task: &Obj, exception: &Obj) -> PyResult<()> {
    this.add_error(exception)?;
    if this.is_base_error(exception)? && !this.base_error.is_set() {
        this.base_error.set(exception.clone());
    }
    let parent = this.parent_task.get_or_none();
    if child::is_done(&parent)? {
        return report_orphan(this, task, &parent, exception);
    }
    if !this.aborting.get() && !this.parent_cancel_requested.get() {
        // The parent is cancelled to end the body; leaving the group takes that back.
        this.abort()?;
        return this.cancel_parent();
    }
    Ok(())
}

fn report_orphan(this: &TaskGroup, task: &Obj, parent: &Obj, exception: &Obj) -> PyResult<()> {
    let details = call::dict()?;
    let message = call::string(&format!(
        "Task {} has errored out but its parent task {} is already completed",
        call::repr(task.as_ptr())?,
        call::repr(parent.as_ptr())?
    ))?;
    call::dict_set(&details, "message", message.as_ptr())?;
    call::dict_set(&details, "exception", exception.as_ptr())?;
    call::dict_set(&details, "task", task.as_ptr())?;
    let event_loop = this.event_loop.get_or_none();
    call::call_method(
        names::call_exception_handler(),
        &[event_loop.as_ptr(), details.as_ptr()],
        None,
    )
    .map(drop)
}

/// `_abort()`.
fn cancel_all(this: &TaskGroup) -> PyResult<()> {
    this.aborting.set(true);
    // A copy: cancelling may take something out.
    for task in this.tasks.all()? {
        if !child::is_done(&task)? {
            cancel_task(&task)?;
        }
    }
    Ok(())
}

// ---- create_task ---------------------------------------------------------------------------------

fn create_task(this: &TaskGroup, args: Args<'_>) -> PyResult<Obj> {
    let traits = scope::traits();
    let given = match args.positional() {
        [coroutine] => *coroutine,
        _ => return args.forward_call(traits.create_task.as_ptr(), this.raw()),
    };
    let (name, context) = if args.has_keywords() && !traits.takes_any_keyword {
        match args.known_keywords(&[c"name", c"context"]) {
            Some(given) => (given[0].filter(is_given), given[1].filter(is_given)),
            None => return args.forward_call(traits.create_task.as_ptr(), this.raw()),
        }
    } else {
        (None, None)
    };
    let refusal = if !this.entered.get() {
        Some("has not been entered")
    } else if this.exiting.get() && !this.has_tasks() {
        Some("is finished")
    } else if this.aborting.get() {
        Some("is shutting down")
    } else {
        None
    };
    if let Some(refusal) = refusal {
        if traits.closes_refused {
            call::call_method(names::close(), &[given], None)?;
        }
        return Err(runtime_error(&format!(
            "TaskGroup {} {refusal}",
            call::repr(this.raw())?
        )));
    }
    let event_loop = this.event_loop.get_or_none();
    let only_named = !args.has_keywords() || (!traits.takes_any_keyword && context.is_none());
    let own = match EventLoop::of(event_loop.as_ptr()).filter(|_| only_named) {
        Some(native) => schedule::create_own_task(native, given, name.filter(|_| !traits.names_afterwards))?,
        None => None,
    };
    let is_new = own.is_some();
    let task = match own {
        Some(task) => {
            if let Some(name) = name.filter(|_| traits.names_afterwards) {
                task.set_name(name)?;
            }
            task.into_obj()
        }
        None if traits.takes_any_keyword => args.forward_method(event_loop.as_ptr(), "create_task")?,
        None => create_task_on(&event_loop, given, name, context)?,
    };
    enlist(this, &task, is_new)?;
    Ok(task)
}

fn is_given(value: &Raw) -> bool {
    !object::is_none(*value)
}

/// `loop.create_task` with the keywords that asyncio passes it before 3.13.3.
fn create_task_on(event_loop: &Obj, coroutine: Raw, name: Option<Raw>, context: Option<Raw>) -> PyResult<Obj> {
    let named_afterwards = scope::traits().names_afterwards;
    let (mut keys, mut values) = (Vec::new(), vec![event_loop.as_ptr(), coroutine]);
    let none = Obj::none();
    if !named_afterwards {
        keys.push(names::name());
        values.push(name.unwrap_or(none.as_ptr()));
    }
    if let Some(context) = context {
        keys.push(names::context());
        values.push(context);
    }
    let kwnames = call::tuple(&keys)?;
    let task = call::call_method(
        call::interned("create_task")?.as_ptr(),
        &values,
        Some(&kwnames).filter(|_| !keys.is_empty()),
    )?;
    if let Some(name) = name.filter(|_| named_afterwards) {
        let set_name = call::import_from("asyncio.tasks", "_set_task_name")?;
        call::call(set_name.as_ptr(), &[task.as_ptr(), name], None)?;
    }
    Ok(task)
}

/// A task for the group: a fresh one of ours, or what a task factory gave, which may have run to its end.
#[inline]
fn enlist(this: &TaskGroup, task: &Obj, is_new: bool) -> PyResult<()> {
    if cfg!(Py_3_14) {
        child::add_awaited_by(task, Some(&this.parent_task.get_or_none()))?;
    }
    if scope::traits().ends_eager_at_once && child::is_done(task)? {
        if this.is_plain() {
            return on_task_done(this, task.as_ptr());
        }
        let name = call::interned("_on_task_done")?;
        return call::call_method(name.as_ptr(), &[this.raw(), task.as_ptr()], None).map(drop);
    }
    this.tasks.add(task, is_new)?;
    this.watch(task)?;
    if scope::traits().can_be_cancelled && this.aborting.get() && !child::is_done(task)? {
        cancel_task(task)?;
    }
    Ok(())
}
