//! A `collections.deque` that is native until somebody looks at it.
//!
//! Libraries read and change the `_waiters` of primitives, and the `_queue`, `_getters` and `_putters` of queues. Whoever
//! asks for one gets a real deque, and from then on that deque, or whatever is assigned in its place, is what the owner
//! works with: what is done to it has its effect, as in asyncio, and the stdlib's functions, which do the work for
//! subclasses, see it, too.
//!
//! Invariant I1: once `shown` is set the native part is empty.

use super::WaiterQueue;
use crate::ffi::error::{self, PyResult, index_error, owned};
use crate::ffi::{Obj, Raised, Raw, Slot, c, call};
use crate::state::{imports, names};
use std::ffi::{c_int, c_void};

/// Zeroed memory is an empty one.
pub(crate) struct Deque {
    native: WaiterQueue,
    shown: Slot,
}

impl Deque {
    #[inline]
    pub(crate) fn is_shown(&self) -> bool {
        self.shown.is_set()
    }

    /// The Python object, if there is one.
    #[inline]
    pub(crate) fn shown(&self) -> Option<Obj> {
        self.shown.get()
    }

    #[inline]
    pub(crate) fn push(&self, item: Raw) -> PyResult<()> {
        if !self.is_shown() {
            self.native.push(Obj::from_borrowed(item));
            return Ok(());
        }
        append(&self.shown.get_or_none(), item)
    }

    /// Takes out the first; None if it is empty.
    #[inline]
    pub(crate) fn pop(&self) -> PyResult<Option<Obj>> {
        if !self.is_shown() {
            return Ok(self.native.pop());
        }
        self.pop_shown()
    }

    #[cold]
    fn pop_shown(&self) -> PyResult<Option<Obj>> {
        let shown = self.shown.get_or_none();
        if !call::is_true(shown.as_ptr())? {
            return Ok(None);
        }
        call::call_method(names::popleft(), &[shown.as_ptr()], None).map(Some)
    }

    /// `deque.popleft()`.
    #[inline]
    pub(crate) fn pop_first(&self) -> PyResult<Obj> {
        if !self.is_shown() {
            return self.native.pop().ok_or_else(|| index_error("pop from an empty deque"));
        }
        let shown = self.shown.get_or_none();
        call::call_method(names::popleft(), &[shown.as_ptr()], None)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> PyResult<bool> {
        if !self.is_shown() {
            return Ok(self.native.is_empty());
        }
        call::is_true(self.shown.get_or_none().as_ptr()).map(|filled| !filled)
    }

    /// Nobody in it, seen without asking anybody.
    #[inline]
    pub(crate) fn is_native_and_empty(&self) -> bool {
        !self.is_shown() && self.native.is_empty()
    }

    /// Seen without asking anybody; false where that is not possible. `limit` is positive, or `i64::MIN`.
    #[inline]
    pub(crate) fn has_fewer_than(&self, limit: i64) -> bool {
        !self.is_shown() && (self.native.len() as i64) < limit
    }

    #[inline]
    pub(crate) fn len(&self) -> PyResult<usize> {
        if !self.is_shown() {
            return Ok(self.native.len());
        }
        // SAFETY: A1.
        match unsafe { c::PyObject_Size(self.shown.get_or_none().as_ptr()) } {
            size if size < 0 => Err(Raised),
            size => Ok(size as usize),
        }
    }

    /// Takes out `item`, if it is there. What is shown raises a `ValueError` if it is not.
    #[inline]
    pub(crate) fn remove(&self, item: Raw) -> PyResult<()> {
        let Some(shown) = self.shown() else {
            drop(self.native.remove(item));
            return Ok(());
        };
        remove(&shown, item)
    }

    /// Takes out `item`, if it is there.
    #[inline]
    pub(crate) fn remove_if_there(&self, item: Raw) -> PyResult<()> {
        pass_over_value_error(self.remove(item))
    }

    #[inline]
    pub(crate) fn first(&self) -> PyResult<Option<Obj>> {
        if self.is_shown() {
            return self.find(|_| Ok(true));
        }
        Ok(self.native.first())
    }

    /// The first one for which `wanted` holds. `wanted` may run Python code.
    #[inline]
    pub(crate) fn find(&self, wanted: impl FnMut(&Obj) -> PyResult<bool>) -> PyResult<Option<Obj>> {
        match self.shown.get() {
            None => self.native.find(wanted),
            Some(shown) => find_shown(&shown, wanted),
        }
    }

    /// Is there a future that is not cancelled? None if only Python code can tell.
    #[inline]
    pub(crate) fn has_uncancelled(&self) -> Option<bool> {
        if self.is_shown() {
            return None;
        }
        self.native.has_uncancelled()
    }

    /// Has there ever been anything in it?
    pub(crate) fn is_used(&self) -> bool {
        self.is_shown() || self.native.is_used()
    }

    /// The Python object, made of what is there if nobody asked before.
    pub(crate) fn show(&self) -> PyResult<Obj> {
        if let Some(shown) = self.shown() {
            return Ok(shown);
        }
        let made = call::call0(imports::deque())?;
        // A collection on the way may have run somebody who asked, too.
        if let Some(shown) = self.shown() {
            return Ok(shown);
        }
        for item in self.native.all() {
            append(&made, item.as_ptr())?;
        }
        self.replace(made.clone());
        Ok(made)
    }

    /// Copies it into a list.
    pub(crate) fn to_list(&self) -> PyResult<Obj> {
        if let Some(shown) = self.shown() {
            // SAFETY: A1.
            return owned(unsafe { c::PySequence_List(shown.as_ptr()) });
        }
        let list = call::list()?;
        for item in self.native.all() {
            call::list_append(&list, item.as_ptr())?;
        }
        Ok(list)
    }

    /// From now on it is this object.
    pub(crate) fn replace(&self, object: Obj) {
        self.shown.set(object);
        self.native.clear();
    }

    /// Empty and native again. Also for `tp_clear` and `tp_dealloc`.
    pub(crate) fn clear(&self) {
        self.native.clear();
        self.shown.clear();
    }

    /// For `tp_traverse`.
    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        match self.shown.traverse(visit, arg) {
            0 => self.native.traverse(visit, arg),
            code => code,
        }
    }
}

#[cold]
pub(crate) fn append(object: &Obj, item: Raw) -> PyResult<()> {
    call::call_method(names::append(), &[object.as_ptr(), item], None).map(drop)
}

/// `object.remove(item)` that passes over a `ValueError`.
pub(crate) fn remove_if_there(object: &Obj, item: Raw) -> PyResult<()> {
    pass_over_value_error(remove(object, item))
}

fn remove(object: &Obj, item: Raw) -> PyResult<()> {
    call::call_method(names::remove(), &[object.as_ptr(), item], None).map(drop)
}

#[inline]
fn pass_over_value_error(outcome: PyResult<()>) -> PyResult<()> {
    match outcome {
        // SAFETY: a static of the interpreter.
        Err(Raised) if error::matches(unsafe { c::PyExc_ValueError }) => {
            error::clear();
            Ok(())
        }
        other => other,
    }
}

#[cold]
fn find_shown(shown: &Obj, mut wanted: impl FnMut(&Obj) -> PyResult<bool>) -> PyResult<Option<Obj>> {
    // SAFETY: A1.
    let copy = owned(unsafe { c::PySequence_Tuple(shown.as_ptr()) })?;
    for index in 0..call::tuple_len(copy.as_ptr()) {
        let item = Obj::from_borrowed(call::tuple_item(copy.as_ptr(), index));
        if wanted(&item)? {
            return Ok(Some(item));
        }
    }
    Ok(None)
}
