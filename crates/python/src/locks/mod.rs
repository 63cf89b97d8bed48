//! The primitives of `asyncio.locks`, native: docs/internals/waiters.md.
//!
//! Each does what the running version's Python code does, step by step and turn by turn. What they share is in
//! `primitive.rs` and `class.rs`, what they do with those who wait in `line.rs`.

mod barrier;
mod class;
mod condition;
mod event;
mod line;
mod lock;
mod primitive;
mod semaphore;

use crate::ffi::Raw;
use crate::ffi::error::PyResult;

pub(crate) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    lock::build(module, metaclass)?;
    event::build(module, metaclass)?;
    condition::build(module, metaclass)?;
    semaphore::build(module, metaclass)?;
    barrier::build(module, metaclass)
}
