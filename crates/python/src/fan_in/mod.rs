//! Fan-in: what waits for several things. gather, wait, as_completed, shield, TaskGroup.
//!
//! Each hangs one `Collector` on all the futures it waits for. Where the Python code of asyncio has a callback for every
//! one of them, a collector counts, at completion, those that need nothing else, and takes a turn of the loop only for
//! those that do: the last one, or one that failed. What happens then happens at the same place of the same turn as in
//! asyncio.
//!
//! Futures of other classes get the collector as an ordinary callback (`child.rs`).

mod as_completed;
pub(crate) mod child;
mod collector;
mod gather;
mod shield;
mod task_group;
mod wait;

pub(crate) use as_completed::{as_completed, name_coroutines};
pub(crate) use collector::{Collector, Kind};
pub(crate) use gather::{GatheringFuture, gather};
pub(crate) use shield::shield;

use crate::ffi::error::PyResult;
use crate::ffi::{Obj, Raw, call};

/// Error texts name a type without its module only if they are told so.
fn name_shortly(class: &Obj, name: &str) -> PyResult<()> {
    let name = call::string(name)?;
    call::setattr(class.as_ptr(), call::interned("__name__")?.as_ptr(), name.as_ptr())
}

/// The types; functions of the module are in `module.rs`.
pub(crate) fn build(module: Raw, metaclass: Raw, future: Raw) -> PyResult<()> {
    collector::build(module)?;
    gather::build(module, metaclass, future)?;
    task_group::build(module, metaclass)?;
    wait::build(module)?;
    as_completed::build(module, metaclass)?;
    shield::look_up()
}
