//! Lock: mutual exclusion between tasks (asyncio.Lock).
//!
//! Invariants
//! - I1: a task that was woken (its future is done) and has not run yet is still in `waiters`, so nobody overtakes it.
//! - I2: an operation's `first` is the lock, its `second` the future it waits for.

use crate::ffi::error::{self, PyResult, runtime_error};
use crate::ffi::trampoline::{self, noargs, property, unary_slot};
use crate::ffi::types::{TypeSpec, add_to_module};
use crate::ffi::{Native, Obj, Raw, c, call, object, slot, types};
use crate::metaclass;
use crate::operation::{Behaviour, Bound, Operation, Original, Step, function, raise_it};
use crate::state::imports;
use crate::waiters::{self, LoopBinding, WaiterQueue};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct Lock {
    head: c::PyObject,
    event_loop: LoopBinding,
    waiters: WaiterQueue,
    dict: Cell<Raw>,
    weaklist: Cell<Raw>,
    locked: Cell<bool>,
}

static LOCK: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Lock {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        LOCK.load(Ordering::Relaxed)
    }
}

impl Lock {
    #[inline]
    pub(crate) fn is_locked(&self) -> bool {
        self.locked.get()
    }

    /// Takes the lock if nobody holds it and nobody who still waits came before.
    #[inline]
    pub(crate) fn try_acquire(&self) -> PyResult<bool> {
        if self.locked.get() {
            return Ok(false);
        }
        if !self.waiters.is_empty()
            && self
                .waiters
                .find(|waiter| waiters::is_cancelled(waiter).map(|is| !is))?
                .is_some()
        {
            return Ok(false);
        }
        self.locked.set(true);
        Ok(true)
    }

    /// A future that is done when it is this waiter's turn; it is in the queue.
    #[inline]
    pub(crate) fn queue_up(&self) -> PyResult<Obj> {
        let future = waiters::create_future(&self.event_loop.get(self.raw())?)?;
        self.waiters.push(future.clone());
        Ok(future)
    }

    #[inline]
    pub(crate) fn leave_queue(&self, future: Raw) {
        drop(self.waiters.remove(future));
    }

    #[inline]
    pub(crate) fn take(&self) {
        self.locked.set(true);
    }

    /// `release()`.
    #[inline]
    pub(crate) fn release(&self) -> PyResult<()> {
        if !self.locked.get() {
            return Err(runtime_error("Lock is not acquired."));
        }
        self.locked.set(false);
        self.wake_first()
    }

    /// Ensures that the first in the queue will run.
    #[inline]
    pub(crate) fn wake_first(&self) -> PyResult<()> {
        let Some(first) = self.waiters.first() else {
            return Ok(());
        };
        if waiters::is_done(&first)? {
            return Ok(());
        }
        waiters::set_result(&first, Obj::bool(true))
    }
}

// ---- acquire -------------------------------------------------------------------------------------

/// The receiver of a method, if it is a lock of ours.
#[inline]
fn receiver(bound: &Bound) -> Option<&Lock> {
    bound[0].and_then(Lock::of)
}

#[inline]
fn lock_of(this: &Operation) -> &Lock {
    // SAFETY: I2; `create` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<Lock>() }
}

fn create_for_any(behaviour: &'static Behaviour, bound: &Bound) -> PyResult<Option<Obj>> {
    match receiver(bound) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

/// The stdlib's own for subclasses: they call `self.acquire()` and `self.release()`.
fn create_for_exact(behaviour: &'static Behaviour, bound: &Bound) -> PyResult<Option<Obj>> {
    match bound[0].and_then(Lock::of_exact) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

fn start_acquire(this: &Operation) -> PyResult<Step> {
    let lock = lock_of(this);
    if lock.try_acquire()? {
        return Ok(Step::Done(acquired(this)));
    }
    let future = lock.queue_up()?;
    this.second.set_option(Some(future.clone()));
    this.wait_for(future)
}

/// What the await is worth: True, or None for `__aenter__`.
#[inline]
fn acquired(this: &Operation) -> Obj {
    if this.is(&ENTER) { Obj::none() } else { Obj::bool(true) }
}

fn resume_acquire(this: &Operation, _value: Obj) -> PyResult<Step> {
    let lock = lock_of(this);
    lock.leave_queue(this.second.ptr());
    lock.take();
    Ok(Step::Done(acquired(this)))
}

fn raised_acquire(this: &Operation, exception: Obj) -> PyResult<Step> {
    let lock = lock_of(this);
    lock.leave_queue(this.second.ptr());
    if error::is_instance_of(exception.as_ptr(), imports::cancelled_error()) && !lock.is_locked() {
        // Its turn may have come already: the next one's it is, then.
        lock.wake_first()?;
    }
    Err(error::restore(exception))
}

static ACQUIRE: Behaviour = Behaviour {
    module: "asyncio.locks",
    class: "Lock",
    name: "acquire",
    parameters: &[c"self"],
    required: 1,
    create: create_for_any,
    start: start_acquire,
    resume: resume_acquire,
    raised: raised_acquire,
    original: Original::new(),
};

static ENTER: Behaviour = Behaviour {
    module: "asyncio.locks",
    class: "Lock",
    name: "__aenter__",
    parameters: &[c"self"],
    required: 1,
    create: create_for_exact,
    start: start_acquire,
    resume: resume_acquire,
    raised: raised_acquire,
    original: Original::new(),
};

static EXIT: Behaviour = Behaviour {
    module: "asyncio.locks",
    class: "Lock",
    name: "__aexit__",
    parameters: &[c"self", c"exc_type", c"exc", c"tb"],
    required: 4,
    create: |behaviour, bound| create_for_exact(behaviour, &[bound[0], None, None, None]),
    start: |this| lock_of(this).release().map(|()| Step::Done(Obj::none())),
    resume: |_, value| Ok(Step::Done(value)),
    raised: raise_it,
    original: Original::new(),
};

// ---- the class -----------------------------------------------------------------------------------

fn locked(this: &Lock) -> PyResult<Obj> {
    Ok(Obj::bool(this.is_locked()))
}

fn release(this: &Lock) -> PyResult<()> {
    this.release()
}

fn repr(this: &Lock) -> PyResult<Obj> {
    let state = if this.is_locked() { "locked" } else { "unlocked" };
    match this.waiters.len() {
        0 => super::repr_with(this.raw(), state),
        waiting => super::repr_with(this.raw(), &format!("{state}, waiters:{waiting}")),
    }
}

fn show_waiters(this: &Lock) -> PyResult<Obj> {
    this.waiters.show()
}

fn show_locked(this: &Lock) -> PyResult<Obj> {
    locked(this)
}

fn show_loop(this: &Lock) -> PyResult<Obj> {
    Ok(this.event_loop.slot().get_or_none())
}

fn get_loop(this: &Lock) -> PyResult<Obj> {
    this.event_loop.get(this.raw())
}

fn class(this: &Lock) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<Lock>() };
    for code in [
        slot::visit_raw(object::type_of(slf).cast(), visit, arg),
        slot::visit_raw(this.dict.get(), visit, arg),
        this.event_loop.slot().traverse(visit, arg),
        this.waiters.traverse(visit, arg),
    ] {
        if code != 0 {
            return code;
        }
    }
    0
}

unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        let this = unsafe { &*slf.cast::<Lock>() };
        this.event_loop.slot().clear();
        this.waiters.clear();
        drop(Obj::from_owned(this.dict.replace(ptr::null_mut())));
        Ok(())
    })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        // SAFETY: as above.
        let this = unsafe { &*slf.cast::<Lock>() };
        if !this.weaklist.get().is_null() {
            // SAFETY: A1; the type has a weaklist offset.
            unsafe { c::PyObject_ClearWeakRefs(slf) };
        }
        // SAFETY: fields are dropped by `clear`.
        unsafe {
            clear(slf);
            types::free(slf);
        }
    });
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asyncio.locks.Lock",
        c"Lock()\n--\n\nMutual exclusion between tasks (asyncio.Lock).",
        size_of::<Lock>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.metaclass = Some(metaclass);
    spec.dict_offset = Some(offset_of!(Lock, dict));
    spec.weaklist_offset = Some(offset_of!(Lock, weaklist));
    spec.methods = vec![
        noargs!(
            c"locked",
            Lock,
            locked,
            c"locked($self, /)\n--\n\nTrue if somebody holds the lock."
        ),
        noargs!(
            c"release",
            Lock,
            release,
            c"release($self, /)\n--\n\nLet the next waiter in; RuntimeError if nobody holds the lock."
        ),
        noargs!(
            c"_get_loop",
            Lock,
            get_loop,
            c"_get_loop($self, /)\n--\n\nThe loop it is bound to."
        ),
    ];
    spec.properties = vec![
        property!(c"_locked", Lock, show_locked),
        property!(c"_waiters", Lock, show_waiters),
        property!(c"_loop", Lock, show_loop),
        property!(c"__class__", Lock, class),
    ];
    spec.slots = vec![
        (c::Py_tp_new, c::PyType_GenericNew as *mut c_void),
        (c::Py_tp_init, super::init_without_arguments as *mut c_void),
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        unary_slot!(c::Py_tp_repr, Lock, repr),
    ];
    let made = spec.build(module)?;
    LOCK.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, &[&ACQUIRE, &ENTER, &EXIT])?;
    metaclass::adopt(&made, call::import_from("asyncio.locks", "Lock")?);
    add_to_module(module, c"Lock", &made)
}
