//! `sendto`: to the kernel at once, or behind what it has not taken yet.

use super::{CLOSING, CONNECTED, DIRECT, DatagramTransport, Side};
use crate::ffi::error::{self, PyResult, os_error_object, type_error, value_error};
use crate::ffi::{Args, Obj, Raised, Raw, c, call, object};
use crate::transport::buffer::{self, Bytes};
use crate::transport::endpoint::Endpoint;
use crate::transport::flow::Watermarks;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};

/// What a queued datagram counts for beside its bytes, so that empty ones count too.
const HEADER_LEN: usize = if cfg!(Py_3_13) { 8 } else { 0 };

/// `constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

/// A datagram that waits: its bytes, and where it goes.
pub(super) struct Datagram {
    data: Obj,
    address: Obj,
    len: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    all: VecDeque<Datagram>,
    len: usize,
}

impl Queue {
    /// How many bytes are unsent, with headers.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn push(&mut self, datagram: Datagram) {
        self.len += datagram.len + HEADER_LEN;
        self.all.push_back(datagram);
    }

    fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.all.pop_front()?;
        self.len -= datagram.len + HEADER_LEN;
        Some(datagram)
    }

    /// The kernel did not take it after all.
    fn put_back(&mut self, datagram: Datagram) {
        self.len += datagram.len + HEADER_LEN;
        self.all.push_front(datagram);
    }

    /// Empties it; the caller drops what was in it.
    pub(super) fn take_all(&mut self) -> VecDeque<Datagram> {
        self.len = 0;
        std::mem::take(&mut self.all)
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(&Obj, &Obj)) {
        for datagram in &self.all {
            look(&datagram.data, &datagram.address);
        }
    }
}

/// What came of one send.
enum Sent {
    /// All of it: a datagram is never cut.
    Done,
    NotReady,
    /// The protocol's to hear, an `OSError`.
    Failed(Obj),
}

/// `except (BlockingIOError, InterruptedError)` of what is raised.
pub(super) fn is_not_ready() -> bool {
    // SAFETY: statics of the interpreter.
    unsafe { error::matches(c::PyExc_BlockingIOError) || error::matches(c::PyExc_InterruptedError) }
}

pub(super) fn is_os_error() -> bool {
    // SAFETY: a static of the interpreter.
    error::matches(unsafe { c::PyExc_OSError })
}

impl DatagramTransport {
    pub(super) fn sendto(&self, args: Args<'_>) -> PyResult<()> {
        let [data, address] = match args.positional() {
            // The usual calls need no look at names.
            [data, address] if !args.has_keywords() => [Some(*data), Some(*address)],
            _ => args.bind("sendto", &[c"data", c"addr"], 2, 1)?,
        };
        let (Some(data), address) = (data, address.filter(|address| !object::is_none(*address))) else {
            unreachable!("bind() has checked the required one");
        };
        if !buffer::is_writable_type(data) {
            return Err(wrong_type(data));
        }
        if cfg!(not(Py_3_13)) && !call::is_true(data)? {
            return Ok(());
        }
        let mut address = address.map(Obj::from_borrowed);
        if let Some(own) = self.address.get() {
            if let Some(other) = address
                && !own.is(other.as_ptr())
                && !is_none_or(&other, &own)?
            {
                // SAFETY: A1.
                let text = error::owned(unsafe { c::PyObject_Str(own.as_ptr()) })?;
                let text = call::to_string(text.as_ptr())?;
                return Err(value_error(&format!("Invalid address: must be None or {text}")));
            }
            address = Some(own);
            if self.conn_lost.get() != 0 {
                return self.count_lost_write();
            }
        }
        if !self.file.is_set() {
            return self.count_lost_write();
        }
        if self.with_queue(|queue| queue.is_empty()) {
            match self.send(data, address.as_ref()) {
                Ok(Sent::Done) => return Ok(()),
                Ok(Sent::NotReady) => {
                    if let Some(event_loop) = self.event_loop()
                        && self.register(&event_loop, Side::Write).is_err()
                    {
                        // The kernel cannot watch one more descriptor: nobody would ever send it.
                        return self.send_failed();
                    }
                }
                Ok(Sent::Failed(exception)) => return self.error_received(&exception),
                Err(Raised) => return self.send_failed(),
            }
        }
        self.enqueue(data, address.unwrap_or_else(Obj::none))
    }

    #[cold]
    fn enqueue(&self, data: Raw, address: Obj) -> PyResult<()> {
        // What changes later must not change what is sent.
        let (data, len) = if let Some(bytes) = Bytes::of(data) {
            let len = bytes.as_ref().len();
            (bytes.into_obj(), len)
        } else {
            let copy = call::call1((&raw mut c::PyBytes_Type).cast(), data)?;
            let len = buffer::with_bytes(copy.as_ptr(), <[u8]>::len)?;
            (copy, len)
        };
        self.with_queue(|queue| queue.push(Datagram { data, address, len }));
        self.maybe_pause_protocol()
    }

    #[cold]
    fn count_lost_write(&self) -> PyResult<()> {
        if self.conn_lost.get() >= SILENT_WRITES_AFTER_LOSS {
            let logger = call::import_from("asyncio.log", "logger")?;
            let text = call::string("socket.send() raised exception.")?;
            call::call_method(
                call::interned("warning")?.as_ptr(),
                &[logger.as_ptr(), text.as_ptr()],
                None,
            )?;
        }
        self.conn_lost.set(self.conn_lost.get().saturating_add(1));
        Ok(())
    }

    /// What is neither sent nor an `OSError` ends the transport.
    #[cold]
    fn send_failed(&self) -> PyResult<()> {
        let exception = error::take();
        if error::is_exit(exception.as_ptr()) {
            return Err(error::restore(exception));
        }
        self.fatal_error(&exception, "Fatal write error on datagram transport")
    }

    #[inline]
    fn send(&self, data: Raw, address: Option<&Obj>) -> PyResult<Sent> {
        if self.has(DIRECT) {
            let outcome = match Bytes::of(data) {
                Some(bytes) => self.send_bytes(bytes.as_ref(), address),
                None => buffer::with_bytes(data, |bytes| self.send_bytes(bytes, address))?,
            };
            match outcome {
                Some(Ok(_)) => return Ok(Sent::Done),
                Some(Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(Sent::NotReady);
                }
                Some(Err(error)) => return Ok(Sent::Failed(os_error_object(&error))),
                None => {}
            }
        }
        self.send_by_method(data, address)
    }

    /// None if the address is not plain.
    #[inline]
    fn send_bytes(&self, bytes: &[u8], address: Option<&Obj>) -> Option<io::Result<usize>> {
        if self.has(CONNECTED) {
            return Some(reactor::sockets::send_datagram(self.live_fd(), bytes));
        }
        self.with_address(address?.as_ptr(), |to| {
            reactor::sockets::sendto(self.live_fd(), bytes, to)
        })
    }

    /// `sock.send(data)` or `sock.sendto(data, addr)`
    #[cold]
    fn send_by_method(&self, data: Raw, address: Option<&Obj>) -> PyResult<Sent> {
        let sock = self.file.get_or_none();
        let none = Obj::none();
        let address = address.unwrap_or(&none).as_ptr();
        let outcome = if self.has(CONNECTED) {
            call::call_method(call::interned("send")?.as_ptr(), &[sock.as_ptr(), data], None)
        } else {
            call::call_method(
                call::interned("sendto")?.as_ptr(),
                &[sock.as_ptr(), data, address],
                None,
            )
        };
        match outcome {
            Ok(_) => Ok(Sent::Done),
            Err(Raised) if is_not_ready() => {
                error::clear();
                Ok(Sent::NotReady)
            }
            Err(Raised) if is_os_error() => Ok(Sent::Failed(error::take())),
            Err(raised) => Err(raised),
        }
    }

    /// The kernel takes datagrams again.
    pub(super) fn write_ready(&self) -> PyResult<()> {
        while let Some(datagram) = self.with_queue(Queue::pop) {
            let address = (!datagram.address.is_none()).then_some(&datagram.address);
            match self.send(datagram.data.as_ptr(), address) {
                Ok(Sent::Done) => {}
                Ok(Sent::NotReady) => {
                    self.with_queue(|queue| queue.put_back(datagram));
                    break;
                }
                Ok(Sent::Failed(exception)) => return self.error_received(&exception),
                Err(Raised) => return self.send_failed(),
            }
        }
        // May send more, or close.
        self.maybe_resume_protocol()?;
        if self.with_queue(|queue| queue.is_empty()) {
            self.unregister(Side::Write);
            if self.has(CLOSING) && self.conn_lost.get() == 0 {
                return self.call_connection_lost(Obj::none().as_ptr());
            }
        }
        Ok(())
    }
}

/// `other in (None, own)`, for an `other` that is not None.
fn is_none_or(other: &Obj, own: &Obj) -> PyResult<bool> {
    let none = Obj::none();
    Ok(call::equal(none.as_ptr(), other.as_ptr())? || call::equal(own.as_ptr(), other.as_ptr())?)
}

#[cold]
fn wrong_type(data: Raw) -> Raised {
    let name = object::type_name(data);
    type_error(&format!("data argument must be a bytes-like object, not '{name}'"))
}
