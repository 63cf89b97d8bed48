//! Lock: mutual exclusion between tasks (asyncio.Lock).
//!
//! Invariant
//! - I1: a task that was woken (its future is done) and has not run yet is still in line, so nobody overtakes it.
//!
//! How to get the lock is here for all who do: Lock itself, and the operations of Condition and Barrier.

use super::class::{ClassSpec, Waiters, method};
use super::primitive::{self, Base, Class, Fit, Given, Primitive, create_for, flag, receiver, repr_with, value_for};
use crate::ffi::error::{self, PyResult, runtime_error};
use crate::ffi::trampoline::{property, unary_slot};
use crate::ffi::{Native, Obj, Raw, c, call};
use crate::operation::{Behaviour, Operation, Step};
use crate::state::imports;
use crate::waiters;
use std::cell::Cell;

#[repr(C)]
pub(super) struct Lock {
    base: Base,
    locked: Cell<bool>,
}

static LOCK: Class = Class::new();

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Lock {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        LOCK.kind()
    }
}

// SAFETY: begins with a Base.
unsafe impl Primitive for Lock {
    const CLASS: &'static Class = &LOCK;
    const INNER: &'static [&'static str] = &["acquire", "release", "_wake_up_first"];
    const ATTRIBUTES: &'static [&'static str] = &["_waiters", "_locked"];
    const PARAMETER: Option<&'static str> = None;

    fn init(&self, _given: Given) -> PyResult<Fit> {
        self.locked.set(false);
        Ok(if self.is_plain() { Fit::Yes } else { Fit::No })
    }
}

impl Lock {
    /// `Lock()`
    pub(super) fn create() -> PyResult<Obj> {
        call::call0(LOCK.kind().cast())
    }

    #[inline]
    pub(super) fn is_locked(&self) -> bool {
        self.locked.get()
    }

    /// Begins `await self.acquire()`. None: it is taken, as nobody holds it and nobody who still waits came before.
    /// Otherwise the future to wait for, in line.
    #[inline]
    pub(super) fn join(&self, this: &Operation) -> PyResult<Option<Obj>> {
        if !self.locked.get() && !self.base.waiters.has_waiting()? {
            self.locked.set(true);
            return Ok(None);
        }
        self.base.line_up(this).map(Some)
    }

    /// The future is done: it is taken.
    #[inline]
    pub(super) fn acquired(&self, this: &Operation) -> PyResult<()> {
        self.base.leave_for_good(this)?;
        self.locked.set(true);
        Ok(())
    }

    /// The wait has failed with `exception`, which the caller raises.
    pub(super) fn not_acquired(&self, this: &Operation, exception: &Obj) -> PyResult<()> {
        self.base.leave(this)?;
        if error::is_instance_of(exception.as_ptr(), imports::cancelled_error()) && !self.locked.get() {
            // Its turn may have come already: the next one's it is, then.
            self.wake_first()?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn release(&self) -> PyResult<()> {
        if !self.locked.get() {
            return Err(runtime_error("Lock is not acquired."));
        }
        self.locked.set(false);
        self.wake_first()
    }

    /// Ensures that the first in line will run.
    #[inline]
    fn wake_first(&self) -> PyResult<()> {
        match self.base.waiters.first()? {
            Some(first) if !waiters::is_done(&first)? => waiters::set_result(&first, Obj::bool(true)),
            _ => Ok(()),
        }
    }
}

// ---- acquire -------------------------------------------------------------------------------------

/// What the await is worth: True, or None for `__aenter__`.
#[inline]
fn end(this: &Operation) -> Step {
    Step::Done(if this.is(&ENTER) { Obj::none() } else { Obj::bool(true) })
}

fn start_acquire(this: &Operation) -> PyResult<Step> {
    match receiver::<Lock>(this).join(this)? {
        None => Ok(end(this)),
        Some(future) => this.wait_for(future),
    }
}

fn resume_acquire(this: &Operation, _value: Obj) -> PyResult<Step> {
    receiver::<Lock>(this).acquired(this)?;
    Ok(end(this))
}

fn raised_acquire(this: &Operation, exception: Obj) -> PyResult<Step> {
    receiver::<Lock>(this).not_acquired(this, &exception)?;
    Err(error::restore(exception))
}

static ACQUIRE: Behaviour = primitive::behaviour(
    "Lock",
    "acquire",
    create_for::<Lock>,
    start_acquire,
    resume_acquire,
    raised_acquire,
);

static ENTER: Behaviour = primitive::behaviour(
    "Lock",
    "__aenter__",
    create_for::<Lock>,
    start_acquire,
    resume_acquire,
    raised_acquire,
);

static EXIT: Behaviour = primitive::exit(
    "Lock",
    |behaviour, bound| create_for::<Lock>(behaviour, bound.receiver()),
    |this| receiver::<Lock>(this).release().map(|()| Step::Done(Obj::none())),
);

// ---- the class -----------------------------------------------------------------------------------

fn locked(this: &Lock) -> PyResult<Obj> {
    if this.is_plain() {
        return show_locked(this);
    }
    LOCK.stdlib("locked", &[this.raw()])
}

fn show_locked(this: &Lock) -> PyResult<Obj> {
    Ok(Obj::bool(this.is_locked()))
}

fn release(this: &Lock) -> PyResult<Obj> {
    if this.is_plain() {
        return this.release().map(|()| Obj::none());
    }
    LOCK.stdlib("release", &[this.raw()])
}

fn repr(this: &Lock) -> PyResult<Obj> {
    repr_with(&this.base, if flag(this, "_locked")? { "locked" } else { "unlocked" })
}

fn set_locked(this: &Lock, value: Option<Raw>) -> PyResult<()> {
    this.locked.set(call::is_true(value_for(this, value, "_locked")?)?);
    Ok(())
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    ClassSpec {
        name: c"asyncio.locks.Lock",
        doc: c"Lock()\n--\n\nMutual exclusion between tasks (asyncio.Lock).",
        base: None,
        waiters: Waiters::OnceUsed,
        methods: vec![
            method!(
                c"locked",
                Lock,
                locked,
                c"locked($self, /)\n--\n\nTrue if somebody holds the lock."
            ),
            method!(
                c"release",
                Lock,
                release,
                c"release($self, /)\n--\n\nLet the next waiter in; RuntimeError if nobody holds the lock."
            ),
        ],
        properties: vec![property!(c"_locked", Lock, show_locked, set_locked)],
        slots: vec![unary_slot!(c::Py_tp_repr, Lock, repr)],
        operations: vec![&ACQUIRE, &ENTER, &EXIT],
        adopted: &["_wake_up_first"],
    }
    .build::<Lock>(module, metaclass)
}
