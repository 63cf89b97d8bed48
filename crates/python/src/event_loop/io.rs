//! Readers and writers: who is told when a descriptor is ready.
//!
//! An owner is a Handle (`add_reader`) or a native transport. The registry compares tokens, so a late
//! event never reaches the next user of a descriptor number.

use super::EventLoop;
use crate::ffi::error::{PyResult, os_error, value_error};
use crate::ffi::{Args, Native, Obj, Own, Raw, call, context};
use crate::handle::{CANCELLED, Handle, REPEATING};
use crate::operation::Operation;
use crate::transport::stream::StreamTransport;
use reactor::{Readiness, Registry, Token};

/// Which side of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

impl EventLoop {
    /// Runs `change` on the fd table; it must not run Python code. None once the loop is closed.
    #[inline]
    pub(crate) fn with_registry<T>(&self, change: impl FnOnce(&mut Registry<Obj>) -> T) -> Option<T> {
        // SAFETY: I2.
        unsafe { (*self.inner().registry.get()).as_mut() }.map(change)
    }

    /// Makes `owner` the reader or writer of `fd`; gives back the previous one.
    pub(crate) fn set_owner(&self, fd: i32, side: Side, owner: Obj) -> PyResult<Option<Obj>> {
        self.check_open()?;
        self.check_fork()?;
        let outcome = self.with_registry(|registry| match side {
            Side::Read => registry.set_reader_verified(fd, owner),
            Side::Write => registry.set_writer_verified(fd, owner),
        });
        match outcome {
            None => Ok(None),
            Some(Ok(previous)) => Ok(previous),
            Some(Err((error, owner))) => {
                drop(owner);
                Err(os_error(&error))
            }
        }
    }

    pub(crate) fn clear_owner(&self, fd: i32, side: Side) -> Option<Obj> {
        if self.is_forked() {
            return None;
        }
        self.with_registry(|registry| match side {
            Side::Read => registry.clear_reader(fd),
            Side::Write => registry.clear_writer(fd),
        })
        .flatten()
    }

    pub(crate) fn owner(&self, fd: i32, side: Side) -> Option<Obj> {
        self.with_registry(|registry| {
            match side {
                Side::Read => registry.reader(fd),
                Side::Write => registry.writer(fd),
            }
            .cloned()
        })
        .flatten()
    }

    /// Every descriptor that has an owner.
    pub(crate) fn registered_fds(&self) -> Vec<i32> {
        self.with_registry(|registry| registry.owned_fds().collect())
            .unwrap_or_default()
    }

    /// Tells the owners of `fd`, if the registration is still the one the event was about.
    #[inline]
    pub(crate) fn dispatch(&self, fd: i32, generation: u32, bits: u8) -> PyResult<()> {
        let token = Token::new(fd, generation);
        let readiness = Readiness::from_bits(bits);
        let mut told = false;
        for (side, is_ready) in [
            (Side::Read, readiness.is_readable()),
            (Side::Write, readiness.is_writable()),
        ] {
            if !is_ready {
                continue;
            }
            // Looked up anew for each side: the first owner may have changed everything.
            let owner = self
                .with_registry(|registry| {
                    registry.lookup(token.raw())?;
                    match side {
                        Side::Read => registry.reader(fd),
                        Side::Write => registry.writer(fd),
                    }
                    .cloned()
                })
                .flatten();
            let Some(owner) = owner else { continue };
            told = true;
            self.tell(owner, side)?;
        }
        if !told {
            self.with_registry(|registry| registry.disarm_idle(token.raw()));
        }
        Ok(())
    }

    #[inline]
    fn tell(&self, owner: Obj, side: Side) -> PyResult<()> {
        if let Some(transport) = StreamTransport::of(owner.as_ptr()) {
            return transport.on_ready(self, side);
        }
        if let Some(operation) = Operation::of_exact(owner.as_ptr()) {
            return operation.on_ready(self);
        }
        // SAFETY: owners are transports, operations or handles.
        let handle = unsafe { Own::<Handle>::from_obj_unchecked(owner) };
        self.run_handle(handle)
    }

    fn add_callback(&self, args: Args<'_>, side: Side) -> PyResult<Obj> {
        let positional = args.positional();
        let [fd, callback, arguments @ ..] = positional else {
            return Err(crate::ffi::error::type_error(
                "a file descriptor and a callback are required",
            ));
        };
        self.check_open()?;
        let fd = fileno(*fd)?;
        let context = match args.context_only("_add_callback", &[])? {
            Some(context) => Obj::from_borrowed(context),
            None => context::copy_current()?,
        };
        let handle = Handle::create(self, *callback, arguments, context)?;
        handle.put(REPEATING, true);
        let previous = self.set_owner(fd, side, handle.obj())?;
        retire(previous);
        Ok(handle.into_obj())
    }

    fn remove_callback(&self, fd: Raw, side: Side) -> PyResult<bool> {
        if self.is_closed() {
            return Ok(false);
        }
        let fd = fileno(fd)?;
        let previous = self.clear_owner(fd, side);
        let found = previous.is_some();
        retire(previous);
        Ok(found)
    }

    /// Keeps `transport`'s queued writes for the end of the turn.
    #[inline]
    pub(crate) fn flush_later(&self, transport: Own<StreamTransport>) {
        // SAFETY: I2; pushing runs no Python code.
        unsafe { (*self.inner().unflushed.get()).push(transport) };
    }

    /// Sends what transports queued in this turn.
    #[inline]
    pub(crate) fn flush_writes(&self) {
        loop {
            // SAFETY: I2; the transport is moved out before it runs.
            let Some(transport) = (unsafe { (*self.inner().unflushed.get()).pop() }) else {
                return;
            };
            transport.flush(self);
        }
    }
}

/// A replaced or removed handle is cancelled, as asyncio does: an event of this turn must not run it.
pub(crate) fn retire(previous: Option<Obj>) {
    if let Some(handle) = previous.as_ref().and_then(|owner| Handle::of(owner.as_ptr())) {
        handle.put(CANCELLED, true);
        handle.release();
    }
}

/// A descriptor number, or an object with `fileno()`, with `selectors`' texts.
pub(crate) fn fileno(file: Raw) -> PyResult<i32> {
    // SAFETY: A1.
    let is_int = unsafe { crate::ffi::c::PyLong_Check(file) } != 0;
    let fd = if is_int {
        call::as_i64(file)?
    } else {
        let found =
            call::call_method(crate::state::names::fileno(), &[file], None).and_then(|fd| call::as_i64(fd.as_ptr()));
        match found {
            Ok(fd) => fd,
            Err(_) => {
                crate::ffi::error::clear();
                return Err(value_error(&format!("Invalid file object: {}", call::repr(file)?)));
            }
        }
    };
    if fd < 0 {
        return Err(value_error(&format!("Invalid file descriptor: {fd}")));
    }
    i32::try_from(fd).map_err(|_| value_error(&format!("Invalid file descriptor: {fd}")))
}

pub(crate) fn add_reader(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    this.add_callback(args, Side::Read)
}

pub(crate) fn add_writer(this: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    this.add_callback(args, Side::Write)
}

pub(crate) fn remove_reader(this: &EventLoop, fd: Raw) -> PyResult<bool> {
    this.remove_callback(fd, Side::Read)
}

pub(crate) fn remove_writer(this: &EventLoop, fd: Raw) -> PyResult<bool> {
    this.remove_callback(fd, Side::Write)
}

/// Runs what is ready without a wait, for `_selector.select`.
pub(crate) fn select(this: &EventLoop, timeout: Option<f64>) -> PyResult<Obj> {
    let timeout_ns = timeout.map(|seconds| (seconds.max(0.0) * 1e9).ceil() as u64);
    this.poll(timeout_ns)?;
    call::list()
}
