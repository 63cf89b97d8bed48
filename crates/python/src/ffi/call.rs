//! Calling Python: functions, methods, attributes, small values.

use super::error::{PyResult, Raised, owned, status};
use super::{Obj, Raw, c};
use std::ffi::{CStr, CString};

#[inline]
pub(crate) fn call0(callable: Raw) -> PyResult<Obj> {
    // SAFETY: A1; live callable.
    owned(unsafe { c::PyObject_CallNoArgs(callable) })
}

#[inline]
pub(crate) fn call1(callable: Raw, arg: Raw) -> PyResult<Obj> {
    let mut stack = [std::ptr::null_mut(), arg];
    // SAFETY: A1; one spare word before the argument, as PY_VECTORCALL_ARGUMENTS_OFFSET promises.
    owned(unsafe {
        c::PyObject_Vectorcall(
            callable,
            stack.as_mut_ptr().add(1),
            1 | c::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        )
    })
}

/// Calls with positional arguments, then keyword values named by `kwnames` (a tuple).
pub(crate) fn call(callable: Raw, args: &[Raw], kwnames: Option<&Obj>) -> PyResult<Obj> {
    let keywords = kwnames.map_or(0, |names| tuple_len(names.as_ptr()));
    let mut stack = [std::ptr::null_mut(); 12];
    let kwnames = kwnames.map_or(std::ptr::null_mut(), Obj::as_ptr);
    if args.len() < stack.len() {
        stack[1..=args.len()].copy_from_slice(args);
        // SAFETY: as `call1`.
        return owned(unsafe {
            c::PyObject_Vectorcall(
                callable,
                stack.as_mut_ptr().add(1),
                (args.len() - keywords) | c::PY_VECTORCALL_ARGUMENTS_OFFSET,
                kwnames,
            )
        });
    }
    // SAFETY: A1; without the offset flag no spare word is needed.
    owned(unsafe { c::PyObject_Vectorcall(callable, args.as_ptr(), args.len() - keywords, kwnames) })
}

/// Calls with a tuple, and a dictionary of keywords.
pub(crate) fn call_with(callable: Raw, args: &Obj, keywords: Option<&Obj>) -> PyResult<Obj> {
    let keywords = keywords.map_or(std::ptr::null_mut(), Obj::as_ptr);
    // SAFETY: A1; a tuple, and a dict or NULL.
    owned(unsafe { c::PyObject_Call(callable, args.as_ptr(), keywords) })
}

/// `args[0].name(*args[1:])`, then keyword values named by `kwnames`.
pub(crate) fn call_method(name: Raw, args: &[Raw], kwnames: Option<&Obj>) -> PyResult<Obj> {
    let keywords = kwnames.map_or(0, |names| tuple_len(names.as_ptr()));
    // SAFETY: A1; `args[0]` is the receiver.
    owned(unsafe {
        c::PyObject_VectorcallMethod(
            name,
            args.as_ptr(),
            args.len() - keywords,
            kwnames.map_or(std::ptr::null_mut(), Obj::as_ptr),
        )
    })
}

#[inline]
pub(crate) fn getattr(object: Raw, name: Raw) -> PyResult<Obj> {
    // SAFETY: A1.
    owned(unsafe { c::PyObject_GetAttr(object, name) })
}

/// `getattr(object, name, None)`, but only `AttributeError` means absent.
pub(crate) fn getattr_optional(object: Raw, name: Raw) -> PyResult<Option<Obj>> {
    // SAFETY: A1.
    if let Some(value) = Obj::from_owned(unsafe { c::PyObject_GetAttr(object, name) }) {
        return Ok(Some(value));
    }
    // SAFETY: a static of the interpreter.
    if super::error::matches(unsafe { c::PyExc_AttributeError }) {
        super::error::clear();
        return Ok(None);
    }
    Err(Raised)
}

pub(crate) fn setattr(object: Raw, name: Raw, value: Raw) -> PyResult<()> {
    // SAFETY: A1.
    status(unsafe { c::PyObject_SetAttr(object, name, value) })
}

/// Runs `f`, which may come back here through Python, but not deeper than the interpreter's limit. `place` is the end of
/// the `RecursionError`'s text.
pub(crate) fn guarded<T>(place: &CStr, f: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // SAFETY: A1; left below. Not zero: too deep.
    if unsafe { c::Py_EnterRecursiveCall(place.as_ptr()) } != 0 {
        return Err(Raised);
    }
    let outcome = f();
    // SAFETY: entered above.
    unsafe { c::Py_LeaveRecursiveCall() };
    outcome
}

/// `setattr` with each name and value of what says that it is a mapping: its `items()` may be anything.
pub(crate) fn set_all(object: Raw, state: Raw) -> PyResult<()> {
    // SAFETY: A1; fails for what is no mapping.
    let items = owned(unsafe { c::PyMapping_Items(state) })?;
    // SAFETY: A1; a list.
    let items = owned(unsafe { c::PyList_AsTuple(items.as_ptr()) })?;
    for index in 0..tuple_len(items.as_ptr()) {
        // SAFETY: A1; fails for what is no sequence.
        let item = owned(unsafe { c::PySequence_Tuple(tuple_item(items.as_ptr(), index)) })?;
        if tuple_len(item.as_ptr()) != 2 {
            return Err(super::error::value_error("a state's items are names and values"));
        }
        setattr(object, tuple_item(item.as_ptr(), 0), tuple_item(item.as_ptr(), 1))?;
    }
    Ok(())
}

#[inline]
pub(crate) fn is_true(object: Raw) -> PyResult<bool> {
    // SAFETY: A1.
    match unsafe { c::PyObject_IsTrue(object) } {
        code if code < 0 => Err(Raised),
        code => Ok(code != 0),
    }
}

pub(crate) fn repr(object: Raw) -> PyResult<String> {
    // SAFETY: A1.
    let text = owned(unsafe { c::PyObject_Repr(object) })?;
    to_string(text.as_ptr())
}

pub(crate) fn equal(left: Raw, right: Raw) -> PyResult<bool> {
    // SAFETY: A1.
    match unsafe { c::PyObject_RichCompareBool(left, right, c::Py_EQ) } {
        code if code < 0 => Err(Raised),
        code => Ok(code != 0),
    }
}

pub(crate) fn isinstance(object: Raw, kind: Raw) -> PyResult<bool> {
    // SAFETY: A1.
    match unsafe { c::PyObject_IsInstance(object, kind) } {
        code if code < 0 => Err(Raised),
        code => Ok(code != 0),
    }
}

pub(crate) fn to_string(text: Raw) -> PyResult<String> {
    let mut len = 0;
    // SAFETY: A1; fails with TypeError for a non-string.
    let data = unsafe { c::PyUnicode_AsUTF8AndSize(text, &raw mut len) };
    if data.is_null() {
        return Err(Raised);
    }
    // SAFETY: CPython keeps `len` bytes of valid UTF-8 alive with the string.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len as usize) };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

pub(crate) fn string(text: &str) -> PyResult<Obj> {
    // SAFETY: A1; the length is passed.
    owned(unsafe { c::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize) })
}

/// An interned string, for names looked up again and again.
pub(crate) fn interned(text: &str) -> PyResult<Obj> {
    let text = CString::new(text).expect("names hold no NUL");
    // SAFETY: A1.
    owned(unsafe { c::PyUnicode_InternFromString(text.as_ptr()) })
}

#[inline]
pub(crate) fn float(value: f64) -> PyResult<Obj> {
    // SAFETY: A1.
    owned(unsafe { c::PyFloat_FromDouble(value) })
}

#[inline]
pub(crate) fn int(value: i64) -> PyResult<Obj> {
    // SAFETY: A1.
    owned(unsafe { c::PyLong_FromLongLong(value) })
}

/// A float, or anything with `__float__` or `__index__`.
#[inline]
pub(crate) fn as_f64(object: Raw) -> PyResult<f64> {
    // SAFETY: A1.
    let value = unsafe { c::PyFloat_AsDouble(object) };
    // The comparison with -1.0 is the C API's own error protocol.
    #[allow(clippy::float_cmp)]
    if value == -1.0 && super::error::occurred() {
        Err(Raised)
    } else {
        Ok(value)
    }
}

pub(crate) fn as_i64(object: Raw) -> PyResult<i64> {
    // SAFETY: A1.
    let value = unsafe { c::PyLong_AsLongLong(object) };
    if value == -1 && super::error::occurred() {
        Err(Raised)
    } else {
        Ok(value)
    }
}

pub(crate) fn tuple(items: &[Raw]) -> PyResult<Obj> {
    // SAFETY: A1.
    let tuple = owned(unsafe { c::PyTuple_New(items.len() as isize) })?;
    for (index, item) in items.iter().enumerate() {
        // SAFETY: a fresh tuple of that length; SET_ITEM takes over the new reference.
        unsafe { c::PyTuple_SetItem(tuple.as_ptr(), index as isize, Obj::from_borrowed(*item).into_ptr()) };
    }
    Ok(tuple)
}

#[inline]
pub(crate) fn tuple_len(tuple: Raw) -> usize {
    // SAFETY: callers pass a tuple.
    unsafe { c::PyTuple_Size(tuple) as usize }
}

/// A borrowed item of a tuple, `index` in range.
#[inline]
pub(crate) fn tuple_item(tuple: Raw, index: usize) -> Raw {
    // SAFETY: callers pass a tuple and an index below its length.
    unsafe { c::PyTuple_GetItem(tuple, index as isize) }
}

/// `len(object)`
pub(crate) fn len(object: &Obj) -> PyResult<usize> {
    // SAFETY: A1.
    let len = unsafe { c::PyObject_Size(object.as_ptr()) };
    usize::try_from(len).map_err(|_| Raised)
}

pub(crate) fn list() -> PyResult<Obj> {
    // SAFETY: A1.
    owned(unsafe { c::PyList_New(0) })
}

pub(crate) fn list_append(list: &Obj, item: Raw) -> PyResult<()> {
    // SAFETY: A1; a list.
    status(unsafe { c::PyList_Append(list.as_ptr(), item) })
}

pub(crate) fn dict() -> PyResult<Obj> {
    // SAFETY: A1.
    owned(unsafe { c::PyDict_New() })
}

pub(crate) fn dict_set(dict: &Obj, name: &str, value: Raw) -> PyResult<()> {
    let name = string(name)?;
    // SAFETY: A1; a dict.
    status(unsafe { c::PyDict_SetItem(dict.as_ptr(), name.as_ptr(), value) })
}

pub(crate) fn import(module: &str) -> PyResult<Obj> {
    let name = CString::new(module).expect("module names hold no NUL");
    // SAFETY: A1.
    owned(unsafe { c::PyImport_ImportModule(name.as_ptr()) })
}

/// `module.name`, importing the module.
pub(crate) fn import_from(module: &str, name: &str) -> PyResult<Obj> {
    let module = import(module)?;
    getattr(module.as_ptr(), interned(name)?.as_ptr())
}
