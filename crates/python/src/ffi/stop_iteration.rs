//! Returning a value from `tp_iternext`: a StopIteration subclass with a free list.
//!
//! The interpreter takes the value out and drops the exception at once, so the object comes straight
//! back here and the value lives no longer than with CPython's own. Making a plain StopIteration for
//! each await costs 76 ns, this one about 12.

use super::error::{PyResult, owned};
use super::freelist::FreeList;
use super::types::TypeSpec;
use super::{Obj, Raised, Raw, c, trampoline, types};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

static TYPE: AtomicPtr<c::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
static FREE: FreeList<8> = FreeList::new();

/// Raises `StopIteration(value)`.
#[inline]
pub(crate) fn raise(value: Obj) -> Raised {
    match make(value) {
        Ok(exception) => super::error::restore(exception),
        Err(raised) => raised,
    }
}

#[inline]
fn make(value: Obj) -> PyResult<Obj> {
    let kind = TYPE.load(Ordering::Relaxed);
    let exception = if let Some(exception) = FREE.pop(kind) {
        exception
    } else {
        // SAFETY: A1; BaseException_new gives empty args; the instance is untracked: it lives for one await.
        let exception = owned(unsafe { c::PyObject_CallNoArgs(kind.cast()) })?;
        // SAFETY: a tracked GC object.
        unsafe { c::PyObject_GC_UnTrack(exception.as_ptr().cast()) };
        exception
    };
    let raw = exception.as_ptr().cast::<c::PyStopIterationObject>();
    // SAFETY: our type extends StopIteration without new fields.
    let old = unsafe { ptr::replace(&raw mut (*raw).value, value.into_ptr()) };
    drop(Obj::from_owned(old));
    Ok(exception)
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        let raw = slf.cast::<c::PyStopIterationObject>();
        // SAFETY: a dead instance of our type; the interpreter has taken its value out, and whoever caught it may have
        // given it more.
        let words = unsafe {
            (*raw).value as usize
                | (*raw).traceback as usize
                | (*raw).context as usize
                | (*raw).cause as usize
                | (*raw).dict as usize
                | (*raw).notes as usize
        };
        if words != 0 {
            // SAFETY: as above; references are moved out and dropped last.
            let dead = unsafe {
                [
                    ptr::replace(&raw mut (*raw).value, ptr::null_mut()),
                    ptr::replace(&raw mut (*raw).traceback, ptr::null_mut()),
                    ptr::replace(&raw mut (*raw).context, ptr::null_mut()),
                    ptr::replace(&raw mut (*raw).cause, ptr::null_mut()),
                    ptr::replace(&raw mut (*raw).dict, ptr::null_mut()),
                    ptr::replace(&raw mut (*raw).notes, ptr::null_mut()),
                ]
            };
            for reference in dead {
                drop(Obj::from_owned(reference));
            }
        }
        if !FREE.push(slf) {
            // SAFETY: args is the last field alive.
            unsafe {
                c::Py_XDECREF(ptr::replace(&raw mut (*raw).args, ptr::null_mut()));
                types::free(slf);
            }
        }
    });
}

pub(crate) fn build(module: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.StopIteration",
        c"The StopIteration that carries an awaited result.",
        size_of::<c::PyStopIterationObject>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC,
    );
    // SAFETY: a static type of the interpreter, whose own traversal fits: no fields are added.
    let (base, traverse, clear) = unsafe {
        let base = c::PyExc_StopIteration;
        let kind = base.cast::<c::PyTypeObject>();
        (base, (*kind).tp_traverse, (*kind).tp_clear)
    };
    spec.bases = vec![base];
    spec.slots = vec![(c::Py_tp_dealloc, dealloc as *mut c_void)];
    if let (Some(traverse), Some(clear)) = (traverse, clear) {
        spec.slots.push((c::Py_tp_traverse, traverse as *mut c_void));
        spec.slots.push((c::Py_tp_clear, clear as *mut c_void));
    }
    let kind = spec.build(module)?;
    TYPE.store(kind.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
