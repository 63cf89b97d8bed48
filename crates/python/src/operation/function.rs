//! Functions that make Operations: `sleep`, and the `sock_*` methods of the loop.
//!
//! Each stands for a coroutine function of the stdlib and keeps it: whatever a program asks such a function for (name,
//! signature, code, documentation, its class) is answered by the stdlib's. It is also called for arguments that do not
//! fit, so that errors are worded as the running version words them. Like any Python function, and unlike built-in
//! ones, they become methods when they are found in a class.

use super::{Behaviour, Bound, KINDS, Kind, Operation};
use crate::event_loop::EventLoop;
use crate::ffi::error::{PyResult, owned};
use crate::ffi::trampoline::{self, noargs, unary_slot};
use crate::ffi::types::{TypeSpec, add_to_module};
use crate::ffi::{Native, Obj, Own, Raw, Slot, c, call, error, types};
use crate::state::state;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    // Not in pyo3-ffi; documented C API.
    fn PyMethod_New(function: Raw, receiver: Raw) -> Raw;
}

/// What operations look up once, at import.
pub(super) struct Table {
    originals: [Obj; KINDS],
    /// `sys.get_coroutine_origin_tracking_depth`.
    pub(super) origin_depth: Obj,
    /// `asyncio.base_events._check_ssl_socket`.
    pub(super) check_ssl_socket: Obj,
    pub(super) sockets: super::sock::SocketType,
    /// The int 0, of which there is only one.
    pub(super) zero: Obj,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

#[inline]
pub(super) fn table() -> &'static Table {
    // SAFETY: set by `build` before any operation exists, never freed.
    unsafe { &*TABLE.load(Ordering::Relaxed) }
}

/// The stdlib's coroutine function.
pub(super) fn original(kind: Kind) -> Raw {
    table().originals[kind as usize].as_ptr()
}

/// Method name, and the names of its parameters; the last may be left out where `optional`.
struct Method {
    kind: Kind,
    name: &'static CStr,
    parameters: &'static [&'static CStr],
    optional: bool,
}

const SOCKET_METHODS: [Method; KINDS - 1] = [
    Method {
        kind: Kind::Recv,
        name: c"sock_recv",
        parameters: &[c"sock", c"n"],
        optional: false,
    },
    Method {
        kind: Kind::RecvInto,
        name: c"sock_recv_into",
        parameters: &[c"sock", c"buf"],
        optional: false,
    },
    Method {
        kind: Kind::RecvFrom,
        name: c"sock_recvfrom",
        parameters: &[c"sock", c"bufsize"],
        optional: false,
    },
    Method {
        kind: Kind::RecvFromInto,
        name: c"sock_recvfrom_into",
        parameters: &[c"sock", c"buf", c"nbytes"],
        optional: true,
    },
    Method {
        kind: Kind::SendAll,
        name: c"sock_sendall",
        parameters: &[c"sock", c"data"],
        optional: false,
    },
    Method {
        kind: Kind::SendTo,
        name: c"sock_sendto",
        parameters: &[c"sock", c"data", c"address"],
        optional: false,
    },
    Method {
        kind: Kind::Accept,
        name: c"sock_accept",
        parameters: &[c"sock"],
        optional: false,
    },
];

#[repr(C)]
struct Function {
    head: c::PyObject,
    vectorcall: Cell<Option<c::vectorcallfunc>>,
    original: Slot,
    weaklist: Cell<Raw>,
    kind: Cell<Kind>,
    behaviour: Cell<Option<&'static Behaviour>>,
    /// With so many arguments, all by position, they are complete and in their places: at least, at most.
    positional: Cell<(u8, u8)>,
}

// SAFETY: repr(C), header first; zero is valid for every field (Kind::Sleep is 0, None is null).
unsafe impl Native for Function {
    fn type_object() -> *mut c::PyTypeObject {
        state().types.operation_function()
    }
}

// ---- calls ---------------------------------------------------------------------------------------

/// Arguments as a vectorcall brings them.
#[derive(Clone, Copy)]
struct Call {
    args: *const Raw,
    nargsf: usize,
    kwnames: Raw,
}

impl Call {
    #[inline]
    fn positional(&self) -> &[Raw] {
        let count = self.nargsf & !c::PY_VECTORCALL_ARGUMENTS_OFFSET;
        if count == 0 {
            return &[];
        }
        // SAFETY: the vectorcall protocol; they live as long as the call, which `self` does not outlive.
        unsafe { std::slice::from_raw_parts(self.args, count) }
    }

    /// Puts the arguments after the first `skip` positional ones into their places. `None` if they do not fit.
    fn bind(&self, parameters: &[&CStr], optional: bool, skip: usize) -> Option<[Option<Raw>; 3]> {
        let positional = self.positional().get(skip..)?;
        if positional.len() > parameters.len() {
            return None;
        }
        let mut bound = [None; 3];
        for (place, value) in bound.iter_mut().zip(positional) {
            *place = Some(*value);
        }
        self.bind_keywords(parameters, &mut bound)?;
        let required = parameters.len() - usize::from(optional);
        bound[..required].iter().all(Option::is_some).then_some(bound)
    }

    /// Puts the keyword arguments into their places. `None` if they do not fit.
    fn bind_keywords(&self, parameters: &[&CStr], bound: &mut [Option<Raw>]) -> Option<()> {
        let keywords = if self.kwnames.is_null() {
            0
        } else {
            call::tuple_len(self.kwnames)
        };
        for index in 0..keywords {
            let name = call::tuple_item(self.kwnames, index);
            // SAFETY: keyword names are strings.
            let is_name = |known: &&CStr| unsafe { c::PyUnicode_CompareWithASCIIString(name, known.as_ptr()) } == 0;
            let place = parameters.iter().position(is_name)?;
            // SAFETY: the vectorcall protocol: keyword values come after the positional ones.
            let value = unsafe { *self.args.add(self.positional().len() + index) };
            if bound[place].replace(value).is_some() {
                return None;
            }
        }
        Some(())
    }

    /// The arguments given by name, as a dictionary.
    fn keywords(&self) -> PyResult<Option<Obj>> {
        if self.kwnames.is_null() || call::tuple_len(self.kwnames) == 0 {
            return Ok(None);
        }
        let keywords = call::dict()?;
        for index in 0..call::tuple_len(self.kwnames) {
            let name = call::tuple_item(self.kwnames, index);
            // SAFETY: the vectorcall protocol: keyword values come after the positional ones.
            let value = unsafe { *self.args.add(self.positional().len() + index) };
            // SAFETY: A1; a dict.
            error::status(unsafe { c::PyDict_SetItem(keywords.as_ptr(), name, value) })?;
        }
        Ok(Some(keywords))
    }

    /// The stdlib's own answer: an error in most cases.
    #[cold]
    fn forward(self, original: Raw) -> PyResult<Obj> {
        // SAFETY: A1; the very arguments received.
        owned(unsafe { c::PyObject_Vectorcall(original, self.args, self.nargsf, self.kwnames) })
    }
}

unsafe extern "C" fn call_sleep(callable: Raw, args: *const Raw, nargsf: usize, kwnames: Raw) -> Raw {
    trampoline::enter(|| {
        let given = Call { args, nargsf, kwnames };
        if kwnames.is_null() {
            match *given.positional() {
                [delay] => return Operation::create_sleep(delay, None),
                [delay, result] => return Operation::create_sleep(delay, Some(result)),
                _ => {}
            }
        } else if let Some([Some(delay), result, _]) = given.bind(&[c"delay", c"result"], true, 0) {
            return Operation::create_sleep(delay, result);
        }
        // SAFETY: a vectorcall's receiver.
        given.forward(unsafe { &*callable.cast::<Function>() }.original.ptr())
    })
}

unsafe extern "C" fn call_socket_method(callable: Raw, args: *const Raw, nargsf: usize, kwnames: Raw) -> Raw {
    trampoline::enter(|| {
        // SAFETY: a vectorcall's receiver.
        let function = unsafe { &*callable.cast::<Function>() };
        let given = Call { args, nargsf, kwnames };
        let kind = function.kind.get();
        let method = &SOCKET_METHODS[kind as usize - 1];
        if let Some(event_loop) = given.positional().first().and_then(|receiver| EventLoop::of(*receiver))
            && let Some(bound) = given.bind(method.parameters, method.optional, 1)
        {
            return Operation::create_for_socket(kind, event_loop, bound);
        }
        given.forward(function.original.ptr())
    })
}

unsafe extern "C" fn call_behaviour(callable: Raw, args: *const Raw, nargsf: usize, kwnames: Raw) -> Raw {
    trampoline::enter(|| {
        // SAFETY: a vectorcall's receiver.
        let function = unsafe { &*callable.cast::<Function>() };
        let given = Call { args, nargsf, kwnames };
        if let Some(behaviour) = function.behaviour.get() {
            let made = if function.takes_as_they_are(&given) {
                (behaviour.create)(behaviour, Bound::new(given.positional()))?
            } else {
                create_bound(behaviour, given)?
            };
            if let Some(operation) = made {
                return Ok(operation);
            }
        }
        given.forward(function.original.ptr())
    })
}

unsafe extern "C" fn call_variadic(callable: Raw, args: *const Raw, nargsf: usize, kwnames: Raw) -> Raw {
    trampoline::enter(|| {
        // SAFETY: a vectorcall's receiver.
        let function = unsafe { &*callable.cast::<Function>() };
        let given = Call { args, nargsf, kwnames };
        if let Some(behaviour) = function.behaviour.get()
            && let [first, more @ ..] = given.positional()
        {
            let (more, by_name) = (call::tuple(more)?, given.keywords()?);
            let by_name = by_name.as_ref().map_or(ptr::null_mut(), Obj::as_ptr);
            if let Some(operation) = (behaviour.create)(behaviour, Bound::new(&[*first, more.as_ptr(), by_name]))? {
                return Ok(operation);
            }
        }
        given.forward(function.original.ptr())
    })
}

impl Function {
    /// Are these all arguments, and each in its place? As in most calls.
    #[inline]
    fn takes_as_they_are(&self, given: &Call) -> bool {
        let (least, most) = self.positional.get();
        let count = given.positional().len();
        given.kwnames.is_null() && count >= usize::from(least) && count <= usize::from(most)
    }
}

/// Puts the arguments into their places first; None if they do not fit.
#[inline(never)]
fn create_bound(behaviour: &'static Behaviour, given: Call) -> PyResult<Option<Obj>> {
    let positional = given.positional();
    if positional.len() > behaviour.parameters.len() {
        return Ok(None);
    }
    let mut bound = [None; Bound::MAX];
    for (place, value) in bound.iter_mut().zip(positional) {
        *place = Some(*value);
    }
    let complete = if given.kwnames.is_null() {
        positional.len() >= behaviour.required
    } else {
        given.bind_keywords(behaviour.parameters, &mut bound).is_some()
            && bound[..behaviour.required].iter().all(Option::is_some)
    };
    let fits = complete
        && behaviour
            .positional_max()
            .is_none_or(|max| positional.len() <= max && bound[max].is_none());
    if !fits {
        return Ok(None);
    }
    let places = bound.map(|argument| argument.unwrap_or(ptr::null_mut()));
    (behaviour.create)(behaviour, Bound::new(&places))
}

// ---- what programs look at -----------------------------------------------------------------------

/// Answered by the function itself; the stdlib's would speak for itself, not for this one.
const OWN_NAMES: [&CStr; 4] = [c"__call__", c"__get__", c"__reduce__", c"__reduce_ex__"];

unsafe extern "C" fn getattro(slf: Raw, name: Raw) -> Raw {
    trampoline::enter(|| {
        // SAFETY: attribute names are strings; A1.
        let is = |own: &&CStr| unsafe { c::PyUnicode_CompareWithASCIIString(name, own.as_ptr()) } == 0;
        if OWN_NAMES.iter().any(is) {
            // SAFETY: A1.
            return owned(unsafe { c::PyObject_GenericGetAttr(slf, name) });
        }
        // SAFETY: a slot's receiver.
        call::getattr(unsafe { &*slf.cast::<Function>() }.original.ptr(), name)
    })
}

unsafe extern "C" fn setattro(slf: Raw, name: Raw, value: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: a slot's receiver.
        let original = unsafe { &*slf.cast::<Function>() }.original.ptr();
        // SAFETY: A1; no value means to delete.
        error::status(unsafe { c::PyObject_SetAttr(original, name, value) })
    })
}

unsafe extern "C" fn descr_get(slf: Raw, receiver: Raw, _class: Raw) -> Raw {
    trampoline::enter(|| {
        if receiver.is_null() {
            return Ok(Obj::from_borrowed(slf));
        }
        // SAFETY: A1; both live.
        owned(unsafe { PyMethod_New(slf, receiver) })
    })
}

fn repr(this: &Function) -> PyResult<Obj> {
    let name = call::getattr(this.original.ptr(), call::interned("__qualname__")?.as_ptr())?;
    call::string(&format!(
        "<function {} at {:p}>",
        call::to_string(name.as_ptr())?,
        this.raw()
    ))
}

/// Pickled by name where the name is ours, otherwise as the stdlib's function, which is there under that name.
fn reduce(this: &Function) -> PyResult<Obj> {
    let name = call::getattr(this.original.ptr(), call::interned("__qualname__")?.as_ptr())?;
    let module = call::getattr(this.original.ptr(), call::interned("__module__")?.as_ptr())?;
    let installed = call::import(&call::to_string(module.as_ptr())?)
        .and_then(|module| call::getattr_optional(module.as_ptr(), name.as_ptr()))?
        .is_some_and(|found| found.is(this.raw()));
    if installed {
        return Ok(name);
    }
    let arguments = call::tuple(&[this.original.ptr()])?;
    call::tuple(&[call::import_from("copy", "copy")?.as_ptr(), arguments.as_ptr()])
}

unsafe extern "C" fn reduce_ex(slf: Raw, _protocol: Raw) -> Raw {
    // SAFETY: a method's receiver.
    trampoline::enter(|| reduce(unsafe { &*slf.cast::<Function>() }))
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<Function>() };
        if !this.weaklist.get().is_null() {
            // SAFETY: A1; the type has a weaklist offset.
            unsafe { c::PyObject_ClearWeakRefs(slf) };
        }
        this.original.clear();
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    });
}

fn build_type(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.function",
        c"A coroutine function whose coroutines are native.",
        size_of::<Function>(),
        c::Py_TPFLAGS_DEFAULT
            | c::Py_TPFLAGS_HAVE_VECTORCALL
            | c::Py_TPFLAGS_METHOD_DESCRIPTOR
            // The interpreter specialises calls of methods only if their descriptor's type cannot change.
            | c::Py_TPFLAGS_IMMUTABLETYPE
            | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.weaklist_offset = Some(offset_of!(Function, weaklist));
    spec.vectorcall_offset = Some(offset_of!(Function, vectorcall));
    spec.methods = vec![
        noargs!(
            c"__reduce__",
            Function,
            reduce,
            c"__reduce__($self, /)\n--\n\nFor pickle."
        ),
        crate::ffi::types::Method::onearg(
            c"__reduce_ex__",
            reduce_ex,
            c"__reduce_ex__($self, protocol, /)\n--\n\nFor pickle.",
        ),
    ];
    spec.slots = vec![
        (c::Py_tp_call, c::PyVectorcall_Call as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        (c::Py_tp_getattro, getattro as *mut c_void),
        (c::Py_tp_setattro, setattro as *mut c_void),
        (c::Py_tp_descr_get, descr_get as *mut c_void),
        unary_slot!(c::Py_tp_repr, Function, repr),
    ];
    spec.build(module)
}

fn make(kind: Kind, entry: c::vectorcallfunc) -> PyResult<Obj> {
    let obj = types::allocate(Function::type_object())?;
    // SAFETY: freshly made of this very type.
    let function = unsafe { Own::<Function>::from_obj_unchecked(obj) };
    function.vectorcall.set(Some(entry));
    function.kind.set(kind);
    function.original.set(Obj::from_borrowed(original(kind)));
    Ok(function.into_obj())
}

/// The function of a behaviour, or None where the running version has no such function.
pub(crate) fn of_behaviour(behaviour: &'static Behaviour) -> PyResult<Option<Obj>> {
    with_entry(behaviour, call_behaviour)
}

/// The same for one whose parameters are one positional argument, and `VARIADIC`.
pub(crate) fn of_variadic(behaviour: &'static Behaviour) -> PyResult<Option<Obj>> {
    with_entry(behaviour, call_variadic)
}

fn with_entry(behaviour: &'static Behaviour, entry: c::vectorcallfunc) -> PyResult<Option<Obj>> {
    let mut owner = call::import(behaviour.module)?;
    if !behaviour.class.is_empty() {
        match call::getattr_optional(owner.as_ptr(), call::interned(behaviour.class)?.as_ptr())? {
            Some(class) => owner = class,
            None => return Ok(None),
        }
    }
    let Some(original) = call::getattr_optional(owner.as_ptr(), call::interned(behaviour.name)?.as_ptr())? else {
        return Ok(None);
    };
    behaviour.original.set(original.clone());
    let obj = types::allocate(Function::type_object())?;
    // SAFETY: freshly made of this very type.
    let function = unsafe { Own::<Function>::from_obj_unchecked(obj) };
    function.vectorcall.set(Some(entry));
    function.kind.set(Kind::Other);
    function.behaviour.set(Some(behaviour));
    let most = behaviour.positional_max().unwrap_or(behaviour.parameters.len());
    debug_assert!(most <= Bound::MAX);
    function.positional.set((behaviour.required as u8, most as u8));
    function.original.set(original);
    Ok(Some(function.into_obj()))
}

/// Gives `class` the coroutine methods that the running version has.
pub(crate) fn add_methods(class: &Obj, behaviours: &[&'static Behaviour]) -> PyResult<()> {
    for behaviour in behaviours {
        if let Some(method) = of_behaviour(behaviour)? {
            call::setattr(
                class.as_ptr(),
                call::interned(behaviour.name)?.as_ptr(),
                method.as_ptr(),
            )?;
        }
    }
    Ok(())
}

fn look_up() -> PyResult<Table> {
    let mut originals = vec![call::import_from("asyncio.tasks", "sleep")?];
    let class = call::import_from("asyncio.selector_events", "BaseSelectorEventLoop")?;
    for method in &SOCKET_METHODS {
        debug_assert!(originals.len() == method.kind as usize);
        let name = call::interned(&method.name.to_string_lossy())?;
        originals.push(call::getattr(class.as_ptr(), name.as_ptr())?);
    }
    Ok(Table {
        originals: originals.try_into().ok().expect("one for each kind"),
        origin_depth: call::import_from("sys", "get_coroutine_origin_tracking_depth")?,
        check_ssl_socket: call::import_from("asyncio.base_events", "_check_ssl_socket")?,
        sockets: super::sock::SocketType::load()?,
        zero: call::int(0)?,
    })
}

pub(super) fn build(module: Raw, event_loop_type: &Obj) -> PyResult<()> {
    TABLE.store(Box::into_raw(Box::new(look_up()?)), Ordering::Release);
    let function_type = build_type(module)?;
    state()
        .types
        .operation_function
        .store(function_type.into_ptr().cast(), Ordering::Relaxed);
    add_to_module(module, c"sleep", &make(Kind::Sleep, call_sleep)?)?;
    for method in &SOCKET_METHODS {
        let name = call::interned(&method.name.to_string_lossy())?;
        let function = make(method.kind, call_socket_method)?;
        call::setattr(event_loop_type.as_ptr(), name.as_ptr(), function.as_ptr())?;
    }
    Ok(())
}
