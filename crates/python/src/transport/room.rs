//! Receiving straight into a `bytes` object, and using it again.
//!
//! Most protocols look at the data and let it go: then nobody but us refers to the object when `data_received` returns, so
//! nobody can see that the next receive overwrites it. For large messages that saves a copy of the data, and an allocation
//! whose pages the C library may give back to the system each time.
//!
//! A stream's program keeps what it has read at least until its next read. Such an object is lent: we refer to it, too, and
//! when that is the only reference left it is free again.
//!
//! Only touched attached (A1); on a free-threaded build this is the place for one list of rooms per thread.

use crate::ffi::error::{PyResult, owned};
use crate::ffi::{Obj, c};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;

/// More room than asked for, so that a receive of the expected length comes short.
const SLACK_LEN: usize = 64;

/// A `bytes` object that nobody else refers to, and how many bytes its memory has room for. Its size and its hash mean
/// nothing until `fill` makes it a value again.
pub(super) struct Room {
    object: Obj,
    capacity: usize,
}

/// How much memory the rooms may have together: 80 connections with messages of 100 KiB.
const KEPT_LEN_MAX: usize = 8 * 1024 * 1024;

/// How many lent rooms one receive looks at.
const PROBES_MAX: usize = 8;

/// Rooms for the process: free ones in front, what the last connection has read first, as that is still in the
/// processor's cache; lent ones behind, the oldest first.
#[derive(Default)]
struct Rooms {
    all: VecDeque<Room>,
    kept_len: usize,
}

impl Rooms {
    /// Takes out a free room for `len` bytes. Those lent go behind.
    #[inline]
    fn take(&mut self, len: usize) -> Option<Room> {
        let mut index = 0;
        for _ in 0..PROBES_MAX {
            let fits = |room: &Room| len < room.capacity && is_close(len, room.capacity);
            index += self.all.iter().skip(index).position(fits)?;
            let room = self.all.remove(index)?;
            if room.is_free() {
                self.kept_len -= room.capacity;
                return Some(room);
            }
            self.all.push_back(room);
        }
        None
    }

    /// Gives back a room that must go, to be dropped after the borrow.
    #[inline]
    fn keep(&mut self, room: Room, free: bool) -> Option<Room> {
        self.kept_len += room.capacity;
        let dropped = if self.kept_len > KEPT_LEN_MAX {
            self.all.pop_front()
        } else {
            None
        };
        if let Some(dropped) = &dropped {
            self.kept_len -= dropped.capacity;
        }
        if free {
            self.all.push_front(room);
        } else {
            self.all.push_back(room);
        }
        dropped
    }
}

struct Spare(UnsafeCell<Option<Rooms>>);
// SAFETY: only touched attached (A1), so by one thread at a time.
unsafe impl Sync for Spare {}
static SPARE: Spare = Spare(UnsafeCell::new(None));

/// `change` runs no Python code.
#[inline]
fn with_spare<T>(change: impl FnOnce(&mut Rooms) -> T) -> T {
    // SAFETY: A1; `change` ends before anything else can borrow it.
    change(unsafe { &mut *SPARE.0.get() }.get_or_insert_default())
}

/// Is `len` at least seven eighths of `capacity`? An object that the protocol keeps must not waste more.
#[inline]
fn is_close(len: usize, capacity: usize) -> bool {
    len >= capacity - capacity / 8
}

impl Room {
    /// Room for a little more than `len` bytes.
    #[inline]
    pub(super) fn take(len: usize) -> PyResult<Room> {
        match with_spare(|spare| spare.take(len)) {
            Some(room) => Ok(room),
            None => {
                let capacity = len + SLACK_LEN;
                // SAFETY: A1; longer than the sizes of which there are shared objects.
                let object = owned(unsafe { c::PyBytes_FromStringAndSize(std::ptr::null(), capacity as isize) })?;
                Ok(Room { object, capacity })
            }
        }
    }

    #[inline]
    pub(super) fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: nobody else refers to the object, which has this much memory.
        unsafe { std::slice::from_raw_parts_mut(self.address().cast(), self.capacity) }
    }

    /// The first `len` bytes, which were received, as an object. It is this one if not much of it is left over; then its
    /// capacity comes back too, for `recycle`.
    #[inline]
    pub(super) fn fill(self, len: usize) -> PyResult<(Obj, Option<usize>)> {
        debug_assert!(len <= self.capacity);
        if !is_close(len, self.capacity) {
            // SAFETY: A1; `len` bytes are there.
            let copy = owned(unsafe { c::PyBytes_FromStringAndSize(self.address().cast(), len as isize) });
            self.put_back();
            return Ok((copy?, None));
        }
        let raw = self.object.as_ptr();
        // SAFETY: nobody else refers to the object; its memory has room for `capacity` bytes and the NUL after them. The
        // hash is computed when somebody asks.
        #[allow(deprecated)]
        unsafe {
            (*raw.cast::<c::PyVarObject>()).ob_size = len as isize;
            (*raw.cast::<c::PyBytesObject>()).ob_shash = -1;
            self.address().add(len).write(0);
        }
        Ok((self.object, Some(self.capacity)))
    }

    /// For another receive.
    #[inline]
    pub(super) fn put_back(self) {
        drop(with_spare(|spare| spare.keep(self, true)));
    }

    /// Does nobody else refer to the object?
    #[inline]
    fn is_free(&self) -> bool {
        // SAFETY: A1; a live object.
        unsafe { c::Py_REFCNT(self.object.as_ptr()) == 1 }
    }

    #[inline]
    fn address(&self) -> *mut u8 {
        // SAFETY: A1; a bytes object.
        unsafe { c::PyBytes_AS_STRING(self.object.as_ptr()) }.cast_mut().cast()
    }

    /// Takes back what `fill` gave out, if nobody has kept it.
    #[inline]
    pub(super) fn recycle(object: Obj, capacity: usize) {
        let room = Room { object, capacity };
        if room.is_free() {
            room.put_back();
        }
    }

    /// What `fill` gave out is soon given up by who has it now.
    #[inline]
    pub(super) fn lend(object: Obj, capacity: usize) {
        let room = Room { object, capacity };
        drop(with_spare(|spare| spare.keep(room, false)));
    }
}
