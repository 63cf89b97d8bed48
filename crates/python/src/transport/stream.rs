//! `StreamTransport`: a connected stream socket, the native twin of `selector_events._SelectorSocketTransport`. This
//! file: fields, and what the files beside it share.
//!
//! | file | what it holds |
//! |---|---|
//! | `stream/lifetime.rs` | construction, garbage collection, finaliser |
//! | `stream/reading.rs` | readable sockets: receive, `data_received`, `get_buffer`, end of stream |
//! | `stream/writing.rs` | write, queue, flush, writable sockets, end of output |
//! | `stream/closing.rs` | close, abort, fatal errors, `connection_lost` |
//! | `stream/surface.rs` | the type, its methods and attributes |
//!
//! What it shares with other transports is in `endpoint.rs` (with invariants E1 to E4), `flow.rs` and `receiving.rs`.
//!
//! Invariants
//! - I3: `queue` is borrowed only by code that runs no Python (`with_queue`). Outside of a writable event the queue is
//!   blocked exactly while `WRITING` is set. If it holds data and is not blocked, somebody flushes: the event that is being
//!   handled (`IN_EVENT`) when it ends, or the loop (`FLUSH_DUE`) at the end of the turn.
//! - I4: `conn_lost` is not 0 from the moment that `connection_lost` is certain to be called; `LOST` from when it is
//!   being called. Once it was, the slots of the socket, the loop, the protocol and the server are empty.
//! - I5: `base` is what the Python base classes lay out: their `__slots__`. The first is `_extra`; all have
//!   properties of ours in front of them, and the others stay empty.
//! - I6: while `EXTRA_DUE` is set, `_extra` is a dict with the peer's name, and `file` a plain socket that is open as far as
//!   we know.

mod closing;
mod lifetime;
mod reading;
mod surface;
mod writing;

pub(crate) use surface::build_type;

use super::buffer::Bytes;
use super::endpoint::{
    CLOSING, Core, Endpoint, FLAGS, IN_EVENT, LOST, PAUSED, READING, STREAM, WRITING, init_socket_extra,
};
use crate::event_loop::{EventLoop, io::Side};
use crate::ffi::error::PyResult;
use crate::ffi::{Native, Obj, Slot, c};
use crate::state::state;
use std::cell::{Cell, UnsafeCell};
use std::ops::Deref;
use wire::WriteQueue;

/// How many slots `transports._FlowControlMixin` and its bases have.
const BASE_SLOTS: usize = 5;

/// The protocol is a `BufferedProtocol`.
const BUFFERED: u16 = 1;
/// `write_eof` was called.
const EOF: u16 = 1 << 5;
/// The loop will flush at the end of the turn.
const FLUSH_DUE: u16 = 1 << 6;
/// What `_extra` says of the socket is still to be asked.
const EXTRA_DUE: u16 = 1 << 10;
/// The last turn with writes had a second one.
const SEVERAL: u16 = 1 << 11;
/// The protocol is TLS of ours, which takes bytes without a call.
const TLS: u16 = 1 << 15;

const _: () = {
    let own = [BUFFERED, EOF, FLUSH_DUE, EXTRA_DUE, SEVERAL, TLS];
    let (mut taken, mut index) = (FLAGS, 0);
    while index < own.len() {
        assert!(taken & own[index] == 0, "a flag has two meanings");
        taken |= own[index];
        index += 1;
    }
};

type Queue = WriteQueue<Bytes>;

#[repr(C)]
pub(crate) struct StreamTransport {
    head: c::PyObject,
    base: [Slot; BASE_SLOTS],
    core: Core,
    server: Slot,
    empty_waiter: Slot,
    /// Written by `tp_new`, dropped by `tp_dealloc`.
    queue: UnsafeCell<Queue>,
    /// The turn of the last write outside an event.
    write_turn: Cell<u32>,
    /// How large the next receive may be, from those before.
    expected_len: Cell<u32>,
}

impl Deref for StreamTransport {
    type Target = Core;
    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Endpoint for StreamTransport {
    #[inline]
    fn handle_side(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        match side {
            Side::Read => self.read_ready(event_loop),
            Side::Write => self.write_ready(),
        }
    }

    #[inline]
    fn unsent_len(&self) -> usize {
        self.with_queue(|queue| queue.len())
    }

    #[cold]
    fn end_with(&self, exception: &Obj, message: &str) -> PyResult<()> {
        self.fatal_error(exception, message)
    }

    #[inline]
    fn event_over(&self) -> PyResult<()> {
        self.flush_now()
    }
}

// SAFETY: repr(C); starts with the layout of its Python base class, which begins with the object header; every field but
// the queue is valid when zeroed, and `tp_new` makes that whole before anyone sees the object.
unsafe impl Native for StreamTransport {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.stream_transport()
    }
}

impl StreamTransport {
    fn extra(&self) -> &Slot {
        &self.base[0]
    }

    /// What is known of the connection, all of it.
    fn whole_extra(&self) -> PyResult<Option<Obj>> {
        if self.has(EXTRA_DUE) {
            self.put(EXTRA_DUE, false);
            if let (Some(extra), Some(sock)) = (self.extra().get(), self.file.get()) {
                init_socket_extra(&extra, sock.as_ptr())?;
            }
        }
        Ok(self.extra().get())
    }

    /// Is an event of this transport being handled, with no other run of the loop on top of it? A nested run sets the
    /// loop's context aside. Not in a child that was forked meanwhile: it may end without coming back here.
    #[inline]
    fn is_in_event(&self) -> bool {
        // SAFETY: E3; borrowed until the end of this function.
        let event_loop = unsafe { self.event_loop.ptr().cast::<EventLoop>().as_ref() };
        self.has(IN_EVENT)
            && event_loop
                .is_some_and(|event_loop| event_loop.entered.get() == self.context.ptr() && !event_loop.is_forked())
    }
}
