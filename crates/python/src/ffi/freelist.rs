//! Dead objects of one exact type, kept for the next allocation. Besides the time of malloc this
//! keeps the collector's young counter low.
//!
//! Only touched attached (A1); on a free-threaded build this is the place for one list per thread.

use super::{Obj, Raw, c};
use std::cell::UnsafeCell;
use std::ptr;

pub(crate) struct FreeList<const MAX: usize> {
    len: UnsafeCell<usize>,
    items: UnsafeCell<[Raw; MAX]>,
}

// SAFETY: only touched attached (A1), so by one thread at a time.
unsafe impl<const MAX: usize> Sync for FreeList<MAX> {}

impl<const MAX: usize> FreeList<MAX> {
    pub(crate) const fn new() -> FreeList<MAX> {
        FreeList {
            len: UnsafeCell::new(0),
            items: UnsafeCell::new([ptr::null_mut(); MAX]),
        }
    }

    /// An object with a fresh header and stale fields: every field must be written before it is tracked.
    #[inline]
    pub(crate) fn pop(&self, kind: *mut c::PyTypeObject) -> Option<Obj> {
        // SAFETY: A1; no call into Python while the fields are borrowed.
        let raw = unsafe {
            let len = &mut *self.len.get();
            if *len == 0 {
                return None;
            }
            *len -= 1;
            (*self.items.get())[*len]
        };
        // SAFETY: memory of exactly this type, pushed by `push`, which kept the reference to the type.
        unsafe { revive(raw, kind) };
        Obj::from_owned(raw)
    }

    /// Keeps a dead, untracked instance with its reference to its type; false when full (the caller frees it).
    #[inline]
    pub(crate) fn push(&self, raw: Raw) -> bool {
        // A sanitizer knows that memory is dead only if it is given back.
        if cfg!(feature = "no-free-lists") {
            return false;
        }
        // SAFETY: as `pop`.
        unsafe {
            let len = &mut *self.len.get();
            if *len == MAX {
                return false;
            }
            (*self.items.get())[*len] = raw;
            *len += 1;
        }
        true
    }
}

/// Gives a dead object its first reference. `PyObject_Init` would do it, too, for 5 ns more; a debug build of Python
/// counts all references there are, so there it does.
///
/// # Safety
/// `raw` is a dead object of type `kind`, reference count zero, still holding its type.
#[inline]
unsafe fn revive(raw: Raw, kind: *mut c::PyTypeObject) {
    #[cfg(all(
        target_pointer_width = "64",
        target_endian = "little",
        not(any(Py_GIL_DISABLED, py_sys_config = "Py_REF_DEBUG"))
    ))]
    {
        let _ = kind;
        // Of all versions the count's low half is the first 32 bits, flags (3.14) and overflow are zero.
        // SAFETY: the header begins with the count.
        unsafe { raw.cast::<u64>().write(1) };
    }
    #[cfg(not(all(
        target_pointer_width = "64",
        target_endian = "little",
        not(any(Py_GIL_DISABLED, py_sys_config = "Py_REF_DEBUG"))
    )))]
    // SAFETY: as the caller's; the reference to the type that `push` kept is counted again.
    unsafe {
        c::PyObject_Init(raw, kind);
        c::Py_DECREF(kind.cast());
    }
}
