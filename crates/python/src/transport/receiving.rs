//! Receiving a stream of bytes, from a socket or a pipe.
//!
//! Where messages are large, or all of about the same size, they are received into a `bytes` of about the size of those
//! before. Others are received into the loop's one buffer and then copied into a `bytes` of the right size: allocating for
//! the largest possible receive costs page faults each time. A receive that does not fill its buffer has emptied the
//! descriptor.
//!
//! A stream's reader gets that `bytes` object itself, without a call of its protocol: docs/internals/streams.md.

use super::buffer::Bytes;
use super::endpoint::{EVEN, EVEN_AGAIN, Endpoint, STREAM};
use super::room::{self, Room};
use crate::child::pipe::ProcessPipe;
use crate::event_loop::EventLoop;
use crate::event_loop::receive_buffer::RECEIVE_BUFFER_LEN;
use crate::ffi::error::PyResult;
use crate::ffi::{Native, Obj, Own, Raised};
use crate::state::names;
use crate::streams::{StreamReader, StreamReaderProtocol};
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;

/// How often one event may receive. A sender faster than us must not keep the other connections waiting.
pub(super) const RECEIVES_PER_EVENT_MAX: usize = 4;

/// From this size on, a copy costs more than a second receive now and then, for what the first had no room for.
const DIRECT_LEN_MIN: usize = 4 * 1024;

/// A read of a stream for less than this is worth no receive of its own when more is expected.
const WANTED_LEN_MIN: usize = 32 * 1024;

/// More is never expected: it is what a receive can bring at most.
const EXPECTED_LEN_MAX: usize = RECEIVE_BUFFER_LEN;

/// What is known of the descriptor after a receive.
#[derive(PartialEq, Eq)]
pub(super) enum After {
    /// There may be more.
    Filled,
    /// Empty, or not to be read from for now.
    Done,
}

/// A transport that receives bytes.
pub(super) trait Receiver: Endpoint {
    /// How large the next receive may be, from those before.
    fn expected_len(&self) -> &Cell<u32>;

    /// One system call.
    fn receive_into(&self, memory: &mut [MaybeUninit<u8>]) -> io::Result<usize>;

    /// One system call, into `first` and then, where it can, into `second`.
    #[inline]
    fn receive_into_two(&self, first: &mut [MaybeUninit<u8>], _second: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.receive_into(first)
    }

    /// The longest piece that a receive must have room for, because the rest would be lost: nothing in a stream.
    #[inline]
    fn piece_len_max(&self) -> usize {
        0
    }

    /// May the event that is being handled receive more?
    fn goes_on(&self) -> bool;

    fn end_of_stream(&self) -> PyResult<After>;

    /// Also if nothing is there.
    fn receive_failed(&self, error: &io::Error) -> PyResult<After>;

    /// `data_received` has raised.
    fn data_received_failed(&self) -> PyResult<After>;

    /// A readable event.
    #[inline]
    fn receive_some(&self, event_loop: &EventLoop) -> PyResult<()> {
        let least = self.piece_len_max();
        if least > EXPECTED_LEN_MAX {
            return self.receive(event_loop, self.stream_reader().as_deref()).map(drop);
        }
        let expected = self.expected_len().get() as usize;
        let mut received = 0;
        for turn in 0..RECEIVES_PER_EVENT_MAX {
            let reader = self.stream_reader();
            // What a read of a stream has left over is known well enough.
            let next = if turn == 0 || reader.is_some() {
                expected.saturating_sub(received)
            } else {
                0
            };
            let is_much = next >= DIRECT_LEN_MIN || (next >= room::ROOM_LEN_MIN && self.has(EVEN_AGAIN));
            let (len, after) = if is_much && next >= least {
                self.receive_directly(event_loop, next, reader.as_deref())?
            } else {
                self.receive(event_loop, reader.as_deref())?
            };
            received += len;
            if reader.is_some() {
                event_loop.note_kept(len);
            }
            // The protocol may have paused or closed us, or another one may be there.
            if after == After::Done || !self.goes_on() {
                break;
            }
        }
        let even = room::is_as_expected(received, expected);
        self.put(EVEN_AGAIN, even && self.has(EVEN));
        self.put(EVEN, even);
        // A single small message among large ones changes little.
        let expected = (expected - expected / 8).max(received).min(EXPECTED_LEN_MAX);
        self.expected_len().set(expected as u32);
        Ok(())
    }

    /// The reader to feed without a call of the protocol.
    #[inline]
    fn stream_reader(&self) -> Option<Own<StreamReader>> {
        if !self.has(STREAM) {
            return None;
        }
        let protocol = self.protocol.get()?;
        match StreamReaderProtocol::of(protocol.as_ptr()) {
            Some(stream) => stream.plain_reader(),
            None => ProcessPipe::of(protocol.as_ptr())?.plain_reader(),
        }
    }

    #[inline]
    fn receive(&self, event_loop: &EventLoop, reader: Option<&StreamReader>) -> PyResult<(usize, After)> {
        let mut buffer = event_loop.take_receive_buffer();
        let received = self.receive_into(&mut buffer);
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
    fn receive_directly(
        &self,
        event_loop: &EventLoop,
        expected: usize,
        reader: Option<&StreamReader>,
    ) -> PyResult<(usize, After)> {
        if let Some(reader) = reader
            && (WANTED_LEN_MIN.max(self.piece_len_max())..expected).contains(&reader.wanted_len())
        {
            return self.receive_wanted(event_loop, reader.wanted_len(), expected, reader);
        }
        let mut room = Room::take(expected)?;
        let memory = room.memory();
        let room_len = memory.len();
        match self.receive_into(memory) {
            Ok(len @ 1..) => Ok((
                len,
                self.hand_over_room(event_loop, room, len, len == room_len, reader)?,
            )),
            outcome => {
                room.put_back();
                match outcome {
                    Ok(_) => Ok((0, self.end_of_stream()?)),
                    Err(error) => Ok((0, self.receive_failed(&error)?)),
                }
            }
        }
    }

    /// A read waits for less than is expected: it gets an object of its own, as the next read gets the rest, in one
    /// receive. A second one would have the kernel acknowledge twice.
    fn receive_wanted(
        &self,
        event_loop: &EventLoop,
        wanted: usize,
        expected: usize,
        reader: &StreamReader,
    ) -> PyResult<(usize, After)> {
        let mut room = Room::take(wanted)?;
        let mut rest = Room::take((expected - wanted).max(room::ROOM_LEN_MIN))?;
        let rest_memory = rest.memory();
        let filled_len = wanted + rest_memory.len();
        match self.receive_into_two(&mut room.memory()[..wanted], rest_memory) {
            Ok(len @ 1..) if len <= wanted => {
                rest.put_back();
                // A pipe's receive has filled the first place alone.
                Ok((
                    len,
                    self.hand_over_room(event_loop, room, len, len == wanted, Some(reader))?,
                ))
            }
            Ok(len @ 1..) => {
                let (first, second) = (room.fill(wanted)?, rest.fill(len - wanted)?);
                // What has come is handed over whole, whatever the first part brings about, but for an error.
                let mut after = self.hand_over(&first.0, true, Some(reader))?;
                if after == After::Filled {
                    after = self.hand_over(&second.0, len == filled_len, Some(reader))?;
                }
                for (data, capacity) in [first, second] {
                    if let Some(capacity) = capacity {
                        Room::lend(data, capacity);
                    }
                }
                Ok((len, after))
            }
            outcome => {
                room.put_back();
                rest.put_back();
                match outcome {
                    Ok(_) => Ok((0, self.end_of_stream()?)),
                    Err(error) => Ok((0, self.receive_failed(&error)?)),
                }
            }
        }
    }

    /// The first `len` bytes of a room, and then the room for another receive.
    #[inline]
    fn hand_over_room(
        &self,
        event_loop: &EventLoop,
        room: Room,
        len: usize,
        filled: bool,
        reader: Option<&StreamReader>,
    ) -> PyResult<After> {
        let (data, capacity) = room.fill(len)?;
        let after = self.hand_over(&data, filled, reader)?;
        if let Some(capacity) = capacity {
            // The answer may be this very object.
            self.event_over()?;
            if reader.is_some() {
                Room::lend(data, capacity);
            } else if !Room::recycle(data, capacity) {
                event_loop.note_kept(len);
            }
        }
        Ok(after)
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
            Err(Raised) => self.data_received_failed(),
        }
    }
}
