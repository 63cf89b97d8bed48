//! Watermarks: a write buffer that outgrows the high one pauses its writer, until it has shrunk to the low one.
//!
//! The rules are asyncio's (`transports._FlowControlMixin`): a buffer exactly at a mark is within it, only a change of
//! the size is a reason to speak, and raising the limits resumes nobody.

/// `_FlowControlMixin`'s default high-water mark; the low one is a quarter of it.
pub const HIGH_LEN_DEFAULT: usize = 64 * 1024;

/// What the writer has to be told. Each pause is followed by one resume before the next pause.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Nothing.
    None,
    /// Stop writing.
    Pause,
    /// Go on writing.
    Resume,
}

/// The watermarks of one write buffer, and whether its writer is paused. All zero is a valid value.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    low_len: usize,
    high_len: usize,
    paused: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            low_len: HIGH_LEN_DEFAULT / 4,
            high_len: HIGH_LEN_DEFAULT,
            paused: false,
        }
    }
}

impl Flow {
    /// Other limits. The caller has checked that `low_len` is not above `high_len`; what follows from them is decided by
    /// the next [`grown`](Self::grown) or [`shrunk`](Self::shrunk).
    pub fn set_limits(&mut self, low_len: usize, high_len: usize) {
        debug_assert!(low_len <= high_len);
        (self.low_len, self.high_len) = (low_len, high_len);
    }

    /// The high-water mark.
    #[inline]
    pub fn high_len(&self) -> usize {
        self.high_len
    }

    /// Whether the writer was told to pause.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The buffer now holds `len` bytes, not fewer than before.
    #[inline]
    pub fn grown(&mut self, len: usize) -> Signal {
        if len <= self.high_len || self.paused {
            return Signal::None;
        }
        self.paused = true;
        Signal::Pause
    }

    /// The buffer now holds `len` bytes, not more than before.
    #[inline]
    pub fn shrunk(&mut self, len: usize) -> Signal {
        if !self.paused || len > self.low_len {
            return Signal::None;
        }
        self.paused = false;
        Signal::Resume
    }
}
