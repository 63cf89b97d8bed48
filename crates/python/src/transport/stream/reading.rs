//! Readable sockets: `_read_ready` of asyncio's transport. What stream sockets and pipes have in common is in
//! `receiving.rs`; here is the buffer of a `BufferedProtocol`, and how receiving ends.

use super::{BUFFERED, EventLoop, READING, Side, StreamTransport, TLS};
use crate::ffi::error::{self, PyResult, os_error_object, runtime_error};
use crate::ffi::{Native, Obj, Raised, call};
use crate::state::names;
use crate::transport::buffer;
use crate::transport::endpoint::Endpoint;
use crate::transport::receiving::{After, RECEIVES_PER_EVENT_MAX, Receiver};
use crate::transport::tls::TlsProtocol;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;

/// A protocol's own buffer has to be this large before a full one is a reason to receive again: it was asked for once
/// per event until now, and a small one says how much the protocol wants at a time.
const REFILLED_BUFFER_LEN_MIN: usize = 64 * 1024;

impl Receiver for StreamTransport {
    #[inline]
    fn expected_len(&self) -> &Cell<u32> {
        &self.expected_len
    }

    #[inline]
    fn receive_into(&self, memory: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        reactor::sockets::recv(self.live_fd(), memory)
    }

    #[inline]
    fn receive_into_two(&self, first: &mut [MaybeUninit<u8>], second: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        reactor::sockets::recv_into_two(self.live_fd(), first, second)
    }

    #[inline]
    fn goes_on(&self) -> bool {
        self.has(READING) && !self.has(BUFFERED)
    }

    #[cold]
    fn end_of_stream(&self) -> PyResult<After> {
        if self.is_debug() {
            self.log("debug", "%r received EOF", &[], None)?;
        }
        let Ok(answer) = self.call_protocol(names::eof_received()) else {
            return self.protocol_failed("Fatal error: protocol.eof_received() call failed.");
        };
        if call::is_true(answer.as_ptr())? {
            // The protocol goes on writing; there is nothing more to receive.
            self.unregister(Side::Read);
        } else {
            self.close()?;
        }
        Ok(After::Done)
    }

    #[cold]
    fn receive_failed(&self, error: &io::Error) -> PyResult<After> {
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            self.fatal_error(&os_error_object(error), "Fatal read error on socket transport")?;
        }
        Ok(After::Done)
    }

    #[cold]
    fn data_received_failed(&self) -> PyResult<After> {
        self.protocol_failed("Fatal error: protocol.data_received() call failed.")
    }
}

impl StreamTransport {
    #[inline]
    pub(super) fn read_ready(&self, event_loop: &EventLoop) -> PyResult<()> {
        if self.has(TLS) {
            return self.receive_for_tls(event_loop);
        }
        if self.has(BUFFERED) {
            return self.fill_protocol_buffers();
        }
        self.receive_some(event_loop)
    }

    /// TLS of ours takes what was received from the loop's buffer, which is away meanwhile: it calls the program.
    fn receive_for_tls(&self, event_loop: &EventLoop) -> PyResult<()> {
        for _ in 0..RECEIVES_PER_EVENT_MAX {
            let protocol = self.protocol.get_or_none();
            let Some(tls) = TlsProtocol::of(protocol.as_ptr()) else {
                break;
            };
            let mut buffer = event_loop.take_receive_buffer();
            let after = match reactor::sockets::recv(self.live_fd(), &mut buffer) {
                Ok(0) => self.end_of_stream(),
                Ok(len) => {
                    // SAFETY: so many were received.
                    match tls.receive(unsafe { buffer::initialised(&buffer[..len]) }) {
                        Ok(()) if len == buffer.len() => Ok(After::Filled),
                        Ok(()) => Ok(After::Done),
                        Err(Raised) => self.protocol_failed("Fatal error: protocol.buffer_updated() call failed."),
                    }
                }
                Err(error) => self.receive_failed(&error),
            };
            event_loop.return_receive_buffer(buffer);
            if after? == After::Done || !self.has(READING) || !self.has(TLS) {
                break;
            }
        }
        Ok(())
    }

    fn fill_protocol_buffers(&self) -> PyResult<()> {
        for _ in 0..RECEIVES_PER_EVENT_MAX {
            if self.receive_into_protocol()? == After::Done || !self.has(READING) || !self.has(BUFFERED) {
                break;
            }
        }
        Ok(())
    }

    /// A `BufferedProtocol` says where it wants the data.
    fn receive_into_protocol(&self) -> PyResult<After> {
        let Ok(memory) = self.protocol_buffer() else {
            return self.protocol_failed("Fatal error: protocol.get_buffer() call failed.");
        };
        // Whatever it wrote meanwhile goes first.
        self.flush_now()?;
        let fd = self.live_fd();
        let fill = |room: &mut [u8]| (reactor::sockets::recv_into(fd, room), room.len());
        let Some((received, room)) = buffer::with_writable(memory.as_ptr(), fill) else {
            // Not writable: the socket's own method says so in the version's words.
            let sock = self.file.get_or_none();
            return match call::call_method(
                call::interned("recv_into")?.as_ptr(),
                &[sock.as_ptr(), memory.as_ptr()],
                None,
            ) {
                Ok(len) => self.received_into_protocol(call::as_i64(len.as_ptr())? as usize, usize::MAX),
                Err(Raised) => self.protocol_failed("Fatal read error on socket transport"),
            };
        };
        drop(memory);
        match received {
            Ok(len) => self.received_into_protocol(len, room),
            Err(error) => self.receive_failed(&error),
        }
    }

    fn received_into_protocol(&self, len: usize, room: usize) -> PyResult<After> {
        if len == 0 {
            return self.end_of_stream();
        }
        let count = call::int(len as i64)?;
        match self.call_protocol_with(names::buffer_updated(), count.as_ptr()) {
            Ok(_) if len == room && room >= REFILLED_BUFFER_LEN_MIN => Ok(After::Filled),
            Ok(_) => Ok(After::Done),
            Err(Raised) => self.protocol_failed("Fatal error: protocol.buffer_updated() call failed."),
        }
    }

    fn protocol_buffer(&self) -> PyResult<Obj> {
        let any_size = call::int(-1)?;
        let memory = self.call_protocol_with(names::get_buffer(), any_size.as_ptr())?;
        // SAFETY: A1.
        match unsafe { crate::ffi::c::PyObject_Size(memory.as_ptr()) } {
            ..0 => Err(Raised),
            0 => Err(runtime_error("get_buffer() returned an empty buffer")),
            _ => Ok(memory),
        }
    }

    /// What the protocol raised ends the connection, except for what ends the program.
    #[cold]
    fn protocol_failed(&self, message: &str) -> PyResult<After> {
        let exception = error::take();
        if error::is_exit(exception.as_ptr()) {
            return Err(error::restore(exception));
        }
        self.fatal_error(&exception, message)?;
        Ok(After::Done)
    }
}
