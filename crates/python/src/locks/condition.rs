//! Condition: tasks that hold a lock wait for others to notify them (asyncio.Condition).
//!
//! Served natively is one whose lock is a plain Lock of ours; with any other lock the stdlib's functions do the work.
//! `acquire`, `release` and `locked` are the lock's, as attributes of the condition that can be replaced.
//!
//! Waiting is a part of several operations, also of those of Barrier: `wait` begins it, `resume` and `raised` go on, and
//! what comes after the wait is the function they are given.

use super::class::{ClassSpec, Waiters, method};
use super::lock::Lock;
use super::primitive::{self, Base, Class, Fit, Given, Primitive, receiver, repr_with, small_int, value_for};
use crate::ffi::error::{self, PyResult, Raised, attribute_error, runtime_error};
use crate::ffi::trampoline::{fastcall, property, unary_slot};
use crate::ffi::{Args, Native, Obj, Own, Raw, c, call, object};
use crate::operation::{Aside, Behaviour, Bound, Operation, Step};
use crate::state::imports;
use std::sync::atomic::{AtomicBool, Ordering};

/// The lock's place in what is held.
const LOCK: usize = 0;

#[repr(C)]
pub(super) struct Condition {
    base: Base,
}

static CONDITION: Class = Class::new();

/// Since 3.13 (and in whatever patch release has it) a task whose wait fails notifies another one, and it is the latest
/// cancellation itself that is raised.
static PASSES_ON: AtomicBool = AtomicBool::new(false);

fn passes_on() -> bool {
    PASSES_ON.load(Ordering::Relaxed)
}

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Condition {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        CONDITION.kind()
    }
}

// SAFETY: begins with a Base.
unsafe impl Primitive for Condition {
    const CLASS: &'static Class = &CONDITION;
    const INNER: &'static [&'static str] = &["acquire", "release", "locked", "wait", "notify", "_notify"];
    const ATTRIBUTES: &'static [&'static str] = &["_lock", "_waiters"];
    const BORROWED: &'static [&'static str] = &["acquire", "release", "locked"];
    const PARAMETER: Option<&'static str> = Some("lock");

    fn init(&self, given: Given) -> PyResult<Fit> {
        let lock = match given {
            Given::One(lock) if !object::is_none(lock) => Obj::from_borrowed(lock),
            _ => Lock::create()?,
        };
        self.base.held[LOCK].set(lock.clone());
        if self.is_plain() && Lock::plain(lock.as_ptr()).is_some() {
            return Ok(Fit::Yes);
        }
        for name in ["locked", "acquire", "release"] {
            let name = call::interned(name)?;
            let method = call::getattr(lock.as_ptr(), name.as_ptr())?;
            call::setattr(self.raw(), name.as_ptr(), method.as_ptr())?;
        }
        Ok(Fit::Yes)
    }
}

impl Condition {
    /// `Condition()`
    pub(super) fn create() -> PyResult<Obj> {
        call::call0(CONDITION.kind().cast())
    }

    /// `raw`, if it is served natively.
    #[inline]
    pub(super) fn native<'a>(raw: Raw) -> Option<&'a Condition> {
        Condition::of(raw).filter(|this| this.is_native())
    }

    #[inline]
    fn is_native(&self) -> bool {
        let lock = self.base.held[LOCK].ptr();
        self.is_plain() && !lock.is_null() && Lock::plain(lock).is_some()
    }

    /// The lock of one that is served natively.
    #[inline]
    pub(super) fn lock(&self) -> PyResult<Own<Lock>> {
        let lock = self.base.held[LOCK].ptr();
        if !lock.is_null()
            && let Some(lock) = Lock::of(lock)
        {
            return Ok(lock.own());
        }
        Err(runtime_error("the condition has got another lock meanwhile"))
    }

    /// `notify()`, or `notify_all()` without a count.
    #[inline]
    pub(super) fn notify(&self, count: Option<usize>) -> PyResult<()> {
        if !self.lock()?.is_locked() {
            return Err(runtime_error("cannot notify on un-acquired lock"));
        }
        self.base.waiters.wake(count, false)
    }
}

// ---- waiting -------------------------------------------------------------------------------------

/// What an operation does after its wait.
pub(super) type Then = fn(&Operation, PyResult<()>) -> PyResult<Step>;

/// In `Operation::point`: at which of the two awaits it is. The other bits are free.
const POINT_MASK: u8 = 1;
const NOTIFICATION: u8 = 0;
const LOCK_AGAIN: u8 = 1;

#[inline]
fn set_point(this: &Operation, point: u8) {
    this.point.set(this.point.get() & !POINT_MASK | point);
}

/// `await condition.wait()`
#[inline]
pub(super) fn wait(this: &Operation, condition: &Condition, then: Then) -> PyResult<Step> {
    let begun = match begin(condition) {
        Ok(begun) => begun,
        Err(raised) => return then(this, Err(raised)),
    };
    let future = begun.and_then(|future| {
        condition.base.line_up_with(this, &future)?;
        Ok(future)
    });
    match future {
        Ok(future) => {
            set_point(this, NOTIFICATION);
            this.wait_for(future)
        }
        Err(Raised) => {
            this.set_aside(Aside::Failure, error::take());
            lock_again(this, condition, then)
        }
    }
}

/// Makes the future and lets go of the lock, in the order of the running version: an error of the second kind comes when
/// the lock is given up already.
#[inline]
fn begin(condition: &Condition) -> PyResult<PyResult<Obj>> {
    let lock = condition.lock()?;
    if !lock.is_locked() {
        return Err(runtime_error("cannot wait on un-acquired lock"));
    }
    if passes_on() {
        let future = condition.base.create_future()?;
        lock.release()?;
        return Ok(Ok(future));
    }
    lock.release()?;
    Ok(condition.base.create_future())
}

/// For `Behaviour::resume`.
#[inline]
pub(super) fn resume(this: &Operation, condition: &Condition, then: Then) -> PyResult<Step> {
    if this.point.get() & POINT_MASK == NOTIFICATION {
        if condition.base.leave_for_good(this).is_err() {
            this.set_aside(Aside::Failure, error::take());
        }
        return lock_again(this, condition, then);
    }
    match condition.lock().and_then(|lock| lock.acquired(this)) {
        Ok(()) => settle(this, condition, then),
        Err(Raised) => fail(this, condition, error::take(), then),
    }
}

/// For `Behaviour::raised`.
pub(super) fn raised(this: &Operation, condition: &Condition, exception: Obj, then: Then) -> PyResult<Step> {
    if this.point.get() & POINT_MASK == NOTIFICATION {
        let exception = match condition.base.leave(this) {
            Ok(_) => exception,
            Err(Raised) => error::take(),
        };
        this.set_aside(Aside::Failure, exception);
        return lock_again(this, condition, then);
    }
    if let Err(Raised) = condition.lock().and_then(|lock| lock.not_acquired(this, &exception)) {
        return fail(this, condition, error::take(), then);
    }
    if !error::is_instance_of(exception.as_ptr(), imports::cancelled_error()) {
        return fail(this, condition, exception, then);
    }
    // It must have the lock, cancelled or not.
    if let Some(failure) = this.look_aside(Aside::Failure) {
        error::chain(&exception, &failure);
    }
    this.set_aside(Aside::Cancellation, exception);
    lock_again(this, condition, then)
}

#[inline]
fn lock_again(this: &Operation, condition: &Condition, then: Then) -> PyResult<Step> {
    set_point(this, LOCK_AGAIN);
    match condition.lock().and_then(|lock| lock.join(this)) {
        Ok(None) => settle(this, condition, then),
        Ok(Some(future)) => this.wait_for(future),
        Err(Raised) => fail(this, condition, error::take(), then),
    }
}

/// It has the lock again.
#[inline]
fn settle(this: &Operation, condition: &Condition, then: Then) -> PyResult<Step> {
    if !this.has_aside() {
        return then(this, Ok(()));
    }
    let failure = this.take_aside(Aside::Failure);
    let exception = match this.take_aside(Aside::Cancellation) {
        Some(cancellation) if passes_on() => Some(cancellation),
        Some(_) => {
            let fresh = call::call0(imports::cancelled_error())?;
            if let Some(failure) = &failure {
                error::chain(&fresh, failure);
            }
            Some(fresh)
        }
        None => failure,
    };
    match exception {
        Some(exception) => raise(this, condition, exception, then),
        None => then(this, Ok(())),
    }
}

/// The lock cannot be had again.
#[cold]
fn fail(this: &Operation, condition: &Condition, exception: Obj, then: Then) -> PyResult<Step> {
    drop(this.take_aside(Aside::Cancellation));
    if let Some(failure) = this.take_aside(Aside::Failure) {
        error::chain(&exception, &failure);
    }
    raise(this, condition, exception, then)
}

#[cold]
fn raise(this: &Operation, condition: &Condition, exception: Obj, then: Then) -> PyResult<Step> {
    if passes_on()
        && let Err(raised) = condition.base.waiters.wake(Some(1), false)
    {
        return then(this, Err(raised));
    }
    then(this, Err(error::restore(exception)))
}

// ---- the operations ------------------------------------------------------------------------------

fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(Condition::native) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

fn waited(_this: &Operation, outcome: PyResult<()>) -> PyResult<Step> {
    outcome.map(|()| Step::Done(Obj::bool(true)))
}

static WAIT: Behaviour = primitive::behaviour(
    "Condition",
    "wait",
    create,
    |this| wait(this, receiver(this), waited),
    |this, _| resume(this, receiver(this), waited),
    |this, exception| raised(this, receiver(this), exception, waited),
);

/// `wait_for`: the second argument is the predicate.
fn check(this: &Operation, outcome: PyResult<()>) -> PyResult<Step> {
    outcome?;
    let predicate = this.second.get_or_none();
    let answer = call::call0(predicate.as_ptr())?;
    if call::is_true(answer.as_ptr())? {
        return Ok(Step::Done(answer));
    }
    drop((answer, predicate));
    wait(this, receiver(this), check)
}

static WAIT_FOR: Behaviour = Behaviour {
    parameters: &[c"self", c"predicate"],
    required: 2,
    ..primitive::behaviour(
        "Condition",
        "wait_for",
        create,
        |this| check(this, Ok(())),
        |this, _| resume(this, receiver(this), check),
        |this, exception| raised(this, receiver(this), exception, check),
    )
};

static ENTER: Behaviour = primitive::behaviour(
    "Condition",
    "__aenter__",
    create,
    |this| match receiver::<Condition>(this).lock()?.join(this)? {
        None => Ok(Step::Done(Obj::none())),
        Some(future) => this.wait_for(future),
    },
    |this, _| {
        receiver::<Condition>(this).lock()?.acquired(this)?;
        Ok(Step::Done(Obj::none()))
    },
    |this, exception| {
        receiver::<Condition>(this).lock()?.not_acquired(this, &exception)?;
        Err(error::restore(exception))
    },
);

static EXIT: Behaviour = primitive::exit(
    "Condition",
    |behaviour, bound| create(behaviour, bound.receiver()),
    |this| {
        receiver::<Condition>(this).lock()?.release()?;
        Ok(Step::Done(Obj::none()))
    },
);

// ---- the class -----------------------------------------------------------------------------------

fn notify(this: &Condition, args: Args<'_>) -> PyResult<Obj> {
    let count = match *args.positional() {
        [] if !args.has_keywords() => Some(1),
        [count] if !args.has_keywords() => small_int(count),
        _ => None,
    };
    if let Some(count) = count
        && this.is_native()
    {
        let count = usize::try_from(count).unwrap_or(0);
        return this.notify(Some(count)).map(|()| Obj::none());
    }
    CONDITION.forward(c"notify", this.raw(), args)
}

fn notify_all(this: &Condition) -> PyResult<Obj> {
    if this.is_native() {
        return this.notify(None).map(|()| Obj::none());
    }
    CONDITION.stdlib("notify_all", &[this.raw()])
}

fn repr(this: &Condition) -> PyResult<Obj> {
    let locked = if this.is_native() {
        this.lock()?.is_locked()
    } else {
        let answer = call::call_method(call::interned("locked")?.as_ptr(), &[this.raw()], None)?;
        call::is_true(answer.as_ptr())?
    };
    repr_with(&this.base, if locked { "locked" } else { "unlocked" })
}

fn show_lock(this: &Condition) -> PyResult<Obj> {
    Ok(this.base.held[LOCK].get_or_none())
}

fn set_lock(this: &Condition, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_lock")?;
    this.base.held[LOCK].set(Obj::from_borrowed(value));
    Ok(())
}

/// A method of the lock, unless another one stands in its place.
fn show_method(this: &Condition, name: &str) -> PyResult<Obj> {
    if let Some(own) = this.base.own_attribute(name)? {
        return Ok(own);
    }
    match this.base.held[LOCK].get() {
        // The lock may be another condition, or this one.
        Some(lock) => call::guarded(c" in a condition's lock", || {
            call::getattr(lock.as_ptr(), call::interned(name)?.as_ptr())
        }),
        None => Err(attribute_error(&format!(
            "'{}' object has no attribute '{name}'",
            object::type_name(this.raw())
        ))),
    }
}

macro_rules! method_of_lock {
    ($name:literal, $text:literal) => {{
        fn show(this: &Condition) -> PyResult<Obj> {
            show_method(this, $text)
        }
        fn replace(this: &Condition, value: Option<Raw>) -> PyResult<()> {
            this.base.set_own_attribute($text, value)
        }
        property!($name, Condition, show, replace)
    }};
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    let theirs = call::import_from("asyncio.locks", "Condition")?;
    let notifier = call::getattr_optional(theirs.as_ptr(), call::interned("_notify")?.as_ptr())?;
    PASSES_ON.store(notifier.is_some(), Ordering::Relaxed);
    ClassSpec {
        name: c"asyncio.locks.Condition",
        doc: c"Condition(lock=None)\n--\n\nTasks that hold a lock wait for others to notify them (asyncio.Condition).",
        base: None,
        waiters: Waiters::Always,
        methods: vec![
            fastcall!(
                c"notify",
                Condition,
                notify,
                c"notify($self, n=1)\n--\n\nWake so many of those who wait; RuntimeError if nobody holds the lock."
            ),
            method!(
                c"notify_all",
                Condition,
                notify_all,
                c"notify_all($self, /)\n--\n\nWake all who wait; RuntimeError if nobody holds the lock."
            ),
        ],
        properties: vec![
            property!(c"_lock", Condition, show_lock, set_lock),
            method_of_lock!(c"acquire", "acquire"),
            method_of_lock!(c"release", "release"),
            method_of_lock!(c"locked", "locked"),
        ],
        slots: vec![unary_slot!(c::Py_tp_repr, Condition, repr)],
        operations: vec![&WAIT, &WAIT_FOR, &ENTER, &EXIT],
        adopted: &["_notify"],
    }
    .build::<Condition>(module, metaclass)
}
