//! `loop._ready` and `loop._selector`: what drivers written against asyncio's internals (nested runs)
//! use of them. `_ready` is a live view of the native queue, `_selector.select` a poll.

use super::ready::{Entry, Work};
use super::{EventLoop, io};
use crate::ffi::error::{PyResult, index_error, type_error};
use crate::ffi::trampoline::{self, fastcall, noargs, onearg};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c, call, context, object, types};
use crate::handle::Handle;
use crate::state::{imports, state};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

#[repr(C)]
struct View {
    head: c::PyObject,
    event_loop: Slot,
}

#[repr(C)]
struct SelectorView {
    view: View,
}

// SAFETY: repr(C), header first, zero is valid.
unsafe impl Native for View {
    fn type_object() -> *mut c::PyTypeObject {
        state().types.ready_view()
    }
}

// SAFETY: as above.
unsafe impl Native for SelectorView {
    fn type_object() -> *mut c::PyTypeObject {
        state().types.selector_view()
    }
}

fn make<T: Native>(event_loop: &EventLoop) -> PyResult<Obj> {
    let obj = types::allocate(T::type_object())?;
    // SAFETY: both view types have View's layout.
    unsafe { &*obj.as_ptr().cast::<View>() }
        .event_loop
        .set(event_loop.obj());
    Ok(obj)
}

pub(super) fn ready(event_loop: &EventLoop) -> PyResult<Obj> {
    make::<View>(event_loop)
}

pub(super) fn selector(event_loop: &EventLoop) -> PyResult<Obj> {
    make::<SelectorView>(event_loop)
}

impl View {
    fn target(&self) -> &EventLoop {
        // SAFETY: set at creation, never changed; the slot keeps the loop alive.
        unsafe { &*self.event_loop.ptr().cast::<EventLoop>() }
    }
}

/// An entry as asyncio's queue would hold it: a handle.
fn as_handle(event_loop: &EventLoop, entry: Entry) -> PyResult<Obj> {
    let (function, argument, context) = match entry.into_work() {
        Work::Handle(handle) => return Ok(handle.into_obj()),
        Work::Task(task) => (
            crate::task::step_function(&task.obj())?,
            None,
            task.context.get_or_none(),
        ),
        Work::Future(future) => (
            Obj::from_borrowed(imports::set_result_unless_cancelled()),
            Some((future.obj(), Obj::none())),
            context::copy_current()?,
        ),
        Work::Alarm(alarm) => return alarm.to_handle(event_loop),
        Work::Job(job) => {
            let complete = call::getattr(job.raw(), call::interned("_complete")?.as_ptr())?;
            return Ok(Handle::create(event_loop, complete.as_ptr(), &[], context::copy_current()?)?.into_obj());
        }
        Work::Readiness { fd, generation, bits } => {
            let dispatch = call::interned("_dispatch")?;
            let function = call::getattr(event_loop.raw(), dispatch.as_ptr())?;
            let number = call::tuple(&[
                call::int(i64::from(fd))?.as_ptr(),
                call::int(i64::from(generation))?.as_ptr(),
                call::int(i64::from(bits))?.as_ptr(),
            ])?;
            let handle = Handle::create(
                event_loop,
                function.as_ptr(),
                &[number.as_ptr()],
                context::copy_current()?,
            )?;
            return Ok(handle.into_obj());
        }
    };
    let arguments: Vec<Raw> = argument
        .iter()
        .flat_map(|(first, second)| [first.as_ptr(), second.as_ptr()])
        .collect();
    Ok(Handle::create(event_loop, function.as_ptr(), &arguments, context)?.into_obj())
}

/// `loop._dispatch((fd, generation, bits))`: an event handed out by `_ready.popleft()`.
pub(super) fn dispatch(this: &EventLoop, event: Raw) -> PyResult<()> {
    let number = |index| call::as_i64(call::tuple_item(event, index));
    this.dispatch(number(0)? as i32, number(1)? as u32, number(2)? as u8)
}

fn popleft(this: &View) -> PyResult<Obj> {
    match this.target().ready().pop() {
        Some(entry) => as_handle(this.target(), entry),
        None => Err(index_error("pop from an empty deque")),
    }
}

fn append(this: &View, handle: Raw) -> PyResult<()> {
    if Handle::of(handle).is_none() {
        return Err(type_error(&format!(
            "a Handle was expected, got {}",
            call::repr(handle)?
        )));
    }
    // SAFETY: checked above.
    let handle = unsafe { Own::<Handle>::from_obj_unchecked(Obj::from_borrowed(handle)) };
    this.target().ready().push(Entry::handle(handle));
    Ok(())
}

fn clear(this: &View) -> PyResult<()> {
    drop(this.target().ready().take_all());
    Ok(())
}

unsafe extern "C" fn len(slf: Raw) -> isize {
    // SAFETY: sq_length's receiver.
    unsafe { &*slf.cast::<View>() }.target().ready().len() as isize
}

fn select(this: &SelectorView, args: Args<'_>) -> PyResult<Obj> {
    let [timeout] = args.bind("select", &[c"timeout"], 1, 0)?;
    let timeout = timeout
        .filter(|timeout| !object::is_none(*timeout))
        .map(call::as_f64)
        .transpose()?;
    io::select(this.view.target(), timeout)
}

/// A `selectors.SelectorKey` for a descriptor with owners; KeyError for one without.
fn get_key(this: &SelectorView, file: Raw) -> PyResult<Obj> {
    let fd = io::fileno(file)?;
    match key_of(this.view.target(), fd)? {
        Some(key) => Ok(key),
        None => {
            let text = call::string(&format!("{} is not registered", call::repr(file)?))?;
            // SAFETY: a static of the interpreter.
            Err(crate::ffi::error::raise_object(unsafe { c::PyExc_KeyError }, &text))
        }
    }
}

/// All registered descriptors: a new dict of fd to SelectorKey.
fn get_map(this: &SelectorView) -> PyResult<Obj> {
    let map = call::dict()?;
    for fd in this.view.target().registered_fds() {
        if let Some(key) = key_of(this.view.target(), fd)? {
            let number = call::int(i64::from(fd))?;
            // SAFETY: A1; a dict.
            crate::ffi::error::status(unsafe { c::PyDict_SetItem(map.as_ptr(), number.as_ptr(), key.as_ptr()) })?;
        }
    }
    Ok(map)
}

fn key_of(event_loop: &EventLoop, fd: i32) -> PyResult<Option<Obj>> {
    let (reader, writer) = (
        event_loop.owner(fd, io::Side::Read),
        event_loop.owner(fd, io::Side::Write),
    );
    let events = i64::from(reader.is_some()) | i64::from(writer.is_some()) << 1;
    if events == 0 {
        return Ok(None);
    }
    let (reader, writer) = (reader.unwrap_or_else(Obj::none), writer.unwrap_or_else(Obj::none));
    let data = call::tuple(&[reader.as_ptr(), writer.as_ptr()])?;
    let (fd, events) = (call::int(i64::from(fd))?, call::int(events)?);
    let class = call::import_from("selectors", "SelectorKey")?;
    call::call(
        class.as_ptr(),
        &[fd.as_ptr(), fd.as_ptr(), events.as_ptr(), data.as_ptr()],
        None,
    )
    .map(Some)
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        unsafe {
            (*slf.cast::<View>()).event_loop.clear();
            types::free(slf);
        }
    });
}

pub(super) fn build_types(module: Raw) -> PyResult<()> {
    let flags = c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.ReadyView",
        c"A live view of a loop's ready queue.",
        size_of::<View>(),
        flags,
    );
    spec.methods = vec![
        noargs!(
            c"popleft",
            View,
            popleft,
            c"popleft($self, /)\n--\n\nTake the next entry out, as a Handle."
        ),
        onearg!(
            c"append",
            View,
            append,
            c"append($self, handle, /)\n--\n\nPut a Handle at the end."
        ),
        noargs!(c"clear", View, clear, c"clear($self, /)\n--\n\nDrop all entries."),
    ];
    spec.slots = vec![
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        (c::Py_sq_length, len as *mut c_void),
    ];
    state()
        .types
        .ready_view
        .store(spec.build(module)?.into_ptr().cast(), Ordering::Relaxed);

    let mut spec = TypeSpec::new(
        c"asynchrotron._core.SelectorView",
        c"A loop's poller with a selector's one method.",
        size_of::<SelectorView>(),
        flags,
    );
    spec.methods = vec![
        fastcall!(
        c"select",
        SelectorView,
        select,
        c"select($self, /, timeout=None)\n--\n\nPoll; what is ready goes into the ready queue, the list returned is empty."
    ),
        onearg!(
            c"get_key",
            SelectorView,
            get_key,
            c"get_key($self, fileobj, /)\n--\n\nThe SelectorKey of a registered descriptor."
        ),
        noargs!(c"get_map", SelectorView, get_map, c"get_map($self, /)\n--\n\nRegistered descriptors and their keys."),
    ];
    spec.slots = vec![(c::Py_tp_dealloc, dealloc as *mut c_void)];
    state()
        .types
        .selector_view
        .store(spec.build(module)?.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
