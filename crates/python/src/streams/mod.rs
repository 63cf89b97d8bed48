//! Streams: `StreamReader`, `StreamWriter`, `StreamReaderProtocol`, native: docs/internals/streams.md.
//!
//! | file | what it holds |
//! |---|---|
//! | `store.rs` | a reader's bytes: native, or in the `bytearray` that `_buffer` shows |
//! | `reader.rs` | the reader: what it is fed, who is woken, when the transport pauses |
//! | `reader/reads.rs` | its coroutine methods |
//! | `reader/surface.rs` | its type, methods and attributes |
//! | `writer.rs`, `writer/waits.rs` | the writer; its coroutine methods |
//! | `protocol.rs`, `protocol/surface.rs` | the protocol between transport and reader |
//! | `life.rs` | how all three begin and end as Python objects |
//!
//! This file: what they share, and the stdlib's functions for what happens once per connection.

mod life;
mod protocol;
mod reader;
mod store;
mod writer;

pub(crate) use protocol::StreamReaderProtocol;
pub(crate) use reader::StreamReader;

use crate::event_loop::EventLoop;
use crate::ffi::error::{self, PyResult, attribute_error, owned, raise_object, status, type_error};
use crate::ffi::types::add_to_module;
use crate::ffi::{Args, Native, Obj, Raised, Raw, Slot, c, call, object};
use crate::future::current_event_loop;
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

crate::state::table! {
    names:
        drain_helper = "_drain_helper",
        exception = "exception",
        feed_data = "feed_data",
        feed_eof = "feed_eof",
        get_close_waiter = "_get_close_waiter",
        is_closing = "is_closing",
        pause_reading = "pause_reading",
        resume_reading = "resume_reading",
        set_exception = "set_exception",
        wakeup_waiter = "_wakeup_waiter",
        write = "write";
    imports:
        incomplete_read_error = "asyncio.exceptions"."IncompleteReadError",
        limit_overrun_error = "asyncio.exceptions"."LimitOverrunError",
        logger = "asyncio.log"."logger",
        protocol_class = "asyncio.protocols"."Protocol",
        sleep = "asyncio.tasks"."sleep",
        stdlib_protocol = "asyncio.streams"."StreamReaderProtocol",
        stdlib_reader = "asyncio.streams"."StreamReader",
        stdlib_writer = "asyncio.streams"."StreamWriter";
}

/// `asyncio.streams._DEFAULT_LIMIT`.
const LIMIT_LEN_DEFAULT: i64 = 64 * 1024;

/// `asyncio.events.get_event_loop()`, as a constructor without a loop calls it.
fn default_loop() -> PyResult<Obj> {
    if cfg!(Py_3_12) {
        return current_event_loop();
    }
    // A warning that there is no loop names the caller: ours is the frame below, as a native constructor has none.
    let function = call::import_from("asyncio.events", "_get_event_loop")?;
    let (names, level) = (call::tuple(&[call::interned("stacklevel")?.as_ptr()])?, call::int(2)?);
    call::call(function.as_ptr(), &[level.as_ptr()], Some(&names))
}

/// `loop.get_debug()`
fn is_debug(event_loop: &Obj) -> PyResult<bool> {
    if let Some(native) = EventLoop::of(event_loop.as_ptr()) {
        return Ok(native.is_debug());
    }
    let debug = call::call_method(crate::state::names::get_debug(), &[event_loop.as_ptr()], None)?;
    call::is_true(debug.as_ptr())
}

/// `transport.get_extra_info('sslcontext')` and the like: a method without arguments of any object.
fn call_method0(receiver: &Obj, name: Raw) -> PyResult<Obj> {
    call::call_method(name, &[receiver.as_ptr()], None)
}

/// A failed `assert`; without a text if that is empty.
#[cold]
fn assertion(text: &str) -> Raised {
    // SAFETY: a static of the interpreter.
    let kind = unsafe { c::PyExc_AssertionError };
    if text.is_empty() {
        // SAFETY: A1.
        unsafe { c::PyErr_SetNone(kind) };
        return Raised;
    }
    error::raise(kind, text)
}

/// `raise exception`, whatever that is.
#[cold]
fn raise_any(exception: &Obj) -> Raised {
    let raw = exception.as_ptr();
    // SAFETY: A1.
    if unsafe { c::PyExceptionInstance_Check(raw) } != 0 {
        return raise_object(object::type_of(raw).cast(), exception);
    }
    // SAFETY: A1.
    if unsafe { c::PyExceptionClass_Check(raw) } != 0 {
        return match call::call0(raw) {
            Ok(instance) => raise_object(raw, &instance),
            Err(raised) => raised,
        };
    }
    type_error("exceptions must derive from BaseException")
}

/// The only argument of a method, which may be given by name.
#[inline]
fn only(args: Args<'_>, function: &str, name: &CStr) -> PyResult<Raw> {
    match *args.positional() {
        [value] if !args.has_keywords() => Ok(value),
        _ => {
            let [value] = args.bind(function, &[name], 1, 1)?;
            Ok(value.unwrap_or(ptr::null_mut()))
        }
    }
}

/// Sets an attribute; None and an empty slot are the same.
fn assign(slot: &Slot, value: Option<Raw>) -> PyResult<()> {
    let value = given(value)?;
    slot.set_option((!object::is_none(value)).then(|| Obj::from_borrowed(value)));
    Ok(())
}

fn assign_flag(flag: &Cell<bool>, value: Option<Raw>) -> PyResult<()> {
    let value = call::is_true(given(value)?)?;
    flag.set(value);
    Ok(())
}

fn given(value: Option<Raw>) -> PyResult<Raw> {
    value.ok_or_else(|| attribute_error("cannot delete attribute"))
}

/// An attribute that is a slot: None when empty.
macro_rules! slot_property {
    ($name:literal, $type:ty, $field:ident) => {{
        fn show(this: &$type) -> crate::ffi::error::PyResult<crate::ffi::Obj> {
            Ok(this.$field.get_or_none())
        }
        fn change(this: &$type, value: Option<crate::ffi::Raw>) -> crate::ffi::error::PyResult<()> {
            crate::streams::assign(&this.$field, value)
        }
        crate::ffi::trampoline::property!($name, $type, show, change)
    }};
}

/// An attribute that is not there before `__init__` has set it.
macro_rules! late_property {
    ($name:literal, $type:ty, $field:ident) => {{
        fn show(this: &$type) -> crate::ffi::error::PyResult<crate::ffi::Obj> {
            this.$field
                .get()
                .ok_or_else(|| crate::streams::no_attribute(crate::ffi::Native::raw(this), $name))
        }
        fn change(this: &$type, value: Option<crate::ffi::Raw>) -> crate::ffi::error::PyResult<()> {
            this.$field
                .set(crate::ffi::Obj::from_borrowed(crate::streams::given(value)?));
            Ok(())
        }
        crate::ffi::trampoline::property!($name, $type, show, change)
    }};
}

/// An attribute that is a flag.
macro_rules! flag_property {
    ($name:literal, $type:ty, $field:ident) => {{
        fn show(this: &$type) -> crate::ffi::error::PyResult<crate::ffi::Obj> {
            Ok(crate::ffi::Obj::bool(this.$field.get()))
        }
        fn change(this: &$type, value: Option<crate::ffi::Raw>) -> crate::ffi::error::PyResult<()> {
            crate::streams::assign_flag(&this.$field, value)
        }
        crate::ffi::trampoline::property!($name, $type, show, change)
    }};
}

use {flag_property, late_property, slot_property};

#[cold]
fn no_attribute(object: Raw, name: &CStr) -> Raised {
    let (class, name) = (object::type_name(object), name.to_string_lossy());
    attribute_error(&format!("'{class}' object has no attribute '{name}'"))
}

/// `__dict__`, as every Python class's instances have it.
fn show_dict<T: Native>(this: &T) -> PyResult<Obj> {
    // SAFETY: A1; the types have a dict offset.
    owned(unsafe { c::PyObject_GenericGetDict(this.raw(), ptr::null_mut()) })
}

/// Methods as they were when the type was made, to know later which are overridden.
pub(crate) struct Methods(AtomicPtr<Vec<(Obj, Obj)>>);

impl Methods {
    pub(crate) const fn new() -> Methods {
        Methods(AtomicPtr::new(ptr::null_mut()))
    }

    fn all(&self) -> &'static [(Obj, Obj)] {
        // SAFETY: set by `keep` when the type is made, never freed.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }.map_or(&[], Vec::as_slice)
    }

    pub(crate) fn keep(&self, class: &Obj, names: &[&str]) -> PyResult<()> {
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let name = call::interned(name)?;
            let method = call::getattr(class.as_ptr(), name.as_ptr())?;
            all.push((name, method));
        }
        self.0.store(Box::into_raw(Box::new(all)), Ordering::Release);
        Ok(())
    }

    /// Are they this class's, too?
    pub(crate) fn are_of(&self, class: Raw) -> PyResult<bool> {
        for (name, method) in self.all() {
            if !call::getattr(class, name.as_ptr())?.is(method.as_ptr()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does an instance with this dictionary (or none) use its class's?
    #[inline]
    fn are_not_in(&self, dict: Raw) -> bool {
        // SAFETY: A1; a dict.
        dict.is_null() || unsafe { c::PyDict_Size(dict) } == 0 || self.are_not_in_filled(dict)
    }

    fn are_not_in_filled(&self, dict: Raw) -> bool {
        // Kept: a key that is compared may put another dictionary in its place.
        let dict = Obj::from_borrowed(dict);
        // SAFETY: A1; a dict, and names that are strings. A key of the dict that fails to compare counts as found.
        self.all().iter().all(
            |(name, _)| match unsafe { c::PyDict_Contains(dict.as_ptr(), name.as_ptr()) } {
                0 => true,
                found => {
                    if found < 0 {
                        error::clear();
                    }
                    false
                }
            },
        )
    }
}

/// Calls the stdlib's `__init__` on `this`: it words what is wrong with the arguments.
#[cold]
fn init_as_stdlib(class: Raw, this: Raw, args: Args<'_>) -> PyResult<()> {
    error::clear();
    let init = call::getattr(class, call::interned("__init__")?.as_ptr())?;
    args.forward_call(init.as_ptr(), this).map(drop)
}

/// The stdlib's functions for what happens once per connection, with our classes for its three names.
struct Rebound {
    globals: Obj,
}

impl Rebound {
    fn new(ours: &[(&str, &Obj)]) -> PyResult<Rebound> {
        let module = call::import("asyncio.streams")?;
        // SAFETY: A1; a module has a dict, which is borrowed.
        let globals = owned(unsafe { c::PyDict_Copy(c::PyModule_GetDict(module.as_ptr())) })?;
        for (name, class) in ours {
            call::dict_set(&globals, name, class.as_ptr())?;
        }
        Ok(Rebound { globals })
    }

    fn function(&self, original: &Obj) -> PyResult<Obj> {
        let attribute = |name: &str| call::getattr(original.as_ptr(), call::interned(name)?.as_ptr());
        let code = attribute("__code__")?;
        // SAFETY: A1; a code object without free variables, and a dict.
        let function = owned(unsafe { c::PyFunction_New(code.as_ptr(), self.globals.as_ptr()) })?;
        for name in ["__defaults__", "__kwdefaults__"] {
            call::setattr(
                function.as_ptr(),
                call::interned(name)?.as_ptr(),
                attribute(name)?.as_ptr(),
            )?;
        }
        Ok(function)
    }

    /// Gives `class` those of these methods that the stdlib's class has.
    fn add_methods(&self, class: &Obj, stdlib: Raw, names: &[&str]) -> PyResult<()> {
        for name in names {
            let name = call::interned(name)?;
            if let Some(original) = call::getattr_optional(stdlib, name.as_ptr())? {
                call::setattr(class.as_ptr(), name.as_ptr(), self.function(&original)?.as_ptr())?;
            }
        }
        Ok(())
    }
}

/// Sets the name that error texts of the interpreter show: without the module, as for a Python class.
fn shorten_name(class: &Obj, name: &str) -> PyResult<()> {
    let name = call::string(name)?;
    call::setattr(class.as_ptr(), call::interned("__name__")?.as_ptr(), name.as_ptr())
}

pub(crate) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    load_table()?;
    let reader = reader::build(module, metaclass)?;
    let writer = writer::build(module, metaclass)?;
    let protocol = protocol::build(module, metaclass)?;
    let rebound = Rebound::new(&[
        ("StreamReader", &reader),
        ("StreamWriter", &writer),
        ("StreamReaderProtocol", &protocol),
    ])?;
    rebound.add_methods(&reader, stdlib_reader(), &["_wait_for_data"])?;
    rebound.add_methods(&writer, stdlib_writer(), &["start_tls", "__del__"])?;
    rebound.add_methods(
        &protocol,
        stdlib_protocol(),
        &["connection_made", "_replace_writer", "_replace_transport", "__del__"],
    )?;
    reader::keep_methods(&reader)?;
    protocol::keep_methods(&protocol)?;
    for (name, class) in [
        (c"StreamReader", &reader),
        (c"StreamWriter", &writer),
        (c"StreamReaderProtocol", &protocol),
    ] {
        shorten_name(class, &name.to_string_lossy())?;
        add_to_module(module, name, class)?;
    }
    for name in [
        c"open_connection",
        c"start_server",
        c"open_unix_connection",
        c"start_unix_server",
    ] {
        let original = call::import_from("asyncio.streams", &name.to_string_lossy())?;
        add_to_module(module, name, &rebound.function(&original)?)?;
    }
    Ok(())
}

/// What the weak reference in `slot` names; whatever else is there is called, as Python code would.
#[inline]
fn referent(slot: &Slot) -> PyResult<Option<Obj>> {
    let Some(reference) = slot.get() else { return Ok(None) };
    // SAFETY: A1.
    if unsafe { c::PyWeakref_CheckRefExact(reference.as_ptr()) } == 0 {
        return Ok(Some(call::call0(reference.as_ptr())?).filter(|referent| !referent.is_none()));
    }
    let mut found = ptr::null_mut();
    // SAFETY: A1; a weak reference; `found` receives a new reference, or null if the object is dead.
    status(unsafe { c::compat::PyWeakref_GetRef(reference.as_ptr(), &raw mut found) })?;
    Ok(Obj::from_owned(found))
}
