//! gather: one future for the results of many, and `_GatheringFuture`, which hands its cancellation on to them.
//!
//! Invariants
//! - I1: a collector's `owner` is the outer future once that is made; its `held` the list of futures, one for each
//!   argument, which is also the outer future's.
//! - I2: a list of children belongs to us; programs that read `_children` do not change it.

use super::child;
use super::collector::{Collector, Kind};
use crate::event_loop::EventLoop;
use crate::ffi::collected::{self, collected};
use crate::ffi::error::{PyResult, owned, type_error};
use crate::ffi::trampoline::{self, fastcall, property};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, args, c, call, object, trash, types};
use crate::future::{Future, State, current_event_loop};
use crate::metaclass;
use crate::state::{imports, state};
use crate::task::cancel::cancel_future;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

#[repr(C)]
pub(crate) struct GatheringFuture {
    pub(crate) future: Future,
    children: Slot,
    cancel_requested: Cell<bool>,
}

// SAFETY: repr(C), starts with Future; zero is valid for every field.
unsafe impl Native for GatheringFuture {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.gathering_future()
    }
}

impl GatheringFuture {
    fn create(children: &Obj, event_loop: &Obj) -> PyResult<Own<GatheringFuture>> {
        let obj = types::allocate(GatheringFuture::type_object())?;
        // SAFETY: freshly made of this very type.
        let this = unsafe { Own::<GatheringFuture>::from_obj_unchecked(obj) };
        this.children.set(children.clone());
        match EventLoop::of(event_loop.as_ptr()) {
            Some(native) => this.future.attach(native)?,
            None => this.future.init(Some(event_loop.as_ptr()))?,
        }
        Ok(this)
    }

    /// `cancel(msg)`: cancels the children, of which the last one then cancels this.
    pub(crate) fn cancel(&self, message: Option<Raw>) -> PyResult<bool> {
        if self.future.is_done() {
            return Ok(false);
        }
        let keep = self.own();
        let mut any = false;
        if let Some(children) = keep.children.get() {
            for child in Items::of(&children) {
                any |= cancel_future(&child, message)?;
            }
        }
        if any {
            keep.cancel_requested.set(true);
        }
        Ok(any)
    }
}

/// The items of a list, whatever happens to it meanwhile.
struct Items<'a> {
    list: &'a Obj,
    next: isize,
}

impl Items<'_> {
    fn of(list: &Obj) -> Items<'_> {
        Items { list, next: 0 }
    }
}

impl Iterator for Items<'_> {
    type Item = Obj;

    #[inline]
    fn next(&mut self) -> Option<Obj> {
        // SAFETY: A1; a list (I1).
        if self.next >= unsafe { c::PyList_Size(self.list.as_ptr()) } {
            return None;
        }
        // SAFETY: A1; the index is in range.
        let item = unsafe { c::PyList_GetItem(self.list.as_ptr(), self.next) };
        self.next += 1;
        Some(Obj::from_borrowed(item))
    }
}

fn list_of(items: Vec<Obj>) -> PyResult<Obj> {
    // SAFETY: A1.
    let list = owned(unsafe { c::PyList_New(items.len() as isize) })?;
    for (index, item) in items.into_iter().enumerate() {
        // SAFETY: a fresh list of that length; SetItem takes over the reference.
        unsafe { c::PyList_SetItem(list.as_ptr(), index as isize, item.into_ptr()) };
    }
    Ok(list)
}

// ---- when children are done ----------------------------------------------------------------------

static GATHER: Kind = Kind {
    qualname: "gather.<locals>._done_callback",
    settle,
    run,
};

/// `flag` is `return_exceptions`.
#[inline]
fn settle(this: &Collector, child: &Future) -> bool {
    let went_well = child.state() == State::Finished && !child.is_failed();
    !((went_well || this.flag.get()) && this.count_quietly())
}

fn run(this: &Collector, child: &Obj) -> PyResult<()> {
    this.count();
    let task = this.task.get();
    child::discard_awaited_by(child, task.as_ref())?;
    let outer = this.owner.get();
    let Some(outer) = outer.as_ref().and_then(|outer| GatheringFuture::of(outer.as_ptr())) else {
        return look_at(child);
    };
    if outer.future.is_done() {
        return look_at(child);
    }
    let outer = outer.own();
    if !this.flag.get() {
        let failure = if child::is_cancelled(child)? {
            Some(child::make_cancelled_error(child)?)
        } else {
            child::exception(child)?
        };
        if let Some(failure) = failure {
            lose_edges(this, task.as_ref())?;
            return outer.future.set_exception(failure.as_ptr());
        }
    }
    if !this.is_complete() {
        return Ok(());
    }
    let Some(children) = this.held.get() else {
        return Ok(());
    };
    let mut results = Vec::with_capacity(this.expected.get());
    let mut last = None;
    for child in Items::of(&children) {
        results.push(outcome(&child)?);
        last = Some(child);
    }
    match last.filter(|_| outer.cancel_requested.get()) {
        // A cancelled gather is cancelled, even where exceptions are results.
        Some(last) => {
            let error = child::make_cancelled_error(&last)?;
            outer.future.set_exception(error.as_ptr())
        }
        None => outer.future.set_result(list_of(results)?),
    }
}

/// Nobody will: it counts as looked at.
#[cold]
fn look_at(child: &Obj) -> PyResult<()> {
    if !child::is_cancelled(child)? {
        child::exception(child)?;
    }
    Ok(())
}

/// A result, or an exception in place of one.
#[inline]
fn outcome(child: &Obj) -> PyResult<Obj> {
    if let Some(native) = Future::of_final(child.as_ptr())
        && native.state() == State::Finished
    {
        native.log_traceback.set(false);
        return Ok(native.value.get_or_none());
    }
    if child::is_cancelled(child)? {
        let message = match child::cancel_message(child)? {
            Some(message) => message,
            None => call::string("")?,
        };
        return call::call1(imports::cancelled_error(), message.as_ptr());
    }
    match child::exception(child)? {
        Some(exception) => Ok(exception),
        None => child::result(child),
    }
}

/// Nobody waits any more for the children that are left.
fn lose_edges(this: &Collector, task: Option<&Obj>) -> PyResult<()> {
    if task.is_none() {
        return Ok(());
    }
    this.task.clear();
    if let Some(children) = this.held.get() {
        for child in Items::of(&children) {
            child::discard_awaited_by(&child, task)?;
        }
    }
    Ok(())
}

// ---- gather --------------------------------------------------------------------------------------

/// Which arguments were there before. What compares by identity, as coroutines and futures do, goes into a table of
/// positions; anything else makes it a dictionary, as asyncio's is.
struct Seen {
    /// Positions plus one; 0 is free. Empty for few arguments.
    table: Vec<u32>,
    dict: Option<Obj>,
    last_kind: *mut c::PyTypeObject,
}

/// Up to here looking at all of them is quicker than a table.
const FEW: usize = 12;

impl Seen {
    fn new(count: usize) -> Seen {
        let table = if count <= FEW {
            Vec::new()
        } else {
            vec![0; (count * 2).next_power_of_two()]
        };
        Seen {
            table,
            dict: None,
            last_kind: std::ptr::null_mut(),
        }
    }

    /// The position of an equal argument before `index`, else notes this one.
    #[inline]
    fn find_or_add(&mut self, all: &[Raw], index: usize) -> PyResult<Option<usize>> {
        let kind = object::type_of(all[index]);
        if kind != self.last_kind {
            if self.dict.is_none() && !is_identity(kind) {
                self.use_dict(&all[..index])?;
            }
            self.last_kind = kind;
        }
        if let Some(dict) = &self.dict {
            return find_in_dict(dict, all[index], index);
        }
        if self.table.is_empty() {
            return Ok(all[..index].iter().position(|other| *other == all[index]));
        }
        let mask = self.table.len() - 1;
        let mut place = (all[index] as usize >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & mask;
        loop {
            match self.table[place] {
                0 => {
                    self.table[place] = index as u32 + 1;
                    return Ok(None);
                }
                noted if all[noted as usize - 1] == all[index] => return Ok(Some(noted as usize - 1)),
                _ => place = (place + 1) & mask,
            }
        }
    }

    #[cold]
    fn use_dict(&mut self, before: &[Raw]) -> PyResult<()> {
        let dict = call::dict()?;
        for (index, argument) in before.iter().enumerate() {
            find_in_dict(&dict, *argument, index)?;
        }
        self.dict = Some(dict);
        Ok(())
    }
}

#[cold]
fn find_in_dict(dict: &Obj, argument: Raw, index: usize) -> PyResult<Option<usize>> {
    // SAFETY: A1; a borrowed value or NULL.
    let found = unsafe { c::PyDict_GetItemWithError(dict.as_ptr(), argument) };
    if !found.is_null() {
        return call::as_i64(found).map(|index| Some(index as usize));
    }
    if crate::ffi::error::occurred() {
        return Err(crate::ffi::Raised);
    }
    let index = call::int(index as i64)?;
    // SAFETY: A1; a dict.
    crate::ffi::error::status(unsafe { c::PyDict_SetItem(dict.as_ptr(), argument, index.as_ptr()) })?;
    Ok(None)
}

/// Do instances equal only themselves?
fn is_identity(kind: *mut c::PyTypeObject) -> bool {
    let plain = &raw mut c::PyBaseObject_Type;
    // SAFETY: ready types; comparing the addresses of what they inherit.
    unsafe {
        (*kind).tp_hash.map(|hash| hash as usize) == (*plain).tp_hash.map(|hash| hash as usize)
            && (*kind).tp_richcompare.map(|compare| compare as usize)
                == (*plain).tp_richcompare.map(|compare| compare as usize)
    }
}

/// `gather(*coros_or_futures, return_exceptions=False)`.
pub(crate) fn gather(args: Args<'_>) -> PyResult<Obj> {
    let return_exceptions = match args.only_keyword("gather", c"return_exceptions")? {
        Some(given) => call::is_true(given)?,
        None => false,
    };
    let given = args.positional();
    if given.is_empty() {
        return gather_nothing();
    }
    let task = child::awaiting_task()?;
    let collector = Collector::create(&GATHER)?;
    collector.flag.set(return_exceptions);
    collector.task.set_option(task.clone());
    let mut event_loop = if cfg!(Py_3_14) {
        Some(crate::waiters::running_loop()?).filter(|running| !running.is_none())
    } else {
        None
    };
    let mut seen = Seen::new(given.len());
    let mut children: Vec<Obj> = Vec::with_capacity(given.len());
    let (mut count, mut done) = (0, Vec::new());
    for (index, argument) in given.iter().enumerate() {
        if let Some(before) = seen.find_or_add(given, index)? {
            children.push(children[before].clone());
            continue;
        }
        let child = child::ensure_future(*argument, event_loop.as_ref())?;
        if event_loop.is_none() {
            event_loop = Some(child::event_loop(&child)?);
        }
        if !child.is(*argument) {
            child::forget_silently(&child)?;
        }
        count += 1;
        if cfg!(Py_3_12) && child::is_done(&child)? {
            done.push(child.clone());
        } else {
            child::add_awaited_by(&child, task.as_ref())?;
            collector.add_to(&child)?;
        }
        children.push(child);
    }
    let children = list_of(children)?;
    let outer = GatheringFuture::create(&children, &event_loop.unwrap_or_else(Obj::none))?;
    collector.held.set(children);
    collector.expected.set(count);
    collector.owner.set(outer.obj());
    for child in done {
        collector.run(&child)?;
    }
    Ok(outer.into_obj())
}

#[cold]
fn gather_nothing() -> PyResult<Obj> {
    let outer = crate::waiters::create_future(&current_event_loop()?)?;
    crate::waiters::set_result(&outer, call::list()?)?;
    Ok(outer)
}

// ---- the class -----------------------------------------------------------------------------------

fn py_cancel(this: &GatheringFuture, args: Args<'_>) -> PyResult<bool> {
    let [message] = args.bind("cancel", &[c"msg"], 1, 0)?;
    this.cancel(message)
}

fn show_children(this: &GatheringFuture) -> PyResult<Obj> {
    Ok(this.children.get_or_none())
}

fn show_cancel_requested(this: &GatheringFuture) -> PyResult<Obj> {
    Ok(Obj::bool(this.cancel_requested.get()))
}

fn class(this: &GatheringFuture) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let [children, event_loop] = args.bind("_GatheringFuture.__init__", &[c"children", c"loop"], 1, 2)?;
            // SAFETY: tp_init's receiver.
            let this = unsafe { &*slf.cast::<GatheringFuture>() };
            let Some(children) = children else { return Ok(()) };
            // SAFETY: A1.
            if unsafe { c::PyList_Check(children) } == 0 {
                return Err(type_error("children must be a list"));
            }
            this.future.init(event_loop)?;
            this.children.set(Obj::from_borrowed(children));
            this.cancel_requested.set(false);
            Ok(())
        })
    })
}

collected!(GatheringFuture, this => weak this.future.weaklist; this.children, this.future);

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<GatheringFuture>() };
        // SAFETY: A1; a negative answer means the finaliser brought the object back to life.
        if this.future.log_traceback.get() && unsafe { c::PyObject_CallFinalizerFromDealloc(slf) } < 0 {
            return;
        }
        // SAFETY: a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        trash::free_shallowly(slf, collected::free_dead::<GatheringFuture>);
    });
}

pub(super) fn build(module: Raw, metaclass: Raw, future: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asyncio.tasks._GatheringFuture",
        c"_GatheringFuture(children, *, loop)\n--\n\nWhat gather() returns: a future whose cancellation reaches all it waits for.",
        size_of::<GatheringFuture>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.bases = vec![future];
    spec.metaclass = Some(metaclass);
    spec.methods = vec![fastcall!(
        c"cancel",
        GatheringFuture,
        py_cancel,
        c"cancel($self, /, msg=None)\n--\n\nCancel the futures it waits for; False if none of them could be."
    )];
    spec.properties = vec![
        property!(c"_children", GatheringFuture, show_children),
        property!(c"_cancel_requested", GatheringFuture, show_cancel_requested),
        property!(c"__class__", GatheringFuture, class),
    ];
    spec.slots = vec![(c::Py_tp_init, init as *mut c_void)];
    spec.slots.extend(collected::slots_with::<GatheringFuture>(dealloc));
    let made = spec.build(module)?;
    super::name_shortly(&made, "_GatheringFuture")?;
    state()
        .types
        .gathering_future
        .store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    metaclass::adopt(&made, call::import_from("asyncio.tasks", "_GatheringFuture")?);
    Ok(())
}
