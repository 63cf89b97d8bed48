//! TaskGroup's `__aenter__` and `__aexit__`.
//!
//! Invariants
//! - I1: an operation's `first` is the group. While it leaves the group, `second` is the body's exception, `third` the
//!   CancelledError to raise at the end, if any; `point` holds the bits below.

use super::{TaskGroup, cancel_task};
use crate::fan_in::child;
use crate::ffi::error::{self, PyResult, Raised, raise_object, runtime_error};
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::operation::{Behaviour, Bound, Operation, Original, Step, raise_it, show_behind};
use crate::state::imports;
use crate::task::Task;
use crate::waiters;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Details that changed within a minor version: they are read off the running version's own class.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Traits {
    /// asyncio's own `create_task`, for arguments that do not fit.
    pub(super) create_task: Obj,
    pub(super) takes_any_keyword: bool,
    /// A coroutine that is refused is closed.
    pub(super) closes_refused: bool,
    /// The name is set on the new task, not given to `loop.create_task`.
    pub(super) names_afterwards: bool,
    /// A task that has run to its end when it was created does not become part of the group.
    pub(super) ends_eager_at_once: bool,
    /// The group has `cancel()`.
    pub(super) can_be_cancelled: bool,
    /// Subclasses of CancelledError count as it.
    subclasses_cancel: bool,
    /// Nothing is kept once the group is left.
    forgets: bool,
    /// A cancellation of somebody else's is raised even when the group asked for one, too.
    keeps_others_cancellation: bool,
    /// `GeneratorExit` alone is not wrapped.
    lets_generator_exit_through: bool,
}

static TRAITS: AtomicPtr<Traits> = AtomicPtr::new(ptr::null_mut());

#[inline]
pub(super) fn traits() -> &'static Traits {
    // SAFETY: set at import, before any group exists; never freed.
    unsafe { &*TRAITS.load(Ordering::Relaxed) }
}

/// Does the code of a Python function use this name, for an attribute, a global or a local?
pub(in crate::fan_in) fn mentions(function: &Obj, name: &str) -> PyResult<bool> {
    let code = call::getattr(function.as_ptr(), call::interned("__code__")?.as_ptr())?;
    let name = call::interned(name)?;
    for table in ["co_names", "co_varnames", "co_cellvars"] {
        let names = call::getattr(code.as_ptr(), call::interned(table)?.as_ptr())?;
        // SAFETY: A1.
        match unsafe { c::PySequence_Contains(names.as_ptr(), name.as_ptr()) } {
            0 => {}
            code if code < 0 => return Err(Raised),
            _ => return Ok(true),
        }
    }
    Ok(false)
}

pub(super) fn look_up_traits(class: &Obj) -> PyResult<()> {
    let method = |name: &str| call::getattr_optional(class.as_ptr(), call::interned(name)?.as_ptr());
    let exit = call::getattr(class.as_ptr(), call::interned("__aexit__")?.as_ptr())?;
    let inner = method("_aexit")?;
    let body = inner.as_ref().unwrap_or(&exit);
    let create_task = call::getattr(class.as_ptr(), call::interned("create_task")?.as_ptr())?;
    let can_be_cancelled = method("cancel")?.is_some();
    let made = Traits {
        takes_any_keyword: mentions(&create_task, "kwargs")?,
        closes_refused: mentions(&create_task, "close")?,
        names_afterwards: mentions(&create_task, "_set_task_name")?,
        ends_eager_at_once: !can_be_cancelled && mentions(&create_task, "done")?,
        subclasses_cancel: mentions(body, "issubclass")?,
        forgets: inner.is_some(),
        keeps_others_cancellation: mentions(body, "pending_cancellation_error")?,
        lets_generator_exit_through: mentions(body, "GeneratorExit")?,
        can_be_cancelled,
        create_task,
    };
    TRAITS.store(Box::into_raw(Box::new(made)), Ordering::Release);
    show_behind(&EXIT, &INSIDE)
}

#[inline]
fn group_of(this: &Operation) -> &TaskGroup {
    // SAFETY: I1; `create` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<TaskGroup>() }
}

fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(TaskGroup::of) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

// ---- entering ------------------------------------------------------------------------------------

fn enter(this: &Operation) -> PyResult<Step> {
    let group = group_of(this);
    if group.entered.get() {
        let words = if cfg!(Py_3_12) {
            "has already been entered"
        } else {
            "has been already entered"
        };
        return Err(runtime_error(&format!(
            "TaskGroup {} {words}",
            call::repr(group.raw())?
        )));
    }
    if cfg!(not(Py_3_12)) {
        group.entered.set(true);
    }
    if !group.event_loop.is_set() {
        let running = waiters::running_loop()?;
        if running.is_none() {
            return Err(runtime_error("no running event loop"));
        }
        group.event_loop.set(running);
    }
    let Some(parent) = child::current_task(&group.event_loop.get_or_none())? else {
        group.parent_task.clear();
        return Err(runtime_error(&format!(
            "TaskGroup {} cannot determine the parent task",
            call::repr(group.raw())?
        )));
    };
    group.parent_task.set(parent);
    group.entered.set(true);
    if group.cancel_on_enter.get() {
        call::call_method(crate::state::names::cancel(), &[group.raw()], None)?;
    }
    Ok(Step::Done(group.obj()))
}

// ---- leaving -------------------------------------------------------------------------------------

/// The body raised, and what.
const RAISED: u8 = 1;
const CANCELLED: u8 = 2;
const GENERATOR_EXIT: u8 = 4;
/// `third` is a cancellation that is raised only if it turns out to be somebody else's.
const PERHAPS: u8 = 8;

impl Operation {
    fn was(&self, bit: u8) -> bool {
        self.point.get() & bit != 0
    }
}

fn is_subclass(class: Raw, of: Raw) -> PyResult<bool> {
    // SAFETY: A1.
    match unsafe { c::PyObject_IsSubclass(class, of) } {
        code if code < 0 => Err(Raised),
        code => Ok(code != 0),
    }
}

fn start_leaving(this: &Operation) -> PyResult<Step> {
    let class = this.second.take().filter(|class| !class.is_none());
    let exception = this.third.take().filter(|exception| !exception.is_none());
    let mut bits = 0;
    if let Some(class) = &class {
        bits |= RAISED;
        let is_cancel = if traits().subclasses_cancel {
            is_subclass(class.as_ptr(), imports::cancelled_error())?
        } else {
            class.is(imports::cancelled_error())
        };
        if is_cancel {
            bits |= CANCELLED;
        }
        // SAFETY: a static of the interpreter.
        if traits().lets_generator_exit_through && is_subclass(class.as_ptr(), unsafe { c::PyExc_GeneratorExit })? {
            bits |= GENERATOR_EXIT;
        }
    }
    this.point.set(bits);
    this.second.set_option(exception.clone());
    let outcome = begin_leaving(this, exception);
    ended(this, outcome)
}

fn begin_leaving(this: &Operation, exception: Option<Obj>) -> PyResult<Step> {
    let group = group_of(this);
    group.exiting.set(true);
    if let Some(exception) = &exception
        && group.is_base_error(exception)?
        && !group.base_error.is_set()
    {
        group.base_error.set(exception.clone());
    }
    if this.was(CANCELLED) {
        this.third.set_option(exception);
    }
    if cfg!(not(Py_3_13)) {
        take_back_cancellation(this)?;
    }
    if this.was(RAISED) && !group.aborting.get() {
        group.abort()?;
    }
    wait_for_tasks(this)
}

/// A cancellation that the group asked for was not meant for anybody outside.
fn take_back_cancellation(this: &Operation) -> PyResult<()> {
    let group = group_of(this);
    if !group.parent_cancel_requested.get() {
        return Ok(());
    }
    if !uncancel(&group.parent_task.get_or_none())? {
        this.third.clear();
    } else if this.was(PERHAPS) {
        this.point.set(this.point.get() & !PERHAPS);
    }
    Ok(())
}

/// `task.uncancel()`: are there requests left?
fn uncancel(task: &Obj) -> PyResult<bool> {
    if let Some(native) = Task::of_exact(task.as_ptr()) {
        return Ok(crate::task::cancel::uncancel(native) > 0);
    }
    let left = call::call_method(call::interned("uncancel")?.as_ptr(), &[task.as_ptr()], None)?;
    call::is_true(left.as_ptr())
}

fn is_cancelling(task: &Obj) -> PyResult<bool> {
    if let Some(native) = Task::of_exact(task.as_ptr()) {
        return Ok(native.cancel_requests.get() > 0);
    }
    let requests = call::call_method(call::interned("cancelling")?.as_ptr(), &[task.as_ptr()], None)?;
    call::is_true(requests.as_ptr())
}

#[inline]
fn wait_for_tasks(this: &Operation) -> PyResult<Step> {
    let group = group_of(this);
    if !group.has_tasks() {
        return leave(this);
    }
    let waiter = match group.on_completed.get() {
        Some(waiter) => waiter,
        None => {
            let waiter = waiters::create_future(&group.event_loop.get_or_none())?;
            group.on_completed.set(waiter.clone());
            waiter
        }
    };
    this.wait_for(waiter)
}

fn resume(this: &Operation, _value: Obj) -> PyResult<Step> {
    group_of(this).on_completed.clear();
    let outcome = wait_for_tasks(this);
    ended(this, outcome)
}

fn raised(this: &Operation, exception: Obj) -> PyResult<Step> {
    let outcome = interrupted(this, exception);
    ended(this, outcome)
}

/// Cancelled while tasks run: they are cancelled, too, and waited for.
fn interrupted(this: &Operation, exception: Obj) -> PyResult<Step> {
    if !error::is_instance_of(exception.as_ptr(), imports::cancelled_error()) {
        return Err(error::restore(exception));
    }
    let group = group_of(this);
    if !group.aborting.get() {
        this.point.set(this.point.get() & !PERHAPS);
        this.third.set(exception);
        group.abort()?;
    } else if traits().keeps_others_cancellation && (this.was(PERHAPS) || !this.third.is_set()) {
        this.point.set(this.point.get() | PERHAPS);
        this.third.set(exception);
    }
    group.on_completed.clear();
    wait_for_tasks(this)
}

/// The tasks are done: what is raised now?
fn leave(this: &Operation) -> PyResult<Step> {
    let group = group_of(this);
    if let Some(exception) = group.base_error.get() {
        return Err(raise(&exception));
    }
    if cfg!(Py_3_13) {
        take_back_cancellation(this)?;
    }
    if !this.was(PERHAPS)
        && group.error_count() == 0
        && let Some(cancellation) = this.third.get()
    {
        return Err(raise(&cancellation));
    }
    if this.was(RAISED) && !this.was(CANCELLED) {
        group.add_error(&this.second.get_or_none())?;
    }
    if group.error_count() > 0 {
        return Err(raise_errors(this, group)?);
    }
    // From 3.15 on whatever the body raised ends here.
    Ok(Step::Done(if traits().can_be_cancelled {
        Obj::bool(true)
    } else {
        Obj::none()
    }))
}

#[cold]
fn raise_errors(this: &Operation, group: &TaskGroup) -> PyResult<Raised> {
    let parent = group.parent_task.get_or_none();
    if cfg!(Py_3_13) && is_cancelling(&parent)? {
        // Cancelled from outside, too: it stays so, and the cancellation is delivered again.
        uncancel(&parent)?;
        cancel_task(&parent)?;
    }
    if this.was(GENERATOR_EXIT) && group.error_count() == 1 {
        return Ok(raise(&this.second.get_or_none()));
    }
    let class = call::import_from("builtins", "BaseExceptionGroup")?;
    let message = call::string("unhandled errors in a TaskGroup")?;
    let errors = group.errors.get_or_none();
    let outcome = call::call(class.as_ptr(), &[message.as_ptr(), errors.as_ptr()], None);
    drop(errors);
    let made = match outcome {
        Ok(made) => made,
        Err(failed) => failed_quietly(group, failed)?,
    };
    group.errors.clear();
    // SAFETY: A1; `from None`: no cause, and the context is not shown.
    unsafe { c::PyException_SetCause(made.as_ptr(), ptr::null_mut()) };
    Ok(raise(&made))
}

/// Not even a group could be made: the errors are dropped all the same.
#[cold]
fn failed_quietly(group: &TaskGroup, Raised: Raised) -> PyResult<Obj> {
    let exception = error::take();
    group.errors.clear();
    Err(error::restore(exception))
}

/// `raise exception`, where another one may be handled, which becomes its context.
fn raise(exception: &Obj) -> Raised {
    raise_object(object::type_of(exception.as_ptr()).cast(), exception)
}

/// Lets go of what keeps others alive, unless it goes on waiting.
#[inline]
fn ended(this: &Operation, outcome: PyResult<Step>) -> PyResult<Step> {
    let interrupted = match outcome {
        Ok(Step::Blocked(yielded)) => return Ok(Step::Blocked(yielded)),
        Ok(Step::Done(_)) => None,
        Err(Raised) => Some(error::take()),
    };
    let group = group_of(this);
    if !group.has_tasks() {
        group.collector.clear();
    }
    if traits().forgets {
        group.parent_task.clear();
        group.errors.clear();
        group.base_error.clear();
    }
    match interrupted {
        Some(exception) => Err(error::restore(exception)),
        None => outcome,
    }
}

static ENTER: Behaviour = Behaviour {
    module: "asyncio.taskgroups",
    class: "TaskGroup",
    name: "__aenter__",
    parameters: &[c"self"],
    required: 1,
    create,
    start: enter,
    resume: |_, value| Ok(Step::Done(value)),
    raised: raise_it,
    original: Original::new(),
};

static EXIT: Behaviour = Behaviour {
    module: "asyncio.taskgroups",
    class: "TaskGroup",
    name: "__aexit__",
    parameters: &[c"self", c"et", c"exc", c"tb"],
    required: 4,
    create,
    start: start_leaving,
    resume,
    raised,
    original: Original::new(),
};

/// The coroutine inside that some versions await.
static INSIDE: Behaviour =
    Behaviour::only_shown("asyncio.taskgroups", "TaskGroup", "_aexit", &[c"self", c"et", c"exc"]);

pub(super) const METHODS: &[&Behaviour] = &[&ENTER, &EXIT];
