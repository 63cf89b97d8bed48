//! Subclasses of queues, and instances with methods of their own.
//!
//! Whether a class overrides, or was given, what the stdlib's code calls through `self` is looked at once, when an instance
//! is made.

use super::queue::{Kind, Queue};
use crate::ffi::error::{PyResult, status};
use crate::ffi::{Native, Obj, Own, Raw, c, call, trampoline, types};
use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Methods called through `self` for which natively nobody looks.
const CALLED: &[&str] = &[
    "_format",
    "_get_loop",
    "_wakeup_next",
    "empty",
    "full",
    "get_nowait",
    "put_nowait",
    "qsize",
];
/// Called natively, too, where a class has its own.
const ITEM_METHODS: [&str; 3] = ["_init", "_put", "_get"];
pub(super) const ATTRIBUTES: &[&str] = &[
    "_finished",
    "_getters",
    "_loop",
    "_maxsize",
    "_putters",
    "_queue",
    "_unfinished_tasks",
    #[cfg(Py_3_13)]
    "_is_shutdown",
];

/// What our classes have under those names.
struct OwnAttributes {
    /// Name and value.
    plain: Vec<(Obj, Obj)>,
    /// Name, and the value of each kind.
    of_items: Vec<(Obj, [Obj; 3])>,
}

// SAFETY: only touched attached (A1), so by one thread at a time.
unsafe impl Send for OwnAttributes {}
// SAFETY: as above.
unsafe impl Sync for OwnAttributes {}

static OWN: OnceLock<OwnAttributes> = OnceLock::new();

pub(super) fn note_own(classes: &[Obj; 3]) -> PyResult<()> {
    let find = |class: &Obj, name: &Obj| call::getattr(class.as_ptr(), name.as_ptr());
    let mut own = OwnAttributes {
        plain: Vec::new(),
        of_items: Vec::new(),
    };
    for name in CALLED.iter().chain(ATTRIBUTES) {
        let name = call::interned(name)?;
        let value = find(&classes[0], &name)?;
        own.plain.push((name, value));
    }
    for name in ITEM_METHODS {
        let name = call::interned(name)?;
        let [fifo, priority, lifo] = classes;
        let values = [find(fifo, &name)?, find(priority, &name)?, find(lifo, &name)?];
        own.of_items.push((name, values));
    }
    // A second import fails before it comes here.
    drop(OWN.set(own));
    Ok(())
}

/// The kind of a class, and whether it overrides what natively is not called.
fn survey(class: Raw) -> PyResult<(Kind, bool)> {
    let Some(own) = OWN.get() else {
        return Ok((Kind::Fifo, false));
    };
    let mut handed_over = false;
    for (name, value) in &own.plain {
        if !call::getattr(class, name.as_ptr())?.is(value.as_ptr()) {
            handed_over = true;
        }
    }
    let mut kinds = [Kind::Custom; 3];
    for ((name, values), kind) in own.of_items.iter().zip(&mut kinds) {
        let found = call::getattr(class, name.as_ptr())?;
        let known = [Kind::Fifo, Kind::Priority, Kind::Lifo];
        let index = values.iter().position(|value| value.is(found.as_ptr()));
        *kind = index.map_or(Kind::Custom, |index| known[index]);
    }
    let [first, second, third] = kinds;
    let kind = if first == second && second == third {
        first
    } else {
        Kind::Custom
    };
    Ok((kind, handed_over))
}

/// `Queue` while it has the methods it came with, by its version tag: tags are given out once, and a class that changes, as
/// when a test patches a method, gets another one.
static QUEUE_TAG: AtomicU32 = AtomicU32::new(u32::MAX);

#[inline]
pub(super) fn is_unchanged(queue_class: *mut c::PyTypeObject) -> bool {
    // SAFETY: a type that lives for ever.
    let tag = unsafe { (*queue_class).tp_version_tag };
    tag == QUEUE_TAG.load(Ordering::Relaxed)
}

pub(super) fn make(class: *mut c::PyTypeObject) -> PyResult<Obj> {
    let (kind, handed_over) = survey(class.cast())?;
    // SAFETY: a live type. The survey has given it a tag, if it can have one.
    let tag = unsafe { (*class).tp_version_tag };
    if class == Queue::type_object() && !handed_over && kind == Kind::Fifo && tag != 0 {
        QUEUE_TAG.store(tag, Ordering::Relaxed);
    }
    let made = types::allocate(class)?;
    // SAFETY: freshly made of a subclass of this type.
    let queue = unsafe { Own::<Queue>::from_obj_unchecked(made) };
    queue.kind.set(kind);
    queue.handed_over.set(handed_over);
    Ok(queue.into_obj())
}

/// An instance that gets a method of its own in place of one that is called through `self`.
pub(super) unsafe extern "C" fn setattro(slf: Raw, name: Raw, value: Raw) -> c_int {
    trampoline::enter(|| {
        let is_called = OWN.get().is_some_and(|own| {
            let plain = own.plain.iter().take(CALLED.len()).map(|(name, _)| name);
            let mut all = plain.chain(own.of_items.iter().map(|(name, _)| name));
            // Names of attributes are interned.
            all.any(|called| called.is(name))
        });
        if is_called {
            // SAFETY: a slot's receiver.
            unsafe { &*slf.cast::<Queue>() }.hand_over()?;
        }
        // SAFETY: A1; no value means to delete.
        status(unsafe { c::PyObject_GenericSetAttr(slf, name, value) })
    })
}
