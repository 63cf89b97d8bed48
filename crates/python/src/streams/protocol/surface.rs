//! What Python sees of the protocol.

use super::{DRAIN_HELPER, PLAIN, PROTOCOL, StreamReaderProtocol, new};
use crate::ffi::error::{PyResult, import_error};
use crate::ffi::trampoline::{fastcall, noargs, property};
use crate::ffi::types::{Method, Property, TypeSpec};
use crate::ffi::{Args, Native, Obj, Raw, c, call};
use crate::metaclass;
use crate::operation::function;
use crate::streams::{
    flag_property, late_property, life, only, protocol_class, show_dict, slot_property, stdlib_protocol,
};
use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

fn data_received(this: &StreamReaderProtocol, args: Args<'_>) -> PyResult<()> {
    this.data_received(only(args, "StreamReaderProtocol.data_received", c"data")?)
}

fn eof_received(this: &StreamReaderProtocol) -> PyResult<bool> {
    this.eof_received()
}

fn connection_lost(this: &StreamReaderProtocol, args: Args<'_>) -> PyResult<()> {
    this.connection_lost(only(args, "StreamReaderProtocol.connection_lost", c"exc")?)
}

fn pause_writing(this: &StreamReaderProtocol) -> PyResult<()> {
    this.pause_writing()
}

fn resume_writing(this: &StreamReaderProtocol) -> PyResult<()> {
    this.resume_writing()
}

fn get_close_waiter(this: &StreamReaderProtocol, args: Args<'_>) -> PyResult<Obj> {
    only(args, "StreamReaderProtocol._get_close_waiter", c"stream")?;
    Ok(this.closed.get_or_none())
}

fn show_reader(this: &StreamReaderProtocol) -> PyResult<Obj> {
    Ok(this.reader()?.unwrap_or_else(Obj::none))
}

fn show_drains(this: &StreamReaderProtocol) -> PyResult<Obj> {
    let deque = call::call0(call::import_from("collections", "deque")?.as_ptr())?;
    for waiter in this.drains.all() {
        let append = call::interned("append")?;
        call::call_method(append.as_ptr(), &[deque.as_ptr(), waiter.as_ptr()], None)?;
    }
    Ok(deque)
}

fn class(this: &StreamReaderProtocol) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

#[rustfmt::skip]
fn methods() -> Vec<Method> {
    type T = StreamReaderProtocol;
    vec![
        fastcall!(c"data_received", T, data_received, c"data_received($self, /, data)\n--\n\nFeed the reader."),
        noargs!(c"eof_received", T, eof_received, c"eof_received($self, /)\n--\n\nTell the reader; true if writing goes on."),
        fastcall!(c"connection_lost", T, connection_lost, c"connection_lost($self, /, exc)\n--\n\nTell the reader, and who waits for the end or drains."),
        noargs!(c"pause_writing", T, pause_writing, c"pause_writing($self, /)\n--\n\nLet drain() wait."),
        noargs!(c"resume_writing", T, resume_writing, c"resume_writing($self, /)\n--\n\nWake who waits in drain()."),
        fastcall!(c"_get_close_waiter", T, get_close_waiter, c"_get_close_waiter($self, /, stream)\n--\n\nThe future that is done when the connection is lost."),
    ]
}

fn properties() -> Vec<Property> {
    type T = StreamReaderProtocol;
    let mut all = vec![
        property!(c"_stream_reader", T, show_reader),
        property!(c"_drain_waiters", T, show_drains),
        property!(c"__class__", T, class),
        property!(c"__dict__", T, show_dict),
        slot_property!(c"_loop", T, event_loop),
        slot_property!(c"_stream_reader_wr", T, reader),
        slot_property!(c"_strong_reader", T, strong_reader),
        slot_property!(c"_task", T, task),
        slot_property!(c"_transport", T, transport),
        slot_property!(c"_client_connected_cb", T, connected),
        late_property!(c"_closed", T, closed),
        slot_property!(c"_source_traceback", T, source_traceback),
        flag_property!(c"_paused", T, paused),
        flag_property!(c"_connection_lost", T, lost),
        flag_property!(c"_reject_connection", T, rejects),
        flag_property!(c"_over_ssl", T, over_ssl),
    ];
    if cfg!(not(Py_3_13)) {
        all.push(slot_property!(c"_stream_writer", T, writer));
    }
    all
}

/// The base class must add nothing to a plain object's header, as our struct does not begin with more.
fn check_base(base: Raw) -> PyResult<()> {
    let size = call::getattr(base, call::interned("__basicsize__")?.as_ptr())?;
    if call::as_i64(size.as_ptr())? == size_of::<c::PyObject>() as i64 {
        return Ok(());
    }
    Err(import_error(
        "asynchrotron does not know this Python's asyncio.protocols.Protocol: its instances have fields",
    ))
}

pub(in crate::streams) fn build(module: Raw, metaclass: Raw) -> PyResult<Obj> {
    check_base(protocol_class())?;
    let mut spec = TypeSpec::new(
        c"asyncio.streams.StreamReaderProtocol",
        c"StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None)\n--\n\n\
          Between a transport and a reader (asyncio.StreamReaderProtocol).",
        size_of::<StreamReaderProtocol>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.bases = vec![protocol_class()];
    spec.metaclass = Some(metaclass);
    spec.methods = methods();
    spec.properties = properties();
    spec.slots = vec![(c::Py_tp_new, new as *mut c_void)];
    life::complete::<StreamReaderProtocol>(&mut spec, offset_of!(StreamReaderProtocol, attached));
    let made = spec.build(module)?;
    PROTOCOL.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, &[&DRAIN_HELPER])?;
    metaclass::adopt(&made, Obj::from_borrowed(stdlib_protocol()));
    Ok(made)
}

/// What the transport and `drain()` do without calling.
pub(in crate::streams) fn keep_methods(class: &Obj) -> PyResult<()> {
    PLAIN.keep(class, &["data_received", "_drain_helper", "_stream_reader"])
}
