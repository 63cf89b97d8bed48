//! Future: a result that will be there later (asyncio.Future).
//!
//! A Future is its own iterator: `await fut` makes no iterator object. The first callback lies in the
//! object, a vector is made only for more. A waiting task is stored as itself, one tagged word, and
//! goes into the ready queue as itself. So is a `Collector`, which counts at once and is called only if something
//! has to happen.
//!
//! Invariants
//! - I1: `first` and `more` hold owned references; `more` is null or a box.
//! - I2: `native` is true only if `event_loop` holds an `EventLoop` whose class does not override `call_soon`.
//! - I4: the collector tracks a future unless it is `hidden`, as that of a sleep is while it lies in the timer queue of a
//!   loop that runs, which keeps it and so the task alive. The loop counts those; the end of its run shows them.
//! - I3: `value` is empty while pending; a result when finished; an exception when finished and `failed`; when cancelled
//!   the exception that ended a task, until somebody is given that.

mod iter;
mod surface;
mod waiter;

pub(crate) use surface::{add_awaited_by, build_types, cannot_delete, discard_awaited_by};

use crate::event_loop::{EventLoop, ready::is_unique};
use crate::fan_in::{Collector, GatheringFuture};
use crate::ffi::error::{PyResult, raise, raise_object, runtime_error, type_error};
use crate::ffi::freelist::FreeList;
use crate::ffi::{Native, Obj, Own, Raised, Raw, Slot, c, call, context, error, object, slot, types};
use crate::state::{helper, imports, names, state};
use crate::task::Task;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use surface::free_plain;
use waiter::{Callbacks, Waiter};

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Pending = 0,
    Cancelled = 1,
    Finished = 2,
}

/// What few futures have, made on demand.
#[derive(Default)]
struct Extra {
    source_traceback: Option<Obj>,
    cancel_message: Option<Obj>,
    exception_traceback: Option<Obj>,
    awaited_by: Option<Obj>,
}

#[repr(C)]
pub(crate) struct Future {
    head: c::PyObject,
    pub(crate) event_loop: Slot,
    first: Cell<Waiter>,
    first_context: Slot,
    more: Cell<*mut Callbacks>,
    pub(crate) value: Slot,
    extra: Cell<*mut Extra>,
    dict: Cell<Raw>,
    pub(crate) weaklist: Cell<Raw>,
    state: Cell<State>,
    failed: Cell<bool>,
    pub(crate) blocking: Cell<bool>,
    pub(crate) log_traceback: Cell<bool>,
    pub(crate) native: Cell<bool>,
    abandoned: Cell<bool>,
    /// Not tracked by the collector (I4).
    hidden: Cell<bool>,
    /// How its memory was allocated, so how it must be freed.
    uncounted: Cell<bool>,
    /// The collector has called the finaliser, which it does once.
    finalized: Cell<bool>,
}

// SAFETY: repr(C), header first; zero is valid for every field (State::Pending is 0).
unsafe impl Native for Future {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.future()
    }
}

static FREE_FUTURES: FreeList<512> = FreeList::new();

/// What an await finds.
pub(crate) enum Outcome {
    Pending,
    Value(Obj),
}

impl Future {
    /// `loop.create_future()` of a native loop.
    #[inline]
    pub(crate) fn create(event_loop: &EventLoop) -> PyResult<Own<Future>> {
        let (obj, track) = match FREE_FUTURES.pop(Future::type_object()) {
            Some(obj) => (obj, true),
            None => (types::allocate(Future::type_object())?, false),
        };
        // SAFETY: freshly made of this very type.
        let future = unsafe { Own::<Future>::from_obj_unchecked(obj) };
        future.attach(event_loop)?;
        if track {
            // SAFETY: an untracked GC object, its fields whole.
            unsafe { c::PyObject_GC_Track(future.raw().cast()) };
        }
        Ok(future)
    }

    /// A sleep's, for the timer queue of its loop.
    #[inline]
    pub(crate) fn create_for_timer(event_loop: &EventLoop) -> PyResult<Own<Future>> {
        if !event_loop.is_in_run() {
            return Future::create(event_loop);
        }
        let obj = match FREE_FUTURES.pop(Future::type_object()) {
            Some(obj) => obj,
            None => Future::note_uncounted(types::allocate_uncounted::<Future>()?),
        };
        // SAFETY: freshly made of this very type.
        let future = unsafe { Own::<Future>::from_obj_unchecked(obj) };
        future.attach(event_loop)?;
        future.hidden.set(true);
        event_loop.hidden_sleeps.set(event_loop.hidden_sleeps.get() + 1);
        Ok(future)
    }

    /// Lets the collector see it: it leaves the timer queue, or the loop's run is over.
    #[inline]
    pub(crate) fn show(&self) {
        if self.hidden.replace(false) {
            // SAFETY: only `create_for_timer` hides a future, and its loop is an EventLoop.
            let native = unsafe { &*self.event_loop.ptr().cast::<EventLoop>() };
            native.hidden_sleeps.set(native.hidden_sleeps.get().saturating_sub(1));
            // SAFETY: an untracked GC object (I4), its fields whole.
            unsafe { c::PyObject_GC_Track(self.raw().cast()) };
        }
    }

    /// A fresh object that starts with a Future, from `allocate_uncounted`.
    #[inline]
    pub(crate) fn note_uncounted(fresh: Obj) -> Obj {
        // SAFETY: as said.
        unsafe { &*fresh.as_ptr().cast::<Future>() }.uncounted.set(true);
        fresh
    }

    /// The end of `tp_dealloc`.
    #[inline]
    pub(crate) fn free_memory(&self) {
        if self.uncounted.get() {
            // SAFETY: dead and untracked, its fields dropped; from `allocate_uncounted`.
            unsafe { types::free_uncounted(self.raw()) };
        } else {
            // SAFETY: as above, from the type's own allocator.
            unsafe { types::free(self.raw()) };
        }
    }

    /// `raw` as a future, if it is exactly a Future, a Task or a gather: nothing of those can be overridden.
    #[inline]
    pub(crate) fn of_final<'a>(raw: Raw) -> Option<&'a Future> {
        let is_one = Future::check_exact(raw) || Task::check_exact(raw) || GatheringFuture::check_exact(raw);
        // SAFETY: Task and GatheringFuture start with Future.
        is_one.then(|| unsafe { &*raw.cast::<Future>() })
    }

    /// Drops what is the last reference in most cases, to a future nobody asks about any more: as its deallocation,
    /// without the way there. That does not tell a debug build of Python, which counts all references there are.
    #[inline]
    pub(crate) fn discard(future: Obj) {
        if !cfg!(py_sys_config = "Py_REF_DEBUG")
            && let Some(this) = Future::of_exact(future.as_ptr())
            && is_unique(this)
            && !this.log_traceback.get()
            && this.has_only_a_value()
        {
            let raw = future.into_ptr();
            // SAFETY: a tracked GC object.
            unsafe { c::PyObject_GC_UnTrack(raw.cast()) };
            free_plain(raw);
        }
    }

    /// No callback, text, attribute or weak reference lies in it.
    #[inline]
    fn has_only_a_value(&self) -> bool {
        let words = self.first.get().word()
            | self.first_context.ptr() as usize
            | self.more.get() as usize
            | self.extra.get() as usize
            | self.dict.get() as usize
            | self.weaklist.get() as usize;
        words == 0
    }

    /// Sets the loop of a fresh object.
    #[inline]
    pub(crate) fn attach(&self, event_loop: &EventLoop) -> PyResult<()> {
        self.event_loop.set_option(Some(event_loop.obj()));
        self.native.set(event_loop.is_plain());
        if event_loop.is_debug() {
            self.capture_source_traceback()?;
        }
        Ok(())
    }

    /// `Future.__init__`: before 3.15 it also runs a second time when a user calls it again.
    pub(crate) fn init(&self, event_loop: Option<Raw>) -> PyResult<()> {
        #[cfg(Py_3_15)]
        if self.event_loop.is_set() {
            let name = object::qualified_type_name(self.raw())?;
            return Err(runtime_error(&format!("{name} object is already initialized")));
        }
        self.show();
        // Dropped last: it may be the last one but the caller's.
        let _linked = Task::of(self.raw()).and_then(Task::leave_loop);
        self.clear_fields();
        self.state.set(State::Pending);
        self.blocking.set(false);
        self.log_traceback.set(false);
        self.failed.set(false);
        let event_loop = match event_loop.filter(|value| !object::is_none(*value)) {
            Some(event_loop) => Obj::from_borrowed(event_loop),
            None => current_event_loop()?,
        };
        if let Some(native) = EventLoop::of(event_loop.as_ptr()) {
            return self.attach(native);
        }
        self.native.set(false);
        let debug = call::call_method(names::get_debug(), &[event_loop.as_ptr()], None);
        self.event_loop.set(event_loop);
        if call::is_true(debug?.as_ptr())? {
            self.capture_source_traceback()?;
        }
        Ok(())
    }

    #[cold]
    fn capture_source_traceback(&self) -> PyResult<()> {
        if crate::ffi::thread::is_finalizing() {
            return Ok(());
        }
        let stack = call::call0(helper("extract_stack")?.as_ptr())?;
        self.extra().source_traceback = Some(stack);
        Ok(())
    }

    /// The rarely used part. The borrow must end before any call into Python.
    #[allow(clippy::mut_from_ref)]
    fn extra(&self) -> &mut Extra {
        if self.extra.get().is_null() {
            self.extra.set(Box::into_raw(Box::default()));
        }
        // SAFETY: a live box of ours; callers end the borrow before calling Python (A1: no other thread).
        unsafe { &mut *self.extra.get() }
    }

    fn extra_if_any(&self) -> Option<&mut Extra> {
        if self.extra.get().is_null() {
            None
        } else {
            Some(self.extra())
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.state.get() != State::Pending
    }

    /// Its timer must not complete it any more: who slept has gone.
    pub(crate) fn abandon(&self) {
        self.show();
        self.abandoned.set(true);
    }

    /// Done, or nobody wants its timer to complete it.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.is_done() || self.abandoned.get()
    }

    #[inline]
    pub(crate) fn is_failed(&self) -> bool {
        self.failed.get()
    }

    /// The loop, if it takes entries directly.
    #[inline]
    pub(crate) fn native_loop(&self) -> Option<&EventLoop> {
        if self.native.get() {
            // SAFETY: I2; the loop lives as long as this reference to it, which only `init` replaces.
            Some(unsafe { &*self.event_loop.ptr().cast::<EventLoop>() })
        } else {
            None
        }
    }

    fn alive(&self) -> PyResult<()> {
        if self.event_loop.is_set() {
            Ok(())
        } else {
            Err(runtime_error("Future object is not initialized."))
        }
    }

    /// There is nothing yet, and never will be if `__init__` did not run.
    #[cold]
    fn no_outcome(&self, text: &str) -> Raised {
        let text = if self.event_loop.is_set() {
            text
        } else {
            "Future object is not initialized."
        };
        raise(imports::invalid_state_error(), text)
    }

    /// Lets `task` be stepped when this future is done.
    #[inline]
    pub(crate) fn add_waiting_task(&self, task: &Task) {
        debug_assert!(!self.is_done());
        let waiter = Waiter::task(task.own());
        if self.first.get() == Waiter::NONE && self.more.get().is_null() {
            self.first.set(waiter);
        } else {
            self.push_more(waiter, None);
        }
    }

    /// Lets `collector` know when this future is done.
    #[inline]
    pub(crate) fn add_collector(&self, collector: &Collector) {
        debug_assert!(!self.is_done());
        let waiter = Waiter::collector(collector);
        if self.first.get() == Waiter::NONE && self.more.get().is_null() {
            self.first.set(waiter);
        } else {
            self.push_more(waiter, None);
        }
    }

    /// Lets `future`, one of the same native loop, be completed with None the turn after this one is done: a callback
    /// without a handle.
    pub(crate) fn add_release(&self, future: Own<Future>) -> PyResult<()> {
        if self.is_done() {
            return self.notify(Waiter::release(future), None);
        }
        let waiter = Waiter::release(future);
        if self.first.get() == Waiter::NONE && self.more.get().is_null() {
            self.first.set(waiter);
        } else {
            self.push_more(waiter, None);
        }
        Ok(())
    }

    /// Takes that back.
    pub(crate) fn remove_release(&self, future: &Future) {
        let word = Waiter::word_of_release(future);
        let (gone, context) = self.take_out(word);
        drop(gone.and_then(Waiter::into_obj));
        drop(context);
    }

    /// Takes one callback out, with its context; the caller drops them.
    fn take_out(&self, wanted: Waiter) -> (Option<Waiter>, Option<Obj>) {
        if self.first.get() == wanted {
            self.first.set(Waiter::NONE);
            return (Some(wanted), self.first_context.take());
        }
        if self.more.get().is_null() {
            return (None, None);
        }
        // SAFETY: I1; no call into Python while the vector is borrowed.
        let more = unsafe { &mut *self.more.get() };
        match more.iter().position(|(waiter, _)| *waiter == wanted) {
            Some(index) => (Some(wanted), more.remove(index).1),
            None => (None, None),
        }
    }

    /// `remove_done_callback(collector)`.
    pub(crate) fn remove_collector(&self, collector: &Collector) {
        let is_it = |waiter: Waiter| waiter.is_collector() && waiter.raw() == collector.raw();
        if is_it(self.first.get()) {
            let first = self.first.replace(Waiter::NONE);
            drop(first.into_obj());
        }
        if self.more.get().is_null() {
            return;
        }
        // SAFETY: I1; no call into Python while the vector is borrowed: what is removed drops below.
        let removed: Vec<_> = unsafe {
            (*self.more.get())
                .extract_if(.., |(waiter, _)| is_it(*waiter))
                .collect()
        };
        for (waiter, context) in removed {
            drop(waiter.into_obj());
            drop(context);
        }
    }

    fn push_more(&self, waiter: Waiter, context: Option<Obj>) {
        if self.more.get().is_null() {
            self.more.set(Box::into_raw(Box::default()));
        }
        // SAFETY: I1; no call into Python while the vector is borrowed.
        unsafe { (*self.more.get()).push((waiter, context)) };
    }

    /// `add_done_callback(callable, context=context)`.
    pub(crate) fn add_callback(&self, callable: Raw, context: Obj) -> PyResult<()> {
        if self.is_done() {
            return self.call_soon(callable, &context);
        }
        let waiter = Waiter::callable(Obj::from_borrowed(callable));
        if self.first.get() == Waiter::NONE && self.more.get().is_null() {
            self.first.set(waiter);
            self.first_context.set_option(Some(context));
        } else {
            self.push_more(waiter, Some(context));
        }
        Ok(())
    }

    /// `loop.call_soon(callable, self, context=context)`.
    fn call_soon(&self, callable: Raw, context: &Obj) -> PyResult<()> {
        if let Some(native) = self.native_loop() {
            let context = if context.is_none() {
                // As `call_soon` takes it: the context of whoever completes the future.
                context::copy_current()?
            } else {
                context.clone()
            };
            return native.schedule_call(callable, self.raw(), context);
        }
        let Some(event_loop) = self.event_loop.get() else {
            return Ok(());
        };
        let kwnames = call::tuple(&[names::context()])?;
        call::call_method(
            names::call_soon(),
            &[event_loop.as_ptr(), callable, self.raw(), context.as_ptr()],
            Some(&kwnames),
        )
        .map(drop)
    }

    fn notify(&self, waiter: Waiter, context: Option<Obj>) -> PyResult<()> {
        let Some(obj) = waiter.into_obj() else { return Ok(()) };
        if let Some(collector) = waiter.as_collector() {
            if let Some(native) = self.native_loop() {
                native.check_can_schedule()?;
                if !collector.settle(self) {
                    return Ok(());
                }
            }
            return self.call_soon(obj.as_ptr(), &collector.context());
        }
        if waiter.is_task() {
            // SAFETY: tagged words are tasks (I1).
            let task = unsafe { Own::<Task>::from_obj_unchecked(obj) };
            let Some(native) = task.future.native_loop().map(Native::own) else {
                return task.schedule_wakeup(self);
            };
            return native.schedule_task(task);
        }
        if waiter.is_release() {
            // SAFETY: words with this tag are futures of a native loop (I1).
            let future = unsafe { Own::<Future>::from_obj_unchecked(obj) };
            let native = future.native_loop().map(Native::own);
            return native.map_or(Ok(()), |native| native.schedule_release(future));
        }
        let context = match context {
            Some(context) => context,
            None => context::copy_current()?,
        };
        self.call_soon(obj.as_ptr(), &context)
    }

    /// Schedules every callback, in order. On an error the rest is dropped, as in asyncio.
    #[inline]
    pub(crate) fn schedule_callbacks(&self) -> PyResult<()> {
        let first = self.first.replace(Waiter::NONE);
        if first != Waiter::NONE {
            let context = self.first_context.take();
            self.notify(first, context)?;
        }
        let more = self.more.replace(ptr::null_mut());
        if more.is_null() {
            return Ok(());
        }
        // SAFETY: I1; taken out above.
        let all = unsafe { Box::from_raw(more) };
        let mut failure = Ok(());
        for (waiter, context) in *all {
            if failure.is_ok() {
                failure = self.notify(waiter, context);
            } else {
                drop(waiter.into_obj());
            }
        }
        failure
    }

    #[cold]
    fn invalid_state() -> Raised {
        raise(imports::invalid_state_error(), "invalid state")
    }

    #[inline]
    pub(crate) fn set_result(&self, result: Obj) -> PyResult<()> {
        self.alive()?;
        if self.is_done() {
            return Err(Future::invalid_state());
        }
        self.state.set(State::Finished);
        self.value.set(result);
        self.schedule_callbacks()
    }

    pub(crate) fn set_exception(&self, exception: Raw) -> PyResult<()> {
        self.alive()?;
        if self.is_done() {
            return Err(Future::invalid_state());
        }
        // SAFETY: A1.
        let instance = if unsafe { c::PyExceptionClass_Check(exception) } != 0 {
            let instance = call::call0(exception)?;
            if self.is_done() {
                return Err(Future::invalid_state());
            }
            instance
        } else {
            Obj::from_borrowed(exception)
        };
        // SAFETY: A1.
        if unsafe { c::PyExceptionInstance_Check(instance.as_ptr()) } == 0 {
            return Err(type_error("invalid exception object"));
        }
        let instance = refuse_stop_iteration(instance)?;
        self.set_exception_instance(instance)
    }

    /// The same for a checked exception instance.
    pub(crate) fn set_exception_instance(&self, exception: Obj) -> PyResult<()> {
        // SAFETY: A1; an exception instance.
        let traceback = Obj::from_owned(unsafe { c::PyException_GetTraceback(exception.as_ptr()) });
        let old = std::mem::replace(&mut self.extra().exception_traceback, traceback);
        drop(old);
        self.state.set(State::Finished);
        self.failed.set(true);
        self.value.set(exception);
        let scheduled = self.schedule_callbacks();
        self.log_traceback.set(true);
        scheduled
    }

    /// Cancels a plain future (a task's own cancel is in `task/cancel.rs`).
    pub(crate) fn cancel(&self, message: Option<Raw>) -> PyResult<bool> {
        self.log_traceback.set(false);
        if self.is_done() {
            return Ok(false);
        }
        self.state.set(State::Cancelled);
        self.set_cancel_message(message);
        self.schedule_callbacks()?;
        Ok(true)
    }

    /// Marks a task cancelled with the exception that ended it.
    pub(crate) fn finish_cancelled(&self, error: Option<Obj>) -> PyResult<()> {
        // As asyncio's C task: the message went with the exception, later ones carry none.
        self.set_cancel_message(None);
        self.log_traceback.set(false);
        self.state.set(State::Cancelled);
        self.value.set_option(error);
        self.schedule_callbacks()
    }

    pub(crate) fn set_cancel_message(&self, message: Option<Raw>) {
        let message = message
            .filter(|message| !object::is_none(*message))
            .map(Obj::from_borrowed);
        if message.is_some() || !self.extra.get().is_null() {
            let old = std::mem::replace(&mut self.extra().cancel_message, message);
            drop(old);
        }
    }

    pub(crate) fn cancel_message(&self) -> Option<Obj> {
        self.extra_if_any().and_then(|extra| extra.cancel_message.clone())
    }

    pub(crate) fn source_traceback(&self) -> Option<Obj> {
        self.extra_if_any().and_then(|extra| extra.source_traceback.clone())
    }

    /// `_make_cancelled_error()`: the saved exception once, then fresh ones.
    pub(crate) fn make_cancelled_error(&self) -> PyResult<Obj> {
        if self.state.get() == State::Cancelled
            && let Some(error) = self.value.take()
        {
            return Ok(error);
        }
        match self.cancel_message() {
            Some(message) => call::call1(imports::cancelled_error(), message.as_ptr()),
            None => call::call0(imports::cancelled_error()),
        }
    }

    /// Its context is the exception that is being handled, as with any that is raised.
    #[cold]
    pub(crate) fn raise_cancelled(&self) -> Raised {
        match self.make_cancelled_error() {
            Ok(error) => raise_object(imports::cancelled_error(), &error),
            Err(raised) => raised,
        }
    }

    /// The result, or its exception raised.
    #[inline]
    pub(crate) fn result(&self) -> PyResult<Obj> {
        match self.state.get() {
            State::Pending => Err(self.no_outcome("Result is not set.")),
            State::Cancelled => Err(self.raise_cancelled()),
            State::Finished if self.failed.get() => Err(self.raise_failure()),
            State::Finished => {
                self.log_traceback.set(false);
                Ok(self.value.get_or_none())
            }
        }
    }

    #[cold]
    fn raise_failure(&self) -> Raised {
        self.log_traceback.set(false);
        let exception = self.value.get_or_none();
        // Each retrieval shows the traceback the exception came with, not one grown by earlier retrievals.
        let traceback = self
            .extra_if_any()
            .and_then(|extra| extra.exception_traceback.take())
            .unwrap_or_else(Obj::none);
        // SAFETY: A1; an exception instance, and a traceback or None.
        if unsafe { c::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr()) } < 0 {
            return Raised;
        }
        drop(traceback);
        raise_object(object::type_of(exception.as_ptr()).cast(), &exception)
    }

    /// One step of `await self`.
    #[inline]
    pub(crate) fn poll(&self) -> PyResult<Outcome> {
        if self.is_done() {
            return self.result().map(Outcome::Value);
        }
        if self.blocking.get() {
            return Err(runtime_error("await wasn't used with future"));
        }
        self.alive()?;
        self.blocking.set(true);
        Ok(Outcome::Pending)
    }

    fn clear_fields(&self) {
        let first = self.first.replace(Waiter::NONE);
        let more = self.more.replace(ptr::null_mut());
        let extra = self.extra.replace(ptr::null_mut());
        drop(first.into_obj());
        self.first_context.clear();
        if !more.is_null() {
            // SAFETY: I1; taken out above.
            for (waiter, context) in *unsafe { Box::from_raw(more) } {
                drop(waiter.into_obj());
                drop(context);
            }
        }
        if !extra.is_null() {
            // SAFETY: made by `extra()`, taken out above.
            drop(unsafe { Box::from_raw(extra) });
        }
        self.value.clear();
        self.event_loop.clear();
    }

    /// For `tp_clear`: also the instance dictionary.
    pub(crate) fn clear(&self) {
        self.clear_fields();
        drop(Obj::from_owned(self.dict.replace(ptr::null_mut())));
    }

    /// Visits every reference.
    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        macro_rules! visit {
            ($raw:expr) => {
                let code = slot::visit_raw($raw, visit, arg);
                if code != 0 {
                    return code;
                }
            };
        }
        visit!(self.event_loop.ptr());
        visit!(self.first.get().raw());
        visit!(self.first_context.ptr());
        visit!(self.value.ptr());
        visit!(self.dict.get());
        let more = self.more.get();
        if !more.is_null() {
            // SAFETY: I1; traversal runs no Python code.
            for (waiter, context) in unsafe { &*more } {
                visit!(waiter.raw());
                visit!(context.as_ref().map_or(ptr::null_mut(), Obj::as_ptr));
            }
        }
        if let Some(extra) = self.extra_if_any() {
            for reference in [
                &extra.source_traceback,
                &extra.cancel_message,
                &extra.exception_traceback,
                &extra.awaited_by,
            ] {
                visit!(reference.as_ref().map_or(ptr::null_mut(), Obj::as_ptr));
            }
        }
        0
    }

    /// Resets a dead object's plain fields for the free list.
    pub(crate) fn reset(&self) {
        self.state.set(State::Pending);
        self.failed.set(false);
        self.blocking.set(false);
        self.log_traceback.set(false);
        self.native.set(false);
        self.abandoned.set(false);
    }

    pub(crate) fn weaklist_is_empty(&self) -> bool {
        self.weaklist.get().is_null()
    }

    /// Tells the exception handler about an exception nobody looked at.
    pub(crate) fn report_unretrieved(&self) -> PyResult<()> {
        self.log_traceback.set(false);
        let Some(exception) = self.value.get() else {
            return Ok(());
        };
        let Some(event_loop) = self.event_loop.get() else {
            return Ok(());
        };
        let details = call::dict()?;
        let message = call::string(&format!(
            "{} exception was never retrieved",
            object::type_name(self.raw())
        ))?;
        call::dict_set(&details, "message", message.as_ptr())?;
        call::dict_set(&details, "exception", exception.as_ptr())?;
        call::dict_set(&details, "future", self.raw())?;
        if let Some(stack) = self.source_traceback() {
            call::dict_set(&details, "source_traceback", stack.as_ptr())?;
        }
        call::call_method(
            names::call_exception_handler(),
            &[event_loop.as_ptr(), details.as_ptr()],
            None,
        )
        .map(drop)
    }
}

/// `asyncio.events.get_event_loop()`, as `Future()` without a loop uses it.
pub(crate) fn current_event_loop() -> PyResult<Obj> {
    if let Some(running) = EventLoop::running() {
        return Ok(running.obj());
    }
    // 3.11 warns from a private variant that takes the stack level; ours has no frame of its own.
    if let Some(function) =
        call::getattr_optional(imports::events_module(), call::interned("_get_event_loop")?.as_ptr())?
    {
        return call::call1(function.as_ptr(), call::int(2)?.as_ptr());
    }
    call::call0(call::getattr(imports::events_module(), call::interned("get_event_loop")?.as_ptr())?.as_ptr())
}

const STOP_ITERATION_TEXT: &str = "StopIteration interacts badly with generators and cannot be raised into a Future";

/// gh-112182, in 3.12.2: a StopIteration is wrapped where it used to be refused.
const STOP_ITERATION_IS_WRAPPED: i64 = 0x030c_02f0;

fn refuse_stop_iteration(exception: Obj) -> PyResult<Obj> {
    // SAFETY: a static of the interpreter.
    let stop_iteration = unsafe { c::PyExc_StopIteration };
    if state().hex_version < STOP_ITERATION_IS_WRAPPED {
        if object::type_of(exception.as_ptr()).cast() == stop_iteration {
            return Err(type_error(STOP_ITERATION_TEXT));
        }
        return Ok(exception);
    }
    if !error::is_instance_of(exception.as_ptr(), stop_iteration) {
        return Ok(exception);
    }
    let text = call::string(STOP_ITERATION_TEXT)?;
    // SAFETY: a static of the interpreter.
    let wrapped = call::call1(unsafe { c::PyExc_RuntimeError }, text.as_ptr())?;
    // SAFETY: A1; both setters take over a reference.
    unsafe {
        c::PyException_SetCause(wrapped.as_ptr(), exception.clone().into_ptr());
        c::PyException_SetContext(wrapped.as_ptr(), exception.into_ptr());
    }
    Ok(wrapped)
}
