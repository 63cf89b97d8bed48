//! A reader's bytes: native, or in the `bytearray` that `_buffer` has shown to somebody.
//!
//! Invariants
//! - I1: `native` is borrowed only inside methods of this file, by code that runs no Python (dropping `bytes` runs none).
//! - I2: while `shown` is set it holds a `bytearray`, and `native` is empty.

use crate::event_loop::ready::is_unique_object;
use crate::ffi::error::{PyResult, owned, status, type_error};
use crate::ffi::{Obj, Raw, Slot, c, object};
use crate::transport::buffer::Bytes;
use std::cell::UnsafeCell;
use wire::StreamBuffer;

pub(super) struct Store {
    native: UnsafeCell<StreamBuffer<Bytes>>,
    shown: Slot,
}

impl Store {
    pub(super) fn new() -> Store {
        Store {
            native: UnsafeCell::default(),
            shown: Slot::empty(),
        }
    }

    #[inline]
    fn with_native<T>(&self, change: impl FnOnce(&mut StreamBuffer<Bytes>) -> T) -> T {
        // SAFETY: I1; A1: no other thread.
        change(unsafe { &mut *self.native.get() })
    }

    /// Shows all bytes. `look` runs no Python code.
    #[inline]
    pub(super) fn with_bytes<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        let shown = self.shown.ptr();
        if shown.is_null() {
            return self.with_native(|native| look(native.bytes()));
        }
        // SAFETY: I2; A1: nobody changes it while no Python code runs.
        look(unsafe {
            std::slice::from_raw_parts(
                c::PyByteArray_AsString(shown).cast::<u8>(),
                c::PyByteArray_Size(shown) as usize,
            )
        })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        let shown = self.shown.ptr();
        if shown.is_null() {
            return self.with_native(|native| native.len());
        }
        // SAFETY: A1; I2.
        unsafe { c::PyByteArray_Size(shown) as usize }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn push(&self, bytes: Bytes) -> PyResult<()> {
        if self.is_shown() {
            return self.extend_shown(bytes.as_ref());
        }
        self.with_native(|native| native.push(bytes));
        Ok(())
    }

    pub(super) fn push_copy(&self, bytes: &[u8]) -> PyResult<()> {
        if self.is_shown() {
            return self.extend_shown(bytes);
        }
        self.with_native(|native| native.push_copy(bytes));
        Ok(())
    }

    /// Takes out up to `len` bytes.
    #[inline]
    pub(super) fn take(&self, len: usize) -> PyResult<Obj> {
        if !self.shown.is_set() {
            return self.with_native(|native| native.take(len, |whole| Ok(whole.into_obj()), copy));
        }
        let len = len.min(self.len());
        let taken = self.with_bytes(|bytes| copy(&bytes[..len]))?;
        self.consume(len)?;
        Ok(taken)
    }

    /// Forgets the first `len` bytes, or all if there are fewer.
    pub(super) fn consume(&self, len: usize) -> PyResult<()> {
        match self.shown.get() {
            // SAFETY: A1; I2. Fails if somebody holds a view of it.
            Some(shown) => status(unsafe { c::PySequence_DelSlice(shown.as_ptr(), 0, len as isize) }),
            None => {
                self.with_native(|native| native.consume(len.min(native.len())));
                Ok(())
            }
        }
    }

    pub(super) fn clear(&self) -> PyResult<()> {
        self.consume(self.len())
    }

    /// Is `_buffer` the storage? Not any more if it is empty and nobody else holds it.
    #[inline]
    fn is_shown(&self) -> bool {
        if !self.shown.is_set() {
            return false;
        }
        self.give_up_unseen();
        self.shown.is_set()
    }

    #[cold]
    fn give_up_unseen(&self) {
        let shown = self.shown.ptr();
        // SAFETY: I2.
        let is_plain = unsafe { c::PyByteArray_CheckExact(shown) } != 0;
        if is_plain && is_unique_object(shown) && self.is_empty() {
            self.shown.clear();
        }
    }

    fn extend_shown(&self, bytes: &[u8]) -> PyResult<()> {
        let Some(shown) = self.shown.get() else { return Ok(()) };
        let old_len = self.len();
        // SAFETY: A1; I2. Fails if somebody holds a view of it; runs no Python code.
        status(unsafe { c::PyByteArray_Resize(shown.as_ptr(), (old_len + bytes.len()) as isize) })?;
        // SAFETY: just made that long; `bytes` lie elsewhere, as memory that is lent cannot be resized.
        unsafe {
            let address = c::PyByteArray_AsString(shown.as_ptr()).cast::<u8>();
            address
                .add(old_len)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    /// `_buffer`
    pub(super) fn show(&self) -> PyResult<Obj> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        let made = self.with_native(|native| {
            let bytes = native.bytes();
            // SAFETY: A1; a copy of bytes that are there.
            owned(unsafe { c::PyByteArray_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize) })
        })?;
        self.with_native(StreamBuffer::clear);
        self.shown.set(made.clone());
        Ok(made)
    }

    /// `_buffer = value`
    pub(super) fn replace(&self, value: Raw) -> PyResult<()> {
        // SAFETY: A1.
        if unsafe { c::PyByteArray_Check(value) } == 0 {
            let name = object::type_name(value);
            return Err(type_error(&format!("_buffer must be a bytearray, not '{name}'")));
        }
        self.with_native(StreamBuffer::clear);
        self.shown.set(Obj::from_borrowed(value));
        Ok(())
    }

    /// For the collector.
    pub(super) fn slot(&self) -> &Slot {
        &self.shown
    }
}

#[inline]
fn copy(bytes: &[u8]) -> PyResult<Obj> {
    // SAFETY: A1; makes a bytes object, which runs no Python code.
    owned(unsafe { c::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize) })
}
