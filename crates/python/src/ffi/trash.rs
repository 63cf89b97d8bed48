//! Freeing long chains: an object whose fields hold the next one of its kind, a hundred thousand times.
//!
//! Each level would be a level of the C stack. Beyond a depth the rest is put on a list, which the
//! outermost deallocation works through: CPython's trashcan, for our types.
//!
//! Only touched attached (A1); a thread switch in a finaliser only makes deferring a little more likely.
//! A free-threaded build needs one of each per thread.

use super::Raw;
use std::cell::{Cell, UnsafeCell};

const DEPTH_MAX: u32 = 50;

/// A dead object and what frees it.
type Deferred = (Raw, fn(Raw));

struct Trash {
    depth: Cell<u32>,
    deferred: UnsafeCell<Vec<Deferred>>,
}

// SAFETY: only touched attached (A1), so by one thread at a time.
unsafe impl Sync for Trash {}

static TRASH: Trash = Trash {
    depth: Cell::new(0),
    deferred: UnsafeCell::new(Vec::new()),
};

/// Runs `free(dead)` now, or soon if this is deep inside other deallocations. `dead` is untracked.
#[inline]
pub(crate) fn free_shallowly(dead: Raw, free: fn(Raw)) {
    let depth = TRASH.depth.get();
    if depth >= DEPTH_MAX {
        // SAFETY: A1; pushing runs no Python code.
        unsafe { (*TRASH.deferred.get()).push((dead, free)) };
        return;
    }
    TRASH.depth.set(depth + 1);
    free(dead);
    TRASH.depth.set(TRASH.depth.get().saturating_sub(1));
    if depth == 0 {
        free_deferred();
    }
}

#[inline]
fn free_deferred() {
    loop {
        // SAFETY: A1; the entry is moved out before it is freed.
        let Some((dead, free)) = (unsafe { (*TRASH.deferred.get()).pop() }) else {
            return;
        };
        TRASH.depth.set(1);
        free(dead);
        TRASH.depth.set(0);
    }
}
