//! Receiving straight into a `bytes` object, and using it again.
//!
//! Most protocols look at the data and let it go: then nobody but us refers to the object when `data_received` returns, so
//! nobody can see that the next receive overwrites it. That saves a copy of the data and an allocation, which is most of
//! what a message of 1 KiB costs beside the system calls; the pages of a large one the C library may even give back to the
//! system each time.
//!
//! A stream's program keeps what it has read at least until its next read. Such an object is lent: we refer to it, too, and
//! when that is the only reference left it is free again.
//!
//! Only touched attached (A1); on a free-threaded build this is the place for one list of rooms per thread.

use crate::event_loop::ready::is_unique_object;
use crate::event_loop::receive_buffer::PAGE_LEN;
use crate::ffi::error::{PyResult, owned};
use crate::ffi::{Obj, c};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;

/// The smallest message that is worth a room: below it the interpreter's own allocator is as quick.
pub(super) const ROOM_LEN_MIN: usize = 480;

/// The largest that is expected.
pub(crate) const ROOM_LEN_MAX: usize = 512 * 1024;

/// What a `bytes` object has beside its bytes, the NUL behind them included.
const OVERHEAD_LEN: usize = std::mem::offset_of!(c::PyBytesObject, ob_sval) + 1;

/// How much memory the rooms may have together: 80 connections with messages of 100 KiB.
const KEPT_LEN_MAX: usize = 8 * 1024 * 1024;

/// How many lent rooms one receive looks at.
const PROBES_MAX: usize = 4;

/// Rooms have sizes in steps of a sixteenth of a power of two, so that one fits the next message of about the same length.
const STEPS: usize = 16;
const STEPS_BITS: u32 = STEPS.ilog2();

/// `ROOM_LEN_MIN` with its overhead has at least so many bits.
const SIZE_BITS_MIN: u32 = 9;

/// Sizes up to 1 MiB.
const CLASSES: usize = (20 - SIZE_BITS_MIN as usize) * STEPS;

/// A `bytes` object that nobody else refers to, and how many bytes its memory has room for. Its size and its hash mean
/// nothing until `fill` makes it a value again.
pub(crate) struct Room {
    object: Obj,
    capacity: usize,
}

/// The class of rooms for `len` bytes, and their capacity.
#[inline]
fn class_of(len: usize) -> (usize, usize) {
    let last = len + OVERHEAD_LEN - 1;
    let shift = last.ilog2() - STEPS_BITS;
    let step = last >> shift;
    let class = ((shift + STEPS_BITS - SIZE_BITS_MIN) as usize) * STEPS + step - STEPS;
    (class, ((step + 1) << shift) - OVERHEAD_LEN)
}

/// More room than expected, so that a receive of the expected length, or of a little more, comes short.
#[inline]
fn with_slack(len: usize) -> usize {
    len + len / 32 + 16
}

/// Rooms for the process, by class. In each the free ones are in front, what the last connection has read first, as that is
/// still in the processor's cache; lent ones are behind, the oldest first.
struct Rooms {
    classes: Vec<VecDeque<Obj>>,
    kept_len: usize,
    /// Where the next room is given up.
    hand: usize,
}

impl Default for Rooms {
    fn default() -> Self {
        Rooms {
            classes: (0..CLASSES).map(|_| VecDeque::new()).collect(),
            kept_len: 0,
            hand: 0,
        }
    }
}

impl Rooms {
    /// Takes out a free room. Lent ones that are in use go behind.
    #[inline]
    fn take(&mut self, class: usize, capacity: usize) -> Option<Obj> {
        let rooms = &mut self.classes[class];
        for _ in 0..PROBES_MAX {
            let room = rooms.pop_front()?;
            if is_free(&room) {
                self.kept_len -= capacity;
                return Some(room);
            }
            rooms.push_back(room);
        }
        None
    }

    /// Gives back a room that must go, to be dropped after the borrow.
    #[inline]
    fn keep(&mut self, room: Room, free: bool) -> Option<Obj> {
        let (class, capacity) = class_of(room.capacity);
        debug_assert_eq!(capacity, room.capacity);
        self.kept_len += capacity;
        if free {
            self.classes[class].push_front(room.object);
        } else {
            self.classes[class].push_back(room.object);
        }
        if self.kept_len > KEPT_LEN_MAX {
            self.give_up()
        } else {
            None
        }
    }

    /// Takes out one of the rooms, of each class in turn.
    #[cold]
    fn give_up(&mut self) -> Option<Obj> {
        for _ in 0..CLASSES {
            self.hand = (self.hand + 1) % CLASSES;
            if let Some(room) = self.classes[self.hand].pop_front() {
                self.kept_len -= capacity_of_class(self.hand);
                return Some(room);
            }
        }
        None
    }
}

fn capacity_of_class(class: usize) -> usize {
    let shift = (class / STEPS) as u32 + SIZE_BITS_MIN - STEPS_BITS;
    ((class % STEPS + STEPS + 1) << shift) - OVERHEAD_LEN
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
pub(super) fn is_close(len: usize, capacity: usize) -> bool {
    len >= capacity - capacity / 8
}

/// Would `len` bytes fill the room for `expected` ones well, and fit?
#[inline]
pub(super) fn is_as_expected(len: usize, expected: usize) -> bool {
    expected >= ROOM_LEN_MIN && len <= with_slack(expected) && is_close(len, class_of(with_slack(expected)).1)
}

/// Does nobody else refer to the object?
#[inline]
fn is_free(room: &Obj) -> bool {
    is_unique_object(room.as_ptr())
}

#[inline]
fn address_of(object: &Obj) -> *mut u8 {
    // SAFETY: A1; a bytes object.
    unsafe { c::PyBytes_AS_STRING(object.as_ptr()) }.cast_mut().cast()
}

/// An object that nobody has used yet, with memory that the kernel fills quickly: see `event_loop/receive_buffer.rs`.
#[cold]
fn fresh(capacity: usize) -> PyResult<Obj> {
    // SAFETY: A1; longer than the sizes of which there are shared objects.
    let make = || owned(unsafe { c::PyBytes_FromStringAndSize(std::ptr::null(), capacity as isize) });
    let object = make()?;
    let place = address_of(&object).addr() % PAGE_LEN;
    if (1..32).contains(&place) || place > PAGE_LEN - 32 {
        // Another one lies elsewhere while this one is there.
        return make();
    }
    Ok(object)
}

impl Room {
    /// Room for a little more than `len` bytes, from `ROOM_LEN_MIN` to `ROOM_LEN_MAX`.
    #[inline]
    pub(crate) fn take(len: usize) -> PyResult<Room> {
        debug_assert!((ROOM_LEN_MIN..=ROOM_LEN_MAX).contains(&len));
        let (class, capacity) = class_of(with_slack(len));
        let object = match with_spare(|spare| spare.take(class, capacity)) {
            Some(object) => object,
            None => fresh(capacity)?,
        };
        Ok(Room { object, capacity })
    }

    #[inline]
    pub(crate) fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: nobody else refers to the object, which has this much memory.
        unsafe { std::slice::from_raw_parts_mut(self.address().cast(), self.capacity) }
    }

    /// The first `len` bytes, which were received, as an object. It is this one if not much of it is left over; then its
    /// capacity comes back too, for `recycle`.
    #[inline]
    pub(crate) fn fill(self, len: usize) -> PyResult<(Obj, Option<usize>)> {
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
    pub(crate) fn put_back(self) {
        drop(with_spare(|spare| spare.keep(self, true)));
    }

    #[inline]
    fn address(&self) -> *mut u8 {
        address_of(&self.object)
    }

    /// Takes back what `fill` gave out, if nobody has kept it. Says whether nobody had.
    #[inline]
    pub(super) fn recycle(object: Obj, capacity: usize) -> bool {
        let free = is_free(&object);
        if free {
            Room { object, capacity }.put_back();
        }
        free
    }

    /// What `fill` gave out is soon given up by who has it now.
    #[inline]
    pub(crate) fn lend(object: Obj, capacity: usize) {
        let room = Room { object, capacity };
        drop(with_spare(|spare| spare.keep(room, false)));
    }
}
