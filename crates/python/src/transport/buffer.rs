//! Bytes of other objects: `bytes` kept for sending without a copy, and memory lent through the buffer protocol.

use crate::ffi::error::{PyResult, owned, status};
use crate::ffi::{Obj, Raw, c};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// An object of type `bytes` itself: it never changes, and dropping it runs no Python code (a subclass could do both).
pub(crate) struct Bytes(Obj);

impl Bytes {
    #[inline]
    pub(crate) fn of(raw: Raw) -> Option<Bytes> {
        // SAFETY: A1.
        (unsafe { c::PyBytes_CheckExact(raw) } != 0).then(|| Bytes(Obj::from_borrowed(raw)))
    }

    #[inline]
    pub(crate) fn into_obj(self) -> Obj {
        self.0
    }

    /// A copy of `bytes` as an object.
    #[inline]
    pub(crate) fn copy(bytes: &[MaybeUninit<u8>]) -> PyResult<Obj> {
        // SAFETY: A1; callers pass what a receive has initialised.
        owned(unsafe { c::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize) })
    }
}

/// A copy of `bytes` as an object.
#[inline]
pub(crate) fn copy(bytes: &[u8]) -> PyResult<Obj> {
    // SAFETY: A1; as long as it says.
    owned(unsafe { c::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize) })
}

/// Memory that was written as bytes.
///
/// # Safety
/// All of it was.
#[inline]
pub(crate) unsafe fn initialised(memory: &[MaybeUninit<u8>]) -> &[u8] {
    // SAFETY: the caller says so; MaybeUninit has the same layout.
    unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), memory.len()) }
}

impl AsRef<[u8]> for Bytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        let raw = self.0.as_ptr();
        // SAFETY: A1; a bytes object, whose memory is as long as its size says and never changes.
        unsafe { std::slice::from_raw_parts(c::PyBytes_AS_STRING(raw).cast(), c::Py_SIZE(raw) as usize) }
    }
}

/// What `transport.write` takes: bytes, bytearray, memoryview, and their subclasses.
pub(crate) fn is_writable_type(data: Raw) -> bool {
    // SAFETY: A1.
    unsafe { c::PyBytes_Check(data) != 0 || c::PyByteArray_Check(data) != 0 || c::PyMemoryView_Check(data) != 0 }
}

/// A lent buffer, given back when dropped; nothing happens if none was lent. Exporters may point into the struct, so it
/// stays where it is.
struct Lent(c::Py_buffer);

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: A1; zeroed, or filled by PyObject_GetBuffer once.
        unsafe { c::PyBuffer_Release(&raw mut self.0) };
    }
}

/// Asks for a contiguous buffer of `object` and shows where it is. The address is never null.
fn with_buffer<T>(object: Raw, flags: c_int, look: impl FnOnce(*mut u8, usize) -> T) -> PyResult<T> {
    let mut lent = Lent(c::Py_buffer::new());
    // SAFETY: A1; a failed request leaves nothing to give back.
    status(unsafe { c::PyObject_GetBuffer(object, &raw mut lent.0, flags) })?;
    let address = NonNull::new(lent.0.buf.cast::<u8>()).unwrap_or(NonNull::dangling());
    Ok(look(address.as_ptr(), lent.0.len as usize))
}

/// Shows the bytes of any object with a buffer. `look` runs no Python code.
pub(crate) fn with_bytes<T>(object: Raw, look: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    with_buffer(object, c::PyBUF_SIMPLE, |address, len| {
        // SAFETY: `len` bytes that stay where they are until the buffer is given back. With the GIL held no Python code
        // changes them meanwhile; memory shared with other processes, or with threads that do without the GIL, may
        // change, and then what is sent is either the old or the new bytes.
        look(unsafe { std::slice::from_raw_parts(address, len) })
    })
}

/// Lends the bytes of any object with a buffer while `look` may run Python code. The memory stays, as the buffer is held;
/// what is in it may change, as for any C code that lets other threads run.
pub(crate) fn lend_readable<T>(object: Raw, look: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    with_bytes(object, look)
}

/// The same for writing: where the memory is, and how long.
pub(crate) fn lend_writable<T>(object: Raw, fill: impl FnOnce(*mut u8, usize) -> T) -> PyResult<T> {
    with_buffer(object, c::PyBUF_WRITABLE, fill)
}

/// Lends the memory of an object to `fill`, which runs no Python code. None, without an exception, if the object has no
/// contiguous writable buffer.
pub(crate) fn with_writable<T>(object: Raw, fill: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
    let filled = with_buffer(object, c::PyBUF_WRITABLE, |address, len| {
        // SAFETY: as in `with_bytes`; the exporter allows writing.
        fill(unsafe { std::slice::from_raw_parts_mut(address, len) })
    });
    if filled.is_err() {
        crate::ffi::error::clear();
    }
    filled.ok()
}
