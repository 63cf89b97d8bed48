//! What a queue is and does without waiting.
//!
//! Invariants
//! - I1: for `Kind::Fifo` the items are a `Deque`; for the other kinds they are the Python object that `items` shows.
//! - I2: a queue that is `handed_over` is the stdlib's functions' business: they find what they need as attributes,
//!   and no native path is taken. A subclass that overrides what they call through `self` is, from birth; an instance
//!   is, once it gets such an attribute of its own.

use super::finished::Finished;
use super::{raise, table};
use crate::ffi::error::{PyResult, attribute_error, index_error, owned, status, value_error};
use crate::ffi::{Native, Obj, Raised, Raw, Slot, c, call, object};
use crate::state::names;
use crate::waiters::deque::{Deque, append};
use crate::waiters::{self, LoopBinding};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Which `_init`, `_put` and `_get` it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Fifo = 0,
    Priority,
    Lifo,
    /// A subclass's own, called as methods.
    Custom,
}

#[repr(C)]
pub(crate) struct Queue {
    head: c::PyObject,
    pub(super) event_loop: LoopBinding,
    pub(super) items: Deque,
    pub(super) getters: Deque,
    pub(super) putters: Deque,
    pub(super) finished: Finished,
    pub(super) maxsize: Slot,
    pub(super) dict: Slot,
    pub(super) weaklist: Cell<Raw>,
    /// `maxsize` as a number, or `ASK`.
    limit: Cell<i64>,
    pub(super) unfinished: Cell<i64>,
    pub(super) kind: Cell<Kind>,
    pub(super) handed_over: Cell<bool>,
    pub(super) is_shut_down: Cell<bool>,
}

/// `maxsize` is no plain integer: it is compared as Python does.
const ASK: i64 = i64::MIN;

pub(super) static QUEUE: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first; zero is valid for every field (Kind::Fifo is 0).
unsafe impl Native for Queue {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        QUEUE.load(Ordering::Relaxed)
    }
}

impl Queue {
    /// `__init__`, for one that is not handed over.
    pub(super) fn init(&self, maxsize: Option<Raw>) -> PyResult<()> {
        let maxsize = match maxsize {
            Some(maxsize) => Obj::from_borrowed(maxsize),
            None => call::int(0)?,
        };
        self.set_maxsize(maxsize.clone());
        self.getters.clear();
        self.putters.clear();
        self.unfinished.set(0);
        self.finished.clear();
        self.is_shut_down.set(false);
        if self.kind.get() == Kind::Custom {
            let arguments = [self.raw(), maxsize.as_ptr()];
            return call::call_method(table().names.init.as_ptr(), &arguments, None).map(drop);
        }
        self.reset_items(self.kind.get())
    }

    /// `_init` of a kind: no items.
    pub(super) fn reset_items(&self, kind: Kind) -> PyResult<()> {
        if kind == Kind::Fifo {
            self.items.clear();
            if self.kind.get() != Kind::Fifo {
                self.items.show()?;
            }
        } else {
            self.items.replace(call::list()?);
        }
        Ok(())
    }

    pub(super) fn set_maxsize(&self, maxsize: Obj) {
        let mut overflow = 0;
        // SAFETY: A1; an exact integer.
        let limit = unsafe {
            if c::PyLong_CheckExact(maxsize.as_ptr()) == 0 {
                ASK
            } else {
                let value = c::PyLong_AsLongLongAndOverflow(maxsize.as_ptr(), &raw mut overflow);
                match overflow {
                    0 => value.max(0),
                    1.. => i64::MAX,
                    _ => 0,
                }
            }
        };
        self.limit.set(limit);
        self.maxsize.set(maxsize);
    }

    pub(super) fn maxsize(&self) -> PyResult<Obj> {
        self.maxsize.get().map_or_else(|| call::int(0), Ok)
    }

    /// `_queue`, made of what is there if nobody asked before.
    pub(super) fn show_items(&self) -> PyResult<Obj> {
        if self.items.is_shown() || self.kind.get() == Kind::Fifo && !self.handed_over.get() {
            return self.items.show();
        }
        Err(self.no_items())
    }

    /// A subclass's `_init` has not made them.
    #[cold]
    fn no_items(&self) -> Raised {
        attribute_error(&format!(
            "'{}' object has no attribute '_queue'",
            object::type_name(self.raw())
        ))
    }

    /// Its items are in `items`.
    #[inline]
    fn has_items(&self) -> PyResult<()> {
        if self.kind.get() == Kind::Fifo || self.items.is_shown() {
            Ok(())
        } else {
            Err(self.no_items())
        }
    }

    #[inline]
    pub(super) fn len(&self) -> PyResult<usize> {
        self.has_items()?;
        self.items.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> PyResult<bool> {
        self.has_items()?;
        self.items.is_empty()
    }

    #[inline]
    pub(super) fn is_full(&self) -> PyResult<bool> {
        match self.limit.get() {
            0 => Ok(false),
            ASK => self.is_full_by_comparison(),
            limit => self.len().map(|len| len as i64 >= limit),
        }
    }

    #[cold]
    fn is_full_by_comparison(&self) -> PyResult<bool> {
        let maxsize = self.maxsize()?;
        if compare(&maxsize, &call::int(0)?, c::Py_LE)? {
            return Ok(false);
        }
        let len = call::int(self.len()? as i64)?;
        compare(&len, &maxsize, c::Py_GE)
    }

    /// Its items are native, so that nobody else can tell how many there are.
    #[inline]
    fn is_native(&self) -> bool {
        self.kind.get() == Kind::Fifo && !self.items.is_shown()
    }

    /// `put()` of an item for which there is room; false if there may be none, or if it takes a closer look.
    #[inline]
    pub(super) fn try_put(&self, item: Raw) -> PyResult<bool> {
        let limit = self.limit.get();
        let fits = self.is_native() && !self.is_shut_down.get() && (limit == 0 || self.items.has_fewer_than(limit));
        if fits {
            self.items.push(item)?;
            self.note_put()?;
        }
        Ok(fits)
    }

    /// `get()` of an item that is there; None if there may be none, or if it takes a closer look.
    #[inline]
    pub(super) fn try_get(&self) -> PyResult<Option<Obj>> {
        if !self.is_native() {
            return Ok(None);
        }
        let item = self.items.pop()?;
        if item.is_some() {
            wake_next(&self.putters)?;
        }
        Ok(item)
    }

    /// What `put_nowait` does once the item is in.
    #[inline]
    fn note_put(&self) -> PyResult<()> {
        self.unfinished.set(self.unfinished.get().saturating_add(1));
        self.finished.unset()?;
        wake_next(&self.getters)
    }

    /// `_put`.
    #[inline]
    fn push(&self, item: Raw) -> PyResult<()> {
        match self.kind.get() {
            Kind::Custom => {
                let name = table().names.put_item.as_ptr();
                call::call_method(name, &[self.raw(), item], None).map(drop)
            }
            kind => self.push_as(kind, item),
        }
    }

    /// `_put` of a kind.
    #[inline]
    pub(super) fn push_as(&self, kind: Kind, item: Raw) -> PyResult<()> {
        if kind == Kind::Fifo && self.kind.get() == Kind::Fifo {
            return self.items.push(item);
        }
        let items = self.show_items()?;
        if kind == Kind::Priority {
            return call::call(table().heappush.as_ptr(), &[items.as_ptr(), item], None).map(drop);
        }
        // SAFETY: A1.
        if unsafe { c::PyList_CheckExact(items.as_ptr()) } != 0 {
            return call::list_append(&items, item);
        }
        append(&items, item)
    }

    /// `_get`.
    #[inline]
    pub(super) fn pop(&self) -> PyResult<Obj> {
        match self.kind.get() {
            Kind::Custom => call::call_method(table().names.get_item.as_ptr(), &[self.raw()], None),
            kind => self.pop_as(kind),
        }
    }

    /// `_get` of a kind.
    #[inline]
    pub(super) fn pop_as(&self, kind: Kind) -> PyResult<Obj> {
        if kind == Kind::Fifo && self.kind.get() == Kind::Fifo {
            return self.items.pop_first();
        }
        let items = self.show_items()?;
        match kind {
            Kind::Priority => call::call1(table().heappop.as_ptr(), items.as_ptr()),
            // SAFETY: A1.
            Kind::Lifo if unsafe { c::PyList_CheckExact(items.as_ptr()) } != 0 => pop_last(&items),
            Kind::Lifo => call::call_method(table().names.pop.as_ptr(), &[items.as_ptr()], None),
            _ => call::call_method(names::popleft(), &[items.as_ptr()], None),
        }
    }

    #[inline]
    pub(super) fn put_nowait(&self, item: Raw) -> PyResult<()> {
        if self.is_shut_down.get() {
            return Err(raise(&table().queue_shut_down));
        }
        if self.is_full()? {
            return Err(raise(&table().queue_full));
        }
        self.push(item)?;
        self.note_put()
    }

    #[inline]
    pub(super) fn get_nowait(&self) -> PyResult<Obj> {
        if self.is_empty()? {
            return Err(raise(if self.is_shut_down.get() {
                &table().queue_shut_down
            } else {
                &table().queue_empty
            }));
        }
        let item = self.pop()?;
        wake_next(&self.putters)?;
        Ok(item)
    }

    pub(super) fn task_done(&self) -> PyResult<()> {
        let unfinished = self.unfinished.get();
        if unfinished <= 0 {
            return Err(value_error("task_done() called too many times"));
        }
        self.unfinished.set(unfinished - 1);
        if unfinished == 1 {
            self.finished.set()?;
        }
        Ok(())
    }

    #[cfg(Py_3_13)]
    pub(super) fn shutdown(&self, immediate: Option<Raw>) -> PyResult<()> {
        self.is_shut_down.set(true);
        if immediate.map_or(Ok(false), call::is_true)? {
            while !self.is_empty()? {
                drop(self.pop()?);
                let unfinished = self.unfinished.get();
                if unfinished > 0 {
                    self.unfinished.set(unfinished - 1);
                }
            }
            if self.unfinished.get() == 0 {
                self.finished.set()?;
            }
        }
        wake_all(&self.getters)?;
        wake_all(&self.putters)
    }

    /// A future that is done when it is this waiter's turn; it is in `waiting`.
    #[inline]
    pub(super) fn queue_up(&self, waiting: &Deque) -> PyResult<Obj> {
        let future = self.event_loop.create_future(self.raw())?;
        waiting.push(future.as_ptr())?;
        Ok(future)
    }

    /// Leaves the rest of its life to the stdlib's functions (I2).
    pub(super) fn hand_over(&self) -> PyResult<()> {
        if self.handed_over.get() {
            return Ok(());
        }
        if self.kind.get() == Kind::Fifo {
            self.items.show()?;
        }
        self.getters.show()?;
        self.putters.show()?;
        self.finished.show()?;
        self.handed_over.set(true);
        Ok(())
    }
}

/// `_wakeup_next`: the first who still waits.
#[allow(clippy::inline_always)] // Counted: else it is a call per await.
#[inline(always)]
pub(super) fn wake_next(waiting: &Deque) -> PyResult<()> {
    if waiting.is_native_and_empty() {
        return Ok(());
    }
    wake_next_of(waiting)
}

#[inline(never)]
fn wake_next_of(waiting: &Deque) -> PyResult<()> {
    while let Some(waiter) = waiting.pop()? {
        if !waiters::is_done(&waiter)? {
            return waiters::set_result(&waiter, Obj::none());
        }
    }
    Ok(())
}

#[cfg(Py_3_13)]
fn wake_all(waiting: &Deque) -> PyResult<()> {
    while let Some(waiter) = waiting.pop()? {
        if !waiters::is_done(&waiter)? {
            waiters::set_result(&waiter, Obj::none())?;
        }
    }
    Ok(())
}

/// `list.pop()` of a list.
#[inline]
fn pop_last(list: &Obj) -> PyResult<Obj> {
    // SAFETY: A1; a list.
    let len = unsafe { c::PyList_Size(list.as_ptr()) };
    if len <= 0 {
        return Err(index_error("pop from empty list"));
    }
    // SAFETY: A1; in range, a borrowed reference.
    let item = owned(unsafe { c::Py_NewRef(c::PyList_GetItem(list.as_ptr(), len - 1)) })?;
    // SAFETY: A1; no value means to delete. `item` keeps it alive, so nothing else runs.
    status(unsafe { c::PyList_SetSlice(list.as_ptr(), len - 1, len, ptr::null_mut()) })?;
    Ok(item)
}

fn compare(left: &Obj, right: &Obj, operator: i32) -> PyResult<bool> {
    // SAFETY: A1.
    match unsafe { c::PyObject_RichCompareBool(left.as_ptr(), right.as_ptr(), operator) } {
        code if code < 0 => Err(Raised),
        code => Ok(code != 0),
    }
}
