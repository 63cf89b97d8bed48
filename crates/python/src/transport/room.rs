//! Receiving straight into a `bytes` object, and using it again.
//!
//! Most protocols look at the data and let it go: then nobody but us refers to the object when `data_received` returns, so
//! nobody can see that the next receive overwrites it. For large messages that saves a copy of the data, and an allocation
//! whose pages the C library may give back to the system each time.
//!
//! Only touched attached (A1); on a free-threaded build this is the place for one room per thread.

use crate::ffi::error::{PyResult, owned};
use crate::ffi::{Obj, c};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// More room than asked for, so that a receive of the expected length comes short.
const SLACK_LEN: usize = 64;

/// A `bytes` object that nobody else refers to, and how many bytes its memory has room for. Its size and its hash mean
/// nothing until `fill` makes it a value again.
pub(super) struct Room {
    object: Obj,
    capacity: usize,
}

struct Spare(UnsafeCell<Option<Room>>);
// SAFETY: only touched attached (A1), so by one thread at a time.
unsafe impl Sync for Spare {}
/// One for the process: what the last connection has read is still in the processor's cache for the next.
static SPARE: Spare = Spare(UnsafeCell::new(None));

fn replace_spare(room: Option<Room>) -> Option<Room> {
    // SAFETY: A1; what was there is moved out, so nothing is dropped during the borrow.
    std::mem::replace(unsafe { &mut *SPARE.0.get() }, room)
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
        match replace_spare(None) {
            Some(room) if len < room.capacity && is_close(len, room.capacity) => Ok(room),
            _ => {
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
        drop(replace_spare(Some(self)));
    }

    #[inline]
    fn address(&self) -> *mut u8 {
        // SAFETY: A1; a bytes object.
        unsafe { c::PyBytes_AS_STRING(self.object.as_ptr()) }.cast_mut().cast()
    }

    /// Takes back what `fill` gave out, if nobody has kept it.
    #[inline]
    pub(super) fn recycle(object: Obj, capacity: usize) {
        // SAFETY: A1; a live object.
        if unsafe { c::Py_REFCNT(object.as_ptr()) } == 1 {
            Room { object, capacity }.put_back();
        }
    }
}
