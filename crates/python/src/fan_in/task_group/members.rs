//! The tasks of a group. As long as they leave about in the order in which they came, they are a row. The first that
//! leaves from further behind makes it a table. When somebody looks at `_tasks`, or a task joins that is not a new one of
//! ours, it becomes a Python set, which anybody may change.
//!
//! Invariants
//! - I1: `native` is null or a box of ours. Each word in it is 0 or an owned reference to a native task, which equals
//!   only itself and is there once.
//! - I2: the first word of a row is a task. At least half of the words of a table are 0, and between a task and the place
//!   its address asks for there is none.
//! - I3: `set` is a set. Where there is one, `native` is not used.

use crate::ffi::error::{PyResult, owned, status};
use crate::ffi::{Obj, Raw, Slot, c, call, slot};
use std::cell::Cell;
use std::collections::VecDeque;
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

    /// Takes over the reference that `word` is, to one that is not there yet.
    #[inline]
    fn take_in(&mut self, word: usize) {
        if self.len * 2 >= self.words.len() {
            self.grow();
        }
        let place = self.find(word);
        self.words[place] = word;
        self.len += 1;
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

/// Tasks in the order in which they came.
#[derive(Default)]
struct Row {
    words: VecDeque<usize>,
    len: usize,
}

/// How far behind the first one a task is looked for.
const LOOKED_AT_MAX: usize = 8;

impl Row {
    /// Takes over a reference to one that is not there yet.
    #[inline]
    fn push(&mut self, task: Obj) {
        self.words.push_back(task.into_ptr() as usize);
        self.len += 1;
    }

    /// None if it is not among the first.
    #[inline]
    fn remove(&mut self, task: Raw) -> Option<Obj> {
        let place = self
            .words
            .iter()
            .take(LOOKED_AT_MAX)
            .position(|word| *word == task as usize)?;
        let found = Obj::from_owned(std::mem::replace(&mut self.words[place], 0) as Raw);
        self.len -= 1;
        while self.words.front() == Some(&0) {
            self.words.pop_front();
        }
        found
    }

    fn into_table(self) -> Table {
        let mut table = Table::default();
        for word in self.words.into_iter().filter(|word| *word != 0) {
            table.take_in(word);
        }
        table
    }
}

enum Native {
    Row(Row),
    Table(Table),
}

impl Native {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Native::Row(row) => row.len,
            Native::Table(table) => table.len,
        }
    }

    /// Takes over a reference to one that is not there yet.
    #[inline]
    fn insert(&mut self, task: Obj) {
        match self {
            Native::Row(row) => row.push(task),
            Native::Table(table) => table.take_in(task.into_ptr() as usize),
        }
    }

    #[inline]
    fn remove(&mut self, task: Raw) -> Option<Obj> {
        match self {
            Native::Row(row) => {
                let found = row.remove(task);
                if found.is_some() {
                    found
                } else {
                    self.remove_from_behind(task)
                }
            }
            Native::Table(table) => table.remove(task),
        }
    }

    #[cold]
    fn remove_from_behind(&mut self, task: Raw) -> Option<Obj> {
        let row = match self {
            Native::Row(row) => std::mem::take(row),
            Native::Table(_) => return None,
        };
        let mut table = row.into_table();
        let found = table.remove(task);
        *self = Native::Table(table);
        found
    }

    fn words(&self) -> impl Iterator<Item = Raw> {
        let (row, table) = match self {
            Native::Row(row) => (Some(&row.words), None),
            Native::Table(table) => (None, Some(&table.words)),
        };
        let all = row.into_iter().flatten().chain(table.into_iter().flatten());
        all.filter(|word| **word != 0).map(|word| *word as Raw)
    }
}

pub(super) struct Members {
    native: Cell<*mut Native>,
    set: Slot,
}

impl Members {
    #[allow(clippy::mut_from_ref)]
    #[inline]
    fn native(&self) -> Option<&mut Native> {
        // SAFETY: I1; A1: no other thread, and no borrow outlives a method of this type or runs Python code.
        unsafe { self.native.get().as_mut() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        if self.set.is_set() {
            // SAFETY: A1; I3.
            return unsafe { c::PySet_Size(self.set.ptr()) as usize };
        }
        self.native().map_or(0, |native| native.len())
    }

    /// `is_new`: a task that was just made, of ours.
    #[inline]
    pub(super) fn add(&self, task: &Obj, is_new: bool) -> PyResult<()> {
        if !self.set.is_set() {
            if is_new {
                if self.native.get().is_null() {
                    self.native.set(Box::into_raw(Box::new(Native::Row(Row::default()))));
                }
                if let Some(native) = self.native() {
                    native.insert(task.clone());
                }
                return Ok(());
            }
            self.use_set()?;
        }
        // SAFETY: A1; I3.
        status(unsafe { c::PySet_Add(self.set.get_or_none().as_ptr(), task.as_ptr()) })
    }

    /// `discard`; the caller holds the task.
    #[inline]
    pub(super) fn discard(&self, task: Raw) -> PyResult<()> {
        match self.set.get() {
            // SAFETY: A1; I3.
            Some(set) => status(unsafe { c::PySet_Discard(set.as_ptr(), task) }),
            None => {
                let gone = self.native().and_then(|native| native.remove(task));
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
        let words = self.native().into_iter().flat_map(|native| native.words());
        Ok(words.map(Obj::from_borrowed).collect())
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
        self.drop_native();
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
        self.drop_native();
    }

    fn drop_native(&self) {
        let native = self.native.replace(ptr::null_mut());
        if native.is_null() {
            return;
        }
        // SAFETY: I1; taken out above.
        let native = unsafe { Box::from_raw(native) };
        for raw in native.words() {
            drop(Obj::from_owned(raw));
        }
    }

    /// For `tp_clear` and `tp_dealloc`, and for a second `__init__`.
    pub(super) fn clear(&self) {
        self.drop_native();
        self.set.clear();
    }

    /// For `tp_traverse`.
    pub(super) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        for raw in self.native().into_iter().flat_map(|native| native.words()) {
            let code = slot::visit_raw(raw, visit, arg);
            if code != 0 {
                return code;
            }
        }
        self.set.traverse(visit, arg)
    }
}
