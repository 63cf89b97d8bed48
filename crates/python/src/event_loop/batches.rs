//! How many events one poll brings.
//!
//! What streams receive is kept until their tasks run, after all events of the poll. With 50 connections of 100 KiB that is
//! more than the processor's second cache holds: the tasks read and send from memory what was just there. So where a
//! poll's events bring much, the next poll asks for fewer. The kernel goes on with those it did not report.

use super::EventLoop;
use std::cell::Cell;

/// What waits for tasks after one poll should be no more than this.
const KEPT_LEN_MAX: usize = 256 * 1024;
/// A poll for each event would cost more than it gains.
const EVENTS_MIN: usize = 2;

#[derive(Default)]
pub(crate) struct Batches {
    /// How much the events of the last poll brought that is kept.
    kept_len: Cell<usize>,
}

impl EventLoop {
    /// An event brought `len` bytes that somebody keeps.
    #[inline]
    pub(crate) fn note_kept(&self, len: usize) {
        let kept_len = &self.inner().batches.kept_len;
        kept_len.set(kept_len.get() + len);
    }

    /// Before a poll: how many events it may bring, from what the last one brought.
    #[inline]
    pub(super) fn limit_events(&self, events: &mut reactor::Events) {
        let kept_len = self.inner().batches.kept_len.replace(0);
        if kept_len > KEPT_LEN_MAX {
            events.set_limit((events.len() * KEPT_LEN_MAX / kept_len).max(EVENTS_MIN));
        } else if kept_len <= KEPT_LEN_MAX / 2 && events.len() == events.limit() {
            events.set_limit(events.limit() * 2);
        }
    }
}
