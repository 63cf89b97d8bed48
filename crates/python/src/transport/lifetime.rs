//! How pipe and datagram transports begin and end as Python objects: the slots of their types that do not differ.

use super::AllSteps;
use super::endpoint::Endpoint;
use crate::ffi::error::{self, PyResult, import_error};
use crate::ffi::trampoline;
use crate::ffi::types::TypeSpec;
use crate::ffi::{Obj, Raised, Raw, Slot, c, call, object, slot, types};
use crate::state::names;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;

use super::endpoint::Core;

/// A transport whose type has the slots of this file.
pub(super) trait Lifetime: Endpoint {
    /// Shows each reference that is not in `Core`.
    fn for_each_slot(&self, look: &mut dyn FnMut(&Slot));

    /// Makes whole what zeroed memory does not.
    ///
    /// # Safety
    /// `this` is a zeroed instance that nobody else sees. No Python code runs.
    unsafe fn make_fields(_this: *mut Self) {}

    /// Drops what `make_fields` made, without running Python code.
    ///
    /// # Safety
    /// Called once, when nobody can reach the instance any more.
    unsafe fn drop_fields(&self) {}
}

fn each_slot<T: Lifetime>(this: &T, mut look: impl FnMut(&Slot)) {
    this.slots().into_iter().for_each(&mut look);
    this.for_each_slot(&mut look);
}

unsafe extern "C" fn new<T: Lifetime>(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let made = types::allocate(kind)?;
        // SAFETY: as `make_fields` asks.
        unsafe { T::make_fields(made.as_ptr().cast()) };
        #[cfg(not(Py_3_12))]
        {
            // 3.11 makes method calls quick for instances that have a dict, later versions for those that do not yet.
            // SAFETY: just made.
            let this = unsafe { &*made.as_ptr().cast::<T>() };
            this.dict.set(call::dict()?);
        }
        Ok(made)
    })
}

unsafe extern "C" fn traverse<T: Lifetime>(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<T>() };
    let mut code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    each_slot(this, |slot| {
        if code == 0 {
            code = slot.traverse(visit, arg);
        }
    });
    code
}

unsafe extern "C" fn clear<T: Lifetime>(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        each_slot(unsafe { &*slf.cast::<T>() }, Slot::clear);
        Ok(())
    })
}

/// `__del__`: says that nobody closed the transport, and closes what owns the descriptor.
fn finalize_open<T: Lifetime>(this: &T, file: &Obj) -> PyResult<()> {
    let text = format!("unclosed transport {}", call::repr(this.raw())?);
    error::resource_warning(this.raw(), &text);
    let mut steps = AllSteps::new();
    steps.run(|| call::call_method(names::close(), &[file.as_ptr()], None));
    steps.end()
}

unsafe extern "C" fn finalize<T: Lifetime>(slf: Raw) {
    // SAFETY: tp_finalize's receiver.
    let this = unsafe { &*slf.cast::<T>() };
    if !this.file.is_set() {
        return;
    }
    trampoline::enter_void(|| {
        let interrupted = error::take_if_any();
        if let Some(file) = this.file.get()
            && finalize_open(this, &file).is_err()
        {
            error::write_unraisable(slf);
        }
        if let Some(interrupted) = interrupted {
            let Raised = error::restore(interrupted);
        }
    });
}

unsafe extern "C" fn dealloc<T: Lifetime>(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver.
        let this = unsafe { &*slf.cast::<T>() };
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
        each_slot(this, Slot::clear);
        // SAFETY: as `drop_fields` asks.
        unsafe { this.drop_fields() };
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    });
}

/// Adds to `spec` the bases and slots, and where `Core` is.
pub(super) fn complete<T: Lifetime>(spec: &mut TypeSpec, bases: &[Raw], core_offset: usize) -> PyResult<()> {
    check_base(bases[0], core_offset)?;
    spec.bases = bases.to_vec();
    spec.dict_offset = Some(core_offset + offset_of!(Core, dict));
    spec.weaklist_offset = Some(core_offset + offset_of!(Core, weaklist));
    spec.slots.extend([
        (c::Py_tp_new, new::<T> as *mut c_void),
        (c::Py_tp_traverse, traverse::<T> as *mut c_void),
        (c::Py_tp_clear, clear::<T> as *mut c_void),
        (c::Py_tp_finalize, finalize::<T> as *mut c_void),
        (c::Py_tp_dealloc, dealloc::<T> as *mut c_void),
    ]);
    Ok(())
}

/// Our struct begins with the Python base class's: its instances are a header and its `__slots__`.
pub(super) fn check_base(base: Raw, expected: usize) -> PyResult<()> {
    let size = call::getattr(base, call::interned("__basicsize__")?.as_ptr())?;
    let found = call::as_i64(size.as_ptr())?;
    if found != expected as i64 {
        return Err(import_error(&format!(
            "asynchrotron does not know this Python's {}: its instances have {found} bytes instead of {expected}",
            call::repr(base)?
        )));
    }
    Ok(())
}
