//! The memory that a loop's descriptors are received into, all by turns. Allocating as much for each receive makes the C
//! library give the pages back and fault them in again every time.
//!
//! It begins with a page. The kernel copies with `rep movsb`, and on AMD's Zen processors that takes twice as long where
//! the target lies 1 to 31 bytes further in its page than the source in its own: with what came by TCP or a Unix socket,
//! whose bytes begin with a page, 15 instead of 10 µs for 16 KiB. Large blocks of the C library's begin 16 bytes behind a
//! page's beginning.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

pub(crate) const PAGE_LEN: usize = 4096;

/// The length of the memory, once there is some.
pub(crate) const RECEIVE_BUFFER_LEN: usize = 256 * 1024;

#[repr(C, align(4096))]
struct Page([MaybeUninit<u8>; PAGE_LEN]);

/// A loop has none before it needs it.
#[derive(Default)]
pub(crate) struct ReceiveBuffer(Vec<Page>);

impl ReceiveBuffer {
    /// Sees to it that there is memory.
    #[inline]
    pub(super) fn reserve(&mut self) {
        if self.0.is_empty() {
            let count = RECEIVE_BUFFER_LEN / PAGE_LEN;
            self.0.reserve_exact(count);
            // SAFETY: there is room for so many, and nothing about their bytes has to be true.
            unsafe { self.0.set_len(count) };
        }
    }
}

impl Deref for ReceiveBuffer {
    type Target = [MaybeUninit<u8>];

    #[inline]
    fn deref(&self) -> &[MaybeUninit<u8>] {
        let len = self.0.len() * PAGE_LEN;
        // SAFETY: pages are bytes, one behind the other.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), len) }
    }
}

impl DerefMut for ReceiveBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.0.len() * PAGE_LEN;
        // SAFETY: pages are bytes, one behind the other.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}
