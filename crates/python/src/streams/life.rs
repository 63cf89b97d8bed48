//! How readers, writers and protocols begin and end as Python objects: the slots of their types that do not differ.

use crate::ffi::collected::{self, Collected};
use crate::ffi::error::PyResult;
use crate::ffi::trampoline;
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Raw, Slot, args, c, types};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;

/// The instance dictionary and the list of weak references.
#[repr(C)]
pub(super) struct Attached {
    pub(super) dict: Slot,
    pub(super) weaklist: Cell<Raw>,
}

/// A class of streams, whose type has the slots of this file.
pub(super) trait Life: Collected {
    /// Is there anything that `__del__` could have to do?
    fn has_finaliser(&self) -> bool;

    /// `__init__`
    fn init_with(&self, args: Args<'_>) -> PyResult<()>;

    /// Drops what is not a slot, without running Python code.
    ///
    /// # Safety
    /// Called once, when nobody can reach the instance any more.
    unsafe fn drop_fields(_this: *mut Self) {}
}

unsafe extern "C" fn init<T: Life>(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_init's receiver.
        let this = unsafe { &*slf.cast::<T>() };
        args::with_tuple_and_dict(positional, keywords, |args| this.init_with(args))
    })
}

unsafe extern "C" fn dealloc<T: Life>(slf: Raw) {
    trampoline::enter_void(|| {
        let this = slf.cast::<T>();
        {
            // SAFETY: tp_dealloc's receiver.
            let this = unsafe { &*this };
            // SAFETY: A1; a negative answer means that `__del__` brought the object back to life.
            if this.has_finaliser() && unsafe { c::PyObject_CallFinalizerFromDealloc(slf) } < 0 {
                return;
            }
            // SAFETY: a GC object.
            unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
            collected::clear_weak_references(this);
            this.empty_fields();
        }
        // SAFETY: as `drop_fields` asks; then nothing is left to drop.
        unsafe {
            T::drop_fields(this);
            types::free(slf);
        }
    });
}

/// Adds the slots to `spec`, and where `Attached` is.
pub(super) fn complete<T: Life>(spec: &mut TypeSpec, attached_offset: usize) {
    spec.dict_offset = Some(attached_offset + offset_of!(Attached, dict));
    spec.weaklist_offset = Some(attached_offset + offset_of!(Attached, weaklist));
    spec.slots.push((c::Py_tp_init, init::<T> as *mut c_void));
    spec.slots.extend(collected::slots_with::<T>(dealloc::<T>));
}
