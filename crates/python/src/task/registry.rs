//! Which task runs, and what CPython's own C module must be told about it.
//!
//! The loop knows its current task; that is all our own `current_task` needs. Names imported from asyncio
//! before `install()` look elsewhere:
//! - up to 3.13 in the dict `asyncio.tasks._current_tasks`, keyed by loop. They hash the loop just before
//!   the look-up, so the loop's `tp_hash` puts the current task in there (`publish_for_lookup`), and the
//!   step takes it out again. A step nobody looked at pays nothing.
//! - from 3.14 in the thread state. It is switched when a different task runs than the one last told
//!   (`publish_switch`), and cleared before anything else runs, so that C tasks can enter.

use super::Task;
use crate::event_loop::EventLoop;
use crate::ffi::error::{PyResult, runtime_error};
use crate::ffi::{Args, Native, Obj, Raw, c, call, object};
use crate::state::{imports, state};
use std::ptr;

/// Who was current before an eager start.
pub(crate) enum Previous {
    Native(*const Task, Told),
    Foreign(Option<Obj>),
}

/// Makes `task` current while another may run, which `swap_back` makes current again.
#[inline]
pub(crate) fn swap_in(event_loop: &EventLoop, task: &Task) -> PyResult<Previous> {
    // Up to 3.13 telling CPython hashes the loop, which tells of the current task.
    let previous = event_loop.replace_current(ptr::null());
    // A C task that was started eagerly inside a native one stands there in its place; only CPython knows that.
    let told = if shows_what_was_told(event_loop) {
        Told::default()
    } else {
        put_aside(event_loop)
    };
    event_loop.replace_current(task);
    publish_switch(event_loop)?;
    Ok(Previous::Native(previous, told))
}

/// Ends what `swap_in` began.
#[inline]
pub(crate) fn swap_back(event_loop: &EventLoop, previous: *const Task, mut told: Told) -> PyResult<()> {
    if cfg!(Py_3_14) && told.published.is_none() {
        event_loop.replace_current(previous);
        return publish_switch(event_loop);
    }
    event_loop.replace_current(ptr::null());
    withdraw(event_loop);
    put_back(event_loop, &mut told);
    event_loop.replace_current(previous);
    Ok(())
}

/// Nobody has changed since what CPython was told. Where that is slow to find out the answer is no.
#[inline]
fn shows_what_was_told(event_loop: &EventLoop) -> bool {
    let published = event_loop.published.get();
    #[cfg(Py_3_14)]
    let unchanged = crate::ffi::thread::state_field::is_running_task(published);
    #[cfg(not(Py_3_14))]
    let unchanged = false;
    published.is_null() || unchanged
}

/// Makes `task` current on its native loop. Entering while another task runs is an error, as in asyncio.
#[inline]
pub(crate) fn enter(event_loop: &EventLoop, task: &Task) -> PyResult<()> {
    // SAFETY: the current task is alive: whoever steps it holds it.
    if let Some(running) = unsafe { event_loop.current_task().as_ref() } {
        return Err(cannot_enter(task, running));
    }
    event_loop.replace_current(task);
    publish_switch(event_loop)
}

#[cold]
fn cannot_enter(task: &Task, running: &Task) -> crate::ffi::Raised {
    let (Ok(task), Ok(running)) = (call::repr(task.raw()), call::repr(running.raw())) else {
        return crate::ffi::Raised;
    };
    runtime_error(&format!(
        "Cannot enter into task {task} while another task {running} is being executed."
    ))
}

/// The step is over.
#[inline]
pub(crate) fn leave(event_loop: &EventLoop, task: &Task) {
    event_loop.replace_current(ptr::null());
    #[cfg(not(Py_3_14))]
    {
        let _ = task;
        if !event_loop.published.get().is_null() {
            withdraw(event_loop);
        }
    }
    #[cfg(Py_3_14)]
    if task.future.is_done() {
        // The thread state must not keep a finished task alive.
        withdraw(event_loop);
    }
}

/// Tells the thread state, from 3.14 on, if the current task is not the one it knows.
#[inline]
pub(crate) fn publish_switch(event_loop: &EventLoop) -> PyResult<()> {
    #[cfg(Py_3_14)]
    {
        let current: Raw = event_loop.current_task().cast_mut().cast();
        if event_loop.published.get() != current {
            event_loop.published.set(current);
            if !crate::ffi::thread::state_field::switch_running_task(event_loop.raw(), current) {
                return tell_by_call(event_loop, current);
            }
        }
    }
    let _ = event_loop;
    Ok(())
}

/// Sets the thread state's running task (null for none), directly where its place is known.
#[cfg(Py_3_14)]
fn tell(event_loop: &EventLoop, task: Raw) -> PyResult<()> {
    if crate::ffi::thread::state_field::set_running_task(task) {
        return Ok(());
    }
    tell_by_call(event_loop, task)
}

#[cfg(Py_3_14)]
#[cold]
fn tell_by_call(event_loop: &EventLoop, task: Raw) -> PyResult<()> {
    let shown = if task.is_null() {
        Obj::none()
    } else {
        Obj::from_borrowed(task)
    };
    call::call(imports::swap_current_task(), &[event_loop.raw(), shown.as_ptr()], None).map(drop)
}

/// `_use_thread_state(running_loop, running_task)`: offsets CPython publishes, used if a look confirms them.
#[cfg(Py_3_14)]
pub(crate) fn use_thread_state(args: Args<'_>) -> PyResult<bool> {
    use crate::ffi::thread::state_field;
    let [loop_offset, task_offset] = args.bind("_use_thread_state", &[c"running_loop", c"running_task"], 2, 2)?;
    let offset = |value: Option<Raw>| call::as_i64(value.unwrap_or(ptr::null_mut())).map(|offset| offset as usize);
    let (loop_offset, task_offset) = (offset(loop_offset)?, offset(task_offset)?);
    if !state_field::is_plausible(loop_offset, task_offset)
        || !call::call0(imports::get_running_loop_or_none())?.is_none()
    {
        return Ok(false);
    }
    // Put two objects there the official way and see whether they arrive.
    let set_running_loop = call::import_from("_asyncio", "_set_running_loop")?;
    let (marker, witness) = (call::list()?, call::list()?);
    call::call1(set_running_loop.as_ptr(), marker.as_ptr())?;
    let swapped = call::call(imports::swap_current_task(), &[marker.as_ptr(), witness.as_ptr()], None);
    let confirmed =
        swapped.is_ok() && state_field::holds(loop_offset, &marker) && state_field::holds(task_offset, &witness);
    if swapped.is_ok() {
        call::call(
            imports::swap_current_task(),
            &[marker.as_ptr(), Obj::none().as_ptr()],
            None,
        )?;
    } else {
        crate::ffi::error::clear();
    }
    call::call1(set_running_loop.as_ptr(), Obj::none().as_ptr())?;
    if confirmed && state_field::is_null(task_offset) {
        state_field::use_offset(task_offset);
        return Ok(true);
    }
    Ok(false)
}

/// Takes back what was told; before C code that may look runs.
#[cold]
pub(crate) fn withdraw(event_loop: &EventLoop) {
    if event_loop.published.get().is_null() {
        return;
    }
    event_loop.published.set(ptr::null_mut());
    #[cfg(Py_3_14)]
    if tell(event_loop, std::ptr::null_mut()).is_err() {
        crate::ffi::error::clear();
    }
    #[cfg(not(Py_3_14))]
    {
        // SAFETY: A1; a dict. The loop's own tp_hash sees no current task any more.
        if unsafe { c::PyDict_DelItem(imports::current_tasks(), event_loop.raw()) } < 0 {
            crate::ffi::error::clear();
        }
    }
}

/// What CPython had been told when a run began inside another's callback.
#[derive(Default)]
pub(crate) struct Told {
    published: Option<Obj>,
    /// What its table said: nothing, where code took the current task off by hand (`_leave_task`).
    listed: Option<Obj>,
}

/// A run begins: nothing runs yet as far as CPython can see.
pub(crate) fn put_aside(event_loop: &EventLoop) -> Told {
    let published = event_loop.published.get();
    if published.is_null() {
        return Told::default();
    }
    let told = Told {
        published: Some(Obj::from_borrowed(published)),
        listed: listed(event_loop),
    };
    withdraw(event_loop);
    told
}

/// The run is over: CPython sees what it saw before.
pub(crate) fn put_back(event_loop: &EventLoop, told: &mut Told) {
    let Some(published) = told.published.take() else { return };
    event_loop.published.set(published.as_ptr());
    let Some(listed) = told.listed.take() else { return };
    #[cfg(Py_3_14)]
    let restored = tell(event_loop, listed.as_ptr()).is_ok();
    #[cfg(not(Py_3_14))]
    // SAFETY: A1; a dict.
    let restored = unsafe { c::PyDict_SetItem(imports::current_tasks(), event_loop.raw(), listed.as_ptr()) } == 0;
    if !restored {
        crate::ffi::error::clear();
    }
}

/// The task CPython's own table shows for the loop.
fn listed(event_loop: &EventLoop) -> Option<Obj> {
    let found = call::call1(imports::stdlib_current_task(), event_loop.raw());
    found.map_or_else(
        |_| {
            crate::ffi::error::clear();
            None
        },
        |task| Some(task).filter(|task| !task.is_none()),
    )
}

/// Up to 3.13: somebody hashes the loop, perhaps to look its current task up.
#[cfg(not(Py_3_14))]
pub(crate) fn publish_for_lookup(event_loop: &EventLoop) {
    let current: Raw = event_loop.current_task().cast_mut().cast();
    // Once told, the table is the truth until the step ends: code may take the task off by hand.
    if current.is_null() || !event_loop.published.get().is_null() || event_loop.publishing.replace(true) {
        return;
    }
    // SAFETY: A1; a dict. Setting hashes the loop again: `publishing` ends that recursion.
    let code = unsafe { c::PyDict_SetItem(imports::current_tasks(), event_loop.raw(), current) };
    event_loop.publishing.set(false);
    if code < 0 {
        crate::ffi::error::clear();
    } else {
        event_loop.published.set(current);
    }
}

/// A native task on a loop that is not ours: asyncio's own bookkeeping.
pub(crate) fn enter_foreign(event_loop: Raw, task: &Task) -> PyResult<()> {
    call::call(imports::enter_task(), &[event_loop, task.raw()], None).map(drop)
}

pub(crate) fn leave_foreign(event_loop: Raw, task: &Task) -> PyResult<()> {
    call::call(imports::leave_task(), &[event_loop, task.raw()], None).map(drop)
}

/// Replaces the current task of a foreign loop; gives back who was.
pub(crate) fn swap_foreign(event_loop: Raw, task: Option<Raw>) -> PyResult<Option<Obj>> {
    #[cfg(Py_3_12)]
    {
        let shown = task.map_or_else(Obj::none, Obj::from_borrowed);
        let previous = call::call(imports::swap_current_task(), &[event_loop, shown.as_ptr()], None)?;
        Ok(Some(previous).filter(|previous| !previous.is_none()))
    }
    #[cfg(not(Py_3_12))]
    {
        // Eager start came with 3.12.
        let _ = (event_loop, task);
        Ok(None)
    }
}

pub(crate) fn register_foreign(task: &Task) -> PyResult<()> {
    call::call1(imports::register_task(), task.raw()).map(drop)
}

/// `current_task(loop=None)`.
pub(crate) fn current_task(args: Args<'_>) -> PyResult<Obj> {
    let [given] = args.bind("current_task", &[c"loop"], 1, 0)?;
    match given.filter(|given| !object::is_none(*given)) {
        Some(given) => current_task_of(&Obj::from_borrowed(given)),
        None => current(),
    }
}

/// `current_task()`: a task, or None.
#[inline]
pub(crate) fn current() -> PyResult<Obj> {
    match EventLoop::running() {
        Some(running) => current_task_of(&running.obj()),
        None => current_task_of(&call::call0(imports::get_running_loop())?),
    }
}

/// The task that runs on `event_loop`, or None.
#[inline]
pub(crate) fn current_task_of(event_loop: &Obj) -> PyResult<Obj> {
    if let Some(native) = EventLoop::of(event_loop.as_ptr())
        && (native.published.get().is_null() || !native.is_own_thread())
    {
        // SAFETY: the current task is alive: whoever steps it holds it.
        if let Some(task) = unsafe { native.current_task().as_ref() } {
            return Ok(task.obj());
        }
    }
    // A C task, or code that took ours off by hand.
    let found = call::call1(imports::stdlib_current_task(), event_loop.as_ptr())?;
    if found.is_none() {
        return current_task_of_others(event_loop);
    }
    Ok(found)
}

/// Tasks written in Python are known to a `current_task` written in Python, which whoever uses them has put in place.
#[cold]
fn current_task_of_others(event_loop: &Obj) -> PyResult<Obj> {
    let name = call::interned("current_task")?;
    let in_place = call::getattr(imports::tasks_module(), name.as_ptr())?;
    // SAFETY: a static type of the interpreter.
    let is_python = object::type_of(in_place.as_ptr()) == &raw mut c::PyFunction_Type;
    if !is_python || in_place.is(imports::stdlib_current_task()) {
        return Ok(Obj::none());
    }
    call::call1(in_place.as_ptr(), event_loop.as_ptr())
}

/// `all_tasks(loop=None)`: ours and, for C tasks, asyncio's own answer.
pub(crate) fn all_tasks(args: Args<'_>) -> PyResult<Obj> {
    let [given] = args.bind("all_tasks", &[c"loop"], 1, 0)?;
    let event_loop = match given.filter(|given| !object::is_none(*given)) {
        Some(given) => Obj::from_borrowed(given),
        None => call::call0(imports::get_running_loop())?,
    };
    let set = call::call1(imports::stdlib_all_tasks(), event_loop.as_ptr())?;
    if let Some(native) = EventLoop::of(event_loop.as_ptr()) {
        let tasks: Vec<Obj> = native
            .tasks()
            .iter()
            .filter(|task| !task.future.is_done())
            .map(Native::obj)
            .collect();
        for task in tasks {
            // SAFETY: A1; a set.
            crate::ffi::error::status(unsafe { c::PySet_Add(set.as_ptr(), task.as_ptr()) })?;
        }
    }
    Ok(set)
}

/// Every pending native task of every loop, for the sets asyncio's own `all_tasks` looks at.
pub(crate) fn all_tasks_everywhere(args: Args<'_>) -> PyResult<Obj> {
    let [] = args.bind("all_tasks_everywhere", &[], 0, 0)?;
    let list = call::list()?;
    let mut tasks = Vec::new();
    EventLoop::for_each(|event_loop| tasks.extend(event_loop.tasks().iter().map(Native::obj)));
    for task in tasks {
        call::list_append(&list, task.as_ptr())?;
    }
    Ok(list)
}

/// `create_task(coro, *, name=None, context=None, …)` on the running loop.
pub(crate) fn create_task(args: Args<'_>) -> PyResult<Obj> {
    if let Some(running) = EventLoop::running()
        && running.has_plain_tasks()
        && !args.positional().is_empty()
    {
        let task = crate::event_loop::schedule::create_task(running, args)?;
        // Up to 3.12 asyncio names the task afterwards, so that it has had a number before.
        if cfg!(not(Py_3_13)) && args.has_keywords() && is_named(args) {
            Task::take_number();
        }
        return Ok(task);
    }
    // It knows which keywords the version hands on: a method that somebody wrote may take only those.
    args.forward(imports::stdlib_create_task())
}

fn is_named(args: Args<'_>) -> bool {
    let name = args.known_keywords(&[c"name", c"context"]).and_then(|[name, _]| name);
    name.is_some_and(|name| !object::is_none(name))
}

/// `ensure_future(coro_or_future, *, loop=None)`.
pub(crate) fn ensure_future(args: Args<'_>) -> PyResult<Obj> {
    let [given, event_loop] = args.bind("ensure_future", &[c"coro_or_future", c"loop"], 1, 1)?;
    ensure_future_of(given.unwrap_or(ptr::null_mut()), event_loop)
}

/// `ensure_future(given, loop=event_loop)`.
pub(crate) fn ensure_future_of(given: Raw, event_loop: Option<Raw>) -> PyResult<Obj> {
    let no_loop = match (
        event_loop.filter(|given| !object::is_none(*given)),
        EventLoop::running(),
    ) {
        (None, _) => true,
        // The running loop is what it would be without.
        (Some(event_loop), Some(running)) => {
            let is_its = |future: &crate::future::Future| future.event_loop.ptr() == event_loop;
            event_loop == running.raw() && crate::future::Future::of(given).is_none_or(is_its)
        }
        (Some(_), None) => false,
    };
    // SAFETY: a static type of the interpreter.
    let is_coroutine =
        object::type_of(given) == &raw mut c::PyCoro_Type || object::type_of(given) == state().types.operation();
    if no_loop
        && is_coroutine
        && let Some(running) = EventLoop::running()
    {
        return crate::event_loop::schedule::create_task_of(running, given);
    }
    if no_loop && (crate::future::Future::check_exact(given) || Task::check_exact(given)) {
        return Ok(Obj::from_borrowed(given));
    }
    let kwnames = call::tuple(&[call::interned("loop")?.as_ptr()])?;
    let event_loop = event_loop.map_or_else(Obj::none, Obj::from_borrowed);
    call::call(
        imports::stdlib_ensure_future(),
        &[given, event_loop.as_ptr()],
        Some(&kwnames),
    )
}
