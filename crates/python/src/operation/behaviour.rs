//! What most operations do: the stdlib's coroutine function that they stand for, and their steps.

use super::{Operation, Step};
use crate::ffi::error::{PyResult, runtime_error};
use crate::ffi::{Obj, Raw, c, error};
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A coroutine function of the stdlib, and what its native coroutines do. Each is a static.
///
/// The three steps run with the stage `Running` (I4); each may run any Python code, and ends the operation unless it
/// blocks. `Operation::wait_for` blocks.
pub(crate) struct Behaviour {
    /// Where the stdlib has it; `class` is empty for a function of the module.
    pub(crate) module: &'static str,
    pub(crate) class: &'static str,
    pub(crate) name: &'static str,
    /// Parameters by name, the receiver of a method first; those after the first `required` may be left out, those
    /// after a `KEYWORD_ONLY` come by name.
    pub(crate) parameters: &'static [&'static CStr],
    pub(crate) required: usize,
    /// Makes the operation from the arguments; None calls the stdlib's function instead. Usually `Operation::create`,
    /// after a look at the receiver.
    pub(crate) create: fn(&'static Behaviour, Bound<'_>) -> PyResult<Option<Obj>>,
    pub(crate) start: fn(&Operation) -> PyResult<Step>,
    /// What it waits for is there.
    pub(crate) resume: fn(&Operation, Obj) -> PyResult<Step>,
    /// What it waits for has failed, or this was thrown at its await: an `except BaseException` and `finally` in one.
    /// `GeneratorExit` when it is closed: blocking is an error then.
    pub(crate) raised: fn(&Operation, Obj) -> PyResult<Step>,
    /// The stdlib's function, found at import.
    pub(crate) original: Original,
}

/// Stands between the parameters that may be given by position and those that may not.
pub(crate) const KEYWORD_ONLY: &CStr = c"*";

/// Stands at the end of the parameters of a function that takes any more: they become a tuple, and a dictionary if some
/// come by name.
pub(crate) const VARIADIC: &CStr = c"**";

impl Behaviour {
    /// Not for operations to have: for what is shown behind them.
    pub(crate) const fn only_shown(
        module: &'static str,
        class: &'static str,
        name: &'static str,
        parameters: &'static [&'static CStr],
    ) -> Behaviour {
        Behaviour {
            module,
            class,
            name,
            parameters,
            required: parameters.len(),
            create: |_, _| Ok(None),
            start: |_| Err(runtime_error("cannot reuse already awaited coroutine")),
            resume: |_, value| Ok(Step::Done(value)),
            raised: raise_it,
            original: Original::new(),
        }
    }

    /// How many arguments may be given by position, if not all.
    #[inline]
    pub(super) fn positional_max(&self) -> Option<usize> {
        self.parameters.iter().position(|name| *name == KEYWORD_ONLY)
    }
}

/// Arguments in the order of `Behaviour::parameters`, four at most, borrowed for the call. One that was left out is null
/// or beyond the end: usually these are the very arguments of the call.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a>(&'a [Raw]);

impl<'a> Bound<'a> {
    pub(crate) const MAX: usize = 4;

    #[inline]
    pub(crate) fn new(arguments: &'a [Raw]) -> Bound<'a> {
        Bound(arguments)
    }

    #[inline]
    pub(crate) fn get(self, place: usize) -> Option<Raw> {
        self.0.get(place).copied().filter(|argument| !argument.is_null())
    }

    /// The same, null for none.
    #[inline]
    pub(crate) fn raw(self, place: usize) -> Raw {
        self.get(place).unwrap_or(ptr::null_mut())
    }

    /// Without all others, as of a `__aexit__` that asks for no exception.
    #[inline]
    pub(crate) fn receiver(self) -> Bound<'a> {
        Bound(self.0.get(..1).unwrap_or_default())
    }
}

/// The stdlib's function of a `Behaviour`; None in a version that has no such function.
pub(crate) struct Original(AtomicPtr<c::PyObject>);

impl Original {
    pub(crate) const fn new() -> Original {
        Original(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn get(&self) -> Raw {
        self.0.load(Ordering::Relaxed)
    }

    /// For a behaviour whose function is not to be found by name. It lives for ever.
    pub(crate) fn set(&self, function: Obj) {
        self.0.store(function.into_ptr(), Ordering::Relaxed);
    }
}

/// For `Behaviour::raised` where nothing handles an exception.
pub(crate) fn raise_it(_this: &Operation, exception: Obj) -> PyResult<Step> {
    Err(error::restore(exception))
}
