//! Those who wait at a primitive, and its attribute `_waiters`.
//!
//! As long as nobody looks, they are a native queue. Whoever reads `_waiters` gets a deque, and whoever sets it brings
//! one: from then on that very object is the queue, so that what is done to it has its effect, as in asyncio. The
//! stdlib's functions, which do the work for subclasses, look at it, too.

use crate::ffi::error::{self, PyResult};
use crate::ffi::{Obj, Raw, Slot, c, call, object};
use crate::waiters::{self, WaiterQueue};
use std::ffi::{c_int, c_void};

/// Zeroed memory is an empty one.
pub(super) struct Line {
    /// Empty while `shown` is set.
    native: WaiterQueue,
    shown: Slot,
}

impl Line {
    #[inline]
    pub(super) fn len(&self) -> PyResult<usize> {
        match self.shown.get() {
            None => Ok(self.native.len()),
            // SAFETY: A1.
            Some(shown) => match unsafe { c::PyObject_Size(shown.as_ptr()) } {
                len if len < 0 => Err(error::Raised),
                len => Ok(len as usize),
            },
        }
    }

    #[inline]
    pub(super) fn push(&self, waiter: Obj) -> PyResult<()> {
        match self.shown.get() {
            None => {
                self.native.push(waiter);
                Ok(())
            }
            Some(shown) => append(&shown, waiter.as_ptr()),
        }
    }

    #[inline]
    pub(super) fn remove(&self, waiter: Raw) -> PyResult<()> {
        match self.shown.get() {
            None => {
                drop(self.native.remove(waiter));
                Ok(())
            }
            Some(shown) => {
                let name = call::interned("remove")?;
                call::call_method(name.as_ptr(), &[shown.as_ptr(), waiter], None).map(drop)
            }
        }
    }

    #[inline]
    pub(super) fn first(&self) -> PyResult<Option<Obj>> {
        if self.shown.is_set() {
            return self.find(|_| Ok(true));
        }
        Ok(self.native.first())
    }

    /// The first one for which `wanted` holds. `wanted` may run Python code.
    #[inline]
    pub(super) fn find(&self, wanted: impl FnMut(&Obj) -> PyResult<bool>) -> PyResult<Option<Obj>> {
        match self.shown.get() {
            None => self.native.find(wanted),
            Some(shown) => find_shown(&shown, wanted),
        }
    }

    /// Is there one that is not cancelled?
    #[inline]
    pub(super) fn has_waiting(&self) -> PyResult<bool> {
        if !self.shown.is_set() && self.native.is_empty() {
            return Ok(false);
        }
        let waiting = self.find(|waiter| waiters::is_cancelled(waiter).map(|is| !is))?;
        Ok(waiting.is_some())
    }

    /// Wakes with `result` all, or as many as `count` says, that are not awake yet.
    #[inline]
    pub(super) fn wake(&self, count: Option<usize>, result: bool) -> PyResult<()> {
        let mut woken = 0;
        self.find(|waiter| {
            if count == Some(woken) {
                return Ok(true);
            }
            if !waiters::is_done(waiter)? {
                woken += 1;
                waiters::set_result(waiter, Obj::bool(result))?;
            }
            Ok(false)
        })
        .map(drop)
    }

    /// `_waiters`: from now on what is returned is the queue. Without anybody ever having waited that is nothing, if
    /// the class makes its queue with the first waiter.
    pub(super) fn show(&self, made_when_needed: bool) -> PyResult<Obj> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        if made_when_needed && !self.native.is_used() {
            return Ok(Obj::none());
        }
        let made = call::call0(call::import_from("collections", "deque")?.as_ptr())?;
        // A collection on the way may have run somebody who asked or set it, too.
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        for waiter in self.native.all() {
            append(&made, waiter.as_ptr())?;
        }
        self.shown.set(made.clone());
        self.native.clear();
        Ok(made)
    }

    /// `_waiters = value`
    pub(super) fn set(&self, value: Raw) {
        let value = (!object::is_none(value)).then(|| Obj::from_borrowed(value));
        self.shown.set_option(value);
        self.native.clear();
    }

    /// For `tp_clear` and `tp_dealloc`.
    pub(super) fn clear(&self) {
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

#[cold]
fn append(shown: &Obj, waiter: Raw) -> PyResult<()> {
    let name = call::interned("append")?;
    call::call_method(name.as_ptr(), &[shown.as_ptr(), waiter], None).map(drop)
}

#[cold]
fn find_shown(shown: &Obj, mut wanted: impl FnMut(&Obj) -> PyResult<bool>) -> PyResult<Option<Obj>> {
    // SAFETY: A1.
    let copy = error::owned(unsafe { c::PySequence_Tuple(shown.as_ptr()) })?;
    for index in 0..call::tuple_len(copy.as_ptr()) {
        let waiter = Obj::from_borrowed(call::tuple_item(copy.as_ptr(), index));
        if wanted(&waiter)? {
            return Ok(Some(waiter));
        }
    }
    Ok(None)
}
