//! `asynchrotron._core`: the object room. This file is the module tree and its import.

#![deny(unsafe_op_in_unsafe_fn)]

mod event_loop;
mod ffi;
mod future;
mod handle;
mod metaclass;
mod module;
mod state;
mod task;
mod transport;
