//! Handle and TimerHandle: a callback, its arguments and its context, scheduled on a loop.
//!
//! Up to three arguments lie in the object itself. Handles are not tracked by the collector: a loop
//! traverses the ones it alone holds (`EventLoop::traverse`), and one that was cancelled, or that a method of the loop made
//! and that ran, holds no callback.
//!
//! Invariants
//! - I1: `arguments` holds `count` owned references if `count <= INLINE`, else `more` does; with `TUPLE` the
//!   first of `arguments` holds all `count` of them.
//! - I2: a handle from the free list has every field zero.

use crate::event_loop::{EventLoop, ready::is_unique_object};
use crate::ffi::error::{PyResult, restore, take, type_error};
use crate::ffi::freelist::FreeList;
use crate::ffi::trampoline::{self, noargs, property};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Own, Raw, Slot, args, c, call, context, object, slot, types};
use crate::state::{helper, imports, names, state};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;

const INLINE: usize = 3;

pub(crate) const CANCELLED: u8 = 1;
/// In the loop's timer heap.
pub(crate) const SCHEDULED: u8 = 2;
/// Runs again and again: a reader or writer.
pub(crate) const REPEATING: u8 = 4;
/// Made by a native loop, which `event_loop` holds.
const NATIVE: u8 = 8;
/// Came from `call_soon_threadsafe`: since 3.14 other threads' `cancel` and `cancelled` wait while it runs.
pub(crate) const SHARED: u8 = 32;
/// Its callback runs now.
pub(crate) const RUNS: u8 = 64;
/// The first of `arguments` is the tuple the constructor was given: `_args` gives it back.
const TUPLE: u8 = 16;
/// The collector does not track its context, a copy that nobody else knows of.
const HIDES_CONTEXT: u8 = 128;

#[repr(C)]
pub(crate) struct Handle {
    head: c::PyObject,
    pub(crate) event_loop: Slot,
    pub(crate) callback: Slot,
    pub(crate) context: Slot,
    arguments: [Slot; INLINE],
    more: Cell<*mut Vec<Obj>>,
    source_traceback: Slot,
    repr: Slot,
    weaklist: Cell<Raw>,
    count: Cell<u32>,
    flags: Cell<u8>,
}

#[repr(C)]
pub(crate) struct TimerHandle {
    pub(crate) handle: Handle,
    pub(crate) when: Cell<f64>,
    /// What the user gave, if it was not a float: `when()` gives it back.
    pub(crate) when_given: Slot,
}

// SAFETY: repr(C), header first, all fields valid when zeroed.
unsafe impl Native for Handle {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.handle()
    }
}

// SAFETY: repr(C), starts with Handle; all fields valid when zeroed.
unsafe impl Native for TimerHandle {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.timer_handle()
    }
}

/// Callbacks come in bursts; a kept handle is a tenth of a kilobyte.
static FREE_HANDLES: FreeList<16384> = FreeList::new();
static FREE_TIMER_HANDLES: FreeList<256> = FreeList::new();

impl Handle {
    /// A handle for `callback(*arguments)` in `context`, with the loop's debug traceback if it is in debug mode.
    #[inline]
    pub(crate) fn create(
        event_loop: &EventLoop,
        callback: Raw,
        arguments: &[Raw],
        context: Obj,
    ) -> PyResult<Own<Handle>> {
        let obj = match FREE_HANDLES.pop(Handle::type_object()) {
            Some(obj) => obj,
            None => types::allocate(Handle::type_object())?,
        };
        // SAFETY: freshly made of this very type.
        let handle = unsafe { Own::<Handle>::from_obj_unchecked(obj) };
        handle.fill(event_loop, callback, arguments, context)?;
        Ok(handle)
    }

    #[inline]
    fn fill(&self, event_loop: &EventLoop, callback: Raw, arguments: &[Raw], context: Obj) -> PyResult<()> {
        // I2: a new handle's slots are empty.
        self.event_loop.init(event_loop.obj());
        self.flags.set(NATIVE);
        self.callback.init(Obj::from_borrowed(callback));
        self.context.init(context);
        self.set_arguments(arguments);
        if event_loop.is_debug() {
            self.source_traceback
                .set(call::call0(helper("extract_stack")?.as_ptr())?);
        }
        Ok(())
    }

    #[inline]
    fn set_arguments(&self, arguments: &[Raw]) {
        self.count.set(arguments.len() as u32);
        if arguments.len() <= INLINE {
            for (slot, argument) in self.arguments.iter().zip(arguments) {
                slot.init(Obj::from_borrowed(*argument));
            }
        } else {
            let all = Box::new(arguments.iter().map(|argument| Obj::from_borrowed(*argument)).collect());
            self.more.set(Box::into_raw(all));
        }
    }

    /// For one of many handles that wait: the collector need not look at each one's copy of the context.
    #[inline]
    pub(crate) fn hide_context(&self) {
        let context = self.context.ptr();
        if is_unique_object(context) {
            self.put(HIDES_CONTEXT, true);
            // SAFETY: A1; a GC object.
            unsafe { c::PyObject_GC_UnTrack(context.cast()) };
        }
    }

    /// Somebody else may come to know its context. Contexts cannot be freed untracked, either.
    #[inline]
    fn show_context(&self) {
        if self.has(HIDES_CONTEXT) {
            self.put(HIDES_CONTEXT, false);
            // SAFETY: A1; a whole GC object that `hide_context` untracked.
            unsafe { c::PyObject_GC_Track(self.context.ptr().cast()) };
        }
    }

    /// What a context that the collector does not track holds is the handle's.
    fn traverse_context(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        let context = self.context.ptr();
        if !self.has(HIDES_CONTEXT) || !is_unique_object(context) {
            return self.context.traverse(visit, arg);
        }
        // SAFETY: its type's own function, during a traversal.
        match unsafe { (*object::type_of(context)).tp_traverse } {
            // SAFETY: as above.
            Some(traverse) => unsafe { traverse(context, visit, arg) },
            None => 0,
        }
    }

    /// The loop that made it, if a native one did.
    #[inline]
    pub(crate) fn native_loop(&self) -> Option<&EventLoop> {
        if self.has(NATIVE) {
            // SAFETY: NATIVE is only set with an EventLoop in the slot, and gone when `clear` empties it.
            Some(unsafe { &*self.event_loop.ptr().cast::<EventLoop>() })
        } else {
            None
        }
    }

    fn argument(&self, index: usize) -> Raw {
        let more = self.more.get();
        if self.has(TUPLE) {
            call::tuple_item(self.arguments[0].ptr(), index)
        } else if more.is_null() {
            self.arguments[index].ptr()
        } else {
            // SAFETY: I1; the vector is only replaced as a whole.
            unsafe { (&*more)[index].as_ptr() }
        }
    }

    /// Was it made by a method of a native loop, and not for a reader or writer?
    pub(crate) fn runs_once(&self) -> bool {
        self.has(NATIVE) && !self.has(REPEATING)
    }

    pub(crate) fn count(&self) -> usize {
        self.count.get() as usize
    }

    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    #[inline]
    pub(crate) fn put(&self, flag: u8, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
    }

    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.has(CANCELLED)
    }

    /// Drops callback and arguments, as asyncio's `cancel()` does. The context stays for `get_context`.
    pub(crate) fn release(&self) {
        let callback = self.callback.take();
        let more = self.more.replace(ptr::null_mut());
        let count = self.count.replace(0) as usize;
        if self.has(TUPLE) {
            self.put(TUPLE, false);
            self.arguments[0].clear();
        } else if more.is_null() {
            for slot in &self.arguments[..count.min(INLINE)] {
                slot.clear();
            }
        } else {
            // SAFETY: I1: made by Box::into_raw, taken out above, so nobody else sees it.
            drop(unsafe { Box::from_raw(more) });
        }
        drop(callback);
    }

    /// Calls the callback; its context must be entered. `unique`: nobody else holds this handle, so
    /// nothing can cancel it during the call and its references need no copies.
    #[inline]
    pub(crate) fn invoke(&self, unique: bool) -> PyResult<Obj> {
        let callback = self.callback.ptr();
        if callback.is_null() {
            return Ok(Obj::none());
        }
        let count = self.count();
        if unique && count <= INLINE && !self.has(TUPLE) {
            let mut stack = [ptr::null_mut(); INLINE + 1];
            for index in 0..count {
                stack[index + 1] = self.arguments[index].ptr();
            }
            // SAFETY: A1; the spare word stands before the arguments; the handle keeps everything alive.
            return crate::ffi::error::owned(unsafe {
                c::PyObject_Vectorcall(
                    callback,
                    stack.as_mut_ptr().add(1),
                    count | c::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    ptr::null_mut(),
                )
            });
        }
        let callback = Obj::from_borrowed(callback);
        let held: Vec<Obj> = (0..count)
            .map(|index| Obj::from_borrowed(self.argument(index)))
            .collect();
        let arguments: Vec<Raw> = held.iter().map(Obj::as_ptr).collect();
        call::call(callback.as_ptr(), &arguments, None)
    }

    /// Visits what the handle holds, for a loop that holds it alone.
    pub(crate) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        let fixed = [&self.event_loop, &self.callback, &self.source_traceback, &self.repr];
        for slot in fixed.into_iter().chain(&self.arguments) {
            let code = slot.traverse(visit, arg);
            if code != 0 {
                return code;
            }
        }
        let code = self.traverse_context(visit, arg);
        if code != 0 {
            return code;
        }
        let more = self.more.get();
        if !more.is_null() {
            // SAFETY: I1; traversal runs no Python code.
            for argument in unsafe { &*more } {
                let code = slot::visit_raw(argument.as_ptr(), visit, arg);
                if code != 0 {
                    return code;
                }
            }
        }
        0
    }

    fn clear(&self) {
        self.release();
        self.show_context();
        self.flags.set(0);
        self.event_loop.clear();
        self.context.clear();
        self.source_traceback.clear();
        self.repr.clear();
    }
}

impl TimerHandle {
    #[inline]
    pub(crate) fn create(
        event_loop: &EventLoop,
        when: f64,
        callback: Raw,
        arguments: &[Raw],
        context: Obj,
    ) -> PyResult<Own<TimerHandle>> {
        let obj = match FREE_TIMER_HANDLES.pop(TimerHandle::type_object()) {
            Some(obj) => obj,
            None => types::allocate(TimerHandle::type_object())?,
        };
        // SAFETY: freshly made of this very type.
        let timer = unsafe { Own::<TimerHandle>::from_obj_unchecked(obj) };
        timer.when.set(when);
        timer.handle.fill(event_loop, callback, arguments, context)?;
        Ok(timer)
    }
}

// ---- the Python surface ------------------------------------------------------------------------

fn cancel(this: &Handle) -> PyResult<()> {
    wait_while_running(this);
    if this.is_cancelled() {
        return Ok(());
    }
    this.put(CANCELLED, true);
    if let Some(native) = this.native_loop() {
        if native.is_debug() {
            keep_repr(this)?;
        }
        if this.has(SCHEDULED) {
            native.note_dead_timer();
        }
    } else if let Some(event_loop) = this.event_loop.get() {
        cancel_on_foreign_loop(this, &event_loop)?;
    }
    this.release();
    Ok(())
}

/// Keeps what the representation shows: the callback is about to go.
#[cold]
pub(crate) fn keep_repr(this: &Handle) -> PyResult<()> {
    // SAFETY: A1.
    let text = crate::ffi::error::owned(unsafe { c::PyObject_Repr(this.raw()) })?;
    this.repr.set(text);
    Ok(())
}

#[cold]
fn cancel_on_foreign_loop(this: &Handle, event_loop: &Obj) -> PyResult<()> {
    let debug = call::call_method(names::get_debug(), &[event_loop.as_ptr()], None)?;
    if call::is_true(debug.as_ptr())? {
        keep_repr(this)?;
    }
    if TimerHandle::check(this.raw()) {
        call::call_method(
            names::timer_handle_cancelled(),
            &[event_loop.as_ptr(), this.raw()],
            None,
        )?;
    }
    Ok(())
}

/// asyncio's `_ThreadSafeHandle`: a lock held during the callback keeps other threads waiting.
#[inline]
fn wait_while_running(this: &Handle) {
    if this.has(SHARED)
        && let Some(native) = this.native_loop()
    {
        native.wait_for_shared_handle(this);
    }
}

fn cancelled(this: &Handle) -> PyResult<bool> {
    wait_while_running(this);
    Ok(this.is_cancelled())
}

fn get_context(this: &Handle) -> PyResult<Obj> {
    this.show_context();
    Ok(this.context.get_or_none())
}

/// `Handle._run`, for loops written in Python and for nested runs.
fn run(this: &Handle) -> PyResult<()> {
    let event_loop = this.event_loop.get();
    let native = event_loop
        .as_ref()
        .and_then(|event_loop| EventLoop::of(event_loop.as_ptr()));
    if let Some(native) = native {
        return native.run_handle_nested(&this.own());
    }
    if this.is_cancelled() {
        return Ok(());
    }
    this.show_context();
    let entered = this.context.get();
    if let Some(entered) = &entered {
        context::enter(entered.as_ptr())?;
    }
    let outcome = this.invoke(false);
    let failure = outcome.err().map(|_| take());
    if let Some(entered) = &entered {
        context::exit(entered.as_ptr())?;
    }
    let Some(exception) = failure else { return Ok(()) };
    if crate::ffi::error::is_exit(exception.as_ptr()) {
        return Err(restore(exception));
    }
    let event_loop = event_loop.unwrap_or_else(Obj::none);
    report(event_loop.as_ptr(), this.raw(), &exception)
}

/// Hands a callback's exception to the loop's exception handler.
#[cold]
pub(crate) fn report(event_loop: Raw, handle: Raw, exception: &Obj) -> PyResult<()> {
    let function = helper("report_callback_exception")?;
    let _handling = crate::ffi::error::handle(exception);
    call::call(function.as_ptr(), &[event_loop, handle, exception.as_ptr()], None).map(drop)
}

fn repr(this: &Handle) -> PyResult<Obj> {
    call::call1(helper("handle_repr")?.as_ptr(), this.raw())
}

fn show_callback(this: &Handle) -> PyResult<Obj> {
    Ok(this.callback.get_or_none())
}

fn show_args(this: &Handle) -> PyResult<Obj> {
    if !this.callback.is_set() {
        return Ok(Obj::none());
    }
    if this.has(TUPLE) {
        return Ok(this.arguments[0].get_or_none());
    }
    let all: Vec<Raw> = (0..this.count()).map(|index| this.argument(index)).collect();
    call::tuple(&all)
}

fn show_cancelled(this: &Handle) -> PyResult<Obj> {
    Ok(Obj::bool(this.is_cancelled()))
}

fn set_cancelled(this: &Handle, value: Option<Raw>) -> PyResult<()> {
    let on = value.map_or(Ok(false), call::is_true)?;
    this.put(CANCELLED, on);
    Ok(())
}

fn show_loop(this: &Handle) -> PyResult<Obj> {
    Ok(this.event_loop.get_or_none())
}

fn show_source_traceback(this: &Handle) -> PyResult<Obj> {
    Ok(this.source_traceback.get_or_none())
}

fn set_source_traceback(this: &Handle, value: Option<Raw>) -> PyResult<()> {
    this.source_traceback
        .set_option(value.filter(|value| !object::is_none(*value)).map(Obj::from_borrowed));
    Ok(())
}

fn show_repr(this: &Handle) -> PyResult<Obj> {
    Ok(this.repr.get_or_none())
}

fn set_repr(this: &Handle, value: Option<Raw>) -> PyResult<()> {
    this.repr
        .set_option(value.filter(|value| !object::is_none(*value)).map(Obj::from_borrowed));
    Ok(())
}

fn class(this: &Handle) -> PyResult<Obj> {
    let kind = object::type_of(this.raw());
    Ok(Obj::from_borrowed(
        if kind == Handle::type_object() && this.has(SHARED) {
            imports::stdlib_thread_safe_handle()
        } else if kind == Handle::type_object() {
            imports::stdlib_handle()
        } else if kind == TimerHandle::type_object() {
            imports::stdlib_timer_handle()
        } else {
            kind.cast()
        },
    ))
}

fn when(this: &TimerHandle) -> PyResult<Obj> {
    this.when_given.get().map_or_else(|| call::float(this.when.get()), Ok)
}

fn set_when(this: &TimerHandle, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| type_error("cannot delete attribute"))?;
    this.when.set(call::as_f64(value)?);
    this.when_given.set(Obj::from_borrowed(value));
    Ok(())
}

fn show_scheduled(this: &TimerHandle) -> PyResult<Obj> {
    Ok(Obj::bool(this.handle.has(SCHEDULED)))
}

fn set_scheduled(this: &TimerHandle, value: Option<Raw>) -> PyResult<()> {
    let on = value.map_or(Ok(false), call::is_true)?;
    this.handle.put(SCHEDULED, on);
    Ok(())
}

fn init(this: &Handle, callback: Raw, arguments: Raw, event_loop: Raw, context: Option<Raw>) -> PyResult<()> {
    this.clear();
    let context = match context.filter(|context| !object::is_none(*context)) {
        Some(context) => Obj::from_borrowed(context),
        None => context::copy_current()?,
    };
    this.context.set(context);
    this.event_loop.set(Obj::from_borrowed(event_loop));
    this.callback.set(Obj::from_borrowed(callback));
    // SAFETY: A1; any iterable, asyncio passes a tuple.
    let arguments = crate::ffi::error::owned(unsafe { c::PySequence_Tuple(arguments) })?;
    this.count.set(call::tuple_len(arguments.as_ptr()) as u32);
    this.put(TUPLE, true);
    this.arguments[0].set(arguments);
    let debug = call::call_method(names::get_debug(), &[event_loop], None)?;
    if call::is_true(debug.as_ptr())? {
        this.source_traceback
            .set(call::call0(helper("extract_stack")?.as_ptr())?);
    }
    Ok(())
}

unsafe extern "C" fn handle_init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let [callback, arguments, event_loop, context] =
                args.bind("Handle.__init__", &[c"callback", c"args", c"loop", c"context"], 4, 3)?;
            // SAFETY: tp_init's receiver.
            let this = unsafe { &*slf.cast::<Handle>() };
            init(
                this,
                callback.unwrap_or(ptr::null_mut()),
                arguments.unwrap_or(ptr::null_mut()),
                event_loop.unwrap_or(ptr::null_mut()),
                context,
            )
        })
    })
}

unsafe extern "C" fn timer_handle_init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let names = &[c"when", c"callback", c"args", c"loop", c"context"];
            let [when, callback, arguments, event_loop, context] = args.bind("TimerHandle.__init__", names, 5, 4)?;
            // SAFETY: tp_init's receiver.
            let this = unsafe { &*slf.cast::<TimerHandle>() };
            set_when(this, when)?;
            init(
                &this.handle,
                callback.unwrap_or(ptr::null_mut()),
                arguments.unwrap_or(ptr::null_mut()),
                event_loop.unwrap_or(ptr::null_mut()),
                context,
            )
        })
    })
}

unsafe extern "C" fn timer_handle_compare(left: Raw, right: Raw, op: c_int) -> Raw {
    trampoline::enter(|| {
        // SAFETY: a static of the interpreter.
        let not_implemented = || Obj::from_borrowed(unsafe { c::Py_NotImplemented() });
        let (Some(a), Some(b)) = (TimerHandle::of(left), TimerHandle::of(right)) else {
            return Ok(not_implemented());
        };
        let (x, y) = (a.when.get(), b.when.get());
        // Equal deadlines compare callbacks, arguments and state as asyncio's do.
        let same = |a: &TimerHandle, b: &TimerHandle| -> PyResult<bool> {
            #[allow(clippy::float_cmp)]
            Ok(a.when.get() == b.when.get()
                && a.handle.is_cancelled() == b.handle.is_cancelled()
                && call::equal(show_callback(&a.handle)?.as_ptr(), show_callback(&b.handle)?.as_ptr())?
                && call::equal(show_args(&a.handle)?.as_ptr(), show_args(&b.handle)?.as_ptr())?)
        };
        Ok(Obj::bool(match op {
            c::Py_LT => x < y,
            c::Py_LE => x < y || same(a, b)?,
            c::Py_GT => x > y,
            c::Py_GE => x > y || same(a, b)?,
            c::Py_EQ => same(a, b)?,
            c::Py_NE => !same(a, b)?,
            _ => return Ok(not_implemented()),
        }))
    })
}

unsafe extern "C" fn timer_handle_hash(slf: Raw) -> isize {
    trampoline::enter(|| {
        // SAFETY: tp_hash's receiver.
        let when = when(unsafe { &*slf.cast::<TimerHandle>() })?;
        // SAFETY: A1.
        match unsafe { c::PyObject_Hash(when.as_ptr()) } {
            -1 => Err(crate::ffi::Raised),
            hash => Ok(hash),
        }
    })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, dead but whole.
        let this = unsafe { &*slf.cast::<Handle>() };
        if !this.weaklist.get().is_null() {
            // SAFETY: A1; the type has a weaklist offset.
            unsafe { c::PyObject_ClearWeakRefs(slf) };
        }
        this.clear();
        let kind = object::type_of(slf);
        if kind != Handle::type_object()
            && let Some(timer) = TimerHandle::of(slf)
        {
            timer.when_given.clear();
        }
        let kept = if kind == Handle::type_object() {
            FREE_HANDLES.push(slf)
        } else if kind == TimerHandle::type_object() {
            FREE_TIMER_HANDLES.push(slf)
        } else {
            false
        };
        if !kept {
            // SAFETY: fields are dropped.
            unsafe { types::free(slf) };
        }
    });
}

pub(crate) fn build_types(module: Raw, metaclass: Raw) -> PyResult<(Obj, Obj)> {
    let flags = c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_BASETYPE;
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Handle",
        c"Handle(callback, args, loop, context=None)\n--\n\nObject returned by callback registration methods (asyncio.Handle).",
        size_of::<Handle>(),
        flags,
    );
    spec.metaclass = Some(metaclass);
    spec.weaklist_offset = Some(offset_of!(Handle, weaklist));
    spec.methods = vec![
        noargs!(
            c"cancel",
            Handle,
            cancel,
            c"cancel($self, /)\n--\n\nCancel the callback; does nothing if it ran or was cancelled."
        ),
        noargs!(
            c"cancelled",
            Handle,
            cancelled,
            c"cancelled($self, /)\n--\n\nTrue if the callback was cancelled."
        ),
        noargs!(
            c"get_context",
            Handle,
            get_context,
            c"get_context($self, /)\n--\n\nThe contextvars.Context the callback runs in."
        ),
        noargs!(c"_run", Handle, run, c"_run($self, /)\n--\n\nRun the callback now."),
    ];
    spec.properties = vec![
        property!(c"_callback", Handle, show_callback),
        property!(c"_args", Handle, show_args),
        property!(c"_cancelled", Handle, show_cancelled, set_cancelled),
        property!(c"_loop", Handle, show_loop),
        property!(c"_context", Handle, get_context),
        property!(
            c"_source_traceback",
            Handle,
            show_source_traceback,
            set_source_traceback
        ),
        property!(c"_repr", Handle, show_repr, set_repr),
        property!(c"__class__", Handle, class),
    ];
    spec.slots = vec![
        (c::Py_tp_init, handle_init as *mut c_void),
        (c::Py_tp_new, c::PyType_GenericNew as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        trampoline::unary_slot!(c::Py_tp_repr, Handle, repr),
    ];
    let handle = spec.build(module)?;

    let mut spec = TypeSpec::new(
        c"asynchrotron._core.TimerHandle",
        c"TimerHandle(when, callback, args, loop, context=None)\n--\n\nObject returned by timed callback registration methods (asyncio.TimerHandle).",
        size_of::<TimerHandle>(),
        flags,
    );
    spec.bases = vec![handle.as_ptr()];
    spec.metaclass = Some(metaclass);
    spec.methods = vec![noargs!(
        c"when",
        TimerHandle,
        when,
        c"when($self, /)\n--\n\nThe scheduled time on the loop's clock, in seconds."
    )];
    spec.properties = vec![
        property!(c"_when", TimerHandle, when, set_when),
        property!(c"_scheduled", TimerHandle, show_scheduled, set_scheduled),
    ];
    spec.slots = vec![
        (c::Py_tp_init, timer_handle_init as *mut c_void),
        (c::Py_tp_richcompare, timer_handle_compare as *mut c_void),
        (c::Py_tp_hash, timer_handle_hash as *mut c_void),
    ];
    let timer_handle = spec.build(module)?;
    Ok((handle, timer_handle))
}
