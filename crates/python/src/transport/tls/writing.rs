//! What is to be sent: encrypted at once, record by record, and passed on to the transport below, which joins what one
//! turn of the loop wrote. What cannot be encrypted yet (the handshake is not over, OpenSSL wants to receive first) waits
//! in the backlog.

use super::engine::{Engine, Outgoing};
use super::{State, TlsProtocol};
use super::{backlog_append, backlog_popleft, do_write, process_outgoing, write, write_appdata};
use crate::ffi::error::{PyResult, owned};
use crate::ffi::{Obj, Raw, c, call};
use crate::transport::buffer::{self, Bytes};

/// Pieces are joined up to the size of a record: each record costs about as much as encrypting 1 KiB.
const JOINED_LEN_MAX: usize = 16 * 1024;

impl TlsProtocol {
    /// `_write_appdata((data,))` for data that is bytes, a bytearray or a memoryview.
    #[inline]
    pub(super) fn write_one(&self, data: Raw) -> PyResult<()> {
        match self.ready_engine()? {
            Some(engine) => {
                let outcome = self.encrypt_object(&engine, data);
                outcome
                    .and_then(|()| self.process_outgoing_of(&engine))
                    .or_else(|raised| self.failed(raised))
            }
            None => {
                let pieces = call::tuple(&[kept(data)?.as_ptr()])?;
                self.call_stdlib(write_appdata(), &[pieces.as_ptr()])
            }
        }
    }

    /// `_write_appdata(list_of_data)`
    pub(super) fn write_all(&self, pieces: Raw) -> PyResult<()> {
        // SAFETY: A1; any iterable. A tuple of our own: nobody else changes it.
        let pieces = owned(unsafe { c::PySequence_Tuple(pieces) })?;
        let all = || (0..call::tuple_len(pieces.as_ptr())).map(|index| call::tuple_item(pieces.as_ptr(), index));
        let engine = self.ready_engine()?;
        let Some(engine) = engine.filter(|_| all().all(buffer::is_writable_type)) else {
            let mut kept_pieces = Vec::new();
            for piece in all() {
                kept_pieces.push(kept(piece)?);
            }
            let raws: Vec<Raw> = kept_pieces.iter().map(Obj::as_ptr).collect();
            return self.call_stdlib(write_appdata(), &[call::tuple(&raws)?.as_ptr()]);
        };
        let mut joined = Vec::new();
        let mut outcome = Ok(());
        for piece in all() {
            outcome = self.write_joined(&engine, piece, &mut joined);
            if outcome.is_err() {
                break;
            }
        }
        outcome
            .and_then(|()| self.encrypt(&engine, &joined))
            .and_then(|()| self.process_outgoing_of(&engine))
            .or_else(|raised| self.failed(raised))
    }

    /// Small pieces share a record.
    fn write_joined(&self, engine: &Engine, piece: Raw, joined: &mut Vec<u8>) -> PyResult<()> {
        let fits = buffer::with_bytes(piece, |bytes| {
            let fits = joined.len() + bytes.len() <= JOINED_LEN_MAX;
            if fits {
                joined.extend_from_slice(bytes);
            }
            fits
        })?;
        if fits {
            return Ok(());
        }
        self.encrypt(engine, joined)?;
        joined.clear();
        self.encrypt_object(engine, piece)
    }

    /// The engine, if it takes data now and nothing waits before that.
    #[inline]
    fn ready_engine(&self) -> PyResult<Option<Engine>> {
        if self.state.get() != State::Wrapped || self.has_backlog()? {
            return Ok(None);
        }
        Ok(self.engine())
    }

    #[inline]
    fn encrypt_object(&self, engine: &Engine, data: Raw) -> PyResult<()> {
        if let Some(bytes) = Bytes::of(data) {
            return self.encrypt(engine, bytes.as_ref());
        }
        // The buffer is held while the engine reads it; it may be another thread's turn meanwhile, as in asyncio.
        buffer::lend_readable(data, |bytes| self.encrypt(engine, bytes))?
    }

    /// What does not go through now waits.
    #[inline]
    fn encrypt(&self, engine: &Engine, data: &[u8]) -> PyResult<()> {
        let mut rest = data;
        while !rest.is_empty() {
            if self.has_backlog_set() {
                return self.keep(rest);
            }
            let Some(count) = engine.write(rest)? else {
                return self.keep(rest);
            };
            rest = &rest[count..];
            if !rest.is_empty() {
                self.pass_on_quietly(engine)?;
            }
        }
        Ok(())
    }

    /// Once something waits, all that follows does.
    #[inline]
    fn has_backlog_set(&self) -> bool {
        self.backlog_len.get() > 0
    }

    #[cold]
    fn keep(&self, rest: &[u8]) -> PyResult<()> {
        let copy = buffer::copy(rest)?;
        let backlog = self.backlog.get_or_none();
        call::call_method(backlog_append(), &[backlog.as_ptr(), copy.as_ptr()], None)?;
        self.backlog_len.set(self.backlog_len.get() + rest.len() as i64);
        Ok(())
    }

    /// `_do_write`
    pub(super) fn write_backlog(&self) -> PyResult<()> {
        let Some(engine) = self.engine() else {
            return self.call_stdlib(do_write(), &[]);
        };
        while self.has_backlog()? {
            let backlog = self.backlog.get_or_none();
            let data = call::call_method(backlog_popleft(), &[backlog.as_ptr()], None)?;
            let Some(left) = self.write_waiting(&engine, &data)? else {
                continue;
            };
            call::call_method(
                call::interned("appendleft")?.as_ptr(),
                &[backlog.as_ptr(), left.as_ptr()],
                None,
            )?;
            break;
        }
        self.process_outgoing_of(&engine)
    }

    /// What is left of `data`, None if nothing is.
    fn write_waiting(&self, engine: &Engine, data: &Obj) -> PyResult<Option<Obj>> {
        buffer::lend_readable(data.as_ptr(), |bytes| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let Some(count) = engine.write(rest)? else {
                    return Ok(Some(buffer::copy(rest)?));
                };
                self.backlog_len.set(self.backlog_len.get() - count as i64);
                rest = &rest[count..];
                self.pass_on_quietly(engine)?;
            }
            Ok(None)
        })?
    }

    /// Gives a record to the transport below without sending it, so that the outgoing BIO stays small. Runs no Python code
    /// unless the connection is lost.
    #[inline]
    fn pass_on_quietly(&self, engine: &Engine) -> PyResult<()> {
        if !engine.is_direct() {
            return engine.set_aside();
        }
        if self.ssl_writing_paused.get() {
            return Ok(());
        }
        if let Some(stream) = self.stream()
            && let Outgoing::Owned(bytes) = engine.take_outgoing()?
        {
            stream.queue_owned(bytes)?;
        }
        Ok(())
    }

    /// `_process_outgoing`
    pub(super) fn process_outgoing(&self) -> PyResult<()> {
        match self.engine() {
            Some(engine) => self.process_outgoing_of(&engine),
            None => self.call_stdlib(process_outgoing(), &[]),
        }
    }

    #[inline]
    pub(super) fn process_outgoing_of(&self, engine: &Engine) -> PyResult<()> {
        if self.ssl_writing_paused.get() {
            engine.set_aside()?;
        } else {
            self.pass_on(engine)?;
        }
        self.watch_app_writing(engine)
    }

    #[inline]
    fn pass_on(&self, engine: &Engine) -> PyResult<()> {
        let outgoing = engine.take_outgoing()?;
        if let Some(stream) = self.stream() {
            return match outgoing {
                Outgoing::Nothing => stream.send_owned(),
                Outgoing::Owned(bytes) => stream.write_owned(bytes),
                Outgoing::Object(bytes) => stream.write(bytes.into_obj().as_ptr()),
            };
        }
        let data = match outgoing {
            Outgoing::Nothing => return Ok(()),
            Outgoing::Owned(bytes) => buffer::copy(&bytes)?,
            Outgoing::Object(bytes) => bytes.into_obj(),
        };
        let transport = self.transport.get_or_none();
        call::call_method(write(), &[transport.as_ptr(), data.as_ptr()], None).map(drop)
    }
}

/// Data that waits is kept as it is now.
fn kept(data: Raw) -> PyResult<Obj> {
    if Bytes::of(data).is_some() || !buffer::is_writable_type(data) {
        return Ok(Obj::from_borrowed(data));
    }
    buffer::lend_readable(data, buffer::copy)?
}
