//! Collector: the done callback of everything that waits for several futures.
//!
//! A native future keeps it in its callbacks as itself. When it is done it asks the collector at once (`Kind::settle`,
//! which runs no Python code) whether anything has to happen; only then is the collector called in the turn that
//! follows (`Kind::run`), as asyncio's callback would be. Others call it as any callable.
//!
//! Invariants
//! - I1: `finished + queued` is the number of children that are done and have told us so; `queued` of them still have
//!   their turn before them.
//! - I2: what `owner` is, the kind knows.

use crate::ffi::collected::{self, collected};
use crate::ffi::error::{PyResult, type_error};
use crate::ffi::trampoline::{self, property};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Own, Raw, Slot, c, call, context, error, types};
use crate::future::Future;
use crate::state::{helper, names, state};
use std::cell::Cell;
use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

/// What a collector does; each is a static.
pub(crate) struct Kind {
    /// Where asyncio has the function that it stands for; reprs show it.
    pub(crate) qualname: &'static str,
    /// `child` is done: must anything happen next turn? Runs no Python code.
    pub(crate) settle: fn(&Collector, &Future) -> bool,
    /// The turn of a child that is done.
    pub(crate) run: fn(&Collector, &Obj) -> PyResult<()>,
}

/// A `mode` that no kind has.
const CALLED_ALONE: u8 = u8::MAX;

#[repr(C)]
pub(crate) struct Collector {
    head: c::PyObject,
    vectorcall: Cell<Option<c::vectorcallfunc>>,
    kind: Cell<Option<&'static Kind>>,
    context: Slot,
    /// Whom it collects for (I2).
    pub(crate) owner: Slot,
    /// What else the kind needs.
    pub(crate) held: Slot,
    /// The task that waits, from 3.14 on.
    pub(crate) task: Slot,
    /// How many children there are; 0 as long as that is not known.
    pub(super) expected: Cell<usize>,
    pub(super) finished: Cell<usize>,
    queued: Cell<usize>,
    /// The kind's own, as the next.
    pub(super) flag: Cell<bool>,
    pub(super) mode: Cell<u8>,
}

// SAFETY: repr(C), header first; zero is valid for every field (None is null).
unsafe impl Native for Collector {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.collector()
    }
}

impl Collector {
    pub(crate) fn create(kind: &'static Kind) -> PyResult<Own<Collector>> {
        let obj = types::allocate(Collector::type_object())?;
        // SAFETY: freshly made of this very type.
        let this = unsafe { Own::<Collector>::from_obj_unchecked(obj) };
        this.vectorcall.set(Some(called));
        this.kind.set(Some(kind));
        this.context.set(context::copy_current()?);
        Ok(this)
    }

    /// The context its turns run in: the one it was made in.
    #[inline]
    pub(crate) fn context(&self) -> Obj {
        self.context.get_or_none()
    }

    /// The owner, borrowed.
    #[inline]
    pub(super) fn owner_or_none(&self) -> Raw {
        if self.owner.is_set() {
            self.owner.ptr()
        } else {
            // SAFETY: the address of the singleton.
            unsafe { c::Py_None() }
        }
    }

    /// Who waits for the children, for 3.14's call graph.
    pub(crate) fn awaiting_task(&self) -> Option<Obj> {
        self.task.get()
    }

    /// A child of a native loop is done: does it need a turn of its own?
    #[inline]
    pub(crate) fn settle(&self, child: &Future) -> bool {
        let needs_turn = self.kind.get().is_none_or(|kind| (kind.settle)(self, child));
        if needs_turn {
            self.queued.set(self.queued.get() + 1);
        }
        needs_turn
    }

    /// How many are done and wait for their turn.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.queued.get()
    }

    /// For `Kind::settle`: counts a child with which nothing else has to happen. Not the last one.
    #[inline]
    pub(super) fn count_quietly(&self) -> bool {
        if self.finished.get() + self.queued.get() + 1 >= self.expected.get() {
            return false;
        }
        self.finished.set(self.finished.get() + 1);
        true
    }

    /// For `Kind::run`: counts one more.
    #[inline]
    pub(super) fn count(&self) {
        self.finished.set(self.finished.get() + 1);
    }

    /// Have all had their turn?
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        self.finished.get() == self.expected.get()
    }

    /// `child.add_done_callback(self)`.
    #[inline]
    pub(crate) fn add_to(&self, child: &Obj) -> PyResult<()> {
        let Some(native) = Future::of_final(child.as_ptr()) else {
            return call::call_method(names::add_done_callback(), &[child.as_ptr(), self.raw()], None).map(drop);
        };
        if !native.is_done() {
            native.add_collector(self);
            return Ok(());
        }
        if native.native_loop().is_some() && !self.settle(native) {
            return Ok(());
        }
        native.add_callback(self.raw(), self.context())
    }

    /// The same for a child that may be done already and has its turn in any case.
    #[inline]
    pub(super) fn add_to_or_queue(&self, child: &Obj) -> PyResult<()> {
        match Future::of_final(child.as_ptr()) {
            Some(native) if native.is_done() => {
                if native.native_loop().is_some() {
                    self.queued.set(self.queued.get() + 1);
                }
                native.add_callback(self.raw(), self.context())
            }
            _ => self.add_to(child),
        }
    }

    /// `child.remove_done_callback(self)`.
    #[inline]
    pub(super) fn remove_from(&self, child: &Obj) -> PyResult<()> {
        if let Some(native) = Future::of_final(child.as_ptr()) {
            native.remove_collector(self);
            return Ok(());
        }
        let name = call::interned("remove_done_callback")?;
        call::call_method(name.as_ptr(), &[child.as_ptr(), self.raw()], None).map(drop)
    }

    /// The turn of `child`, which is in the ready queue because of `settle`, or was called for by another's future.
    fn take_turn(&self, child: Raw) -> PyResult<()> {
        if Future::of_final(child).is_some_and(|native| native.native_loop().is_some()) {
            self.queued.set(self.queued.get().saturating_sub(1));
        }
        self.run(&Obj::from_borrowed(child))
    }

    /// It is no done callback: it is called without arguments.
    pub(crate) fn may_be_called_alone(&self) {
        self.mode.set(CALLED_ALONE);
    }

    pub(super) fn run(&self, child: &Obj) -> PyResult<()> {
        let keep = self.own();
        match keep.kind.get() {
            Some(kind) => (kind.run)(&keep, child),
            None => Ok(()),
        }
    }
}

unsafe extern "C" fn called(callable: Raw, args: *const Raw, nargsf: usize, kwnames: Raw) -> Raw {
    trampoline::enter(|| {
        let count = nargsf & !c::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: a vectorcall's receiver.
        let this = unsafe { &*callable.cast::<Collector>() };
        if count == 0 && kwnames.is_null() && this.mode.get() == CALLED_ALONE {
            return this.run(&Obj::none());
        }
        if count != 1 || !kwnames.is_null() {
            return Err(type_error(&format!("a done callback takes the future ({count} given)")));
        }
        // SAFETY: the one argument.
        this.take_turn(unsafe { *args })
    })
}

fn show_qualname(this: &Collector) -> PyResult<Obj> {
    call::string(this.kind.get().map_or("", |kind| kind.qualname))
}

fn show_name(this: &Collector) -> PyResult<Obj> {
    let qualname = this.kind.get().map_or("", |kind| kind.qualname);
    call::string(qualname.rsplit('.').next().unwrap_or_default())
}

/// The function of asyncio's that it stands for, if that is not a method: reprs tell where it is.
fn show_wrapped(this: &Collector) -> PyResult<Obj> {
    let qualname = this.kind.get().map_or("", |kind| kind.qualname);
    if !qualname.contains("<locals>") {
        return Err(error::attribute_error("__wrapped__"));
    }
    call::call1(helper("nested_function")?.as_ptr(), call::string(qualname)?.as_ptr())
}

collected!(Collector, this => this.owner, this.held, this.task, this.context);

pub(super) fn build(module: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Collector",
        c"The done callback of gather() and the others that wait for several futures.",
        size_of::<Collector>(),
        c::Py_TPFLAGS_DEFAULT
            | c::Py_TPFLAGS_HAVE_GC
            | c::Py_TPFLAGS_HAVE_VECTORCALL
            | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.vectorcall_offset = Some(offset_of!(Collector, vectorcall));
    spec.properties = vec![
        property!(c"__name__", Collector, show_name),
        property!(c"__qualname__", Collector, show_qualname),
        property!(c"__wrapped__", Collector, show_wrapped),
    ];
    spec.slots = vec![(c::Py_tp_call, c::PyVectorcall_Call as *mut c_void)];
    spec.slots.extend(collected::slots::<Collector>());
    let made = spec.build(module)?;
    state().types.collector.store(made.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
