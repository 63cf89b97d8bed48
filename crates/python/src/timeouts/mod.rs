//! `asyncio.timeouts`, native: Timeout, `timeout()`, `timeout_at()`, and `wait_for()`, which stands on them.
//!
//! On a native loop the timer is an `Alarm` in the loop's own queue. Everywhere else, in debug mode, for subclasses, for
//! deadlines that are no floats and for those that somebody else sets, it is what asyncio has:
//! `loop.call_at(when, self._on_timeout)`. For a subclass the stdlib's own `__aenter__` and `__aexit__` run; they find on
//! the object what they look for.
//!
//! Invariants
//! - I1: `alarm` is null or the alarm that owns a reference to this timeout. At most one of `alarm` and `handler` is set.
//! - I2: `when_given` is set unless the deadline is a float, which then is `when`.

mod alarm;
mod class;
mod wait_for;
mod waiter;

pub(crate) use alarm::Alarm;
pub(crate) use class::build;
pub(crate) use waiter::release_function;

use crate::event_loop::EventLoop;
use crate::event_loop::schedule::seconds_now;
use crate::ffi::error::{self, PyResult, Raised, owned, runtime_error};
use crate::ffi::freelist::FreeList;
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, context, object, types};
use crate::state::{imports, names};
use crate::task::{Task, cancel, registry};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

/// `asyncio.timeouts._State`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    Created = 0,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl State {
    const ALL: [State; 5] = [
        State::Created,
        State::Entered,
        State::Expiring,
        State::Expired,
        State::Exited,
    ];

    /// The enum member's name, and what texts call the state.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            State::Created => ("CREATED", "created"),
            State::Entered => ("ENTERED", "active"),
            State::Expiring => ("EXPIRING", "expiring"),
            State::Expired => ("EXPIRED", "expired"),
            State::Exited => ("EXITED", "finished"),
        }
    }
}

/// Cancel requests from before the body do not count (3.12).
const COUNTS_FROM_ENTRY: u8 = 1;
/// Subclasses of CancelledError become TimeoutError, too (gh-113848, in bug-fix releases).
const TAKES_SUBCLASSES: u8 = 2;
/// A CancelledError in the context of what is raised gets a TimeoutError before it (3.13).
const INSERTS_ERROR: u8 = 4;

/// How the running version's `__aexit__` decides.
static RULES: AtomicU8 = AtomicU8::new(0);

#[repr(C)]
pub(crate) struct Timeout {
    head: c::PyObject,
    task: Slot,
    handler: Slot,
    when_given: Slot,
    dict: Slot,
    weaklist: Cell<Raw>,
    alarm: Cell<*const Alarm>,
    when: Cell<f64>,
    /// `task.cancelling()` at the entry.
    cancelling: Cell<i64>,
    state: Cell<State>,
}

static TIMEOUT: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
static FREE_TIMEOUTS: FreeList<256> = FreeList::new();

// SAFETY: repr(C), header first; zero is valid for every field (State::Created is 0).
unsafe impl Native for Timeout {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        TIMEOUT.load(Ordering::Relaxed)
    }
}

/// The running loop, or asyncio's RuntimeError.
#[inline]
fn running_loop() -> PyResult<Obj> {
    match EventLoop::running() {
        Some(running) => Ok(running.obj()),
        None => call::call0(imports::get_running_loop()),
    }
}

/// A float or an int, no subclass: compares and adds as the machine does.
#[inline]
fn is_plain_number(value: Raw) -> bool {
    let kind = object::type_of(value);
    kind == &raw mut c::PyFloat_Type || kind == &raw mut c::PyLong_Type
}

impl Timeout {
    #[inline]
    fn allocate() -> PyResult<Own<Timeout>> {
        let obj = if let Some(obj) = FREE_TIMEOUTS.pop(Timeout::type_object()) {
            // SAFETY: an untracked GC object; dead ones have every field empty.
            unsafe { c::PyObject_GC_Track(obj.as_ptr().cast()) };
            obj
        } else {
            types::allocate(Timeout::type_object())?
        };
        // SAFETY: freshly made of this very type.
        Ok(unsafe { Own::<Timeout>::from_obj_unchecked(obj) })
    }

    /// `Timeout(when)`.
    #[inline]
    fn create_at(when: Raw) -> PyResult<Own<Timeout>> {
        let this = Timeout::allocate()?;
        this.set_when(when)?;
        Ok(this)
    }

    /// `timeout(delay)`.
    #[inline]
    fn create_after(delay: Raw) -> PyResult<Own<Timeout>> {
        if let Some(running) = EventLoop::running()
            && running.has_plain_timers()
            && is_plain_number(delay)
        {
            let this = Timeout::allocate()?;
            this.when.set(seconds_now() + call::as_f64(delay)?);
            return Ok(this);
        }
        let event_loop = running_loop()?;
        if object::is_none(delay) {
            return Timeout::create_at(delay);
        }
        let now = call::call_method(names::time(), &[event_loop.as_ptr()], None)?;
        // SAFETY: A1.
        let when = owned(unsafe { c::PyNumber_Add(now.as_ptr(), delay) })?;
        Timeout::create_at(when.as_ptr())
    }

    #[inline]
    fn set_when(&self, when: Raw) -> PyResult<()> {
        if object::type_of(when) == &raw mut c::PyFloat_Type {
            self.when.set(call::as_f64(when)?);
            self.when_given.clear();
        } else {
            self.when_given.set(Obj::from_borrowed(when));
        }
        Ok(())
    }

    fn when(&self) -> PyResult<Obj> {
        self.when_given.get().map_or_else(|| call::float(self.when.get()), Ok)
    }

    #[inline]
    fn alarm(&self) -> Option<Own<Alarm>> {
        // SAFETY: I1.
        unsafe { self.alarm.get().as_ref() }.map(Native::own)
    }

    /// Sets the timer for the deadline, if there is one.
    #[inline]
    fn arm(&self) -> PyResult<()> {
        let given = self.when_given.ptr();
        if given.is_null()
            && let Some(running) = EventLoop::running()
            && running.is_plain()
            && running.has_plain_timers()
            && !running.is_debug()
            && Timeout::check_exact(self.raw())
            // Otherwise the callback's context is not the task's.
            && self.task.ptr() == running.current_task().cast_mut().cast()
        {
            running.check_can_schedule()?;
            self.handler.clear();
            return Alarm::set(self, running, self.when.get());
        }
        if !given.is_null() && object::is_none(given) {
            self.handler.clear();
            return Ok(());
        }
        self.arm_with_handle()
    }

    #[cold]
    fn arm_with_handle(&self) -> PyResult<()> {
        let event_loop = running_loop()?;
        let when = self.when()?;
        let now = call::call_method(names::time(), &[event_loop.as_ptr()], None)?;
        // SAFETY: A1.
        let is_due = match unsafe { c::PyObject_RichCompareBool(when.as_ptr(), now.as_ptr(), c::Py_LE) } {
            code if code < 0 => return Err(Raised),
            code => code != 0,
        };
        let callback = self.callback()?;
        let handler = if is_due {
            call::call_method(names::call_soon(), &[event_loop.as_ptr(), callback.as_ptr()], None)?
        } else {
            call::call_method(
                names::call_at(),
                &[event_loop.as_ptr(), when.as_ptr(), callback.as_ptr()],
                None,
            )?
        };
        self.handler.set(handler);
        Ok(())
    }

    /// Cancels the timer, if there is one. The handler stays in its place, as asyncio's `reschedule` has it.
    #[inline]
    fn disarm(&self) -> PyResult<()> {
        if let Some(alarm) = self.alarm() {
            alarm.cancel();
        } else if let Some(handler) = self.handler.get() {
            call::call_method(names::cancel(), &[handler.as_ptr()], None)?;
        }
        Ok(())
    }

    /// `reschedule(when)`.
    fn reschedule(&self, when: Raw) -> PyResult<()> {
        match self.state.get() {
            State::Entered => {}
            State::Created if cfg!(Py_3_12) => return Err(runtime_error("Timeout has not been entered")),
            State::Created => return Err(assertion_error()),
            other => {
                return Err(runtime_error(&format!(
                    "Cannot change state of {} Timeout",
                    other.words().1
                )));
            }
        }
        self.set_when(when)?;
        self.disarm()?;
        self.arm()
    }

    /// `__aenter__`.
    #[inline]
    fn enter(&self) -> PyResult<()> {
        if cfg!(Py_3_12) {
            if self.state.get() != State::Created {
                return Err(runtime_error("Timeout has already been entered"));
            }
        } else {
            self.state.set(State::Entered);
        }
        let task = registry::current()?;
        if task.is_none() {
            return Err(runtime_error("Timeout should be used inside a task"));
        }
        let cancelling = match Task::of_exact(task.as_ptr()) {
            Some(native) => i64::from(native.cancel_requests.get()),
            None => call::as_i64(call::call_method(names::cancelling(), &[task.as_ptr()], None)?.as_ptr())?,
        };
        self.state.set(State::Entered);
        self.task.set(task);
        self.cancelling.set(cancelling);
        if cfg!(not(Py_3_12)) {
            // One that was used before may be entered again there.
            self.disarm()?;
        }
        self.arm()
    }

    /// `__aexit__(kind, exception, …)` up to its `raise`: is the exception to become a TimeoutError?
    #[inline]
    fn exit(&self, kind: Option<Raw>, exception: Option<&Obj>, rules: u8) -> PyResult<bool> {
        self.disarm()?;
        self.handler.clear();
        match self.state.get() {
            State::Entered => {
                self.state.set(State::Exited);
                Ok(false)
            }
            State::Expiring => self.exit_expired(kind, exception, rules),
            _ => Err(assertion_error()),
        }
    }

    #[cold]
    fn exit_expired(&self, kind: Option<Raw>, exception: Option<&Obj>, rules: u8) -> PyResult<bool> {
        self.state.set(State::Expired);
        let task = self.task.get_or_none();
        let left = match Task::of_exact(task.as_ptr()) {
            Some(native) => i64::from(cancel::uncancel(native)),
            None => call::as_i64(call::call_method(names::uncancel(), &[task.as_ptr()], None)?.as_ptr())?,
        };
        let allowed = if rules & COUNTS_FROM_ENTRY != 0 {
            self.cancelling.get()
        } else {
            0
        };
        let Some(kind) = kind.filter(|_| left <= allowed) else {
            return Ok(false);
        };
        let cancelled = imports::cancelled_error();
        if kind == cancelled || rules & TAKES_SUBCLASSES != 0 && error::is_instance_of(kind, cancelled) {
            return Ok(true);
        }
        if rules & INSERTS_ERROR != 0
            && let Some(exception) = exception
        {
            insert_timeout_errors(exception)?;
        }
        Ok(false)
    }

    /// `_on_timeout()`.
    pub(crate) fn expire(&self) -> PyResult<()> {
        if self.state.get() != State::Entered {
            return Err(assertion_error());
        }
        let task = self.task.get_or_none();
        match Task::of_exact(task.as_ptr()) {
            Some(native) => cancel::cancel(native, None).map(drop)?,
            None => call::call_method(names::cancel(), &[task.as_ptr()], None).map(drop)?,
        }
        self.state.set(State::Expiring);
        self.handler.clear();
        Ok(())
    }

    /// What a handle would call.
    pub(crate) fn callback(&self) -> PyResult<Obj> {
        call::getattr(self.raw(), names::on_timeout())
    }

    /// The context a handle would have: a copy of the one that set the timer, which is the task's.
    pub(crate) fn context_for_callback(&self) -> PyResult<Obj> {
        match Task::of(self.task.ptr()).map(|task| task.context.ptr()) {
            // SAFETY: A1; a live context.
            Some(context) if !context.is_null() => owned(unsafe { c::PyContext_Copy(context) }),
            _ => context::copy_current(),
        }
    }

    /// The handle asyncio would have in `_timeout_handler`, which somebody wants to see.
    fn show_handler(&self) -> PyResult<Obj> {
        if let Some(alarm) = self.alarm() {
            alarm.cancel();
            self.arm_with_handle()?;
        }
        Ok(self.handler.get_or_none())
    }
}

/// `AssertionError()`, of an `assert` without a text.
#[cold]
fn assertion_error() -> Raised {
    // SAFETY: A1; a static of the interpreter.
    unsafe { c::PyErr_SetNone(c::PyExc_AssertionError) };
    Raised
}

/// `TimeoutError() from cause`; without a cause, one that nobody named.
#[cold]
fn timeout_error(cause: Option<&Obj>) -> PyResult<Obj> {
    // SAFETY: a static of the interpreter.
    let made = call::call0(unsafe { c::PyExc_TimeoutError })?;
    let cause = cause.map_or(ptr::null_mut(), |cause| cause.clone().into_ptr());
    // SAFETY: A1; takes over the reference.
    unsafe { c::PyException_SetCause(made.as_ptr(), cause) };
    Ok(made)
}

/// Puts a TimeoutError before the first CancelledError in the context of `exception`, and of each one in a group.
#[cold]
fn insert_timeout_errors(exception: &Obj) -> PyResult<()> {
    insert_timeout_error(exception.clone())?;
    let group = call::import_from("builtins", "ExceptionGroup")?;
    if call::isinstance(exception.as_ptr(), group.as_ptr())? {
        let all = call::getattr(exception.as_ptr(), call::interned("exceptions")?.as_ptr())?;
        // SAFETY: A1; a group's exceptions are a tuple, and a subclass may say otherwise.
        let all = owned(unsafe { c::PySequence_Tuple(all.as_ptr()) })?;
        for index in 0..call::tuple_len(all.as_ptr()) {
            insert_timeout_error(Obj::from_borrowed(call::tuple_item(all.as_ptr(), index)))?;
        }
    }
    Ok(())
}

fn insert_timeout_error(mut exception: Obj) -> PyResult<()> {
    // SAFETY: A1; an exception instance.
    while let Some(context) = Obj::from_owned(unsafe { c::PyException_GetContext(exception.as_ptr()) }) {
        if error::is_instance_of(context.as_ptr(), imports::cancelled_error()) {
            let inserted = timeout_error(Some(&context))?;
            // SAFETY: A1; both setters take over a reference.
            unsafe {
                c::PyException_SetContext(inserted.as_ptr(), context.into_ptr());
                c::PyException_SetContext(exception.as_ptr(), inserted.into_ptr());
            }
            break;
        }
        exception = context;
    }
    Ok(())
}

// ---- functions of the module ---------------------------------------------------------------------

/// The only argument, by position or by name.
#[inline]
fn only(args: &Args<'_>, name: &std::ffi::CStr) -> Option<Raw> {
    match *args.positional() {
        [argument] if !args.has_keywords() => Some(argument),
        [] if args.keyword_count() == 1 => args.keyword(name),
        _ => None,
    }
}

/// `timeout(delay)`.
pub(crate) fn timeout(args: Args<'_>) -> PyResult<Obj> {
    match only(&args, c"delay") {
        Some(delay) => Timeout::create_after(delay).map(Own::into_obj),
        None => args.forward(imports::stdlib_timeout()),
    }
}

/// `timeout_at(when)`.
pub(crate) fn timeout_at(args: Args<'_>) -> PyResult<Obj> {
    match only(&args, c"when") {
        Some(when) => Timeout::create_at(when).map(Own::into_obj),
        None => args.forward(imports::stdlib_timeout_at()),
    }
}
