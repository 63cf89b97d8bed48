//! The tasks of a group: a table of native tasks, until somebody looks at `_tasks` or a task of another kind joins;
//! from then on a Python set, which anybody may change.
//!
//! Invariants
//! - I1: `table` is null or a box of ours. Each word of it is 0 or an owned reference to a native task, which equals
//!   only itself. At least half of the words are 0, and between a task and the place its address asks for there is none.
//! - I2: `set` is a set. Where there is one, the table is not used.

use crate::ffi::error::{PyResult, owned, status};
use crate::ffi::{Obj, Raw, Slot, c, call, slot};
use crate::future::Future;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;

#[derive(Default)]
struct Table {
    words: Vec<usize>,
    len: usize,
}

const WORDS_MIN: usize = 16;

impl Table {
    /// The place that an address asks for.
    #[inline]
    fn home(&self, word: usize) -> usize {
        (word >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.words.len().trailing_zeros())
    }

    /// The place of `word`, or the free one where it belongs.
    #[inline]
    fn find(&self, word: usize) -> usize {
        let mask = self.words.len() - 1;
        let mut place = self.home(word);
        while self.words[place] != 0 && self.words[place] != word {
            place = (place + 1) & mask;
        }
        place
    }

    /// Takes over a reference; gives it back if it is there already.
    #[inline]
    fn insert(&mut self, task: Obj) -> Option<Obj> {
        if self.len * 2 >= self.words.len() {
            self.grow();
        }
        let place = self.find(task.as_ptr() as usize);
        if self.words[place] != 0 {
            return Some(task);
        }
        self.words[place] = task.into_ptr() as usize;
        self.len += 1;
        None
    }

    fn grow(&mut self) {
        let size = (self.words.len() * 2).max(WORDS_MIN);
        let old = std::mem::replace(&mut self.words, vec![0; size]);
        for word in old.into_iter().filter(|word| *word != 0) {
            let place = self.find(word);
            self.words[place] = word;
        }
    }

    #[inline]
    fn remove(&mut self, task: Raw) -> Option<Obj> {
        if self.words.is_empty() {
            return None;
        }
        let mask = self.words.len() - 1;
        let mut hole = self.find(task as usize);
        let found = Obj::from_owned(std::mem::replace(&mut self.words[hole], 0) as Raw)?;
        self.len -= 1;
        // What was pushed on by the one that left moves back.
        let mut place = (hole + 1) & mask;
        while self.words[place] != 0 {
            let wanted = self.home(self.words[place]);
            if (place.wrapping_sub(wanted) & mask) >= (place.wrapping_sub(hole) & mask) {
                self.words[hole] = std::mem::replace(&mut self.words[place], 0);
                hole = place;
            }
            place = (place + 1) & mask;
        }
        Some(found)
    }
}

pub(super) struct Members {
    table: Cell<*mut Table>,
    set: Slot,
}

impl Members {
    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn table(&self) -> Option<&mut Table> {
        // SAFETY: I1; A1: no other thread, and no borrow outlives a method of this type or runs Python code.
        unsafe { self.table.get().as_mut() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        if self.set.is_set() {
            // SAFETY: A1; I2.
            return unsafe { c::PySet_Size(self.set.ptr()) as usize };
        }
        self.table().map_or(0, |table| table.len)
    }

    #[inline]
    pub(super) fn add(&self, task: &Obj) -> PyResult<()> {
        if !self.set.is_set() {
            if Future::of_final(task.as_ptr()).is_some() {
                if self.table.get().is_null() {
                    self.table.set(Box::into_raw(Box::default()));
                }
                let again = self.table().and_then(|table| table.insert(task.clone()));
                drop(again);
                return Ok(());
            }
            self.use_set()?;
        }
        // SAFETY: A1; I2.
        status(unsafe { c::PySet_Add(self.set.get_or_none().as_ptr(), task.as_ptr()) })
    }

    /// `discard`; the caller holds the task.
    #[inline]
    pub(super) fn discard(&self, task: Raw) -> PyResult<()> {
        match self.set.get() {
            // SAFETY: A1; I2.
            Some(set) => status(unsafe { c::PySet_Discard(set.as_ptr(), task) }),
            None => {
                let gone = self.table().and_then(|table| table.remove(task));
                drop(gone);
                Ok(())
            }
        }
    }

    /// New references to all of them.
    pub(super) fn all(&self) -> PyResult<Vec<Obj>> {
        if let Some(set) = self.set.get() {
            // SAFETY: A1.
            let all = owned(unsafe { c::PySequence_Tuple(set.as_ptr()) })?;
            let count = call::tuple_len(all.as_ptr());
            return Ok((0..count)
                .map(|index| Obj::from_borrowed(call::tuple_item(all.as_ptr(), index)))
                .collect());
        }
        let words = self.table().map_or(&[][..], |table| &table.words);
        let words = words.iter().filter(|word| **word != 0);
        Ok(words.map(|word| Obj::from_borrowed(*word as Raw)).collect())
    }

    #[cold]
    fn use_set(&self) -> PyResult<()> {
        // SAFETY: A1.
        let set = owned(unsafe { c::PySet_New(ptr::null_mut()) })?;
        for task in self.all()? {
            // SAFETY: A1; a fresh set.
            status(unsafe { c::PySet_Add(set.as_ptr(), task.as_ptr()) })?;
        }
        self.set.set(set);
        self.drop_table();
        Ok(())
    }

    /// `_tasks`.
    pub(super) fn show(&self) -> PyResult<Obj> {
        if !self.set.is_set() {
            self.use_set()?;
        }
        Ok(self.set.get_or_none())
    }

    /// Uses this set from now on.
    pub(super) fn replace(&self, set: Obj) {
        self.set.set(set);
        self.drop_table();
    }

    fn drop_table(&self) {
        let table = self.table.replace(ptr::null_mut());
        if table.is_null() {
            return;
        }
        // SAFETY: I1; taken out above.
        let table = unsafe { Box::from_raw(table) };
        for word in table.words.iter().filter(|word| **word != 0) {
            drop(Obj::from_owned(*word as Raw));
        }
    }

    /// For `tp_clear` and `tp_dealloc`, and for a second `__init__`.
    pub(super) fn clear(&self) {
        self.drop_table();
        self.set.clear();
    }

    /// For `tp_traverse`.
    pub(super) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        if let Some(table) = self.table() {
            for word in table.words.iter().filter(|word| **word != 0) {
                let code = slot::visit_raw(*word as Raw, visit, arg);
                if code != 0 {
                    return code;
                }
            }
        }
        self.set.traverse(visit, arg)
    }
}
