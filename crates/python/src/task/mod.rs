//! Task: a coroutine driven by the loop (asyncio.Task).
//!
//! States (see docs/internals/tasks-and-cancellation.md): *ready* (one entry in a ready queue),
//! *running* (its coroutine is on the stack), *waiting* (`waiter` is the future it waits for), *done*.
//! The task itself is the ready entry and the future's callback; no handle, no bound method.
//!
//! Invariants
//! - I1: a pending task of a plain native loop is linked in that loop's list, which owns one reference.
//! - I2: `waiter` is the awaited future, or with `THROW` set the exception to throw at the next step.
//! - I3: `number` is 0 once `name` is set by a user.
//! - I4: the collector tracks a task unless it is `HIDDEN`, as those are that a running loop made and owns: what the
//!   loop's list holds is alive as long as the loop runs, and looking at it again and again would tell nothing new.
//!   They are counted by the list. The end of the run, or of the task, shows them.

pub(crate) mod cancel;
pub(crate) mod registry;
pub(crate) mod step;

use crate::event_loop::EventLoop;
use crate::event_loop::ready::is_unique;
use crate::ffi::error::{PyResult, owned, runtime_error, type_error};
use crate::ffi::freelist::FreeList;
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property};
use crate::ffi::types::{Method, TypeSpec};
use crate::ffi::{
    Args, Native, Obj, Own, Raised, Raw, Slot, args, c, call, context, error, object, slot, trash, types,
};
use crate::future::{Future, cannot_delete};
use crate::state::{helper, imports, names, state};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cancellation is due at the next step.
pub(crate) const MUST_CANCEL: u8 = 1;
/// Say so when the task dies pending.
pub(crate) const LOG_DESTROY: u8 = 2;
/// `waiter` holds an exception to throw.
pub(crate) const THROW: u8 = 4;
/// In a loop's list (I1).
pub(crate) const LINKED: u8 = 8;
/// Not tracked by the collector (I4).
pub(crate) const HIDDEN: u8 = 16;

#[repr(C)]
pub(crate) struct Task {
    pub(crate) future: Future,
    pub(crate) coroutine: Slot,
    pub(crate) waiter: Slot,
    pub(crate) context: Slot,
    name: Slot,
    number: Cell<u64>,
    previous: Cell<*const Task>,
    next: Cell<*const Task>,
    pub(crate) cancel_requests: Cell<u32>,
    flags: Cell<u8>,
}

// SAFETY: repr(C), starts with Future; zero is valid for every field.
unsafe impl Native for Task {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.task()
    }
}

/// At most a megabyte. Thousands of tasks that end together otherwise empty the interpreter's arenas, which it gives back to
/// the system, and the next thousands fault every page in again: a third of what a task of a large group cost.
static FREE_TASKS: FreeList<4096> = FreeList::new();
static NAMES_GIVEN: AtomicU64 = AtomicU64::new(0);

/// The pending tasks of one loop: an intrusive list that owns a reference to each (asyncio keeps weak ones).
pub(crate) struct TaskList {
    head: Cell<*const Task>,
    /// How many of them are `HIDDEN`.
    hidden: Cell<usize>,
}

impl TaskList {
    pub(crate) const fn new() -> TaskList {
        TaskList {
            head: Cell::new(ptr::null()),
            hidden: Cell::new(0),
        }
    }

    /// Lets the collector see all of them: the loop's run is over.
    pub(crate) fn show_all(&self) {
        // The newest come first, and what earlier runs left is shown already.
        let mut tasks = self.iter();
        while self.hidden.get() > 0
            && let Some(task) = tasks.next()
        {
            task.show();
        }
    }

    #[inline]
    fn link(&self, task: Own<Task>) {
        let head = self.head.get();
        task.previous.set(ptr::null());
        task.next.set(head);
        // SAFETY: linked tasks are alive (I1).
        if let Some(head) = unsafe { head.as_ref() } {
            head.previous.set(&raw const *task);
        }
        self.head.set(&raw const *task);
        task.put(LINKED, true);
        std::mem::forget(task.into_obj());
    }

    /// Gives the list's reference back.
    #[inline]
    fn unlink(&self, task: &Task) -> Obj {
        // SAFETY: neighbours in the list are alive (I1).
        unsafe {
            match task.previous.get().as_ref() {
                Some(previous) => previous.next.set(task.next.get()),
                None => self.head.set(task.next.get()),
            }
            if let Some(next) = task.next.get().as_ref() {
                next.previous.set(task.previous.get());
            }
        }
        task.previous.set(ptr::null());
        task.next.set(ptr::null());
        task.put(LINKED, false);
        // SAFETY: `link` put one reference in here.
        unsafe { Obj::from_owned(task.raw()).unwrap_unchecked() }
    }

    /// The tasks, newest first, as they are now. Nothing may run Python while the iterator lives.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Task> {
        // SAFETY: linked tasks are alive (I1), and stay so while nothing runs.
        std::iter::successors(unsafe { self.head.get().as_ref() }, |task| unsafe {
            task.next.get().as_ref()
        })
    }

    /// Empties the list; the caller drops the references.
    pub(crate) fn take_all(&self) -> Vec<Obj> {
        let mut all = Vec::new();
        // SAFETY: the head is alive (I1).
        while let Some(task) = unsafe { self.head.get().as_ref() } {
            all.push(self.unlink(task));
        }
        all
    }
}

#[cfg(Py_3_12)]
const DOC: &std::ffi::CStr = c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\nA coroutine driven by the event loop (asyncio.Task).";
#[cfg(not(Py_3_12))]
const DOC: &std::ffi::CStr =
    c"Task(coro, *, loop=None, name=None, context=None)\n--\n\nA coroutine driven by the event loop (asyncio.Task).";

/// Is `coroutine` something a Task can drive? Non-native kinds ask `asyncio.iscoroutine`.
#[inline]
fn is_coroutine(coroutine: Raw) -> PyResult<bool> {
    let kind = object::type_of(coroutine);
    // SAFETY: a static type of the interpreter.
    if kind == &raw mut c::PyCoro_Type || kind == state().types.operation() {
        return Ok(true);
    }
    call::is_true(call::call1(imports::iscoroutine(), coroutine)?.as_ptr())
}

fn check_context(context: Option<Raw>) -> PyResult<()> {
    match context.filter(|context| !object::is_none(*context) && !context::check(*context)) {
        None => Ok(()),
        Some(other) => {
            #[cfg(Py_3_15)]
            let kind = object::qualified_type_name(other)?;
            #[cfg(not(Py_3_15))]
            let kind = object::full_type_name(other);
            Err(type_error(&format!("a contextvars.Context was expected, got {kind}")))
        }
    }
}

impl Task {
    /// `loop.create_task(coroutine)` of a plain native loop without a task factory.
    #[inline]
    pub(crate) fn create(
        event_loop: &EventLoop,
        coroutine: Raw,
        name: Option<Raw>,
        context: Option<Raw>,
        eager_start: bool,
    ) -> PyResult<Own<Task>> {
        // asyncio before 3.15 finds out when it calls context.run, and the task never ends.
        check_context(context)?;
        let obj = match FREE_TASKS.pop(Task::type_object()) {
            Some(obj) => obj,
            None => Future::note_uncounted(types::allocate_uncounted::<Task>()?),
        };
        // SAFETY: freshly made of this very type.
        let task = unsafe { Own::<Task>::from_obj_unchecked(obj) };
        task.future.attach(event_loop)?;
        task.hide(event_loop);
        if eager_start || !event_loop.is_in_run() || !event_loop.is_plain() {
            task.show();
        }
        task.start(coroutine, name, context, eager_start)?;
        Ok(task)
    }

    /// The part of `__init__` after the future's own.
    #[inline]
    fn start(&self, coroutine: Raw, name: Option<Raw>, context: Option<Raw>, eager_start: bool) -> PyResult<()> {
        if !is_coroutine(coroutine)? {
            self.put(LOG_DESTROY, false);
            return Err(type_error(&format!(
                "a coroutine was expected, got {}",
                call::repr(coroutine)?
            )));
        }
        #[cfg(Py_3_15)]
        check_context(context).inspect_err(|_| self.put(LOG_DESTROY, false))?;
        let context = match context.filter(|context| !object::is_none(*context)) {
            Some(context) => Obj::from_borrowed(context),
            None => context::copy_current()?,
        };
        self.context.set_option(Some(context));
        self.waiter.clear();
        self.flags.set(self.flags.get() & (LINKED | HIDDEN) | LOG_DESTROY);
        self.cancel_requests.set(0);
        self.coroutine.set_option(Some(Obj::from_borrowed(coroutine)));
        match name.filter(|name| !object::is_none(*name)) {
            None => {
                // Numbers are given at creation, as asyncio's; the string is made when somebody asks.
                self.number.set(Self::take_number());
                self.name.clear();
            }
            Some(name) => self.set_name(name)?,
        }
        if eager_start && self.is_loop_running()? {
            return self.start_eagerly();
        }
        match self.future.native_loop() {
            Some(native) => {
                native.check_can_schedule()?;
                self.link(native);
                native.schedule_task(self.own())
            }
            None => {
                self.schedule_step_on_foreign_loop()?;
                registry::register_foreign(self)
            }
        }
    }

    /// A fresh one, not tracked yet.
    #[inline]
    fn hide(&self, native: &EventLoop) {
        self.put(HIDDEN, true);
        let hidden = &native.tasks().hidden;
        hidden.set(hidden.get() + 1);
    }

    /// It is done, or dead.
    #[inline]
    fn leave_hiding(&self) {
        self.put(HIDDEN, false);
        // SAFETY: only `create` hides a task, and its loop is an EventLoop.
        let native = unsafe { &*self.future.event_loop.ptr().cast::<EventLoop>() };
        let hidden = &native.tasks().hidden;
        hidden.set(hidden.get().saturating_sub(1));
    }

    /// Lets the collector see it.
    pub(crate) fn show(&self) {
        if self.has(HIDDEN) {
            self.leave_hiding();
            // SAFETY: an untracked GC object (I4), its fields whole.
            unsafe { c::PyObject_GC_Track(self.raw().cast()) };
        }
    }

    /// It is done, and the caller's reference goes next: lets the collector see it if somebody else has one.
    #[inline]
    pub(crate) fn show_if_held(&self) {
        if self.has(HIDDEN) {
            if is_unique(self) {
                return;
            }
            self.show();
        }
    }

    #[inline]
    pub(crate) fn link(&self, native: &EventLoop) {
        if !self.has(LINKED) {
            native.tasks().link(self.own());
        }
    }

    /// Before it gets another loop, by an `__init__` of its own or of `Future`: the loop it was made for knows it no more.
    /// The caller drops the reference last.
    pub(crate) fn leave_loop(&self) -> Option<Obj> {
        self.show();
        self.unlink()
    }

    /// After the task is done: out of the list; the caller drops the reference last.
    #[inline]
    pub(crate) fn unlink(&self) -> Option<Obj> {
        if !self.has(LINKED) {
            return None;
        }
        // SAFETY: only `link` sets LINKED, for a task whose loop is an EventLoop (I1).
        let native = unsafe { &*self.future.event_loop.ptr().cast::<EventLoop>() };
        Some(native.tasks().unlink(self))
    }

    fn is_loop_running(&self) -> PyResult<bool> {
        if let Some(native) = self.future.native_loop() {
            return Ok(native.is_running());
        }
        let event_loop = self.future.event_loop.get_or_none();
        call::is_true(call::call_method(names::is_running(), &[event_loop.as_ptr()], None)?.as_ptr())
    }

    fn schedule_step_on_foreign_loop(&self) -> PyResult<()> {
        self.call_soon_foreign(step_function(&self.obj())?.as_ptr(), None)
    }

    /// A native future of a foreign loop is done: `loop.call_soon(wakeup, future, context=…)`.
    pub(crate) fn schedule_wakeup(&self, future: &Future) -> PyResult<()> {
        self.call_soon_foreign(wakeup_function(&self.obj())?.as_ptr(), Some(future.raw()))
    }

    fn call_soon_foreign(&self, function: Raw, argument: Option<Raw>) -> PyResult<()> {
        let event_loop = self.future.event_loop.get_or_none();
        let context = self.context.get_or_none();
        let kwnames = call::tuple(&[names::context()])?;
        let mut all = vec![event_loop.as_ptr(), function];
        all.extend(argument);
        all.push(context.as_ptr());
        call::call_method(names::call_soon(), &all, Some(&kwnames)).map(drop)
    }

    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    #[inline]
    pub(crate) fn put(&self, flag: u8, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
    }

    /// The number of the next task without a name.
    #[inline]
    pub(crate) fn take_number() -> u64 {
        NAMES_GIVEN.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn set_name(&self, name: Raw) -> PyResult<()> {
        // SAFETY: A1; a string stays what it is, anything else becomes one.
        let name = owned(unsafe {
            if c::PyUnicode_CheckExact(name) != 0 {
                c::Py_NewRef(name)
            } else {
                c::PyObject_Str(name)
            }
        })?;
        self.number.set(0);
        self.name.set(name);
        Ok(())
    }

    pub(crate) fn name(&self) -> PyResult<Obj> {
        if !self.name.is_set() {
            if self.number.get() == 0 {
                return Ok(Obj::none());
            }
            self.name.set(call::string(&format!("Task-{}", self.number.get()))?);
        }
        Ok(self.name.get_or_none())
    }

    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        for slot in [&self.coroutine, &self.waiter, &self.context, &self.name] {
            let code = slot.traverse(visit, arg);
            if code != 0 {
                return code;
            }
        }
        self.future.traverse(visit, arg)
    }

    fn clear(&self) {
        self.coroutine.clear();
        self.waiter.clear();
        self.context.clear();
        self.name.clear();
        self.future.clear();
    }
}

// ---- bound functions that foreign loops and futures call -----------------------------------------

fn wakeup_definition() -> &'static Method {
    static DEFINITION: OnceLock<SyncMethod> = OnceLock::new();
    &DEFINITION
        .get_or_init(|| {
            SyncMethod(onearg!(
                c"task_wakeup",
                Task,
                step::wakeup,
                c"Step the task a future woke."
            ))
        })
        .0
}

fn step_definition() -> &'static Method {
    static DEFINITION: OnceLock<SyncMethod> = OnceLock::new();
    &DEFINITION
        .get_or_init(|| SyncMethod(fastcall!(c"task_step", Task, step::step_from_python, c"Step the task.")))
        .0
}

struct SyncMethod(Method);
// SAFETY: a method definition is constant data.
unsafe impl Send for SyncMethod {}
// SAFETY: as above.
unsafe impl Sync for SyncMethod {}

pub(crate) fn wakeup_function(task: &Obj) -> PyResult<Obj> {
    Method::bind(&wakeup_definition().0, task)
}

pub(crate) fn step_function(task: &Obj) -> PyResult<Obj> {
    Method::bind(&step_definition().0, task)
}

// ---- the Python surface ------------------------------------------------------------------------

fn py_cancel(this: &Task, args: Args<'_>) -> PyResult<bool> {
    let [message] = args.bind("cancel", &[c"msg"], 1, 0)?;
    cancel::cancel(this, message)
}

fn py_cancelling(this: &Task) -> PyResult<Obj> {
    call::int(i64::from(this.cancel_requests.get()))
}

fn py_uncancel(this: &Task) -> PyResult<Obj> {
    call::int(i64::from(cancel::uncancel(this)))
}

fn py_get_name(this: &Task) -> PyResult<Obj> {
    this.name()
}

fn py_set_name(this: &Task, name: Raw) -> PyResult<()> {
    this.set_name(name)
}

fn py_get_coro(this: &Task) -> PyResult<Obj> {
    Ok(this.coroutine.get_or_none())
}

fn py_get_context(this: &Task) -> PyResult<Obj> {
    Ok(this.context.get_or_none())
}

fn py_get_stack(this: &Task, args: Args<'_>) -> PyResult<Obj> {
    let [limit] = args.bind("get_stack", &[c"limit"], 0, 0)?;
    let limit = limit.map_or_else(Obj::none, Obj::from_borrowed);
    call::call(helper("task_get_stack")?.as_ptr(), &[this.raw(), limit.as_ptr()], None)
}

fn py_print_stack(this: &Task, args: Args<'_>) -> PyResult<Obj> {
    let [limit, file] = args.bind("print_stack", &[c"limit", c"file"], 0, 0)?;
    let limit = limit.map_or_else(Obj::none, Obj::from_borrowed);
    let file = file.map_or_else(Obj::none, Obj::from_borrowed);
    call::call(
        helper("task_print_stack")?.as_ptr(),
        &[this.raw(), limit.as_ptr(), file.as_ptr()],
        None,
    )
}

fn py_set_result(_this: &Task, _result: Raw) -> PyResult<()> {
    Err(runtime_error("Task does not support set_result operation"))
}

fn py_set_exception(_this: &Task, _exception: Raw) -> PyResult<()> {
    Err(runtime_error("Task does not support set_exception operation"))
}

fn py_repr(this: &Task) -> PyResult<Obj> {
    call::call1(helper("task_repr")?.as_ptr(), this.raw())
}

fn show_fut_waiter(this: &Task) -> PyResult<Obj> {
    Ok(if this.has(THROW) {
        Obj::none()
    } else {
        this.waiter.get_or_none()
    })
}

fn show_must_cancel(this: &Task) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(MUST_CANCEL)))
}

fn show_log_destroy(this: &Task) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(LOG_DESTROY)))
}

fn set_log_destroy(this: &Task, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| cannot_delete(this.raw(), "_log_destroy_pending"))?;
    this.put(LOG_DESTROY, call::is_true(value)?);
    Ok(())
}

fn show_cancel_requests(this: &Task) -> PyResult<Obj> {
    py_cancelling(this)
}

unsafe extern "C" fn task_init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let names = &[c"coro", c"loop", c"name", c"context", c"eager_start"];
            let [coroutine, event_loop, name, context, eager] = args.bind("Task", names, 1, 1)?;
            if eager.is_some() && cfg!(not(Py_3_12)) {
                return Err(type_error("Task() got an unexpected keyword argument 'eager_start'"));
            }
            // SAFETY: tp_init's receiver.
            let this = unsafe { &*slf.cast::<Task>() };
            this.future.init(event_loop)?;
            let eager = eager.map_or(Ok(false), call::is_true)?;
            this.start(coroutine.unwrap_or(ptr::null_mut()), name, context, eager)
        })
    })
}

unsafe extern "C" fn task_traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    // SAFETY: tp_traverse's receiver.
    unsafe { &*slf.cast::<Task>() }.traverse(visit, arg)
}

unsafe extern "C" fn task_clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        unsafe { &*slf.cast::<Task>() }.clear();
        Ok(())
    })
}

fn report_destroyed(this: &Task) -> PyResult<()> {
    let Some(event_loop) = this.future.event_loop.get() else {
        return Ok(());
    };
    let details = call::dict()?;
    call::dict_set(&details, "task", this.raw())?;
    let message = call::string("Task was destroyed but it is pending!")?;
    call::dict_set(&details, "message", message.as_ptr())?;
    if let Some(stack) = this.future.source_traceback() {
        call::dict_set(&details, "source_traceback", stack.as_ptr())?;
    }
    call::call_method(
        names::call_exception_handler(),
        &[event_loop.as_ptr(), details.as_ptr()],
        None,
    )
    .map(drop)
}

fn needs_finalizer(this: &Task) -> bool {
    this.future.log_traceback.get() || (!this.future.is_done() && this.has(LOG_DESTROY))
}

unsafe extern "C" fn task_finalize(slf: Raw) {
    // SAFETY: tp_finalize's receiver.
    let this = unsafe { &*slf.cast::<Task>() };
    if !needs_finalizer(this) {
        return;
    }
    trampoline::enter_void(|| {
        let interrupted = error::take_if_any();
        if !this.future.is_done() && this.has(LOG_DESTROY) && report_destroyed(this).is_err() {
            error::write_unraisable(slf);
        }
        if this.future.log_traceback.get() && this.future.report_unretrieved().is_err() {
            error::write_unraisable(slf);
        }
        if let Some(interrupted) = interrupted {
            let Raised = error::restore(interrupted);
        }
    });
}

unsafe extern "C" fn task_dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<Task>() };
        if needs_finalizer(this) {
            // The finaliser shows it to Python code, which may keep it.
            this.show();
            // SAFETY: A1; a negative answer means the finaliser brought the object back to life.
            if unsafe { c::PyObject_CallFinalizerFromDealloc(slf) } < 0 {
                return;
            }
        }
        if this.has(HIDDEN) {
            this.leave_hiding();
        } else {
            // SAFETY: a GC object.
            unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        }
        trash::free_shallowly(slf, free_dead);
    });
}

/// The rest of a dead, untracked object.
fn free_dead(slf: Raw) {
    // SAFETY: dead but whole.
    let this = unsafe { &*slf.cast::<Task>() };
    if !this.future.weaklist_is_empty() {
        // SAFETY: A1; the type has a weaklist offset.
        unsafe { c::PyObject_ClearWeakRefs(slf) };
    }
    this.clear();
    this.future.reset();
    this.flags.set(0);
    this.cancel_requests.set(0);
    this.number.set(0);
    // SAFETY: a GC object.
    let fresh = unsafe { c::PyObject_GC_IsFinalized(slf) } == 0;
    let kind = object::type_of(slf);
    if !(kind == Task::type_object() && fresh && FREE_TASKS.push(slf)) {
        this.future.free_memory();
    }
}

pub(crate) fn build_type(module: Raw, metaclass: Raw, future: &Obj) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Task",
        DOC,
        size_of::<Task>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.bases = vec![future.as_ptr()];
    spec.metaclass = Some(metaclass);
    spec.methods = vec![
        fastcall!(c"cancel", Task, py_cancel, c"cancel($self, /, msg=None)\n--\n\nAsk the task to cancel itself at its next step; False if it is done."),
        noargs!(c"cancelling", Task, py_cancelling, c"cancelling($self, /)\n--\n\nThe number of cancellation requests not undone."),
        noargs!(c"uncancel", Task, py_uncancel, c"uncancel($self, /)\n--\n\nUndo one cancellation request; returns how many remain."),
        noargs!(c"get_name", Task, py_get_name, c"get_name($self, /)\n--\n\nThe task's name."),
        onearg!(c"set_name", Task, py_set_name, c"set_name($self, value, /)\n--\n\nSet the task's name; any object is turned into a string."),
        noargs!(c"get_coro", Task, py_get_coro, c"get_coro($self, /)\n--\n\nThe coroutine the task drives."),
        fastcall!(c"get_stack", Task, py_get_stack, c"get_stack($self, /, *, limit=None)\n--\n\nThe stack frames of the task's coroutine, as a list."),
        fastcall!(c"print_stack", Task, py_print_stack, c"print_stack($self, /, *, limit=None, file=None)\n--\n\nPrint the stack or traceback of the task's coroutine."),
        onearg!(c"set_result", Task, py_set_result, c"set_result($self, result, /)\n--\n\nNot for tasks: raises RuntimeError."),
        onearg!(c"set_exception", Task, py_set_exception, c"set_exception($self, exception, /)\n--\n\nNot for tasks: raises RuntimeError."),
    ];
    if cfg!(Py_3_12) {
        spec.methods.push(noargs!(
            c"get_context",
            Task,
            py_get_context,
            c"get_context($self, /)\n--\n\nThe contextvars.Context the coroutine runs in."
        ));
    }
    spec.properties = vec![
        property!(c"_fut_waiter", Task, show_fut_waiter),
        property!(c"_must_cancel", Task, show_must_cancel),
        property!(c"_coro", Task, py_get_coro),
        property!(c"_context", Task, py_get_context),
        property!(c"_num_cancels_requested", Task, show_cancel_requests),
        property!(c"_log_destroy_pending", Task, show_log_destroy, set_log_destroy),
    ];
    spec.slots = vec![
        (c::Py_tp_init, task_init as *mut c_void),
        (c::Py_tp_traverse, task_traverse as *mut c_void),
        (c::Py_tp_clear, task_clear as *mut c_void),
        (c::Py_tp_finalize, task_finalize as *mut c_void),
        (c::Py_tp_dealloc, task_dealloc as *mut c_void),
        trampoline::unary_slot!(c::Py_tp_repr, Task, py_repr),
    ];
    spec.build(module)
}
