//! `TlsTransport`: the native half of `sslproto._SSLProtocolTransport`, which is what a program writes to. All but writing
//! is the stdlib's class.
//!
//! Invariant T1: `base` is what the Python base classes lay out: their `__slots__`.

#![allow(clippy::unnecessary_wraps)]

use super::{TlsProtocol, write_appdata};
use crate::ffi::error::{PyResult, attribute_error, import_error, type_error};
use crate::ffi::trampoline::{self, onearg, property};
use crate::ffi::types::{self, Method, Property, TypeSpec, add_to_module};
use crate::ffi::{Native, Obj, Raw, Slot, c, call, object, slot};
use crate::transport::buffer;
use crate::transport::flow_control_mixin;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// How many slots `transports._FlowControlMixin` and its bases have.
const BASE_SLOTS: usize = 5;

#[repr(C)]
pub(super) struct TlsTransport {
    head: c::PyObject,
    base: [Slot; BASE_SLOTS],
    ssl_protocol: Slot,
    closed: Cell<bool>,
}

static TRANSPORT: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C); starts with the layout of its Python base class; zero is valid for every field. Without an ssl module
// there is no type, and nothing is an instance of NULL.
unsafe impl Native for TlsTransport {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        TRANSPORT.load(Ordering::Relaxed)
    }
}

impl TlsTransport {
    /// `transport.write(data)`
    #[inline]
    fn write(&self, data: Raw) -> PyResult<()> {
        if !buffer::is_writable_type(data) {
            let name = object::type_name(data);
            return Err(type_error(&format!(
                "data: expecting a bytes-like instance, got {name}"
            )));
        }
        if !call::is_true(data)? {
            return Ok(());
        }
        let protocol = self.ssl_protocol.get_or_none();
        match TlsProtocol::of(protocol.as_ptr()) {
            Some(native) => native.write_one(data),
            None => {
                let pieces = call::tuple(&[data])?;
                call::call_method(write_appdata(), &[protocol.as_ptr(), pieces.as_ptr()], None).map(drop)
            }
        }
    }
}

fn py_write(this: &TlsTransport, data: Raw) -> PyResult<()> {
    this.write(data)
}

fn py_writelines(this: &TlsTransport, pieces: Raw) -> PyResult<()> {
    let protocol = this.ssl_protocol.get_or_none();
    match TlsProtocol::of(protocol.as_ptr()) {
        Some(native) => native.write_all(pieces),
        None => call::call_method(write_appdata(), &[protocol.as_ptr(), pieces], None).map(drop),
    }
}

fn show_ssl_protocol(this: &TlsTransport) -> PyResult<Obj> {
    Ok(this.ssl_protocol.get_or_none())
}

fn set_ssl_protocol(this: &TlsTransport, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| attribute_error("cannot delete attribute"))?;
    this.ssl_protocol
        .set_option((!object::is_none(value)).then(|| Obj::from_borrowed(value)));
    Ok(())
}

fn show_closed(this: &TlsTransport) -> PyResult<Obj> {
    Ok(Obj::bool(this.closed.get()))
}

fn set_closed(this: &TlsTransport, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| attribute_error("cannot delete attribute"))?;
    this.closed.set(call::is_true(value)?);
    Ok(())
}

unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<TlsTransport>() };
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    this.base
        .iter()
        .chain([&this.ssl_protocol])
        .map(|slot| slot.traverse(visit, arg))
        .find(|code| *code != 0)
        .unwrap_or(0)
}

unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        let this = unsafe { &*slf.cast::<TlsTransport>() };
        this.base.iter().for_each(Slot::clear);
        this.ssl_protocol.clear();
        Ok(())
    })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: a GC object; fields are dropped by `clear`.
        unsafe {
            c::PyObject_GC_UnTrack(slf.cast());
            clear(slf);
            types::free(slf);
        }
    });
}

#[rustfmt::skip]
fn methods() -> Vec<Method> {
    type T = TlsTransport;
    vec![
        onearg!(c"write", T, py_write, c"write($self, data, /)\n--\n\nEncrypt and send bytes without waiting."),
        onearg!(c"writelines", T, py_writelines, c"writelines($self, list_of_data, /)\n--\n\nEncrypt and send an iterable of bytes."),
    ]
}

fn properties() -> Vec<Property> {
    vec![
        property!(c"_ssl_protocol", TlsTransport, show_ssl_protocol, set_ssl_protocol),
        property!(c"_closed", TlsTransport, show_closed, set_closed),
    ]
}

pub(super) fn build(module: Raw) -> PyResult<()> {
    let base = flow_control_mixin();
    let size = call::getattr(base, call::interned("__basicsize__")?.as_ptr())?;
    if call::as_i64(size.as_ptr())? != offset_of!(TlsTransport, ssl_protocol) as i64 {
        return Err(import_error(
            "asynchrotron does not know this Python's asyncio.transports._FlowControlMixin",
        ));
    }
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.TLSTransport",
        c"The native half of asyncio.sslproto._SSLProtocolTransport.",
        size_of::<TlsTransport>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.bases = vec![base];
    spec.methods = methods();
    spec.properties = properties();
    spec.slots = vec![
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
    ];
    let made = spec.build(module)?;
    TRANSPORT.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    add_to_module(module, c"TLSTransport", &made)
}
