//! `DatagramTransport`: UDP and Unix datagrams, the native twin of `selector_events._SelectorDatagramTransport`. This file:
//! fields, and how a transport begins and ends.
//!
//! | file | what it holds |
//! |---|---|
//! | `datagram/receiving.rs` | readable sockets |
//! | `datagram/sending.rs` | `sendto`, the queue, writable sockets |
//! | `datagram/address.rs` | from the kernel's addresses to Python's and back |
//! | `datagram/surface.rs` | the type, its methods and attributes |
//!
//! Invariants (with E1 to E4 of `endpoint.rs`)
//! - D1: `queue` and `peers` are borrowed only by code that runs no Python (`with_queue`, `with_peers`). What is taken out
//!   of the queue is dropped after the borrow.
//! - D2: between two events the queue holds datagrams exactly while `WRITING` is set, or an error was reported in the last
//!   writable event.
//! - D3: `conn_lost` is not 0 from the moment that `connection_lost` is certain to be called.

mod address;
mod receiving;
mod sending;
mod surface;

pub(crate) use surface::build_type;

use super::endpoint::{
    CLOSING, Core, Endpoint, LOST, READING, WRITING, checked_loop, init_socket_extra, shows_fd, visible_fd,
};
use super::lifetime::Lifetime;
use super::{AllSteps, name_of_call_connection_lost, name_of_start_reading, native_socket, peername};
use crate::event_loop::{EventLoop, io::Side};
use crate::ffi::error::{self, PyResult, runtime_error};
use crate::ffi::{Native, Obj, Raw, Slot, c, call, object};
use crate::state::{names, state};
use address::Peers;
use sending::Queue;
use std::cell::{Cell, UnsafeCell};
use std::ops::Deref;
use std::ptr;

/// The socket is one whose methods are the C ones, of a family whose addresses are known here: the kernel is asked directly.
const DIRECT: u16 = 1;
/// `get_extra_info('peername')` was something: `send` without an address.
const CONNECTED: u16 = 1 << 5;

#[repr(C)]
pub(crate) struct DatagramTransport {
    head: c::PyObject,
    /// The first is `_extra`; the others have properties of ours in front of them and stay empty.
    base: [Slot; 5],
    core: Core,
    /// The one that `create_datagram_endpoint` was given as `remote_addr`.
    address: Slot,
    queue: UnsafeCell<Queue>,
    peers: UnsafeCell<Peers>,
    /// Of the socket's addresses; 0 unless `DIRECT`.
    family: Cell<i32>,
    /// See `receiving.rs`.
    lone_events: Cell<u8>,
}

// SAFETY: repr(C); starts with the layout of its Python base class, which begins with the object header; every field but
// the queue and the peers is valid when zeroed, and `make_fields` makes those whole.
unsafe impl Native for DatagramTransport {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.datagram_transport()
    }
}

impl Deref for DatagramTransport {
    type Target = Core;
    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Lifetime for DatagramTransport {
    fn for_each_slot(&self, look: &mut dyn FnMut(&Slot)) {
        self.base.iter().chain([&self.address]).for_each(look);
    }

    unsafe fn make_fields(this: *mut Self) {
        // SAFETY: as the trait says.
        unsafe {
            (&raw mut (*this).queue).write(UnsafeCell::default());
            (&raw mut (*this).peers).write(UnsafeCell::default());
        }
    }

    unsafe fn drop_fields(&self) {
        // SAFETY: as the trait says.
        unsafe {
            ptr::drop_in_place(self.queue.get());
            ptr::drop_in_place(self.peers.get());
        }
    }
}

impl Endpoint for DatagramTransport {
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

    fn name_of_event(&self, side: Side) -> Raw {
        match side {
            Side::Read => super::name_of_read_ready(),
            Side::Write => super::name_of_sendto_ready(),
        }
    }
}

/// What `__init__` gets.
struct Parameters {
    event_loop: Raw,
    sock: Raw,
    protocol: Raw,
    address: Option<Raw>,
    waiter: Option<Raw>,
    extra: Option<Raw>,
}

impl DatagramTransport {
    fn extra(&self) -> &Slot {
        &self.base[0]
    }

    #[inline]
    fn with_queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        // SAFETY: D1; `change` ends before anything else can borrow it.
        change(unsafe { &mut *self.queue.get() })
    }

    #[inline]
    fn with_peers<T>(&self, change: impl FnOnce(&mut Peers) -> T) -> T {
        // SAFETY: D1; as above.
        change(unsafe { &mut *self.peers.get() })
    }

    /// In the order of the stdlib's `__init__`.
    fn init(&self, given: &Parameters) -> PyResult<()> {
        let event_loop = checked_loop(given.event_loop)?;
        if self.event_loop.is_set() || self.has(LOST) {
            return Err(runtime_error("the transport is initialised already"));
        }
        self.init_loop(event_loop, None)?;
        let extra = given
            .extra
            .map_or_else(call::dict, |extra| Ok(Obj::from_borrowed(extra)))?;
        self.extra().set(extra.clone());
        init_socket_extra(&extra, given.sock)?;
        self.init_file(given.sock)?;
        self.protocol.set(Obj::from_borrowed(given.protocol));
        // SAFETY: A1; any mapping.
        let peer = error::owned(unsafe { c::PyObject_GetItem(extra.as_ptr(), peername()) })?;
        self.put(CONNECTED, call::is_true(peer.as_ptr())?);
        if let Some(address) = given.address
            && call::is_true(address)?
        {
            self.address.set(Obj::from_borrowed(address));
        }
        self.put(DIRECT, self.is_direct(given.sock)?);
        self.schedule_start(event_loop, None, Some(name_of_start_reading()), given.waiter)
    }

    /// Can the kernel be asked in place of `sock`? A subclass, or a mock, may do something else.
    fn is_direct(&self, sock: Raw) -> PyResult<bool> {
        if !shows_fd(sock) || visible_fd(sock) != self.fd.get() {
            return Ok(false);
        }
        let kind = object::type_of(sock).cast();
        for name in ["recvfrom", "sendto", "send"] {
            let name = call::interned(name)?;
            let theirs = call::getattr_optional(kind, name.as_ptr())?;
            let ours = call::getattr(native_socket(), name.as_ptr())?;
            if !theirs.is_some_and(|theirs| theirs.is(ours.as_ptr())) {
                return Ok(false);
            }
        }
        let Ok(family @ (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX)) = reactor::sockets::family(self.live_fd())
        else {
            return Ok(false);
        };
        self.family.set(family);
        Ok(true)
    }

    fn close(&self) -> PyResult<()> {
        let Some(event_loop) = self.event_loop() else {
            return Ok(());
        };
        if self.has(CLOSING) {
            return Ok(());
        }
        self.put(CLOSING, true);
        self.unregister(Side::Read);
        if self.with_queue(|queue| !queue.is_empty()) {
            return Ok(());
        }
        self.conn_lost.set(self.conn_lost.get() + 1);
        self.unregister(Side::Write);
        let none = Obj::none();
        self.call_soon(&event_loop, name_of_call_connection_lost(), &[none.as_ptr()])
    }

    /// `abort()`, and the end of every fatal error.
    fn force_close(&self, exception: Option<&Obj>) -> PyResult<()> {
        let Some(event_loop) = self.event_loop() else {
            return Ok(());
        };
        if self.conn_lost.get() != 0 {
            return Ok(());
        }
        self.clear_queue();
        self.unregister(Side::Write);
        self.put(CLOSING, true);
        self.unregister(Side::Read);
        self.conn_lost.set(1);
        let argument = exception.cloned().unwrap_or_else(Obj::none);
        self.call_soon(&event_loop, name_of_call_connection_lost(), &[argument.as_ptr()])
    }

    fn clear_queue(&self) {
        drop(self.with_queue(Queue::take_all));
    }

    /// Reports the exception once, then closes.
    #[cold]
    fn fatal_error(&self, exception: &Obj, message: &str) -> PyResult<()> {
        let mut steps = AllSteps::new();
        if let Some(event_loop) = self.event_loop() {
            // SAFETY: a static of the interpreter.
            if !error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_OSError }) {
                steps.run(|| self.report(&event_loop, message, exception));
            } else if event_loop.is_debug() {
                steps.run(|| self.log("debug", "%r: %s", &[call::string(message)?.as_ptr()], Some(exception)));
            }
        }
        steps.run(|| self.force_close(Some(exception)));
        steps.end()
    }

    fn call_connection_lost(&self, exception: Raw) -> PyResult<()> {
        if self.has(LOST) || !self.file.is_set() {
            return Ok(());
        }
        self.put(LOST | CLOSING, true);
        self.conn_lost.set(self.conn_lost.get().max(1));
        let mut steps = AllSteps::new();
        steps.run(|| self.call_protocol_with(names::connection_lost(), exception));
        self.clear_queue();
        self.unregister(Side::Read);
        self.unregister(Side::Write);
        // Moved out before anything else runs, and dropped last.
        let (sock, protocol, event_loop) = (self.file.take(), self.protocol.take(), self.event_loop.take());
        let peers = self.with_peers(std::mem::take);
        if let Some(sock) = &sock {
            steps.run(|| call::call_method(names::close(), &[sock.as_ptr()], None));
        }
        drop((sock, protocol, event_loop, peers));
        steps.end()
    }

    /// `protocol.error_received(exc)`: nothing is closed for it.
    #[cold]
    fn error_received(&self, exception: &Obj) -> PyResult<()> {
        self.call_protocol_with(super::error_received(), exception.as_ptr())
            .map(drop)
    }
}
