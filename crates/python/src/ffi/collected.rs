//! How objects of ours are shown to the collector and freed: the slots of their types that do not differ.
//!
//! A type says with `collected!` once which of its fields hold references. What is freed in another way (kept for the
//! next one, finalised first) has a `tp_dealloc` of its own, and ends it with `free_dead`.

use super::{Native, Raw, c, object, slot, trampoline, trash, types};
use std::ffi::{c_int, c_void};

/// Made by `collected!`.
pub(crate) trait Collected: Native {
    /// Visits what the fields refer to.
    fn traverse_fields(&self, visit: c::visitproc, arg: *mut c_void) -> c_int;

    /// Empties the fields. May run any Python code.
    fn empty_fields(&self);

    /// The list of weak references; NULL where there are none, or can be none.
    fn weaklist(&self) -> Raw;
}

/// `collected!(Type, this => this.a, this.b)`: the fields, in the order in which they are emptied. Each is anything with
/// the methods `traverse` and `clear`. With `weak this.weaklist;` before the fields, the type has weak references.
macro_rules! collected {
    ($type:ty, $this:ident => weak $weaklist:expr; $($field:expr),+ $(,)?) => {
        $crate::ffi::collected::collected!(@ $type, $this, $weaklist.get(), $($field),+);
    };
    ($type:ty, $this:ident => $($field:expr),+ $(,)?) => {
        $crate::ffi::collected::collected!(@ $type, $this, ::std::ptr::null_mut(), $($field),+);
    };
    (@ $type:ty, $this:ident, $weaklist:expr, $($field:expr),+) => {
        impl $crate::ffi::collected::Collected for $type {
            fn traverse_fields(
                &self,
                visit: $crate::ffi::c::visitproc,
                arg: *mut ::std::ffi::c_void,
            ) -> ::std::ffi::c_int {
                let $this = self;
                $(
                    let code = $field.traverse(visit, arg);
                    if code != 0 {
                        return code;
                    }
                )+
                0
            }

            fn empty_fields(&self) {
                let $this = self;
                $($field.clear();)+
            }

            #[inline]
            fn weaklist(&self) -> $crate::ffi::Raw {
                #[allow(unused_variables)]
                let $this = self;
                $weaklist
            }
        }
    };
}
pub(crate) use collected;

pub(crate) unsafe extern "C" fn traverse<T: Collected>(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    let code = slot::visit_raw(object::type_of(slf).cast(), visit, arg);
    if code != 0 {
        return code;
    }
    // SAFETY: tp_traverse's receiver.
    unsafe { &*slf.cast::<T>() }.traverse_fields(visit, arg)
}

pub(crate) unsafe extern "C" fn clear<T: Collected>(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        unsafe { &*slf.cast::<T>() }.empty_fields();
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn dealloc<T: Collected>(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        free_dead::<T>(slf);
    });
}

/// For a type whose fields may hold the next one of its kind, and so on.
unsafe extern "C" fn dealloc_shallowly<T: Collected>(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        trash::free_shallowly(slf, free_dead::<T>);
    });
}

/// Frees `slf`, which is dead and untracked, but whole.
pub(crate) fn free_dead<T: Collected>(slf: Raw) {
    // SAFETY: as the caller says.
    let this = unsafe { &*slf.cast::<T>() };
    clear_weak_references(this);
    this.empty_fields();
    // SAFETY: its fields are empty.
    unsafe { types::free(slf) };
}

/// Tells those who refer to it weakly.
#[inline]
pub(crate) fn clear_weak_references<T: Collected>(this: &T) {
    if !this.weaklist().is_null() {
        // SAFETY: A1; the type has a weaklist offset.
        unsafe { c::PyObject_ClearWeakRefs(this.raw()) };
    }
}

/// The slots of a type.
pub(crate) fn slots<T: Collected>() -> [(c_int, *mut c_void); 3] {
    slots_with::<T>(dealloc::<T>)
}

/// The slots of a type whose fields may hold the next one of its kind, and so on.
pub(crate) fn slots_of_chained<T: Collected>() -> [(c_int, *mut c_void); 3] {
    slots_with::<T>(dealloc_shallowly::<T>)
}

/// The slots of a type with a `tp_dealloc` of its own.
pub(crate) fn slots_with<T: Collected>(dealloc: unsafe extern "C" fn(Raw)) -> [(c_int, *mut c_void); 3] {
    [
        (c::Py_tp_traverse, traverse::<T> as *mut c_void),
        (c::Py_tp_clear, clear::<T> as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
    ]
}
