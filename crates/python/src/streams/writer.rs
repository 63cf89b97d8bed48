//! StreamWriter: a transport's writing half, with `drain()` (asyncio.StreamWriter). This file: the class; its coroutine
//! methods are in `writer/waits.rs`.

mod waits;

use super::life::{self, Attached, Life};
use super::{
    call_method0, init_as_stdlib, is_closing, late_property, only, show_dict, slot_property, stdlib_writer, write,
};
use crate::event_loop::EventLoop;
use crate::ffi::collected::collected;
use crate::ffi::error::{PyResult, Raised};
use crate::ffi::trampoline::{self, fastcall, noargs, property, unary_slot};
use crate::ffi::types::{Method, Property, TypeSpec};
use crate::ffi::{Args, Native, Obj, Raw, Slot, c, call, object, types};
use crate::metaclass;
use crate::operation::function;
use crate::state::names;
use crate::streams::StreamReader;
use crate::transport::stream::StreamTransport;
use crate::waiters;
use std::ffi::c_void;
use std::fmt::Write;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
pub(crate) struct StreamWriter {
    head: c::PyObject,
    transport: Slot,
    protocol: Slot,
    reader: Slot,
    event_loop: Slot,
    /// A future that is done: nothing of asyncio uses it any more, so it is made when somebody asks.
    complete: Slot,
    attached: Attached,
}

static WRITER: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for StreamWriter {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        WRITER.load(Ordering::Relaxed)
    }
}

/// A transport of ours whose methods need not be called by name.
#[inline]
fn native_transport(transport: &Obj) -> Option<&StreamTransport> {
    StreamTransport::of_exact(transport.as_ptr()).filter(|native| native.is_unpatched())
}

impl StreamWriter {
    fn init(&self, [transport, protocol, reader, event_loop]: [Raw; 4]) -> PyResult<()> {
        self.transport.set(Obj::from_borrowed(transport));
        self.protocol.set(Obj::from_borrowed(protocol));
        if !object::is_none(reader) {
            if !call::isinstance(reader, StreamReader::type_object().cast())? {
                return Err(super::assertion(""));
            }
            self.reader.set(Obj::from_borrowed(reader));
        }
        self.event_loop.set(Obj::from_borrowed(event_loop));
        if EventLoop::of(event_loop).is_none() {
            self.complete()?;
        }
        Ok(())
    }

    /// `_complete_fut`
    fn complete(&self) -> PyResult<Obj> {
        if let Some(complete) = self.complete.get() {
            return Ok(complete);
        }
        let made = waiters::create_future(&self.event_loop.get_or_none())?;
        waiters::set_result(&made, Obj::none())?;
        self.complete.set(made.clone());
        Ok(made)
    }

    fn is_closing(&self) -> PyResult<bool> {
        let transport = self.transport.get_or_none();
        if let Some(native) = native_transport(&transport) {
            return Ok(native.is_closing());
        }
        call::is_true(call_method0(&transport, is_closing())?.as_ptr())
    }

    /// `self._transport.name(argument)`
    fn forward(&self, name: Raw, argument: Raw) -> PyResult<Obj> {
        let transport = self.transport.get_or_none();
        call::call_method(name, &[transport.as_ptr(), argument], None)
    }

    /// `self._transport.name()`
    fn forward0(&self, name: &str) -> PyResult<Obj> {
        call_method0(&self.transport.get_or_none(), call::interned(name)?.as_ptr())
    }
}

// ---- the class -----------------------------------------------------------------------------------

fn py_write(this: &StreamWriter, args: Args<'_>) -> PyResult<()> {
    let data = only(args, "StreamWriter.write", c"data")?;
    let transport = this.transport.get_or_none();
    match native_transport(&transport) {
        Some(native) => native.write(data),
        None => this.forward(write(), data).map(drop),
    }
}

fn py_writelines(this: &StreamWriter, args: Args<'_>) -> PyResult<()> {
    let data = only(args, "StreamWriter.writelines", c"data")?;
    this.forward(call::interned("writelines")?.as_ptr(), data).map(drop)
}

fn py_write_eof(this: &StreamWriter) -> PyResult<Obj> {
    this.forward0("write_eof")
}

fn py_can_write_eof(this: &StreamWriter) -> PyResult<Obj> {
    this.forward0("can_write_eof")
}

fn py_close(this: &StreamWriter) -> PyResult<Obj> {
    call_method0(&this.transport.get_or_none(), names::close())
}

fn py_is_closing(this: &StreamWriter) -> PyResult<Obj> {
    call_method0(&this.transport.get_or_none(), is_closing())
}

fn py_get_extra_info(this: &StreamWriter, args: Args<'_>) -> PyResult<Obj> {
    let [name, default] = args.bind("StreamWriter.get_extra_info", &[c"name", c"default"], 2, 1)?;
    let none = Obj::none();
    let (name, default) = (name.unwrap_or(ptr::null_mut()), default.unwrap_or(none.as_ptr()));
    let transport = this.transport.get_or_none();
    let method = call::interned("get_extra_info")?;
    call::call_method(method.as_ptr(), &[transport.as_ptr(), name, default], None)
}

fn py_transport(this: &StreamWriter) -> PyResult<Obj> {
    Ok(this.transport.get_or_none())
}

fn repr(this: &StreamWriter) -> PyResult<Obj> {
    let class = call::getattr(class(this)?.as_ptr(), call::interned("__name__")?.as_ptr())?;
    let mut text = format!(
        "<{} transport={}",
        call::to_string(class.as_ptr())?,
        call::repr(this.transport.get_or_none().as_ptr())?
    );
    if let Some(reader) = this.reader.get() {
        let _ = write!(text, " reader={}", call::repr(reader.as_ptr())?);
    }
    text.push('>');
    call::string(&text)
}

fn class(this: &StreamWriter) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

fn show_complete(this: &StreamWriter) -> PyResult<Obj> {
    this.complete()
}

fn set_complete(this: &StreamWriter, value: Option<Raw>) -> PyResult<()> {
    super::assign(&this.complete, value)
}

unsafe extern "C" fn new(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let made = types::allocate(kind)?;
        #[cfg(not(Py_3_12))]
        {
            // 3.11 makes method calls quick for instances that have a dict, later versions for those that do not yet.
            // SAFETY: just made.
            let this = unsafe { &*made.as_ptr().cast::<StreamWriter>() };
            this.attached.dict.set(call::dict()?);
        }
        Ok(made)
    })
}

collected!(StreamWriter, this =>
    weak this.attached.weaklist;
    this.transport,
    this.protocol,
    this.reader,
    this.event_loop,
    this.complete,
    this.attached.dict,
);

impl Life for StreamWriter {
    /// From 3.12 on there is a `__del__`, of no use before `__init__`.
    fn has_finaliser(&self) -> bool {
        self.transport.is_set()
    }

    fn init_with(&self, args: Args<'_>) -> PyResult<()> {
        let names = &[c"transport", c"protocol", c"reader", c"loop"];
        match args.bind("StreamWriter.__init__", names, 4, 4) {
            Ok([Some(transport), Some(protocol), Some(reader), Some(event_loop)]) => {
                self.init([transport, protocol, reader, event_loop])
            }
            Ok(_) => Ok(()),
            Err(Raised) => init_as_stdlib(stdlib_writer(), self.raw(), args),
        }
    }
}

#[rustfmt::skip]
fn methods() -> Vec<Method> {
    type T = StreamWriter;
    vec![
        fastcall!(c"write", T, py_write, c"write($self, /, data)\n--\n\nSend bytes without waiting."),
        fastcall!(c"writelines", T, py_writelines, c"writelines($self, /, data)\n--\n\nSend an iterable of bytes without waiting."),
        noargs!(c"write_eof", T, py_write_eof, c"write_eof($self, /)\n--\n\nSend the end of the stream after what is buffered."),
        noargs!(c"can_write_eof", T, py_can_write_eof, c"can_write_eof($self, /)\n--\n\nTrue if the transport supports write_eof()."),
        noargs!(c"close", T, py_close, c"close($self, /)\n--\n\nSend what is buffered, then close the connection."),
        noargs!(c"is_closing", T, py_is_closing, c"is_closing($self, /)\n--\n\nTrue if the connection is closing or closed."),
        fastcall!(c"get_extra_info", T, py_get_extra_info, c"get_extra_info($self, /, name, default=None)\n--\n\nWhat the transport knows of the connection."),
    ]
}

fn properties() -> Vec<Property> {
    type T = StreamWriter;
    vec![
        property!(c"transport", T, py_transport),
        property!(c"_complete_fut", T, show_complete, set_complete),
        property!(c"__class__", T, class),
        property!(c"__dict__", T, show_dict),
        late_property!(c"_transport", T, transport),
        slot_property!(c"_protocol", T, protocol),
        slot_property!(c"_reader", T, reader),
        slot_property!(c"_loop", T, event_loop),
    ]
}

pub(super) fn build(module: Raw, metaclass: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asyncio.streams.StreamWriter",
        c"StreamWriter(transport, protocol, reader, loop)\n--\n\n\
          A transport's writing half, with drain() (asyncio.StreamWriter).",
        size_of::<StreamWriter>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.metaclass = Some(metaclass);
    spec.methods = methods();
    spec.properties = properties();
    spec.slots = vec![
        (c::Py_tp_new, new as *mut c_void),
        unary_slot!(c::Py_tp_repr, StreamWriter, repr),
    ];
    life::complete::<StreamWriter>(&mut spec, offset_of!(StreamWriter, attached));
    let made = spec.build(module)?;
    WRITER.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, &waits::ALL)?;
    metaclass::adopt(&made, Obj::from_borrowed(stdlib_writer()));
    Ok(made)
}
