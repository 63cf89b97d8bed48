//! Methods and attributes that pipe and datagram transports have in common, for any of them.

// What CPython calls has one shape, also where nothing can fail.
#![allow(clippy::unnecessary_wraps)]

use super::endpoint::{CLOSING, Endpoint, FD_VISIBLE, PAUSED, shows_fd, visible_fd};
use super::flow::Watermarks;
use crate::event_loop::io::Side;
use crate::ffi::error::{PyResult, owned};
use crate::ffi::{Args, Obj, Raw, c, call, object};
use std::fmt::Write;
use std::ptr;

pub(super) fn py_is_closing<T: Endpoint>(this: &T) -> PyResult<bool> {
    Ok(this.has(CLOSING))
}

pub(super) fn py_get_protocol<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Ok(this.protocol.get_or_none())
}

pub(super) fn py_is_reading<T: Endpoint>(this: &T) -> PyResult<bool> {
    Ok(this.is_reading())
}

pub(super) fn py_pause_reading<T: Endpoint>(this: &T) -> PyResult<()> {
    this.pause_reading()
}

pub(super) fn py_resume_reading<T: Endpoint>(this: &T) -> PyResult<()> {
    this.resume_reading()
}

pub(super) fn py_start_reading<T: Endpoint>(this: &T) -> PyResult<()> {
    this.start_reading()
}

pub(super) fn py_get_write_buffer_size<T: Endpoint>(this: &T) -> PyResult<Obj> {
    call::int(this.unsent_len() as i64)
}

pub(super) fn py_get_write_buffer_limits<T: Endpoint>(this: &T) -> PyResult<Obj> {
    call::tuple(&[this.show_low_water()?.as_ptr(), this.show_high_water()?.as_ptr()])
}

pub(super) fn py_set_write_buffer_limits<T: Endpoint>(this: &T, args: Args<'_>) -> PyResult<()> {
    let name = "_FlowControlMixin.set_write_buffer_limits";
    let [high, low] = args.bind(name, &[c"high", c"low"], 2, 0)?;
    this.set_limits(high, low)?;
    this.maybe_pause_protocol()
}

pub(super) fn py_read_ready<T: Endpoint>(this: &T) -> PyResult<()> {
    this.event_loop()
        .map_or(Ok(()), |event_loop| this.on_ready(&event_loop, Side::Read))
}

pub(super) fn py_write_ready<T: Endpoint>(this: &T) -> PyResult<()> {
    this.event_loop()
        .map_or(Ok(()), |event_loop| this.on_ready(&event_loop, Side::Write))
}

pub(super) fn show_loop<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Ok(this.event_loop.get_or_none())
}

pub(super) fn show_file<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Ok(this.file.get_or_none())
}

/// Takes another owner of the descriptor in: None makes a transport that nobody closed end in silence.
pub(super) fn replace_file<T: Endpoint>(this: &T, file: Option<Raw>) -> PyResult<()> {
    let file = given(file);
    this.put(
        FD_VISIBLE,
        file.is_some_and(|file| shows_fd(file) && visible_fd(file) == this.fd.get()),
    );
    this.file.set_option(file.map(Obj::from_borrowed));
    Ok(())
}

pub(super) fn show_fd<T: Endpoint>(this: &T) -> PyResult<Obj> {
    call::int(i64::from(this.fd.get()))
}

pub(super) fn show_closing<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(CLOSING)))
}

pub(super) fn show_paused<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(PAUSED)))
}

pub(super) fn show_conn_lost<T: Endpoint>(this: &T) -> PyResult<Obj> {
    call::int(i64::from(this.conn_lost.get()))
}

pub(super) fn show_protocol_paused<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Ok(Obj::bool(this.flow.get().is_paused()))
}

pub(super) fn show_low_water<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Watermarks::show_low_water(this)
}

pub(super) fn show_high_water<T: Endpoint>(this: &T) -> PyResult<Obj> {
    Watermarks::show_high_water(this)
}

/// `__dict__`, as every Python class instance has it.
pub(super) fn show_dict<T: Endpoint>(this: &T) -> PyResult<Obj> {
    // SAFETY: A1; the type has a dict offset.
    owned(unsafe { c::PyObject_GenericGetDict(this.raw(), ptr::null_mut()) })
}

/// `<ClassName`, with what asyncio's reprs begin with.
pub(super) fn repr_begin<T: Endpoint>(this: &T) -> PyResult<String> {
    let kind = object::type_of(this.raw()).cast();
    let name = call::getattr(kind, call::interned("__name__")?.as_ptr())?;
    let mut text = format!("<{}", call::to_string(name.as_ptr())?);
    if !this.file.is_set() {
        text.push_str(" closed");
    } else if this.has(CLOSING) {
        text.push_str(" closing");
    }
    let _ = write!(text, " fd={}", this.fd.get());
    Ok(text)
}

pub(super) fn polling<T: Endpoint>(this: &T, flag: u16) -> &'static str {
    if this.has(flag) { "polling" } else { "idle" }
}

/// An argument that is not None.
pub(super) fn given(value: Option<Raw>) -> Option<Raw> {
    value.filter(|value| !object::is_none(*value))
}
