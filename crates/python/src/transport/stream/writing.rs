//! Writing: what goes to the kernel at once, what waits for the end of the turn, and who is told about it.
//!
//! The rules are in `wire::write_queue`. What a protocol writes while an event of its transport is handled goes out when
//! that is over, in one call; of what others write in a turn, the first piece at once and the rest at the end of the turn,
//! or, after a turn that had more than one, all at its end. Where many transports write in quick succession, their writes
//! leave one right after the other (`event_loop::bursts`).
//! Waiting is not visible: whatever could tell the difference to asyncio, which sends in `write()`, flushes first.
//! Outside of the loop's own turn nothing waits, as nobody would flush.

use super::{CLOSING, EOF, EventLoop, FLUSH_DUE, Queue, SEVERAL, Side, StreamTransport};
use crate::ffi::error::{self, PyResult, os_error, os_error_object, owned, runtime_error, type_error};
use crate::ffi::{Native, Obj, Raised, Raw, c, call, object};
use crate::transport::endpoint::Endpoint;
use crate::transport::flow::Watermarks;
use crate::transport::{
    buffer::{self, Bytes},
    set_exception, set_result, settle,
};
use std::io::{self, ErrorKind, IoSlice};
use wire::{Admission, Next};

/// How many pieces one system call gets. More would need more stack, and gain nothing.
const PIECES_MAX: usize = 64;

/// `constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

/// When what is written now leaves, unless it is much.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    AtOnce,
    /// With the event that is being handled.
    WithEvent,
    /// With the turn of the loop.
    WithTurn,
}

/// How sending the queue ended.
enum Sent {
    All,
    Blocked,
    Failed(io::Error),
}

impl StreamTransport {
    /// Runs `change` on the queue; it must not run Python code.
    #[inline]
    pub(super) fn with_queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        // SAFETY: I3; `change` ends before anything else can borrow it.
        change(unsafe { &mut *self.queue.get() })
    }

    #[inline]
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent_len() != 0
    }

    pub(super) fn clear_queue(&self) {
        if self.has_unsent() {
            self.with_queue(Queue::clear);
        }
    }

    #[inline]
    pub(crate) fn write(&self, data: Raw) -> PyResult<()> {
        if let Some(bytes) = Bytes::of(data) {
            let len = bytes.as_ref().len();
            if !self.accepts("write", len)? {
                return Ok(());
            }
            let leaves = self.note_write();
            return match self.with_queue(|queue| queue.admit(len)) {
                Admission::Queue => {
                    self.with_queue(|queue| queue.push(bytes));
                    self.queued(leaves)
                }
                Admission::Send => match self.send(bytes.as_ref()) {
                    Ok(sent) if sent == len => Ok(()),
                    Ok(sent) => {
                        self.with_queue(|queue| {
                            queue.push(bytes);
                            queue.sent(sent);
                        });
                        self.blocked()
                    }
                    Err(error) => self.write_failed(&os_error_object(&error)),
                },
            };
        }
        self.write_buffer(data)
    }

    /// Queues bytes of ours; `write_owned` or the end of the event sends them.
    #[inline]
    pub(crate) fn queue_owned(&self, bytes: Vec<u8>) -> PyResult<()> {
        if self.accepts("write", bytes.len())? {
            self.with_queue(|queue| queue.push_owned(bytes));
        }
        Ok(())
    }

    /// `write` for bytes of ours.
    #[inline]
    pub(crate) fn write_owned(&self, bytes: Vec<u8>) -> PyResult<()> {
        self.queue_owned(bytes)?;
        self.send_owned()
    }

    /// Sees to it that what `queue_owned` queued is sent.
    #[inline]
    pub(crate) fn send_owned(&self) -> PyResult<()> {
        if self.has_unsent() {
            self.queued(self.note_write())
        } else {
            Ok(())
        }
    }

    /// Anything but plain `bytes` may change after we return, so what is queued is a copy.
    fn write_buffer(&self, data: Raw) -> PyResult<()> {
        if !buffer::is_writable_type(data) {
            return Err(wrong_type(data));
        }
        let Some(len) = buffer_len(data)? else {
            // Only the state may refuse it: asyncio's answer to a view that is not contiguous comes from the socket.
            return if self.accepts("write", 1)? {
                self.fatal_buffer_error()
            } else {
                Ok(())
            };
        };
        if !self.accepts("write", len)? {
            return Ok(());
        }
        let leaves = self.note_write();
        let outcome = buffer::with_bytes(data, |bytes| match self.with_queue(|queue| queue.admit(len)) {
            Admission::Queue => {
                self.with_queue(|queue| queue.push_copy(bytes));
                Ok(None)
            }
            Admission::Send => self.send(bytes).map(|sent| {
                self.with_queue(|queue| queue.push_copy(&bytes[sent..]));
                Some(sent == len)
            }),
        })?;
        match outcome {
            Ok(None) => self.queued(leaves),
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => self.blocked(),
            Err(error) => self.write_failed(&os_error_object(&error)),
        }
    }

    #[cold]
    fn fatal_buffer_error(&self) -> PyResult<()> {
        let exception = error::take();
        self.fatal_error(&exception, "Fatal write error on socket transport")
    }

    /// The checks of `write` and `writelines` in asyncio's order. False: there is nothing to do.
    #[inline]
    fn accepts(&self, method: &str, len: usize) -> PyResult<bool> {
        if self.has(EOF) || self.empty_waiter.is_set() {
            return Err(self.refuse(method));
        }
        if len == 0 {
            return Ok(false);
        }
        if self.conn_lost.get() != 0 || !self.file.is_set() {
            return self.count_lost_write();
        }
        Ok(true)
    }

    #[cold]
    fn refuse(&self, method: &str) -> Raised {
        runtime_error(&if self.has(EOF) {
            format!("Cannot call {method}() after write_eof()")
        } else {
            format!("unable to {method}; sendfile is in progress")
        })
    }

    #[cold]
    fn count_lost_write(&self) -> PyResult<bool> {
        if self.conn_lost.get() >= SILENT_WRITES_AFTER_LOSS {
            let logger = call::import_from("asyncio.log", "logger")?;
            let text = call::string("socket.send() raised exception.")?;
            call::call_method(
                call::interned("warning")?.as_ptr(),
                &[logger.as_ptr(), text.as_ptr()],
                None,
            )?;
        }
        self.conn_lost.set(self.conn_lost.get().saturating_add(1));
        Ok(false)
    }

    pub(super) fn writelines(&self, pieces: Raw) -> PyResult<()> {
        if cfg!(not(Py_3_12)) {
            // Up to 3.11 it is join and write.
            let empty = call::call0((&raw mut c::PyBytes_Type).cast())?;
            let joined = call::call_method(call::interned("join")?.as_ptr(), &[empty.as_ptr(), pieces], None)?;
            return self.write(joined.as_ptr());
        }
        if !self.accepts("writelines", usize::from(call::is_true(pieces)?))? {
            return Ok(());
        }
        // SAFETY: A1; any iterable. A tuple of our own: what the views below run may change a list.
        let pieces = owned(unsafe { c::PySequence_Tuple(pieces) })?;
        let count = call::tuple_len(pieces.as_ptr());
        let mut all = Vec::with_capacity(count);
        for index in 0..count {
            let piece = call::tuple_item(pieces.as_ptr(), index);
            if Bytes::of(piece).is_some() {
                all.push(Obj::from_borrowed(piece));
            } else if cfg!(not(Py_3_14)) || call::is_true(piece)? {
                // SAFETY: A1; fails for what has no buffer, in asyncio's words.
                all.push(owned(unsafe { c::PyMemoryView_FromObject(piece) })?);
            }
        }
        if self.conn_lost.get() != 0 {
            // What the views ran has closed us.
            return Ok(());
        }
        for piece in all {
            if let Some(bytes) = Bytes::of(piece.as_ptr()) {
                self.with_queue(|queue| queue.push(bytes));
                continue;
            }
            let push = |bytes: &[u8]| self.with_queue(|queue| queue.push_copy(bytes));
            if buffer::with_bytes(piece.as_ptr(), push).is_err() {
                return self.fatal_buffer_error();
            }
        }
        if self.has_unsent() {
            self.queued(self.note_write())
        } else {
            Ok(())
        }
    }

    /// Of what a turn writes the first piece goes out at once, so that who looks in the same step finds it sent
    /// (uvloop#631). One that is followed by others costs a call more than joining them all: after a turn with
    /// several writes the next such turn's are joined from the first on, until a turn has only one again.
    #[inline]
    fn note_write(&self) -> Leaves {
        if self.is_in_event() {
            return Leaves::WithEvent;
        }
        let Some(event_loop) = EventLoop::running().filter(|event_loop| event_loop.raw() == self.event_loop.ptr())
        else {
            // Nobody would flush.
            return Leaves::AtOnce;
        };
        let turn = event_loop.turn_number();
        if self.write_turn.replace(turn) == turn {
            self.put(SEVERAL, true);
            return Leaves::WithTurn;
        }
        let several = self.has(SEVERAL);
        self.put(SEVERAL, false);
        self.with_queue(|queue| queue.expect_more(several));
        if event_loop.note_writer() || several {
            Leaves::WithTurn
        } else {
            Leaves::AtOnce
        }
    }

    /// Something was queued.
    #[inline]
    fn queued(&self, leaves: Leaves) -> PyResult<()> {
        let next = self.with_queue(|queue| queue.after_queueing(self.flow.get().high_len()));
        match (next, leaves) {
            (Next::FlushLater, Leaves::WithEvent) => Ok(()),
            (Next::FlushLater, Leaves::WithTurn) => {
                if !self.has(FLUSH_DUE)
                    && let Some(event_loop) = EventLoop::running()
                {
                    self.put(FLUSH_DUE, true);
                    event_loop.flush_later(self.own());
                }
                Ok(())
            }
            (Next::FlushLater, Leaves::AtOnce) | (Next::FlushNow, _) => self.flush_now(),
            (Next::Wait, _) => self.maybe_pause_protocol(),
        }
    }

    /// The kernel took less than all of what is queued now.
    fn blocked(&self) -> PyResult<()> {
        self.with_queue(Queue::block);
        if let Some(event_loop) = self.event_loop()
            && self.register(&event_loop, Side::Write).is_err()
        {
            // The kernel cannot watch one more descriptor: nobody would ever send the rest.
            return self.write_failed(&error::take());
        }
        self.maybe_pause_protocol()
    }

    /// At the end of the turn. Only `SystemExit` and `KeyboardInterrupt` come back as errors.
    #[inline]
    pub(crate) fn flush(&self) -> PyResult<()> {
        self.put(FLUSH_DUE, false);
        self.flush_now().or_else(|Raised| self.flush_failed())
    }

    #[cold]
    fn flush_failed(&self) -> PyResult<()> {
        let exception = error::take();
        let is_exit = error::is_exit(exception.as_ptr());
        let raised = error::restore(exception);
        if is_exit {
            return Err(raised);
        }
        error::write_unraisable(self.raw());
        Ok(())
    }

    /// Hands to the kernel what only waits for the end of the turn.
    #[inline]
    pub(super) fn flush_now(&self) -> PyResult<()> {
        if !self.has_unsent() || self.with_queue(|queue| queue.is_blocked()) {
            return Ok(());
        }
        match self.send_queued() {
            Sent::All => Ok(()),
            Sent::Blocked => self.blocked(),
            Sent::Failed(error) => self.write_failed(&os_error_object(&error)),
        }
    }

    /// The same when the connection ends whatever comes of it.
    #[cold]
    pub(super) fn send_regardless(&self) {
        if self.has_unsent() && !self.with_queue(|queue| queue.is_blocked()) {
            let (Sent::All | Sent::Blocked | Sent::Failed(_)) = self.send_queued();
        }
    }

    /// One `send`; what would block sends nothing.
    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        nothing_if_blocked(reactor::sockets::send(self.live_fd(), bytes))
    }

    fn send_queued(&self) -> Sent {
        let fd = self.live_fd();
        self.with_queue(|queue| {
            loop {
                let (answer, offered) = if let Some(bytes) = queue.single() {
                    (reactor::sockets::send(fd, bytes), bytes.len())
                } else {
                    let mut slices = [IoSlice::new(&[]); PIECES_MAX];
                    let count = queue.gather(&mut slices);
                    let slices = &slices[..count];
                    let offered = slices.iter().map(|slice| slice.len()).sum();
                    (reactor::sockets::sendmsg(fd, slices), offered)
                };
                match nothing_if_blocked(answer) {
                    Ok(sent) => {
                        queue.sent(sent);
                        if queue.is_empty() {
                            return Sent::All;
                        }
                        if sent < offered {
                            queue.block();
                            return Sent::Blocked;
                        }
                    }
                    Err(error) => return Sent::Failed(error),
                }
            }
        })
    }

    #[cold]
    fn write_failed(&self, exception: &Obj) -> PyResult<()> {
        self.clear_queue();
        self.unregister(Side::Write);
        let outcome = self.fatal_error(exception, "Fatal write error on socket transport");
        if let Some(waiter) = self.empty_waiter.get() {
            outcome?;
            return settle(&waiter, set_exception(), exception);
        }
        outcome
    }

    /// The kernel takes data again.
    pub(super) fn write_ready(&self) -> PyResult<()> {
        self.with_queue(Queue::unblock);
        if self.has_unsent() {
            match self.send_queued() {
                Sent::All | Sent::Blocked => {}
                Sent::Failed(error) => return self.write_failed(&os_error_object(&error)),
            }
        }
        // May write more, or close.
        self.maybe_resume_protocol()?;
        self.flush_now()?;
        if self.has_unsent() {
            return Ok(());
        }
        self.unregister(Side::Write);
        if let Some(waiter) = self.empty_waiter.get() {
            settle(&waiter, set_result(), &Obj::none())?;
        }
        if self.has(CLOSING) {
            if self.conn_lost.get() == 0 {
                self.conn_lost.set(1);
                return self.call_connection_lost(Obj::none().as_ptr());
            }
        } else if self.has(EOF) && self.shutdown_write().is_err() {
            // The connection is gone already, and this is the first to hear of it.
            return self.write_failed(&error::take());
        }
        Ok(())
    }

    pub(super) fn write_eof(&self) -> PyResult<()> {
        self.flush_now()?;
        if self.has(CLOSING | EOF) {
            return Ok(());
        }
        self.put(EOF, true);
        if self.has_unsent() {
            Ok(())
        } else {
            self.shutdown_write()
        }
    }

    fn shutdown_write(&self) -> PyResult<()> {
        reactor::sockets::shutdown_write(self.live_fd()).map_err(|error| os_error(&error))
    }

    pub(super) fn make_empty_waiter(&self) -> PyResult<Obj> {
        if self.empty_waiter.is_set() {
            return Err(runtime_error("Empty waiter is already set"));
        }
        self.flush_now()?;
        let event_loop = self.event_loop.get_or_none();
        let waiter = call::call_method(call::interned("create_future")?.as_ptr(), &[event_loop.as_ptr()], None)?;
        self.empty_waiter.set(waiter.clone());
        if !self.has_unsent() {
            settle(&waiter, set_result(), &Obj::none())?;
        }
        Ok(waiter)
    }

    /// What is unsent, as the version's own `_buffer` holds it.
    pub(super) fn show_unsent(&self) -> PyResult<Obj> {
        let copies: Vec<Vec<u8>> = self.with_queue(|queue| queue.pieces().map(<[u8]>::to_vec).collect());
        let pieces = call::list()?;
        for copy in &copies {
            // SAFETY: A1; as long as the copy.
            let piece = owned(unsafe { c::PyBytes_FromStringAndSize(copy.as_ptr().cast(), copy.len() as isize) })?;
            call::list_append(&pieces, piece.as_ptr())?;
        }
        if cfg!(Py_3_12) {
            return call::call1(call::import_from("collections", "deque")?.as_ptr(), pieces.as_ptr());
        }
        let all = copies.concat();
        // SAFETY: A1; as long as `all`.
        owned(unsafe { c::PyByteArray_FromStringAndSize(all.as_ptr().cast(), all.len() as isize) })
    }
}

#[inline]
fn nothing_if_blocked(answer: io::Result<usize>) -> io::Result<usize> {
    match answer {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        answer => answer,
    }
}

#[cold]
fn wrong_type(data: Raw) -> Raised {
    let name = object::type_name(data);
    type_error(&if cfg!(Py_3_14) {
        format!("data argument must be a bytes, bytearray, or memoryview object, not '{name}'")
    } else {
        format!("data argument must be a bytes-like object, not '{name}'")
    })
}

/// How many bytes a buffer has. None, with the exception set, if it is not contiguous.
fn buffer_len(data: Raw) -> PyResult<Option<usize>> {
    match buffer::with_bytes(data, <[u8]>::len) {
        Ok(len) => Ok(Some(len)),
        // SAFETY: a static of the interpreter.
        Err(Raised) if error::matches(unsafe { c::PyExc_BufferError }) => Ok(None),
        Err(raised) => Err(raised),
    }
}
