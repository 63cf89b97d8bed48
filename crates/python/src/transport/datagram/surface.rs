//! What Python sees of a `DatagramTransport`: methods and attributes in asyncio's documented order.

// What CPython calls has one shape, also where nothing can fail.
#![allow(clippy::unnecessary_wraps)]

use super::{DatagramTransport, Parameters, READING, WRITING};
use crate::ffi::error::PyResult;
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Obj, Raw, args, c, call, object};
use crate::transport::endpoint::Endpoint;
use crate::transport::lifetime;
use crate::transport::surface::{
    given, polling, py_get_protocol, py_get_write_buffer_limits, py_get_write_buffer_size, py_is_closing,
    py_is_reading, py_pause_reading, py_read_ready, py_resume_reading, py_set_write_buffer_limits, py_start_reading,
    py_write_ready, repr_begin, show_closing, show_conn_lost, show_dict, show_fd, show_file, show_high_water,
    show_loop, show_low_water, show_paused, show_protocol_paused,
};
use crate::transport::{datagram_transport, flow_control_mixin};
use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::mem::offset_of;
use std::ptr;

fn py_close(this: &DatagramTransport) -> PyResult<()> {
    this.close()
}

fn py_abort(this: &DatagramTransport) -> PyResult<()> {
    this.force_close(None)
}

fn py_set_protocol(this: &DatagramTransport, protocol: Raw) -> PyResult<()> {
    this.protocol.set(Obj::from_borrowed(protocol));
    Ok(())
}

fn py_sendto(this: &DatagramTransport, args: Args<'_>) -> PyResult<()> {
    this.sendto(args)
}

fn py_force_close(this: &DatagramTransport, exception: Raw) -> PyResult<()> {
    let exception = (!object::is_none(exception)).then(|| Obj::from_borrowed(exception));
    this.force_close(exception.as_ref())
}

fn py_fatal_error(this: &DatagramTransport, args: Args<'_>) -> PyResult<()> {
    let [exception, message] = args.bind("_fatal_error", &[c"exc", c"message"], 2, 1)?;
    let message = message.map_or_else(|| Ok("Fatal error on transport".to_owned()), call::to_string)?;
    this.fatal_error(&Obj::from_borrowed(exception.unwrap_or(ptr::null_mut())), &message)
}

fn py_call_connection_lost(this: &DatagramTransport, exception: Raw) -> PyResult<()> {
    this.call_connection_lost(exception)
}

fn py_repr(this: &DatagramTransport) -> PyResult<Obj> {
    let mut text = repr_begin(this)?;
    if this.event_loop().is_some_and(|event_loop| !event_loop.is_closed()) {
        let (read, write, len) = (polling(this, READING), polling(this, WRITING), this.unsent_len());
        let _ = write!(text, " read={read} write=<{write}, bufsize={len}>");
    }
    text.push('>');
    call::string(&text)
}

fn show_address(this: &DatagramTransport) -> PyResult<Obj> {
    Ok(this.address.get_or_none())
}

/// What is unsent: a deque of (data, address).
fn show_buffer(this: &DatagramTransport) -> PyResult<Obj> {
    let mut all = Vec::new();
    this.with_queue(|queue| queue.for_each(|data, address| all.push((data.clone(), address.clone()))));
    let list = call::list()?;
    for (data, address) in all {
        call::list_append(&list, call::tuple(&[data.as_ptr(), address.as_ptr()])?.as_ptr())?;
    }
    call::call1(call::import_from("collections", "deque")?.as_ptr(), list.as_ptr())
}

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let names = &[c"loop", c"sock", c"protocol", c"address", c"waiter", c"extra"];
            let [event_loop, sock, protocol, address, waiter, extra] =
                args.bind("DatagramTransport.__init__", names, 6, 3)?;
            let (Some(event_loop), Some(sock), Some(protocol)) = (event_loop, sock, protocol) else {
                unreachable!("bind() has checked the three required ones");
            };
            // SAFETY: tp_init's receiver.
            unsafe { &*slf.cast::<DatagramTransport>() }.init(&Parameters {
                event_loop,
                sock,
                protocol,
                address: given(address),
                waiter: given(waiter),
                extra: given(extra),
            })
        })
    })
}

pub(crate) fn build_type(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.DatagramTransport",
        c"DatagramTransport(loop, sock, protocol, address=None, waiter=None, extra=None)\n--\n\n\
          A datagram socket (asyncio.DatagramTransport).",
        size_of::<DatagramTransport>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    // Up to 3.11 asyncio's transport for datagrams is no asyncio.DatagramTransport.
    let bases = [flow_control_mixin(), datagram_transport()];
    let count = if cfg!(Py_3_12) { 2 } else { 1 };
    lifetime::complete::<DatagramTransport>(&mut spec, &bases[..count], offset_of!(DatagramTransport, core))?;
    spec.slots.extend([
        (c::Py_tp_init, init as *mut c_void),
        unary_slot!(c::Py_tp_repr, DatagramTransport, py_repr),
    ]);
    add_surface(&mut spec);
    spec.build(module)
}

#[rustfmt::skip]
fn add_surface(spec: &mut TypeSpec) {
    type T = DatagramTransport;
    spec.methods = vec![
        noargs!(c"close", T, py_close, c"close($self, /)\n--\n\nSend what is buffered, then close the socket."),
        noargs!(c"is_closing", T, py_is_closing, c"is_closing($self, /)\n--\n\nTrue if the transport is closing or closed."),
        onearg!(c"set_protocol", T, py_set_protocol, c"set_protocol($self, protocol, /)\n--\n\nSet a new protocol."),
        noargs!(c"get_protocol", T, py_get_protocol, c"get_protocol($self, /)\n--\n\nThe current protocol."),
        fastcall!(c"sendto", T, py_sendto, c"sendto($self, /, data, addr=None)\n--\n\nSend a datagram without waiting; a changeable buffer that must wait is copied."),
        noargs!(c"abort", T, py_abort, c"abort($self, /)\n--\n\nClose now; what is buffered is lost."),
        noargs!(c"get_write_buffer_size", T, py_get_write_buffer_size, c"get_write_buffer_size($self, /)\n--\n\nHow many bytes the kernel has not taken yet, from 3.13 on with 8 for each datagram."),
        noargs!(c"get_write_buffer_limits", T, py_get_write_buffer_limits, c"get_write_buffer_limits($self, /)\n--\n\nThe (low, high) watermarks."),
        fastcall!(c"set_write_buffer_limits", T, py_set_write_buffer_limits, c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSet the watermarks of pause_writing() and resume_writing()."),
        noargs!(c"_start_reading", T, py_start_reading, c"_start_reading($self, /)\n--\n\nReceive from now on, unless paused."),
        noargs!(c"_read_ready", T, py_read_ready, c"_read_ready($self, /)\n--\n\nReceive what there is."),
        noargs!(c"_sendto_ready", T, py_write_ready, c"_sendto_ready($self, /)\n--\n\nSend what is buffered."),
        onearg!(c"_force_close", T, py_force_close, c"_force_close($self, exc, /)\n--\n\nClose now, because of an exception or None."),
        fastcall!(c"_fatal_error", T, py_fatal_error, c"_fatal_error($self, exc, message='Fatal error on transport')\n--\n\nReport an exception and close."),
        onearg!(c"_call_connection_lost", T, py_call_connection_lost, c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, then let everything go."),
    ];
    if cfg!(Py_3_12) {
        spec.methods.extend([
            noargs!(c"is_reading", T, py_is_reading, c"is_reading($self, /)\n--\n\nTrue if datagrams may be received."),
            noargs!(c"pause_reading", T, py_pause_reading, c"pause_reading($self, /)\n--\n\nReceive nothing until resume_reading()."),
            noargs!(c"resume_reading", T, py_resume_reading, c"resume_reading($self, /)\n--\n\nReceive again."),
        ]);
    }
    spec.properties = vec![
        property!(c"_loop", T, show_loop),
        property!(c"_sock", T, show_file),
        property!(c"_sock_fd", T, show_fd),
        property!(c"_protocol", T, py_get_protocol),
        property!(c"_address", T, show_address),
        property!(c"_conn_lost", T, show_conn_lost),
        property!(c"_closing", T, show_closing),
        property!(c"_paused", T, show_paused),
        property!(c"_protocol_paused", T, show_protocol_paused),
        property!(c"_low_water", T, show_low_water),
        property!(c"_high_water", T, show_high_water),
        property!(c"_buffer", T, show_buffer),
        property!(c"_buffer_size", T, py_get_write_buffer_size),
        property!(c"__dict__", T, show_dict),
    ];
}
