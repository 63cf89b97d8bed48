//! The metaclass of Future, Task and the handles: `isinstance(c_task, asyncio.Task)` stays true once `asyncio.Task` is ours.
//!
//! Only our own classes themselves widen the check; subclasses made by users behave as any class.

use crate::ffi::error::{PyResult, owned, type_error};
use crate::ffi::trampoline::onearg;
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::future::Future;
use crate::handle::{Handle, TimerHandle};
use crate::state::imports;
use crate::task::Task;
use std::sync::RwLock;

/// A class object; only its address is used.
#[repr(C)]
struct Class {
    head: c::PyObject,
}

// SAFETY: never allocated by us, never cast to anything but its header.
unsafe impl Native for Class {
    fn type_object() -> *mut c::PyTypeObject {
        &raw mut c::PyType_Type
    }
}

/// Classes made at import, each with the stdlib's class that it stands for; both live for ever.
static TWINS: RwLock<Vec<(usize, usize)>> = RwLock::new(Vec::new());

/// Lets `class` stand for `twin`.
pub(crate) fn adopt(class: &Obj, twin: Obj) {
    if let Ok(mut twins) = TWINS.write() {
        twins.push((class.clone().into_ptr() as usize, twin.into_ptr() as usize));
    }
}

/// What `__class__` shows: the stdlib's class for an instance of the very class that stands for it.
pub(crate) fn shown_class(instance: Raw) -> Obj {
    let class: Raw = object::type_of(instance).cast();
    Obj::from_borrowed(twin(class).unwrap_or(class))
}

/// `instance.__class__ = value`, as for any object.
pub(crate) fn set_class(instance: Raw, value: Option<Raw>) -> PyResult<()> {
    // SAFETY: a static type of the interpreter.
    let object_type: Raw = (&raw mut c::PyBaseObject_Type).cast();
    let descriptor = call::getattr(object_type, call::interned("__dict__")?.as_ptr())?;
    let key = call::interned("__class__")?;
    // SAFETY: A1.
    let descriptor = owned(unsafe { c::PyObject_GetItem(descriptor.as_ptr(), key.as_ptr()) })?;
    let value = value.ok_or_else(|| type_error("can't delete __class__ attribute"))?;
    let set = call::interned("__set__")?;
    call::call_method(set.as_ptr(), &[descriptor.as_ptr(), instance, value], None).map(drop)
}

/// `dir(instance)`: what `object` finds, in the shown class and among its own attributes, and these names besides.
pub(crate) fn names_of(instance: Raw, attributes: impl IntoIterator<Item = Obj>) -> PyResult<Obj> {
    // SAFETY: a static type of the interpreter.
    let object_type: Raw = (&raw mut c::PyBaseObject_Type).cast();
    let dir = call::getattr(object_type, call::interned("__dir__")?.as_ptr())?;
    let found = call::call1(dir.as_ptr(), instance)?;
    for name in attributes {
        // SAFETY: A1; `object` makes a list.
        match unsafe { c::PySequence_Contains(found.as_ptr(), name.as_ptr()) } {
            0 => call::list_append(&found, name.as_ptr())?,
            1 => {}
            _ => return Err(crate::ffi::Raised),
        }
    }
    Ok(found)
}

/// The stdlib's class that `class` stands for.
fn twin(class: Raw) -> Option<Raw> {
    if class == Future::type_object().cast() {
        Some(imports::stdlib_future())
    } else if class == Task::type_object().cast() {
        Some(imports::stdlib_task())
    } else if class == Handle::type_object().cast() {
        Some(imports::stdlib_handle())
    } else if class == TimerHandle::type_object().cast() {
        Some(imports::stdlib_timer_handle())
    } else {
        let twins = TWINS.read().ok()?;
        twins
            .iter()
            .find(|(ours, _)| *ours == class as usize)
            .map(|(_, theirs)| *theirs as Raw)
    }
}

fn instance_check(this: &Class, instance: Raw) -> PyResult<bool> {
    let class = this.raw();
    let kind = object::type_of(instance);
    // SAFETY: A1; `class` is a type.
    if unsafe { c::PyType_IsSubtype(kind, class.cast()) } != 0 {
        return Ok(true);
    }
    if let Some(twin) = twin(class)
        && call::isinstance(instance, twin)?
    {
        return Ok(true);
    }
    // A mock or a proxy says whose instance it stands for.
    let claimed = call::getattr_optional(instance, call::interned("__class__")?.as_ptr())?;
    Ok(claimed.is_some_and(|claimed| is_subtype(claimed.as_ptr(), class)))
}

/// Is `candidate` a type, and `class` or one of its subclasses?
fn is_subtype(candidate: Raw, class: Raw) -> bool {
    // SAFETY: A1; checked to be a type, as `class` is.
    unsafe { c::PyType_Check(candidate) != 0 && c::PyType_IsSubtype(candidate.cast(), class.cast()) != 0 }
}

fn subclass_check(this: &Class, subclass: Raw) -> PyResult<bool> {
    let class = this.raw();
    if is_subtype(subclass, class) {
        return Ok(true);
    }
    let Some(twin) = twin(class) else { return Ok(false) };
    // SAFETY: A1.
    match unsafe { c::PyObject_IsSubclass(subclass, twin) } {
        code if code < 0 => Err(crate::ffi::Raised),
        code => Ok(code != 0),
    }
}

pub(crate) fn build(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.FutureMeta",
        c"Makes asyncio's own futures, tasks and handles instances of ours.",
        0,
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_BASETYPE,
    );
    spec.bases = vec![(&raw mut c::PyType_Type).cast()];
    spec.methods = vec![
        onearg!(
            c"__instancecheck__",
            Class,
            instance_check,
            c"__instancecheck__($self, instance, /)\n--\n\n"
        ),
        onearg!(
            c"__subclasscheck__",
            Class,
            subclass_check,
            c"__subclasscheck__($self, subclass, /)\n--\n\n"
        ),
    ];
    spec.build(module)
}
