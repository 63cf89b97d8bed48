//! `asynchrotron._core`: the object room. This file is the module tree and its import.

// Bodies of entry points share one signature, `PyResult<…>`, whether or not they can fail.
#![allow(clippy::unnecessary_wraps)]
// asyncio's and CPython's names are written as their documentation writes them.
#![allow(clippy::doc_markdown)]
// A reference given by value is given away: it drops inside, at a place the callee chooses.
#![allow(clippy::needless_pass_by_value)]
// `match` over an Option with both arms written out reads better than `if let … else` where arms are long.
#![allow(clippy::single_match_else)]

mod child;
mod event_loop;
mod fan_in;
mod ffi;
mod future;
mod handle;
mod locks;
mod metaclass;
mod module;
mod offload;
mod operation;
mod queues;
mod state;
mod streams;
mod task;
mod timeouts;
mod transport;
mod waiters;
