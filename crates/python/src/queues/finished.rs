//! What `join()` waits for: the Event `_finished`, which is set while no task is unfinished.
//!
//! It is native until somebody asks for `_finished`. Then it becomes an Event of the stdlib, for good, with all who
//! wait in its `_waiters`; who joins later waits with its `wait()`.

use super::table;
use crate::ffi::error::PyResult;
use crate::ffi::{Obj, Slot, c, call};
use crate::waiters::deque::{append, remove_if_there};
use crate::waiters::{self, LoopBinding, WaiterQueue};
use std::cell::Cell;
use std::ffi::{c_int, c_void};

/// All zero is the state of a new queue: set, nobody waits.
pub(super) struct Finished {
    joiners: WaiterQueue,
    event_loop: LoopBinding,
    event: Slot,
    unset: Cell<bool>,
}

/// How a join goes on.
pub(super) enum Join {
    /// There is nothing to wait for.
    Finished,
    /// A future that is in the list of waiters.
    Queued(Obj),
    /// The coroutine of the Event.
    Event(Obj),
}

impl Finished {
    /// The Event's `clear()`.
    #[inline]
    pub(super) fn unset(&self) -> PyResult<()> {
        if !self.event.is_set() {
            self.unset.set(true);
            return Ok(());
        }
        self.clear_event()
    }

    #[cold]
    fn clear_event(&self) -> PyResult<()> {
        let event = self.event.get_or_none();
        call::call_method(table().names.clear.as_ptr(), &[event.as_ptr()], None).map(drop)
    }

    /// The Event's `set()`.
    #[inline]
    pub(super) fn set(&self) -> PyResult<()> {
        if let Some(event) = self.event.get() {
            return call::call_method(table().names.set.as_ptr(), &[event.as_ptr()], None).map(drop);
        }
        if self.unset.replace(false) {
            for joiner in self.joiners.all() {
                if !waiters::is_done(&joiner)? {
                    waiters::set_result(&joiner, Obj::bool(true))?;
                }
            }
        }
        Ok(())
    }

    /// Begins the Event's `wait()`.
    pub(super) fn join(&self) -> PyResult<Join> {
        if !self.event.is_set() {
            if !self.unset.get() {
                return Ok(Join::Finished);
            }
            let running = waiters::running_loop()?;
            let bound = self.event_loop.slot();
            if !bound.is_set() {
                bound.set(running.clone());
            }
            if running.is(bound.ptr()) {
                let future = waiters::create_future(&running)?;
                if !self.event.is_set() {
                    self.joiners.push(future.clone());
                    return Ok(Join::Queued(future));
                }
            }
        }
        // Also for any other loop: the Event says that it is bound to a different one.
        let event = self.show()?;
        call::call_method(table().names.wait.as_ptr(), &[event.as_ptr()], None).map(Join::Event)
    }

    /// A future of `join` waits no more.
    pub(super) fn leave(&self, future: &Obj) -> PyResult<()> {
        match self.event.get() {
            None => {
                drop(self.joiners.remove(future.as_ptr()));
                Ok(())
            }
            Some(event) => {
                let all = call::getattr(event.as_ptr(), table().names.waiters.as_ptr())?;
                remove_if_there(&all, future.as_ptr())
            }
        }
    }

    /// The Event.
    pub(super) fn show(&self) -> PyResult<Obj> {
        if let Some(event) = self.event.get() {
            return Ok(event);
        }
        let names = &table().names;
        let made = call::call0(table().event.as_ptr())?;
        let is_set = !self.unset.get();
        if is_set {
            call::call_method(names.set.as_ptr(), &[made.as_ptr()], None)?;
        }
        if let Some(bound) = self.event_loop.slot().get() {
            call::setattr(made.as_ptr(), names.loop_.as_ptr(), bound.as_ptr())?;
        }
        let all = call::getattr(made.as_ptr(), names.waiters.as_ptr())?;
        // Making it was a call into Python, which may have finished or shown what is native until now.
        if let Some(event) = self.event.get() {
            return Ok(event);
        }
        if self.unset.get() == is_set {
            return self.show();
        }
        for joiner in self.joiners.all() {
            append(&all, joiner.as_ptr())?;
        }
        self.event.set(made.clone());
        self.joiners.clear();
        Ok(made)
    }

    /// From now on it is this object.
    pub(super) fn replace(&self, event: Obj) -> PyResult<()> {
        // Those who wait go on waiting for the old one.
        if !self.joiners.is_empty() {
            self.show()?;
        }
        self.event.set(event);
        Ok(())
    }

    /// Set, native, nobody waits. Also for `tp_clear` and `tp_dealloc`.
    pub(super) fn clear(&self) {
        self.unset.set(false);
        self.joiners.clear();
        self.event_loop.clear();
        self.event.clear();
    }

    /// For `tp_traverse`.
    pub(super) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        for code in [self.event_loop.traverse(visit, arg), self.event.traverse(visit, arg)] {
            if code != 0 {
                return code;
            }
        }
        self.joiners.traverse(visit, arg)
    }
}
