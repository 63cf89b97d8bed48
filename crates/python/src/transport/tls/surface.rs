//! `TlsProtocol` as a type: construction, garbage collection, and the attributes that the stdlib's methods and the people
//! who look into an SSLProtocol know. `asynchrotron.tls.SSLProtocol` puts it in front of the stdlib's class.

#![allow(clippy::unnecessary_wraps)]

use super::{PROTOCOL, State, TlsProtocol, app_transport, openssl, state_of, window};
use crate::ffi::error::{PyResult, attribute_error, type_error};
use crate::ffi::trampoline::{self, function, noargs, onearg, property};
use crate::ffi::types::{self, Method, Property, TypeSpec, add_to_module};
use crate::ffi::{Args, Obj, Raw, Slot, c, call, object, slot};
use crate::streams::Methods;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

/// What a transport of ours does not call if these are ours.
static OWN: Methods = Methods::new();

/// Does the class use our `get_buffer` and `buffer_updated`?
pub(super) fn has_own_methods(protocol: Raw) -> bool {
    OWN.are_of(object::type_of(protocol).cast()).unwrap_or_else(|_| {
        crate::ffi::error::clear();
        false
    })
}

fn given(value: Option<Raw>) -> PyResult<Raw> {
    value.ok_or_else(|| attribute_error("cannot delete attribute"))
}

// ---- methods -------------------------------------------------------------------------------------

fn py_get_buffer(this: &TlsProtocol, _hint: Raw) -> PyResult<Obj> {
    this.receive_buffer()
}

fn py_buffer_updated(this: &TlsProtocol, count: Raw) -> PyResult<()> {
    let count = usize::try_from(call::as_i64(count)?);
    this.received_in_buffer(count.map_err(|_| type_error("a count of bytes is not negative"))?)
}

fn py_do_read(this: &TlsProtocol) -> PyResult<()> {
    this.read_more(&[])
}

fn py_do_write(this: &TlsProtocol) -> PyResult<()> {
    this.write_backlog()
}

fn py_process_outgoing(this: &TlsProtocol) -> PyResult<()> {
    this.process_outgoing()
}

fn py_write_appdata(this: &TlsProtocol, pieces: Raw) -> PyResult<()> {
    this.write_all(pieces)
}

fn py_read_buffer_size(this: &TlsProtocol) -> PyResult<Obj> {
    match this.engine() {
        Some(engine) => call::int(engine.incoming_len()? as i64),
        None => call::getattr(this.incoming.get_or_none().as_ptr(), super::pending()),
    }
}

fn py_write_buffer_size(this: &TlsProtocol) -> PyResult<Obj> {
    let unsent = match this.engine() {
        Some(engine) => engine.outgoing_len()? as i64,
        None => call::as_i64(call::getattr(this.outgoing.get_or_none().as_ptr(), super::pending())?.as_ptr())?,
    };
    call::int(unsent + this.backlog_len.get())
}

/// How much memory buffers of this connection hold, without memory BIOs that only OpenSSL knows; None without an engine.
fn py_held_len(this: &TlsProtocol) -> PyResult<Obj> {
    let Some(bios) = this.engine().map(|engine| engine.held_len()) else {
        return Ok(Obj::none());
    };
    let received = if this.received.is_set() {
        super::reading::RECEIVED_LEN
    } else {
        0
    };
    call::int((bios + received) as i64)
}

fn py_is_direct(this: &TlsProtocol) -> PyResult<Obj> {
    Ok(this
        .engine()
        .map_or_else(Obj::none, |engine| Obj::bool(engine.is_direct())))
}

// ---- attributes ----------------------------------------------------------------------------------

macro_rules! slot_property {
    ($name:literal, $field:ident) => {{
        fn show(this: &TlsProtocol) -> PyResult<Obj> {
            Ok(this.$field.get_or_none())
        }
        fn change(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
            this.$field.set(Obj::from_borrowed(given(value)?));
            Ok(())
        }
        property!($name, TlsProtocol, show, change)
    }};
}

/// One of the three objects that the engine is made of.
macro_rules! engine_property {
    ($name:literal, $field:ident) => {{
        fn show(this: &TlsProtocol) -> PyResult<Obj> {
            Ok(this.$field.get_or_none())
        }
        fn change(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
            this.$field.set(Obj::from_borrowed(given(value)?));
            this.renew_engine()
        }
        property!($name, TlsProtocol, show, change)
    }};
}

macro_rules! flag_property {
    ($name:literal, $field:ident) => {{
        fn show(this: &TlsProtocol) -> PyResult<Obj> {
            Ok(Obj::bool(this.$field.get()))
        }
        fn change(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
            this.$field.set(call::is_true(given(value)?)?);
            Ok(())
        }
        property!($name, TlsProtocol, show, change)
    }};
}

macro_rules! limit_property {
    ($name:literal, $field:ident, $show:ident, $set:ident) => {{
        fn show(this: &TlsProtocol) -> PyResult<Obj> {
            this.$field.$show()
        }
        fn change(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
            this.$field.$set(&Obj::from_borrowed(given(value)?))
        }
        property!($name, TlsProtocol, show, change)
    }};
}

fn show_transport(this: &TlsProtocol) -> PyResult<Obj> {
    Ok(this.transport.get_or_none())
}

fn set_transport(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
    this.set_transport(given(value)?)
}

fn show_app_protocol(this: &TlsProtocol) -> PyResult<Obj> {
    Ok(this.app_protocol.get_or_none())
}

fn set_app_protocol(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
    this.set_app_protocol(given(value)?)
}

fn show_state(this: &TlsProtocol) -> PyResult<Obj> {
    Ok(this.state_member.get_or_none())
}

fn set_state(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
    let member = given(value)?;
    let state = state_of(member)?;
    match state {
        State::Wrapped => this.settle_engine(),
        State::Shutdown => this.unsettle_engine()?,
        _ => {}
    }
    this.state.set(state);
    this.state_member.set(Obj::from_borrowed(member));
    Ok(())
}

fn show_backlog_len(this: &TlsProtocol) -> PyResult<Obj> {
    call::int(this.backlog_len.get())
}

fn set_backlog_len(this: &TlsProtocol, value: Option<Raw>) -> PyResult<()> {
    this.backlog_len.set(call::as_i64(given(value)?)?);
    Ok(())
}

// ---- birth and death -----------------------------------------------------------------------------

unsafe extern "C" fn new(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let made = types::allocate(kind)?;
        let this = made.as_ptr().cast::<TlsProtocol>();
        // SAFETY: a fresh zeroed instance that nobody else sees; no Python code has run since.
        unsafe {
            (&raw mut (*this).engine).write(UnsafeCell::new(None));
            (&raw mut (*this).state).write(Cell::new(State::Unwrapped));
        }
        Ok(made)
    })
}

unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<TlsProtocol>() };
    let mut code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    // SAFETY: I2; the collector changes nothing.
    let held = unsafe { &*this.engine.get() }.as_ref().map(super::Engine::objects);
    for raw in held.into_iter().flatten() {
        if code == 0 {
            code = slot::visit_raw(raw, visit, arg);
        }
    }
    if code != 0 {
        return code;
    }
    this.slots()
        .iter()
        .map(|slot| slot.traverse(visit, arg))
        .find(|code| *code != 0)
        .unwrap_or(0)
}

unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        let this = unsafe { &*slf.cast::<TlsProtocol>() };
        // SAFETY: I2; moved out before it drops.
        drop(unsafe { (*this.engine.get()).take() });
        this.slots().iter().for_each(|slot| Slot::clear(slot));
        Ok(())
    })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: a GC object; fields are dropped by `clear`, after which the engine is None.
        unsafe {
            c::PyObject_GC_UnTrack(slf.cast());
            clear(slf);
            types::free(slf);
        }
    });
}

#[rustfmt::skip]
fn methods() -> Vec<Method> {
    type T = TlsProtocol;
    vec![
        onearg!(c"get_buffer", T, py_get_buffer, c"get_buffer($self, sizehint, /)\n--\n\nWhere the next bytes of the connection go."),
        onearg!(c"buffer_updated", T, py_buffer_updated, c"buffer_updated($self, nbytes, /)\n--\n\nSo many bytes have come."),
        onearg!(c"_write_appdata", T, py_write_appdata, c"_write_appdata($self, list_of_data, /)\n--\n\nEncrypt and send."),
        noargs!(c"_do_read", T, py_do_read, c"_do_read($self, /)\n--\n\nDecrypt what there is and hand it over."),
        noargs!(c"_do_write", T, py_do_write, c"_do_write($self, /)\n--\n\nEncrypt what waits."),
        noargs!(c"_process_outgoing", T, py_process_outgoing, c"_process_outgoing($self, /)\n--\n\nSend what is encrypted."),
        noargs!(c"_get_read_buffer_size", T, py_read_buffer_size, c"_get_read_buffer_size($self, /)\n--\n\nHow much was received and is not decrypted."),
        noargs!(c"_get_write_buffer_size", T, py_write_buffer_size, c"_get_write_buffer_size($self, /)\n--\n\nHow much the transport below has not taken."),
        noargs!(c"_held_len", T, py_held_len, c"_held_len($self, /)\n--\n\nHow many bytes the buffers of this connection take, or None."),
        noargs!(c"_is_direct", T, py_is_direct, c"_is_direct($self, /)\n--\n\nAre OpenSSL's own functions used? None if the stdlib's code runs."),
    ]
}

#[rustfmt::skip]
fn properties() -> Vec<Property> {
    type T = TlsProtocol;
    vec![
        slot_property!(c"_loop", event_loop),
        slot_property!(c"_write_backlog", backlog),
        engine_property!(c"_sslobj", sslobj),
        engine_property!(c"_incoming", incoming),
        engine_property!(c"_outgoing", outgoing),
        flag_property!(c"_ssl_writing_paused", ssl_writing_paused),
        flag_property!(c"_ssl_reading_paused", ssl_reading_paused),
        flag_property!(c"_app_writing_paused", app_writing_paused),
        flag_property!(c"_app_reading_paused", app_reading_paused),
        limit_property!(c"_incoming_high_water", incoming_limits, show_high, set_high),
        limit_property!(c"_incoming_low_water", incoming_limits, show_low, set_low),
        limit_property!(c"_outgoing_high_water", outgoing_limits, show_high, set_high),
        limit_property!(c"_outgoing_low_water", outgoing_limits, show_low, set_low),
        property!(c"_transport", T, show_transport, set_transport),
        property!(c"_app_protocol", T, show_app_protocol, set_app_protocol),
        property!(c"_state", T, show_state, set_state),
        property!(c"_write_buffer_size", T, show_backlog_len, set_backlog_len),
    ]
}

/// `_use_openssl_functions(wanted)`
fn use_openssl_functions(args: Args<'_>) -> PyResult<bool> {
    let [wanted] = args.bind("_use_openssl_functions", &[c"wanted"], 1, 1)?;
    let Some(wanted) = wanted else { return Ok(false) };
    Ok(openssl::want(call::is_true(wanted)?))
}

pub(crate) fn functions() -> Vec<Method> {
    vec![function!(
        c"_use_openssl_functions",
        use_openssl_functions,
        c"_use_openssl_functions($module, wanted, /)\n--\n\nFor tests: drive connections made from now on through OpenSSL's functions, or not; True if there is a choice."
    )]
}

/// Without an ssl module there is no TLS; `build` then makes nothing.
pub(crate) fn build(module: Raw) -> PyResult<()> {
    // SAFETY: a static of the interpreter.
    let import_error = unsafe { c::PyExc_ImportError };
    if call::import("ssl").is_err() {
        if !crate::ffi::error::matches(import_error) {
            return Err(crate::ffi::Raised);
        }
        crate::ffi::error::clear();
        return Ok(());
    }
    super::load_table()?;
    openssl::load()?;
    window::build(module)?;
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.TLSProtocol",
        c"The native half of asyncio.sslproto.SSLProtocol.",
        size_of::<TlsProtocol>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.methods = methods();
    spec.properties = properties();
    spec.slots = vec![
        (c::Py_tp_new, new as *mut c_void),
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
    ];
    let made = spec.build(module)?;
    PROTOCOL.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    OWN.keep(&made, &["get_buffer", "buffer_updated"])?;
    add_to_module(module, c"TLSProtocol", &made)?;
    app_transport::build(module)
}
