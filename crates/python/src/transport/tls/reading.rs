//! What was received: to the engine, out of it, and up to the program's protocol.
//!
//! All that received bytes decrypt to is handed over together, as in asyncio. It is decrypted into one shared buffer and then copied into a `bytes`
//! of the right size, or, where messages are large, into a `bytes` of about the size of those before (`transport/room.rs`).

use super::engine::{Engine, RECORD_LEN_MAX, Read};
use super::{State, TlsProtocol};
use super::{call_eof_received, do_flush, do_handshake, do_read, do_shutdown, read, start_shutdown, write};
use crate::ffi::error::PyResult;
use crate::ffi::{Native, Obj, Own, c, call};
use crate::state::names;
use crate::streams::{StreamReader, StreamReaderProtocol};
use crate::transport::buffer::{self, Bytes};
use crate::transport::room::Room;
use std::cell::UnsafeCell;

/// What one receive can bring, and as much again as the engine may still hold.
const PLAIN_LEN: usize = 256 * 1024 + 2 * RECORD_LEN_MAX;

/// From this size on, a copy costs more than what it takes to do without.
const DIRECT_LEN_MIN: usize = 4 * 1024;

/// How much transports of others receive at a time.
pub(super) const RECEIVED_LEN: usize = RECORD_LEN_MAX;

/// The shared buffer; taken out while it is used. Only touched attached (A1).
struct Spare(UnsafeCell<Vec<u8>>);
// SAFETY: only touched attached (A1), so by one thread at a time.
unsafe impl Sync for Spare {}
static SPARE: Spare = Spare(UnsafeCell::new(Vec::new()));

fn take_spare() -> Vec<u8> {
    // SAFETY: A1; nothing is borrowed after this line.
    let mut spare = std::mem::take(unsafe { &mut *SPARE.0.get() });
    if spare.capacity() < PLAIN_LEN {
        spare = Vec::with_capacity(PLAIN_LEN);
    }
    spare.clear();
    spare
}

fn return_spare(spare: Vec<u8>) {
    if spare.capacity() <= 2 * PLAIN_LEN {
        // SAFETY: A1; nothing is borrowed after this line. Dropping bytes runs no Python code.
        drop(std::mem::replace(unsafe { &mut *SPARE.0.get() }, spare));
    }
}

/// Decrypted bytes on their way.
enum Plain {
    /// In a `bytes` object, so many of them.
    Room(Room, usize),
    /// In the shared buffer.
    Shared(Vec<u8>),
}

impl Plain {
    fn new(expected: usize) -> PyResult<Plain> {
        if expected >= DIRECT_LEN_MIN {
            return Ok(Plain::Room(Room::take(expected)?, 0));
        }
        Ok(Plain::Shared(take_spare()))
    }

    fn len(&self) -> usize {
        match self {
            Plain::Room(_, len) => *len,
            Plain::Shared(bytes) => bytes.len(),
        }
    }

    /// Memory for more; never empty.
    #[inline]
    fn free(&mut self) -> (*mut u8, usize) {
        if let Plain::Room(room, len) = self {
            let memory = &mut room.memory()[*len..];
            if !memory.is_empty() {
                return (memory.as_mut_ptr().cast(), memory.len());
            }
            let mut shared = take_spare();
            // SAFETY: all of the room was written: `len` is its length.
            shared.extend_from_slice(unsafe { buffer::initialised(room.memory()) });
            if let Plain::Room(room, _) = std::mem::replace(self, Plain::Shared(shared)) {
                room.put_back();
            }
        }
        let Plain::Shared(bytes) = self else {
            unreachable!("a room that is full was replaced");
        };
        if bytes.len() == bytes.capacity() {
            bytes.reserve(PLAIN_LEN);
        }
        let memory = bytes.spare_capacity_mut();
        (memory.as_mut_ptr().cast(), memory.len())
    }

    /// `count` bytes of that memory were written.
    #[inline]
    fn add(&mut self, count: usize) {
        match self {
            Plain::Room(_, len) => *len += count,
            // SAFETY: so many were written behind the end.
            Plain::Shared(bytes) => unsafe { bytes.set_len(bytes.len() + count) },
        }
    }

    fn put_back(self) {
        match self {
            Plain::Room(room, _) => room.put_back(),
            Plain::Shared(bytes) => return_spare(bytes),
        }
    }
}

impl TlsProtocol {
    /// What a transport received.
    #[inline]
    pub(crate) fn receive(&self, data: &[u8]) -> PyResult<()> {
        if self.state.get() != State::Wrapped {
            self.feed(data)?;
            return self.advance();
        }
        if data.len() <= RECORD_LEN_MAX || self.has_pipes() {
            return self.read_more(data);
        }
        // A memory BIO keeps the memory that it ever needed: it gets a record at a time.
        for piece in data.chunks(RECORD_LEN_MAX) {
            self.receive(piece)?;
        }
        Ok(())
    }

    /// The part of `buffer_updated` after the bytes went to the engine.
    pub(super) fn advance(&self) -> PyResult<()> {
        match self.state.get() {
            State::Wrapped => self.read_more(&[]),
            State::DoHandshake => self.call_own(do_handshake()),
            State::Flushing => self.call_own(do_flush()),
            State::Shutdown => self.call_own(do_shutdown()),
            State::Unwrapped => Ok(()),
        }
    }

    pub(super) fn feed(&self, data: &[u8]) -> PyResult<()> {
        if data.is_empty() {
            return Ok(());
        }
        if let Some(engine) = self.engine() {
            return engine.feed(data);
        }
        let copy = buffer::copy(data)?;
        let incoming = self.incoming.get_or_none();
        call::call_method(write(), &[incoming.as_ptr(), copy.as_ptr()], None).map(drop)
    }

    /// `_do_read`, after `data` went to the engine.
    pub(super) fn read_more(&self, data: &[u8]) -> PyResult<()> {
        if !matches!(self.state.get(), State::Wrapped | State::Flushing) {
            return self.feed(data);
        }
        let Some(engine) = self.engine() else {
            self.feed(data)?;
            return self.call_stdlib(do_read(), &[]);
        };
        self.read_from(&engine, data).or_else(|raised| self.failed(raised))
    }

    fn read_from(&self, engine: &Engine, data: &[u8]) -> PyResult<()> {
        if self.app_reading_paused.get() {
            engine.feed(data)?;
        } else {
            if self.app_buffered.get() {
                self.read_into_protocol(engine, data)?;
            } else {
                self.read_and_hand_over(engine, data)?;
            }
            if self.has_backlog()? {
                self.call_own(super::do_write())?;
            } else {
                self.process_outgoing_of(engine)?;
            }
        }
        self.watch_ssl_reading(engine)
    }

    /// `_do_read__copied`
    fn read_and_hand_over(&self, engine: &Engine, data: &[u8]) -> PyResult<()> {
        let expected = self.expected_len.get() as usize;
        let mut plain = Plain::new(if self.app_tls.get() { 0 } else { expected })?;
        let at_end = match decrypt_all(engine, data, &mut plain) {
            Ok(at_end) => at_end,
            Err(raised) => {
                plain.put_back();
                return Err(raised);
            }
        };
        let len = plain.len();
        let expected = (expected - expected / 8).max(len).min(PLAIN_LEN);
        self.expected_len.set(expected as u32);
        if len == 0 {
            plain.put_back();
        } else {
            self.hand_over(plain)?;
        }
        if at_end {
            self.end_of_stream()?;
        }
        Ok(())
    }

    /// `close_notify`
    #[cold]
    fn end_of_stream(&self) -> PyResult<()> {
        self.call_own(call_eof_received())?;
        self.call_own(start_shutdown())
    }

    #[inline]
    fn hand_over(&self, plain: Plain) -> PyResult<()> {
        match plain {
            Plain::Shared(bytes) => {
                if self.app_tls.get()
                    && let Some(inner) = self.app_protocol.get()
                    && let Some(inner) = TlsProtocol::of(inner.as_ptr())
                {
                    let outcome = inner.receive(&bytes);
                    return_spare(bytes);
                    return outcome;
                }
                let copy = buffer::copy(&bytes);
                return_spare(bytes);
                self.give(&copy?)
            }
            Plain::Room(room, len) => {
                let (data, capacity) = room.fill(len)?;
                let outcome = self.give(&data);
                if let Some(capacity) = capacity {
                    if self.app_stream.get() {
                        Room::lend(data, capacity);
                    } else {
                        Room::recycle(data, capacity);
                    }
                }
                outcome
            }
        }
    }

    /// `data_received`, or what it would do.
    #[inline]
    fn give(&self, data: &Obj) -> PyResult<()> {
        if let (Some(reader), Some(bytes)) = (self.stream_reader(), Bytes::of(data.as_ptr())) {
            return reader.feed(bytes);
        }
        let protocol = self.app_protocol.get_or_none();
        call::call_method(names::data_received(), &[protocol.as_ptr(), data.as_ptr()], None).map(drop)
    }

    #[inline]
    fn stream_reader(&self) -> Option<Own<StreamReader>> {
        if !self.app_stream.get() {
            return None;
        }
        let protocol = self.app_protocol.get()?;
        StreamReaderProtocol::of(protocol.as_ptr())?.plain_reader()
    }

    /// `_do_read__buffered`
    fn read_into_protocol(&self, engine: &Engine, data: &[u8]) -> PyResult<()> {
        let protocol = self.app_protocol.get_or_none();
        let hint = call::int((engine.incoming_len()? + data.len()) as i64)?;
        let memory = call::call_method(names::get_buffer(), &[protocol.as_ptr(), hint.as_ptr()], None)?;
        let filled = buffer::lend_writable(memory.as_ptr(), |address, len| {
            engine.with_input(data, || fill(engine, address, len))
        });
        let Ok(filled) = filled else {
            // Not writable: the engine's own method says so in the version's words.
            crate::ffi::error::clear();
            engine.feed(data)?;
            let wanted = call::int(call::len(&memory)? as i64)?;
            let arguments = [self.sslobj.get_or_none(), wanted, memory];
            return call::call_method(read(), &arguments.each_ref().map(Obj::as_ptr), None).map(drop);
        };
        let (len, end) = filled?;
        drop(memory);
        if end == End::Full {
            self.read_soon()?;
        }
        if len > 0 {
            let count = call::int(len as i64)?;
            let protocol = self.app_protocol.get_or_none();
            call::call_method(names::buffer_updated(), &[protocol.as_ptr(), count.as_ptr()], None)?;
        }
        if end == End::OfStream {
            self.end_of_stream()?;
        }
        Ok(())
    }

    fn read_soon(&self) -> PyResult<()> {
        let function = call::getattr(self.raw(), do_read())?;
        let event_loop = self.event_loop.get_or_none();
        call::call_method(names::call_soon(), &[event_loop.as_ptr(), function.as_ptr()], None).map(drop)
    }

    /// `get_buffer`, for transports of others.
    pub(super) fn receive_buffer(&self) -> PyResult<Obj> {
        if let Some(view) = self.received_view.get() {
            return Ok(view);
        }
        // SAFETY: A1.
        let memory = crate::ffi::error::owned(unsafe {
            c::PyByteArray_FromStringAndSize(std::ptr::null(), RECEIVED_LEN as isize)
        })?;
        // SAFETY: A1; it has a buffer.
        let view = crate::ffi::error::owned(unsafe { c::PyMemoryView_FromObject(memory.as_ptr()) })?;
        self.received.set(memory);
        self.received_view.set(view.clone());
        Ok(view)
    }

    /// `buffer_updated`
    pub(super) fn received_in_buffer(&self, len: usize) -> PyResult<()> {
        let Some(memory) = self.received.get() else {
            return self.advance();
        };
        // With an engine of its own kind no Python code runs in between; the bytes are in its BIO before any does.
        let engine = self.engine();
        let outcome = buffer::with_bytes(memory.as_ptr(), |bytes| match &engine {
            Some(engine) if engine.is_direct() => engine.feed(&bytes[..len.min(bytes.len())]).map(|()| None),
            _ => Ok(Some(bytes[..len.min(bytes.len())].to_vec())),
        })?;
        if let Some(copy) = outcome? {
            self.feed(&copy)?;
        }
        self.advance()
    }
}

#[derive(PartialEq, Eq)]
enum End {
    /// Everything received is decrypted.
    OfInput,
    /// There is no room left.
    Full,
    OfStream,
}

/// Gives `data` to the engine, and takes out all that can be decrypted. True: the connection has ended.
#[inline]
fn decrypt_all(engine: &Engine, data: &[u8], plain: &mut Plain) -> PyResult<bool> {
    engine.with_input(data, || {
        loop {
            let (room, len) = plain.free();
            match engine.read(room, len)? {
                Read::Data(count) => plain.add(count),
                Read::Again => return Ok(false),
                Read::End => return Ok(true),
            }
            if !engine.may_have_more()? {
                return Ok(false);
            }
        }
    })
}

fn fill(engine: &Engine, address: *mut u8, len: usize) -> PyResult<(usize, End)> {
    let mut offset = 0;
    if len == 0 {
        // What the engine reads into no memory is nothing, which means the end to asyncio, too.
        return Ok((0, End::OfStream));
    }
    loop {
        match engine.read(address.wrapping_add(offset), len - offset)? {
            Read::Data(count) => offset += count,
            Read::Again => return Ok((offset, End::OfInput)),
            Read::End => return Ok((offset, End::OfStream)),
        }
        if offset == len {
            return Ok((offset, End::Full));
        }
        if !engine.may_have_more()? {
            return Ok((offset, End::OfInput));
        }
    }
}
