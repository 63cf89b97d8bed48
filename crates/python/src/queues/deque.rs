//! A `collections.deque` that is native until somebody looks at it.
//!
//! Libraries read and change `_queue`, `_getters` and `_putters`. Whoever asks for one gets a real deque, and from then
//! on that deque, or whatever is assigned in its place, is what the queue works with.
//!
//! Invariant I1: once `shown` is set the native part is empty.

use super::table;
use crate::ffi::error::{self, PyResult, index_error, owned};
use crate::ffi::{Obj, Raised, Raw, Slot, c, call};
use crate::waiters::WaiterQueue;
use std::ffi::{c_int, c_void};

pub(super) struct Deque {
    native: WaiterQueue,
    shown: Slot,
}

impl Deque {
    #[inline]
    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_set()
    }

    /// The Python object, if there is one.
    #[inline]
    pub(super) fn shown(&self) -> Option<Obj> {
        self.shown.get()
    }

    #[inline]
    pub(super) fn push(&self, item: Raw) -> PyResult<()> {
        match self.shown() {
            None => {
                self.native.push(Obj::from_borrowed(item));
                Ok(())
            }
            Some(shown) => append(&shown, item),
        }
    }

    /// Takes out the first; None if it is empty.
    #[inline]
    pub(super) fn pop(&self) -> PyResult<Option<Obj>> {
        match self.shown() {
            None => Ok(self.native.pop()),
            Some(shown) => {
                if !call::is_true(shown.as_ptr())? {
                    return Ok(None);
                }
                call::call_method(table().names.popleft.as_ptr(), &[shown.as_ptr()], None).map(Some)
            }
        }
    }

    /// `deque.popleft()`.
    #[inline]
    pub(super) fn pop_first(&self) -> PyResult<Obj> {
        match self.shown() {
            None => self.native.pop().ok_or_else(|| index_error("pop from an empty deque")),
            Some(shown) => call::call_method(table().names.popleft.as_ptr(), &[shown.as_ptr()], None),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> PyResult<bool> {
        match self.shown() {
            None => Ok(self.native.is_empty()),
            Some(shown) => call::is_true(shown.as_ptr()).map(|filled| !filled),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> PyResult<usize> {
        match self.shown() {
            None => Ok(self.native.len()),
            // SAFETY: A1.
            Some(shown) => match unsafe { c::PyObject_Size(shown.as_ptr()) } {
                size if size < 0 => Err(Raised),
                size => Ok(size as usize),
            },
        }
    }

    /// Takes out `item`, if it is there.
    #[inline]
    pub(super) fn remove(&self, item: &Obj) -> PyResult<()> {
        let Some(shown) = self.shown() else {
            drop(self.native.remove(item.as_ptr()));
            return Ok(());
        };
        remove_if_there(&shown, item)
    }

    /// The Python object, made of what is there if nobody asked before.
    pub(super) fn show(&self) -> PyResult<Obj> {
        if let Some(shown) = self.shown() {
            return Ok(shown);
        }
        let made = call::call0(table().deque.as_ptr())?;
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
    pub(super) fn to_list(&self) -> PyResult<Obj> {
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
    pub(super) fn replace(&self, object: Obj) {
        self.shown.set(object);
        self.native.clear();
    }

    /// Empty and native again.
    pub(super) fn reset(&self) {
        self.native.clear();
        self.shown.clear();
    }

    /// For `tp_traverse`.
    pub(super) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        match self.shown.traverse(visit, arg) {
            0 => self.native.traverse(visit, arg),
            code => code,
        }
    }
}

#[inline]
pub(super) fn append(object: &Obj, item: Raw) -> PyResult<()> {
    call::call_method(table().names.append.as_ptr(), &[object.as_ptr(), item], None).map(drop)
}

/// `object.remove(item)` that passes over a `ValueError`.
pub(super) fn remove_if_there(object: &Obj, item: &Obj) -> PyResult<()> {
    let name = table().names.remove.as_ptr();
    match call::call_method(name, &[object.as_ptr(), item.as_ptr()], None) {
        Ok(_) => Ok(()),
        // SAFETY: a static of the interpreter.
        Err(Raised) if error::matches(unsafe { c::PyExc_ValueError }) => {
            error::clear();
            Ok(())
        }
        Err(raised) => Err(raised),
    }
}
