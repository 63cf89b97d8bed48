//! The coroutines `put`, `get` and `join`.
//!
//! Invariants
//! - I1: an operation's `first` is the queue. `put` has the item as its `second` and the future it waits for as its
//!   `third`, `get` and `join` have the future as their `second`.
//! - I2: a waiter is out of the queue once it has been woken; one that is woken and then cancelled wakes the next.

use super::finished::Join;
use super::queue::{Queue, wake_next};
use super::{raise, table};
use crate::ffi::error::{self, PyResult};
use crate::ffi::{Native, Obj, Slot};
use crate::future::Future;
use crate::operation::{Behaviour, Bound, Operation, Original, Step};
use crate::waiters;
use crate::waiters::deque::Deque;

/// For queues that are not handed over; the stdlib's coroutine for others.
fn create(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(Queue::of) {
        Some(queue) if !queue.handed_over.get() => Operation::create(behaviour, bound),
        _ => Ok(None),
    }
}

#[inline]
fn queue_of(this: &Operation) -> &Queue {
    // SAFETY: I1; `create` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<Queue>() }
}

/// Waits in `waiting`; `slot` keeps the future.
#[inline]
fn wait_in(this: &Operation, waiting: &Deque, slot: &Slot) -> PyResult<Step> {
    let future = queue_of(this).queue_up(waiting)?;
    slot.set_option(Some(future.clone()));
    this.wait_for(future)
}

/// The future is done, and nobody looks at it any more.
#[inline]
fn woken(slot: &Slot) {
    if let Some(future) = slot.take() {
        Future::discard(future);
    }
}

/// The future has failed, or something was thrown at the await.
fn leave(waiting: &Deque, slot: &Slot, can_go_on: impl FnOnce() -> PyResult<bool>) -> PyResult<()> {
    let Some(future) = slot.get() else { return Ok(()) };
    waiters::cancel(&future)?;
    waiting.remove_if_there(future.as_ptr())?;
    if can_go_on()? && !waiters::is_cancelled(&future)? {
        // It was its turn already (I2).
        wake_next(waiting)?;
    }
    Ok(())
}

// ---- get -----------------------------------------------------------------------------------------

#[inline]
fn get(this: &Operation) -> PyResult<Step> {
    let queue = queue_of(this);
    if let Some(item) = queue.try_get()? {
        return Ok(Step::Done(item));
    }
    if queue.is_empty()? {
        if queue.is_shut_down.get() && queue.is_empty()? {
            return Err(raise(&table().queue_shut_down));
        }
        return wait_in(this, &queue.getters, &this.second);
    }
    queue.get_nowait().map(Step::Done)
}

static GET: Behaviour = Behaviour {
    module: "asyncio.queues",
    class: "Queue",
    name: "get",
    parameters: &[c"self"],
    required: 1,
    create,
    start: get,
    resume: |this, _value| {
        woken(&this.second);
        get(this)
    },
    raised: |this, exception| {
        let queue = queue_of(this);
        leave(&queue.getters, &this.second, || Ok(!queue.is_empty()?))?;
        Err(error::restore(exception))
    },
    original: Original::new(),
};

// ---- put -----------------------------------------------------------------------------------------

#[inline]
fn put(this: &Operation) -> PyResult<Step> {
    let queue = queue_of(this);
    if queue.try_put(this.second.ptr())? {
        return Ok(Step::Done(Obj::none()));
    }
    if queue.is_full()? {
        if queue.is_shut_down.get() {
            return Err(raise(&table().queue_shut_down));
        }
        return wait_in(this, &queue.putters, &this.third);
    }
    queue.put_nowait(this.second.ptr())?;
    Ok(Step::Done(Obj::none()))
}

static PUT: Behaviour = Behaviour {
    module: "asyncio.queues",
    class: "Queue",
    name: "put",
    parameters: &[c"self", c"item"],
    required: 2,
    create,
    start: put,
    resume: |this, _value| {
        woken(&this.third);
        put(this)
    },
    raised: |this, exception| {
        let queue = queue_of(this);
        leave(&queue.putters, &this.third, || Ok(!queue.is_full()?))?;
        Err(error::restore(exception))
    },
    original: Original::new(),
};

// ---- join ----------------------------------------------------------------------------------------

fn join(this: &Operation) -> PyResult<Step> {
    let queue = queue_of(this);
    if queue.unfinished.get() <= 0 {
        return Ok(Step::Done(Obj::none()));
    }
    match queue.finished.join()? {
        Join::Finished => Ok(Step::Done(Obj::none())),
        Join::Queued(future) => {
            this.second.set_option(Some(future.clone()));
            this.wait_for(future)
        }
        Join::Event(coroutine) => this.wait_for(coroutine),
    }
}

/// The `finally` of the Event's `wait()`, where there is no Event that has its own.
fn leave_join(this: &Operation) -> PyResult<()> {
    match this.second.get() {
        Some(future) => queue_of(this).finished.leave(&future),
        None => Ok(()),
    }
}

static JOIN: Behaviour = Behaviour {
    module: "asyncio.queues",
    class: "Queue",
    name: "join",
    parameters: &[c"self"],
    required: 1,
    create,
    start: join,
    resume: |this, _value| leave_join(this).map(|()| Step::Done(Obj::none())),
    raised: |this, exception| {
        leave_join(this)?;
        Err(error::restore(exception))
    },
    original: Original::new(),
};

pub(super) static ALL: [&Behaviour; 3] = [&PUT, &GET, &JOIN];
