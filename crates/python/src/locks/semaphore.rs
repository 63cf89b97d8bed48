//! Semaphore and BoundedSemaphore: a limited number of tasks at a time (asyncio.Semaphore, asyncio.BoundedSemaphore).
//!
//! The counter is a native int. One that is anything else (a program may pass a float) is kept as it is, and then the
//! stdlib's functions do the work.
//!
//! Invariant
//! - I1: who is woken has its unit of the counter already: `wake_next` takes it.

use super::class::{ClassSpec, Waiters, method};
use super::primitive::{self, Base, Class, Fit, Given, Primitive, receiver, repr_with, small_int, value_for};
use crate::ffi::error::{self, PyResult, Raised, value_error};
use crate::ffi::trampoline::{property, unary_slot};
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::operation::{Behaviour, Bound, Operation, Step};
use crate::state::imports;
use crate::waiters;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is held: the value, if it is not a small int; the bound of a bounded one.
const ODD_VALUE: usize = 0;
const BOUND: usize = 1;

#[repr(C)]
struct Semaphore {
    base: Base,
    value: Cell<i64>,
}

#[repr(C)]
struct BoundedSemaphore {
    semaphore: Semaphore,
}

static SEMAPHORE: Class = Class::new();
static BOUNDED: Class = Class::new();

/// Since 3.13 (and in whatever patch release has it) a task that gets the semaphore, or gives up, lets in as many of the
/// others as the counter allows.
static WAKES_MANY: AtomicBool = AtomicBool::new(false);

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Semaphore {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        SEMAPHORE.kind()
    }
}

// SAFETY: as above.
unsafe impl Native for BoundedSemaphore {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        BOUNDED.kind()
    }
}

// SAFETY: begins with a Base.
unsafe impl Primitive for Semaphore {
    const CLASS: &'static Class = &SEMAPHORE;
    const INNER: &'static [&'static str] = &["acquire", "release", "locked", "_wake_up_next"];
    const ATTRIBUTES: &'static [&'static str] = &["_waiters", "_value"];
    const PARAMETER: Option<&'static str> = Some("value");

    fn init(&self, given: Given) -> PyResult<Fit> {
        let value = match given {
            Given::Nothing => 1,
            Given::One(value) => match small_int(value) {
                Some(value) if value >= 0 => value,
                _ => return Ok(Fit::No),
            },
        };
        self.value.set(value);
        self.base.held[ODD_VALUE].clear();
        Ok(if self.is_native() { Fit::Yes } else { Fit::No })
    }
}

// SAFETY: begins with a Base.
unsafe impl Primitive for BoundedSemaphore {
    const CLASS: &'static Class = &BOUNDED;
    const INNER: &'static [&'static str] = &["acquire", "release", "locked", "_wake_up_next"];
    const ATTRIBUTES: &'static [&'static str] = &["_bound_value", "_waiters", "_value"];
    const PARAMETER: Option<&'static str> = Some("value");

    fn init(&self, given: Given) -> PyResult<Fit> {
        let value = match given {
            Given::Nothing => call::int(1)?,
            Given::One(value) => Obj::from_borrowed(value),
        };
        self.semaphore.base.held[BOUND].set(value.clone());
        if self.semaphore.init(Given::One(value.as_ptr()))? == Fit::No {
            SEMAPHORE.stdlib("__init__", &[self.raw(), value.as_ptr()])?;
        }
        Ok(Fit::Yes)
    }
}

impl Semaphore {
    /// `raw`, if it is served natively.
    #[inline]
    fn native<'a>(raw: Raw) -> Option<&'a Semaphore> {
        Semaphore::of(raw).filter(|this| this.is_native())
    }

    #[inline]
    fn is_native(&self) -> bool {
        let class = if self.is_bounded() { &BOUNDED } else { &SEMAPHORE };
        class.is_plain(self.raw()) && !self.base.held[ODD_VALUE].is_set()
    }

    #[inline]
    fn is_bounded(&self) -> bool {
        object::type_of(self.raw()) != SEMAPHORE.kind() && BoundedSemaphore::check(self.raw())
    }

    #[inline]
    fn add(&self, units: i64) {
        self.value.set(self.value.get().wrapping_add(units));
    }

    /// Must a task wait, because of the counter or because others came first?
    #[inline]
    fn is_locked(&self) -> PyResult<bool> {
        Ok(self.value.get() == 0 || self.base.waiters.has_waiting()?)
    }

    #[inline]
    fn release(&self) -> PyResult<()> {
        if self.is_bounded() && self.is_full()? {
            return Err(too_many());
        }
        self.add(1);
        self.wake_next().map(drop)
    }

    fn is_full(&self) -> PyResult<bool> {
        let bound = self.base.held[BOUND].get_or_none();
        if let Some(bound) = small_int(bound.as_ptr()) {
            return Ok(self.value.get() >= bound);
        }
        let value = show_value(self)?;
        // SAFETY: A1.
        match unsafe { c::PyObject_RichCompareBool(value.as_ptr(), bound.as_ptr(), c::Py_GE) } {
            code if code < 0 => Err(Raised),
            code => Ok(code != 0),
        }
    }

    /// Wakes the first that is not awake yet (I1). Is there one?
    #[inline]
    fn wake_next(&self) -> PyResult<bool> {
        let Some(next) = self
            .base
            .waiters
            .find(|waiter| waiters::is_done(waiter).map(|done| !done))?
        else {
            return Ok(false);
        };
        self.add(-1);
        waiters::set_result(&next, Obj::bool(true))?;
        Ok(true)
    }

    #[inline]
    fn wake_many(&self) -> PyResult<()> {
        while self.value.get() > 0 && self.wake_next()? {}
        Ok(())
    }
}

#[cold]
fn too_many() -> Raised {
    value_error("BoundedSemaphore released too many times")
}

// ---- acquire -------------------------------------------------------------------------------------

fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(Semaphore::native) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

/// What the await is worth: True, or None for `__aenter__`.
#[inline]
fn end(this: &Operation) -> Step {
    Step::Done(if this.is(&ENTER) { Obj::none() } else { Obj::bool(true) })
}

fn start_acquire(this: &Operation) -> PyResult<Step> {
    let semaphore = receiver::<Semaphore>(this);
    if !semaphore.is_locked()? {
        semaphore.add(-1);
        return Ok(end(this));
    }
    semaphore.base.wait(this)
}

fn resume_acquire(this: &Operation, _value: Obj) -> PyResult<Step> {
    let semaphore = receiver::<Semaphore>(this);
    semaphore.base.leave_for_good(this)?;
    if WAKES_MANY.load(Ordering::Relaxed) {
        semaphore.wake_many()?;
    } else if semaphore.value.get() > 0 {
        semaphore.wake_next()?;
    }
    Ok(end(this))
}

fn raised_acquire(this: &Operation, exception: Obj) -> PyResult<Step> {
    let semaphore = receiver::<Semaphore>(this);
    let future = semaphore.base.leave(this)?;
    let wakes_many = WAKES_MANY.load(Ordering::Relaxed);
    if let Some(future) = future
        && error::is_instance_of(exception.as_ptr(), imports::cancelled_error())
        && (!wakes_many || waiters::is_done(&future)?)
        && !waiters::is_cancelled(&future)?
    {
        // It was woken, but is not going to take what it was given (I1).
        semaphore.add(1);
        if !wakes_many {
            semaphore.wake_next()?;
        }
    }
    if wakes_many {
        semaphore.wake_many()?;
    }
    Err(error::restore(exception))
}

static ACQUIRE: Behaviour = primitive::behaviour(
    "Semaphore",
    "acquire",
    create,
    start_acquire,
    resume_acquire,
    raised_acquire,
);

static ENTER: Behaviour = primitive::behaviour(
    "Semaphore",
    "__aenter__",
    create,
    start_acquire,
    resume_acquire,
    raised_acquire,
);

static EXIT: Behaviour = primitive::exit(
    "Semaphore",
    |behaviour, bound| create(behaviour, bound.receiver()),
    |this| receiver::<Semaphore>(this).release().map(|()| Step::Done(Obj::none())),
);

// ---- the classes ---------------------------------------------------------------------------------

fn locked(this: &Semaphore) -> PyResult<Obj> {
    if this.is_native() {
        return this.is_locked().map(Obj::bool);
    }
    SEMAPHORE.stdlib("locked", &[this.raw()])
}

/// `Semaphore.release`, which for a bounded one knows no bound.
fn release(this: &Semaphore) -> PyResult<Obj> {
    if this.is_native() {
        this.add(1);
        return this.wake_next().map(|_| Obj::none());
    }
    SEMAPHORE.stdlib("release", &[this.raw()])
}

fn release_bounded(this: &BoundedSemaphore) -> PyResult<Obj> {
    let this = &this.semaphore;
    if this.is_native() {
        return this.release().map(|()| Obj::none());
    }
    if this.is_full()? {
        return Err(too_many());
    }
    SEMAPHORE.stdlib("release", &[this.raw()])
}

fn repr(this: &Semaphore) -> PyResult<Obj> {
    let locked = if this.is_native() {
        this.is_locked()?
    } else {
        let answer = call::call_method(call::interned("locked")?.as_ptr(), &[this.raw()], None)?;
        call::is_true(answer.as_ptr())?
    };
    if locked {
        return repr_with(&this.base, "locked");
    }
    let value = call::getattr(this.raw(), call::interned("_value")?.as_ptr())?;
    // SAFETY: A1.
    let value = error::owned(unsafe { c::PyObject_Str(value.as_ptr()) })?;
    repr_with(
        &this.base,
        &format!("unlocked, value:{}", call::to_string(value.as_ptr())?),
    )
}

fn show_value(this: &Semaphore) -> PyResult<Obj> {
    match this.base.held[ODD_VALUE].get() {
        Some(odd) => Ok(odd),
        None => call::int(this.value.get()),
    }
}

fn set_value(this: &Semaphore, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_value")?;
    match small_int(value) {
        Some(value) => {
            this.value.set(value);
            this.base.held[ODD_VALUE].clear();
        }
        None => this.base.held[ODD_VALUE].set(Obj::from_borrowed(value)),
    }
    Ok(())
}

fn show_bound(this: &Semaphore) -> PyResult<Obj> {
    Ok(this.base.held[BOUND].get_or_none())
}

fn set_bound(this: &Semaphore, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_bound_value")?;
    this.base.held[BOUND].set(Obj::from_borrowed(value));
    Ok(())
}

/// Reads in the stdlib's `acquire` what it does at the end.
fn wakes_many() -> PyResult<bool> {
    let class = call::import_from("asyncio.locks", "Semaphore")?;
    let acquire = call::getattr(class.as_ptr(), call::interned("acquire")?.as_ptr())?;
    let code = call::getattr(acquire.as_ptr(), call::interned("__code__")?.as_ptr())?;
    let names = call::getattr(code.as_ptr(), call::interned("co_names")?.as_ptr())?;
    let done = call::interned("done")?;
    // SAFETY: A1.
    match unsafe { c::PySequence_Contains(names.as_ptr(), done.as_ptr()) } {
        code if code < 0 => Err(Raised),
        code => Ok(code != 0),
    }
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    WAKES_MANY.store(wakes_many()?, Ordering::Relaxed);
    ClassSpec {
        name: c"asyncio.locks.Semaphore",
        doc: c"Semaphore(value=1)\n--\n\nAt most so many tasks at a time (asyncio.Semaphore).",
        base: None,
        waiters: Waiters::OnceUsed,
        methods: vec![
            method!(
                c"locked",
                Semaphore,
                locked,
                c"locked($self, /)\n--\n\nTrue if acquire() would wait."
            ),
            method!(
                c"release",
                Semaphore,
                release,
                c"release($self, /)\n--\n\nLet one more task in."
            ),
        ],
        properties: vec![property!(c"_value", Semaphore, show_value, set_value)],
        slots: vec![unary_slot!(c::Py_tp_repr, Semaphore, repr)],
        operations: vec![&ACQUIRE, &ENTER, &EXIT],
        adopted: &["_wake_up_next"],
    }
    .build::<Semaphore>(module, metaclass)?;
    ClassSpec {
        name: c"asyncio.locks.BoundedSemaphore",
        doc: c"BoundedSemaphore(value=1)\n--\n\nA semaphore that is not released more often than it is acquired (asyncio.BoundedSemaphore).",
        base: Some(&SEMAPHORE),
        waiters: Waiters::OnceUsed,
        methods: vec![method!(
            c"release",
            BoundedSemaphore,
            release_bounded,
            c"release($self, /)\n--\n\nLet one more task in; ValueError if that would be more than at the beginning."
        )],
        properties: vec![property!(c"_bound_value", Semaphore, show_bound, set_bound)],
        slots: Vec::new(),
        operations: Vec::new(),
        adopted: &[],
    }
    .build::<BoundedSemaphore>(module, metaclass)
}
