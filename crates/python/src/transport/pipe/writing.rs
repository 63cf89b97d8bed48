//! `WritePipeTransport`: sending into a pipe, a socket, a terminal.
//!
//! Each write is a `write(2)` at once, unless something is queued: docs/internals/datagrams-and-pipes.md says why they are
//! not joined as a stream socket's are.
//!
//! Invariant W1: `queue` is borrowed only by code that runs no Python (`with_queue`); between two events it holds data
//! exactly while `WRITING` is set.

// What CPython calls has one shape, also where nothing can fail.
#![allow(clippy::unnecessary_wraps)]

use super::{CLOSING, LOSS_DUE, Parameters, Pipe, WRITING, py_call_connection_lost, py_set_protocol};
use crate::event_loop::{EventLoop, io::Side};
use crate::ffi::error::{self, PyResult, os_error_object, raise};
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Raised, Raw, Slot, args, c, call};
use crate::state::state;
use crate::transport::buffer::{self, Bytes};
use crate::transport::endpoint::{Core, Endpoint};
use crate::transport::flow::Watermarks;
use crate::transport::lifetime::{self, Lifetime};
use crate::transport::surface::{
    py_get_protocol, py_get_write_buffer_limits, py_get_write_buffer_size, py_is_closing, py_read_ready,
    py_set_write_buffer_limits, py_start_reading, py_write_ready, replace_file, show_closing, show_conn_lost,
    show_dict, show_fd, show_file, show_high_water, show_loop, show_low_water, show_protocol_paused,
};
use crate::transport::{flow_control_mixin, name_of_start_reading};
use reactor::files::Kind;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::offset_of;
use std::ops::Deref;
use std::ptr;
use wire::WriteQueue;

const REFUSED: &str = "Pipe transport is only for pipes, sockets and character devices";

/// How many pieces one system call gets.
const PIECES_MAX: usize = 64;

/// `constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

type Queue = WriteQueue<Bytes>;

#[repr(C)]
pub(crate) struct WritePipe {
    head: c::PyObject,
    /// The first is `_extra`; the others have properties of ours in front of them and stay empty.
    base: [Slot; 5],
    core: Core,
    queue: UnsafeCell<Queue>,
}

// SAFETY: repr(C); starts with the layout of its Python base class, which begins with the object header; every field but
// the queue is valid when zeroed, and `make_fields` makes that whole.
unsafe impl Native for WritePipe {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.write_pipe()
    }
}

impl Deref for WritePipe {
    type Target = Core;
    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Lifetime for WritePipe {
    fn for_each_slot(&self, look: &mut dyn FnMut(&Slot)) {
        self.base.iter().for_each(look);
    }

    unsafe fn make_fields(this: *mut Self) {
        // SAFETY: as the trait says.
        unsafe { (&raw mut (*this).queue).write(UnsafeCell::default()) };
    }

    unsafe fn drop_fields(&self) {
        // SAFETY: as the trait says; dropping bytes runs no Python code.
        unsafe { ptr::drop_in_place(self.queue.get()) };
    }
}

impl Endpoint for WritePipe {
    fn handle_side(&self, event_loop: &EventLoop, side: Side) -> PyResult<()> {
        match side {
            Side::Read => self.reader_is_gone(event_loop),
            Side::Write => self.write_ready(),
        }
    }

    #[inline]
    fn unsent_len(&self) -> usize {
        self.with_queue(|queue| queue.len())
    }

    #[cold]
    fn end_with(&self, exception: &Obj, message: &str) -> PyResult<()> {
        self.fatal(exception, message)
    }
}

impl Pipe for WritePipe {
    fn extra(&self) -> &Slot {
        &self.base[0]
    }

    fn clear_queue(&self) {
        self.with_queue(Queue::clear);
    }
}

impl WritePipe {
    /// Runs `change` on the queue; it must not run Python code.
    #[inline]
    fn with_queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        // SAFETY: W1; `change` ends before anything else can borrow it.
        change(unsafe { &mut *self.queue.get() })
    }

    fn has_unsent(&self) -> bool {
        self.unsent_len() != 0
    }

    /// Nobody reads any more.
    #[cold]
    fn reader_is_gone(&self, event_loop: &EventLoop) -> PyResult<()> {
        if event_loop.is_debug() {
            self.log("info", "%r was closed by peer", &[], None)?;
        }
        if !self.has_unsent() {
            return self.end(None);
        }
        // SAFETY: a static of the interpreter.
        let exception = call::call0(unsafe { c::PyExc_BrokenPipeError })?;
        self.end(Some(&exception))
    }

    fn write(&self, data: Raw) -> PyResult<()> {
        if let Some(bytes) = Bytes::of(data) {
            let len = bytes.as_ref().len();
            if !self.accepts(len)? {
                return Ok(());
            }
            if self.has_unsent() {
                self.with_queue(|queue| queue.push(bytes));
                return self.maybe_pause_protocol();
            }
            return match self.send(bytes.as_ref()) {
                Ok(sent) if sent == len => Ok(()),
                Ok(sent) => {
                    self.with_queue(|queue| {
                        queue.push(bytes);
                        queue.sent(sent);
                    });
                    self.blocked()
                }
                Err(error) => self.write_failed(&os_error_object(&error)),
            };
        }
        self.write_buffer(data)
    }

    /// Anything but plain `bytes` may change after we return, so what is queued is a copy.
    fn write_buffer(&self, data: Raw) -> PyResult<()> {
        if !buffer::is_writable_type(data) {
            // SAFETY: a static of the interpreter.
            return Err(raise(unsafe { c::PyExc_AssertionError }, &call::repr(data)?));
        }
        if !self.accepts(usize::from(call::is_true(data)?))? {
            return Ok(());
        }
        let has_unsent = self.has_unsent();
        let outcome = buffer::with_bytes(data, |bytes| {
            let sent = if has_unsent { 0 } else { self.send(bytes)? };
            self.with_queue(|queue| queue.push_copy(&bytes[sent..]));
            Ok(sent == bytes.len())
        });
        match outcome {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) if has_unsent => self.maybe_pause_protocol(),
            Ok(Ok(false)) => self.blocked(),
            Ok(Err(error)) => self.write_failed(&os_error_object(&error)),
            Err(Raised) => {
                let exception = error::take();
                self.write_failed(&exception)
            }
        }
    }

    /// Is there anything to write, and somebody to write to?
    #[inline]
    fn accepts(&self, len: usize) -> PyResult<bool> {
        if len == 0 {
            return Ok(false);
        }
        if self.conn_lost.get() != 0 || self.has(CLOSING) || !self.file.is_set() {
            return self.count_lost_write();
        }
        Ok(true)
    }

    #[cold]
    fn count_lost_write(&self) -> PyResult<bool> {
        if self.conn_lost.get() >= SILENT_WRITES_AFTER_LOSS {
            let logger = call::import_from("asyncio.log", "logger")?;
            let text = call::string("pipe closed by peer or os.write(pipe, data) raised exception.")?;
            call::call_method(
                call::interned("warning")?.as_ptr(),
                &[logger.as_ptr(), text.as_ptr()],
                None,
            )?;
        }
        self.conn_lost.set(self.conn_lost.get().saturating_add(1));
        Ok(false)
    }

    /// One `write`; what would block writes nothing.
    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        nothing_if_blocked(reactor::files::write(self.live_fd(), bytes))
    }

    /// The kernel took less than all of what is queued now.
    fn blocked(&self) -> PyResult<()> {
        if let Some(event_loop) = self.event_loop()
            && self.register(&event_loop, Side::Write).is_err()
        {
            // The kernel cannot watch one more descriptor: nobody would ever send the rest.
            return self.write_failed(&error::take());
        }
        self.maybe_pause_protocol()
    }

    #[cold]
    fn write_failed(&self, exception: &Obj) -> PyResult<()> {
        self.conn_lost.set(self.conn_lost.get().saturating_add(1));
        self.fatal(exception, "Fatal write error on pipe transport")
    }

    #[cold]
    fn fatal(&self, exception: &Obj, message: &str) -> PyResult<()> {
        // SAFETY: a static of the interpreter.
        let usual = error::is_instance_of(exception.as_ptr(), unsafe { c::PyExc_OSError });
        self.fatal_error(exception, message, usual)
    }

    /// The kernel takes data again.
    fn write_ready(&self) -> PyResult<()> {
        if let Err(error) = self.send_queued() {
            let exception = os_error_object(&error);
            self.clear_queue();
            self.unregister(Side::Write);
            return self.write_failed(&exception);
        }
        if self.has_unsent() {
            return Ok(());
        }
        self.unregister(Side::Write);
        // May write more, or close.
        self.maybe_resume_protocol()?;
        if self.has(CLOSING) && !self.has(LOSS_DUE) && !self.has_unsent() {
            self.unregister(Side::Read);
            return self.call_connection_lost(Obj::none().as_ptr());
        }
        Ok(())
    }

    fn send_queued(&self) -> io::Result<()> {
        let fd = self.live_fd();
        self.with_queue(|queue| {
            loop {
                let (answer, offered) = if let Some(bytes) = queue.single() {
                    (reactor::files::write(fd, bytes), bytes.len())
                } else {
                    let mut slices = [IoSlice::new(&[]); PIECES_MAX];
                    let count = queue.gather(&mut slices);
                    let slices = &slices[..count];
                    let offered = slices.iter().map(|slice| slice.len()).sum();
                    (reactor::files::writev(fd, slices), offered)
                };
                let sent = nothing_if_blocked(answer)?;
                queue.sent(sent);
                if sent < offered || queue.is_empty() {
                    return Ok(());
                }
            }
        })
    }

    fn write_eof(&self) -> PyResult<()> {
        if self.has(CLOSING) || !self.file.is_set() {
            return Ok(());
        }
        self.put(CLOSING, true);
        if self.has_unsent() { Ok(()) } else { self.end_soon(None) }
    }
}

#[inline]
fn nothing_if_blocked(answer: io::Result<usize>) -> io::Result<usize> {
    match answer {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        answer => answer,
    }
}

fn py_write(this: &WritePipe, data: Raw) -> PyResult<()> {
    this.write(data)
}

fn py_write_eof(this: &WritePipe) -> PyResult<()> {
    this.write_eof()
}

fn py_can_write_eof(_this: &WritePipe) -> PyResult<bool> {
    Ok(true)
}

fn py_abort(this: &WritePipe) -> PyResult<()> {
    this.end(None)
}

fn py_close_with(this: &WritePipe, args: crate::ffi::Args<'_>) -> PyResult<()> {
    let [exception] = args.bind("_close", &[c"exc"], 1, 0)?;
    let exception = crate::transport::surface::given(exception).map(Obj::from_borrowed);
    this.end(exception.as_ref())
}

fn py_repr(this: &WritePipe) -> PyResult<Obj> {
    let mut text = this.repr_with(WRITING)?;
    if this.event_loop().is_some_and(|event_loop| !event_loop.is_closed()) {
        let _ = write!(text, " bufsize={}", this.unsent_len());
    }
    text.push('>');
    call::string(&text)
}

/// What is unsent, in one piece.
fn show_buffer(this: &WritePipe) -> PyResult<Obj> {
    let all: Vec<u8> = this.with_queue(|queue| queue.pieces().flatten().copied().collect());
    // SAFETY: A1; as long as `all`.
    error::owned(unsafe { c::PyByteArray_FromStringAndSize(all.as_ptr().cast(), all.len() as isize) })
}

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let given = Parameters::bind(args, "WritePipeTransport.__init__")?;
            // SAFETY: tp_init's receiver.
            let this = unsafe { &*slf.cast::<WritePipe>() };
            let (event_loop, kind) = this.init_pipe(&given, REFUSED)?;
            // A pipe that nobody reads is readable at its writing end; so is a socket. A device has its own mind.
            let watch = (kind != Kind::Device).then(name_of_start_reading);
            this.schedule_start(event_loop, None, watch, given.waiter)
        })
    })
}

pub(crate) fn build_type(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.WritePipeTransport",
        c"WritePipeTransport(loop, pipe, protocol, waiter=None, extra=None)\n--\n\n\
          The writing end of a pipe (asyncio.WriteTransport).",
        size_of::<WritePipe>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    lifetime::complete::<WritePipe>(&mut spec, &[flow_control_mixin()], offset_of!(WritePipe, core))?;
    spec.slots.extend([
        (c::Py_tp_init, init as *mut c_void),
        unary_slot!(c::Py_tp_repr, WritePipe, py_repr),
    ]);
    add_surface(&mut spec);
    spec.build(module)
}

#[rustfmt::skip]
fn add_surface(spec: &mut TypeSpec) {
    type T = WritePipe;
    spec.methods = vec![
        noargs!(c"close", T, py_write_eof, c"close($self, /)\n--\n\nSend what is buffered, then close the pipe."),
        noargs!(c"is_closing", T, py_is_closing, c"is_closing($self, /)\n--\n\nTrue if the transport is closing or closed."),
        onearg!(c"set_protocol", T, py_set_protocol, c"set_protocol($self, protocol, /)\n--\n\nSet a new protocol."),
        noargs!(c"get_protocol", T, py_get_protocol, c"get_protocol($self, /)\n--\n\nThe current protocol."),
        noargs!(c"abort", T, py_abort, c"abort($self, /)\n--\n\nClose now; what is buffered is lost."),
        noargs!(c"can_write_eof", T, py_can_write_eof, c"can_write_eof($self, /)\n--\n\nTrue: write_eof() is supported."),
        noargs!(c"get_write_buffer_size", T, py_get_write_buffer_size, c"get_write_buffer_size($self, /)\n--\n\nHow many bytes the kernel has not taken yet."),
        noargs!(c"get_write_buffer_limits", T, py_get_write_buffer_limits, c"get_write_buffer_limits($self, /)\n--\n\nThe (low, high) watermarks."),
        fastcall!(c"set_write_buffer_limits", T, py_set_write_buffer_limits, c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSet the watermarks of pause_writing() and resume_writing()."),
        onearg!(c"write", T, py_write, c"write($self, data, /)\n--\n\nSend bytes without waiting; a changeable buffer is copied."),
        noargs!(c"write_eof", T, py_write_eof, c"write_eof($self, /)\n--\n\nSend what is buffered, then close the pipe."),
        noargs!(c"_start_reading", T, py_start_reading, c"_start_reading($self, /)\n--\n\nWatch for the end of the reader."),
        noargs!(c"_read_ready", T, py_read_ready, c"_read_ready($self, /)\n--\n\nThe reader is gone."),
        noargs!(c"_write_ready", T, py_write_ready, c"_write_ready($self, /)\n--\n\nSend what is buffered."),
        fastcall!(c"_close", T, py_close_with, c"_close($self, /, exc=None)\n--\n\nClose now, because of an exception or None."),
        onearg!(c"_call_connection_lost", T, py_call_connection_lost, c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, then let everything go."),
    ];
    spec.properties = vec![
        property!(c"_loop", T, show_loop),
        property!(c"_pipe", T, show_file, replace_file),
        property!(c"_fileno", T, show_fd),
        property!(c"_protocol", T, py_get_protocol),
        property!(c"_closing", T, show_closing),
        property!(c"_conn_lost", T, show_conn_lost),
        property!(c"_protocol_paused", T, show_protocol_paused),
        property!(c"_low_water", T, show_low_water),
        property!(c"_high_water", T, show_high_water),
        property!(c"_buffer", T, show_buffer),
        property!(c"__dict__", T, show_dict),
    ];
}
