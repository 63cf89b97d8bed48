//! `wait_for` in 3.11: a waiter stands between the future and the caller. A cancelled caller waits until the
//! future has really ended, and if its time was up it can be cancelled once more meanwhile, which ends the wait at once.
//!
//! What is not repeated: 3.11 forgets a cancellation that comes in the turn in which the future is done.
//!
//! Invariants
//! - I1: `first` is the future, `second` the callback on it, or for a native one the waiter that it releases. `third` is the Timeout while
//!   `point` is `WAITS`, the caller's cancellation while it is `CANCELLED`.

use super::wait_for::{
    CANCELLED, EXPIRED, WAITS, await_cancelled, has_ended, native_future, result_of, result_or_timeout, timeout_of,
};
use crate::ffi::error::{self, PyResult, restore};
use crate::ffi::types::Method;
use crate::ffi::{Native, Obj, Own, Raw, call, object, trampoline};
use crate::future::Future;
use crate::operation::{Operation, Step};
use crate::state::{imports, names};
use crate::waiters;
use std::sync::OnceLock;

unsafe extern "C" fn release(waiter: Raw, _future: Raw) -> Raw {
    trampoline::enter(|| {
        let waiter = Obj::from_borrowed(waiter);
        if waiters::is_done(&waiter)? {
            return Ok(());
        }
        waiters::set_result(&waiter, Obj::none())
    })
}

struct Definition(Method);
// SAFETY: a method definition is constant data.
unsafe impl Send for Definition {}
// SAFETY: as above.
unsafe impl Sync for Definition {}

pub(crate) fn release_function(waiter: &Obj) -> PyResult<Obj> {
    static DEFINITION: OnceLock<Definition> = OnceLock::new();
    let definition = DEFINITION.get_or_init(|| {
        Definition(Method::onearg(
            c"_release_waiter",
            release,
            c"The future is done: let the waiting caller go on.",
        ))
    });
    Method::bind(&definition.0.0, waiter)
}

/// A Future or Task whose callbacks are the entries of a native loop.
#[inline]
fn native(future: &Obj) -> Option<Own<Future>> {
    native_future(future).filter(|native| native.native_loop().is_some())
}

/// Begins to wait for `future`; the timer is set.
pub(super) fn start(this: &Operation, event_loop: &Obj, future: Obj) -> PyResult<Obj> {
    let waiter = waiters::create_future(event_loop)?;
    match (native(&future), native(&waiter)) {
        (Some(native), Some(waiter)) => {
            this.second.set(waiter.obj());
            native.add_release(waiter)?;
        }
        _ => {
            let callback = release_function(&waiter)?;
            call::call_method(names::add_done_callback(), &[future.as_ptr(), callback.as_ptr()], None)?;
            this.second.set(callback);
        }
    }
    this.first.set(future);
    this.point.set(WAITS);
    Ok(waiter)
}

/// `future.remove_done_callback(…)`.
#[cold]
fn stop_waiting(this: &Operation, future: &Obj) -> PyResult<()> {
    let released = this.second.get_or_none();
    if let (Some(native), Some(waiter)) = (native(future), Future::of_exact(released.as_ptr())) {
        native.remove_release(waiter);
        return Ok(());
    }
    let remove = call::interned("remove_done_callback")?;
    call::call_method(remove.as_ptr(), &[future.as_ptr(), released.as_ptr()], None).map(drop)
}

/// The waiter's result is there, or what the future came to after it was cancelled.
pub(super) fn resume(this: &Operation) -> PyResult<Step> {
    let future = this.first.get_or_none();
    match this.point.get() {
        WAITS => {
            timeout_of(this).exit(None, None, 0)?;
            result_of(&future).map(Step::Done)
        }
        EXPIRED => result_or_timeout(&future),
        _ => Err(restore(this.third.get_or_none())),
    }
}

/// The caller was cancelled while it waited: by its timeout, or by somebody.
pub(super) fn raised(this: &Operation, exception: Obj, rules: u8) -> PyResult<Step> {
    let kind: Raw = object::type_of(exception.as_ptr()).cast();
    let is_expired = timeout_of(this).exit(Some(kind), Some(&exception), rules)?;
    if !error::is_instance_of(exception.as_ptr(), imports::cancelled_error()) {
        return Err(restore(exception));
    }
    let future = this.first.get_or_none();
    if has_ended(&future)? {
        if is_expired {
            return result_of(&future).map(Step::Done);
        }
        return Err(restore(exception));
    }
    stop_waiting(this, &future)?;
    if is_expired {
        this.point.set(EXPIRED);
    } else {
        this.point.set(CANCELLED);
        this.third.set(exception);
    }
    await_cancelled(this, &future)
}
