//! Job: a call that a thread of a pool makes for a loop, and the message that brings its outcome home.
//!
//! Invariants
//! - I1: `event_loop` is an `EventLoop`, `future` a `Future` of exactly that class; both are set from birth, and only the
//!   job's turn on the loop, or the collector, empties them.
//! - I2: `function` and `arguments` are set while the stage is `Queued`; `outcome` once it is `Succeeded` (the result),
//!   `Failed` (the exception) or `Foreign` (a `concurrent.futures.Future` that is done).
//! - I3: a job is posted to its loop at most once: by whoever moves it out of `Queued` or `Running`.

use crate::event_loop::EventLoop;
use crate::event_loop::ready::Entry;
use crate::ffi::collected::{self, collected};
use crate::ffi::error::{self, PyResult, Raised};
use crate::ffi::trampoline::{fastcall, noargs, onearg, property};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, context, types};
use crate::future::Future;
use crate::handle::{Handle, report};
use crate::state::state;
use std::cell::Cell;
use std::sync::atomic::Ordering;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Queued = 0,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// Not a call: somebody else's future is done, and its state is to be copied.
    Foreign,
}

#[repr(C)]
pub(crate) struct Job {
    head: c::PyObject,
    event_loop: Slot,
    future: Slot,
    function: Slot,
    /// A tuple.
    arguments: Slot,
    /// A dictionary, or nothing.
    keywords: Slot,
    /// What to call it in, if not in the thread's own context.
    context: Slot,
    outcome: Slot,
    stage: Cell<Stage>,
}

// SAFETY: repr(C), header first; zero is valid for every field (Stage::Queued is 0).
unsafe impl Native for Job {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.job()
    }
}

/// What to call.
pub(super) struct Call {
    pub(super) function: Obj,
    pub(super) arguments: Obj,
    pub(super) keywords: Option<Obj>,
    pub(super) context: Option<Obj>,
}

impl Job {
    pub(super) fn create(event_loop: &EventLoop, future: &Future, call: Call) -> PyResult<Own<Job>> {
        let this = Job::allocate(event_loop, future)?;
        this.function.init(call.function);
        this.arguments.init(call.arguments);
        this.keywords.set_option(call.keywords);
        this.context.set_option(call.context);
        Ok(this)
    }

    fn allocate(event_loop: &EventLoop, future: &Future) -> PyResult<Own<Job>> {
        let obj = types::allocate(Job::type_object())?;
        // SAFETY: freshly made of this very type.
        let this = unsafe { Own::<Job>::from_obj_unchecked(obj) };
        this.event_loop.init(event_loop.obj());
        this.future.init(future.obj());
        Ok(this)
    }

    /// Brings what `source`, a `concurrent.futures.Future` that is done, came to home to `future`.
    pub(super) fn post_foreign(event_loop: &EventLoop, future: &Future, source: &Obj) -> PyResult<()> {
        let this = Job::allocate(event_loop, future)?;
        this.outcome.init(source.clone());
        this.stage.set(Stage::Foreign);
        this.post();
        Ok(())
    }

    /// What the worker does.
    fn run(&self) -> PyResult<()> {
        if self.stage.get() != Stage::Queued {
            return Ok(());
        }
        self.stage.set(Stage::Running);
        let outcome = self.call();
        // Dropped here and not in the loop's thread: they may be large, or belong to this one.
        self.function.clear();
        self.arguments.clear();
        self.keywords.clear();
        self.context.clear();
        let (stage, outcome) = match outcome {
            Ok(value) => (Stage::Succeeded, value),
            Err(exception) => (Stage::Failed, exception),
        };
        self.outcome.set(outcome);
        self.stage.set(stage);
        self.post();
        Ok(())
    }

    fn call(&self) -> Result<Obj, Obj> {
        let (function, arguments) = (self.function.get_or_none(), self.arguments.get_or_none());
        let keywords = self.keywords.get();
        let call = || call::call_with(function.as_ptr(), &arguments, keywords.as_ref());
        let Some(own_context) = self.context.get() else {
            return call().map_err(|Raised| error::take());
        };
        context::enter(own_context.as_ptr()).map_err(|Raised| error::take())?;
        let outcome = call().map_err(|Raised| error::take());
        match context::exit(own_context.as_ptr()) {
            Ok(()) => outcome,
            Err(Raised) => Err(error::take()),
        }
    }

    /// Sends it to the loop. A closed one takes nothing any more, and nobody waits there.
    fn post(&self) {
        // SAFETY: I1; only this job's turn, which comes after, or the collector empties the slot.
        let Some(event_loop) = (unsafe { self.event_loop.ptr().cast::<EventLoop>().as_ref() }) else {
            return;
        };
        let keep = event_loop.own();
        drop(keep.post(Entry::job(self.own())));
    }

    /// `concurrent.futures.Future.cancel()`: true unless it has begun.
    fn cancel(&self, tell: bool) -> bool {
        match self.stage.get() {
            Stage::Queued => {
                self.stage.set(Stage::Cancelled);
                if tell {
                    self.post();
                }
                true
            }
            Stage::Cancelled => true,
            _ => false,
        }
    }

    /// The asyncio future was cancelled.
    pub(super) fn forget(&self) {
        self.cancel(false);
    }

    /// Its turn on the loop: what came of it goes to the future.
    pub(crate) fn complete(&self, event_loop: &EventLoop) -> PyResult<()> {
        let (Some(future), outcome) = (self.future.take(), self.outcome.take()) else {
            return Ok(());
        };
        self.event_loop.clear();
        // SAFETY: I1.
        let future = unsafe { Own::<Future>::from_obj_unchecked(future) };
        let Err(Raised) = self.settle(&future, outcome.as_ref()) else {
            return Ok(());
        };
        let exception = error::take();
        let told = super::chain::set_state_function(&future)?;
        let source = outcome
            .filter(|_| self.stage.get() == Stage::Foreign)
            .unwrap_or_else(|| self.obj());
        let arguments = [future.raw(), source.as_ptr()];
        let handle = Handle::create(event_loop, told.as_ptr(), &arguments, context::copy_current()?)?;
        report(event_loop.raw(), handle.raw(), &exception)
    }

    /// `_copy_future_state`.
    fn settle(&self, future: &Future, outcome: Option<&Obj>) -> PyResult<()> {
        if !super::chain::takes_state(future)? {
            return Ok(());
        }
        match (self.stage.get(), outcome) {
            (Stage::Succeeded, Some(result)) => future.set_result(result.clone()),
            (Stage::Failed, Some(exception)) => future.set_exception(super::chain::convert(exception)?.as_ptr()),
            (Stage::Foreign, Some(source)) => super::chain::copy_state(source, future),
            _ => future.cancel(None).map(drop),
        }
    }
}

// ---- what a pool asks of a work item ---------------------------------------------------------------

fn py_run(this: &Job, _args: Args<'_>) -> PyResult<()> {
    let keep = this.own();
    keep.run()
}

fn py_cancel(this: &Job) -> PyResult<bool> {
    Ok(this.cancel(true))
}

/// For those who run the loop's entries themselves (nest_asyncio).
fn py_complete(this: &Job) -> PyResult<()> {
    let keep = this.own();
    match keep.event_loop.get() {
        // SAFETY: I1.
        Some(event_loop) => keep.complete(unsafe { &*event_loop.as_ptr().cast::<EventLoop>() }),
        None => Ok(()),
    }
}

/// For a pool whose threads cannot start.
fn py_set_exception(this: &Job, exception: Raw) -> PyResult<()> {
    if this.stage.get() == Stage::Queued {
        this.outcome.set(Obj::from_borrowed(exception));
        this.stage.set(Stage::Failed);
        this.post();
    }
    Ok(())
}

fn show_future(this: &Job) -> PyResult<Obj> {
    Ok(this.obj())
}

// ---- life and death --------------------------------------------------------------------------------

collected!(Job, this =>
    this.event_loop,
    this.future,
    this.function,
    this.arguments,
    this.keywords,
    this.context,
    this.outcome,
);

pub(super) fn build(module: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Job",
        c"A call that a thread makes for a loop: a work item of the stdlib's thread pools.",
        size_of::<Job>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![
        fastcall!(
            c"run",
            Job,
            py_run,
            c"run($self, *args)\n--\n\nMake the call and tell the loop."
        ),
        noargs!(
            c"_complete",
            Job,
            py_complete,
            c"_complete($self, /)\n--\n\nIts turn on the loop."
        ),
        noargs!(
            c"cancel",
            Job,
            py_cancel,
            c"cancel($self, /)\n--\n\nCancel it, unless it has begun."
        ),
        onearg!(
            c"set_exception",
            Job,
            py_set_exception,
            c"set_exception($self, exception, /)\n--\n\nThere is no thread to make the call."
        ),
    ];
    spec.properties = vec![property!(c"future", Job, show_future)];
    spec.slots = vec![];
    spec.slots.extend(collected::slots::<Job>());
    let made = spec.build(module)?;
    state().types.job.store(made.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
