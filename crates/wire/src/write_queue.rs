//! What a stream still has to send.
//!
//! Programs write a message in pieces: a header, a length, a body, an end. Sending each at once costs a system call and
//! a packet per piece; so small pieces wait for the end of the turn of the loop, and go out together. Nothing waits
//! longer than that turn unless the kernel takes no more (then the queue is *blocked*, until the kernel says so).
//!
//! Invariants:
//! - I1. `len` is the number of unsent bytes: those of all pieces, without the first `head_sent` of the first one.
//! - I2. No piece is empty, and `head_sent` is less than the length of the first one (0 if there is none).
//! - I3. An empty queue is not blocked.
//! - I4. Without a `head` there are no pieces after it. Most queues hold one piece, and only for a moment.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

/// So much is sent at once if nothing is queued before it: copying it into the kernel costs more than the system call,
/// and the peer can begin to read.
pub const SEND_AT_ONCE_LEN: usize = 16 * 1024;

/// With so much queued the end of the turn is not awaited: more would only fall out of the processor's caches. It is
/// also asyncio's default high-water mark.
pub const QUEUED_LEN_MAX: usize = 64 * 1024;

/// The same where more is expected: each send the less saves the kernel's acknowledgements, too.
pub const QUEUED_LEN_MAX_WITH_MORE: usize = 256 * 1024;

/// Pieces up to this length are copied together. A longer copy costs more than what one more piece costs in the kernel.
const JOIN_LEN_MAX: usize = 1024;

/// A buffer of joined pieces does not grow beyond this.
const JOINED_LEN_MAX: usize = 16 * 1024;

/// A queue that was longer gives its memory back when it is empty.
const KEPT_PIECES_MAX: usize = 16;

/// Where new data goes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// To the kernel; what it does not take into the queue.
    Send,
    /// Into the queue.
    Queue,
}

/// What follows when something was queued.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send at the end of the turn.
    FlushLater,
    /// Send now.
    FlushNow,
    /// Send when the kernel takes data again.
    Wait,
}

/// Bytes in the order they were written. `B` are bytes that can be kept without a copy and never change; dropping one
/// happens inside these methods, so it must not run foreign code.
#[derive(Debug)]
pub struct WriteQueue<B> {
    head: Option<Piece<B>>,
    rest: VecDeque<Piece<B>>,
    head_sent: usize,
    len: usize,
    blocked: bool,
    expects_more: bool,
}

#[derive(Debug)]
enum Piece<B> {
    Kept(B),
    Joined(Vec<u8>),
}

impl<B: AsRef<[u8]>> Piece<B> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Kept(bytes) => bytes.as_ref(),
            Self::Joined(bytes) => bytes,
        }
    }
}

impl<B> Default for WriteQueue<B> {
    fn default() -> Self {
        Self {
            head: None,
            rest: VecDeque::new(),
            head_sent: 0,
            len: 0,
            blocked: false,
            expects_more: false,
        }
    }
}

impl<B: AsRef<[u8]>> WriteQueue<B> {
    /// How many bytes are unsent.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything is sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the kernel has refused more.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Are several writes expected in a turn? Then large ones, too, are queued, and leave together.
    #[inline]
    pub fn expect_more(&mut self, expects_more: bool) {
        self.expects_more = expects_more;
    }

    /// What [`expect_more`](Self::expect_more) said last.
    #[inline]
    pub fn expects_more(&self) -> bool {
        self.expects_more
    }

    /// Where `len` new bytes should go.
    #[inline]
    pub fn admit(&self, len: usize) -> Admission {
        if self.len == 0 && len >= SEND_AT_ONCE_LEN && !self.expects_more {
            Admission::Send
        } else {
            Admission::Queue
        }
    }

    /// What follows after new data was queued, when at most `len_max` bytes may go unseen by the one who writes (its
    /// high-water mark: beyond it, it has to be told whether the kernel takes them).
    #[inline]
    pub fn after_queueing(&self, len_max: usize) -> Next {
        let flush_len = if self.expects_more {
            QUEUED_LEN_MAX_WITH_MORE
        } else {
            QUEUED_LEN_MAX
        };
        if self.blocked {
            Next::Wait
        } else if self.len >= flush_len || self.len > len_max {
            Next::FlushNow
        } else {
            Next::FlushLater
        }
    }

    /// Queues bytes that need no copy. A small piece that is alone stays as it is; with a second one it is joined.
    #[inline]
    pub fn push(&mut self, bytes: B) {
        let len = bytes.as_ref().len();
        if len == 0 {
            return;
        }
        self.len += len;
        if self.head.is_none() {
            self.head = Some(Piece::Kept(bytes));
        } else if len > JOIN_LEN_MAX || !self.join(bytes.as_ref()) {
            self.rest.push_back(Piece::Kept(bytes));
        }
    }

    /// Queues bytes that nobody else needs.
    #[inline]
    pub fn push_owned(&mut self, bytes: Vec<u8>) {
        if self.head.is_some() && bytes.len() <= JOIN_LEN_MAX {
            return self.push_copy(&bytes);
        }
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        let piece = Piece::Joined(bytes);
        if self.head.is_none() {
            self.head = Some(piece);
        } else {
            self.rest.push_back(piece);
        }
    }

    /// Queues a copy of `bytes`.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        if self.head.is_none() {
            self.head = Some(Piece::Joined(bytes.to_vec()));
        } else if !self.join(bytes) {
            self.rest.push_back(Piece::Joined(bytes.to_vec()));
        }
    }

    /// Copies `bytes` behind the last piece if that is a joined one with room, or small enough to become one.
    fn join(&mut self, bytes: &[u8]) -> bool {
        let is_head = self.rest.is_empty();
        let Some(last) = self.rest.back_mut().or(self.head.as_mut()) else {
            return false;
        };
        let last_len = last.bytes().len();
        if last_len + bytes.len() > JOINED_LEN_MAX {
            return false;
        }
        match last {
            Piece::Joined(joined) => joined.extend_from_slice(bytes),
            Piece::Kept(kept) if last_len <= JOIN_LEN_MAX => {
                let mut joined = Vec::with_capacity(JOIN_LEN_MAX.max(last_len + bytes.len()));
                // What was sent already needs no copy.
                let sent = if is_head { mem::take(&mut self.head_sent) } else { 0 };
                joined.extend_from_slice(&kept.as_ref()[sent..]);
                joined.extend_from_slice(bytes);
                *last = Piece::Joined(joined);
            }
            Piece::Kept(_) => return false,
        }
        true
    }

    /// All unsent bytes, if they lie in one piece.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        match &self.head {
            Some(head) if self.rest.is_empty() => Some(&head.bytes()[self.head_sent..]),
            _ => None,
        }
    }

    /// The unsent part of each piece, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.head.iter().map(|head| &head.bytes()[self.head_sent..]);
        head.chain(self.rest.iter().map(Piece::bytes))
    }

    /// Fills `slices` with the first unsent pieces; gives back how many there are.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// The kernel took the first `count` bytes.
    #[inline]
    pub fn sent(&mut self, count: usize) {
        assert!(count <= self.len, "more was sent than queued");
        if count == self.len {
            self.clear();
            return;
        }
        self.len -= count;
        let mut left = self.head_sent + count;
        while let Some(head) = &self.head {
            let head_len = head.bytes().len();
            if left < head_len {
                break;
            }
            left -= head_len;
            self.head = self.rest.pop_front();
        }
        self.head_sent = left;
    }

    /// The kernel took less than it was given. Nothing is sent until [`unblock`](Self::unblock).
    #[inline]
    pub fn block(&mut self) {
        self.blocked = self.len > 0;
    }

    /// The kernel takes data again.
    #[inline]
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        self.head = None;
        if !self.rest.is_empty() {
            self.rest.clear();
            self.rest.shrink_to(KEPT_PIECES_MAX);
        }
        self.head_sent = 0;
        self.len = 0;
        self.blocked = false;
    }
}
