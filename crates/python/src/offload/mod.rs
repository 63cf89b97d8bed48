//! Work that leaves the loop's thread: `run_in_executor`, `to_thread`, and futures that other threads wait for.
//!
//! The pool stays the stdlib's; what goes through its queue is a `Job` of ours, which completes the asyncio future by
//! itself (docs/internals/executors.md). `chain.rs` ties `concurrent.futures.Future` to ours, both ways.

mod chain;
mod executor;
mod job;
mod pool;

pub(crate) use chain::{look_up, run_coroutine_threadsafe, wrap_future};
pub(crate) use executor::run_in_executor_entry;
pub(crate) use job::Job;

use crate::ffi::Raw;
use crate::ffi::error::PyResult;

/// The types, and `to_thread`; the other functions of the module are in `module.rs`.
pub(crate) fn build(module: Raw) -> PyResult<()> {
    job::build(module)?;
    executor::build(module)
}
