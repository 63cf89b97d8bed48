//! Operation: the native stand-in for the coroutine object that `asyncio.sleep()`, `loop.sock_recv()` or `lock.acquire()`
//! returns.
//!
//! To programs it is a coroutine (`coroutine.rs` has what they look at, `function.rs` the functions that make one,
//! `extra.rs` what few of them have). The interpreter drives it through slots: awaiting it makes no iterator object, ending with None makes no
//! `StopIteration`. What completes at once never suspends. What must wait makes a Future and yields that, as any
//! coroutine would, so a C task, a hand-written `send` loop or another library's runner can drive it, too.
//!
//! How one runs is in `step.rs`, what it makes of things that are no native future in `awaited.rs`. What sleeps and what
//! sockets do is in `sleep.rs` and `sock.rs`. All others have a `Behaviour` (`behaviour.rs`): what happens at the start,
//! when what it waits for is there, and when that fails or something is thrown at it.
//!
//! Invariants
//! - I1: `waiter` is set only while suspended. With `NATIVE` it is a `Future`, otherwise the iterator of another loop's
//!   future. A suspended operation without one is at `sleep(0)`'s bare yield.
//! - I2: `event_loop`, where set, is an `EventLoop`. Socket operations have it from the beginning.
//! - I3: the collector tracks an operation exactly if `TRACKED` is set: from birth if its arguments may be part of a
//!   cycle, otherwise from the first wait on.
//! - I4: while the stage is `Running` nobody else starts, resumes, closes or clears it.
//! - I5: `since` is the address of a `Behaviour`, all of which are statics, exactly if the kind is `Other`.

mod awaited;
mod behaviour;
mod coroutine;
mod extra;
pub(crate) mod function;
mod sleep;
mod sock;
mod stand_in;
mod step;
mod wrapper;

pub(crate) use behaviour::{Behaviour, Bound, KEYWORD_ONLY, Original, VARIADIC, raise_it};
pub(crate) use extra::Aside;
pub(crate) use sock::KnownSockets;
pub(crate) use stand_in::show_behind;

use crate::event_loop::EventLoop;
use crate::ffi::error::PyResult;
use crate::ffi::freelist::FreeList;
use crate::ffi::types::add_to_module;
use crate::ffi::{Native, Obj, Own, Raw, Slot, c, object, types};
use crate::future::Future;
use crate::state::state;
use extra::Extra;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::Ordering;

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
/// The collector has called the finaliser, which it does once.
const FINALIZED: u8 = 32;

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
    #[allow(clippy::inline_always)] // Counted: else it is a call per await.
    #[inline(always)]
    fn allocate() -> PyResult<Own<Operation>> {
        let obj = match FREE_OPERATIONS.pop(Operation::type_object()) {
            Some(obj) => obj,
            None => types::allocate_uncounted::<Operation>()?,
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
    #[allow(clippy::inline_always)] // Counted: else it is a call per await.
    #[inline(always)]
    pub(crate) fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
        let this = Operation::allocate()?;
        this.kind.set(Kind::Other);
        this.since.set(ptr::from_ref(behaviour) as u64);
        if let Some(receiver) = bound.get(0) {
            this.first.init(Obj::from_borrowed(receiver));
        }
        if let Some(argument) = bound.get(1) {
            this.second.init(Obj::from_borrowed(argument));
        }
        if let Some(argument) = bound.get(2) {
            this.third.init(Obj::from_borrowed(argument));
        }
        // A receiver alone makes a cycle only for what nobody ever awaits.
        // SAFETY: the type of a live object.
        let may_refer = |argument: Raw| unsafe { c::PyType_IS_GC(object::type_of(argument)) } != 0;
        if bound.get(1).is_some_and(may_refer) {
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

    /// Does somebody await it? (For a second one, that is an error.)
    pub(crate) fn is_suspended(&self) -> bool {
        self.stage.get() == Stage::Suspended
    }

    /// A descriptor it waits for is ready.
    pub(crate) fn on_ready(&self, event_loop: &EventLoop) -> PyResult<()> {
        sock::on_ready(self, event_loop)
    }

    /// Visits every reference.
    fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        for slot in [&self.event_loop, &self.waiter, &self.first, &self.second, &self.third] {
            let code = slot.traverse(visit, arg);
            if code != 0 {
                return code;
            }
        }
        self.extra_if_any().map_or(0, |extra| extra.traverse(visit, arg))
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
