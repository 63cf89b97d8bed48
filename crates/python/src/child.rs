//! Child: a process that a loop of ours has started or watches (docs/internals/subprocess.md). `processes.py` joins it with
//! asyncio's transport and with Popen.
//!
//! Invariants
//! - I1: `inner` is from `Box::into_raw` and freed by `tp_dealloc` alone; it is only touched attached (A1), and no Python
//!   code runs while it is borrowed.

pub(crate) mod pipe;

use crate::event_loop::EventLoop;
use crate::event_loop::io::Side;
use crate::ffi::error::{self, PyResult, os_error, owned, type_error, value_error};
use crate::ffi::trampoline::{self, fastcall, noargs, property};
use crate::ffi::types::{TypeSpec, add_to_module};
use crate::ffi::{Args, Native, Obj, Own, Raised, Raw, c, call, object, types};
use crate::state::{helper, names};
use reactor::{Exit, Failure, Plan};
use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
struct Child {
    head: c::PyObject,
    inner: Cell<*mut reactor::Child>,
}

static CHILD: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first; zero is valid for every field.
unsafe impl Native for Child {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        CHILD.load(Ordering::Relaxed)
    }
}

impl Child {
    fn create(inner: reactor::Child) -> PyResult<Own<Child>> {
        let obj = types::allocate(Child::type_object())?;
        // SAFETY: freshly made of this very type.
        let this = unsafe { Own::<Child>::from_obj_unchecked(obj) };
        this.inner.set(Box::into_raw(Box::new(inner)));
        Ok(this)
    }

    /// `look` must not run Python code.
    fn with<T>(&self, look: impl FnOnce(&mut reactor::Child) -> T) -> T {
        // SAFETY: I1.
        look(unsafe { &mut *self.inner.get() })
    }
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let inner = unsafe { &*slf.cast::<Child>() }.inner.replace(ptr::null_mut());
        if !inner.is_null() {
            // SAFETY: I1.
            drop(unsafe { Box::from_raw(inner) });
        }
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    });
}

// ---- starting ------------------------------------------------------------------------------------

/// `_core.spawn(…)`, see `_core.pyi`.
fn spawn(args: Args<'_>) -> PyResult<Obj> {
    let [
        programs,
        arguments,
        environment,
        directory,
        stdio,
        parent_ends,
        kept,
        close_others,
        restore_signals,
        new_session,
        process_group,
        umask,
        begin,
    ] = args.positional()
    else {
        return Err(type_error("spawn() takes exactly 13 positional arguments"));
    };
    let plan = Plan {
        programs: paths(*programs)?,
        arguments: paths(*arguments)?,
        environment: unless_none(*environment, paths)?,
        directory: unless_none(*directory, path)?,
        stdio: three(*stdio)?,
        parent_ends: three(*parent_ends)?,
        kept: numbers(*kept)?,
        close_others: call::is_true(*close_others)?,
        restore_signals: call::is_true(*restore_signals)?,
        new_session: call::is_true(*new_session)?,
        process_group: unless_none(*process_group, number)?,
        umask: unless_none(*umask, number)?.map(|umask| umask as u32),
    };
    call::call0(*begin)?;
    match reactor::Child::start(plan) {
        Ok(inner) => Ok(Child::create(inner)?.into_obj()),
        Err(error) if reactor::children::is_refusal(&error) => Ok(Obj::none()),
        Err(error) => Err(os_error(&error)),
    }
}

/// `_core.open_child(pid)`.
fn open_child(args: Args<'_>) -> PyResult<Obj> {
    let [pid] = args.bind("open_child", &[c"pid"], 1, 1)?;
    let pid = pid.map_or(Ok(0), number)?;
    let inner = reactor::Child::open(pid).map_err(|error| os_error(&error))?;
    Ok(Child::create(inner)?.into_obj())
}

fn unless_none<T>(value: Raw, convert: impl FnOnce(Raw) -> PyResult<T>) -> PyResult<Option<T>> {
    if object::is_none(value) {
        Ok(None)
    } else {
        convert(value).map(Some)
    }
}

fn number(value: Raw) -> PyResult<i32> {
    i32::try_from(call::as_i64(value)?).map_err(|_| value_error("the number is too large"))
}

fn items(value: Raw) -> PyResult<Obj> {
    // SAFETY: A1; fails for what is no sequence.
    owned(unsafe { c::PySequence_Tuple(value) })
}

fn numbers(value: Raw) -> PyResult<Vec<i32>> {
    let items = items(value)?;
    (0..call::tuple_len(items.as_ptr()))
        .map(|index| number(call::tuple_item(items.as_ptr(), index)))
        .collect()
}

fn three(value: Raw) -> PyResult<[i32; 3]> {
    numbers(value)?
        .try_into()
        .map_err(|_| value_error("three descriptors are required"))
}

/// As the system gets it: str by the file system's encoding, bytes, or path-like.
fn path(value: Raw) -> PyResult<CString> {
    let mut converted: Raw = ptr::null_mut();
    // SAFETY: A1; a converter, which stores a new reference to bytes without NUL.
    if unsafe { c::PyUnicode_FSConverter(value, (&raw mut converted).cast::<c_void>()) } == 0 {
        return Err(Raised);
    }
    let converted = Obj::from_owned(converted).ok_or(Raised)?;
    // SAFETY: A1; bytes, which live until the end of this function.
    let text = unsafe { std::ffi::CStr::from_ptr(c::PyBytes_AsString(converted.as_ptr())) };
    Ok(text.to_owned())
}

fn paths(value: Raw) -> PyResult<Vec<CString>> {
    let items = items(value)?;
    (0..call::tuple_len(items.as_ptr()))
        .map(|index| path(call::tuple_item(items.as_ptr(), index)))
        .collect()
}

fn show_pid(this: &Child) -> PyResult<Obj> {
    call::int(i64::from(this.with(|child| child.pid())))
}

fn show_pidfd(this: &Child) -> PyResult<Obj> {
    call::int(i64::from(this.with(|child| child.pidfd()).unwrap_or(-1)))
}

fn show_exec_fd(this: &Child) -> PyResult<Obj> {
    call::int(i64::from(this.with(|child| child.exec_fd()).unwrap_or(-1)))
}

/// None: not decided. Else which step failed, and its errno; zeros if the program runs.
fn exec_outcome(this: &Child) -> PyResult<Obj> {
    let Some(outcome) = this.with(reactor::Child::exec_outcome) else {
        return Ok(Obj::none());
    };
    let (step, errno) = match outcome {
        Ok(()) => ("", 0),
        Err(Failure::Directory(errno)) => ("directory", errno),
        Err(Failure::Preparation(errno)) => ("preparation", errno),
        Err(Failure::Program(errno)) => ("program", errno),
    };
    let (step, errno) = (call::string(step)?, call::int(i64::from(errno))?);
    call::tuple(&[step.as_ptr(), errno.as_ptr()])
}

// ---- ending --------------------------------------------------------------------------------------

fn kill(this: &Child) -> PyResult<()> {
    this.with(|child| child.kill()).map_err(|error| os_error(&error))
}

/// The return code, as Popen counts it; None: it has not exited. ChildProcessError: somebody else has reaped it.
fn reap(this: &Child) -> PyResult<Option<i32>> {
    let exit = this.with(reactor::Child::reap).map_err(|error| os_error(&error))?;
    Ok(exit.map(|exit| match exit {
        Exit::Status(status) => status,
        Exit::Signal(signal) => -signal,
    }))
}

fn py_reap(this: &Child) -> PyResult<Obj> {
    match reap(this)? {
        Some(code) => call::int(i64::from(code)),
        None => Ok(Obj::none()),
    }
}

/// `watch(loop, transport, turns)`: reaps and calls `transport._process_exited(returncode)`, that many turns after the loop
/// learned of the exit.
fn watch(this: &Child, args: Args<'_>) -> PyResult<()> {
    let [event_loop, transport, turns] = args.positional() else {
        return Err(type_error("watch() takes exactly 3 positional arguments"));
    };
    let pidfd = show_pidfd(this)?;
    let exited = call::getattr(this.raw(), call::interned("_exited")?.as_ptr())?;
    let arguments = [
        *event_loop,
        pidfd.as_ptr(),
        exited.as_ptr(),
        *event_loop,
        *transport,
        *turns,
    ];
    call::call_method(call::interned("_add_reader")?.as_ptr(), &arguments, None).map(drop)
}

/// The loop's callback for the pidfd, and then for each turn in between.
fn exited(this: &Child, args: Args<'_>) -> PyResult<()> {
    let [event_loop, transport, turns] = args.positional() else {
        return Err(type_error("_exited() takes exactly 3 positional arguments"));
    };
    if let (Some(pidfd), Some(native)) = (this.with(|child| child.pidfd()), EventLoop::of(*event_loop)) {
        drop(native.clear_owner(pidfd, Side::Read));
    }
    let left = call::as_i64(*turns)?;
    if left > 0 {
        let exited = call::getattr(this.raw(), call::interned("_exited")?.as_ptr())?;
        let left = call::int(left - 1)?;
        let arguments = [*event_loop, exited.as_ptr(), *event_loop, *transport, left.as_ptr()];
        return call::call_method(names::call_soon(), &arguments, None).map(drop);
    }
    let code = match reap(this) {
        Ok(Some(code)) => call::int(i64::from(code))?,
        // The kernel said that it exited, so this is somebody's debugger; it says so again.
        Ok(None) => return watch(this, args),
        Err(Raised) => {
            // SAFETY: a static of the interpreter.
            if !error::matches(unsafe { c::PyExc_ChildProcessError }) {
                return Err(Raised);
            }
            error::clear();
            let pid = show_pid(this)?;
            let find = helper("returncode_of_reaped")?;
            call::call(find.as_ptr(), &[*transport, pid.as_ptr()], None)?
        }
    };
    let name = call::interned("_process_exited")?;
    call::call_method(name.as_ptr(), &[*transport, code.as_ptr()], None).map(drop)
}

pub(crate) fn functions() -> Vec<types::Method> {
    vec![
        trampoline::function!(
            c"spawn",
            spawn,
            c"spawn(programs, arguments, environment, directory, stdio, parent_ends, kept, close_others, restore_signals, new_session, process_group, umask, begin, /)\n--\n\nStart a child process without waiting for its program; None where the system refuses this way of doing it. Calls begin() once every argument is converted."
        ),
        trampoline::function!(
            c"open_child",
            open_child,
            c"open_child(pid)\n--\n\nA Child for a child process that somebody else started."
        ),
    ]
}

pub(crate) fn build(module: Raw) -> PyResult<()> {
    pipe::build(module)?;
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.Child",
        c"A child process. Dropping it neither kills nor reaps.",
        size_of::<Child>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![
        noargs!(c"exec_outcome", Child, exec_outcome, c"exec_outcome($self, /)\n--\n\nNone while undecided; else the step that failed and its errno, or '' and 0 if the program runs."),
        noargs!(c"kill", Child, kill, c"kill($self, /)\n--\n\nSend SIGKILL; nothing if the process is gone."),
        noargs!(c"reap", Child, py_reap, c"reap($self, /)\n--\n\nThe return code, or None while it runs; ChildProcessError if somebody else has reaped it."),
        fastcall!(c"watch", Child, watch, c"watch($self, loop, transport, turns, /)\n--\n\nOn exit, so many turns later: reap, and call transport._process_exited(returncode)."),
        fastcall!(c"_exited", Child, exited, c"_exited($self, loop, transport, turns, /)\n--\n\nThe callback of watch()."),
    ];
    spec.properties = vec![
        property!(c"pid", Child, show_pid),
        property!(c"pidfd", Child, show_pidfd),
        property!(c"exec_fd", Child, show_exec_fd),
    ];
    spec.slots = vec![(c::Py_tp_dealloc, dealloc as *mut c_void)];
    let made = spec.build(module)?;
    add_to_module(module, c"Child", &made)?;
    CHILD.store(made.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
