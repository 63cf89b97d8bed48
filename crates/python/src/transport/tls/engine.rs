//! The engine: the user's `ssl.SSLObject` between its two memory BIOs, as bytes see it.
//!
//! It is driven in one of two ways with the same results: OpenSSL's own functions (`Direct`), or the methods of the
//! objects of the `_ssl` module. What the first cannot say in the interpreter's words (errors, the end of the connection)
//! the second is asked for: OpenSSL answers a repeated call as it did the first.
//!
//! Invariant E1: an `Engine` holds the Python objects, so what `Direct` points to lives as long as it does.

use super::openssl::{Direct, Failure};
use super::window::Window;
use super::{memory_bio, native_ssl_socket, pending, read, ssl_object, sslobj, write};
use super::{syscall_error, want_read_error};
use crate::ffi::error::{self, PyResult, Raised};
use crate::ffi::{Obj, Raw, call, object};
use crate::transport::buffer::Bytes;

#[derive(Clone)]
pub(super) struct Engine {
    /// `_ssl._SSLSocket`
    inner: Obj,
    incoming: Obj,
    outgoing: Obj,
    direct: Option<Direct>,
}

pub(super) enum Read {
    Data(usize),
    /// `close_notify` was received.
    End,
    /// Nothing more without more input.
    Again,
}

/// What is to be sent.
pub(super) enum Outgoing {
    Nothing,
    Owned(Vec<u8>),
    Object(Bytes),
}

impl Engine {
    /// None if one of the three is not what the stdlib makes: then its methods are called as the stdlib's class does.
    pub(super) fn new(object: &Obj, incoming: &Obj, outgoing: &Obj) -> PyResult<Option<Engine>> {
        let is_bio = |bio: &Obj| object::type_of(bio.as_ptr()).cast() == memory_bio();
        if !is_bio(incoming) || !is_bio(outgoing) || !call::isinstance(object.as_ptr(), ssl_object())? {
            return Ok(None);
        }
        let class = object::type_of(object.as_ptr()).cast();
        for name in [read(), write()] {
            if !call::getattr(class, name)?.is(call::getattr(ssl_object(), name)?.as_ptr()) {
                return Ok(None);
            }
        }
        let inner = call::getattr(object.as_ptr(), sslobj())?;
        if object::type_of(inner.as_ptr()).cast() != native_ssl_socket() {
            return Ok(None);
        }
        let direct = Direct::of(&inner, incoming, outgoing)?;
        Ok(Some(Engine {
            inner,
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            direct,
        }))
    }

    /// Decrypts what is there into `len` bytes of memory.
    #[inline]
    pub(super) fn read(&self, room: *mut u8, len: usize) -> PyResult<Read> {
        match self.direct.map(|direct| direct.read(room, len)) {
            Some(Ok(count)) => Ok(Read::Data(count)),
            Some(Err(Failure::WantRead)) => Ok(Read::Again),
            Some(Err(Failure::Other)) | None => self.read_by_method(room, len),
        }
    }

    fn read_by_method(&self, room: *mut u8, len: usize) -> PyResult<Read> {
        let answer = Window::lend(room, len, false, |window| {
            let wanted = call::int(len as i64)?;
            call::call_method(read(), &[self.inner.as_ptr(), wanted.as_ptr(), window], None)
        });
        match answer {
            Ok(count) => match call::as_i64(count.as_ptr())? {
                0 => Ok(Read::End),
                count => Ok(Read::Data(count as usize)),
            },
            Err(raised) => again(raised).map(|()| Read::Again),
        }
    }

    /// Encrypts, one record at most; None: not now, OpenSSL has to receive first.
    #[inline]
    pub(super) fn write(&self, data: &[u8]) -> PyResult<Option<usize>> {
        match self.direct.map(|direct| direct.write(data.as_ptr(), data.len())) {
            Some(Ok(count)) => Ok(Some(count)),
            Some(Err(Failure::WantRead)) => Ok(None),
            Some(Err(Failure::Other)) | None => self.write_by_method(data),
        }
    }

    fn write_by_method(&self, data: &[u8]) -> PyResult<Option<usize>> {
        let answer = Window::lend(data.as_ptr().cast_mut(), data.len(), true, |window| {
            call::call_method(write(), &[self.inner.as_ptr(), window], None)
        });
        match answer {
            Ok(count) => Ok(Some(call::as_i64(count.as_ptr())? as usize)),
            Err(raised) => again(raised).map(|()| None),
        }
    }

    /// May a read bring more without more input? What is certain to fail is not tried: an exception costs more than a read.
    #[inline]
    pub(super) fn may_have_more(&self) -> PyResult<bool> {
        if let Some(direct) = self.direct {
            return Ok(direct.may_have_more());
        }
        if self.incoming_len()? > 0 {
            return Ok(true);
        }
        let decrypted = call::call_method(pending(), &[self.inner.as_ptr()], None)?;
        Ok(call::as_i64(decrypted.as_ptr())? > 0)
    }

    /// What was received goes to the engine.
    #[inline]
    pub(super) fn feed(&self, data: &[u8]) -> PyResult<()> {
        if self.direct.is_some_and(|direct| direct.feed(data)) {
            return Ok(());
        }
        Window::lend(data.as_ptr().cast_mut(), data.len(), true, |window| {
            call::call_method(write(), &[self.incoming.as_ptr(), window], None).map(drop)
        })
    }

    #[inline]
    pub(super) fn incoming_len(&self) -> PyResult<usize> {
        match self.direct {
            Some(direct) => Ok(direct.incoming_len()),
            None => pending_of(&self.incoming),
        }
    }

    #[inline]
    pub(super) fn outgoing_len(&self) -> PyResult<usize> {
        match self.direct {
            Some(direct) => Ok(direct.outgoing_len()),
            None => pending_of(&self.outgoing),
        }
    }

    /// All that is to be sent.
    #[inline]
    pub(super) fn take_outgoing(&self) -> PyResult<Outgoing> {
        let len = self.outgoing_len()?;
        if len == 0 {
            return Ok(Outgoing::Nothing);
        }
        if let Some(direct) = self.direct {
            return Ok(Outgoing::Owned(direct.take()));
        }
        let taken = call::call_method(read(), &[self.outgoing.as_ptr()], None)?;
        Ok(Bytes::of(taken.as_ptr()).map_or(Outgoing::Nothing, Outgoing::Object))
    }

    /// The handshake is over: from here on every packet counts.
    pub(super) fn settle(&mut self) {
        if let Some(direct) = &mut self.direct {
            direct.install_pipes();
        }
    }

    /// Gives `data` to the engine while `decrypt` runs; what is not decrypted then is kept.
    #[inline]
    pub(super) fn with_input<T>(&self, data: &[u8], decrypt: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        if let Some(pipes) = self.direct.and_then(|direct| direct.pipes()) {
            return pipes.lend(data, decrypt);
        }
        if !data.is_empty() {
            self.feed(data)?;
        }
        decrypt()
    }

    pub(super) fn has_pipes(&self) -> bool {
        self.direct.is_some_and(|direct| direct.pipes().is_some())
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// None where nobody can know.
    pub(super) fn held_len(&self) -> Option<usize> {
        self.direct.map(|direct| direct.held_len())
    }

    pub(super) fn objects(&self) -> [Raw; 3] {
        [self.inner.as_ptr(), self.incoming.as_ptr(), self.outgoing.as_ptr()]
    }
}

fn pending_of(bio: &Obj) -> PyResult<usize> {
    Ok(call::as_i64(call::getattr(bio.as_ptr(), pending())?.as_ptr())? as usize)
}

/// `except SSLAgainErrors: pass`
fn again(raised: Raised) -> PyResult<()> {
    if error::matches(want_read_error()) || error::matches(syscall_error()) {
        error::clear();
        return Ok(());
    }
    Err(raised)
}
