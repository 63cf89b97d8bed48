//! How a transport begins and ends as a Python object: construction, garbage collection, the finaliser.

use super::{BUFFERED, EXTRA_DUE, LOST, STREAM, StreamTransport, TLS};
use crate::ffi::error::{self, PyResult, runtime_error, type_error};
use crate::ffi::trampoline;
use crate::ffi::{Native, Obj, Raised, Raw, Slot, args, c, call, context, object, slot, types};
use crate::state::{imports, names};
use crate::streams::StreamReaderProtocol;
use crate::transport::endpoint::{Endpoint, checked_loop, init_socket_extra};
use crate::transport::tls::TlsProtocol;
use crate::transport::{AllSteps, attach, detach, name_of_start_reading, peername, plain_socket};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr;

struct Parameters {
    event_loop: Raw,
    sock: Raw,
    protocol: Raw,
    waiter: Option<Raw>,
    extra: Option<Raw>,
    server: Option<Raw>,
    context: Option<Raw>,
}

impl StreamTransport {
    /// In the order of the stdlib's `__init__`, so that what fails half way leaves behind what it leaves there.
    fn init(&self, given: &Parameters) -> PyResult<()> {
        let event_loop = checked_loop(given.event_loop)?;
        if self.event_loop.is_set() || self.has(LOST) {
            return Err(runtime_error("the transport is initialised already"));
        }
        let context = match given.context {
            Some(context) if context::check(context) => Some(Obj::from_borrowed(context)),
            Some(_) => return Err(type_error("context must be a contextvars.Context or None")),
            None => None,
        };
        self.init_loop(event_loop, context)?;
        let extra = given
            .extra
            .map_or_else(call::dict, |extra| Ok(Obj::from_borrowed(extra)))?;
        self.extra().set(extra.clone());
        if has_peername(&extra)? && object::type_of(given.sock).cast() == plain_socket() {
            // A server's connection: most are never asked for the rest, which takes memory.
            self.put(EXTRA_DUE, true);
        } else {
            init_socket_extra(&extra, given.sock)?;
        }
        self.init_file(given.sock)?;
        self.set_protocol(given.protocol)?;
        if let Some(server) = given.server {
            self.server.set(Obj::from_borrowed(server));
            self.tell_server(attach(), server)?;
        }
        reactor::sockets::set_nodelay(self.live_fd());

        self.schedule_start(event_loop, given.context, Some(name_of_start_reading()), given.waiter)
    }

    /// `server._attach` and `server._detach`, which take the transport from 3.13 on.
    pub(super) fn tell_server(&self, name: Raw, server: Raw) -> PyResult<()> {
        let stack = [server, self.raw()];
        call::call_method(name, if cfg!(Py_3_13) { &stack } else { &stack[..1] }, None).map(drop)
    }

    pub(super) fn set_protocol(&self, protocol: Raw) -> PyResult<()> {
        self.put(BUFFERED, call::isinstance(protocol, imports::buffered_protocol())?);
        self.put(STREAM, StreamReaderProtocol::check(protocol));
        self.put(TLS, TlsProtocol::takes_bytes(protocol));
        self.protocol.set(Obj::from_borrowed(protocol));
        Ok(())
    }
}

fn has_peername(extra: &Obj) -> PyResult<bool> {
    // SAFETY: A1.
    if unsafe { c::PyDict_CheckExact(extra.as_ptr()) } == 0 {
        return Ok(false);
    }
    // SAFETY: A1; a dict.
    let known = unsafe { c::PyDict_Contains(extra.as_ptr(), peername()) };
    error::status(known)?;
    Ok(known == 1)
}

pub(super) unsafe extern "C" fn new(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let made = types::allocate(kind)?;
        // SAFETY: a fresh zeroed instance that nobody else sees; no Python code has run since.
        unsafe { (&raw mut (*made.as_ptr().cast::<StreamTransport>()).queue).write(UnsafeCell::default()) };
        #[cfg(not(Py_3_12))]
        {
            // 3.11 makes method calls quick for instances that have a dict, later versions for those that do not yet.
            // SAFETY: just made.
            let this = unsafe { &*made.as_ptr().cast::<StreamTransport>() };
            this.dict.set(call::dict()?);
        }
        Ok(made)
    })
}

pub(super) unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        args::with_tuple_and_dict(positional, keywords, |args| {
            let names = &[
                c"loop",
                c"sock",
                c"protocol",
                c"waiter",
                c"extra",
                c"server",
                c"context",
            ];
            let [event_loop, sock, protocol, waiter, extra, server, context] =
                args.bind("StreamTransport.__init__", names, 7, 3)?;
            let (Some(event_loop), Some(sock), Some(protocol)) = (event_loop, sock, protocol) else {
                unreachable!("bind() has checked the three required ones");
            };
            let given = |value: Option<Raw>| value.filter(|value| !object::is_none(*value));
            let (waiter, extra, server, context) = (given(waiter), given(extra), given(server), given(context));
            let given = Parameters {
                event_loop,
                sock,
                protocol,
                waiter,
                extra,
                server,
                context,
            };
            // SAFETY: tp_init's receiver.
            unsafe { &*slf.cast::<StreamTransport>() }.init(&given)
        })
    })
}

impl StreamTransport {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        let own = [&self.server, &self.empty_waiter];
        self.base.iter().chain(self.core.slots()).chain(own)
    }

    /// `__del__`: says that nobody closed the transport, and closes the socket.
    fn finalize(&self) -> PyResult<()> {
        let Some(sock) = self.file.get() else { return Ok(()) };
        let text = format!("unclosed transport {}", call::repr(self.raw())?);
        error::resource_warning(self.raw(), &text);
        let mut steps = AllSteps::new();
        steps.run(|| call::call_method(names::close(), &[sock.as_ptr()], None));
        if cfg!(Py_3_13)
            && let Some(server) = self.server.get()
        {
            steps.run(|| self.tell_server(detach(), server.as_ptr()));
        }
        steps.end()
    }
}

pub(super) unsafe extern "C" fn finalize(slf: Raw) {
    // SAFETY: tp_finalize's receiver.
    let this = unsafe { &*slf.cast::<StreamTransport>() };
    if !this.file.is_set() {
        return;
    }
    trampoline::enter_void(|| {
        let interrupted = error::take_if_any();
        if this.finalize().is_err() {
            error::write_unraisable(slf);
        }
        if let Some(interrupted) = interrupted {
            let Raised = error::restore(interrupted);
        }
    });
}

pub(super) unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<StreamTransport>() };
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    // The queue holds bytes only, which refer to nothing.
    this.slots()
        .map(|slot| slot.traverse(visit, arg))
        .find(|code| *code != 0)
        .unwrap_or(0)
}

pub(super) unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        unsafe { &*slf.cast::<StreamTransport>() }.slots().for_each(Slot::clear);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<StreamTransport>() };
        // SAFETY: A1; a negative answer means the finaliser brought the object back to life.
        if this.file.is_set() && unsafe { c::PyObject_CallFinalizerFromDealloc(slf) } < 0 {
            return;
        }
        // SAFETY: a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        if !this.weaklist.get().is_null() {
            // SAFETY: A1; the type has a weaklist offset.
            unsafe { c::PyObject_ClearWeakRefs(slf) };
        }
        this.slots().for_each(Slot::clear);
        // SAFETY: I3; nobody else can reach it any more. Dropping bytes runs no Python code.
        unsafe { ptr::drop_in_place(this.queue.get()) };
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    });
}
