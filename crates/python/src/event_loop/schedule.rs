//! Scheduling: call_soon, call_later, call_at, call_soon_threadsafe, create_task.

use super::EventLoop;
use super::ready::Entry;
use crate::ffi::error::{PyResult, runtime_error, type_error};
use crate::ffi::{Args, Native, Obj, Own, Raised, Raw, c, call, context};
use crate::future::Future;
use crate::handle::{Handle, SCHEDULED, TimerHandle};
use crate::state::{helper, imports, names, state};
use crate::task::Task;
use crate::timeouts::Alarm;
use std::ffi::CStr;
use std::ptr;

/// With so many entries in the queue, a handle will wait long enough for the collector to come by.
const BURST_LEN: usize = 64;
/// Deadlines beyond this (292 years) are never.
const NEVER_NS: u64 = i64::MAX as u64;

/// The clock as `time.monotonic()` shows it.
#[inline]
pub(crate) fn seconds_now() -> f64 {
    reactor::now_ns() as f64 * 1e-9
}

/// A deadline in integer nanoseconds, never before the one asked for.
#[inline]
fn deadline_ns(when: f64) -> u64 {
    let ns = when * 1e9;
    // NaN fails the comparison, too.
    if ns > 0.0 {
        if ns < NEVER_NS as f64 {
            ns as u64 + u64::from((ns as u64 as f64) < ns)
        } else {
            NEVER_NS
        }
    } else {
        0
    }
}

impl EventLoop {
    #[inline]
    pub(crate) fn check_open(&self) -> PyResult<()> {
        if self.is_closed() {
            return Err(runtime_error("Event loop is closed"));
        }
        self.check_fork()
    }

    /// In debug mode: only the loop's own thread may schedule without `_threadsafe`.
    #[cold]
    fn check_thread(&self) -> PyResult<()> {
        if self.is_running() && !self.is_own_thread() {
            return Err(runtime_error(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            ));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn check_can_schedule(&self) -> PyResult<()> {
        self.check_open()?;
        if self.is_debug() { self.check_thread() } else { Ok(()) }
    }

    #[cold]
    fn check_callback(&self, callback: Raw, method: &str) -> PyResult<()> {
        let check = call::interned("_check_callback")?;
        let method = call::string(method)?;
        call::call_method(check.as_ptr(), &[self.raw(), callback, method.as_ptr()], None).map(drop)
    }

    /// Is a task of this loop a native one? Not with a task factory, and not where code has put a class of its
    /// own in place of asyncio's (nest_asyncio, tests): asyncio's loop would use that.
    #[inline]
    fn makes_own_tasks(&self) -> PyResult<bool> {
        if self.has_task_factory() {
            return Ok(false);
        }
        if !self.is_running() {
            self.look_for_other_classes()?;
        }
        Ok(!self.other_classes.get())
    }

    /// `loop.create_future()`.
    #[inline]
    pub(crate) fn create_future(&self) -> PyResult<Obj> {
        if !self.is_running() {
            self.look_for_other_classes()?;
        }
        if self.other_classes.get() {
            return call::call1(helper("create_future_as_asyncio")?.as_ptr(), self.raw());
        }
        Ok(Future::create(self)?.into_obj())
    }

    /// Once per run, and per call outside one: are the classes asyncio's, or ours?
    #[cold]
    pub(crate) fn look_for_other_classes(&self) -> PyResult<()> {
        let found = |module: Raw, name: Raw, theirs: Raw, ours: Raw| -> PyResult<bool> {
            let class = call::getattr(module, name)?;
            Ok(class.is(theirs) || class.is(ours))
        };
        let task = found(
            imports::tasks_module(),
            names::task_class(),
            imports::stdlib_task(),
            Task::type_object().cast(),
        )?;
        let future = found(
            imports::futures_module(),
            names::future_class(),
            imports::stdlib_future(),
            Future::type_object().cast(),
        )?;
        self.other_classes.set(!(task && future));
        Ok(())
    }

    /// A task goes into the queue as itself.
    #[inline]
    pub(crate) fn schedule_task(&self, task: Own<Task>) -> PyResult<()> {
        self.check_can_schedule()?;
        self.ready().push(Entry::task(task));
        Ok(())
    }

    /// Queues `entry` from any thread, and wakes the loop. A closed one gives it back.
    pub(crate) fn post(&self, entry: Entry) -> Result<(), Entry> {
        if self.is_closed() {
            return Err(entry);
        }
        if !self.is_running() || self.is_own_thread() {
            // Behind what this thread scheduled before, as asyncio's one queue has it.
            self.collect_posted();
            self.ready().push(entry);
            return Ok(());
        }
        let inner = self.inner();
        if inner.inbox.push(entry)?
            && let Some(waker) = inner.waker()
        {
            waker.notify();
        }
        // Who found it empty notifies: nothing of ours lets another thread come in between (A1).
        Ok(())
    }

    /// Completes `future` with None in the next turn.
    pub(crate) fn schedule_release(&self, future: Own<Future>) -> PyResult<()> {
        self.check_can_schedule()?;
        self.ready().push(Entry::future(future));
        Ok(())
    }

    /// `call_soon(callback, argument, context=context)` for future callbacks; no handle comes back.
    pub(crate) fn schedule_call(&self, callback: Raw, argument: Raw, context: Obj) -> PyResult<()> {
        self.check_can_schedule()?;
        let handle = Handle::create(self, callback, &[argument], context)?;
        self.ready().push(Entry::handle(handle));
        Ok(())
    }

    /// `call_soon(function)` with arguments, in a copy of the current context, from native code.
    pub(crate) fn call_soon_native(&self, function: Raw, arguments: &[Raw], context: Obj) -> PyResult<()> {
        self.check_open()?;
        let handle = Handle::create(self, function, arguments, context)?;
        self.ready().push(Entry::handle(handle));
        Ok(())
    }

    /// `is_due`: asyncio would run it next turn, so the next turn has to look.
    #[inline]
    fn push_timer(&self, when_ns: u64, entry: Entry, is_due: bool) {
        if is_due {
            self.force_poll.set(true);
        }
        // SAFETY: I2; pushing runs no Python code.
        unsafe { (*self.inner().timers.get()).push(when_ns, entry) };
    }

    /// Completes `future` with None after `delay` seconds: `sleep`'s own timer, without a handle.
    pub(crate) fn sleep_until_done(&self, future: &Future, delay: f64) -> PyResult<()> {
        self.check_can_schedule()?;
        let when = seconds_now() + delay;
        self.push_timer(deadline_ns(when), Entry::future(future.own()), false);
        Ok(())
    }

    /// Lets `alarm` go off at `when`: in the next turn, if that is not in the future.
    #[inline]
    pub(crate) fn schedule_alarm(&self, alarm: Own<Alarm>, when: f64) {
        if when <= seconds_now() {
            self.ready().push(Entry::alarm(alarm));
            return;
        }
        let queued = alarm.clone();
        // SAFETY: I2; pushing runs no Python code.
        let number = unsafe { (*self.inner().timers.get()).push(deadline_ns(when), Entry::alarm(queued)) };
        alarm.note_queued(number);
    }

    /// The alarm of this number, in the timer queue, is cancelled.
    #[inline]
    pub(crate) fn drop_alarm(&self, number: u64) {
        // SAFETY: I2; the entry drops after the borrow.
        match unsafe { (*self.inner().timers.get()).remove_if_last(number) } {
            Some(entry) => drop(entry),
            None => self.note_dead_timer(),
        }
    }

    /// One entry of the timer queue was cancelled by its owner. Compacts when most are dead.
    #[inline]
    pub(crate) fn note_dead_timer(&self) {
        // SAFETY: I2; dropping comes after the borrow.
        let dead = unsafe {
            let timers = &mut *self.inner().timers.get();
            timers.note_dead();
            if !timers.wants_compaction() {
                return;
            }
            timers.compact(|entry| !entry.is_dead())
        };
        drop(dead);
    }
}

/// What a `call_*` method received: the deadline or delay if it takes one, the callback, its arguments.
struct Call<'a> {
    time: Raw,
    callback: Raw,
    arguments: &'a [Raw],
}

/// Takes the leading parameters by position, as nearly everybody gives them, or else by name.
#[inline]
fn split<'a>(args: Args<'a>, method: &str, time: Option<&CStr>) -> PyResult<Call<'a>> {
    match (args.positional(), time) {
        ([callback, arguments @ ..], None) => Ok(Call {
            time: ptr::null_mut(),
            callback: *callback,
            arguments,
        }),
        ([time, callback, arguments @ ..], Some(_)) => Ok(Call {
            time: *time,
            callback: *callback,
            arguments,
        }),
        (given, _) => split_by_name(args, given, method, time),
    }
}

#[cold]
fn split_by_name<'a>(args: Args<'a>, given: &'a [Raw], method: &str, time: Option<&CStr>) -> PyResult<Call<'a>> {
    let callback = args.keyword(c"callback");
    let when = time.and_then(|time| given.first().copied().or_else(|| args.keyword(time)));
    match (time, when, callback) {
        (None, _, Some(callback)) => Ok(Call {
            time: ptr::null_mut(),
            callback,
            arguments: &[],
        }),
        (Some(_), Some(time), Some(callback)) => Ok(Call {
            time,
            callback,
            arguments: &[],
        }),
        _ => Err(missing_callback(method, given.len(), usize::from(time.is_some()))),
    }
}

#[cold]
fn missing_callback(method: &str, given: usize, skip: usize) -> Raised {
    let names: &[&str] = match (skip, given, method) {
        (0, ..) => &["callback"],
        (_, 0, "call_at") => &["when", "callback"],
        (_, 0, _) => &["delay", "callback"],
        _ => &["callback"],
    };
    let text = names
        .iter()
        .map(|name| format!("'{name}'"))
        .collect::<Vec<_>>()
        .join(" and ");
    let plural = if names.len() == 1 { "" } else { "s" };
    type_error(&format!(
        "BaseEventLoop.{method}() missing {} required positional argument{plural}: {text}",
        names.len()
    ))
}

#[inline]
fn context_of(args: Args<'_>, method: &str) -> PyResult<Obj> {
    match context_given(args, method)? {
        Some(context) => Ok(Obj::from_borrowed(context)),
        None => context::copy_current(),
    }
}

#[inline]
fn context_given(args: Args<'_>, method: &str) -> PyResult<Option<Raw>> {
    args.context_only(method, &[c"callback", c"delay", c"when"])
}

#[inline]
pub(crate) fn call_soon(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    let Call {
        callback, arguments, ..
    } = split(args, "call_soon", None)?;
    this.check_open()?;
    if this.is_debug() {
        this.check_thread()?;
        this.check_callback(callback, "call_soon")?;
    }
    let context = context_of(args, "BaseEventLoop.call_soon")?;
    let handle = Handle::create(this, callback, arguments, context)?;
    if this.ready().len() >= BURST_LEN {
        handle.hide_context();
    }
    this.ready().push(Entry::handle(handle.clone()));
    Ok(handle.into_obj())
}

pub(crate) fn call_soon_threadsafe(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    let Call {
        callback, arguments, ..
    } = split(args, "call_soon_threadsafe", None)?;
    this.check_open()?;
    if this.is_debug() {
        this.check_callback(callback, "call_soon_threadsafe")?;
    }
    let context = context_of(args, "BaseEventLoop.call_soon_threadsafe")?;
    let handle = Handle::create(this, callback, arguments, context)?;
    #[cfg(Py_3_14)]
    handle.put(crate::handle::SHARED, true);
    if this.is_running() && !this.is_own_thread() {
        handle.hide_context();
    }
    if this.post(Entry::handle(handle.clone())).is_err() {
        this.check_open()?;
    }
    Ok(handle.into_obj())
}

#[inline]
fn schedule_at(
    this: &EventLoop,
    when: f64,
    is_due: bool,
    callback: Raw,
    arguments: &[Raw],
    context: Obj,
) -> PyResult<Obj> {
    let timer = TimerHandle::create(this, when, callback, arguments, context)?;
    timer.handle.put(SCHEDULED, true);
    // SAFETY: TimerHandle starts with Handle.
    let entry = Entry::handle(unsafe { Own::<Handle>::from_obj_unchecked(timer.obj()) });
    this.push_timer(deadline_ns(when), entry, is_due);
    Ok(timer.into_obj())
}

#[inline]
pub(crate) fn call_later(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    let Call {
        time: delay,
        callback,
        arguments,
    } = split(args, "call_later", Some(c"delay"))?;
    if crate::ffi::object::is_none(delay) {
        return Err(type_error("delay must not be None"));
    }
    if this.other_call_at.get() {
        return call_later_by_call_at(this, delay, callback, arguments, args);
    }
    let now = seconds_now();
    let when = add_delay(now, delay)?;
    this.check_open()?;
    if this.is_debug() {
        this.check_thread()?;
        // asyncio's call_later goes through call_at, which names itself.
        this.check_callback(callback, "call_at")?;
    }
    let context = context_of(args, "BaseEventLoop.call_later")?;
    schedule_at(this, when, when <= now, callback, arguments, context)
}

#[cold]
fn call_later_by_call_at(
    this: &EventLoop,
    delay: Raw,
    callback: Raw,
    arguments: &[Raw],
    args: Args<'_>,
) -> PyResult<Obj> {
    let context = context_given(args, "BaseEventLoop.call_later")?.map_or_else(Obj::none, Obj::from_borrowed);
    let now = call::call_method(names::time(), &[this.raw()], None)?;
    // SAFETY: A1.
    let when = crate::ffi::error::owned(unsafe { c::PyNumber_Add(now.as_ptr(), delay) })?;
    let mut all = vec![this.raw(), when.as_ptr(), callback];
    all.extend_from_slice(arguments);
    all.push(context.as_ptr());
    let kwnames = call::tuple(&[names::context()])?;
    call::call_method(names::call_at(), &all, Some(&kwnames))
}

pub(crate) fn call_at(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    let Call {
        time: when,
        callback,
        arguments,
    } = split(args, "call_at", Some(c"when"))?;
    if crate::ffi::object::is_none(when) {
        return Err(type_error("when cannot be None"));
    }
    let given = when;
    let when = call::as_f64(given)?;
    this.check_open()?;
    if this.is_debug() {
        this.check_thread()?;
        this.check_callback(callback, "call_at")?;
    }
    let context = context_of(args, "BaseEventLoop.call_at")?;
    let timer = schedule_at(this, when, when <= seconds_now(), callback, arguments, context)?;
    // SAFETY: a static type of the interpreter.
    if unsafe { c::PyFloat_CheckExact(given) } == 0
        && let Some(timer) = TimerHandle::of(timer.as_ptr())
    {
        timer.when_given.set(Obj::from_borrowed(given));
    }
    Ok(timer)
}

/// `time() + delay`, with Python's own rules for what is neither float nor int.
#[inline]
fn add_delay(now: f64, delay: Raw) -> PyResult<f64> {
    // SAFETY: A1; static types of the interpreter.
    let is_number = unsafe { c::PyFloat_CheckExact(delay) != 0 || c::PyLong_CheckExact(delay) != 0 };
    if is_number {
        return Ok(now + call::as_f64(delay)?);
    }
    let now = call::float(now)?;
    // SAFETY: A1.
    let sum = crate::ffi::error::owned(unsafe { c::PyNumber_Add(now.as_ptr(), delay) })?;
    call::as_f64(sum.as_ptr())
}

/// `loop.create_task(coro)` without keywords.
#[inline]
pub(crate) fn create_task_of(this: &EventLoop, coroutine: Raw) -> PyResult<Obj> {
    if let Some(task) = create_own_task(this, coroutine, None)? {
        return finish_task(task);
    }
    call::call_method(call::interned("create_task")?.as_ptr(), &[this.raw(), coroutine], None)
}

/// The same, with a name or None, if that makes a Task of ours.
#[inline]
pub(crate) fn create_own_task(this: &EventLoop, coroutine: Raw, name: Option<Raw>) -> PyResult<Option<Own<Task>>> {
    if !this.makes_own_tasks()? || !this.has_plain_tasks() {
        return Ok(None);
    }
    this.check_open()?;
    Task::create(this, coroutine, name, None, false).map(Some)
}

#[inline]
pub(crate) fn create_task(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    this.check_open()?;
    if !this.makes_own_tasks()? {
        return create_task_as_asyncio(this, args);
    }
    if !args.has_keywords() && args.positional().len() == 1 {
        return finish_task(Task::create(this, args.positional()[0], None, None, false)?);
    }
    let [coroutine, name, context, eager] = args.bind(
        "BaseEventLoop.create_task",
        &[c"coro", c"name", c"context", c"eager_start"],
        1,
        1,
    )?;
    if eager.is_some() && !state().create_task_takes_eager_start {
        return Err(type_error(
            "BaseEventLoop.create_task() got an unexpected keyword argument 'eager_start'",
        ));
    }
    let eager = eager.map_or(Ok(false), call::is_true)?;
    finish_task(Task::create(
        this,
        coroutine.unwrap_or(ptr::null_mut()),
        name,
        context,
        eager,
    )?)
}

/// asyncio drops its own frame from the debug traceback; ours has none to drop.
#[inline]
fn finish_task(task: Own<Task>) -> PyResult<Obj> {
    Ok(task.into_obj())
}

/// The version's own create_task: it calls the task factory, or the class somebody put in `asyncio.tasks.Task`.
#[cold]
fn create_task_as_asyncio(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    args.forward_call(helper("create_task_with_factory")?.as_ptr(), this.raw())
}
