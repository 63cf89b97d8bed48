//! Readable sockets: `_read_ready` of asyncio's transport.
//!
//! Small messages are received into the loop's one buffer and then copied into a `bytes` of the right size: allocating for
//! the largest possible receive costs page faults each time. Where messages are large, they are received into a `bytes`
//! of about the size of those before. A receive that does not fill its buffer has emptied the socket.
//!
//! A stream's reader gets that `bytes` object itself, without a call of its protocol: docs/internals/streams.md.

use super::{BUFFERED, CLOSING, EventLoop, PAUSED, READING, STREAM, Side, StreamTransport};
use crate::event_loop::RECEIVE_BUFFER_LEN;
use crate::ffi::error::{self, PyResult, os_error_object, runtime_error};
use crate::ffi::{Native, Obj, Own, Raised, call};
use crate::state::names;
use crate::streams::{StreamReader, StreamReaderProtocol};
use crate::transport::buffer::{self, Bytes};
use crate::transport::room::Room;
use std::io::{self, ErrorKind};

/// How often one event may receive. A sender faster than us must not keep the other connections waiting.
const RECEIVES_PER_EVENT_MAX: usize = 4;

/// A protocol's own buffer has to be this large before a full one is a reason to receive again: it was asked for once
/// per event until now, and a small one says how much the protocol wants at a time.
const REFILLED_BUFFER_LEN_MIN: usize = 64 * 1024;

/// From this size on, a copy costs more than what it takes to do without.
const DIRECT_LEN_MIN: usize = 4 * 1024;

/// A read of a stream for less than this is worth no receive of its own when more is expected.
const WANTED_LEN_MIN: usize = 32 * 1024;

/// More is never expected: it is what a receive can bring at most.
const EXPECTED_LEN_MAX: usize = RECEIVE_BUFFER_LEN;

/// What is known of the socket after a receive.
#[derive(PartialEq, Eq)]
enum After {
    /// There may be more.
    Filled,
    /// Empty, or not to be read from for now.
    Done,
}

impl StreamTransport {
    pub(super) fn start_reading(&self) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        match self.event_loop() {
            Some(event_loop) => self.register(&event_loop, Side::Read),
            None => Ok(()),
        }
    }

    pub(super) fn pause_reading(&self) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        self.put(PAUSED, true);
        self.unregister(Side::Read);
        if self.is_debug() {
            self.log_debug("%r pauses reading", &[], None)
        } else {
            Ok(())
        }
    }

    pub(super) fn resume_reading(&self) -> PyResult<()> {
        if self.has(CLOSING) || !self.has(PAUSED) {
            return Ok(());
        }
        self.put(PAUSED, false);
        self.start_reading()?;
        if self.is_debug() {
            self.log_debug("%r resumes reading", &[], None)
        } else {
            Ok(())
        }
    }

    #[inline]
    pub(super) fn read_ready(&self, event_loop: &EventLoop) -> PyResult<()> {
        if self.has(BUFFERED) {
            return self.fill_protocol_buffers();
        }
        let expected = self.expected_len.get() as usize;
        let mut received = 0;
        for turn in 0..RECEIVES_PER_EVENT_MAX {
            let reader = self.stream_reader();
            // What a read of a stream has left over is known well enough.
            let next = if turn == 0 || reader.is_some() {
                expected.saturating_sub(received)
            } else {
                0
            };
            let (len, after) = if next >= DIRECT_LEN_MIN {
                self.receive_directly(next, reader.as_deref())?
            } else {
                self.receive(event_loop, reader.as_deref())?
            };
            received += len;
            // The protocol may have paused or closed us, or another one may be there.
            if after == After::Done || !self.has(READING) || self.has(BUFFERED) {
                break;
            }
        }
        // A single small message among large ones changes little.
        let expected = (expected - expected / 8).max(received).min(EXPECTED_LEN_MAX);
        self.expected_len.set(expected as u32);
        Ok(())
    }

    /// The reader to feed without a call of the protocol.
    #[inline]
    fn stream_reader(&self) -> Option<Own<StreamReader>> {
        if !self.has(STREAM) {
            return None;
        }
        let protocol = self.protocol.get()?;
        StreamReaderProtocol::of(protocol.as_ptr())?.plain_reader()
    }

    #[inline]
    fn receive(&self, event_loop: &EventLoop, reader: Option<&StreamReader>) -> PyResult<(usize, After)> {
        let mut buffer = event_loop.take_receive_buffer();
        let received = reactor::sockets::recv(self.live_fd(), &mut buffer);
        let room = buffer.len();
        let received = received.map(|len| (len, Bytes::copy(&buffer[..len])));
        event_loop.return_receive_buffer(buffer);
        match received {
            Ok((0, _)) => Ok((0, self.end_of_stream()?)),
            Ok((len, data)) => Ok((len, self.hand_over(&data?, len == room, reader)?)),
            Err(error) => Ok((0, self.receive_failed(&error)?)),
        }
    }

    /// Large messages are received where they stay.
    fn receive_directly(&self, expected: usize, reader: Option<&StreamReader>) -> PyResult<(usize, After)> {
        let wanted = reader.map_or(0, StreamReader::wanted_len);
        let exact = (WANTED_LEN_MIN..expected).contains(&wanted);
        let mut room = Room::take(if exact { wanted } else { expected })?;
        let mut memory = room.memory();
        if exact {
            // The read that waits gets the object itself.
            memory = &mut memory[..wanted];
        }
        let room_len = memory.len();
        match reactor::sockets::recv(self.live_fd(), memory) {
            Ok(len @ 1..) => {
                let (data, capacity) = room.fill(len)?;
                let after = self.hand_over(&data, len == room_len, reader)?;
                if let Some(capacity) = capacity {
                    // The answer may be this very object.
                    self.flush_now()?;
                    if reader.is_some() {
                        Room::lend(data, capacity);
                    } else {
                        Room::recycle(data, capacity);
                    }
                }
                Ok((len, after))
            }
            outcome => {
                room.put_back();
                match outcome {
                    Ok(_) => Ok((0, self.end_of_stream()?)),
                    Err(error) => Ok((0, self.receive_failed(&error)?)),
                }
            }
        }
    }

    /// Gives the protocol what was received; `filled` says that it left no room.
    #[inline]
    fn hand_over(&self, data: &Obj, filled: bool, reader: Option<&StreamReader>) -> PyResult<After> {
        let outcome = match (reader, Bytes::of(data.as_ptr())) {
            (Some(reader), Some(bytes)) => reader.feed(bytes),
            _ => self.call_protocol_with(names::data_received(), data.as_ptr()).map(drop),
        };
        match outcome {
            Ok(()) if filled => Ok(After::Filled),
            Ok(()) => Ok(After::Done),
            Err(Raised) => self.protocol_failed("Fatal error: protocol.data_received() call failed."),
        }
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
        let fd = self.live_fd();
        let fill = |room: &mut [u8]| (reactor::sockets::recv_into(fd, room), room.len());
        let Some((received, room)) = buffer::with_writable(memory.as_ptr(), fill) else {
            // Not writable: the socket's own method says so in the version's words.
            let sock = self.sock.get_or_none();
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

    #[cold]
    fn end_of_stream(&self) -> PyResult<After> {
        if self.is_debug() {
            self.log_debug("%r received EOF", &[], None)?;
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
