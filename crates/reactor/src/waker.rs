//! Ends a wait early, from any thread. Costs a system call only when somebody really sleeps.
//!
//! # Why no wake-up is lost
//!
//! One word says what the sleeper does, and every access to it swaps:
//!
//! ```text
//! sender                              sleeper
//! 1. push to the inbox                1. prepare_sleep: swap(SLEEPING)
//! 2. notify: swap(NOTIFIED);          2. look at the inbox; if it holds something, go to 4
//!    if it was SLEEPING: ring         3. wait for the bell, among other things
//!                                     4. finish_sleep: swap(AWAKE); if the bell was ready: drain
//! ```
//!
//! Swaps of one word happen in one order, and each sees what was written before the ones it follows (a release
//! sequence). So either the sender's swap comes before the sleeper's, and the sleeper then finds the item; or it comes
//! after, finds `SLEEPING` and rings, or finds `NOTIFIED`, left by another sender that found `SLEEPING` and rings. A
//! plain store or load in any of these places would break the chain. `tests/loom_waker.rs` tries all interleavings.
//!
//! The bell may also ring when it is not needed (a sender that was slow between swap and ring); the cost is one empty
//! turn.

use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsRawFd, RawFd};

use crate::sync::{AtomicU8, Ordering};

#[cfg(not(loom))]
mod bell;
#[cfg(loom)]
#[path = "waker/bell_loom.rs"]
mod bell;

use bell::Bell;

/// Nobody sleeps; the owner looks at the inbox before it will.
const AWAKE: u8 = 0;
/// The owner may be waiting, or is about to.
const SLEEPING: u8 = 1;
/// As `AWAKE`, and a sender passed by: if somebody had been sleeping, the bell rang.
const NOTIFIED: u8 = 2;

/// The bell beside an [`Inbox`](crate::Inbox).
#[derive(Debug)]
pub struct Waker {
    state: AtomicU8,
    bell: Bell,
}

impl Waker {
    /// A waker nobody sleeps on yet. Add its descriptor to the poller, for reading.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            state: AtomicU8::new(AWAKE),
            bell: Bell::new()?,
        })
    }

    /// The sleeper is about to wait. After this it must look at the inbox once more, and only wait if that is empty.
    #[inline]
    pub fn prepare_sleep(&self) {
        self.state.swap(SLEEPING, Ordering::AcqRel);
    }

    /// The sleeper waited, or decided not to. From here on senders save the system call.
    #[inline]
    pub fn finish_sleep(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Something was pushed to the inbox: ends the sleep if there is one, and is remembered by the inbox if there is
    /// none.
    #[inline]
    pub fn notify(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            self.bell.ring();
        }
    }

    /// Ends the present wait, or the next one, without anything in the inbox. Async-signal-safe.
    pub fn force_notify(&self) {
        self.bell.ring();
    }

    /// Silences the bell after a wait reported it.
    #[inline]
    pub fn drain(&self) {
        self.bell.silence();
    }

    /// What the poller would do with the descriptor: blocks until the bell rings.
    #[cfg(loom)]
    pub fn wait_for_bell(&self) {
        self.bell.wait();
    }
}

#[cfg(not(loom))]
impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}
