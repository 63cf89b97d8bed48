//! as_completed: the results of some awaitables, first come first served.
//!
//! What is done goes into a queue; each coroutine takes one out, or waits for one as `Queue.get` does. Up to 3.12
//! as_completed is a generator that begins at its first step; from 3.13 on an object that begins at once, and can be
//! iterated with `async for`, too.
//!
//! Invariants
//! - I1: `first` of an operation is the iterator, `second` the future it waits for; the low bit of `point` says that it
//!   gives the result, not the future.
//! - I2: the collector's `owner` is the iterator, which holds it only as long as `todo` is not empty.
//! - I3: an entry of `done` is a future, or None for each that the timeout came before.

mod class;

pub(super) use class::build;

use super::child;
use super::collector::{Collector, Kind};
use super::wait::{cancel_timer, is_coroutine};
use crate::ffi::error::{self, PyResult, owned, restore, status, type_error};
use crate::ffi::{Args, Native, Obj, Own, Slot, c, call, object, types};
use crate::future::current_event_loop;
use crate::operation::{Behaviour, Bound, Operation, Original, Step, show_behind};
use crate::state::{imports, state};
use crate::task::cancel::cancel_future;
use crate::waiters::{self, LoopBinding, WaiterQueue};
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

#[repr(C)]
pub(crate) struct AsCompleted {
    head: c::PyObject,
    /// Up to 3.12: what it was called with, until it begins.
    given: Slot,
    timeout: Slot,
    todo: Slot,
    timer: Slot,
    collector: Slot,
    event_loop: LoopBinding,
    done: WaiterQueue,
    getters: WaiterQueue,
    /// How many more coroutines it gives out.
    left: Cell<usize>,
}

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for AsCompleted {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.as_completed()
    }
}

impl AsCompleted {
    fn begin(&self, given: &Obj, timeout: Option<&Obj>) -> PyResult<()> {
        let event_loop = current_event_loop()?;
        let task = child::awaiting_task()?;
        if cfg!(Py_3_14) && task.is_none() {
            // asyncio asks for the current task, whoever that may be, and for a running loop with that.
            call::call0(imports::get_running_loop())?;
        }
        // SAFETY: A1; each awaitable counts once, and so does each future.
        let (given, todo) = unsafe {
            (
                owned(c::PySet_New(given.as_ptr()))?,
                owned(c::PySet_New(ptr::null_mut()))?,
            )
        };
        for awaitable in Members::of(&given)? {
            let child = child::ensure_future(awaitable.as_ptr(), Some(&event_loop))?;
            // SAFETY: A1; a set.
            status(unsafe { c::PySet_Add(todo.as_ptr(), child.as_ptr()) })?;
        }
        let collector = Collector::create(&AS_COMPLETED)?;
        collector.owner.set(self.obj());
        collector.task.set_option(task.clone());
        let mut count = 0;
        // Before any of them can be done, as asyncio's functions see it from the beginning.
        self.todo.set(todo.clone());
        self.collector.set(collector.obj());
        for child in Members::of(&todo)? {
            collector.add_to(&child)?;
            child::add_awaited_by(&child, task.as_ref())?;
            count += 1;
        }
        self.left.set(count);
        if count == 0 {
            self.collector.clear();
        } else if let Some(timeout) = timeout {
            let on_timeout = call::getattr(self.raw(), call::interned("_handle_timeout")?.as_ptr())?;
            let timer = call::call_method(
                call::interned("call_later")?.as_ptr(),
                &[event_loop.as_ptr(), timeout.as_ptr(), on_timeout.as_ptr()],
                None,
            )?;
            self.timer.set(timer);
        }
        Ok(())
    }

    fn is_all_done(&self) -> bool {
        // SAFETY: A1; a set where there is one.
        !self.todo.is_set() || unsafe { c::PySet_Size(self.todo.ptr()) } <= 0
    }

    /// `Queue.put_nowait`.
    fn put(&self, entry: Obj) -> PyResult<()> {
        self.done.push(entry);
        self.wake_next()
    }

    fn wake_next(&self) -> PyResult<()> {
        while let Some(getter) = self.getters.pop() {
            if !waiters::is_done(&getter)? {
                return waiters::set_result(&getter, Obj::none());
            }
        }
        Ok(())
    }

    /// `_handle_completion(child)`.
    fn complete(&self, child: &Obj, task: Option<&Obj>) -> PyResult<()> {
        if self.is_all_done() {
            // The timeout came first.
            return Ok(());
        }
        let todo = self.todo.get_or_none();
        // SAFETY: A1; a set.
        match unsafe { c::PySet_Discard(todo.as_ptr(), child.as_ptr()) } {
            code if code < 0 => return Err(error::Raised),
            0 => {
                // SAFETY: a static of the interpreter.
                return Err(error::raise_object(unsafe { c::PyExc_KeyError }, child));
            }
            _ => {}
        }
        child::discard_awaited_by(child, task)?;
        self.put(child.clone())?;
        if self.is_all_done() {
            self.collector.clear();
            cancel_timer(self.timer.take())?;
        }
        Ok(())
    }

    /// A coroutine for the next one that is done.
    fn wait_for_one(&self, gives_result: bool) -> PyResult<Obj> {
        let made = Operation::create(&WAIT_FOR_ONE, Bound::new(&[self.raw()]))?;
        let made = made.unwrap_or_else(Obj::none);
        if let Some(operation) = Operation::of_exact(made.as_ptr()) {
            operation.point.set(u8::from(gives_result));
        }
        Ok(made)
    }
}

/// The members of a set, as they are now.
struct Members {
    tuple: Obj,
    next: usize,
}

impl Members {
    fn of(set: &Obj) -> PyResult<Members> {
        // SAFETY: A1.
        let tuple = owned(unsafe { c::PySequence_Tuple(set.as_ptr()) })?;
        Ok(Members { tuple, next: 0 })
    }
}

impl Iterator for Members {
    type Item = Obj;

    fn next(&mut self) -> Option<Obj> {
        if self.next == call::tuple_len(self.tuple.as_ptr()) {
            return None;
        }
        self.next += 1;
        Some(Obj::from_borrowed(call::tuple_item(self.tuple.as_ptr(), self.next - 1)))
    }
}

static AS_COMPLETED: Kind = Kind {
    qualname: if cfg!(Py_3_13) {
        "_AsCompletedIterator._handle_completion"
    } else {
        "as_completed.<locals>._on_completion"
    },
    settle: |_, _| true,
    run: |this, child| match this.owner.get() {
        Some(owner) => match AsCompleted::of(owner.as_ptr()) {
            Some(iterator) => iterator.complete(child, this.task.get().as_ref()),
            None => Ok(()),
        },
        None => Ok(()),
    },
};

/// `_handle_timeout()`: those who wait for what is not done get the news.
fn on_timeout(this: &AsCompleted) -> PyResult<()> {
    let this = this.own();
    this.timer.clear();
    let (Some(todo), Some(collector)) = (this.todo.get(), this.collector.take()) else {
        return Ok(());
    };
    // SAFETY: I2: it is a collector.
    let collector = unsafe { Own::<Collector>::from_obj_unchecked(collector) };
    let task = collector.task.get();
    for child in Members::of(&todo)? {
        collector.remove_from(&child)?;
        child::discard_awaited_by(&child, task.as_ref())?;
        this.put(Obj::none())?;
    }
    // SAFETY: A1; a set.
    status(unsafe { c::PySet_Clear(todo.as_ptr()) })
}

// ---- the coroutines ------------------------------------------------------------------------------

fn iterator_of(this: &Operation) -> &AsCompleted {
    // SAFETY: I1; whoever creates it makes sure of that, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<AsCompleted>() }
}

fn start(this: &Operation) -> PyResult<Step> {
    let iterator = iterator_of(this);
    if let Some(entry) = iterator.done.pop() {
        if entry.is_none() {
            // SAFETY: a static of the interpreter.
            let timeout = call::call0(unsafe { c::PyExc_TimeoutError })?;
            return Err(error::raise_object(object::type_of(timeout.as_ptr()).cast(), &timeout));
        }
        return if this.point.get() & 1 != 0 {
            child::result(&entry).map(Step::Done)
        } else {
            Ok(Step::Done(entry))
        };
    }
    let getter = waiters::create_future(&iterator.event_loop.get(iterator.raw())?)?;
    iterator.getters.push(getter.clone());
    this.second.set(getter.clone());
    this.wait_for(getter)
}

fn raised(this: &Operation, exception: Obj) -> PyResult<Step> {
    let iterator = iterator_of(this);
    if let Some(getter) = this.second.take() {
        cancel_future(&getter, None)?;
        drop(iterator.getters.remove(getter.as_ptr()));
        if !iterator.done.is_empty() && !waiters::is_cancelled(&getter)? {
            iterator.wake_next()?;
        }
        if GIVES_BACK.load(Ordering::Relaxed) {
            iterator.left.set(iterator.left.get() + 1);
        }
    }
    Err(restore(exception))
}

/// One that was interrupted does not count (3.14).
static GIVES_BACK: AtomicBool = AtomicBool::new(false);

const PARAMETERS: &[&CStr] = if cfg!(Py_3_13) { &[c"self", c"resolve"] } else { &[] };

static WAIT_FOR_ONE: Behaviour = Behaviour {
    module: "asyncio.tasks",
    class: "_AsCompletedIterator",
    name: "_wait_for_one",
    parameters: PARAMETERS,
    required: if cfg!(Py_3_13) { 1 } else { 0 },
    create: |_, bound| {
        let Some(this) = bound.get(0).and_then(AsCompleted::of) else {
            return Ok(None);
        };
        this.wait_for_one(bound.get(1).map_or(Ok(false), call::is_true)?)
            .map(Some)
    },
    start,
    resume: |this, _value| {
        this.second.clear();
        start(this)
    },
    raised,
    original: Original::new(),
};

#[cfg(Py_3_13)]
static NEXT: Behaviour = Behaviour {
    module: "asyncio.tasks",
    class: "_AsCompletedIterator",
    name: "__anext__",
    parameters: &[c"self"],
    required: 1,
    create: |behaviour, bound| match bound.get(0).and_then(AsCompleted::of) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    },
    start: |this| {
        let iterator = iterator_of(this);
        if iterator.left.get() == 0 {
            // SAFETY: a static of the interpreter.
            let stop = call::call0(unsafe { c::PyExc_StopAsyncIteration })?;
            return Err(error::raise_object(object::type_of(stop.as_ptr()).cast(), &stop));
        }
        iterator.left.set(iterator.left.get() - 1);
        start(this)
    },
    resume: |this, _value| {
        this.second.clear();
        start(this)
    },
    raised,
    original: Original::new(),
};

/// The coroutine inside that asyncio's awaits.
static GET: Behaviour = Behaviour::only_shown("asyncio.queues", "Queue", "get", &[c"self"]);

fn show_inner() -> PyResult<()> {
    #[cfg(Py_3_13)]
    show_behind(&NEXT, &WAIT_FOR_ONE)?;
    show_behind(&WAIT_FOR_ONE, &GET)
}

// ---- as_completed --------------------------------------------------------------------------------

/// `as_completed(fs, *, timeout=None)`.
pub(crate) fn as_completed(args: Args<'_>) -> PyResult<Obj> {
    let (Some([timeout]), [given]) = (args.known_keywords(&[c"timeout"]), args.positional()) else {
        return args.forward(imports::stdlib_as_completed());
    };
    let given = Obj::from_borrowed(*given);
    let timeout = timeout
        .filter(|timeout| !object::is_none(*timeout))
        .map(Obj::from_borrowed);
    if cfg!(Py_3_13) {
        refuse_awaitable(&given)?;
    }
    let made = types::allocate(AsCompleted::type_object())?;
    // SAFETY: freshly made of this very type.
    let made = unsafe { Own::<AsCompleted>::from_obj_unchecked(made) };
    if cfg!(Py_3_13) {
        made.begin(&given, timeout.as_ref())?;
    } else {
        made.given.set(given);
        made.timeout.set_option(timeout);
    }
    Ok(made.into_obj())
}

fn refuse_awaitable(given: &Obj) -> PyResult<()> {
    let name = object::type_name(given.as_ptr());
    if cfg!(Py_3_13) {
        let is_awaitable = call::import_from("inspect", "isawaitable")?;
        if call::is_true(call::call1(is_awaitable.as_ptr(), given.as_ptr())?.as_ptr())? {
            return Err(type_error(&format!("expects an iterable of awaitables, not {name}")));
        }
    } else if child::is_future(given.as_ptr())? || is_coroutine(given.as_ptr())? {
        return Err(type_error(&format!("expect an iterable of futures, not {name}")));
    }
    Ok(())
}

fn next(this: &AsCompleted) -> PyResult<Option<Obj>> {
    if let Some(given) = this.given.take() {
        let timeout = this.timeout.take();
        refuse_awaitable(&given)?;
        this.begin(&given, timeout.as_ref())?;
    }
    if this.left.get() == 0 {
        return Ok(None);
    }
    this.left.set(this.left.get() - 1);
    this.wait_for_one(true).map(Some)
}

/// Up to 3.12 the coroutine function is one inside as_completed.
pub(crate) fn name_coroutines() -> PyResult<()> {
    if cfg!(not(Py_3_13)) {
        let name = call::string("as_completed.<locals>._wait_for_one")?;
        let function = call::call1(crate::state::helper("nested_function")?.as_ptr(), name.as_ptr())?;
        WAIT_FOR_ONE.original.set(function);
    }
    Ok(())
}
