//! Future as programs see it: methods, attributes, life and death.

use super::iter::{build_iter, py_await};
use super::waiter::Waiter;
use super::{FREE_FUTURES, Future, Outcome, State};
use crate::ffi::error::{self, PyResult, owned, restore, runtime_error, type_error, value_error};
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::{Method, TypeSpec};
use crate::ffi::{Args, Native, Obj, Raised, Raw, args, c, call, context, object, slot, stop_iteration, trash};
use crate::state::{helper, imports};
use crate::task::Task;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;

fn py_result(this: &Future) -> PyResult<Obj> {
    this.result()
}

fn py_exception(this: &Future) -> PyResult<Obj> {
    match this.state.get() {
        State::Pending => Err(this.no_outcome("Exception is not set.")),
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
    if args.positional().is_empty() {
        let text = "add_done_callback() takes exactly 1 positional argument (0 given)";
        return Err(type_error(text));
    }
    // The callback can be given by position only, so it has no name.
    let [callable, given] = args.bind("add_done_callback", &[c"", c"context"], 1, 1)?;
    if !this.event_loop.is_set() {
        return Err(runtime_error("uninitialized Future object"));
    }
    // None is kept, as in asyncio's C Future: it stands for the context in which the future will be completed.
    let context = match given {
        Some(given) => Obj::from_borrowed(given),
        None => context::copy_current()?,
    };
    this.add_callback(callable.unwrap_or(ptr::null_mut()), context)
}

fn py_remove_done_callback(this: &Future, callable: Raw) -> PyResult<Obj> {
    this.alive()?;
    // Comparing runs user code, which may change the callbacks: compare against a copy that keeps them alive, then take
    // out what is still there.
    let mut removed = Vec::new();
    for (waiter, kept) in this.kept_waiters() {
        let shown = show_waiter(waiter)?;
        if call::equal(shown.as_ptr(), callable)? {
            removed.push((waiter, kept));
        }
    }
    let mut count = 0;
    for (gone, _kept) in removed {
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

    /// The same with a reference to each, for whoever calls Python before looking at the last one.
    fn kept_waiters(&self) -> Vec<(Waiter, Obj)> {
        let keep = |waiter: Waiter| (waiter, Obj::from_borrowed(waiter.raw()));
        self.waiters().into_iter().map(keep).collect()
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
    // Making objects may collect garbage, and so run anything.
    let waiters = this.kept_waiters();
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
    for ((waiter, _kept), context) in waiters.into_iter().zip(contexts) {
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
    Ok(if this.failed.get() || this.state.get() == State::Cancelled {
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
fn iternext(this: &Future) -> PyResult<Option<Obj>> {
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
    this.finalized.set(true);
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
        this.show();
        // SAFETY: a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        trash::free_shallowly(slf, free_dead);
    });
}

/// The rest of a dead, untracked object.
fn free_dead(slf: Raw) {
    // SAFETY: dead but whole.
    let this = unsafe { &*slf.cast::<Future>() };
    if !this.has_only_a_value() {
        if !this.weaklist_is_empty() {
            // SAFETY: A1; the type has a weaklist offset.
            unsafe { c::PyObject_ClearWeakRefs(slf) };
        }
        this.clear();
    }
    free_plain(slf);
}

/// The end of a dead, untracked object that has at most a value and a loop. They are dropped last.
#[inline]
pub(super) fn free_plain(slf: Raw) {
    // SAFETY: dead but whole.
    let this = unsafe { &*slf.cast::<Future>() };
    let (value, event_loop) = (this.value.take(), this.event_loop.take());
    // A finalized object keeps a mark that would silence its next life's finaliser.
    let fresh = !this.finalized.get();
    this.reset();
    if !(Future::check_exact(slf) && fresh && FREE_FUTURES.push(slf)) {
        this.free_memory();
    }
    drop(value);
    drop(event_loop);
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
