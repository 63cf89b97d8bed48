//! How an operation runs: started, resumed, waiting for something, thrown at, closed, ended.

use super::awaited::{await_iterator, raised_by_future, throw_into, without_stop_iteration};
use super::{Behaviour, Kind, NATIVE, NOTIFIED, Operation, Stage, Step, sleep, sock};
use crate::event_loop::EventLoop;
use crate::ffi::error::{PyResult, runtime_error, value_error};
use crate::ffi::{Native, Obj, Own, c, call, error};
use crate::future::{Future, Outcome};

impl Operation {
    /// Starts or resumes it.
    #[allow(clippy::inline_always)] // Counted: else it is a call per await.
    #[inline(always)]
    pub(super) fn advance(&self) -> PyResult<Step> {
        match sleep::turn(self) {
            Some(step) => Ok(step),
            None => self.advance_any(),
        }
    }

    fn advance_any(&self) -> PyResult<Step> {
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

    #[allow(clippy::inline_always)] // Counted: else it is a call per await.
    #[inline(always)]
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
    pub(super) fn block_on(&self, event_loop: &EventLoop, future: Own<Future>) -> Step {
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
        if Future::of_final(awaitable.as_ptr()).is_some() {
            // SAFETY: it is one, as was just seen.
            return self.wait_for_future(unsafe { Own::from_obj_unchecked(awaitable) });
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
    pub(super) fn finish(&self) {
        self.stage.set(Stage::Closed);
        if let Some(waiter) = self.waiter.take() {
            match self.kind.get() {
                Kind::Sleep => sleep::cleanup(self, &waiter),
                Kind::Other => {}
                _ => sock::cleanup(self),
            }
        }
        if !self.extra.get().is_null() {
            self.finish_extra();
        }
        self.first.clear();
        self.second.clear();
        self.third.clear();
        self.event_loop.clear();
    }

    #[cold]
    fn finish_extra(&self) {
        self.drop_shadow();
        if let Some(extra) = self.extra_if_any() {
            let aside = std::mem::take(&mut extra.aside);
            drop(aside);
        }
        drop(self.extra_if_any().and_then(|extra| extra.behind.take()));
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
    pub(super) fn close_suspended(&self) -> PyResult<()> {
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
    pub(super) fn end_with(&self, exception: Obj) -> PyResult<Step> {
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
}
