//! The kernel room: descriptors, time, and messages from other threads. No Python, no protocols.
//!
//! | module | what it holds |
//! |---|---|
//! | [`poller`] | readiness from the kernel: interest in, (token, readable/writable) out |
//! | [`registry`] | which owner waits for which descriptor, and what the kernel has been told |
//! | [`token`] | descriptor + generation, so that a late event never reaches a later user of the number |
//! | [`timers`] | a 4-ary heap of deadlines in nanoseconds, with lazy deletion |
//! | [`inbox`], [`waker`] | the one door for other threads, and the bell beside it |
//! | [`clock`] | the monotonic clock, and a much cheaper tick counter |
//! | [`address`] | socket addresses as the kernel writes them |
//! | [`sockets`] | socket calls on raw descriptors |
//! | [`files`] | calls on raw descriptors of any kind: pipes, terminals, files |
//! | `faults` | errors and short counts before those calls, in builds with the feature `faults` only |
//! | [`children`] | child processes: started, watched, reaped |
//!
//! Errors are plain `std::io::Error`. Nothing here retries `EINTR`: a signal may have to be handled first, and only the
//! caller knows. Linux only for now; `poller/epoll.rs` is the one file with a twin to write for another kernel (its
//! list of names is in `poller.rs`).

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "asynchrotron-reactor needs Linux (epoll, eventfd); another kernel needs twins of poller/epoll.rs and waker/bell.rs"
);

pub mod address;
pub mod children;
pub mod clock;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(not(feature = "faults"))]
#[path = "faults_off.rs"]
mod faults;
pub mod files;
pub mod inbox;
pub mod poller;
pub mod registry;
pub mod sockets;
mod sync;
mod sys;
pub mod timers;
pub mod token;
pub mod waker;

pub use address::Address;
pub use children::{Child, Exit, Failure, Plan};
pub use clock::{TickClock, advance as advance_clock, now_ns, ticks};
pub use inbox::Inbox;
pub use poller::{Event, Events, Interest, Poller, Readiness};
pub use registry::Registry;
pub use sys::getpid;
pub use timers::TimerQueue;
pub use token::Token;
pub use waker::Waker;
