//! One turn of the loop: what other threads posted, a poll if one is due, then every entry that was
//! ready when the turn began; at its end the transports' writes are flushed.
//!
//! Ready entries come first: a poll costs 150 ns, so it is made when nothing is ready, after 64 entries,
//! after 20 µs, or when something asks for it (a timer that is due at once, a new reader, the first turn of a run). The
//! turn after a poll that brought something has more time: it is there for what woke up because of it.

use super::bursts::FLUSH_EVERY_ENTRIES;
use super::ready::{Entry, Work, is_unique};
use super::{EventLoop, PARKING};
use crate::ffi::error::{self, PyResult, restore, take};
use crate::ffi::{Native, Obj, Own, Raised, Raw, call, context, thread};
use crate::future::Future;
use crate::handle::{Handle, REPEATING, RUNS, SCHEDULED, SHARED, report};
use crate::state::{helper, names};
use crate::task::{Task, registry, step};
use crate::timeouts::Alarm;
use reactor::Token;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::Ordering;

const POLL_EVERY_ENTRIES: usize = 64;
const POLL_EVERY_NS: u64 = 20_000;
/// How many times that, in the turn after a poll that brought something. Ten streams with a message each take longer than
/// the 20 µs to receive, and a poll before their tasks run would be one for nothing.
const NEXT_TURN_FACTOR: u64 = 8;
/// Coming back from a wait later than this means that another thread held the GIL.
const CONTENDED_NS: u64 = 100_000;
/// For how many waits that is remembered.
const CONTENDED_WAITS: u8 = 64;

/// What a run replaces and puts back: runs nest when a callback runs the loop again.
struct Run<'a> {
    event_loop: &'a EventLoop,
    running: *const EventLoop,
    current: *const Task,
    entered: Raw,
    told: registry::Told,
    /// The first `run_turns` of the loop.
    is_outermost: bool,
}

impl<'a> Run<'a> {
    fn begin(event_loop: &'a EventLoop) -> PyResult<Run<'a>> {
        // A nested run may wait for the answer to what the callback or task below it wrote.
        event_loop.flush_writes()?;
        Ok(Run {
            told: registry::put_aside(event_loop),
            is_outermost: false,
            event_loop,
            running: EventLoop::set_running(event_loop),
            current: event_loop.replace_current(ptr::null()),
            entered: event_loop.entered.replace(ptr::null_mut()),
        })
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // An exception may be on its way out.
        let interrupted = error::take_if_any();
        self.event_loop.leave_context();
        while self.event_loop.flush_writes().is_err() {
            // One end of the program is enough.
            error::write_unraisable(ptr::null_mut());
        }
        if self.is_outermost {
            self.event_loop.in_run.set(false);
            self.event_loop.show_hidden();
        }
        registry::withdraw(self.event_loop);
        self.event_loop.entered.set(self.entered);
        self.event_loop.replace_current(self.current);
        EventLoop::set_running(self.running);
        registry::put_back(self.event_loop, &mut self.told);
        if let Some(interrupted) = interrupted {
            let Raised = restore(interrupted);
        }
    }
}

impl EventLoop {
    /// Turns until `stop()`.
    pub(crate) fn run_turns(&self) -> PyResult<()> {
        self.check_open()?;
        self.check_fork()?;
        self.look_for_other_classes()?;
        let keep = self.own();
        let mut run = Run::begin(self)?;
        run.is_outermost = !self.in_run.replace(true);
        self.force_poll.set(true);
        let outcome = loop {
            if let Err(raised) = self.turn() {
                break Err(raised);
            }
            if self.is_stopping() {
                break Ok(());
            }
        };
        drop(run);
        drop(keep);
        outcome
    }

    /// A single turn, for drivers written in Python.
    pub(crate) fn run_one_turn(&self) -> PyResult<()> {
        self.check_open()?;
        self.check_fork()?;
        self.look_for_other_classes()?;
        let keep = self.own();
        let run = Run::begin(self)?;
        self.force_poll.set(true);
        let outcome = self.turn();
        drop(run);
        drop(keep);
        outcome
    }

    /// Runs one handle outside a turn (`Handle._run`): what runs now is set aside.
    pub(crate) fn run_handle_nested(&self, handle: &Own<Handle>) -> PyResult<()> {
        let _run = Run::begin(self)?;
        self.run_handle(handle.clone())?;
        self.leave_context();
        self.flush_writes()
    }

    #[inline]
    fn turn(&self) -> PyResult<()> {
        if PARKING.load(Ordering::Relaxed) {
            super::park();
        }
        self.begin_turn();
        self.collect_posted();
        let mut todo = self.ready().len();
        if todo == 0 || self.is_poll_due(todo) {
            // Signal handlers run there, in nobody's context.
            self.leave_context();
            self.poll(if todo == 0 && !self.is_stopping() {
                None
            } else {
                Some(0)
            })?;
            todo = self.ready().len();
        }
        let inner = self.inner();
        inner.entries_since_poll.set(inner.entries_since_poll.get() + todo);
        let mut outcome = Ok(());
        for index in 1..=todo {
            let Some(entry) = self.ready().pop() else { break };
            if let Err(raised) = self.run_entry(entry) {
                outcome = Err(raised);
                break;
            }
            if index % FLUSH_EVERY_ENTRIES == 0 {
                // A long turn must not hold written bytes or signals back.
                if self.has_unflushed() {
                    self.leave_context();
                    self.flush_writes()?;
                }
                if index % POLL_EVERY_ENTRIES == 0 {
                    self.leave_context();
                    thread::check_signals()?;
                }
            }
        }
        // Otherwise the context stays entered: a task that goes on next turn finds it so.
        if outcome.is_ok() && self.has_unflushed() {
            self.leave_context();
            outcome = self.flush_writes();
        }
        outcome
    }

    #[inline]
    fn is_poll_due(&self, todo: usize) -> bool {
        let inner = self.inner();
        if self.force_poll.get() || inner.entries_since_poll.get() + todo > POLL_EVERY_ENTRIES {
            return true;
        }
        // SAFETY: I2.
        let watched = unsafe {
            (*inner.registry.get())
                .as_ref()
                .is_some_and(|registry| registry.len() > inner.internal_fds.get())
                || !(*inner.timers.get()).is_empty()
        };
        // Reading the tick counter costs as much as a small entry: only where something can become due.
        let turns = self.turn_number().wrapping_sub(inner.last_poll_turn.get());
        let factor = if turns == 1 { NEXT_TURN_FACTOR } else { 1 };
        watched && reactor::ticks().wrapping_sub(inner.last_poll_ticks.get()) > inner.poll_interval_ticks.get() * factor
    }

    /// A file that is watched from now on may have something already, and asyncio would see it in the next turn.
    #[inline]
    pub(crate) fn poll_next_turn(&self) {
        self.force_poll.set(true);
    }

    /// Moves what other threads posted into the ready queue.
    #[inline]
    pub(crate) fn collect_posted(&self) {
        if !self.inner().inbox.is_empty() {
            self.move_posted();
        }
    }

    fn move_posted(&self) {
        let inner = self.inner();
        // SAFETY: I2; moving entries runs no Python code.
        let posted = unsafe { &mut *inner.posted.get() };
        inner.inbox.drain_into(posted);
        for entry in posted.drain(..) {
            self.ready().push(entry);
        }
    }

    /// Asks the kernel for events and the clock for due timers. `Some(ns)` bounds the wait; `None` waits
    /// for as long as nothing happens.
    pub(crate) fn poll(&self, timeout_ns: Option<u64>) -> PyResult<()> {
        // The events are the parent's, if a callback of this loop forked and we are the child.
        self.check_fork()?;
        self.force_poll.set(false);
        let inner = self.inner();
        inner.entries_since_poll.set(0);
        let ready_before = self.ready().len();
        // SAFETY: I2.
        let (fds, deadline) = unsafe {
            (
                (*inner.registry.get()).as_ref().map_or(0, reactor::Registry::len),
                (*inner.timers.get()).next_deadline_ns(),
            )
        };
        let mut now = 0;
        let timeout_ns = match (timeout_ns, deadline) {
            (Some(0), _) => Some(0),
            (limit, Some(deadline)) => {
                now = reactor::now_ns();
                let until = deadline.saturating_sub(now);
                Some(limit.map_or(until, |limit| limit.min(until)))
            }
            (limit, None) => limit,
        };
        if timeout_ns != Some(0) || fds > 0 {
            self.wait(timeout_ns)?;
            now = 0;
        }
        self.collect_posted();
        if deadline.is_some() {
            if now == 0 {
                now = reactor::now_ns();
            }
            self.collect_due_timers(now);
        }
        self.note_poll(now, self.ready().len() > ready_before);
        thread::check_signals()?;
        self.check_fork()
    }

    /// Remembers when the last poll was, in ticks, and in which turn the last one that brought something.
    #[inline]
    fn note_poll(&self, now: u64, brought_something: bool) {
        let inner = self.inner();
        let ticks = reactor::ticks();
        inner.last_poll_ticks.set(ticks);
        if brought_something {
            inner.last_poll_turn.set(self.turn_number());
        }
        if now != 0 || inner.poll_interval_ticks.get() == 0 {
            let now = if now == 0 { reactor::now_ns() } else { now };
            // SAFETY: I2.
            let clock = unsafe { &mut *inner.tick_clock.get() };
            clock.observe(now, ticks);
            inner.poll_interval_ticks.set(clock.ticks_for_ns(POLL_EVERY_NS).max(1));
        }
    }

    fn wait(&self, timeout_ns: Option<u64>) -> PyResult<()> {
        let inner = self.inner();
        // SAFETY: I2: the registry's poller and the events are used by this thread only while detached; the
        // registry itself is not moved: `close_core` refuses while the loop runs.
        let (poller, events) = unsafe {
            let Some(registry) = (*inner.registry.get()).as_ref() else {
                return Ok(());
            };
            (registry.poller(), &mut *inner.events.get())
        };
        let Some(waker) = inner.waker() else { return Ok(()) };
        self.limit_events(events);
        let waited = if timeout_ns == Some(0) {
            poller.wait(events, Some(0))
        } else {
            // Beside a busy thread, giving the GIL up costs up to a switch interval: first look without.
            let contended = self.contended_waits_left.get();
            let first = if contended > 0 {
                self.contended_waits_left.set(contended - 1);
                poller.wait(events, Some(0))
            } else {
                Ok(0)
            };
            match first {
                Ok(0) => {
                    waker.prepare_sleep();
                    let timeout_ns = if inner.inbox.is_empty() { timeout_ns } else { Some(0) };
                    let (waited, back) = thread::detached(|| {
                        let waited = poller.wait(events, timeout_ns);
                        waker.finish_sleep();
                        (waited, reactor::now_ns())
                    });
                    if reactor::now_ns().saturating_sub(back) > CONTENDED_NS {
                        self.contended_waits_left.set(CONTENDED_WAITS);
                    }
                    waited
                }
                other => other,
            }
        };
        match waited {
            Ok(0) => Ok(()),
            Ok(_) => {
                self.collect_events();
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error::os_error(&error)),
        }
    }

    fn collect_events(&self) {
        let inner = self.inner();
        // SAFETY: I2; no Python code runs here.
        let (registry, events) = unsafe { (&*inner.registry.get(), &*inner.events.get()) };
        let (Some(registry), Some(waker)) = (registry.as_ref(), inner.waker()) else {
            return;
        };
        let mut orphaned = false;
        for event in events.iter() {
            if event.token == Token::RESERVED.raw() {
                waker.drain();
            } else if registry.lookup(event.token).is_some() {
                let token = Token::from_raw(event.token);
                self.ready()
                    .push(Entry::readiness(token.fd(), token.generation(), event.readiness.bits()));
            } else {
                orphaned = true;
            }
        }
        if orphaned {
            self.leave_orphans_behind();
        }
    }

    /// A file that was closed without a word lives on in a duplicate, and the kernel would report it for ever.
    #[cold]
    fn leave_orphans_behind(&self) {
        let Some(waker) = self.inner().waker().map(AsRawFd::as_raw_fd) else {
            return;
        };
        // If the kernel has no descriptor left for this, the event comes again.
        let _ = self.with_registry(|registry| {
            registry.rebuild(|poller| poller.add(waker, Token::RESERVED.raw(), reactor::Interest::READABLE))
        });
    }

    fn collect_due_timers(&self, now_ns: u64) {
        loop {
            // SAFETY: I2; the entry is moved out before anything else happens.
            let Some(entry) = (unsafe { (*self.inner().timers.get()).pop_expired(now_ns) }) else {
                return;
            };
            if entry.is_dead() {
                // SAFETY: I2.
                unsafe { (*self.inner().timers.get()).note_dead_popped() };
                drop(entry);
                continue;
            }
            if let Some(handle) = entry.as_handle() {
                handle.put(SCHEDULED, false);
            } else if let Some(alarm) = entry.as_alarm() {
                alarm.note_due();
            }
            self.ready().push(entry);
        }
    }

    #[inline]
    fn run_entry(&self, entry: Entry) -> PyResult<()> {
        match entry.into_work() {
            Work::Task(task) => {
                if self.is_debug() {
                    self.run_task_timed(task)
                } else {
                    self.run_task(task)
                }
            }
            Work::Handle(handle) => {
                if self.is_debug() {
                    self.run_handle_timed(handle)
                } else {
                    self.run_handle(handle)
                }
            }
            Work::Future(future) => finish_sleep(&future),
            Work::Alarm(alarm) => self.run_alarm(&alarm),
            Work::Job(job) => job.complete(self),
            Work::Readiness { fd, generation, bits } => self.dispatch(fd, generation, bits),
        }
    }

    #[inline]
    pub(crate) fn enter_context(&self, wanted: Raw) -> PyResult<()> {
        if self.entered.get() == wanted {
            return Ok(());
        }
        self.leave_context();
        context::enter(wanted)?;
        self.entered.set(wanted);
        Ok(())
    }

    #[inline]
    pub(crate) fn leave_context(&self) {
        let entered = self.entered.replace(ptr::null_mut());
        if !entered.is_null() && context::exit(entered).is_err() {
            // A callback left a context of its own entered; asyncio's Context.run would fail the same way.
            error::write_unraisable(ptr::null_mut());
        }
    }

    #[inline]
    fn run_task(&self, task: Own<Task>) -> PyResult<()> {
        let wanted = task.context.ptr();
        if self.enter_context(wanted).is_err() {
            return self.task_context_failed(&task);
        }
        let outcome = step::run(&task, self);
        if let Err(Raised) = outcome {
            task.show();
            return self.task_step_failed(&task);
        }
        if task.future.is_done() {
            // The last reference may go here, and its report runs in the task's context again.
            self.leave_context();
            task.show_if_held();
        }
        Ok(())
    }

    #[cold]
    fn task_context_failed(&self, task: &Own<Task>) -> PyResult<()> {
        let exception = take();
        let function = crate::task::step_function(&task.obj())?;
        let handle = Handle::create(self, function.as_ptr(), &[], task.context.get_or_none())?;
        report(self.raw(), handle.raw(), &exception)
    }

    /// Does it leave the loop? In the child of a fork everything does: there is nothing to go on with.
    #[cold]
    fn lets_out(&self, exception: &Obj) -> bool {
        error::is_exit(exception.as_ptr()) || self.is_forked()
    }

    /// Exits leave the loop; anything else a step lets through is a failure of the callback.
    #[cold]
    fn task_step_failed(&self, task: &Own<Task>) -> PyResult<()> {
        let exception = take();
        self.leave_context();
        if self.lets_out(&exception) {
            return Err(restore(exception));
        }
        let function = crate::task::step_function(&task.obj())?;
        let handle = Handle::create(self, function.as_ptr(), &[], task.context.get_or_none())?;
        report(self.raw(), handle.raw(), &exception)
    }

    #[inline]
    pub(crate) fn run_handle(&self, handle: Own<Handle>) -> PyResult<()> {
        if handle.is_cancelled() {
            return Ok(());
        }
        #[cfg(Py_3_14)]
        registry::withdraw(self);
        if handle.has(SHARED) {
            handle.put(RUNS, true);
        }
        // The context outlives the call: the thread state holds what is entered.
        let outcome = self.enter_context(handle.context.ptr()).and_then(|()| {
            let unique = is_unique(&*handle) && !handle.has(REPEATING);
            handle.invoke(unique)
        });
        let outcome = match outcome {
            Ok(value) => {
                drop(value);
                Ok(())
            }
            Err(Raised) => self.callback_failed(&handle),
        };
        self.leave_context();
        if handle.has(SHARED) {
            handle.put(RUNS, false);
            self.inner().shared_handle_ran.notify();
        }
        if !self.is_debug() && !is_unique(&*handle) {
            release_spent(&handle);
        }
        outcome
    }

    /// A timeout's time is up. As with a handle, nothing it runs sees a current task.
    #[cold]
    fn run_alarm(&self, alarm: &Alarm) -> PyResult<()> {
        let Some(timeout) = alarm.take_timeout() else {
            return Ok(());
        };
        #[cfg(Py_3_14)]
        registry::withdraw(self);
        let context = timeout.context_for_callback()?;
        let outcome = self
            .enter_context(context.as_ptr())
            .and_then(|()| timeout.expire())
            .map_err(|Raised| take());
        self.leave_context();
        match outcome {
            Ok(()) => Ok(()),
            Err(exception) if self.lets_out(&exception) => Err(restore(exception)),
            Err(exception) => {
                let handle = Handle::create(self, timeout.callback()?.as_ptr(), &[], context)?;
                report(self.raw(), handle.raw(), &exception)
            }
        }
    }

    /// Blocks another thread while `handle`'s callback runs.
    #[cold]
    pub(crate) fn wait_for_shared_handle(&self, handle: &Handle) {
        while handle.has(RUNS) && !self.is_own_thread() {
            let seen = self.inner().shared_handle_ran.count();
            if handle.has(RUNS) {
                self.inner().shared_handle_ran.wait(seen);
            }
        }
    }

    #[cold]
    fn callback_failed(&self, handle: &Handle) -> PyResult<()> {
        let exception = take();
        self.leave_context();
        if self.lets_out(&exception) {
            return Err(restore(exception));
        }
        report(self.raw(), handle.raw(), &exception)
    }

    /// Debug mode: reports callbacks that took too long.
    #[cold]
    pub(crate) fn run_handle_timed(&self, handle: Own<Handle>) -> PyResult<()> {
        let begin = reactor::now_ns();
        // The default exception handler shows where the running handle was scheduled.
        call::setattr(self.raw(), names::current_handle(), handle.raw())?;
        let outcome = self.run_handle(handle.clone());
        let failure = outcome.err().map(|_| take());
        call::setattr(self.raw(), names::current_handle(), Obj::none().as_ptr())?;
        let outcome = failure.map_or(Ok(()), |exception| Err(restore(exception)));
        let outcome = outcome.and_then(|()| self.report_if_slow(handle.raw(), begin));
        release_spent(&handle);
        outcome
    }

    #[cold]
    fn run_task_timed(&self, task: Own<Task>) -> PyResult<()> {
        let begin = reactor::now_ns();
        let outcome = self.run_task(task.clone());
        outcome.and_then(|()| self.report_if_slow(task.raw(), begin))
    }

    fn report_if_slow(&self, who: Raw, begin_ns: u64) -> PyResult<()> {
        let seconds = reactor::now_ns().saturating_sub(begin_ns) as f64 * 1e-9;
        if seconds < self.slow_callback_seconds() {
            return Ok(());
        }
        self.leave_context();
        let seconds = call::float(seconds)?;
        call::call(
            helper("slow_callback")?.as_ptr(),
            &[self.raw(), who, seconds.as_ptr()],
            None,
        )
        .map(drop)
    }
}

/// A handle that a method of the loop made never runs again, but who asked for it often keeps it, and is what its callback
/// belongs to. The collector does not see that cycle: this opens it. Those of readers, writers and signals run again.
fn release_spent(handle: &Handle) {
    if handle.runs_once() {
        let interrupted = error::take_if_any();
        handle.release();
        if let Some(interrupted) = interrupted {
            let Raised = restore(interrupted);
        }
    }
}

/// A sleep's time is up.
fn finish_sleep(future: &Future) -> PyResult<()> {
    future.show();
    if future.is_settled() {
        Ok(())
    } else {
        future.set_result(Obj::none())
    }
}
