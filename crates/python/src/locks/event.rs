//! Event: a flag that tasks can wait for (asyncio.Event).

use super::class::{ClassSpec, Waiters, method};
use super::primitive::{self, Base, Class, Fit, Given, Primitive, create_for, flag, receiver, repr_with, value_for};
use crate::ffi::error::{self, PyResult};
use crate::ffi::trampoline::{property, unary_slot};
use crate::ffi::{Native, Obj, Raw, c, call};
use crate::operation::{Behaviour, Operation, Step};
use std::cell::Cell;

#[repr(C)]
struct Event {
    base: Base,
    is_set: Cell<bool>,
}

static EVENT: Class = Class::new();

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Event {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        EVENT.kind()
    }
}

// SAFETY: begins with a Base.
unsafe impl Primitive for Event {
    const CLASS: &'static Class = &EVENT;
    const INNER: &'static [&'static str] = &[];
    const ATTRIBUTES: &'static [&'static str] = &["_waiters", "_value"];
    const PARAMETER: Option<&'static str> = None;

    fn init(&self, _given: Given) -> PyResult<Fit> {
        self.is_set.set(false);
        Ok(if self.is_plain() { Fit::Yes } else { Fit::No })
    }
}

static WAIT: Behaviour = primitive::behaviour(
    "Event",
    "wait",
    create_for::<Event>,
    start_wait,
    resume_wait,
    raised_wait,
);

fn start_wait(this: &Operation) -> PyResult<Step> {
    let event = receiver::<Event>(this);
    if event.is_set.get() {
        return Ok(Step::Done(Obj::bool(true)));
    }
    event.base.wait(this)
}

fn resume_wait(this: &Operation, _value: Obj) -> PyResult<Step> {
    receiver::<Event>(this).base.leave_for_good(this)?;
    Ok(Step::Done(Obj::bool(true)))
}

fn raised_wait(this: &Operation, exception: Obj) -> PyResult<Step> {
    receiver::<Event>(this).base.leave(this)?;
    Err(error::restore(exception))
}

// ---- the class -----------------------------------------------------------------------------------

fn is_set(this: &Event) -> PyResult<Obj> {
    if this.is_plain() {
        return show_value(this);
    }
    EVENT.stdlib("is_set", &[this.raw()])
}

fn show_value(this: &Event) -> PyResult<Obj> {
    Ok(Obj::bool(this.is_set.get()))
}

fn set(this: &Event) -> PyResult<Obj> {
    if !this.is_plain() {
        return EVENT.stdlib("set", &[this.raw()]);
    }
    if !this.is_set.replace(true) {
        this.base.waiters.wake(None, true)?;
    }
    Ok(Obj::none())
}

fn clear(this: &Event) -> PyResult<Obj> {
    if !this.is_plain() {
        return EVENT.stdlib("clear", &[this.raw()]);
    }
    this.is_set.set(false);
    Ok(Obj::none())
}

fn repr(this: &Event) -> PyResult<Obj> {
    repr_with(&this.base, if flag(this, "_value")? { "set" } else { "unset" })
}

fn set_value(this: &Event, value: Option<Raw>) -> PyResult<()> {
    this.is_set.set(call::is_true(value_for(this, value, "_value")?)?);
    Ok(())
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    ClassSpec {
        name: c"asyncio.locks.Event",
        doc: c"Event()\n--\n\nA flag that tasks can wait for (asyncio.Event).",
        base: None,
        waiters: Waiters::Always,
        methods: vec![
            method!(
                c"is_set",
                Event,
                is_set,
                c"is_set($self, /)\n--\n\nTrue if the flag is set."
            ),
            method!(
                c"set",
                Event,
                set,
                c"set($self, /)\n--\n\nSet the flag and wake every task that waits for it."
            ),
            method!(c"clear", Event, clear, c"clear($self, /)\n--\n\nUnset the flag."),
        ],
        properties: vec![property!(c"_value", Event, show_value, set_value)],
        slots: vec![unary_slot!(c::Py_tp_repr, Event, repr)],
        operations: vec![&WAIT],
        adopted: &[],
    }
    .build::<Event>(module, metaclass)
}
