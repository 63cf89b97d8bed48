//! What the kernel hands back with each event: a descriptor and the generation of its slot.
//!
//! Between `epoll_wait` filling its list and our reading the last entry, an earlier entry may close a descriptor and
//! open another with the same number. The generation changes when a slot empties, so the late event is recognised and
//! dropped.

use std::os::fd::RawFd;

/// Generation in the high 32 bits, descriptor in the low 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// For the loop's own waker, or whatever else sits in the poller without being in the registry: no slot ever has
    /// this token, because no generation is all ones.
    pub const RESERVED: Self = Self(u64::MAX);

    /// The token of `fd` in this generation of its slot.
    #[inline]
    pub fn new(fd: RawFd, generation: u32) -> Self {
        debug_assert!(generation != u32::MAX, "the last generation is reserved");
        Self(u64::from(generation) << 32 | u64::from(fd as u32))
    }

    /// The descriptor.
    #[inline]
    pub fn fd(self) -> RawFd {
        self.0 as u32 as RawFd
    }

    /// The generation of the slot when the kernel was told.
    #[inline]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The word to give to the kernel.
    #[inline]
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The word the kernel gave back.
    #[inline]
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The generation after this one; wraps without ever being all ones.
    #[inline]
    pub fn next_generation(generation: u32) -> u32 {
        if generation >= u32::MAX - 1 { 0 } else { generation + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn survives_the_kernel(fd in 0..=RawFd::MAX, generation in 0..u32::MAX) {
            let token = Token::from_raw(Token::new(fd, generation).raw());
            prop_assert_eq!((token.fd(), token.generation()), (fd, generation));
            prop_assert_ne!(token, Token::RESERVED);
        }
    }

    #[test]
    fn generations_wrap_around_the_reserved_one() {
        assert_eq!(Token::next_generation(0), 1);
        assert_eq!(Token::next_generation(u32::MAX - 2), u32::MAX - 1);
        assert_eq!(Token::next_generation(u32::MAX - 1), 0);
    }
}
