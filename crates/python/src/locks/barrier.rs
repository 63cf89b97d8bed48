//! Barrier: a fixed number of tasks wait until all of them are there (asyncio.Barrier).
//!
//! Its condition does the waiting (`condition.rs`); what is here goes on under the condition's lock, from one of these
//! waits to the next. An operation's `second` is the index of its task, once it has one.

use super::class::{ClassSpec, Waiters};
use super::condition::{self, Condition};
use super::primitive::{self, Base, Class, Fit, Given, Primitive, receiver, repr_with, small_int, value_for};
use crate::ffi::error::{self, PyResult, Raised, value_error};
use crate::ffi::trampoline::{property, unary_slot};
use crate::ffi::{Native, Obj, Own, Raw, c, call};
use crate::operation::{Behaviour, Bound, Operation, Original, Step, raise_it};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What is held: the condition; the number of parties, if it is not a small int.
const CONDITION: usize = 0;
const ODD_PARTIES: usize = 1;

/// `_BarrierState`
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Filling = 0,
    Draining,
    Resetting,
    Broken,
}

const STATES: [(State, &str); 4] = [
    (State::Filling, "FILLING"),
    (State::Draining, "DRAINING"),
    (State::Resetting, "RESETTING"),
    (State::Broken, "BROKEN"),
];

/// The stdlib's objects for them, which live for ever.
static MEMBERS: [AtomicPtr<c::PyObject>; 4] = [const { AtomicPtr::new(ptr::null_mut()) }; 4];

impl State {
    fn member(self) -> Raw {
        MEMBERS[self as usize].load(Ordering::Relaxed)
    }
}

#[repr(C)]
struct Barrier {
    base: Base,
    parties: Cell<i64>,
    count: Cell<i64>,
    state: Cell<State>,
}

static BARRIER: Class = Class::new();

// SAFETY: repr(C), header first; zero is valid for every field (State::Filling is 0).
unsafe impl Native for Barrier {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        BARRIER.kind()
    }
}

// SAFETY: begins with a Base.
unsafe impl Primitive for Barrier {
    const CLASS: &'static Class = &BARRIER;
    const INNER: &'static [&'static str] = &["wait", "_block", "_release", "_wait", "_exit"];
    const ATTRIBUTES: &'static [&'static str] = &["_cond", "_parties", "_state", "_count"];
    const PARAMETER: Option<&'static str> = Some("parties");
    const REQUIRED: bool = true;

    fn init(&self, given: Given) -> PyResult<Fit> {
        let Given::One(parties) = given else {
            return Ok(Fit::No);
        };
        let Some(parties) = small_int(parties).filter(|parties| *parties >= 1) else {
            return Ok(Fit::No);
        };
        self.base.held[CONDITION].set(Condition::create()?);
        self.base.held[ODD_PARTIES].clear();
        self.parties.set(parties);
        self.state.set(State::Filling);
        self.count.set(0);
        Ok(Fit::Yes)
    }
}

impl Barrier {
    /// `raw`, if it is served natively.
    fn native<'a>(raw: Raw) -> Option<&'a Barrier> {
        let condition = |this: &Barrier| {
            let condition = this.base.held[CONDITION].ptr();
            !condition.is_null() && Condition::native(condition).is_some()
        };
        Barrier::plain(raw).filter(|this| !this.base.held[ODD_PARTIES].is_set() && condition(this))
    }

    /// The condition of one that is served natively.
    fn condition(&self) -> PyResult<Own<Condition>> {
        let condition = self.base.held[CONDITION].ptr();
        if !condition.is_null()
            && let Some(condition) = Condition::of(condition)
        {
            return Ok(condition.own());
        }
        Err(error::runtime_error("the barrier has got another condition meanwhile"))
    }

    fn is(&self, states: &[State]) -> bool {
        states.contains(&self.state.get())
    }
}

// ---- waiting -------------------------------------------------------------------------------------

/// In `Operation::point`, above what the condition uses: which wait it is.
const PHASE_MASK: u8 = 0xf0;
const ENTERING: u8 = 0x00;
const BLOCKED: u8 = 0x10;
const HELD: u8 = 0x20;

fn set_phase(this: &Operation, phase: u8) {
    this.point.set(this.point.get() & !PHASE_MASK | phase);
}

fn then(this: &Operation) -> condition::Then {
    if this.point.get() & PHASE_MASK == BLOCKED {
        block
    } else {
        hold
    }
}

fn start(this: &Operation) -> PyResult<Step> {
    match receiver::<Barrier>(this).condition()?.lock()?.join(this)? {
        None => block(this, Ok(())),
        Some(future) => this.wait_for(future),
    }
}

fn resume(this: &Operation, _value: Obj) -> PyResult<Step> {
    let condition = receiver::<Barrier>(this).condition()?;
    if this.point.get() & PHASE_MASK == ENTERING {
        condition.lock()?.acquired(this)?;
        return block(this, Ok(()));
    }
    condition::resume(this, &condition, then(this))
}

fn raised(this: &Operation, exception: Obj) -> PyResult<Step> {
    let condition = receiver::<Barrier>(this).condition()?;
    if this.point.get() & PHASE_MASK == ENTERING {
        condition.lock()?.not_acquired(this, &exception)?;
        return Err(error::restore(exception));
    }
    condition::raised(this, &condition, exception, then(this))
}

/// Lets those of the last time out first; then it is one more here.
fn block(this: &Operation, outcome: PyResult<()>) -> PyResult<Step> {
    if outcome.is_err() {
        return leave(this, outcome);
    }
    let barrier = receiver::<Barrier>(this);
    if barrier.is(&[State::Draining, State::Resetting]) {
        set_phase(this, BLOCKED);
        return condition::wait(this, &*barrier.condition()?, block);
    }
    if barrier.is(&[State::Broken]) {
        return leave(this, Err(broken("Barrier aborted")));
    }
    let index = barrier.count.get();
    this.second.set(call::int(index)?);
    barrier.count.set(index + 1);
    if index + 1 != barrier.parties.get() {
        return hold(this, Ok(()));
    }
    barrier.state.set(State::Draining);
    let notified = barrier.condition().and_then(|condition| condition.notify(None));
    exit(this, notified)
}

/// Waits for the others.
fn hold(this: &Operation, outcome: PyResult<()>) -> PyResult<Step> {
    if outcome.is_err() {
        return exit(this, outcome);
    }
    let barrier = receiver::<Barrier>(this);
    if barrier.is(&[State::Filling]) {
        set_phase(this, HELD);
        return match barrier.condition() {
            Ok(condition) => condition::wait(this, &condition, hold),
            Err(raised) => exit(this, Err(raised)),
        };
    }
    if barrier.is(&[State::Broken, State::Resetting]) {
        return exit(this, Err(broken("Abort or reset of barrier")));
    }
    exit(this, Ok(()))
}

/// One less here; the last lets the next ones in.
fn exit(this: &Operation, outcome: PyResult<()>) -> PyResult<Step> {
    let barrier = receiver::<Barrier>(this);
    let count = barrier.count.get() - 1;
    barrier.count.set(count);
    if count != 0 {
        return leave(this, outcome);
    }
    if barrier.is(&[State::Resetting, State::Draining]) {
        barrier.state.set(State::Filling);
    }
    let outcome = finally(outcome, || barrier.condition()?.notify(None));
    leave(this, outcome)
}

/// Gives up the lock.
fn leave(this: &Operation, outcome: PyResult<()>) -> PyResult<Step> {
    let barrier = receiver::<Barrier>(this);
    finally(outcome, || barrier.condition()?.lock()?.release())?;
    Ok(Step::Done(this.second.get_or_none()))
}

/// What `body` raises comes instead of what is being raised.
fn finally(outcome: PyResult<()>, body: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let Err(Raised) = outcome else { return body() };
    let exception = error::take();
    match body() {
        Ok(()) => Err(error::restore(exception)),
        Err(Raised) => {
            let other = error::take();
            error::chain(&other, &exception);
            Err(error::restore(other))
        }
    }
}

#[cold]
fn broken(text: &str) -> Raised {
    match call::import_from("asyncio.exceptions", "BrokenBarrierError") {
        Ok(kind) => error::raise(kind.as_ptr(), text),
        Err(raised) => raised,
    }
}

fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(Barrier::native) {
        Some(_) => Operation::create(behaviour, bound.receiver()),
        None => Ok(None),
    }
}

static WAIT: Behaviour = primitive::behaviour("Barrier", "wait", create, start, resume, raised);

static ENTER: Behaviour = primitive::behaviour("Barrier", "__aenter__", create, start, resume, raised);

/// `async def __aexit__(self, *args)`, which does nothing.
static EXIT: Behaviour = Behaviour {
    module: "asyncio.locks",
    class: "Barrier",
    name: "__aexit__",
    parameters: &[c"self", c"*args", c"*args", c"*args"],
    required: 1,
    create,
    start: |_| Ok(Step::Done(Obj::none())),
    resume: |_, value| Ok(Step::Done(value)),
    raised: raise_it,
    original: Original::new(),
};

// ---- the class -----------------------------------------------------------------------------------

fn repr(this: &Barrier) -> PyResult<Obj> {
    let attribute = |object: Raw, name: &str| call::getattr(object, call::interned(name)?.as_ptr());
    let text = |object: Obj| -> PyResult<String> {
        // SAFETY: A1.
        let text = error::owned(unsafe { c::PyObject_Str(object.as_ptr()) })?;
        call::to_string(text.as_ptr())
    };
    let mut state = text(attribute(this.state.get().member(), "value")?)?;
    if !call::is_true(attribute(this.raw(), "broken")?.as_ptr())? {
        let waiting = text(attribute(this.raw(), "n_waiting")?)?;
        let parties = text(attribute(this.raw(), "parties")?)?;
        state = format!("{state}, waiters:{waiting}/{parties}");
    }
    repr_with(&this.base, &state)
}

fn show_parties(this: &Barrier) -> PyResult<Obj> {
    match this.base.held[ODD_PARTIES].get() {
        Some(odd) => Ok(odd),
        None => call::int(this.parties.get()),
    }
}

fn set_parties(this: &Barrier, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_parties")?;
    match small_int(value) {
        Some(value) => {
            this.parties.set(value);
            this.base.held[ODD_PARTIES].clear();
        }
        None => this.base.held[ODD_PARTIES].set(Obj::from_borrowed(value)),
    }
    Ok(())
}

fn show_waiting(this: &Barrier) -> PyResult<Obj> {
    call::int(if this.is(&[State::Filling]) {
        this.count.get()
    } else {
        0
    })
}

fn show_broken(this: &Barrier) -> PyResult<Obj> {
    Ok(Obj::bool(this.is(&[State::Broken])))
}

fn show_count(this: &Barrier) -> PyResult<Obj> {
    call::int(this.count.get())
}

fn set_count(this: &Barrier, value: Option<Raw>) -> PyResult<()> {
    this.count.set(call::as_i64(value_for(this, value, "_count")?)?);
    Ok(())
}

fn show_state(this: &Barrier) -> PyResult<Obj> {
    Ok(Obj::from_borrowed(this.state.get().member()))
}

fn set_state(this: &Barrier, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_state")?;
    for (state, _) in STATES {
        if state.member() == value {
            this.state.set(state);
            return Ok(());
        }
    }
    Err(value_error("_state must be a _BarrierState"))
}

fn show_condition(this: &Barrier) -> PyResult<Obj> {
    Ok(this.base.held[CONDITION].get_or_none())
}

fn set_condition(this: &Barrier, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_cond")?;
    this.base.held[CONDITION].set(Obj::from_borrowed(value));
    Ok(())
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    let states = call::import_from("asyncio.locks", "_BarrierState")?;
    for (state, name) in STATES {
        let member = call::getattr(states.as_ptr(), call::interned(name)?.as_ptr())?;
        MEMBERS[state as usize].store(member.into_ptr(), Ordering::Relaxed);
    }
    ClassSpec {
        name: c"asyncio.locks.Barrier",
        doc: c"Barrier(parties)\n--\n\nSo many tasks wait until all of them are there (asyncio.Barrier).",
        base: None,
        waiters: Waiters::Never,
        methods: Vec::new(),
        properties: vec![
            property!(c"parties", Barrier, show_parties),
            property!(c"n_waiting", Barrier, show_waiting),
            property!(c"broken", Barrier, show_broken),
            property!(c"_parties", Barrier, show_parties, set_parties),
            property!(c"_count", Barrier, show_count, set_count),
            property!(c"_state", Barrier, show_state, set_state),
            property!(c"_cond", Barrier, show_condition, set_condition),
        ],
        slots: vec![unary_slot!(c::Py_tp_repr, Barrier, repr)],
        operations: vec![&WAIT, &ENTER, &EXIT],
        adopted: &["reset", "abort", "_block", "_release", "_wait", "_exit"],
    }
    .build::<Barrier>(module, metaclass)
}
