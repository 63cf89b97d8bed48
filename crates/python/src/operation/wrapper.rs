//! Wrapper: what `operation.__await__()` returns to Python code.

use super::{Operation, coroutine};
use crate::ffi::collected::{self, collected};
use crate::ffi::error::PyResult;
use crate::ffi::trampoline::{fastcall, noargs, onearg, unary_slot};
use crate::ffi::types::{self, TypeSpec};
use crate::ffi::{Args, Native, Obj, Own, Raw, Slot, c};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[repr(C)]
struct Wrapper {
    head: c::PyObject,
    operation: Slot,
}

static WRAPPER: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

// SAFETY: repr(C), header first, zero is valid.
unsafe impl Native for Wrapper {
    fn type_object() -> *mut c::PyTypeObject {
        WRAPPER.load(Ordering::Relaxed)
    }
}

impl Wrapper {
    fn target(&self) -> &Operation {
        // SAFETY: set at creation to an operation, never changed: a wrapper is not part of a cycle before it dies.
        unsafe { &*self.operation.ptr().cast::<Operation>() }
    }
}

pub(super) fn py_await(this: &Operation) -> PyResult<Obj> {
    let obj = types::allocate(Wrapper::type_object())?;
    // SAFETY: freshly made of this very type.
    let wrapper = unsafe { Own::<Wrapper>::from_obj_unchecked(obj) };
    wrapper.operation.set(this.obj());
    Ok(wrapper.into_obj())
}

fn next(this: &Wrapper) -> PyResult<Option<Obj>> {
    coroutine::iternext(this.target())
}

fn send(this: &Wrapper, value: Raw) -> PyResult<Obj> {
    coroutine::send(this.target(), value)
}

fn throw(this: &Wrapper, args: Args<'_>) -> PyResult<Obj> {
    coroutine::throw(this.target(), args)
}

fn close(this: &Wrapper) -> PyResult<()> {
    coroutine::close(this.target())
}

fn iter(this: &Wrapper) -> PyResult<Obj> {
    Ok(this.obj())
}

collected!(Wrapper, this => this.operation);

pub(super) fn build(module: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.coroutine_wrapper",
        c"A wrapper object implementing __await__ for coroutines.",
        size_of::<Wrapper>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![
        onearg!(
            c"send",
            Wrapper,
            send,
            c"send($self, value, /)\n--\n\nResume the coroutine."
        ),
        fastcall!(
            c"throw",
            Wrapper,
            throw,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception in the coroutine."
        ),
        noargs!(c"close", Wrapper, close, c"close($self, /)\n--\n\nClose the coroutine."),
    ];
    spec.slots = vec![
        // No `tp_clear`: it has an operation as long as it lives.
        (c::Py_tp_traverse, collected::traverse::<Wrapper> as *mut c_void),
        (c::Py_tp_dealloc, collected::dealloc::<Wrapper> as *mut c_void),
        unary_slot!(c::Py_tp_iter, Wrapper, iter),
        unary_slot!(c::Py_tp_iternext, Wrapper, next),
    ];
    WRAPPER.store(spec.build(module)?.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
