//! Atomics and locks: std's, or loom's when the crate is built with `--cfg loom`, which runs every interleaving of a
//! small program. Only `inbox.rs` and `waker.rs` synchronise threads, so only they take their types from here.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

/// Locks, also after a panic elsewhere while the lock was held: no code of ours leaves the protected data half changed.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
