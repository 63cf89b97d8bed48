//! What a stream reader has received and nobody has read yet, and how much of it answers a read.
//!
//! Most often one received object is read as a whole before the next one comes: it is kept as it is and handed on
//! without a copy. When a second one comes before that, both are joined in one vector, unless the first is large: then
//! it is worth waiting for whether the next read is for just that one.
//!
//! The decisions are functions of slices, as the bytes of some readers lie elsewhere.
//!
//! Invariants:
//! - I1. While `kept` is there, `joined` is empty; `second` is there only behind `kept`. None of the two is empty.
//! - I2. `start` bytes of `kept`, or of `joined`, were read; it is less than their length, or 0 if that is 0.

use memchr::{memchr, memmem};

/// An empty buffer keeps memory up to this size for the next bytes. More would add up over thousands of idle connections.
const SPARE_LEN_MAX: usize = 1024;

/// A kept object of this size is not joined with the next one yet.
const APART_LEN_MIN: usize = 16 * 1024;

/// Received bytes in order. `B` are bytes that never change; dropping one happens inside these methods, so it must not
/// run foreign code.
#[derive(Debug)]
pub struct StreamBuffer<B> {
    kept: Option<B>,
    second: Option<B>,
    joined: Vec<u8>,
    start: usize,
}

impl<B> Default for StreamBuffer<B> {
    fn default() -> Self {
        Self {
            kept: None,
            second: None,
            joined: Vec::new(),
            start: 0,
        }
    }
}

impl<B: AsRef<[u8]>> StreamBuffer<B> {
    /// What lies in one piece with the first byte.
    #[inline]
    fn first(&self) -> &[u8] {
        match &self.kept {
            Some(kept) => &kept.as_ref()[self.start..],
            None => &self.joined[self.start..],
        }
    }

    /// All that is there, in one piece.
    #[inline]
    pub fn bytes(&mut self) -> &[u8] {
        if self.second.is_some() {
            self.join(0);
        }
        self.first()
    }

    /// How many bytes are there.
    #[inline]
    pub fn len(&self) -> usize {
        self.first().len() + self.second.as_ref().map_or(0, |second| second.as_ref().len())
    }

    /// Is everything read?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first().is_empty()
    }

    /// Adds bytes that need no copy if nothing is there, or one large piece.
    #[inline]
    pub fn push(&mut self, bytes: B) {
        if bytes.as_ref().is_empty() {
            return;
        }
        match &self.kept {
            Some(kept) if self.second.is_none() && kept.as_ref().len() >= APART_LEN_MIN => self.second = Some(bytes),
            None if self.joined.is_empty() => self.kept = Some(bytes),
            _ => self.push_copy(bytes.as_ref()),
        }
    }

    /// Adds a copy.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        if self.kept.is_some() {
            self.join(bytes.len());
        } else if self.start > self.joined.len() / 2 {
            self.joined.drain(..self.start);
            self.start = 0;
        }
        self.joined.extend_from_slice(bytes);
    }

    /// Puts what is kept into the vector, which gets room for so many bytes more.
    fn join(&mut self, more: usize) {
        let Some(kept) = self.kept.take() else { return };
        let (unread, second) = (&kept.as_ref()[self.start..], self.second.take());
        let second = second.as_ref().map_or(&[][..], B::as_ref);
        self.joined.reserve(unread.len() + second.len() + more);
        self.joined.extend_from_slice(unread);
        self.joined.extend_from_slice(second);
        self.start = 0;
    }

    /// Takes out up to `len` bytes: as the object they came in if they are all of it, else as a copy.
    #[inline]
    pub fn take<T>(&mut self, len: usize, whole: impl FnOnce(B) -> T, copy: impl FnOnce(&[u8]) -> T) -> T {
        let first_len = self.first().len();
        if len >= first_len
            && self.start == 0
            && (self.second.is_none() || len == first_len)
            && let Some(kept) = self.kept.take()
        {
            self.kept = self.second.take();
            return whole(kept);
        }
        if len > first_len && self.second.is_some() {
            self.join(0);
        }
        let len = len.min(self.first().len());
        let taken = copy(&self.first()[..len]);
        self.consume(len);
        taken
    }

    /// Forgets the first `len` bytes.
    #[inline]
    pub fn consume(&mut self, len: usize) {
        let unread = self.len();
        assert!(len <= unread, "more is consumed than there is");
        if len == unread {
            self.clear();
            return;
        }
        let first_len = self.first().len();
        if len < first_len {
            self.start += len;
        } else {
            self.kept = self.second.take();
            self.start = len - first_len;
        }
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        self.kept = None;
        self.second = None;
        self.joined.clear();
        if self.joined.capacity() > SPARE_LEN_MAX {
            self.joined = Vec::new();
        }
        self.start = 0;
    }
}

/// What `readuntil` looks for: one byte string, or several, the shortest first.
#[derive(Clone, Copy, Debug)]
pub enum Separators<'a> {
    /// One of any length but 0.
    One(&'a [u8]),
    /// Several, sorted by length, none empty; at least one.
    Any(&'a [&'a [u8]]),
}

impl Separators<'_> {
    fn len_min(&self) -> usize {
        match self {
            Self::One(separator) => separator.len(),
            Self::Any(all) => all.first().map_or(0, |separator| separator.len()),
        }
    }

    fn len_max(&self) -> usize {
        match self {
            Self::One(separator) => separator.len(),
            Self::Any(all) => all.last().map_or(0, |separator| separator.len()),
        }
    }

    /// Where the first match in `bytes` begins and ends: the one with the earliest end, and of those the shortest.
    fn find(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::One(separator) => find(bytes, separator),
            Self::Any(all) => {
                let mut best: Option<(usize, usize)> = None;
                for separator in *all {
                    if let Some(found) = find(bytes, separator)
                        && best.is_none_or(|(_, end)| found.1 < end)
                    {
                        best = Some(found);
                    }
                }
                best
            }
        }
    }
}

#[inline]
fn find(bytes: &[u8], separator: &[u8]) -> Option<(usize, usize)> {
    let start = match separator {
        [byte] => memchr(*byte, bytes),
        _ => memmem::find(bytes, separator),
    }?;
    Some((start, start + separator.len()))
}

/// What a look for a separator came to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The answer is so many bytes, the separator included.
    Take(usize),
    /// There is a separator, but so many bytes before it, which is more than the limit.
    FoundTooFar(usize),
    /// There is none in the first so many bytes, which is more than the limit.
    NotFound(usize),
    /// It may still come.
    Wait,
}

/// Looks for a separator. In the first `scanned` bytes none begins; on `Wait` that number is brought up to date.
pub fn search(bytes: &[u8], separators: &Separators<'_>, scanned: &mut usize, limit: i64) -> Search {
    let Some(rest) = bytes.get(*scanned..).filter(|rest| rest.len() >= separators.len_min()) else {
        return Search::Wait;
    };
    if let Some((start, end)) = separators.find(rest) {
        let (start, end) = (*scanned + start, *scanned + end);
        return if start as i64 > limit {
            Search::FoundTooFar(start)
        } else {
            Search::Take(end)
        };
    }
    *scanned = (bytes.len() + 1).saturating_sub(separators.len_max());
    if *scanned as i64 > limit {
        Search::NotFound(*scanned)
    } else {
        Search::Wait
    }
}
