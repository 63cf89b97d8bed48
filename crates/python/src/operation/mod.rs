//! Operation: the native stand-in for the coroutine object that `asyncio.sleep()`, `loop.sock_recv()` or `lock.acquire()`
//! returns.
//!
//! To programs it is a coroutine (`coroutine.rs` has what they look at, `function.rs` the functions that make one). The
//! interpreter drives it through slots: awaiting it makes no iterator object, ending with None makes no
//! `StopIteration`. What completes at once never suspends. What must wait makes a Future and yields that, as any
//! coroutine would, so a C task, a hand-written `send` loop or another library's runner can drive it, too.
//!
//! What sleeps and what sockets do is in `sleep.rs` and `sock.rs`. All others have a `Behaviour`: what happens at the
//! start, when what it waits for is there, and when that fails or something is thrown at it.
//!
//! Invariants
//! - I1: `waiter` is set only while suspended. With `NATIVE` it is a `Future`, otherwise the iterator of another loop's
//!   future. A suspended operation without one is at `sleep(0)`'s bare yield.
//! - I2: `event_loop`, where set, is an `EventLoop`. Socket operations have it from the beginning.
//! - I3: the collector tracks an operation exactly if `TRACKED` is set: from birth if its arguments may be part of a
//!   cycle, otherwise from the first wait on.
//! - I4: while the stage is `Running` nobody else starts, resumes, closes or clears it.
//! - I5: `since` is the address of a `Behaviour`, all of which are statics, exactly if the kind is `Other`.

mod coroutine;
pub(crate) mod function;
mod sleep;
mod sock;
mod stand_in;

pub(crate) use sock::KnownSockets;
pub(crate) use stand_in::show_behind;

use crate::event_loop::EventLoop;
use crate::ffi::error::{PyResult, runtime_error, value_error};
use crate::ffi::freelist::FreeList;
use crate::ffi::types::add_to_module;
use crate::ffi::{Native, Obj, Own, Raw, Slot, c, call, error, object, slot, types};
use crate::future::{Future, Outcome};
use crate::state::state;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Sleep = 0,
    Recv,
    RecvInto,
    RecvFrom,
    RecvFromInto,
    SendAll,
    SendTo,
    Accept,
    /// Has a `Behaviour`.
    Other,
}

/// Those with functions of their own in `function.rs`.
const KINDS: usize = Kind::Accept as usize + 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Stage {
    Created = 0,
    Running,
    Suspended,
    Closed,
}

/// What a start or a resumption came to.
pub(crate) enum Step {
    /// Yields this: a future to wait for, or None.
    Blocked(Obj),
    Done(Obj),
}

/// A coroutine function of the stdlib, and what its native coroutines do. Each is a static.
///
/// The three steps run with the stage `Running` (I4); each may run any Python code, and ends the operation unless it
/// blocks. `Operation::wait_for` blocks.
pub(crate) struct Behaviour {
    /// Where the stdlib has it; `class` is empty for a function of the module.
    pub(crate) module: &'static str,
    pub(crate) class: &'static str,
    pub(crate) name: &'static str,
    /// Parameters by name, the receiver of a method first; those after the first `required` may be left out, those
    /// after a `KEYWORD_ONLY` come by name.
    pub(crate) parameters: &'static [&'static CStr],
    pub(crate) required: usize,
    /// Makes the operation from the arguments; None calls the stdlib's function instead. Usually `Operation::create`,
    /// after a look at the receiver.
    pub(crate) create: fn(&'static Behaviour, &Bound) -> PyResult<Option<Obj>>,
    pub(crate) start: fn(&Operation) -> PyResult<Step>,
    /// What it waits for is there.
    pub(crate) resume: fn(&Operation, Obj) -> PyResult<Step>,
    /// What it waits for has failed, or this was thrown at its await: an `except BaseException` and `finally` in one.
    /// `GeneratorExit` when it is closed: blocking is an error then.
    pub(crate) raised: fn(&Operation, Obj) -> PyResult<Step>,
    /// The stdlib's function, found at import.
    pub(crate) original: Original,
}

/// Stands between the parameters that may be given by position and those that may not.
pub(crate) const KEYWORD_ONLY: &CStr = c"*";

impl Behaviour {
    /// Not for operations to have: for what is shown behind them.
    pub(crate) const fn only_shown(
        module: &'static str,
        class: &'static str,
        name: &'static str,
        parameters: &'static [&'static CStr],
    ) -> Behaviour {
        Behaviour {
            module,
            class,
            name,
            parameters,
            required: parameters.len(),
            create: |_, _| Ok(None),
            start: |_| Err(runtime_error("cannot reuse already awaited coroutine")),
            resume: |_, value| Ok(Step::Done(value)),
            raised: raise_it,
            original: Original::new(),
        }
    }

    /// How many arguments may be given by position, if not all.
    #[inline]
    fn positional_max(&self) -> Option<usize> {
        self.parameters.iter().position(|name| *name == KEYWORD_ONLY)
    }
}

/// Arguments in the order of `Behaviour::parameters`, borrowed for the call.
pub(crate) type Bound = [Option<Raw>; 4];

/// The stdlib's function of a `Behaviour`; None in a version that has no such function.
pub(crate) struct Original(AtomicPtr<c::PyObject>);

impl Original {
    pub(crate) const fn new() -> Original {
        Original(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn get(&self) -> Raw {
        self.0.load(Ordering::Relaxed)
    }

    /// For a behaviour whose function is not to be found by name. It lives for ever.
    pub(crate) fn set(&self, function: Obj) {
        self.0.store(function.into_ptr(), Ordering::Relaxed);
    }
}

/// For `Behaviour::raised` where nothing handles an exception.
pub(crate) fn raise_it(_this: &Operation, exception: Obj) -> PyResult<Step> {
    Err(error::restore(exception))
}

/// `waiter` is a native future (I1).
const NATIVE: u8 = 1;
/// See I3.
const TRACKED: u8 = 2;
/// Its future is done because the socket is ready; what has come is received at the resumption.
const NOTIFIED: u8 = 4;
/// The kernel has said so once more since.
const REMINDED: u8 = 8;
/// Only to be looked at: closed, but shown as suspended.
const STAND_IN: u8 = 16;

/// What few operations have, made on demand.
#[derive(Default)]
struct Extra {
    name: Option<Obj>,
    qualname: Option<Obj>,
    origin: Option<Obj>,
    /// The stdlib's own coroutine for the same call, never started: it has the frame that debuggers ask for.
    shadow: Option<Obj>,
    /// What is shown behind it (`stand_in.rs`).
    behind: Option<Obj>,
    /// By `Aside`.
    aside: [Option<Obj>; 2],
}

/// Exceptions that an operation keeps while it does something else first.
#[derive(Clone, Copy)]
pub(crate) enum Aside {
    /// What is raised at the end.
    Failure,
    /// A cancellation that came meanwhile.
    Cancellation,
}

#[repr(C)]
pub(crate) struct Operation {
    head: c::PyObject,
    weaklist: Cell<Raw>,
    event_loop: Slot,
    waiter: Slot,
    /// The delay, or the socket, or the first argument (the receiver of a method).
    pub(crate) first: Slot,
    /// The result, or the buffer, size or data.
    pub(crate) second: Slot,
    /// The timer of another loop, or the address or number of bytes.
    pub(crate) third: Slot,
    extra: Cell<*mut Extra>,
    /// How much of the data is sent, or looked at.
    pub(crate) progress: Cell<usize>,
    /// The poll after which the wait began, by its time; the behaviour's address if the kind is `Other` (I5).
    since: Cell<u64>,
    /// Where it is registered while it waits.
    fd: Cell<c_int>,
    kind: Cell<Kind>,
    stage: Cell<Stage>,
    flags: Cell<u8>,
    /// At which of its awaits it is, in its behaviour's own numbers.
    pub(crate) point: Cell<u8>,
}

// SAFETY: repr(C), header first; zero is valid for every field (Kind::Sleep and Stage::Created are 0).
unsafe impl Native for Operation {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.operation()
    }
}

static FREE_OPERATIONS: FreeList<512> = FreeList::new();

impl Operation {
    /// A fresh one with all fields zero, not tracked.
    #[inline]
    fn allocate() -> PyResult<Own<Operation>> {
        let obj = if let Some(obj) = FREE_OPERATIONS.pop(Operation::type_object()) {
            obj
        } else {
            let obj = types::allocate(Operation::type_object())?;
            // SAFETY: a tracked GC object; I3.
            unsafe { c::PyObject_GC_UnTrack(obj.as_ptr().cast()) };
            obj
        };
        // SAFETY: freshly made of this very type.
        Ok(unsafe { Own::<Operation>::from_obj_unchecked(obj) })
    }

    #[inline]
    fn create_sleep(delay: Raw, result: Option<Raw>) -> PyResult<Obj> {
        let this = Operation::allocate()?;
        this.first.set_option(Some(Obj::from_borrowed(delay)));
        if let Some(result) = result.filter(|result| !object::is_none(*result)) {
            this.second.set_option(Some(Obj::from_borrowed(result)));
            this.track();
        } else if !sleep::is_plain_number(delay) {
            this.track();
        }
        this.note_origin()?;
        Ok(this.into_obj())
    }

    #[inline]
    fn create_for_socket(kind: Kind, event_loop: &EventLoop, arguments: [Option<Raw>; 3]) -> PyResult<Obj> {
        let this = Operation::allocate()?;
        this.kind.set(kind);
        this.event_loop.set_option(Some(event_loop.obj()));
        for (place, argument) in [&this.first, &this.second, &this.third].into_iter().zip(arguments) {
            place.set_option(argument.map(Obj::from_borrowed));
        }
        this.track();
        this.note_origin()?;
        Ok(this.into_obj())
    }

    /// One with a behaviour: the arguments become `first`, `second` and `third`.
    #[inline]
    pub(crate) fn create(behaviour: &'static Behaviour, bound: &Bound) -> PyResult<Option<Obj>> {
        let this = Operation::allocate()?;
        this.kind.set(Kind::Other);
        this.since.set(ptr::from_ref(behaviour) as u64);
        for (place, argument) in [&this.first, &this.second, &this.third].into_iter().zip(bound) {
            if let Some(argument) = argument {
                place.set_option(Some(Obj::from_borrowed(*argument)));
            }
        }
        // A receiver alone makes a cycle only for what nobody ever awaits.
        // SAFETY: the type of a live object.
        let may_refer = |argument: Raw| unsafe { c::PyType_IS_GC(object::type_of(argument)) } != 0;
        if bound[1].is_some_and(may_refer) {
            this.track();
        }
        this.note_origin()?;
        Ok(Some(this.into_obj()))
    }

    #[inline]
    fn behaviour(&self) -> Option<&'static Behaviour> {
        if self.kind.get() != Kind::Other {
            return None;
        }
        // SAFETY: I5.
        unsafe { (self.since.get() as *const Behaviour).as_ref() }
    }

    /// Does it do this?
    #[inline]
    pub(crate) fn is(&self, behaviour: &'static Behaviour) -> bool {
        self.behaviour().is_some_and(|own| ptr::eq(own, behaviour))
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    #[inline]
    fn put(&self, flag: u8, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
    }

    #[inline]
    fn track(&self) {
        if !self.has(TRACKED) {
            self.put(TRACKED, true);
            // SAFETY: an untracked GC object, its fields whole (I3).
            unsafe { c::PyObject_GC_Track(self.raw().cast()) };
        }
    }

    #[inline]
    fn untrack(&self) {
        if self.has(TRACKED) {
            self.put(TRACKED, false);
            // SAFETY: a tracked GC object (I3).
            unsafe { c::PyObject_GC_UnTrack(self.raw().cast()) };
        }
    }

    /// The loop of a socket operation, or of a sleep that waits natively.
    #[inline]
    fn native_loop(&self) -> Option<&EventLoop> {
        let raw = self.event_loop.ptr();
        // SAFETY: I2; the slot keeps the loop alive, and only `finish` empties it.
        unsafe { raw.cast::<EventLoop>().as_ref() }
    }

    /// The native future it waits for.
    #[inline]
    fn future(&self) -> Option<Own<Future>> {
        if !self.has(NATIVE) {
            return None;
        }
        // SAFETY: I1.
        self.waiter
            .get()
            .map(|waiter| unsafe { Own::<Future>::from_obj_unchecked(waiter) })
    }

    /// Starts or resumes it.
    #[inline]
    fn advance(&self) -> PyResult<Step> {
        let stage = self.stage.get();
        if stage == Stage::Running || stage == Stage::Closed {
            return Err(self.cannot_advance());
        }
        self.stage.set(Stage::Running);
        let outcome = if stage == Stage::Created {
            self.start()
        } else {
            self.resume()
        };
        match outcome {
            Ok(Step::Blocked(_)) => self.stage.set(Stage::Suspended),
            Ok(Step::Done(_)) => self.finish(),
            Err(raised) => {
                self.finish();
                return Err(without_stop_iteration(raised, "coroutine"));
            }
        }
        outcome
    }

    #[cold]
    fn cannot_advance(&self) -> error::Raised {
        if self.stage.get() == Stage::Running {
            value_error("coroutine already executing")
        } else {
            runtime_error("cannot reuse already awaited coroutine")
        }
    }

    #[inline]
    fn start(&self) -> PyResult<Step> {
        match self.behaviour() {
            Some(behaviour) => (behaviour.start)(self),
            None if self.kind.get() == Kind::Sleep => sleep::start(self),
            None => sock::start(self),
        }
    }

    /// What its await came to, for one with a behaviour.
    #[inline]
    fn go_on(&self, behaviour: &'static Behaviour, awaited: PyResult<Step>) -> PyResult<Step> {
        let exception = match awaited {
            Ok(Step::Blocked(yielded)) => return Ok(Step::Blocked(yielded)),
            Ok(Step::Done(value)) => {
                drop(self.waiter.take());
                return (behaviour.resume)(self, value);
            }
            Err(error::Raised) => error::take(),
        };
        drop(self.waiter.take());
        (behaviour.raised)(self, exception)
    }

    #[inline]
    fn resume(&self) -> PyResult<Step> {
        let waiter = self.waiter.ptr();
        if waiter.is_null() {
            return Ok(Step::Done(self.second.get_or_none()));
        }
        let behaviour = self.behaviour();
        if !self.has(NATIVE) {
            let awaited = sleep::resume_foreign(waiter);
            return match behaviour {
                Some(behaviour) => self.go_on(behaviour, awaited),
                None => awaited,
            };
        }
        // SAFETY: I1; the slot keeps it while running (I4).
        let future = unsafe { &*waiter.cast::<Future>() };
        if let Some(behaviour) = behaviour {
            let awaited = match future.poll() {
                Ok(Outcome::Pending) => return Ok(Step::Blocked(Obj::from_borrowed(waiter))),
                Ok(Outcome::Value(value)) => Ok(Step::Done(value)),
                Err(raised) => Err(raised),
            };
            return self.go_on(behaviour, awaited);
        }
        Ok(match future.poll()? {
            Outcome::Pending => Step::Blocked(Obj::from_borrowed(waiter)),
            Outcome::Value(_) if self.has(NOTIFIED) => sock::receive(self)?,
            Outcome::Value(value) if value.is_none() && self.kind.get() == Kind::Sleep => {
                Step::Done(self.second.get_or_none())
            }
            Outcome::Value(value) => Step::Done(value),
        })
    }

    /// Waits for `future`, a fresh one of `event_loop`.
    #[inline]
    fn block_on(&self, event_loop: &EventLoop, future: Own<Future>) -> Step {
        future.blocking.set(true);
        let yielded = future.obj();
        if !self.event_loop.is_set() {
            self.event_loop.set_option(Some(event_loop.obj()));
        }
        self.waiter.set_option(Some(future.into_obj()));
        self.put(NATIVE, true);
        self.track();
        Step::Blocked(yielded)
    }

    /// Awaits `awaitable`, for one with a behaviour; what comes of it goes to `resume` or `raised`. A future that is
    /// done already is not waited for.
    pub(crate) fn wait_for(&self, awaitable: Obj) -> PyResult<Step> {
        if let Some(future) = Future::of_final(awaitable.as_ptr()) {
            return self.wait_for_future(future.own());
        }
        let iterator = match await_iterator(&awaitable) {
            Ok(iterator) => iterator,
            Err(raised) => return self.go_on_at_once(Err(raised)),
        };
        drop(awaitable);
        self.wait_for_iterator(iterator)
    }

    /// Waits for what an `__await__` returned, or for a coroutine.
    pub(crate) fn wait_for_iterator(&self, iterator: Obj) -> PyResult<Step> {
        self.put(NATIVE, false);
        self.waiter.set_option(Some(iterator.clone()));
        self.track();
        let awaited = sleep::resume_foreign(iterator.as_ptr());
        drop(iterator);
        if matches!(awaited, Ok(Step::Blocked(_))) {
            return awaited;
        }
        self.go_on_at_once(awaited)
    }

    /// What it waits for is there already. It may go on to wait for the next one, which may be there, too.
    #[cold]
    fn go_on_at_once(&self, awaited: PyResult<Step>) -> PyResult<Step> {
        match self.behaviour() {
            Some(behaviour) => call::guarded(c" while awaiting", || self.go_on(behaviour, awaited)),
            None => awaited,
        }
    }

    /// `wait_for` a native future, which most are.
    #[inline]
    pub(crate) fn wait_for_future(&self, future: Own<Future>) -> PyResult<Step> {
        if future.is_done() {
            let awaited = future.result().map(Step::Done);
            return self.go_on_at_once(awaited);
        }
        future.blocking.set(true);
        let yielded = future.obj();
        self.waiter.set_option(Some(future.into_obj()));
        self.put(NATIVE, true);
        self.track();
        Ok(Step::Blocked(yielded))
    }

    /// Ends it: takes back what it registered and lets go of everything. An exception that is set stays so.
    #[inline]
    fn finish(&self) {
        self.stage.set(Stage::Closed);
        if let Some(waiter) = self.waiter.take() {
            match self.kind.get() {
                Kind::Sleep => sleep::cleanup(self, &waiter),
                Kind::Other => {}
                _ => sock::cleanup(self),
            }
        }
        self.drop_shadow();
        if let Some(extra) = self.extra_if_any() {
            let aside = std::mem::take(&mut extra.aside);
            drop(aside);
        }
        drop(self.extra_if_any().and_then(|extra| extra.behind.take()));
        self.first.clear();
        self.second.clear();
        self.third.clear();
        self.event_loop.clear();
    }

    /// Raises `exception` where one with a behaviour is suspended.
    fn throw_at_await(&self, behaviour: &'static Behaviour, exception: Obj) -> PyResult<Step> {
        self.stage.set(Stage::Running);
        let waiter = self.waiter.get();
        let awaited = match waiter {
            Some(iterator) if !self.has(NATIVE) => throw_into(&iterator, exception),
            _ => raised_by_future(exception),
        };
        let outcome = self.go_on(behaviour, awaited);
        match outcome {
            Ok(Step::Blocked(_)) => self.stage.set(Stage::Suspended),
            Ok(Step::Done(_)) => self.finish(),
            Err(raised) => {
                self.finish();
                return Err(without_stop_iteration(raised, "coroutine"));
            }
        }
        outcome
    }

    /// Ends a suspended one as `close()` does: with `GeneratorExit` at its await.
    fn close_suspended(&self) -> PyResult<()> {
        let Some(behaviour) = self.behaviour() else {
            self.finish();
            return Ok(());
        };
        // SAFETY: statics of the interpreter.
        let (exit, stop) = unsafe { (c::PyExc_GeneratorExit, c::PyExc_StopIteration) };
        let exception = call::call0(exit)?;
        match self.throw_at_await(behaviour, exception) {
            Ok(Step::Done(_)) => Ok(()),
            Ok(Step::Blocked(_)) => Err(runtime_error("coroutine ignored GeneratorExit")),
            Err(error::Raised) if error::matches(exit) || error::matches(stop) => {
                error::clear();
                Ok(())
            }
            Err(raised) => Err(raised),
        }
    }

    /// Raises `exception` at its await: neither sleeps nor socket operations handle one, so they end.
    fn end_with(&self, exception: Obj) -> PyResult<Step> {
        let stage = self.stage.get();
        if stage == Stage::Running || stage == Stage::Closed {
            drop(exception);
            return Err(self.cannot_advance());
        }
        let (suspended, waiting) = (stage == Stage::Suspended, self.waiter.is_set());
        if let Some(behaviour) = self.behaviour().filter(|_| suspended) {
            return self.throw_at_await(behaviour, exception);
        }
        self.finish();
        let raised = if waiting {
            match raised_by_future(exception) {
                Ok(ended) => return Ok(ended),
                Err(raised) => raised,
            }
        } else {
            error::restore(exception)
        };
        if suspended {
            // At a bare yield it is the generator behind it that raises.
            return Err(without_stop_iteration(
                raised,
                if waiting { "coroutine" } else { "generator" },
            ));
        }
        // Since 3.12 the body, with all that guards it, begins at the first step.
        Err(if cfg!(Py_3_12) {
            raised
        } else {
            without_stop_iteration(raised, "coroutine")
        })
    }

    /// Does somebody await it? (For a second one, that is an error.)
    pub(crate) fn is_suspended(&self) -> bool {
        self.stage.get() == Stage::Suspended
    }

    /// A descriptor it waits for is ready.
    pub(crate) fn on_ready(&self, event_loop: &EventLoop) -> PyResult<()> {
        sock::on_ready(self, event_loop)
    }

    // ---- the rarely used part

    /// The borrow must end before any call into Python.
    #[allow(clippy::mut_from_ref)]
    fn extra(&self) -> &mut Extra {
        if self.extra.get().is_null() {
            self.extra.set(Box::into_raw(Box::default()));
        }
        // SAFETY: a live box of ours; A1: no other thread, and callers end the borrow before calling Python.
        unsafe { &mut *self.extra.get() }
    }

    #[inline]
    fn extra_if_any(&self) -> Option<&mut Extra> {
        if self.extra.get().is_null() {
            None
        } else {
            Some(self.extra())
        }
    }

    pub(crate) fn has_aside(&self) -> bool {
        self.extra_if_any()
            .is_some_and(|extra| extra.aside.iter().any(Option::is_some))
    }

    pub(crate) fn set_aside(&self, which: Aside, exception: Obj) {
        let old = self.extra().aside[which as usize].replace(exception);
        drop(old);
    }

    pub(crate) fn look_aside(&self, which: Aside) -> Option<Obj> {
        self.extra_if_any()?.aside[which as usize].clone()
    }

    pub(crate) fn take_aside(&self, which: Aside) -> Option<Obj> {
        self.extra_if_any()?.aside[which as usize].take()
    }

    /// Where it was created, if `sys.set_coroutine_origin_tracking_depth` asks for that. A running loop asks in debug
    /// mode, so on one of ours that is enough to look at.
    #[inline]
    fn note_origin(&self) -> PyResult<()> {
        match EventLoop::running() {
            Some(running) if !running.is_debug() => Ok(()),
            _ => self.note_origin_if_tracked(),
        }
    }

    #[cold]
    fn note_origin_if_tracked(&self) -> PyResult<()> {
        let depth = call::call0(function::table().origin_depth.as_ptr())?;
        if !call::is_true(depth.as_ptr())? {
            return Ok(());
        }
        let origin = call::getattr(self.shadow()?.as_ptr(), call::interned("cr_origin")?.as_ptr())?;
        self.extra().origin = Some(origin);
        Ok(())
    }

    /// The stdlib's coroutine function.
    fn original(&self) -> Raw {
        match self.behaviour() {
            Some(behaviour) => behaviour.original.get(),
            None => function::original(self.kind.get()),
        }
    }

    /// The stdlib's coroutine for the same call.
    #[cold]
    fn shadow(&self) -> PyResult<Obj> {
        if let Some(shadow) = self.extra_if_any().and_then(|extra| extra.shadow.clone()) {
            return Ok(shadow);
        }
        let event_loop = if matches!(self.kind.get(), Kind::Sleep | Kind::Other) {
            None
        } else {
            self.event_loop.get()
        };
        let held = [event_loop, self.first.get(), self.second.get(), self.third.get()];
        // The third of a sleep is not an argument, nor what a behaviour keeps after its arguments.
        let count = match self.behaviour() {
            Some(behaviour) => 1 + behaviour.parameters.len(),
            None if self.kind.get() == Kind::Sleep => 3,
            None => 4,
        };
        let mut arguments: Vec<Raw> = held.iter().take(count).flatten().map(Obj::as_ptr).collect();
        if let Some(behaviour) = self.behaviour() {
            // What no step needs is not kept: it is only there to be counted.
            let missing = behaviour.required.saturating_sub(arguments.len());
            // SAFETY: reading the address of the singleton.
            arguments.extend(std::iter::repeat_n(unsafe { c::Py_None() }, missing));
        }
        let shadow = call::call(
            self.original(),
            &arguments,
            self.keywords_of_shadow(arguments.len())?.as_ref(),
        )?;
        self.extra().shadow = Some(shadow.clone());
        Ok(shadow)
    }

    /// The names of those of `count` arguments that cannot be given by position.
    fn keywords_of_shadow(&self, count: usize) -> PyResult<Option<Obj>> {
        let Some((behaviour, max)) = self
            .behaviour()
            .and_then(|behaviour| behaviour.positional_max().map(|max| (behaviour, max)))
        else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for name in behaviour.parameters[max + 1..].iter().take(count.saturating_sub(max)) {
            names.push(call::interned(&name.to_string_lossy())?);
        }
        let raws: Vec<Raw> = names.iter().map(Obj::as_ptr).collect();
        call::tuple(&raws).map(Some)
    }

    /// Closes the stdlib's coroutine, which else would say that it was never awaited.
    #[inline]
    fn drop_shadow(&self) {
        if let Some(shadow) = self.extra_if_any().and_then(|extra| extra.shadow.take()) {
            close_quietly(&shadow);
        }
    }

    fn free_extra(&self) {
        let extra = self.extra.replace(ptr::null_mut());
        if !extra.is_null() {
            // SAFETY: made by `extra()`, taken out above.
            let extra = unsafe { Box::from_raw(extra) };
            if let Some(shadow) = &extra.shadow {
                close_quietly(shadow);
            }
            drop(extra);
        }
    }

    /// Visits every reference.
    fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        for slot in [&self.event_loop, &self.waiter, &self.first, &self.second, &self.third] {
            let code = slot.traverse(visit, arg);
            if code != 0 {
                return code;
            }
        }
        if let Some(extra) = self.extra_if_any() {
            let [failure, cancellation] = &extra.aside;
            for reference in [
                &extra.name,
                &extra.qualname,
                &extra.origin,
                &extra.shadow,
                failure,
                cancellation,
                &extra.behind,
            ] {
                let code = slot::visit_raw(reference.as_ref().map_or(ptr::null_mut(), Obj::as_ptr), visit, arg);
                if code != 0 {
                    return code;
                }
            }
        }
        0
    }
}

/// `awaitable.__await__()`, or the coroutine itself.
fn await_iterator(awaitable: &Obj) -> PyResult<Obj> {
    let kind = object::type_of(awaitable.as_ptr());
    if kind == &raw mut c::PyCoro_Type {
        return Ok(awaitable.clone());
    }
    // SAFETY: A1; a type's table of slots, where it has one.
    let am_await = unsafe { (*kind).tp_as_async.as_ref() }.and_then(|slots| slots.am_await);
    let Some(am_await) = am_await else {
        let name = object::full_type_name(awaitable.as_ptr());
        return Err(error::type_error(&if cfg!(Py_3_14) {
            format!("'{name}' object can't be awaited")
        } else {
            format!("object {name} can't be used in 'await' expression")
        }));
    };
    // SAFETY: A1; a slot called with its own object.
    let iterator = error::owned(unsafe { am_await(awaitable.as_ptr()) })?;
    let got = object::type_of(iterator.as_ptr());
    let is_coroutine = got == &raw mut c::PyCoro_Type || got == Operation::type_object();
    // SAFETY: A1.
    let fits = unsafe { c::PyIter_Check(iterator.as_ptr()) } != 0 && !is_coroutine;
    if fits || kind == Operation::type_object() {
        return Ok(iterator);
    }
    Err(not_to_be_awaited(awaitable, &iterator, is_coroutine))
}

/// `awaitable.__await__()` has returned what it may not.
#[cfg(not(Py_3_15))]
#[cold]
fn not_to_be_awaited(_awaitable: &Obj, returned: &Obj, is_coroutine: bool) -> error::Raised {
    if is_coroutine {
        return error::type_error("__await__() returned a coroutine");
    }
    error::type_error(&format!(
        "__await__() returned non-iterator of type '{}'",
        object::full_type_name(returned.as_ptr())
    ))
}

/// `awaitable.__await__()` has returned what it may not.
#[cfg(Py_3_15)]
#[cold]
fn not_to_be_awaited(awaitable: &Obj, returned: &Obj, is_coroutine: bool) -> error::Raised {
    let name = |object: &Obj| object::qualified_type_name(object.as_ptr());
    let returned = if is_coroutine {
        Ok("coroutine".to_owned())
    } else {
        name(returned)
    };
    match (name(awaitable), returned) {
        (Ok(awaitable), Ok(returned)) => error::type_error(&format!(
            "{awaitable}.__await__() must return an iterator, not {returned}"
        )),
        _ => error::Raised,
    }
}

/// What throwing `exception` at the await of a future comes to. The future's iterator raises it, and so seems to be at
/// its end when that is a `StopIteration`.
#[inline]
fn raised_by_future(exception: Obj) -> PyResult<Step> {
    // SAFETY: a static of the interpreter.
    if error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_StopIteration }) {
        return call::getattr(exception.as_ptr(), call::interned("value")?.as_ptr()).map(Step::Done);
    }
    Err(error::restore(exception))
}

/// `iterator.throw(exception)`, as an await hands on what is thrown at it.
fn throw_into(iterator: &Obj, exception: Obj) -> PyResult<Step> {
    // SAFETY: a static of the interpreter.
    if error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_GeneratorExit }) {
        let close = call::getattr_optional(iterator.as_ptr(), crate::state::names::close())?;
        if let Some(close) = close {
            call::call0(close.as_ptr())?;
        }
        return Err(error::restore(exception));
    }
    let Some(throw) = call::getattr_optional(iterator.as_ptr(), crate::state::names::throw())? else {
        return Err(error::restore(exception));
    };
    match call::call1(throw.as_ptr(), exception.as_ptr()) {
        Ok(yielded) => Ok(Step::Blocked(yielded)),
        // SAFETY: a static of the interpreter.
        Err(error::Raised) if error::matches(unsafe { c::PyExc_StopIteration }) => {
            let stop = error::take();
            call::getattr(stop.as_ptr(), call::interned("value")?.as_ptr()).map(Step::Done)
        }
        Err(raised) => Err(raised),
    }
}

/// PEP 479: what raises `StopIteration` would look like what returns.
#[inline]
fn without_stop_iteration(raised: error::Raised, who: &str) -> error::Raised {
    // SAFETY: a static of the interpreter.
    if !error::matches(unsafe { c::PyExc_StopIteration }) {
        return raised;
    }
    let cause = error::take();
    let error::Raised = runtime_error(&format!("{who} raised StopIteration"));
    let exception = error::take();
    // SAFETY: A1; both setters take over a reference.
    unsafe {
        c::PyException_SetCause(exception.as_ptr(), cause.clone().into_ptr());
        c::PyException_SetContext(exception.as_ptr(), cause.into_ptr());
    }
    error::restore(exception)
}

/// `coroutine.close()`, whatever is being raised meanwhile.
#[cold]
fn close_quietly(coroutine: &Obj) {
    let interrupted = error::take_if_any();
    if call::call_method(crate::state::names::close(), &[coroutine.as_ptr()], None).is_err() {
        error::write_unraisable(coroutine.as_ptr());
    }
    if let Some(interrupted) = interrupted {
        let error::Raised = error::restore(interrupted);
    }
}

/// Makes the types and functions: `sleep` of the module, the `sock_*` methods of `EventLoop`.
pub(crate) fn build(module: Raw, event_loop_type: &Obj) -> PyResult<()> {
    let operation_type = coroutine::build_types(module)?;
    state()
        .types
        .operation
        .store(operation_type.clone().into_ptr().cast(), Ordering::Relaxed);
    add_to_module(module, c"Operation", &operation_type)?;
    function::build(module, event_loop_type)
}
