//! Building heap types from lists of methods, properties and slots.
//!
//! Definitions live as long as the process: types made from them may be referenced from anywhere.

use super::error::{PyResult, owned, status};
use super::{Obj, Raw, c};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) type Entry = unsafe extern "C" fn(Raw, Raw) -> Raw;
pub(crate) type FastEntry = unsafe extern "C" fn(Raw, *const Raw, isize, Raw) -> Raw;
pub(crate) type Getter = unsafe extern "C" fn(Raw, *mut c_void) -> Raw;
pub(crate) type Setter = unsafe extern "C" fn(Raw, Raw, *mut c_void) -> c_int;

pub(crate) struct Method(pub(crate) c::PyMethodDef);

impl Method {
    pub(crate) fn noargs(name: &'static CStr, entry: Entry, doc: &'static CStr) -> Method {
        Method(c::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: c::PyMethodDefPointer { PyCFunction: entry },
            ml_flags: c::METH_NOARGS,
            ml_doc: doc.as_ptr(),
        })
    }

    pub(crate) fn onearg(name: &'static CStr, entry: Entry, doc: &'static CStr) -> Method {
        Method(c::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: c::PyMethodDefPointer { PyCFunction: entry },
            ml_flags: c::METH_O,
            ml_doc: doc.as_ptr(),
        })
    }

    pub(crate) fn fastcall(name: &'static CStr, entry: FastEntry, doc: &'static CStr) -> Method {
        Method(c::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: c::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: entry,
            },
            ml_flags: c::METH_FASTCALL | c::METH_KEYWORDS,
            ml_doc: doc.as_ptr(),
        })
    }

    /// The same as a class method.
    pub(crate) fn of_class(mut self) -> Method {
        self.0.ml_flags |= c::METH_CLASS;
        self
    }

    /// Stands in the class although a slot has the same name.
    pub(crate) fn instead_of_slot(mut self) -> Method {
        self.0.ml_flags |= c::METH_COEXIST;
        self
    }

    /// A bound function object of this definition: what `_callbacks` shows for a waiting task.
    pub(crate) fn bind(definition: &'static c::PyMethodDef, slf: &Obj) -> PyResult<Obj> {
        // SAFETY: A1; the definition is static.
        owned(unsafe { c::PyCFunction_NewEx(ptr::from_ref(definition).cast_mut(), slf.as_ptr(), ptr::null_mut()) })
    }
}

pub(crate) struct Property(c::PyGetSetDef);

impl Property {
    pub(crate) fn new(name: &'static CStr, get: Getter, set: Option<Setter>) -> Property {
        Property(c::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(get),
            set,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        })
    }
}

/// Everything a type is made of.
pub(crate) struct TypeSpec {
    pub(crate) name: &'static CStr,
    pub(crate) doc: &'static CStr,
    pub(crate) basic_size: usize,
    pub(crate) flags: u64,
    pub(crate) bases: Vec<Raw>,
    pub(crate) metaclass: Option<Raw>,
    pub(crate) dict_offset: Option<usize>,
    pub(crate) weaklist_offset: Option<usize>,
    pub(crate) vectorcall_offset: Option<usize>,
    pub(crate) methods: Vec<Method>,
    pub(crate) properties: Vec<Property>,
    pub(crate) slots: Vec<(c_int, *mut c_void)>,
}

impl TypeSpec {
    pub(crate) fn new(name: &'static CStr, doc: &'static CStr, basic_size: usize, flags: u64) -> TypeSpec {
        TypeSpec {
            name,
            doc,
            basic_size,
            flags,
            bases: Vec::new(),
            metaclass: None,
            dict_offset: None,
            weaklist_offset: None,
            vectorcall_offset: None,
            methods: Vec::new(),
            properties: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Makes the type in `module`.
    pub(crate) fn build(self, module: Raw) -> PyResult<Obj> {
        let methods = terminated(
            self.methods.into_iter().map(|method| method.0).collect(),
            zeroed_method(),
        );
        let properties = terminated(
            self.properties.into_iter().map(|property| property.0).collect(),
            zeroed_property(),
        );
        let mut members = Vec::new();
        for (name, offset) in [
            (c"__dictoffset__", self.dict_offset),
            (c"__weaklistoffset__", self.weaklist_offset),
            (c"__vectorcalloffset__", self.vectorcall_offset),
        ] {
            if let Some(offset) = offset {
                members.push(c::PyMemberDef {
                    name: name.as_ptr(),
                    type_code: c::Py_T_PYSSIZET,
                    offset: offset as isize,
                    flags: c::Py_READONLY,
                    doc: ptr::null(),
                });
            }
        }
        let members = terminated(members, c::PyMemberDef::default());

        let mut slots: Vec<c::PyType_Slot> = self
            .slots
            .iter()
            .map(|(slot, pfunc)| c::PyType_Slot {
                slot: *slot,
                pfunc: *pfunc,
            })
            .collect();
        slots.push(c::PyType_Slot {
            slot: c::Py_tp_doc,
            pfunc: self.doc.as_ptr().cast_mut().cast(),
        });
        slots.push(c::PyType_Slot {
            slot: c::Py_tp_methods,
            pfunc: methods.cast(),
        });
        slots.push(c::PyType_Slot {
            slot: c::Py_tp_getset,
            pfunc: properties.cast(),
        });
        slots.push(c::PyType_Slot {
            slot: c::Py_tp_members,
            pfunc: members.cast(),
        });
        slots.push(c::PyType_Slot {
            slot: 0,
            pfunc: ptr::null_mut(),
        });

        let mut spec = c::PyType_Spec {
            name: self.name.as_ptr(),
            basicsize: self.basic_size as c_int,
            itemsize: 0,
            flags: self.flags as u32,
            slots: slots.as_mut_ptr(),
        };
        let bases = if self.bases.is_empty() {
            None
        } else {
            Some(super::call::tuple(&self.bases)?)
        };
        let bases = bases.as_ref().map_or(ptr::null_mut(), Obj::as_ptr);
        // SAFETY: A1; the spec's parts live through the call, what the type keeps (methods, members, doc) for ever.
        let made = owned(unsafe { c::PyType_FromModuleAndSpec(module, &raw mut spec, bases) })?;
        if let Some(metaclass) = self.metaclass {
            // PyType_FromMetaclass came with 3.12; a metaclass without fields of its own only changes `ob_type`.
            // SAFETY: A1; same layout, and nobody has seen the type yet.
            unsafe {
                c::Py_INCREF(metaclass);
                let old = c::Py_TYPE(made.as_ptr());
                (*made.as_ptr()).ob_type = metaclass.cast();
                c::Py_DECREF(old.cast());
                c::PyType_Modified(made.as_ptr().cast());
            }
        }
        Ok(made)
    }
}

fn terminated<T>(mut items: Vec<T>, end: T) -> *mut T {
    items.push(end);
    Box::leak(items.into_boxed_slice()).as_mut_ptr()
}

fn zeroed_method() -> c::PyMethodDef {
    c::PyMethodDef::zeroed()
}

fn zeroed_property() -> c::PyGetSetDef {
    c::PyGetSetDef::default()
}

/// A table of module functions, kept for ever.
pub(crate) fn leak_methods(methods: Vec<Method>) -> *mut c::PyMethodDef {
    terminated(methods.into_iter().map(|method| method.0).collect(), zeroed_method())
}

pub(crate) fn add_to_module(module: Raw, name: &CStr, value: &Obj) -> PyResult<()> {
    // SAFETY: A1.
    status(unsafe { c::PyModule_AddObjectRef(module, name.as_ptr().cast::<c_char>(), value.as_ptr()) })
}

/// A zeroed instance of `kind` (which may be a subclass), tracked by the collector if the type is.
#[inline]
pub(crate) fn allocate(kind: *mut c::PyTypeObject) -> PyResult<Obj> {
    // SAFETY: A1; a ready type.
    owned(unsafe { c::PyType_GenericAlloc(kind, 0) })
}

/// Frees an instance's memory and its reference to its type: the end of every `tp_dealloc`.
///
/// # Safety
/// `raw` is a dead instance, its fields dropped.
#[inline]
pub(crate) unsafe fn free(raw: Raw) {
    let kind = super::object::type_of(raw);
    // SAFETY: tp_free is set for every ready type.
    unsafe {
        if let Some(free) = (*kind).tp_free {
            free(raw.cast());
        }
        c::Py_DECREF(kind.cast());
    }
}

/// What lies before an object that the collector may know: its links to others.
const GC_HEAD: usize = 2 * size_of::<usize>();

/// Is `GC_HEAD` what this interpreter has? (A free-threaded one has nothing there.)
static GC_HEAD_IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// At import: finds out how much this interpreter puts before an object.
pub(crate) fn measure_gc_head() -> PyResult<()> {
    let list = super::call::list()?;
    let whole = super::call::call1(super::call::import_from("sys", "getsizeof")?.as_ptr(), list.as_ptr())?;
    let name = super::call::interned("__sizeof__")?;
    let own = super::call::call_method(name.as_ptr(), &[list.as_ptr()], None)?;
    let head = super::call::as_i64(whole.as_ptr())? - super::call::as_i64(own.as_ptr())?;
    GC_HEAD_IS_KNOWN.store(head == GC_HEAD as i64, Ordering::Relaxed);
    Ok(())
}

/// A zeroed instance of exactly `T`, not tracked and not counted among the allocations that make the collector run.
/// For what comes with an object that is counted, as a task comes with its coroutine: `free_uncounted` frees it.
#[inline]
pub(crate) fn allocate_uncounted<T: super::Native>() -> PyResult<Obj> {
    let kind = T::type_object();
    if !GC_HEAD_IS_KNOWN.load(Ordering::Relaxed) {
        let made = allocate(kind)?;
        // SAFETY: a tracked GC object.
        unsafe { c::PyObject_GC_UnTrack(made.as_ptr().cast()) };
        return Ok(made);
    }
    // SAFETY: A1; the allocator that the type's own `tp_alloc` takes the memory from.
    let memory = unsafe { c::PyObject_Malloc(GC_HEAD + size_of::<T>()) }.cast::<u8>();
    if memory.is_null() {
        // SAFETY: A1.
        owned(unsafe { c::PyErr_NoMemory() })?;
    }
    // SAFETY: that much was allocated.
    unsafe { ptr::write_bytes(memory, 0, GC_HEAD + size_of::<T>()) };
    // SAFETY: within it, behind a head of zeros, which means not tracked.
    let raw: Raw = unsafe { memory.add(GC_HEAD) }.cast();
    // SAFETY: A1; fresh memory of the type's size.
    owned(unsafe { c::PyObject_Init(raw, kind) })
}

/// `free` for an instance of exactly that type, wherever it was allocated.
///
/// # Safety
/// `raw` is a dead, untracked instance of a native type of this crate with a GC head, its fields dropped.
#[inline]
pub(crate) unsafe fn free_uncounted(raw: Raw) {
    if !GC_HEAD_IS_KNOWN.load(Ordering::Relaxed) {
        // SAFETY: as the caller's.
        unsafe { free(raw) };
        return;
    }
    let kind = super::object::type_of(raw);
    // SAFETY: as the caller's; the memory begins with the head.
    unsafe {
        c::PyObject_Free(raw.cast::<u8>().sub(GC_HEAD).cast());
        c::Py_DECREF(kind.cast());
    }
}
