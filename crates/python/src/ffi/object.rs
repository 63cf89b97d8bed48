//! Owned references. `Obj` owns a reference to any object, `Own<T>` one to an object of a native type.
//!
//! Dropping either is a call into Python: a finaliser may run anything.

use super::{Raw, c};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// An owned strong reference.
#[repr(transparent)]
pub(crate) struct Obj(NonNull<c::PyObject>);

impl Obj {
    /// Takes over a reference the C API handed out; `None` for NULL.
    #[inline]
    pub(crate) fn from_owned(raw: Raw) -> Option<Obj> {
        NonNull::new(raw).map(Obj)
    }

    /// Makes a new reference from a borrowed, non-NULL pointer.
    #[inline]
    pub(crate) fn from_borrowed(raw: Raw) -> Obj {
        // SAFETY: A1; callers pass a live object (every `Raw` in this crate is one while its call lasts).
        unsafe { c::Py_INCREF(raw) };
        // SAFETY: as above, not NULL.
        Obj(unsafe { NonNull::new_unchecked(raw) })
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> Raw {
        self.0.as_ptr()
    }

    /// Gives the reference away.
    #[inline]
    pub(crate) fn into_ptr(self) -> Raw {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }

    #[inline]
    pub(crate) fn none() -> Obj {
        // SAFETY: A1; None lives as long as the interpreter.
        Obj::from_borrowed(unsafe { c::Py_None() })
    }

    pub(crate) fn bool(value: bool) -> Obj {
        // SAFETY: A1; the singletons live as long as the interpreter.
        Obj::from_borrowed(unsafe { if value { c::Py_True() } else { c::Py_False() } })
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        is_none(self.as_ptr())
    }

    #[inline]
    pub(crate) fn is(&self, other: Raw) -> bool {
        self.as_ptr() == other
    }
}

impl Clone for Obj {
    #[inline]
    fn clone(&self) -> Obj {
        Obj::from_borrowed(self.as_ptr())
    }
}

impl Drop for Obj {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: A1; `self` owns this reference.
        unsafe { c::Py_DECREF(self.0.as_ptr()) };
    }
}

#[inline]
pub(crate) fn is_none(raw: Raw) -> bool {
    // SAFETY: reading the address of the singleton.
    raw == unsafe { c::Py_None() }
}

#[inline]
pub(crate) fn type_of(raw: Raw) -> *mut c::PyTypeObject {
    // SAFETY: `raw` is a live object.
    unsafe { c::Py_TYPE(raw) }
}

/// The type's name as it was given to the C API (`tp_name`): with the module for a static type, without for a class.
pub(crate) fn full_type_name(raw: Raw) -> String {
    // SAFETY: tp_name is a NUL-terminated string for every ready type.
    unsafe { std::ffi::CStr::from_ptr((*type_of(raw)).tp_name) }
        .to_string_lossy()
        .into_owned()
}

/// The type's name with its module, as `%T` of the C API gives it.
#[cfg(Py_3_15)]
pub(crate) fn qualified_type_name(raw: Raw) -> crate::ffi::error::PyResult<String> {
    // SAFETY: the type of a live object.
    let name = crate::ffi::error::owned(unsafe { c::PyType_GetFullyQualifiedName(type_of(raw)) })?;
    crate::ffi::call::to_string(name.as_ptr())
}

/// The qualified name's last part, as the C API's error texts use it (`tp_name` without the module).
pub(crate) fn type_name(raw: Raw) -> String {
    let full = full_type_name(raw);
    full.rsplit('.').next().unwrap_or_default().to_owned()
}

/// A type laid out by this crate: `#[repr(C)]`, starting with the object header.
///
/// # Safety
/// `Self` must be `repr(C)` with a `PyObject` (or a base `Native`'s struct) first, every field must be
/// valid when zeroed, and only types built from it (or their subclasses) may be cast to it.
pub(crate) unsafe trait Native: Sized {
    /// The type object, made once at import.
    fn type_object() -> *mut c::PyTypeObject;

    /// `isinstance` by real type (subclasses count, `__class__` tricks do not).
    #[inline]
    fn check(raw: Raw) -> bool {
        // SAFETY: both are live.
        unsafe { c::PyObject_TypeCheck(raw, Self::type_object()) != 0 }
    }

    #[inline]
    fn check_exact(raw: Raw) -> bool {
        type_of(raw) == Self::type_object()
    }

    /// A view of `raw` if it is of this type.
    #[inline]
    fn of<'a>(raw: Raw) -> Option<&'a Self> {
        // SAFETY: the type check makes the layout true; all interior mutability is through cells.
        Self::check(raw).then(|| unsafe { &*raw.cast::<Self>() })
    }

    #[inline]
    fn of_exact<'a>(raw: Raw) -> Option<&'a Self> {
        // SAFETY: as `of`.
        Self::check_exact(raw).then(|| unsafe { &*raw.cast::<Self>() })
    }

    #[inline]
    fn raw(&self) -> Raw {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    #[inline]
    fn own(&self) -> Own<Self> {
        Own {
            obj: Obj::from_borrowed(self.raw()),
            of: PhantomData,
        }
    }

    #[inline]
    fn obj(&self) -> Obj {
        Obj::from_borrowed(self.raw())
    }
}

/// An owned reference to an object of native type `T`.
pub(crate) struct Own<T: Native> {
    obj: Obj,
    of: PhantomData<T>,
}

impl<T: Native> Own<T> {
    /// # Safety
    /// `obj` must be a `T`.
    #[inline]
    pub(crate) unsafe fn from_obj_unchecked(obj: Obj) -> Own<T> {
        Own { obj, of: PhantomData }
    }

    #[inline]
    pub(crate) fn into_obj(self) -> Obj {
        self.obj
    }
}

impl<T: Native> Deref for Own<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: constructed from a checked or freshly allocated `T`; the reference keeps it alive.
        unsafe { &*self.obj.as_ptr().cast::<T>() }
    }
}

impl<T: Native> Clone for Own<T> {
    fn clone(&self) -> Own<T> {
        Own {
            obj: self.obj.clone(),
            of: PhantomData,
        }
    }
}
