//! The bytes room: bytes in, decisions out. No I/O, no Python, no clock, and no unsafe code.
//!
//! | module | what it decides |
//! |---|---|
//! | [`write_queue`] | what to send at once, what to queue until the end of the turn, what to join |
//! | [`stream_buffer`] | what a stream reader has received, and how much of it answers a read |
//! | [`flow`] | when the size of a write buffer pauses and resumes the one who writes |
//!
//! A transition returns what its caller has to do next. Doing it happens after the borrow is over: it may run any code,
//! which may well come back here.

#![forbid(unsafe_code)]

pub mod flow;
pub mod stream_buffer;
pub mod write_queue;

pub use flow::{Flow, Signal};
pub use stream_buffer::{Search, Separators, StreamBuffer};
pub use write_queue::{Admission, Next, WriteQueue};
