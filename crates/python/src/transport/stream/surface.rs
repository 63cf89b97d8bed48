//! What Python sees of a `StreamTransport`: methods and attributes in asyncio's documented order, then what the stdlib's
//! own classes use of its transports.

// What CPython calls has one shape, also where nothing can fail.
#![allow(clippy::unnecessary_wraps)]

use super::lifetime::{clear, dealloc, finalize, init, new, traverse};
use super::{CLOSING, Core, EOF, EXTRA_DUE, LOST, PAUSED, READING, Side, StreamTransport, WRITING};
use crate::ffi::error::{self, PyResult, owned};
use crate::ffi::trampoline::{fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::{Method, Property, TypeSpec};
use crate::ffi::{Args, Native, Obj, Raised, Raw, c, call, object};
use crate::transport::endpoint::Endpoint;
use crate::transport::flow::Watermarks;
use crate::transport::lifetime::check_base;
use crate::transport::{flow_control_mixin, load_table, socket, sockname};
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::offset_of;
use std::ptr;

fn py_close(this: &StreamTransport) -> PyResult<()> {
    this.close()
}

fn py_is_closing(this: &StreamTransport) -> PyResult<bool> {
    Ok(this.is_closing())
}

/// May this be the name of something that is asked of the socket when somebody wants to know?
fn asks_the_socket(name: Raw) -> PyResult<bool> {
    // SAFETY: A1.
    if unsafe { c::PyUnicode_CheckExact(name) } == 0 {
        return Ok(true);
    }
    Ok(call::equal(name, sockname())? || call::equal(name, socket())?)
}

fn py_get_extra_info(this: &StreamTransport, args: Args<'_>) -> PyResult<Obj> {
    let [name, default] = args.bind("BaseTransport.get_extra_info", &[c"name", c"default"], 2, 1)?;
    let name = name.unwrap_or(ptr::null_mut());
    if this.has_unsent() && call::equal(name, socket())? {
        // With the socket in hand one could see that something is not sent yet.
        this.flush_now()?;
    }
    let default = default.map_or_else(Obj::none, Obj::from_borrowed);
    let extra = if asks_the_socket(name)? {
        this.whole_extra()?
    } else {
        this.extra().get()
    };
    let Some(extra) = extra else {
        return Ok(default);
    };
    // SAFETY: A1.
    if unsafe { c::PyDict_CheckExact(extra.as_ptr()) } == 0 {
        return call::call_method(
            call::interned("get")?.as_ptr(),
            &[extra.as_ptr(), name, default.as_ptr()],
            None,
        );
    }
    // SAFETY: A1; a dict; a borrowed reference, which `extra` keeps alive.
    let found = unsafe { c::PyDict_GetItemWithError(extra.as_ptr(), name) };
    if found.is_null() {
        return if error::occurred() { Err(Raised) } else { Ok(default) };
    }
    Ok(Obj::from_borrowed(found))
}

fn show_extra(this: &StreamTransport) -> PyResult<Obj> {
    Ok(this.whole_extra()?.unwrap_or_else(Obj::none))
}

fn replace_extra(this: &StreamTransport, extra: Option<Raw>) -> PyResult<()> {
    this.put(EXTRA_DUE, false);
    this.extra().set_option(extra.map(Obj::from_borrowed));
    Ok(())
}

fn py_set_protocol(this: &StreamTransport, protocol: Raw) -> PyResult<()> {
    this.set_protocol(protocol)
}

fn py_get_protocol(this: &StreamTransport) -> PyResult<Obj> {
    Ok(this.protocol.get_or_none())
}

fn py_is_reading(this: &StreamTransport) -> PyResult<bool> {
    Ok(this.is_reading())
}

fn py_pause_reading(this: &StreamTransport) -> PyResult<()> {
    this.pause_reading()
}

fn py_resume_reading(this: &StreamTransport) -> PyResult<()> {
    this.resume_reading()
}

fn py_abort(this: &StreamTransport) -> PyResult<()> {
    this.force_close(None)
}

fn py_can_write_eof(_this: &StreamTransport) -> PyResult<bool> {
    Ok(true)
}

fn py_get_write_buffer_size(this: &StreamTransport) -> PyResult<Obj> {
    this.flush_now()?;
    call::int(this.unsent_len() as i64)
}

fn py_get_write_buffer_limits(this: &StreamTransport) -> PyResult<Obj> {
    call::tuple(&[show_low_water(this)?.as_ptr(), show_high_water(this)?.as_ptr()])
}

fn py_set_write_buffer_limits(this: &StreamTransport, args: Args<'_>) -> PyResult<()> {
    let name = "_FlowControlMixin.set_write_buffer_limits";
    let [high, low] = args.bind(name, &[c"high", c"low"], 2, 0)?;
    this.flush_now()?;
    this.set_limits(high, low)?;
    this.maybe_pause_protocol()
}

fn py_write(this: &StreamTransport, data: Raw) -> PyResult<()> {
    this.write(data)
}

fn py_writelines(this: &StreamTransport, pieces: Raw) -> PyResult<()> {
    this.writelines(pieces)
}

fn py_write_eof(this: &StreamTransport) -> PyResult<()> {
    this.write_eof()
}

// What the stdlib's own classes call.

fn py_start_reading(this: &StreamTransport) -> PyResult<()> {
    this.start_reading()
}

fn py_read_ready(this: &StreamTransport) -> PyResult<()> {
    this.event_loop()
        .map_or(Ok(()), |event_loop| this.on_ready(&event_loop, Side::Read))
}

fn py_write_ready(this: &StreamTransport) -> PyResult<()> {
    this.event_loop()
        .map_or(Ok(()), |event_loop| this.on_ready(&event_loop, Side::Write))
}

fn py_force_close(this: &StreamTransport, exception: Raw) -> PyResult<()> {
    let exception = (!object::is_none(exception)).then(|| Obj::from_borrowed(exception));
    this.force_close(exception.as_ref())
}

fn py_fatal_error(this: &StreamTransport, args: Args<'_>) -> PyResult<()> {
    let [exception, message] = args.bind("_fatal_error", &[c"exc", c"message"], 2, 1)?;
    let message = message.map_or_else(|| Ok("Fatal error on transport".to_owned()), call::to_string)?;
    this.fatal_error(&Obj::from_borrowed(exception.unwrap_or(ptr::null_mut())), &message)
}

fn py_call_connection_lost(this: &StreamTransport, exception: Raw) -> PyResult<()> {
    this.call_connection_lost(exception)
}

fn py_make_empty_waiter(this: &StreamTransport) -> PyResult<Obj> {
    this.make_empty_waiter()
}

fn py_reset_empty_waiter(this: &StreamTransport) -> PyResult<()> {
    this.empty_waiter.clear();
    Ok(())
}

fn py_repr(this: &StreamTransport) -> PyResult<Obj> {
    let kind = object::type_of(this.raw()).cast();
    let name = call::getattr(kind, call::interned("__name__")?.as_ptr())?;
    let mut text = format!("<{}", call::to_string(name.as_ptr())?);
    if !this.file.is_set() {
        text.push_str(" closed");
    } else if this.has(CLOSING) {
        text.push_str(" closing");
    }
    let _ = write!(text, " fd={}", this.fd.get());
    if this.event_loop().is_some_and(|event_loop| !event_loop.is_closed()) {
        // Not in a finaliser: whoever could still flush would hold the transport.
        this.flush_now()?;
        let polling = |flag| if this.has(flag) { "polling" } else { "idle" };
        let (read, write, len) = (polling(READING), polling(WRITING), this.unsent_len());
        let _ = write!(text, " read={read} write=<{write}, bufsize={len}>");
    }
    text.push('>');
    call::string(&text)
}

fn show_loop(this: &StreamTransport) -> PyResult<Obj> {
    Ok(this.event_loop.get_or_none())
}

fn show_sock(this: &StreamTransport) -> PyResult<Obj> {
    this.flush_now()?;
    Ok(this.file.get_or_none())
}

fn show_sock_fd(this: &StreamTransport) -> PyResult<Obj> {
    call::int(i64::from(this.fd.get()))
}

fn show_server(this: &StreamTransport) -> PyResult<Obj> {
    Ok(this.server.get_or_none())
}

fn show_context(this: &StreamTransport) -> PyResult<Obj> {
    Ok(this.context.get_or_none())
}

fn show_conn_lost(this: &StreamTransport) -> PyResult<Obj> {
    call::int(i64::from(this.conn_lost.get()))
}

fn show_closing(this: &StreamTransport) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(CLOSING)))
}

fn show_paused(this: &StreamTransport) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(PAUSED)))
}

fn show_eof(this: &StreamTransport) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(EOF)))
}

fn show_protocol_connected(this: &StreamTransport) -> PyResult<Obj> {
    Ok(Obj::bool(this.protocol.is_set() || this.has(LOST)))
}

fn show_protocol_paused(this: &StreamTransport) -> PyResult<Obj> {
    Ok(Obj::bool(this.flow.get().is_paused()))
}

fn show_low_water(this: &StreamTransport) -> PyResult<Obj> {
    Watermarks::show_low_water(this)
}

fn show_high_water(this: &StreamTransport) -> PyResult<Obj> {
    Watermarks::show_high_water(this)
}

fn show_empty_waiter(this: &StreamTransport) -> PyResult<Obj> {
    Ok(this.empty_waiter.get_or_none())
}

fn show_buffer(this: &StreamTransport) -> PyResult<Obj> {
    this.flush_now()?;
    this.show_unsent()
}

/// `__dict__`, as every Python class instance has it.
fn show_dict(this: &StreamTransport) -> PyResult<Obj> {
    // SAFETY: A1; the type has a dict offset.
    owned(unsafe { c::PyObject_GenericGetDict(this.raw(), ptr::null_mut()) })
}

pub(crate) fn build_type(module: Raw) -> PyResult<Obj> {
    load_table()?;
    // asyncio's fallback of sendfile() asks for an instance of this class, which is an asyncio.Transport.
    let base = flow_control_mixin();
    check_base(base, offset_of!(StreamTransport, core))?;
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.StreamTransport",
        c"StreamTransport(loop, sock, protocol, waiter=None, extra=None, server=None, context=None)\n--\n\n\
          A connected stream socket (asyncio.Transport).",
        size_of::<StreamTransport>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.bases = vec![base];
    spec.dict_offset = Some(offset_of!(StreamTransport, core) + offset_of!(Core, dict));
    spec.weaklist_offset = Some(offset_of!(StreamTransport, core) + offset_of!(Core, weaklist));
    spec.methods = methods();
    spec.properties = properties();
    spec.slots = vec![
        (c::Py_tp_new, new as *mut c_void),
        (c::Py_tp_init, init as *mut c_void),
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_finalize, finalize as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        unary_slot!(c::Py_tp_repr, StreamTransport, py_repr),
    ];
    let transport_type = spec.build(module)?;
    // Class attributes by which the stdlib's start_tls() and sendfile() know what they may do.
    let mode = call::import_from("asyncio.constants", "_SendfileMode")?;
    let try_native = call::getattr(mode.as_ptr(), call::interned("TRY_NATIVE")?.as_ptr())?;
    call::setattr(
        transport_type.as_ptr(),
        call::interned("_sendfile_compatible")?.as_ptr(),
        try_native.as_ptr(),
    )?;
    call::setattr(
        transport_type.as_ptr(),
        call::interned("_start_tls_compatible")?.as_ptr(),
        Obj::bool(true).as_ptr(),
    )?;
    Ok(transport_type)
}

#[rustfmt::skip]
fn methods() -> Vec<Method> {
    type T = StreamTransport;
    vec![
        noargs!(c"close", T, py_close, c"close($self, /)\n--\n\nSend what is buffered, then close the connection."),
        noargs!(c"is_closing", T, py_is_closing, c"is_closing($self, /)\n--\n\nTrue if the transport is closing or closed."),
        fastcall!(c"get_extra_info", T, py_get_extra_info, c"get_extra_info($self, /, name, default=None)\n--\n\nWhat is known of the connection: socket, sockname, peername."),
        onearg!(c"set_protocol", T, py_set_protocol, c"set_protocol($self, protocol, /)\n--\n\nSet a new protocol."),
        noargs!(c"get_protocol", T, py_get_protocol, c"get_protocol($self, /)\n--\n\nThe current protocol."),
        noargs!(c"is_reading", T, py_is_reading, c"is_reading($self, /)\n--\n\nTrue if data may be received."),
        noargs!(c"pause_reading", T, py_pause_reading, c"pause_reading($self, /)\n--\n\nReceive nothing until resume_reading()."),
        noargs!(c"resume_reading", T, py_resume_reading, c"resume_reading($self, /)\n--\n\nReceive again."),
        noargs!(c"abort", T, py_abort, c"abort($self, /)\n--\n\nClose now; what is buffered is lost."),
        noargs!(c"can_write_eof", T, py_can_write_eof, c"can_write_eof($self, /)\n--\n\nTrue: write_eof() is supported."),
        noargs!(c"get_write_buffer_size", T, py_get_write_buffer_size, c"get_write_buffer_size($self, /)\n--\n\nHow many bytes the kernel has not taken yet."),
        noargs!(c"get_write_buffer_limits", T, py_get_write_buffer_limits, c"get_write_buffer_limits($self, /)\n--\n\nThe (low, high) watermarks."),
        fastcall!(c"set_write_buffer_limits", T, py_set_write_buffer_limits, c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSet the watermarks of pause_writing() and resume_writing()."),
        onearg!(c"write", T, py_write, c"write($self, data, /)\n--\n\nSend bytes without waiting; a changeable buffer is copied."),
        onearg!(c"writelines", T, py_writelines, c"writelines($self, list_of_data, /)\n--\n\nSend an iterable of bytes."),
        noargs!(c"write_eof", T, py_write_eof, c"write_eof($self, /)\n--\n\nSend what is buffered, then the end of the stream."),
        noargs!(c"_start_reading", T, py_start_reading, c"_start_reading($self, /)\n--\n\nReceive from now on, unless paused."),
        noargs!(c"_read_ready", T, py_read_ready, c"_read_ready($self, /)\n--\n\nReceive what there is."),
        noargs!(c"_write_ready", T, py_write_ready, c"_write_ready($self, /)\n--\n\nSend what is buffered."),
        onearg!(c"_force_close", T, py_force_close, c"_force_close($self, exc, /)\n--\n\nClose now, because of an exception or None."),
        fastcall!(c"_fatal_error", T, py_fatal_error, c"_fatal_error($self, exc, message='Fatal error on transport')\n--\n\nReport an exception and close."),
        onearg!(c"_call_connection_lost", T, py_call_connection_lost, c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, then let everything go."),
        noargs!(c"_make_empty_waiter", T, py_make_empty_waiter, c"_make_empty_waiter($self, /)\n--\n\nA future that is done when nothing is buffered; write() fails until it is reset."),
        noargs!(c"_reset_empty_waiter", T, py_reset_empty_waiter, c"_reset_empty_waiter($self, /)\n--\n\nAllow write() again."),
    ]
}

#[rustfmt::skip]
fn properties() -> Vec<Property> {
    type T = StreamTransport;
    vec![
        property!(c"_extra", T, show_extra, replace_extra),
        property!(c"_loop", T, show_loop),
        property!(c"_sock", T, show_sock),
        property!(c"_sock_fd", T, show_sock_fd),
        property!(c"_protocol", T, py_get_protocol),
        property!(c"_server", T, show_server),
        property!(c"_context", T, show_context),
        property!(c"_conn_lost", T, show_conn_lost),
        property!(c"_closing", T, show_closing),
        property!(c"_paused", T, show_paused),
        property!(c"_eof", T, show_eof),
        property!(c"_protocol_connected", T, show_protocol_connected),
        property!(c"_protocol_paused", T, show_protocol_paused),
        property!(c"_low_water", T, show_low_water),
        property!(c"_high_water", T, show_high_water),
        property!(c"_empty_waiter", T, show_empty_waiter),
        property!(c"_buffer", T, show_buffer),
        property!(c"__dict__", T, show_dict),
    ]
}
