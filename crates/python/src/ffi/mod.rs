//! The narrow layer over CPython's C API: references, calls, errors, contexts, type building.
//!
//! Above this folder, code reads as ordinary Rust: `Obj` owns a reference, `Slot` is a field holding
//! one, `PyResult` says that a Python exception is set. Everything here runs attached (with the GIL);
//! that is invariant A1, established by the trampolines in `trampoline.rs` and given up only inside
//! `thread::detached`.

pub(crate) mod args;
pub(crate) mod c;
pub(crate) mod call;
pub(crate) mod collected;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod freelist;
pub(crate) mod object;
pub(crate) mod slot;
pub(crate) mod stop_iteration;
pub(crate) mod thread;
pub(crate) mod trampoline;
pub(crate) mod trash;
pub(crate) mod types;

pub(crate) use args::Args;
pub(crate) use error::Raised;
pub(crate) use object::{Native, Obj, Own};
pub(crate) use slot::Slot;

/// A borrowed object pointer, as the C API passes arguments. Valid for the call that received it.
pub(crate) type Raw = *mut c::PyObject;
