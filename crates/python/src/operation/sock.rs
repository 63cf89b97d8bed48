//! The loop's `sock_*` methods: as in the stdlib's `selector_events`, one attempt at once, and if the socket is not
//! ready the same attempt again whenever the kernel says that it is.
//!
//! Sockets are duck-typed: their Python methods are called, except that receiving and sending on plain sockets goes to
//! the kernel directly. `sock_recv` then receives into the loop's own buffer: allocating the size asked for (often
//! 256 KiB) for each message costs several times the system call.
//!
//! Whoever receives once mostly receives again. So when a message has come, the kernel's interest in the descriptor
//! stays (`Registry::linger_reader`), and the next wait need not tell it anything: two system calls less per message.
//! That is right only if the descriptor still means the same open file. `KnownSockets` makes sure of it: the next
//! wait is trusted if it is by the very socket object (weakly referenced, so alive all the time) that waited before, and
//! with the same number. Anybody else makes the registry ask the kernel.

use super::{Kind, NOTIFIED, Operation, REMINDED, Stage, Step, function};
use crate::event_loop::EventLoop;
use crate::event_loop::io::{Side, retire};
use crate::ffi::error::{PyResult, os_error, owned, restore, take, value_error};
use crate::ffi::{Native, Obj, Own, Raised, Raw, c, call, context, error, object};
use crate::future::Future;
use crate::handle::{Handle, report};
use crate::state::names;
use crate::transport::room::{ROOM_LEN_MAX, Room};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

/// Messages of this size or more are received when the task is resumed, not when the kernel reports them, and right into
/// the object that the task gets. Many of them at once would neither stay in the cache until their tasks come to them,
/// nor in the C library's hands afterwards: it gives the memory back and faults it in again for the next turn. Small ones
/// are received at once, so that the kernel need not report them again meanwhile.
const LATE_LEN_MIN: usize = 12 * 1024;

/// Which sockets a loop's descriptors belonged to when it last waited for them.
pub(crate) struct KnownSockets {
    /// By descriptor: dense, because the kernel gives the lowest free number.
    by_fd: Vec<Known>,
}

#[derive(Default)]
struct Known {
    /// A weak reference to the socket.
    reference: Option<Obj>,
    /// How much it received last, if it is a stream.
    last_len: usize,
    /// Asked of the kernel when it matters. What a datagram has no memory for would be lost.
    is_stream: Option<bool>,
}

impl KnownSockets {
    pub(crate) const fn new() -> KnownSockets {
        KnownSockets { by_fd: Vec::new() }
    }

    /// Was `socket` the last to wait for `fd`? Runs no Python code.
    #[inline]
    fn knows(&self, fd: i32, socket: Raw) -> bool {
        let Some(Known {
            reference: Some(reference),
            ..
        }) = self.by_fd.get(fd as usize)
        else {
            return false;
        };
        let mut found = ptr::null_mut();
        // SAFETY: A1; a weak reference. A dead one gives NULL.
        unsafe { c::compat::PyWeakref_GetRef(reference.as_ptr(), &raw mut found) };
        // The caller holds the socket, so this is never the last reference.
        Obj::from_owned(found).is_some_and(|found| found.is(socket))
    }

    /// Gives back what was known before; the caller drops it.
    fn learn(&mut self, fd: i32, reference: Obj) -> Option<Obj> {
        let index = fd as usize;
        if index >= self.by_fd.len() {
            self.by_fd.resize_with(index + 1, Known::default);
        }
        let known = Known {
            reference: Some(reference),
            ..Known::default()
        };
        std::mem::replace(&mut self.by_fd[index], known).reference
    }

    #[inline]
    fn note_received(&mut self, fd: i32, len: usize) {
        if let Some(known) = self.by_fd.get_mut(fd as usize) {
            let counts = len < LATE_LEN_MIN || *known.is_stream.get_or_insert_with(|| reactor::sockets::is_stream(fd));
            known.last_len = if counts { len } else { 0 };
        }
    }

    /// How much came last, if that was much. Means something only for the socket that the descriptor is known by.
    #[inline]
    fn expected_len(&self, fd: i32) -> Option<usize> {
        let last_len = self.by_fd.get(fd as usize)?.last_len;
        (last_len >= LATE_LEN_MIN).then_some(last_len)
    }

    /// A transport has `fd` now. Gives back what was known; the caller drops it.
    #[must_use]
    pub(crate) fn forget(&mut self, fd: i32) -> Option<Obj> {
        std::mem::take(self.by_fd.get_mut(fd as usize)?).reference
    }

    /// Empties it; the caller drops the references.
    pub(crate) fn take_all(&mut self) -> Vec<Option<Obj>> {
        std::mem::take(&mut self.by_fd)
            .into_iter()
            .map(|known| known.reference)
            .collect()
    }
}

/// `socket.socket`, and whether it still does what its C base class does.
pub(super) struct SocketType {
    socket: Obj,
    base: Obj,
    /// The type's version when that was last looked at; 0 is no version.
    plain_version: Cell<u32>,
}

impl SocketType {
    pub(super) fn load() -> PyResult<SocketType> {
        Ok(SocketType {
            socket: call::import_from("socket", "socket")?,
            base: call::import_from("_socket", "socket")?,
            plain_version: Cell::new(0),
        })
    }

    /// Is `socket` one whose methods are the C ones? Subclasses are not: their instances may have anything.
    #[inline]
    fn is_plain(&self, socket: Raw) -> bool {
        let kind = object::type_of(socket);
        if kind.cast() != self.socket.as_ptr() {
            return false;
        }
        // SAFETY: a type; the version changes with every change of the class or its bases.
        let version = unsafe { (*kind).tp_version_tag };
        (version != 0 && version == self.plain_version.get()) || self.look()
    }

    /// Somebody may have patched the class.
    #[cold]
    fn look(&self) -> bool {
        let same = |name: &str| -> PyResult<bool> {
            let name = call::interned(name)?;
            let ours = call::getattr(self.socket.as_ptr(), name.as_ptr())?;
            Ok(call::getattr(self.base.as_ptr(), name.as_ptr())?.is(ours.as_ptr()))
        };
        let plain = ["recv", "recv_into", "send", "fileno", "gettimeout"]
            .into_iter()
            .map(same)
            .all(|same| {
                same.unwrap_or_else(|Raised| {
                    error::clear();
                    false
                })
            });
        if plain {
            // SAFETY: as above; the lookups gave it a version.
            self.plain_version
                .set(unsafe { (*self.socket.as_ptr().cast::<c::PyTypeObject>()).tp_version_tag });
        }
        plain
    }
}

/// The descriptor of a plain socket; of others only their methods know what it is.
#[inline]
fn plain_fd(socket: Raw) -> PyResult<Option<i32>> {
    if function::table().sockets.is_plain(socket) {
        fileno(socket).map(Some)
    } else {
        Ok(None)
    }
}

/// Which side of its descriptor an operation waits for.
#[inline]
fn side(kind: Kind) -> Side {
    if matches!(kind, Kind::SendAll | Kind::SendTo) {
        Side::Write
    } else {
        Side::Read
    }
}

// ---- start, wait, end ----------------------------------------------------------------------------

#[inline]
pub(super) fn start(this: &Operation) -> PyResult<Step> {
    let (Some(event_loop), Some(socket)) = (this.native_loop(), this.first.get()) else {
        return Err(error::system_error("a socket operation without a loop"));
    };
    let fd = plain_fd(socket.as_ptr())?;
    if fd.is_none() {
        call::call1(function::table().check_ssl_socket.as_ptr(), socket.as_ptr())?;
    }
    if event_loop.is_debug() {
        check_non_blocking(socket.as_ptr())?;
    }
    match attempt(this, event_loop, &socket, fd)? {
        Some(value) => Ok(Step::Done(value)),
        None => wait(this, event_loop, &socket, fd),
    }
}

#[cold]
fn check_non_blocking(socket: Raw) -> PyResult<()> {
    let timeout = call::call_method(call::interned("gettimeout")?.as_ptr(), &[socket], None)?;
    if call::equal(timeout.as_ptr(), call::int(0)?.as_ptr())? {
        Ok(())
    } else {
        Err(value_error("the socket must be non-blocking"))
    }
}

/// Waits for the descriptor with a future of the loop.
#[inline]
fn wait(this: &Operation, event_loop: &EventLoop, socket: &Obj, plain_fd: Option<i32>) -> PyResult<Step> {
    let future = Future::create(event_loop)?;
    let fd = match plain_fd {
        Some(fd) => fd,
        None if this.kind.get() == Kind::Accept => this.fd.get(),
        None => fileno(socket.as_ptr())?,
    };
    let plain = plain_fd.is_some();
    let known = plain && event_loop.known_sockets(|known| known.knows(fd, socket.as_ptr()));
    if !known || event_loop.is_used_otherwise(fd) {
        ensure_no_transport(event_loop, fd)?;
    }
    if fd < 0 {
        return Err(value_error(&format!("Invalid file descriptor: {fd}")));
    }
    if plain && !known {
        // SAFETY: A1; the one weak reference without a callback that all its users share.
        let reference = owned(unsafe { c::PyWeakref_NewRef(socket.as_ptr(), ptr::null_mut()) })?;
        drop(event_loop.known_sockets(|known| known.learn(fd, reference)));
    }
    event_loop.check_open()?;
    event_loop.check_fork()?;
    let previous = event_loop.with_registry(|registry| match side(this.kind.get()) {
        Side::Read if known => registry.set_reader(fd, this.obj()),
        Side::Read => registry.set_reader_verified(fd, this.obj()),
        Side::Write => registry.set_writer_verified(fd, this.obj()),
    });
    match previous {
        Some(Ok(previous)) => retire(previous),
        Some(Err((error, owner))) => {
            drop(owner);
            return Err(os_error(&error));
        }
        None => {}
    }
    this.fd.set(fd);
    this.since.set(event_loop.inner().last_poll_ticks.get());
    Ok(this.block_on(event_loop, future))
}

impl EventLoop {
    /// Does anything but a socket operation wait for `fd`? Then a transport may be what has it.
    #[inline]
    fn is_used_otherwise(&self, fd: i32) -> bool {
        let used = self.with_registry(|registry| {
            let is_other = |owner: Option<&Obj>| owner.is_some_and(|owner| !Operation::check_exact(owner.as_ptr()));
            is_other(registry.reader(fd)) || is_other(registry.writer(fd))
        });
        used.unwrap_or(false)
    }
}

/// `loop._ensure_fd_no_transport(fd)`.
#[cold]
fn ensure_no_transport(event_loop: &EventLoop, fd: i32) -> PyResult<()> {
    let name = call::interned("_ensure_fd_no_transport")?;
    if let Some(method) = call::getattr_optional(event_loop.raw(), name.as_ptr())? {
        call::call1(method.as_ptr(), call::int(i64::from(fd))?.as_ptr())?;
    }
    Ok(())
}

/// The kernel says that the descriptor is ready. Only `SystemExit` and `KeyboardInterrupt` come back as errors.
pub(super) fn on_ready(this: &Operation, event_loop: &EventLoop) -> PyResult<()> {
    ready(this, event_loop).or_else(|Raised| report_failure(this, event_loop, &take()))
}

/// What is nobody's result, because the future is done, is reported as the failure of asyncio's callback.
#[cold]
fn report_failure(this: &Operation, event_loop: &EventLoop, exception: &Obj) -> PyResult<()> {
    if error::is_exit(exception.as_ptr()) {
        return Err(restore(exception.clone()));
    }
    let name = match this.kind.get() {
        Kind::RecvInto => "_sock_recv_into",
        Kind::RecvFrom => "_sock_recvfrom",
        Kind::RecvFromInto => "_sock_recvfrom_into",
        Kind::SendAll => "_sock_sendall",
        Kind::SendTo => "_sock_sendto",
        Kind::Accept => "_sock_accept",
        Kind::Recv | Kind::Sleep | Kind::Other => "_sock_recv",
    };
    let function = call::getattr(event_loop.raw(), call::interned(name)?.as_ptr())?;
    let future = this.future().map_or_else(Obj::none, Own::into_obj);
    let (socket, argument) = (this.first.get_or_none(), this.second.get());
    let mut arguments = vec![future.as_ptr(), socket.as_ptr()];
    arguments.extend(argument.as_ref().map(Obj::as_ptr));
    let handle = Handle::create(event_loop, function.as_ptr(), &arguments, context::copy_current()?)?;
    report(event_loop.raw(), handle.raw(), exception)
}

/// One more attempt.
fn ready(this: &Operation, event_loop: &EventLoop) -> PyResult<()> {
    if this.since.get() == event_loop.inner().last_poll_ticks.get() {
        // News from before the attempt that found the socket not ready.
        return Ok(());
    }
    if this.has(NOTIFIED) {
        if this.has(REMINDED) {
            withdraw(this, event_loop, false);
        }
        this.put(REMINDED, true);
        return Ok(());
    }
    let future = this.future().filter(|future| !future.is_done());
    let (Some(future), Some(socket)) = (future, this.first.get()) else {
        withdraw(this, event_loop, false);
        return Ok(());
    };
    // A socket that was closed meanwhile shall say so itself.
    let fd = plain_fd(socket.as_ptr())?.filter(|fd| *fd == this.fd.get());
    if let Some(fd) = fd
        && matches!(this.kind.get(), Kind::Recv | Kind::RecvInto)
        && event_loop.known_sockets(|known| known.expected_len(fd)).is_some()
    {
        this.put(NOTIFIED, true);
        return future.set_result(Obj::none());
    }
    // The socket's own methods may do anything, also to the future: then it refuses what came of the attempt.
    match attempt(this, event_loop, &socket, fd) {
        Ok(None) => Ok(()),
        Ok(Some(value)) => {
            // After the end of a stream there is nothing to wait for, and the kernel would report it at once.
            let goes_on = fd.is_some() && call::is_true(value.as_ptr())?;
            withdraw(this, event_loop, goes_on);
            future.set_result(value)
        }
        Err(Raised) => {
            let exception = take();
            if error::is_exit(exception.as_ptr()) {
                return Err(restore(exception));
            }
            withdraw(this, event_loop, false);
            future.set_exception(exception.as_ptr())
        }
    }
}

/// Resumed because the socket is ready.
pub(super) fn receive(this: &Operation) -> PyResult<Step> {
    this.put(NOTIFIED | REMINDED, false);
    let (Some(event_loop), Some(socket)) = (this.native_loop(), this.first.get()) else {
        return Err(error::system_error("a socket operation without a loop"));
    };
    let fd = plain_fd(socket.as_ptr())?;
    match attempt(this, event_loop, &socket, fd)? {
        Some(value) => {
            // After the end of a stream there is nothing to wait for, and the kernel would report it at once.
            let goes_on = fd.is_some() && call::is_true(value.as_ptr())?;
            withdraw(this, event_loop, goes_on);
            Ok(Step::Done(value))
        }
        // Somebody else was faster.
        None => wait(this, event_loop, &socket, fd),
    }
}

/// Takes the registration back, if it is still this operation's.
#[inline]
fn withdraw(this: &Operation, event_loop: &EventLoop, linger: bool) {
    if event_loop.is_forked() {
        return;
    }
    let fd = this.fd.get();
    let is_this = |owner: Option<&Obj>| owner.is_some_and(|owner| owner.is(this.raw()));
    let owner = event_loop.with_registry(|registry| match side(this.kind.get()) {
        Side::Read if !is_this(registry.reader(fd)) => None,
        Side::Read if linger => registry.linger_reader(fd),
        Side::Read => registry.clear_reader(fd),
        Side::Write if !is_this(registry.writer(fd)) => None,
        Side::Write => registry.clear_writer(fd),
    });
    drop(owner);
}

/// The operation ends while it has a waiter: after its future is done, or because it was thrown at or closed.
#[inline]
pub(super) fn cleanup(this: &Operation) {
    if let Some(event_loop) = this.native_loop() {
        withdraw(this, event_loop, false);
    }
}

// ---- one attempt ---------------------------------------------------------------------------------

/// The result, or `None` if the socket is not ready.
#[inline]
fn attempt(this: &Operation, event_loop: &EventLoop, socket: &Obj, plain_fd: Option<i32>) -> PyResult<Option<Obj>> {
    if let Some(fd) = plain_fd {
        let direct = match this.kind.get() {
            Kind::Recv => recv(this, event_loop, socket, fd)?,
            Kind::RecvInto => recv_into(this, event_loop, fd)?,
            Kind::SendAll => return send_all(this, socket, fd),
            _ => Direct::Unfit,
        };
        match direct {
            Direct::Done(value) => return Ok(Some(value)),
            Direct::NotReady => return Ok(None),
            Direct::Unfit => {}
        }
    } else if this.kind.get() == Kind::SendAll {
        return send_all_by_method(this, socket);
    }
    unless_not_ready(attempt_by_method(this, socket))
}

/// `except (BlockingIOError, InterruptedError)`.
fn unless_not_ready<T>(outcome: PyResult<T>) -> PyResult<Option<T>> {
    // SAFETY: statics of the interpreter.
    let (blocking, interrupted) = unsafe { (c::PyExc_BlockingIOError, c::PyExc_InterruptedError) };
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Raised) if error::matches(blocking) || error::matches(interrupted) => {
            error::clear();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

fn attempt_by_method(this: &Operation, socket: &Obj) -> PyResult<Obj> {
    let socket = socket.as_ptr();
    let again = this.stage.get() == Stage::Suspended;
    let (second, third) = (this.second.get_or_none(), this.third.get());
    let invoke = |name: &str, arguments: &[Raw]| call::call_method(call::interned(name)?.as_ptr(), arguments, None);
    match this.kind.get() {
        Kind::Recv => invoke("recv", &[socket, second.as_ptr()]),
        Kind::RecvInto => invoke("recv_into", &[socket, second.as_ptr()]),
        Kind::RecvFrom => invoke("recvfrom", &[socket, second.as_ptr()]),
        Kind::RecvFromInto => {
            let len = match third {
                Some(len) if call::is_true(len.as_ptr())? => len,
                _ => {
                    let len = len(second.as_ptr())?;
                    this.third.set(len.clone());
                    len
                }
            };
            invoke("recvfrom_into", &[socket, second.as_ptr(), len.as_ptr()])
        }
        Kind::SendTo => {
            let address = third.unwrap_or_else(Obj::none);
            if again {
                let flags = call::int(0)?;
                invoke("sendto", &[socket, second.as_ptr(), flags.as_ptr(), address.as_ptr()])
            } else {
                invoke("sendto", &[socket, second.as_ptr(), address.as_ptr()])
            }
        }
        Kind::Accept => {
            // Asked first, as in the stdlib, and noted for the wait.
            let fd = fileno(socket)?;
            if !again {
                this.fd.set(fd);
            }
            let accepted = invoke("accept", &[socket])?;
            let (connection, address) = pair(accepted.as_ptr())?;
            invoke("setblocking", &[connection.as_ptr(), Obj::bool(false).as_ptr()])?;
            call::tuple(&[connection.as_ptr(), address.as_ptr()])
        }
        Kind::Sleep | Kind::SendAll | Kind::Other => Err(error::system_error("not an attempt of this kind")),
    }
}

/// `len(object)`.
fn len(object: Raw) -> PyResult<Obj> {
    // SAFETY: A1.
    match unsafe { c::PyObject_Size(object) } {
        len if len < 0 => Err(Raised),
        len => call::int(len as i64),
    }
}

/// `first, second = object`.
fn pair(object: Raw) -> PyResult<(Obj, Obj)> {
    // SAFETY: A1.
    let items = owned(unsafe { c::PySequence_Tuple(object) })?;
    match call::tuple_len(items.as_ptr()) {
        2 => {
            let item = |index| Obj::from_borrowed(call::tuple_item(items.as_ptr(), index));
            Ok((item(0), item(1)))
        }
        less @ 0..2 => Err(value_error(&format!(
            "not enough values to unpack (expected 2, got {less})"
        ))),
        _ => Err(value_error("too many values to unpack (expected 2)")),
    }
}

#[inline]
fn fileno(socket: Raw) -> PyResult<i32> {
    let fd = call::call_method(names::fileno(), &[socket], None)?;
    let fd = call::as_i64(fd.as_ptr())?;
    i32::try_from(fd).map_err(|_| value_error(&format!("Invalid file descriptor: {fd}")))
}

// ---- directly ------------------------------------------------------------------------------------

/// What came of going to the kernel directly.
enum Direct {
    Done(Obj),
    NotReady,
    /// The arguments are unusual; the socket's own method knows what to do or say.
    Unfit,
}

#[inline]
fn direct<T>(outcome: std::io::Result<T>, done: impl FnOnce(T) -> PyResult<Obj>) -> PyResult<Direct> {
    match outcome {
        Ok(value) => done(value).map(Direct::Done),
        Err(error) => {
            not_ready(&error)?;
            Ok(Direct::NotReady)
        }
    }
}

/// Raises the error, if it is another one than "not ready".
#[inline]
fn not_ready(error: &std::io::Error) -> PyResult<()> {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(()),
        _ => Err(os_error(error)),
    }
}

#[inline]
fn recv(this: &Operation, event_loop: &EventLoop, socket: &Obj, fd: i32) -> PyResult<Direct> {
    let Some(len) = plain_len(this.second.ptr()) else {
        return Ok(Direct::Unfit);
    };
    let expected = event_loop.known_sockets(|known| {
        let expected = known.expected_len(fd)?;
        known.knows(fd, socket.as_ptr()).then_some(expected)
    });
    if let Some(expected) = expected {
        return recv_much(event_loop, fd, expected, len);
    }
    let mut buffer = event_loop.take_receive_buffer();
    if len > buffer.len() && !reactor::sockets::is_stream(fd) {
        // Less than asked for could be less than the datagram.
        event_loop.return_receive_buffer(buffer);
        return Ok(Direct::Unfit);
    }
    let len = len.min(buffer.len());
    let received = reactor::sockets::recv(fd, &mut buffer[..len]);
    let outcome = direct(received, |received| {
        event_loop.known_sockets(|known| known.note_received(fd, received));
        bytes(&buffer[..received])
    });
    event_loop.return_receive_buffer(buffer);
    outcome
}

/// Receives from a stream into the memory of the result, about as much as came last; if there is more, that too. By one
/// call: an error that a second one took, which the kernel tells once, would be nobody's.
///
/// The memory is used again when the program has let go of what it read, as with streams: fresh memory for 100 KiB at a
/// time is given back to the system and faulted in again, and not in the processor's cache.
fn recv_much(event_loop: &EventLoop, fd: i32, expected: usize, len: usize) -> PyResult<Direct> {
    let mut room = Room::take(expected.min(ROOM_LEN_MAX))?;
    let memory = room.memory();
    let most = memory.len().min(len);
    let mut buffer = event_loop.take_receive_buffer();
    let more = (len - most).min(buffer.len());
    let received = if more == 0 {
        reactor::sockets::recv(fd, &mut memory[..most])
    } else {
        reactor::sockets::recv_into_two(fd, &mut memory[..most], &mut buffer[..more])
    };
    let joined = match &received {
        Ok(received) if *received > most => Some(joined(&memory[..most], &buffer[..received - most])),
        _ => None,
    };
    event_loop.return_receive_buffer(buffer);
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            room.put_back();
            not_ready(&error)?;
            return Ok(Direct::NotReady);
        }
    };
    event_loop.known_sockets(|known| known.note_received(fd, received));
    if let Some(joined) = joined {
        room.put_back();
        return joined.map(Direct::Done);
    }
    let (data, capacity) = room.fill(received)?;
    if let Some(capacity) = capacity {
        Room::lend(data.clone(), capacity);
    }
    Ok(Direct::Done(data))
}

/// What one receive brought into two places.
fn joined(first: &[MaybeUninit<u8>], rest: &[MaybeUninit<u8>]) -> PyResult<Obj> {
    let len = first.len() + rest.len();
    // SAFETY: A1; the object is filled before anybody sees it.
    let object = owned(unsafe { c::PyBytes_FromStringAndSize(ptr::null(), len as isize) })?;
    // SAFETY: it has that much memory, and nobody else refers to it.
    let memory = unsafe { std::slice::from_raw_parts_mut(c::PyBytes_AsString(object.as_ptr()).cast(), len) };
    memory[..first.len()].copy_from_slice(first);
    memory[first.len()..].copy_from_slice(rest);
    Ok(object)
}

/// A positive int, not of a subclass.
#[inline]
fn plain_len(len: Raw) -> Option<usize> {
    if object::type_of(len) != &raw mut c::PyLong_Type {
        return None;
    }
    let mut overflow = 0;
    // SAFETY: A1; an int.
    let len = unsafe { c::PyLong_AsLongAndOverflow(len, &raw mut overflow) };
    if overflow == 0 && len > 0 {
        Some(len as usize)
    } else {
        None
    }
}

/// Bytes of the first elements, which a receive has written.
#[inline]
fn bytes(received: &[MaybeUninit<u8>]) -> PyResult<Obj> {
    // SAFETY: A1; copies that many bytes.
    owned(unsafe { c::PyBytes_FromStringAndSize(received.as_ptr().cast(), received.len() as isize) })
}

/// A borrowed buffer of a Python object, given back at the end.
struct Buffer(c::Py_buffer);

impl Buffer {
    /// `None` if the object has no such buffer.
    fn of(object: Raw, flags: std::ffi::c_int) -> Option<Buffer> {
        let mut buffer = MaybeUninit::<c::Py_buffer>::uninit();
        // SAFETY: A1; filled in on success.
        if unsafe { c::PyObject_GetBuffer(object, buffer.as_mut_ptr(), flags) } < 0 {
            error::clear();
            return None;
        }
        // SAFETY: success.
        Some(Buffer(unsafe { buffer.assume_init() }))
    }

    fn len(&self) -> usize {
        self.0.len as usize
    }

    /// Its bytes. Other threads may write to them at any time, as with every buffer in Python, and so could the
    /// kernel at the system call this is for: nobody looks at them here.
    fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: contiguous, of that length, and exported until it is released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast::<u8>(), self.len()) }
    }

    /// The same for a writable one.
    fn bytes_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        if self.0.len == 0 {
            return &mut [];
        }
        // SAFETY: as above; asked for as writable.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast::<MaybeUninit<u8>>(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: A1; got by `of`.
        unsafe { c::PyBuffer_Release(&raw mut self.0) };
    }
}

fn recv_into(this: &Operation, event_loop: &EventLoop, fd: i32) -> PyResult<Direct> {
    let Some(mut buffer) = Buffer::of(this.second.ptr(), c::PyBUF_WRITABLE) else {
        return Ok(Direct::Unfit);
    };
    if buffer.len() == 0 {
        return Ok(Direct::Unfit);
    }
    direct(reactor::sockets::recv(fd, buffer.bytes_mut()), |received| {
        event_loop.known_sockets(|known| known.note_received(fd, received));
        call::int(received as i64)
    })
}

/// Sends what is left; the first time it is all.
#[inline]
fn send_all(this: &Operation, socket: &Obj, fd: i32) -> PyResult<Option<Obj>> {
    let Some(buffer) = Buffer::of(this.second.ptr(), c::PyBUF_SIMPLE) else {
        return send_all_by_method(this, socket);
    };
    let start = this.progress.get().min(buffer.len());
    let sent = match reactor::sockets::send(fd, &buffer.bytes()[start..]) {
        Ok(sent) => start + sent,
        Err(error) => {
            not_ready(&error)?;
            start
        }
    };
    // Nothing at all is sent by one call, too.
    if sent == buffer.len() {
        return Ok(Some(Obj::none()));
    }
    drop(buffer);
    note_sent(this, sent)
}

/// With `send` of a socket of another kind, or with data that is no plain buffer.
fn send_all_by_method(this: &Operation, socket: &Obj) -> PyResult<Option<Obj>> {
    let data = this.second.get_or_none();
    let again = this.stage.get() == Stage::Suspended;
    let start = this.progress.get();
    // The first time the data as it is, then views of what is left.
    let rest = if again {
        // SAFETY: A1.
        owned(unsafe { c::PySequence_GetSlice(data.as_ptr(), start as isize, isize::MAX) })?
    } else {
        data.clone()
    };
    let name = call::interned("send")?;
    let sent = unless_not_ready(call::call_method(
        name.as_ptr(),
        &[socket.as_ptr(), rest.as_ptr()],
        None,
    ))?;
    let total = match &sent {
        None => start,
        Some(sent) => start + call::as_i64(sent.as_ptr())?.max(0) as usize,
    };
    drop((sent, rest));
    // SAFETY: A1.
    let len = unsafe { c::PyObject_Size(data.as_ptr()) };
    if len < 0 {
        return Err(Raised);
    }
    if total == len as usize {
        return Ok(Some(Obj::none()));
    }
    note_sent(this, total)
}

/// Goes on later: from now on with a view, so that the data cannot be resized meanwhile.
#[cold]
fn note_sent(this: &Operation, sent: usize) -> PyResult<Option<Obj>> {
    this.progress.set(sent);
    if this.stage.get() != Stage::Suspended {
        let data = this.second.get_or_none();
        // SAFETY: A1.
        this.second
            .set(owned(unsafe { c::PyMemoryView_FromObject(data.as_ptr()) })?);
    }
    Ok(None)
}
