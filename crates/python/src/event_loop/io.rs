//! Readers and writers: who is told when a descriptor is ready.
//!
//! An owner is a Handle (`add_reader`) or a native transport. The registry compares tokens, so a late
//! event never reaches the next user of a descriptor number.

use super::EventLoop;
use crate::ffi::error::{self, PyResult, os_error, value_error};
use crate::ffi::{Args, Native, Obj, Own, Raw, call, context};
use crate::handle::{CANCELLED, Handle, REPEATING, keep_repr};
use crate::operation::Operation;
use crate::transport::datagram::DatagramTransport;
use crate::transport::endpoint::Endpoint;
use crate::transport::pipe::{ReadPipe, WritePipe};
use crate::transport::sendfile::Sendfile;
use crate::transport::stream::StreamTransport;
use reactor::{Readiness, Registry, Token};

/// Which side of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// The objects that `add_reader` and `add_writer` were given in place of descriptors, by descriptor.
///
/// A closed socket no longer knows its number, and who closes one may still take its callbacks away by the object, as
/// with the stdlib's selectors. An entry counts only for the use of the descriptor it was made for (the token).
#[derive(Default)]
pub(crate) struct WatchedFiles {
    files: Vec<Option<(u64, Obj)>>,
}

impl WatchedFiles {
    /// Gives back what was there before, which must be dropped where Python code may run.
    #[must_use]
    fn put(&mut self, fd: i32, token: u64, file: Obj) -> Option<(u64, Obj)> {
        let index = fd as usize;
        if index >= self.files.len() {
            self.files.resize_with(index + 1, || None);
        }
        self.files[index].replace((token, file))
    }

    #[must_use]
    fn take(&mut self, fd: i32) -> Option<(u64, Obj)> {
        self.files.get_mut(fd as usize)?.take()
    }

    /// The use of a descriptor that was registered by this very object.
    fn find(&self, file: Raw) -> Option<(i32, u64)> {
        self.files.iter().enumerate().find_map(|(fd, entry)| match entry {
            Some((token, known)) if known.as_ptr() == file => Some((fd as i32, *token)),
            _ => None,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Raw> + '_ {
        self.files.iter().flatten().map(|(_, file)| file.as_ptr())
    }
}

impl EventLoop {
    /// Runs `change` on the watched files; it must not run Python code.
    #[inline]
    fn with_watched_files<T>(&self, change: impl FnOnce(&mut WatchedFiles) -> T) -> T {
        // SAFETY: I2.
        change(unsafe { &mut *self.inner().watched_files.get() })
    }

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
        if let Some(transport) = StreamTransport::of_exact(owner.as_ptr()) {
            return transport.on_ready(self, side);
        }
        if let Some(operation) = Operation::of_exact(owner.as_ptr()) {
            return operation.on_ready(self);
        }
        if Handle::check_exact(owner.as_ptr()) {
            // SAFETY: just checked.
            let handle = unsafe { Own::<Handle>::from_obj_unchecked(owner) };
            return self.tell_handle(handle);
        }
        if let Some(transport) = DatagramTransport::of_exact(owner.as_ptr()) {
            return transport.on_ready(self, side);
        }
        if let Some(pipe) = ReadPipe::of_exact(owner.as_ptr()) {
            return pipe.on_ready(self, side);
        }
        if let Some(pipe) = WritePipe::of_exact(owner.as_ptr()) {
            return pipe.on_ready(self, side);
        }
        if let Some(sendfile) = Sendfile::of_exact(owner.as_ptr()) {
            return sendfile.on_ready(self);
        }
        self.tell_subclass(owner, side)
    }

    #[cold]
    fn tell_subclass(&self, owner: Obj, side: Side) -> PyResult<()> {
        if let Some(transport) = StreamTransport::of(owner.as_ptr()) {
            return transport.on_ready(self, side);
        }
        if let Some(transport) = DatagramTransport::of(owner.as_ptr()) {
            return transport.on_ready(self, side);
        }
        if let Some(pipe) = ReadPipe::of(owner.as_ptr()) {
            return pipe.on_ready(self, side);
        }
        if let Some(pipe) = WritePipe::of(owner.as_ptr()) {
            return pipe.on_ready(self, side);
        }
        // SAFETY: owners are transports, operations or handles.
        self.tell_handle(unsafe { Own::<Handle>::from_obj_unchecked(owner) })
    }

    #[inline]
    fn tell_handle(&self, handle: Own<Handle>) -> PyResult<()> {
        if self.is_debug() {
            self.run_handle_timed(handle)
        } else {
            self.run_handle(handle)
        }
    }

    fn add_callback(&self, args: Args<'_>, side: Side) -> PyResult<Obj> {
        let positional = args.positional();
        let [fd, callback, arguments @ ..] = positional else {
            return Err(crate::ffi::error::type_error(
                "a file descriptor and a callback are required",
            ));
        };
        self.check_open()?;
        let file = *fd;
        let fd = fileno(file)?;
        let context = match args.context_only("_add_callback", &[])? {
            Some(context) => Obj::from_borrowed(context),
            None => context::copy_current()?,
        };
        let handle = Handle::create(self, *callback, arguments, context)?;
        handle.put(REPEATING, true);
        let previous = self.set_owner(fd, side, handle.obj())?;
        self.poll_next_turn();
        if !is_int(file)
            && let Some(token) = self.with_registry(|registry| registry.token(fd)).flatten()
        {
            drop(self.with_watched_files(|files| files.put(fd, token, Obj::from_borrowed(file))));
        }
        retire(previous);
        Ok(handle.into_obj())
    }

    fn remove_callback(&self, fd: Raw, side: Side) -> PyResult<bool> {
        if self.is_closed() {
            return Ok(false);
        }
        let fd = match fileno(fd) {
            Ok(fd) => fd,
            Err(raised) => match self.descriptor_of_closed(fd) {
                Some(fd) => {
                    error::clear();
                    fd
                }
                None => return Err(raised),
            },
        };
        let previous = self.clear_owner(fd, side);
        let found = previous.is_some();
        if self.with_registry(|registry| registry.token(fd)).flatten().is_none() {
            drop(self.with_watched_files(|files| files.take(fd)));
        }
        retire(previous);
        Ok(found)
    }

    /// The descriptor that `file`, which cannot tell it any more, was registered with and that is still of that use.
    #[cold]
    fn descriptor_of_closed(&self, file: Raw) -> Option<i32> {
        let (fd, token) = self.with_watched_files(|files| files.find(file))?;
        let current = self.with_registry(|registry| registry.token(fd)).flatten();
        (current == Some(token)).then_some(fd)
    }
}

/// A replaced or removed handle is cancelled, as asyncio does: an event of this turn must not run it.
pub(crate) fn retire(previous: Option<Obj>) {
    if let Some(handle) = previous.as_ref().and_then(|owner| Handle::of(owner.as_ptr())) {
        handle.put(CANCELLED, true);
        if handle.native_loop().is_some_and(EventLoop::is_debug) && keep_repr(handle).is_err() {
            error::write_unraisable(handle.raw());
        }
        handle.release();
    }
}

fn is_int(file: Raw) -> bool {
    // SAFETY: A1.
    unsafe { crate::ffi::c::PyLong_Check(file) != 0 }
}

/// A descriptor number, or an object with `fileno()`, with `selectors`' texts.
pub(crate) fn fileno(file: Raw) -> PyResult<i32> {
    let fd = if is_int(file) {
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
