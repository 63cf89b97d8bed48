//! What locks do with those who wait, and their attribute `_waiters`.

use crate::ffi::error::PyResult;
use crate::ffi::{Obj, Raw, object};
use crate::waiters;
use crate::waiters::deque::Deque;

impl Deque {
    /// Is there one that is not cancelled?
    #[inline]
    pub(super) fn has_waiting(&self) -> PyResult<bool> {
        match self.has_uncancelled() {
            Some(known) => Ok(known),
            None => self.ask_who_waits(),
        }
    }

    #[cold]
    fn ask_who_waits(&self) -> PyResult<bool> {
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

    /// `_waiters` of a class that makes its queue with the first waiter.
    pub(super) fn show_if_used(&self) -> PyResult<Obj> {
        if self.is_used() { self.show() } else { Ok(Obj::none()) }
    }

    /// `_waiters = value`
    pub(super) fn assign(&self, value: Raw) {
        if object::is_none(value) {
            self.clear();
        } else {
            self.replace(Obj::from_borrowed(value));
        }
    }
}
