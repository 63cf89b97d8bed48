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
//! - I3: `value` is empty while pending; a result when finished; an exception when finished and `failed`.

use crate::event_loop::EventLoop;
use crate::fan_in::{Collector, GatheringFuture};
use crate::ffi::error::{PyResult, owned, raise, raise_object, restore, runtime_error, type_error, value_error};
use crate::ffi::freelist::FreeList;
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::{Method, TypeSpec};
use crate::ffi::{
    Args, Native, Obj, Own, Raised, Raw, Slot, args, c, call, context, error, object, slot, stop_iteration, trash,
    types,
};
use crate::state::{helper, imports, names, state};
use crate::task::Task;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;

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
    cancelled_error: Option<Obj>,
    exception_traceback: Option<Obj>,
    awaited_by: Option<Obj>,
}

/// Who is told: a task to step, a collector, a future to complete with None one turn later (all three tagged), or a
/// callable.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiter(usize);

const TASK_TAG: usize = 1;
const COLLECTOR_TAG: usize = 2;
const RELEASE_TAG: usize = 4;
const TAGS: usize = TASK_TAG | COLLECTOR_TAG | RELEASE_TAG;

impl Waiter {
    const NONE: Waiter = Waiter(0);

    #[inline]
    fn task(task: Own<Task>) -> Waiter {
        Waiter(task.into_obj().into_ptr() as usize | TASK_TAG)
    }

    fn release(future: Own<Future>) -> Waiter {
        Waiter(future.into_obj().into_ptr() as usize | RELEASE_TAG)
    }

    #[inline]
    fn collector(collector: &Collector) -> Waiter {
        Waiter(collector.obj().into_ptr() as usize | COLLECTOR_TAG)
    }

    #[inline]
    fn callable(callable: Obj) -> Waiter {
        Waiter(callable.into_ptr() as usize)
    }

    #[inline]
    fn is_task(self) -> bool {
        self.0 & TASK_TAG != 0
    }

    #[inline]
    fn is_collector(self) -> bool {
        self.0 & COLLECTOR_TAG != 0
    }

    #[inline]
    fn is_release(self) -> bool {
        self.0 & RELEASE_TAG != 0
    }

    #[inline]
    fn raw(self) -> Raw {
        (self.0 & !TAGS) as Raw
    }

    /// The collector, borrowed.
    #[inline]
    fn as_collector<'a>(self) -> Option<&'a Collector> {
        // SAFETY: tagged words are collectors; the word owns a reference.
        self.is_collector().then(|| unsafe { &*self.raw().cast::<Collector>() })
    }

    /// Takes over the reference.
    #[inline]
    fn into_obj(self) -> Option<Obj> {
        Obj::from_owned(self.raw())
    }
}

type Callbacks = Vec<(Waiter, Option<Obj>)>;

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
    weaklist: Cell<Raw>,
    state: Cell<State>,
    failed: Cell<bool>,
    pub(crate) blocking: Cell<bool>,
    pub(crate) log_traceback: Cell<bool>,
    pub(crate) native: Cell<bool>,
    abandoned: Cell<bool>,
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

    /// `raw` as a future, if it is exactly a Future, a Task or a gather: nothing of those can be overridden.
    #[inline]
    pub(crate) fn of_final<'a>(raw: Raw) -> Option<&'a Future> {
        let is_one = Future::check_exact(raw) || Task::check_exact(raw) || GatheringFuture::check_exact(raw);
        // SAFETY: Task and GatheringFuture start with Future.
        is_one.then(|| unsafe { &*raw.cast::<Future>() })
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
        let word = Waiter(future.raw() as usize | RELEASE_TAG);
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
            return native.schedule_call(callable, self.raw(), context.clone());
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
        if let Some(error) = error {
            let old = self.extra().cancelled_error.replace(error);
            drop(old);
        }
        // As asyncio's C task: the message went with the exception, later ones carry none.
        self.set_cancel_message(None);
        self.log_traceback.set(false);
        self.state.set(State::Cancelled);
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
        if let Some(error) = self.extra_if_any().and_then(|extra| extra.cancelled_error.take()) {
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
            State::Pending => Err(raise(imports::invalid_state_error(), "Result is not set.")),
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
                &extra.cancelled_error,
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

// ---- the Python surface ------------------------------------------------------------------------

fn py_result(this: &Future) -> PyResult<Obj> {
    this.result()
}

fn py_exception(this: &Future) -> PyResult<Obj> {
    match this.state.get() {
        State::Pending => Err(raise(imports::invalid_state_error(), "Exception is not set.")),
        State::Cancelled => Err(this.raise_cancelled()),
        State::Finished => {
            this.log_traceback.set(false);
            Ok(if this.failed.get() {
                this.value.get_or_none()
            } else {
                Obj::none()
            })
        }
    }
}

fn py_set_result(this: &Future, result: Raw) -> PyResult<()> {
    this.set_result(Obj::from_borrowed(result))
}

fn py_set_exception(this: &Future, exception: Raw) -> PyResult<()> {
    this.set_exception(exception)
}

fn py_add_done_callback(this: &Future, args: Args<'_>) -> PyResult<()> {
    this.alive()?;
    let [callable, given] = args.bind("add_done_callback", &[c"fn", c"context"], 1, 1)?;
    let context = match given.filter(|given| !object::is_none(*given)) {
        Some(given) => Obj::from_borrowed(given),
        None => context::copy_current()?,
    };
    this.add_callback(callable.unwrap_or(ptr::null_mut()), context)
}

fn py_remove_done_callback(this: &Future, callable: Raw) -> PyResult<Obj> {
    this.alive()?;
    // Comparing runs user code, which may change the callbacks: compare against a copy, then rebuild
    // from what is there afterwards.
    let mut removed = Vec::new();
    for waiter in this.waiters() {
        let shown = show_waiter(waiter)?;
        if call::equal(shown.as_ptr(), callable)? {
            removed.push(waiter);
        }
    }
    let mut count = 0;
    for gone in removed {
        let (dead, context) = this.take_out(gone);
        count += usize::from(dead.is_some());
        drop(dead.and_then(Waiter::into_obj));
        drop(context);
    }
    call::int(count as i64)
}

impl Future {
    /// Borrowed words of all callbacks, in order.
    fn waiters(&self) -> Vec<Waiter> {
        let mut all = Vec::new();
        if self.first.get() != Waiter::NONE {
            all.push(self.first.get());
        }
        if !self.more.get().is_null() {
            // SAFETY: I1; only copies words.
            all.extend(unsafe { &*self.more.get() }.iter().map(|(waiter, _)| *waiter));
        }
        all
    }
}

/// A callback as Python code sees it: a waiting task shows as its bound wakeup.
fn show_waiter(waiter: Waiter) -> PyResult<Obj> {
    let obj = Obj::from_borrowed(waiter.raw());
    if waiter.is_task() {
        crate::task::wakeup_function(&obj)
    } else if waiter.is_release() {
        crate::timeouts::release_function(&obj)
    } else {
        Ok(obj)
    }
}

/// `_callbacks`: None, or a list of (callback, context), as anyio reads it.
fn show_callbacks(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    let waiters = this.waiters();
    if waiters.is_empty() {
        return Ok(Obj::none());
    }
    let mut contexts = Vec::new();
    if this.first.get() != Waiter::NONE {
        contexts.push(this.first_context.get());
    }
    if !this.more.get().is_null() {
        // SAFETY: I1; clones only count references.
        contexts.extend(unsafe { &*this.more.get() }.iter().map(|(_, context)| context.clone()));
    }
    let list = call::list()?;
    for (waiter, context) in waiters.into_iter().zip(contexts) {
        let context = context.or_else(|| match waiter.as_collector() {
            Some(collector) => Some(collector.context()),
            None => Task::of(waiter.raw()).and_then(|task| task.context.get()),
        });
        let shown = show_waiter(waiter)?;
        let pair = call::tuple(&[shown.as_ptr(), context.unwrap_or_else(Obj::none).as_ptr()])?;
        call::list_append(&list, pair.as_ptr())?;
    }
    Ok(list)
}

fn py_cancel(this: &Future, args: Args<'_>) -> PyResult<bool> {
    this.alive()?;
    let [message] = args.bind("cancel", &[c"msg"], 1, 0)?;
    this.cancel(message)
}

fn py_cancelled(this: &Future) -> PyResult<bool> {
    Ok(this.state.get() == State::Cancelled && this.event_loop.is_set())
}

fn py_done(this: &Future) -> PyResult<bool> {
    Ok(this.is_done() && this.event_loop.is_set())
}

fn py_get_loop(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    Ok(this.event_loop.get_or_none())
}

fn py_make_cancelled_error(this: &Future) -> PyResult<Obj> {
    this.make_cancelled_error()
}

fn py_repr(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    call::call1(helper("future_repr")?.as_ptr(), this.raw())
}

fn show_state(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    call::interned(match this.state.get() {
        State::Pending => "PENDING",
        State::Cancelled => "CANCELLED",
        State::Finished => "FINISHED",
    })
}

/// What `del future.name` raises, for an attribute that can be set.
pub(crate) fn cannot_delete(raw: Raw, name: &str) -> Raised {
    if cfg!(Py_3_14) {
        let kind = object::full_type_name(raw);
        return error::attribute_error(&format!("attribute '{name}' of '{kind}' objects cannot be deleted"));
    }
    error::attribute_error("cannot delete attribute")
}

fn show_blocking(this: &Future) -> PyResult<Obj> {
    Ok(Obj::bool(this.blocking.get() && this.event_loop.is_set()))
}

fn set_blocking(this: &Future, value: Option<Raw>) -> PyResult<()> {
    this.alive()?;
    let value = value.ok_or_else(|| cannot_delete(this.raw(), "_asyncio_future_blocking"))?;
    this.blocking.set(call::is_true(value)?);
    Ok(())
}

fn show_log_traceback(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    Ok(Obj::bool(this.log_traceback.get()))
}

fn set_log_traceback(this: &Future, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| cannot_delete(this.raw(), "_log_traceback"))?;
    if call::is_true(value)? {
        return Err(value_error("_log_traceback can only be set to False"));
    }
    this.log_traceback.set(false);
    Ok(())
}

fn show_loop(this: &Future) -> PyResult<Obj> {
    Ok(this.event_loop.get_or_none())
}

fn show_result(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    Ok(if this.failed.get() {
        Obj::none()
    } else {
        this.value.get_or_none()
    })
}

fn show_exception(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    Ok(if this.failed.get() {
        this.value.get_or_none()
    } else {
        Obj::none()
    })
}

fn show_source_traceback(this: &Future) -> PyResult<Obj> {
    Ok(this.source_traceback().unwrap_or_else(Obj::none))
}

fn show_cancel_message(this: &Future) -> PyResult<Obj> {
    Ok(this.cancel_message().unwrap_or_else(Obj::none))
}

fn set_cancel_message(this: &Future, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| cannot_delete(this.raw(), "_cancel_message"))?;
    this.set_cancel_message(Some(value));
    Ok(())
}

/// 3.14's call graph: who awaits this future. Waiting tasks, also those behind collectors, are known from the
/// callbacks themselves.
fn show_awaited_by(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    let noted = this.extra_if_any().and_then(|extra| extra.awaited_by.clone());
    let waiters = this.waiters().into_iter();
    let tasks: Vec<Obj> = waiters
        .filter_map(|waiter| match waiter.as_collector() {
            Some(collector) => collector.awaiting_task(),
            None => waiter.is_task().then(|| Obj::from_borrowed(waiter.raw())),
        })
        .collect();
    if tasks.is_empty() && noted.is_none() {
        return Ok(Obj::none());
    }
    // SAFETY: A1.
    let set = owned(unsafe { c::PySet_New(noted.as_ref().map_or(ptr::null_mut(), Obj::as_ptr)) })?;
    for task in tasks {
        // SAFETY: A1; a fresh set.
        error::status(unsafe { c::PySet_Add(set.as_ptr(), task.as_ptr()) })?;
    }
    // SAFETY: A1.
    owned(unsafe { c::PyFrozenSet_New(set.as_ptr()) })
}

/// `future_add_to_awaited_by(fut, waiter)` for a native `fut`.
pub(crate) fn add_awaited_by(this: &Future, waiter: Raw) -> PyResult<()> {
    let noted = this.extra_if_any().and_then(|extra| extra.awaited_by.clone());
    let set = match noted {
        Some(set) => set,
        None => {
            // SAFETY: A1.
            let set = owned(unsafe { c::PySet_New(ptr::null_mut()) })?;
            this.extra().awaited_by = Some(set.clone());
            set
        }
    };
    // SAFETY: A1.
    error::status(unsafe { c::PySet_Add(set.as_ptr(), waiter) })
}

/// `future_discard_from_awaited_by(fut, waiter)` for a native `fut`.
pub(crate) fn discard_awaited_by(this: &Future, waiter: Raw) -> PyResult<()> {
    let Some(set) = this.extra_if_any().and_then(|extra| extra.awaited_by.clone()) else {
        return Ok(());
    };
    // SAFETY: A1.
    error::status(unsafe { c::PySet_Discard(set.as_ptr(), waiter) })
}

/// Exact instances say they are the stdlib's class, for names imported before `install()`.
fn class(this: &Future) -> PyResult<Obj> {
    let kind = object::type_of(this.raw());
    Ok(Obj::from_borrowed(if kind == Future::type_object() {
        imports::stdlib_future()
    } else if kind == Task::type_object() {
        imports::stdlib_task()
    } else {
        kind.cast()
    }))
}

/// Assigning `__class__` keeps working as for any object.
fn set_class(this: &Future, value: Option<Raw>) -> PyResult<()> {
    crate::metaclass::set_class(this.raw(), value)
}

fn return_self(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    Ok(this.obj())
}

#[inline]
pub(crate) fn iternext(this: &Future) -> PyResult<Option<Obj>> {
    match this.poll()? {
        Outcome::Pending => Ok(Some(this.obj())),
        // NULL without an exception means "finished with None".
        Outcome::Value(value) if value.is_none() => Ok(None),
        Outcome::Value(value) => Err(stop_iteration::raise(value)),
    }
}

unsafe extern "C" fn am_send(slf: Raw, _argument: Raw, result: *mut Raw) -> c::PySendResult {
    let mut outcome = c::PySendResult::PYGEN_ERROR;
    let value: Raw = trampoline::enter(|| {
        // SAFETY: a slot's receiver.
        let this = unsafe { &*slf.cast::<Future>() };
        Ok(match this.poll()? {
            Outcome::Pending => {
                outcome = c::PySendResult::PYGEN_NEXT;
                this.obj()
            }
            Outcome::Value(value) => {
                outcome = c::PySendResult::PYGEN_RETURN;
                value
            }
        })
    });
    // SAFETY: the caller's out-pointer.
    unsafe { *result = value };
    outcome
}

/// `Future.__class_getitem__`.
unsafe extern "C" fn class_getitem(class: Raw, item: Raw) -> Raw {
    // SAFETY: A1; both live.
    unsafe { c::Py_GenericAlias(class, item) }
}

unsafe extern "C" fn future_init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let [event_loop] = args.bind("Future", &[c"loop"], 0, 0)?;
            // SAFETY: tp_init's receiver.
            unsafe { &*slf.cast::<Future>() }.init(event_loop)
        })
    })
}

unsafe extern "C" fn future_traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    // SAFETY: tp_traverse's receiver.
    unsafe { &*slf.cast::<Future>() }.traverse(visit, arg)
}

unsafe extern "C" fn future_clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        unsafe { &*slf.cast::<Future>() }.clear();
        Ok(())
    })
}

unsafe extern "C" fn future_finalize(slf: Raw) {
    // SAFETY: tp_finalize's receiver.
    let this = unsafe { &*slf.cast::<Future>() };
    if !this.log_traceback.get() {
        return;
    }
    trampoline::enter_void(|| {
        let interrupted = error::take_if_any();
        if this.report_unretrieved().is_err() {
            error::write_unraisable(slf);
        }
        if let Some(interrupted) = interrupted {
            let Raised = restore(interrupted);
        }
    });
}

unsafe extern "C" fn future_dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<Future>() };
        // SAFETY: A1; a negative answer means the finaliser brought the object back to life.
        if this.log_traceback.get() && unsafe { c::PyObject_CallFinalizerFromDealloc(slf) } < 0 {
            return;
        }
        // SAFETY: a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        trash::free_shallowly(slf, free_dead);
    });
}

/// The rest of a dead, untracked object.
fn free_dead(slf: Raw) {
    // SAFETY: dead but whole.
    let this = unsafe { &*slf.cast::<Future>() };
    if !this.weaklist_is_empty() {
        // SAFETY: A1; the type has a weaklist offset.
        unsafe { c::PyObject_ClearWeakRefs(slf) };
    }
    this.clear();
    this.reset();
    // A finalized object keeps a mark that would silence its next life's finaliser.
    // SAFETY: a GC object.
    let fresh = unsafe { c::PyObject_GC_IsFinalized(slf) } == 0;
    let kind = object::type_of(slf);
    if !(kind == Future::type_object() && fresh && FREE_FUTURES.push(slf)) {
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    }
}

// ---- FutureIter: what `fut.__await__()` and `iter(fut)` return to Python code --------------------

#[repr(C)]
struct FutureIter {
    head: c::PyObject,
    future: Slot,
}

// SAFETY: repr(C), header first, zero is valid.
unsafe impl Native for FutureIter {
    fn type_object() -> *mut c::PyTypeObject {
        state().types.future_iter()
    }
}

fn py_await(this: &Future) -> PyResult<Obj> {
    this.alive()?;
    let iter = types::allocate(FutureIter::type_object())?;
    // SAFETY: freshly made of this very type.
    let iter = unsafe { Own::<FutureIter>::from_obj_unchecked(iter) };
    iter.future.set(this.obj());
    Ok(iter.into_obj())
}

fn iter_next(this: &FutureIter) -> PyResult<Option<Obj>> {
    let Some(future) = this.future.get() else {
        return Ok(None);
    };
    let Some(future) = Future::of(future.as_ptr()) else {
        return Ok(None);
    };
    match future.poll()? {
        Outcome::Pending => Ok(Some(future.obj())),
        Outcome::Value(value) => {
            this.future.clear();
            if value.is_none() {
                return Ok(None);
            }
            // Python code may look at its arguments, so it is the ordinary one.
            // SAFETY: a static of the interpreter.
            Err(restore(call::call1(unsafe { c::PyExc_StopIteration }, value.as_ptr())?))
        }
    }
}

fn iter_send(this: &FutureIter, _value: Raw) -> PyResult<Obj> {
    match iter_next(this) {
        Ok(Some(obj)) => Ok(obj),
        // SAFETY: a static of the interpreter.
        Ok(None) => Err(raise_object(unsafe { c::PyExc_StopIteration }, &Obj::none())),
        Err(raised) => Err(raised),
    }
}

fn iter_close(this: &FutureIter) -> PyResult<()> {
    this.future.clear();
    Ok(())
}

fn iter_throw(this: &FutureIter, args: Args<'_>) -> PyResult<Obj> {
    let [kind, value, traceback] = args.bind("throw", &[c"type", c"value", c"traceback"], 3, 1)?;
    let (kind, value) = (
        kind.unwrap_or(ptr::null_mut()),
        value.filter(|value| !object::is_none(*value)),
    );
    let traceback = traceback.filter(|traceback| !object::is_none(*traceback));
    if args.positional().len() > 1 {
        #[cfg(Py_3_12)]
        error::warn(
            // SAFETY: a static of the interpreter.
            unsafe { c::PyExc_DeprecationWarning },
            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.",
            1,
        )?;
    }
    if let Some(traceback) = traceback {
        // SAFETY: A1.
        if unsafe { c::PyTraceBack_Check(traceback) } == 0 {
            return Err(type_error("throw() third argument must be a traceback"));
        }
    }
    // SAFETY: A1.
    let (is_class, is_instance) = unsafe {
        (
            c::PyExceptionClass_Check(kind) != 0,
            c::PyExceptionInstance_Check(kind) != 0,
        )
    };
    this.future.clear();
    let exception = if is_class {
        // SAFETY: A1.
        match value {
            Some(value) if call::isinstance(value, kind)? => Obj::from_borrowed(value),
            Some(value) => call::call1(kind, value)?,
            None => call::call0(kind)?,
        }
    } else if is_instance {
        if value.is_some() {
            return Err(type_error("instance exception may not have a separate value"));
        }
        Obj::from_borrowed(kind)
    } else {
        return Err(type_error(
            "exceptions must be classes deriving BaseException or instances of such a class",
        ));
    };
    if let Some(traceback) = traceback {
        // SAFETY: A1; checked above.
        error::status(unsafe { c::PyException_SetTraceback(exception.as_ptr(), traceback) })?;
    }
    Err(raise_object(object::type_of(exception.as_ptr()).cast(), &exception))
}

fn iter_self(this: &FutureIter) -> PyResult<Obj> {
    Ok(this.obj())
}

unsafe extern "C" fn iter_traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    // SAFETY: tp_traverse's receiver.
    unsafe { &*slf.cast::<FutureIter>() }.future.traverse(visit, arg)
}

unsafe extern "C" fn iter_clear(slf: Raw) -> c_int {
    // SAFETY: tp_clear's receiver.
    unsafe { &*slf.cast::<FutureIter>() }.future.clear();
    0
}

unsafe extern "C" fn iter_dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, a GC object.
        unsafe {
            c::PyObject_GC_UnTrack(slf.cast());
            (*slf.cast::<FutureIter>()).future.clear();
            types::free(slf);
        }
    });
}

fn build_iter(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.FutureIter",
        c"Iterator over a Future, as `yield from` drives it.",
        size_of::<FutureIter>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![
        onearg!(
            c"send",
            FutureIter,
            iter_send,
            c"send($self, value, /)\n--\n\nResume the iterator."
        ),
        fastcall!(
            c"throw",
            FutureIter,
            iter_throw,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception at the await."
        ),
        noargs!(
            c"close",
            FutureIter,
            iter_close,
            c"close($self, /)\n--\n\nForget the future."
        ),
    ];
    spec.slots = vec![
        (c::Py_tp_traverse, iter_traverse as *mut c_void),
        (c::Py_tp_clear, iter_clear as *mut c_void),
        (c::Py_tp_dealloc, iter_dealloc as *mut c_void),
        unary_slot!(c::Py_tp_iter, FutureIter, iter_self),
        unary_slot!(c::Py_tp_iternext, FutureIter, iter_next),
    ];
    spec.build(module)
}

/// The type object and the iterator's.
pub(crate) fn build_types(module: Raw, metaclass: Raw) -> PyResult<(Obj, Obj)> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Future",
        c"Future(*, loop=None)\n--\n\nA result that will be there later (asyncio.Future).",
        size_of::<Future>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.metaclass = Some(metaclass);
    spec.dict_offset = Some(offset_of!(Future, dict));
    spec.weaklist_offset = Some(offset_of!(Future, weaklist));
    spec.methods = vec![
        noargs!(c"result", Future, py_result, c"result($self, /)\n--\n\nThe result, or the exception raised; InvalidStateError if there is none yet."),
        noargs!(c"exception", Future, py_exception, c"exception($self, /)\n--\n\nThe exception set on this future, or None."),
        onearg!(c"set_result", Future, py_set_result, c"set_result($self, result, /)\n--\n\nMark the future done and set its result."),
        onearg!(c"set_exception", Future, py_set_exception, c"set_exception($self, exception, /)\n--\n\nMark the future done and set an exception."),
        fastcall!(c"add_done_callback", Future, py_add_done_callback, c"add_done_callback($self, fn, /, *, context=None)\n--\n\nCall fn(future) through the loop when the future is done."),
        onearg!(c"remove_done_callback", Future, py_remove_done_callback, c"remove_done_callback($self, fn, /)\n--\n\nRemove all instances of a callback; returns how many."),
        fastcall!(c"cancel", Future, py_cancel, c"cancel($self, /, msg=None)\n--\n\nCancel the future and schedule its callbacks; False if it was done."),
        noargs!(c"cancelled", Future, py_cancelled, c"cancelled($self, /)\n--\n\nTrue if the future was cancelled."),
        noargs!(c"done", Future, py_done, c"done($self, /)\n--\n\nTrue if the future has a result, an exception, or was cancelled."),
        noargs!(c"get_loop", Future, py_get_loop, c"get_loop($self, /)\n--\n\nThe event loop the future is bound to."),
        noargs!(c"_make_cancelled_error", Future, py_make_cancelled_error, c"_make_cancelled_error($self, /)\n--\n\nThe CancelledError to raise for a cancelled future."),
        // Python code that asks gets an iterator; the interpreter's own await takes the slot, the future itself.
        noargs!(c"__await__", Future, py_await, c"__await__($self, /)\n--\n\nAn iterator for await.").instead_of_slot(),
        Method::onearg(c"__class_getitem__", class_getitem, c"See PEP 585").of_class(),
    ];
    spec.properties = vec![
        property!(c"_state", Future, show_state),
        property!(c"_asyncio_future_blocking", Future, show_blocking, set_blocking),
        property!(c"_loop", Future, show_loop),
        property!(c"_callbacks", Future, show_callbacks),
        property!(c"_result", Future, show_result),
        property!(c"_exception", Future, show_exception),
        property!(c"_log_traceback", Future, show_log_traceback, set_log_traceback),
        property!(c"_source_traceback", Future, show_source_traceback),
        property!(c"_cancel_message", Future, show_cancel_message, set_cancel_message),
        property!(c"_asyncio_awaited_by", Future, show_awaited_by),
        property!(c"__class__", Future, class, set_class),
    ];
    spec.slots = vec![
        (c::Py_tp_init, future_init as *mut c_void),
        (c::Py_tp_new, c::PyType_GenericNew as *mut c_void),
        (c::Py_tp_traverse, future_traverse as *mut c_void),
        (c::Py_tp_clear, future_clear as *mut c_void),
        (c::Py_tp_finalize, future_finalize as *mut c_void),
        (c::Py_tp_dealloc, future_dealloc as *mut c_void),
        unary_slot!(c::Py_tp_repr, Future, py_repr),
        unary_slot!(c::Py_tp_iter, Future, py_await),
        unary_slot!(c::Py_am_await, Future, return_self),
        unary_slot!(c::Py_tp_iternext, Future, iternext),
        (c::Py_am_send, am_send as *mut c_void),
    ];
    Ok((spec.build(module)?, build_iter(module)?))
}
