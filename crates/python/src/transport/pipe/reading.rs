//! `ReadPipeTransport`: receiving from a pipe, a socket, a terminal. The bytes go the way of `receiving.rs`.

// What CPython calls has one shape, also where nothing can fail.
#![allow(clippy::unnecessary_wraps)]

use super::{CLOSING, READING};
use super::{FIFO, KEEPS_REST, Parameters, Pipe, py_call_connection_lost, py_set_protocol};
use crate::event_loop::{EventLoop, io::Side};
use crate::ffi::error::{PyResult, os_error_object};
use crate::ffi::trampoline::{self, noargs, onearg, property, unary_slot};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Raised, Raw, Slot, args, c, call};
use crate::state::{names, state};
use crate::transport::endpoint::{Core, Endpoint};
use crate::transport::lifetime::{self, Lifetime};
use crate::transport::receiving::{After, Receiver};
use crate::transport::surface::{
    py_get_protocol, py_is_closing, py_is_reading, py_pause_reading, py_read_ready, py_resume_reading,
    py_start_reading, replace_file, show_closing, show_dict, show_fd, show_file, show_loop, show_paused,
};
use crate::transport::{name_of_start_reading, read_transport};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io::{self, ErrorKind};
use std::mem::{MaybeUninit, offset_of};
use std::ops::Deref;

const REFUSED: &str = "Pipe transport is for pipes/sockets only.";

#[repr(C)]
pub(crate) struct ReadPipe {
    head: c::PyObject,
    /// `_extra`.
    base: [Slot; 1],
    core: Core,
    expected_len: Cell<u32>,
}

// SAFETY: repr(C); starts with the layout of its Python base class, which begins with the object header; every field is
// valid when zeroed.
unsafe impl Native for ReadPipe {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.read_pipe()
    }
}

impl Deref for ReadPipe {
    type Target = Core;
    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Lifetime for ReadPipe {
    fn for_each_slot(&self, look: &mut dyn FnMut(&Slot)) {
        self.base.iter().for_each(look);
    }
}

impl Endpoint for ReadPipe {
    #[inline]
    fn handle_side(&self, event_loop: &EventLoop, _side: Side) -> PyResult<()> {
        self.receive_some(event_loop)
    }

    fn unsent_len(&self) -> usize {
        0
    }

    #[cold]
    fn end_with(&self, exception: &Obj, message: &str) -> PyResult<()> {
        self.fatal_error(exception, message, false)
    }
}

impl Pipe for ReadPipe {
    fn extra(&self) -> &Slot {
        &self.base[0]
    }

    fn clear_queue(&self) {}
}

impl Receiver for ReadPipe {
    #[inline]
    fn expected_len(&self) -> &Cell<u32> {
        &self.expected_len
    }

    #[inline]
    fn piece_len_max(&self) -> usize {
        if self.has(FIFO) {
            reactor::files::packet_len_max()
        } else if self.has(KEEPS_REST) {
            0
        } else {
            usize::MAX
        }
    }

    #[inline]
    fn receive_into(&self, memory: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        reactor::files::read(self.live_fd(), memory)
    }

    #[inline]
    fn goes_on(&self) -> bool {
        self.has(READING)
    }

    #[cold]
    fn end_of_stream(&self) -> PyResult<After> {
        let Some(event_loop) = self.event_loop() else {
            return Ok(After::Done);
        };
        if event_loop.is_debug() {
            self.log("info", "%r was closed by peer", &[], None)?;
        }
        self.put(CLOSING, true);
        let eof_received = call::getattr(self.protocol.get_or_none().as_ptr(), names::eof_received())?;
        self.unregister(Side::Read);
        self.call_soon_function(&event_loop, eof_received.as_ptr(), &[])?;
        self.end_soon(None)?;
        Ok(After::Done)
    }

    #[cold]
    fn receive_failed(&self, error: &io::Error) -> PyResult<After> {
        if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            // What reading from a terminal answers whose other end is gone.
            let usual = error.raw_os_error() == Some(libc::EIO);
            self.fatal_error(&os_error_object(error), "Fatal read error on pipe transport", usual)?;
        }
        Ok(After::Done)
    }

    /// The loop reports it; the pipe goes on.
    #[cold]
    fn data_received_failed(&self) -> PyResult<After> {
        Err(Raised)
    }
}

fn py_close(this: &ReadPipe) -> PyResult<()> {
    if this.has(CLOSING) { Ok(()) } else { this.end(None) }
}

fn py_close_with(this: &ReadPipe, exception: Raw) -> PyResult<()> {
    this.end(Some(&Obj::from_borrowed(exception)).filter(|exception| !exception.is_none()))
}

fn py_repr(this: &ReadPipe) -> PyResult<Obj> {
    call::string(&format!("{}>", this.repr_with(READING)?))
}

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let given = Parameters::bind(args, "ReadPipeTransport.__init__")?;
            // SAFETY: tp_init's receiver.
            let this = unsafe { &*slf.cast::<ReadPipe>() };
            let (event_loop, _) = this.init_pipe(&given, REFUSED)?;
            this.schedule_start(event_loop, None, Some(name_of_start_reading()), given.waiter)
        })
    })
}

pub(crate) fn build_type(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.ReadPipeTransport",
        c"ReadPipeTransport(loop, pipe, protocol, waiter=None, extra=None)\n--\n\n\
          The reading end of a pipe (asyncio.ReadTransport).",
        size_of::<ReadPipe>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    lifetime::complete::<ReadPipe>(&mut spec, &[read_transport()], offset_of!(ReadPipe, core))?;
    spec.slots.extend([
        (c::Py_tp_init, init as *mut c_void),
        unary_slot!(c::Py_tp_repr, ReadPipe, py_repr),
    ]);
    add_surface(&mut spec);
    spec.build(module)
}

#[rustfmt::skip]
fn add_surface(spec: &mut TypeSpec) {
    type T = ReadPipe;
    spec.methods = vec![
        noargs!(c"close", T, py_close, c"close($self, /)\n--\n\nClose the pipe."),
        noargs!(c"is_closing", T, py_is_closing, c"is_closing($self, /)\n--\n\nTrue if the transport is closing or closed."),
        onearg!(c"set_protocol", T, py_set_protocol, c"set_protocol($self, protocol, /)\n--\n\nSet a new protocol."),
        noargs!(c"get_protocol", T, py_get_protocol, c"get_protocol($self, /)\n--\n\nThe current protocol."),
        noargs!(c"pause_reading", T, py_pause_reading, c"pause_reading($self, /)\n--\n\nReceive nothing until resume_reading()."),
        noargs!(c"resume_reading", T, py_resume_reading, c"resume_reading($self, /)\n--\n\nReceive again."),
        noargs!(c"_start_reading", T, py_start_reading, c"_start_reading($self, /)\n--\n\nReceive from now on, unless paused."),
        noargs!(c"_read_ready", T, py_read_ready, c"_read_ready($self, /)\n--\n\nReceive what there is."),
        onearg!(c"_close", T, py_close_with, c"_close($self, exc, /)\n--\n\nClose because of an exception or None."),
        onearg!(c"_call_connection_lost", T, py_call_connection_lost, c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, then let everything go."),
    ];
    if cfg!(Py_3_12) {
        spec.methods.push(noargs!(c"is_reading", T, py_is_reading, c"is_reading($self, /)\n--\n\nTrue if data may be received."));
    }
    spec.properties = vec![
        property!(c"_loop", T, show_loop),
        property!(c"_pipe", T, show_file, replace_file),
        property!(c"_fileno", T, show_fd),
        property!(c"_protocol", T, py_get_protocol),
        property!(c"_closing", T, show_closing),
        property!(c"_paused", T, show_paused),
        property!(c"__dict__", T, show_dict),
    ];
}
