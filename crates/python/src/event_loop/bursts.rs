//! Writes that wait: which transports are to be flushed, and whether many of them write in quick succession.
//!
//! Each send to a peer on the same machine that has run out of work wakes it. A server whose tasks answer many
//! connections in one turn and send between steps wakes its client anew for every answer: with 50 connections that was
//! a tenth of an aiohttp request. So where the last turn with writes had many writers, close to each other, answers
//! wait until a few are there, and leave together. A turn with few writers, or with slow ones, sends in `write()`.

use super::EventLoop;
use crate::ffi::Own;
use crate::ffi::error::PyResult;
use crate::transport::stream::StreamTransport;
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;

/// What waits leaves after this many entries of a turn, at the latest, so that the client has work while the other half of
/// 50 connections is answered. Of 8, 16, 32 and 64 the one that took the least CPU and waiting per request of aiohttp.
pub(super) const FLUSH_EVERY_ENTRIES: usize = 32;
/// Fewer transports in a turn gain nothing by waiting for each other.
const MANY_WRITERS: u32 = 4;
/// How far apart their writes are at most, on average, in times of the poll interval (20 µs).
const APART_MAX: u64 = 5;

#[derive(Default)]
pub(crate) struct Bursts {
    unflushed: UnsafeCell<VecDeque<Own<StreamTransport>>>,
    /// The last turn in which a transport wrote, how many did so far, and when the first and the last of them did.
    turn: Cell<u32>,
    writers: Cell<u32>,
    first_ticks: Cell<u64>,
    last_ticks: Cell<u64>,
    /// The turn with writes before that had many writers.
    expected: Cell<bool>,
}

impl Bursts {
    /// Takes out all that waits.
    pub(super) fn take_all(&self) -> VecDeque<Own<StreamTransport>> {
        // SAFETY: I2; moving runs no Python code.
        unsafe { std::mem::take(&mut *self.unflushed.get()) }
    }
}

impl EventLoop {
    /// A transport writes for the first time in this turn. True: it should wait for those that follow.
    #[inline]
    pub(crate) fn note_writer(&self) -> bool {
        let (inner, bursts) = (self.inner(), &self.inner().bursts);
        let (turn, now) = (self.turn_number(), reactor::ticks());
        if bursts.turn.replace(turn) != turn {
            let writers = bursts.writers.replace(0);
            let took = bursts.last_ticks.get().wrapping_sub(bursts.first_ticks.replace(now));
            let at_most = inner.poll_interval_ticks.get() * APART_MAX * u64::from(writers);
            bursts.expected.set(writers >= MANY_WRITERS && took <= at_most);
        }
        bursts.last_ticks.set(now);
        bursts.writers.set(bursts.writers.get() + 1);
        bursts.expected.get()
    }

    /// Keeps `transport`'s queued writes for the end of the turn.
    #[inline]
    pub(crate) fn flush_later(&self, transport: Own<StreamTransport>) {
        // SAFETY: I2; pushing runs no Python code.
        unsafe { (*self.inner().bursts.unflushed.get()).push_back(transport) };
    }

    /// Did transports queue anything?
    #[inline]
    pub(crate) fn has_unflushed(&self) -> bool {
        // SAFETY: I2.
        unsafe { !(*self.inner().bursts.unflushed.get()).is_empty() }
    }

    /// Sends what transports queued in this turn, in the order in which they began. What ends the program ends this, too,
    /// and leaves the others for the end of the run.
    pub(crate) fn flush_writes(&self) -> PyResult<()> {
        loop {
            // SAFETY: I2; the transport is moved out before it runs.
            let Some(transport) = (unsafe { (*self.inner().bursts.unflushed.get()).pop_front() }) else {
                return Ok(());
            };
            transport.flush()?;
        }
    }
}
