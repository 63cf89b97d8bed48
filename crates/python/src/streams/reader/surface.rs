//! What Python sees of a reader beside its coroutine methods.

use super::{PLAIN, READER, StreamReader, new, reads};
use crate::ffi::error::PyResult;
use crate::ffi::trampoline::{fastcall, noargs, property, unary_slot};
use crate::ffi::types::{Method, Property, TypeSpec};
use crate::ffi::{Args, Native, Obj, Raw, c, call};
use crate::metaclass;
use crate::operation::function;
use crate::streams::{
    LIMIT_LEN_DEFAULT, assertion, flag_property, given, life, only, show_dict, slot_property, stdlib_reader,
};
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

fn feed_data(this: &StreamReader, args: Args<'_>) -> PyResult<()> {
    this.feed_any(only(args, "StreamReader.feed_data", c"data")?)
}

fn feed_eof(this: &StreamReader) -> PyResult<()> {
    this.end()
}

fn at_eof(this: &StreamReader) -> PyResult<bool> {
    Ok(this.eof.get() && this.store.is_empty())
}

fn exception(this: &StreamReader) -> PyResult<Obj> {
    Ok(this.exception.get_or_none())
}

fn set_exception(this: &StreamReader, args: Args<'_>) -> PyResult<()> {
    this.fail(only(args, "StreamReader.set_exception", c"exc")?)
}

fn set_transport(this: &StreamReader, args: Args<'_>) -> PyResult<()> {
    let transport = only(args, "StreamReader.set_transport", c"transport")?;
    if this.transport.is_set() {
        return Err(assertion("Transport already set"));
    }
    super::super::assign(&this.transport, Some(transport))
}

fn replace_transport(this: &StreamReader, args: Args<'_>) -> PyResult<()> {
    let transport = only(args, "StreamReader._replace_transport", c"transport")?;
    if !this.transport.is_set() {
        return Err(assertion("Transport not set"));
    }
    super::super::assign(&this.transport, Some(transport))
}

fn wakeup_waiter(this: &StreamReader) -> PyResult<()> {
    this.wake_natively()
}

fn maybe_resume_transport(this: &StreamReader) -> PyResult<()> {
    this.maybe_resume()
}

fn aiter(this: &StreamReader) -> PyResult<Obj> {
    Ok(this.obj())
}

fn class(this: &StreamReader) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

fn repr(this: &StreamReader) -> PyResult<Obj> {
    let mut text = String::from("<StreamReader");
    let len = this.store.len();
    if len > 0 {
        let _ = write!(text, " {len} bytes");
    }
    if this.eof.get() {
        text.push_str(" eof");
    }
    if let Some(limit) = this.limit.get()
        && !call::equal(limit.as_ptr(), call::int(LIMIT_LEN_DEFAULT)?.as_ptr())?
    {
        let _ = write!(text, " limit={}", to_str(&limit)?);
    }
    for (name, slot) in [
        ("waiter", &this.waiter),
        ("exception", &this.exception),
        ("transport", &this.transport),
    ] {
        if let Some(value) = slot.get()
            && call::is_true(value.as_ptr())?
        {
            let _ = write!(text, " {name}={}", call::repr(value.as_ptr())?);
        }
    }
    if this.paused.get() {
        text.push_str(" paused");
    }
    text.push('>');
    call::string(&text)
}

/// `str(value)`
fn to_str(value: &Obj) -> PyResult<String> {
    // SAFETY: A1.
    let text = crate::ffi::error::owned(unsafe { c::PyObject_Str(value.as_ptr()) })?;
    call::to_string(text.as_ptr())
}

fn show_buffer(this: &StreamReader) -> PyResult<Obj> {
    this.store.show()
}

fn set_buffer(this: &StreamReader, value: Option<Raw>) -> PyResult<()> {
    this.store.replace(given(value)?)
}

fn show_limit(this: &StreamReader) -> PyResult<Obj> {
    Ok(this.limit.get_or_none())
}

fn set_limit(this: &StreamReader, value: Option<Raw>) -> PyResult<()> {
    this.set_limit(given(value)?)
}

#[rustfmt::skip]
fn methods() -> Vec<Method> {
    type T = StreamReader;
    let mut all = vec![
        fastcall!(c"feed_data", T, feed_data, c"feed_data($self, /, data)\n--\n\nAdd received bytes and wake who waits for them."),
        noargs!(c"feed_eof", T, feed_eof, c"feed_eof($self, /)\n--\n\nNothing more will be received."),
        noargs!(c"at_eof", T, at_eof, c"at_eof($self, /)\n--\n\nTrue if everything is read and nothing more will be received."),
        noargs!(c"exception", T, exception, c"exception($self, /)\n--\n\nThe exception that reads raise, or None."),
        fastcall!(c"set_exception", T, set_exception, c"set_exception($self, /, exc)\n--\n\nLet the waiting read, and all later ones, raise this."),
        fastcall!(c"set_transport", T, set_transport, c"set_transport($self, /, transport)\n--\n\nThe transport to pause when too much is unread."),
        noargs!(c"_wakeup_waiter", T, wakeup_waiter, c"_wakeup_waiter($self, /)\n--\n\nLet the waiting read look again."),
        noargs!(c"_maybe_resume_transport", T, maybe_resume_transport, c"_maybe_resume_transport($self, /)\n--\n\nReceive again if little enough is unread."),
    ];
    if cfg!(Py_3_14) {
        all.push(fastcall!(c"_replace_transport", T, replace_transport, c"_replace_transport($self, /, transport)\n--\n\nAnother transport in place of the one set."));
    }
    all
}

fn properties() -> Vec<Property> {
    type T = StreamReader;
    vec![
        property!(c"_buffer", T, show_buffer, set_buffer),
        property!(c"_limit", T, show_limit, set_limit),
        property!(c"__class__", T, class),
        property!(c"__dict__", T, show_dict),
        slot_property!(c"_loop", T, event_loop),
        slot_property!(c"_waiter", T, waiter),
        slot_property!(c"_exception", T, exception),
        slot_property!(c"_transport", T, transport),
        slot_property!(c"_source_traceback", T, source_traceback),
        flag_property!(c"_eof", T, eof),
        flag_property!(c"_paused", T, paused),
    ]
}

pub(in crate::streams) fn build(module: Raw, metaclass: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asyncio.streams.StreamReader",
        c"StreamReader(limit=65536, loop=None)\n--\n\n\
          What a connection has brought and nobody has read yet (asyncio.StreamReader).",
        size_of::<StreamReader>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.metaclass = Some(metaclass);
    spec.methods = methods();
    spec.properties = properties();
    spec.slots = vec![
        (c::Py_tp_new, new as *mut c_void),
        unary_slot!(c::Py_tp_repr, StreamReader, repr),
        unary_slot!(c::Py_am_aiter, StreamReader, aiter),
    ];
    life::complete::<StreamReader>(&mut spec, offset_of!(StreamReader, attached));
    let made = spec.build(module)?;
    READER.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, &reads::ALL)?;
    metaclass::adopt(&made, Obj::from_borrowed(stdlib_reader()));
    Ok(made)
}

/// Those through which asyncio's own code calls the reader.
pub(in crate::streams) fn keep_methods(class: &Obj) -> PyResult<()> {
    let names = [
        "feed_data",
        "feed_eof",
        "exception",
        "set_exception",
        "_wakeup_waiter",
        "_maybe_resume_transport",
        "_wait_for_data",
        "read",
        "readuntil",
        "readline",
    ];
    PLAIN.keep(class, &names)
}
