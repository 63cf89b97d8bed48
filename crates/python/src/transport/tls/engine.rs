//! The engine: the user's `ssl.SSLObject` between its two memory BIOs, as bytes see it.
//!
//! It is driven in one of two ways with the same results: OpenSSL's own functions (`Direct`), or the methods of the
//! objects of the `_ssl` module. What the first cannot say in the interpreter's words (errors, the end of the connection)
//! the second is asked for: OpenSSL answers a repeated call as it did the first.
//!
//! A memory BIO keeps the memory that it ever needed. Driven by methods it therefore gets, and holds, about a record at a
//! time: what waits on either side of it waits in `Beside`.
//!
//! Invariant E1: an `Engine` holds the Python objects, so what `Direct` points to lives as long as it does.
//! Invariant E2: while something waits beside the incoming BIO, all that is received goes behind it; what waits beside the
//! outgoing BIO is older than what is in it.

use super::openssl::{Direct, Failure};
use super::window::Window;
use super::{memory_bio, native_ssl_socket, pending, read, ssl_object, sslobj, write};
use super::{syscall_error, want_read_error};
use crate::ffi::error::{self, PyResult, Raised};
use crate::ffi::{Obj, Raw, call, object};
use crate::transport::buffer::Bytes;
use std::cell::RefCell;
use std::rc::Rc;

/// A record of the largest size, with what is around it.
pub(super) const RECORD_LEN_MAX: usize = 16 * 1024 + 256;

/// The largest number of bytes in a record.
const PLAIN_LEN_MAX: usize = 16 * 1024;

/// What memory BIOs do not get, or hold no more (E2). Borrowed for no call.
#[derive(Default)]
struct Beside {
    /// Between the handshake and the shutdown, which are the interpreter's own calls and look into the BIO alone.
    open: bool,
    received: Vec<u8>,
    /// So many of them are in the BIO already.
    fed_len: usize,
    unsent: Vec<u8>,
}

impl Beside {
    fn received_len(&self) -> usize {
        self.received.len() - self.fed_len
    }
}

#[derive(Clone)]
pub(super) struct Engine {
    /// `_ssl._SSLSocket`
    inner: Obj,
    incoming: Obj,
    outgoing: Obj,
    direct: Option<Direct>,
    beside: Rc<RefCell<Beside>>,
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
            beside: Rc::default(),
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
        loop {
            let answer = Window::lend(room, len, false, |window| {
                let wanted = call::int(len as i64)?;
                call::call_method(read(), &[self.inner.as_ptr(), wanted.as_ptr(), window], None)
            });
            match answer {
                Ok(count) => match call::as_i64(count.as_ptr())? {
                    0 => return Ok(Read::End),
                    count => return Ok(Read::Data(count as usize)),
                },
                Err(raised) => again(raised)?,
            }
            if !self.feed_next()? {
                return Ok(Read::Again);
            }
        }
    }

    /// Encrypts the beginning of `data` or all of it; None: not now, OpenSSL has to receive first.
    #[inline]
    pub(super) fn write(&self, data: &[u8]) -> PyResult<Option<usize>> {
        match self.direct.map(|direct| direct.write(data.as_ptr(), data.len())) {
            Some(Ok(count)) => Ok(Some(count)),
            Some(Err(Failure::WantRead)) => Ok(None),
            Some(Err(Failure::Other)) | None => self.write_by_method(data),
        }
    }

    fn write_by_method(&self, data: &[u8]) -> PyResult<Option<usize>> {
        // OpenSSL would write all of it to the BIO, records of that size.
        let data = &data[..data.len().min(PLAIN_LEN_MAX)];
        loop {
            let answer = Window::lend(data.as_ptr().cast_mut(), data.len(), true, |window| {
                call::call_method(write(), &[self.inner.as_ptr(), window], None)
            });
            match answer {
                Ok(count) => return Ok(Some(call::as_i64(count.as_ptr())? as usize)),
                Err(raised) => again(raised)?,
            }
            if !self.feed_next()? {
                return Ok(None);
            }
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
        let mut beside = self.beside.borrow_mut();
        if beside.open {
            beside.received.extend_from_slice(data);
            return Ok(());
        }
        drop(beside);
        self.feed_bio(data)
    }

    fn feed_bio(&self, data: &[u8]) -> PyResult<()> {
        Window::lend(data.as_ptr().cast_mut(), data.len(), true, |window| {
            call::call_method(write(), &[self.incoming.as_ptr(), window], None).map(drop)
        })
    }

    /// The BIO gets the next of what waits beside it. False: nothing does.
    #[cold]
    fn feed_next(&self) -> PyResult<bool> {
        let mut beside = self.beside.borrow_mut();
        if beside.received.is_empty() {
            return Ok(false);
        }
        // It is away while the method runs.
        let received = std::mem::take(&mut beside.received);
        let begin = std::mem::take(&mut beside.fed_len);
        drop(beside);
        let end = received.len().min(begin + RECORD_LEN_MAX);
        let outcome = self.feed_bio(&received[begin..end]);
        if end < received.len() {
            let mut beside = self.beside.borrow_mut();
            let later = std::mem::replace(&mut beside.received, received);
            beside.received.extend(later);
            beside.fed_len = end;
        }
        outcome.map(|()| true)
    }

    #[inline]
    pub(super) fn incoming_len(&self) -> PyResult<usize> {
        match self.direct {
            Some(direct) => Ok(direct.incoming_len()),
            None => Ok(pending_of(&self.incoming)? + self.beside.borrow().received_len()),
        }
    }

    #[inline]
    pub(super) fn outgoing_len(&self) -> PyResult<usize> {
        match self.direct {
            Some(direct) => Ok(direct.outgoing_len()),
            None => Ok(pending_of(&self.outgoing)? + self.beside.borrow().unsent.len()),
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
        let taken = Bytes::of(taken.as_ptr());
        let mut unsent = std::mem::take(&mut self.beside.borrow_mut().unsent);
        if unsent.is_empty() {
            return Ok(taken.map_or(Outgoing::Nothing, Outgoing::Object));
        }
        unsent.extend_from_slice(taken.as_ref().map_or(&[], |bytes| bytes.as_ref()));
        Ok(Outgoing::Owned(unsent))
    }

    /// Empties a memory BIO before more is encrypted into it.
    pub(super) fn set_aside(&self) -> PyResult<()> {
        if self.direct.is_some() {
            return Ok(());
        }
        let taken = call::call_method(read(), &[self.outgoing.as_ptr()], None)?;
        if let Some(bytes) = Bytes::of(taken.as_ptr()) {
            self.beside.borrow_mut().unsent.extend_from_slice(bytes.as_ref());
        }
        Ok(())
    }

    /// The handshake is over: from here on every packet counts.
    pub(super) fn settle(&mut self) {
        match &mut self.direct {
            Some(direct) => direct.install_pipes(),
            None => self.beside.borrow_mut().open = true,
        }
    }

    /// The shutdown begins: what was received and is not decrypted is the BIO's to hold.
    pub(super) fn unsettle(&self) -> PyResult<()> {
        self.beside.borrow_mut().open = false;
        while self.feed_next()? {}
        Ok(())
    }

    /// Gives `data` to the engine while `decrypt` runs; what is not decrypted then is kept.
    #[inline]
    pub(super) fn with_input<T>(&self, data: &[u8], decrypt: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        if let Some(pipes) = self.direct.and_then(|direct| direct.pipes()) {
            return pipes.lend(data, decrypt);
        }
        if data.len() > RECORD_LEN_MAX || !self.beside.borrow().received.is_empty() {
            self.feed(data)?;
            if pending_of(&self.incoming)? == 0 {
                self.feed_next()?; // or the first read would fail
            }
        } else if !data.is_empty() && !self.direct.is_some_and(|direct| direct.feed(data)) {
            self.feed_bio(data)?;
        }
        decrypt()
    }

    pub(super) fn has_pipes(&self) -> bool {
        self.direct.is_some_and(|direct| direct.pipes().is_some())
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// How much memory the buffers have, for tests. Driven by methods nobody can know it of the memory BIOs.
    pub(super) fn held_len(&self) -> usize {
        let beside = self.beside.borrow();
        self.direct
            .map_or(beside.received.capacity() + beside.unsent.capacity(), |direct| {
                direct.held_len()
            })
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
