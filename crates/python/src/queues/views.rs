//! What programs see of a queue's state: its texts and its private attributes.

use super::class::forward_noargs;
use super::queue::{Kind, Queue};
use super::subclass::ATTRIBUTES;
use crate::ffi::error::{PyResult, attribute_error, owned, status};
use crate::ffi::trampoline::property;
use crate::ffi::types::Property;
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::metaclass;

/// `maxsize=…` and what else there is to say.
pub(super) fn format(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "_format");
    }
    let parts = call::list()?;
    let add = |text: &str| call::list_append(&parts, call::string(text)?.as_ptr());
    let add_repr = |object: &Obj| {
        // SAFETY: A1.
        let text = owned(unsafe { c::PyObject_Repr(object.as_ptr()) })?;
        call::list_append(&parts, text.as_ptr())
    };
    add("maxsize=")?;
    add_repr(&this.maxsize()?)?;
    if !this.items.is_empty()? {
        add(" _queue=")?;
        add_repr(&this.items.to_list()?)?;
    }
    for (name, waiting) in [("_getters", &this.getters), ("_putters", &this.putters)] {
        if !waiting.is_empty()? {
            add(&format!(" {name}[{}]", waiting.len()?))?;
        }
    }
    if this.unfinished.get() != 0 {
        add(&format!(" tasks={}", this.unfinished.get()))?;
    }
    if this.is_shut_down.get() {
        add(" shutdown")?;
    }
    join(&parts)
}

fn join(parts: &Obj) -> PyResult<Obj> {
    let nothing = call::string("")?;
    // SAFETY: A1; a string and a list.
    owned(unsafe { c::PyUnicode_Join(nothing.as_ptr(), parts.as_ptr()) })
}

fn text(this: &Queue, place: &str) -> PyResult<Obj> {
    let parts = call::list()?;
    let add = |text: &str| call::list_append(&parts, call::string(text)?.as_ptr());
    let class: Raw = object::type_of(this.raw()).cast();
    add("<")?;
    let name = call::getattr(class, call::interned("__name__")?.as_ptr())?;
    call::list_append(&parts, name.as_ptr())?;
    add(place)?;
    call::list_append(&parts, format(this)?.as_ptr())?;
    add(">")?;
    join(&parts)
}

pub(super) fn repr(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "__repr__");
    }
    text(this, &format!(" at {:#x} ", this.raw() as usize))
}

pub(super) fn str(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "__str__");
    }
    text(this, " ")
}

// ---- attributes ----------------------------------------------------------------------------------

fn class(this: &Queue) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

fn maxsize(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return call::getattr(this.raw(), call::interned("_maxsize")?.as_ptr());
    }
    this.maxsize()
}

fn show_maxsize(this: &Queue) -> PyResult<Obj> {
    this.maxsize()
}

/// The value that is assigned; these attributes cannot be deleted.
fn assigned(value: Option<Raw>) -> PyResult<Obj> {
    value
        .map(Obj::from_borrowed)
        .ok_or_else(|| attribute_error("a queue needs this attribute"))
}

fn set_maxsize(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.set_maxsize(assigned(value)?);
    Ok(())
}

fn show_items(this: &Queue) -> PyResult<Obj> {
    this.show_items()
}

fn set_items(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.items.replace(assigned(value)?);
    Ok(())
}

fn show_getters(this: &Queue) -> PyResult<Obj> {
    this.getters.show()
}

fn set_getters(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.getters.replace(assigned(value)?);
    Ok(())
}

fn show_putters(this: &Queue) -> PyResult<Obj> {
    this.putters.show()
}

fn set_putters(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.putters.replace(assigned(value)?);
    Ok(())
}

fn show_unfinished(this: &Queue) -> PyResult<Obj> {
    call::int(this.unfinished.get())
}

fn set_unfinished(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.unfinished.set(call::as_i64(assigned(value)?.as_ptr())?);
    Ok(())
}

fn show_finished(this: &Queue) -> PyResult<Obj> {
    this.finished.show()
}

fn set_finished(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.finished.replace(assigned(value)?)
}

fn show_loop(this: &Queue) -> PyResult<Obj> {
    Ok(this.event_loop.slot().get_or_none())
}

fn set_loop(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.event_loop.slot().set(assigned(value)?);
    Ok(())
}

#[cfg(Py_3_13)]
fn show_is_shut_down(this: &Queue) -> PyResult<Obj> {
    Ok(Obj::bool(this.is_shut_down.get()))
}

#[cfg(Py_3_13)]
fn set_is_shut_down(this: &Queue, value: Option<Raw>) -> PyResult<()> {
    this.is_shut_down.set(call::is_true(assigned(value)?.as_ptr())?);
    Ok(())
}

// ---- copies --------------------------------------------------------------------------------------

/// What a Python object of the same attributes would have in its `__dict__`.
pub(super) fn state(this: &Queue) -> PyResult<Obj> {
    let state = call::dict()?;
    for name in ATTRIBUTES {
        let value = call::getattr_optional(this.raw(), call::interned(name)?.as_ptr())?;
        // `_loop` is the class's None until it is bound.
        if let Some(value) = value.filter(|value| *name != "_loop" || !value.is_none()) {
            call::dict_set(&state, name, value.as_ptr())?;
        }
    }
    // Kept: comparing keys may run code that gives the queue another one.
    if let Some(own) = this.dict.get() {
        // SAFETY: A1; both are dicts.
        status(unsafe { c::PyDict_Update(state.as_ptr(), own.as_ptr()) })?;
    }
    Ok(state)
}

/// `__dir__()`.
pub(super) fn names(this: &Queue) -> PyResult<Obj> {
    let mut names = Vec::new();
    for name in ATTRIBUTES {
        let name = call::interned(name)?;
        if call::getattr_optional(this.raw(), name.as_ptr())?.is_some() {
            names.push(name);
        }
    }
    metaclass::names_of(this.raw(), names)
}

pub(super) fn set_state(this: &Queue, state: Raw) -> PyResult<()> {
    call::set_all(this.raw(), state)
}

pub(super) fn properties() -> Vec<Property> {
    vec![
        property!(c"maxsize", Queue, maxsize),
        property!(c"_maxsize", Queue, show_maxsize, set_maxsize),
        property!(c"_queue", Queue, show_items, set_items),
        property!(c"_getters", Queue, show_getters, set_getters),
        property!(c"_putters", Queue, show_putters, set_putters),
        property!(c"_unfinished_tasks", Queue, show_unfinished, set_unfinished),
        property!(c"_finished", Queue, show_finished, set_finished),
        property!(c"_loop", Queue, show_loop, set_loop),
        #[cfg(Py_3_13)]
        property!(c"_is_shutdown", Queue, show_is_shut_down, set_is_shut_down),
        property!(c"__class__", Queue, class),
        Property::new(
            c"__dict__",
            c::PyObject_GenericGetDict,
            Some(c::PyObject_GenericSetDict),
        ),
    ]
}
