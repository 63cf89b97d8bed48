//! Readiness from the kernel, level-triggered: as long as a descriptor is ready, each wait says so.
//!
//! A backend (`poller/epoll.rs`; a kqueue twin would sit beside it) supplies two types, with no trait between:
//!
//! - `Poller`: `new`, `add`, `modify`, `remove`, `wait`, `as_raw_fd`
//! - `Events`: `with_capacity`, `len`, `is_empty`, `get`, `iter`
//!
//! Level-triggered, because reading stops at a short read: edge-triggered readers must go on until `EAGAIN`, one system
//! call more per message.

use std::fmt;
use std::ops::BitOr;

mod epoll;

pub use epoll::{Events, Poller};

/// What a registration wants to hear about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// Nothing: not registered.
    pub const NONE: Self = Self(0);
    /// Data, end of file, or a connection to accept.
    pub const READABLE: Self = Self(1);
    /// Room to write, or a connect that finished.
    pub const WRITABLE: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// Whether nothing is wanted.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether all of `other` is wanted.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This without `other`.
    #[inline]
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What both want.
    #[inline]
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The flags as a number: 1 readable, 2 writable.
    #[inline]
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl BitOr for Interest {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(["NONE", "READABLE", "WRITABLE", "BOTH"][usize::from(self.0 & 3)])
    }
}

/// What the kernel reports. Errors and hang-ups count as both readable and writable: the next call on the descriptor
/// says what happened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    /// A read, or an accept, will not block.
    pub const READABLE: Self = Self(1);
    /// A write will not block.
    pub const WRITABLE: Self = Self(2);

    /// From the two answers a backend works out.
    #[inline]
    pub(crate) fn new(readable: bool, writable: bool) -> Self {
        Self(u8::from(readable) | u8::from(writable) << 1)
    }

    /// The flags from their number.
    #[inline]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 3)
    }

    /// Whether a read will not block.
    #[inline]
    pub fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether a write will not block.
    #[inline]
    pub fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// The flags as a number: 1 readable, 2 writable.
    #[inline]
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(["NONE", "READABLE", "WRITABLE", "BOTH"][usize::from(self.0 & 3)])
    }
}

/// One ready descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The word given when the descriptor was added or last modified.
    pub token: u64,
    /// What it is ready for.
    pub readiness: Readiness,
}
