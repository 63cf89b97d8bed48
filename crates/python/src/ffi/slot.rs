//! A field of a native object that holds a reference, or nothing.
//!
//! `Slot` is a cell: nothing can keep a borrow of it across a call into Python, so re-entrant code
//! always sees a whole value. Replacing drops the old value last, after the new one is in place.

use super::{Obj, Raw, c};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;

#[repr(transparent)]
pub(crate) struct Slot(Cell<Raw>);

impl Slot {
    pub(crate) const fn empty() -> Slot {
        Slot(Cell::new(ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn ptr(&self) -> Raw {
        self.0.get()
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        !self.0.get().is_null()
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Obj> {
        let raw = self.0.get();
        if raw.is_null() {
            None
        } else {
            Some(Obj::from_borrowed(raw))
        }
    }

    /// A new reference, None (the object) when empty.
    #[inline]
    pub(crate) fn get_or_none(&self) -> Obj {
        self.get().unwrap_or_else(Obj::none)
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Obj> {
        Obj::from_owned(self.0.replace(ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn set(&self, value: Obj) {
        drop(Obj::from_owned(self.0.replace(value.into_ptr())));
    }

    /// Fills a slot that is known to be empty.
    #[inline]
    pub(crate) fn init(&self, value: Obj) {
        debug_assert!(self.0.get().is_null());
        self.0.set(value.into_ptr());
    }

    #[inline]
    pub(crate) fn set_option(&self, value: Option<Obj>) {
        drop(Obj::from_owned(
            self.0.replace(value.map_or(ptr::null_mut(), Obj::into_ptr)),
        ));
    }

    #[inline]
    pub(crate) fn clear(&self) {
        if self.is_set() {
            drop(self.take());
        }
    }

    /// For `tp_traverse`.
    #[inline]
    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        visit_raw(self.0.get(), visit, arg)
    }
}

#[inline]
pub(crate) fn visit_raw(raw: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    if raw.is_null() {
        0
    } else {
        // SAFETY: the collector's own callback on a live object.
        unsafe { visit(raw, arg) }
    }
}
