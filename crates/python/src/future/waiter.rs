//! One who is told when a future is done: a word in its callbacks.

use super::Future;
use crate::fan_in::Collector;
use crate::ffi::{Native, Obj, Own, Raw};
use crate::task::Task;

/// Who is told: a task to step, a collector, a future to complete with None one turn later (all three tagged), or a
/// callable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter(usize);

const TASK_TAG: usize = 1;
const COLLECTOR_TAG: usize = 2;
const RELEASE_TAG: usize = 4;
const TAGS: usize = TASK_TAG | COLLECTOR_TAG | RELEASE_TAG;

impl Waiter {
    pub(super) const NONE: Waiter = Waiter(0);

    #[inline]
    pub(super) fn task(task: Own<Task>) -> Waiter {
        Waiter(task.into_obj().into_ptr() as usize | TASK_TAG)
    }

    pub(super) fn release(future: Own<Future>) -> Waiter {
        Waiter(future.into_obj().into_ptr() as usize | RELEASE_TAG)
    }

    /// What `release` makes of `future`, to find it by; it owns nothing.
    pub(super) fn word_of_release(future: &Future) -> Waiter {
        Waiter(future.raw() as usize | RELEASE_TAG)
    }

    #[inline]
    pub(super) fn collector(collector: &Collector) -> Waiter {
        Waiter(collector.obj().into_ptr() as usize | COLLECTOR_TAG)
    }

    #[inline]
    pub(super) fn callable(callable: Obj) -> Waiter {
        Waiter(callable.into_ptr() as usize)
    }

    #[inline]
    pub(super) fn is_task(self) -> bool {
        self.0 & TASK_TAG != 0
    }

    #[inline]
    pub(super) fn is_collector(self) -> bool {
        self.0 & COLLECTOR_TAG != 0
    }

    #[inline]
    pub(super) fn is_release(self) -> bool {
        self.0 & RELEASE_TAG != 0
    }

    #[inline]
    pub(super) fn raw(self) -> Raw {
        (self.0 & !TAGS) as Raw
    }

    /// The collector, borrowed.
    #[inline]
    pub(super) fn as_collector<'a>(self) -> Option<&'a Collector> {
        // SAFETY: tagged words are collectors; the word owns a reference.
        self.is_collector().then(|| unsafe { &*self.raw().cast::<Collector>() })
    }

    /// 0 for none.
    #[inline]
    pub(super) fn word(self) -> usize {
        self.0
    }

    /// Takes over the reference.
    #[inline]
    pub(super) fn into_obj(self) -> Option<Obj> {
        Obj::from_owned(self.raw())
    }
}

pub(super) type Callbacks = Vec<(Waiter, Option<Obj>)>;
