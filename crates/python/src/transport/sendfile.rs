//! `Sendfile`: a file on its way into a socket, at the pace of the socket (`loop.sock_sendfile`).
//!
//! What the file is, and where its position stands afterwards, is Python's business (`loop.py`): once per file. Here is what
//! happens per writable event.
//!
//! Invariants
//! - S1: `event_loop` holds nothing but a checked EventLoop; it, `future` and `sock` are filled from the beginning.
//! - S2: `REGISTERED` says whether this was registered as writer of `fd`; taking that back touches the loop's table only if
//!   this is still who is registered there.

// What CPython calls has one shape, also where nothing can fail.
#![allow(clippy::unnecessary_wraps)]

use super::endpoint::{Core, checked_loop, shows_fd, visible_fd};
use super::{set_exception, set_result, settle};
use crate::event_loop::EventLoop;
use crate::event_loop::io::{Side, retire};
use crate::ffi::error::{PyResult, os_error_object, value_error};
use crate::ffi::trampoline::{self, noargs, property};
use crate::ffi::types::{self, TypeSpec};
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, object, slot, thread};
use crate::state::{names, state};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io::ErrorKind;
use std::sync::atomic::Ordering;

/// One event sends no more than this: a reader that is as fast as we are would have the loop to itself. A system call more
/// per 4 MiB is nothing beside the copying; with 1 MiB the receiver got half as much per call.
const PER_EVENT_LEN_MAX: u64 = 4 * 1024 * 1024;

/// See S2.
const REGISTERED: u8 = 1;
/// The socket has been waited for.
const WAITED: u8 = 2;
/// Its transport closed the socket in the middle.
const LOST: u8 = 4;

#[repr(C)]
pub(crate) struct Sendfile {
    head: c::PyObject,
    event_loop: Slot,
    future: Slot,
    sock: Slot,
    /// Of the socket, and of the file.
    fd: Cell<i32>,
    file_fd: Cell<i32>,
    offset: Cell<u64>,
    /// How much is to be sent yet; the largest number if it is all until the end of the file.
    left: Cell<u64>,
    sent: Cell<u64>,
    flags: Cell<u8>,
}

// SAFETY: repr(C), header first; every field is valid when zeroed.
unsafe impl Native for Sendfile {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.sendfile()
    }
}

impl Sendfile {
    fn has(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    fn put(&self, flag: u8, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | flag } else { flags & !flag });
    }

    fn event_loop(&self) -> Option<Own<EventLoop>> {
        // SAFETY: S1.
        self.event_loop
            .get()
            .map(|event_loop| unsafe { Own::from_obj_unchecked(event_loop) })
    }

    /// The socket's descriptor if it still has it.
    fn live_fd(&self) -> i32 {
        let (sock, fd) = (self.sock.ptr(), self.fd.get());
        if sock.is_null() || shows_fd(sock) && visible_fd(sock) != fd {
            -1
        } else {
            fd
        }
    }

    /// The socket takes data.
    pub(crate) fn on_ready(&self, event_loop: &EventLoop) -> PyResult<()> {
        let Some(future) = self.future.get() else {
            return Ok(());
        };
        let done = call::call_method(names::done(), &[future.as_ptr()], None)?;
        if call::is_true(done.as_ptr())? {
            self.stop();
            return Ok(());
        }
        self.attempt(event_loop, &future)
    }

    fn attempt(&self, event_loop: &EventLoop, future: &Obj) -> PyResult<()> {
        let left = self.left.get();
        let part = left.min(PER_EVENT_LEN_MAX) as usize;
        let (sock, file, offset) = (self.live_fd(), self.file_fd.get(), self.offset.get());
        // Detached: the disk may keep us waiting, and a receiver in another thread of this process may go on.
        let outcome = thread::detached(|| reactor::files::sendfile(sock, file, offset, part));
        match outcome {
            Ok(0) => return self.finish(future),
            Ok(sent) => {
                let sent = sent as u64;
                self.offset.set(self.offset.get() + sent);
                self.sent.set(self.sent.get() + sent);
                self.left.set(left - sent);
                if left == sent {
                    return self.finish(future);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                self.stop();
                return settle(future, set_exception(), &os_error_object(&error));
            }
        }
        self.put(WAITED, true);
        if !self.has(REGISTERED) {
            // Another thread may have closed the socket meanwhile, and its number may be somebody else's.
            let previous = event_loop.set_owner(self.live_fd(), Side::Write, self.obj())?;
            self.put(REGISTERED, true);
            retire(previous);
        }
        Ok(())
    }

    fn finish(&self, future: &Obj) -> PyResult<()> {
        self.stop();
        settle(future, set_result(), &Obj::none())
    }

    fn stop(&self) {
        if !self.has(REGISTERED) {
            return;
        }
        self.put(REGISTERED, false);
        let (Some(event_loop), fd) = (self.event_loop(), self.fd.get()) else {
            return;
        };
        let is_ours =
            event_loop.with_registry(|registry| registry.writer(fd).is_some_and(|owner| owner.is(self.raw())));
        if is_ours == Some(true) {
            drop(event_loop.clear_owner(fd, Side::Write));
        }
    }

    /// The transport whose socket this is closes it: no event will ever come, so whoever waits learns it now.
    pub(super) fn connection_lost(&self, exception: &Obj) -> PyResult<()> {
        self.put(LOST, true);
        self.stop();
        match self.future.get() {
            Some(future) => settle(&future, set_exception(), exception),
            None => Ok(()),
        }
    }

    /// The one that waits for the socket of `transport`.
    pub(super) fn waiting_for(event_loop: &EventLoop, transport: &Core) -> Option<Own<Self>> {
        let owner = event_loop.owner(transport.fd.get(), Side::Write)?;
        let is_it = Self::of_exact(owner.as_ptr()).is_some_and(|sendfile| sendfile.sock.ptr() == transport.file.ptr());
        // SAFETY: of_exact() has looked at its type.
        is_it.then(|| unsafe { Own::from_obj_unchecked(owner) })
    }

    fn slots(&self) -> [&Slot; 3] {
        [&self.event_loop, &self.future, &self.sock]
    }
}

/// `_sendfile(loop, sock, fileno, offset, count)`: begins, and gives back the Sendfile.
pub(crate) fn start(args: Args<'_>) -> PyResult<Obj> {
    let names = &[c"loop", c"sock", c"fileno", c"offset", c"count"];
    let [Some(event_loop), Some(sock), Some(file), Some(offset), count] = args.bind("_sendfile", names, 5, 4)? else {
        unreachable!("bind() has checked the four required ones");
    };
    let event_loop = checked_loop(event_loop)?;
    event_loop.check_open()?;
    let fd = call::call_method(names::fileno(), &[sock], None)?;
    let number = |value: Raw| call::as_i64(value);
    let not_negative =
        |value: i64| u64::try_from(value).map_err(|_| value_error("offset and count must not be negative"));
    let left = match count.filter(|count| !object::is_none(*count)).map(number).transpose()? {
        None | Some(0) => u64::MAX,
        Some(count) => not_negative(count)?,
    };
    let made = types::allocate(Sendfile::type_object())?;
    // SAFETY: just made of this very type.
    let this = unsafe { Own::<Sendfile>::from_obj_unchecked(made) };
    this.fd.set(number(fd.as_ptr())? as i32);
    this.file_fd.set(number(file)? as i32);
    this.offset.set(not_negative(number(offset)?)?);
    this.left.set(left);
    this.event_loop.set(event_loop.obj());
    this.sock.set(Obj::from_borrowed(sock));
    let future = event_loop.create_future()?;
    this.future.set(future.clone());
    this.attempt(event_loop, &future)?;
    Ok(this.into_obj())
}

fn py_stop(this: &Sendfile) -> PyResult<()> {
    this.stop();
    Ok(())
}

fn show_future(this: &Sendfile) -> PyResult<Obj> {
    Ok(this.future.get_or_none())
}

fn show_sent(this: &Sendfile) -> PyResult<Obj> {
    call::int(this.sent.get() as i64)
}

fn show_offset(this: &Sendfile) -> PyResult<Obj> {
    call::int(this.offset.get() as i64)
}

fn show_waited(this: &Sendfile) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(WAITED)))
}

unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<Sendfile>() };
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    this.slots()
        .into_iter()
        .map(|slot| slot.traverse(visit, arg))
        .find(|code| *code != 0)
        .unwrap_or(0)
}

unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        unsafe { &*slf.cast::<Sendfile>() }
            .slots()
            .into_iter()
            .for_each(Slot::clear);
        Ok(())
    })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        // SAFETY: tp_dealloc's receiver.
        unsafe { &*slf.cast::<Sendfile>() }
            .slots()
            .into_iter()
            .for_each(Slot::clear);
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    });
}

fn show_lost(this: &Sendfile) -> PyResult<Obj> {
    Ok(Obj::bool(this.has(LOST)))
}

pub(crate) fn build_type(module: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Sendfile",
        c"A file on its way into a socket.",
        size_of::<Sendfile>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![noargs!(
        c"stop",
        Sendfile,
        py_stop,
        c"stop($self, /)\n--\n\nSend no more; what was sent stays sent."
    )];
    spec.properties = vec![
        property!(c"future", Sendfile, show_future),
        property!(c"sent", Sendfile, show_sent),
        property!(c"offset", Sendfile, show_offset),
        property!(c"waited", Sendfile, show_waited),
        property!(c"lost", Sendfile, show_lost),
    ];
    spec.slots = vec![
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
    ];
    let made = spec.build(module)?.into_ptr();
    state().types.sendfile.store(made.cast(), Ordering::Relaxed);
    Ok(())
}
