//! What the primitives share: the loop they are bound to, and who waits.

pub(crate) mod deque;

use crate::event_loop::EventLoop;
use crate::ffi::error::{PyResult, runtime_error};
use crate::ffi::{Native, Obj, Raw, Slot, c, call, object, slot};
use crate::future::{Future, State};
use crate::state::{imports, names};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ptr;

/// Before 3.12 the interpreter specialises calls of methods only for objects whose `__dict__` is there, be it empty.
/// asyncio's own have one, too.
#[inline]
pub(crate) fn make_attributes(dict: &Slot) -> PyResult<()> {
    if cfg!(not(Py_3_12)) && !dict.is_set() {
        let made = call::dict()?;
        // A collection on the way may have run somebody who asked for it.
        if !dict.is_set() {
            dict.init(made);
        }
    }
    Ok(())
}

/// The running loop, or None.
#[inline]
pub(crate) fn running_loop() -> PyResult<Obj> {
    match EventLoop::running() {
        Some(running) => Ok(running.obj()),
        None => call::call0(imports::get_running_loop_or_none()),
    }
}

/// `loop.create_future()`.
#[inline]
pub(crate) fn create_future(event_loop: &Obj) -> PyResult<Obj> {
    match EventLoop::of(event_loop.as_ptr()) {
        Some(native) if native.has_plain_timers() => native.create_future(),
        _ => call::call_method(call::interned("create_future")?.as_ptr(), &[event_loop.as_ptr()], None),
    }
}

/// `mixins._LoopBoundMixin`: bound to the loop it first waited on.
#[repr(transparent)]
pub(crate) struct LoopBinding(Slot);

impl LoopBinding {
    /// The running loop; `owner` is bound to it from now on, or else it must be the one it is bound to.
    #[inline]
    pub(crate) fn get(&self, owner: Raw) -> PyResult<Obj> {
        let running = running_loop()?;
        let bound = self.0.ptr();
        if bound == running.as_ptr() {
            return Ok(running);
        }
        if bound.is_null() || object::is_none(bound) {
            self.0.set(running.clone());
            return Ok(running);
        }
        Err(runtime_error(&format!(
            "{} is bound to a different event loop",
            call::repr(owner)?
        )))
    }

    /// A future of the running loop; see `get`.
    #[inline]
    pub(crate) fn create_future(&self, owner: Raw) -> PyResult<Obj> {
        if let Some(running) = EventLoop::running()
            && self.0.ptr() == running.raw()
            && running.has_plain_timers()
        {
            return running.create_future();
        }
        create_future(&self.get(owner)?)
    }

    /// `_loop`, and for the collector.
    pub(crate) fn slot(&self) -> &Slot {
        &self.0
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        self.0.traverse(visit, arg)
    }
}

/// A waiter is done: a native future looked at directly, any other asked.
#[inline]
pub(crate) fn is_done(waiter: &Obj) -> PyResult<bool> {
    match Future::of_exact(waiter.as_ptr()) {
        Some(native) => Ok(native.is_done()),
        None => ask(waiter, "done"),
    }
}

#[inline]
pub(crate) fn is_cancelled(waiter: &Obj) -> PyResult<bool> {
    match Future::of_exact(waiter.as_ptr()) {
        Some(native) => Ok(native.state() == State::Cancelled),
        None => ask(waiter, "cancelled"),
    }
}

#[cold]
fn ask(waiter: &Obj, method: &str) -> PyResult<bool> {
    let answer = call::call_method(call::interned(method)?.as_ptr(), &[waiter.as_ptr()], None)?;
    call::is_true(answer.as_ptr())
}

/// `waiter.cancel()`.
pub(crate) fn cancel(waiter: &Obj) -> PyResult<()> {
    match Future::of_exact(waiter.as_ptr()) {
        Some(native) => native.cancel(None).map(drop),
        None => call::call_method(names::cancel(), &[waiter.as_ptr()], None).map(drop),
    }
}

#[inline]
pub(crate) fn set_result(waiter: &Obj, result: Obj) -> PyResult<()> {
    match Future::of_exact(waiter.as_ptr()) {
        Some(native) => native.set_result(result),
        None => {
            let name = call::interned("set_result")?;
            call::call_method(name.as_ptr(), &[waiter.as_ptr(), result.as_ptr()], None).map(drop)
        }
    }
}

#[inline]
pub(crate) fn set_exception(waiter: &Obj, exception: Raw) -> PyResult<()> {
    match Future::of_exact(waiter.as_ptr()) {
        Some(native) => native.set_exception(exception),
        None => {
            let name = call::interned("set_exception")?;
            call::call_method(name.as_ptr(), &[waiter.as_ptr(), exception], None).map(drop)
        }
    }
}
/// How many places an empty queue keeps.
const KEPT_MAX: usize = 1024;

/// Futures, first come first served. A null pointer is an empty queue, so that zeroed memory is one.
///
/// Nothing here runs Python code except dropping what is returned.
pub(crate) struct WaiterQueue(Cell<*mut VecDeque<Obj>>);

impl WaiterQueue {
    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn inner(&self) -> Option<&mut VecDeque<Obj>> {
        // SAFETY: null or a box of ours; A1: no other thread, and no borrow outlives a method of this type.
        unsafe { self.0.get().as_mut() }
    }

    #[inline]
    pub(crate) fn push(&self, waiter: Obj) {
        if self.0.get().is_null() {
            self.0.set(Box::into_raw(Box::default()));
        }
        if let Some(queue) = self.inner() {
            queue.push_back(waiter);
        }
    }

    /// Takes out the first. What a burst needed is given back once it is over.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Obj> {
        let queue = self.inner()?;
        let first = queue.pop_front();
        if queue.is_empty() && queue.capacity() > KEPT_MAX {
            queue.shrink_to(0);
        }
        first
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<Obj> {
        self.inner()?.front().cloned()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.inner().map_or(0, |queue| queue.len())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has anybody ever waited? (`_waiters` is None until then.)
    pub(crate) fn is_used(&self) -> bool {
        !self.0.get().is_null()
    }

    /// Takes out the waiter, which is the first in most cases.
    #[inline]
    pub(crate) fn remove(&self, waiter: Raw) -> Option<Obj> {
        let queue = self.inner()?;
        if queue.front().is_some_and(|first| first.is(waiter)) {
            return queue.pop_front();
        }
        let index = queue.iter().position(|other| other.is(waiter))?;
        queue.remove(index)
    }

    /// Is there one that is not cancelled? None if only Python code can tell.
    #[inline]
    pub(crate) fn has_uncancelled(&self) -> Option<bool> {
        for waiter in self.inner().into_iter().flat_map(|queue| queue.iter()) {
            if Future::of_exact(waiter.as_ptr())?.state() != State::Cancelled {
                return Some(true);
            }
        }
        Some(false)
    }

    /// New references to all of them, in order.
    pub(crate) fn all(&self) -> Vec<Obj> {
        self.inner()
            .map_or_else(Vec::new, |queue| queue.iter().cloned().collect())
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Obj> {
        self.inner()?.get(index).cloned()
    }

    /// The first one for which `wanted` holds. `wanted` may run Python code, which may change the queue.
    #[inline]
    pub(crate) fn find(&self, mut wanted: impl FnMut(&Obj) -> PyResult<bool>) -> PyResult<Option<Obj>> {
        let mut index = 0;
        while let Some(waiter) = self.get(index) {
            if wanted(&waiter)? {
                return Ok(Some(waiter));
            }
            index += 1;
        }
        Ok(None)
    }

    /// For `tp_clear` and `tp_dealloc`.
    pub(crate) fn clear(&self) {
        let queue = self.0.replace(ptr::null_mut());
        if !queue.is_null() {
            // SAFETY: made by `push`, taken out above.
            drop(unsafe { Box::from_raw(queue) });
        }
    }

    /// For `tp_traverse`.
    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        let Some(queue) = self.inner() else { return 0 };
        for waiter in queue.iter() {
            let code = slot::visit_raw(waiter.as_ptr(), visit, arg);
            if code != 0 {
                return code;
            }
        }
        0
    }
}
