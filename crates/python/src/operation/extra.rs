//! What few operations have: a name given to them, exceptions set aside, the stdlib's own coroutine for what only that
//! can tell.

use super::{Kind, Operation, VARIADIC, function};
use crate::event_loop::EventLoop;
use crate::ffi::error::PyResult;
use crate::ffi::{Obj, Raw, c, call, error, slot};
use crate::state::names;
use std::ffi::{c_int, c_void};
use std::ptr;

/// Made on demand.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<Obj>,
    pub(super) qualname: Option<Obj>,
    pub(super) origin: Option<Obj>,
    /// The stdlib's own coroutine for the same call, never started: it has the frame that debuggers ask for.
    shadow: Option<Obj>,
    /// What is shown behind it (`stand_in.rs`).
    pub(super) behind: Option<Obj>,
    /// By `Aside`.
    pub(super) aside: [Option<Obj>; 2],
}

impl Extra {
    pub(super) fn traverse(&self, visit: c::visitproc, arg: *mut c_void) -> c_int {
        let [failure, cancellation] = &self.aside;
        for reference in [
            &self.name,
            &self.qualname,
            &self.origin,
            &self.shadow,
            failure,
            cancellation,
            &self.behind,
        ] {
            let code = slot::visit_raw(reference.as_ref().map_or(ptr::null_mut(), Obj::as_ptr), visit, arg);
            if code != 0 {
                return code;
            }
        }
        0
    }
}

/// Exceptions that an operation keeps while it does something else first.
#[derive(Clone, Copy)]
pub(crate) enum Aside {
    /// What is raised at the end.
    Failure,
    /// A cancellation that came meanwhile.
    Cancellation,
}

impl Operation {
    /// The borrow must end before any call into Python.
    #[allow(clippy::mut_from_ref)]
    pub(super) fn extra(&self) -> &mut Extra {
        if self.extra.get().is_null() {
            self.extra.set(Box::into_raw(Box::default()));
        }
        // SAFETY: a live box of ours; A1: no other thread, and callers end the borrow before calling Python.
        unsafe { &mut *self.extra.get() }
    }

    #[inline]
    pub(super) fn extra_if_any(&self) -> Option<&mut Extra> {
        if self.extra.get().is_null() {
            None
        } else {
            Some(self.extra())
        }
    }

    pub(crate) fn has_aside(&self) -> bool {
        self.extra_if_any()
            .is_some_and(|extra| extra.aside.iter().any(Option::is_some))
    }

    pub(crate) fn set_aside(&self, which: Aside, exception: Obj) {
        let old = self.extra().aside[which as usize].replace(exception);
        drop(old);
    }

    pub(crate) fn look_aside(&self, which: Aside) -> Option<Obj> {
        self.extra_if_any()?.aside[which as usize].clone()
    }

    pub(crate) fn take_aside(&self, which: Aside) -> Option<Obj> {
        self.extra_if_any()?.aside[which as usize].take()
    }

    /// Where it was created, if `sys.set_coroutine_origin_tracking_depth` asks for that. A running loop asks in debug
    /// mode, so on one of ours that is enough to look at.
    #[inline]
    pub(super) fn note_origin(&self) -> PyResult<()> {
        match EventLoop::running() {
            Some(running) if !running.is_debug() => Ok(()),
            _ => self.note_origin_if_tracked(),
        }
    }

    #[cold]
    fn note_origin_if_tracked(&self) -> PyResult<()> {
        let depth = call::call0(function::table().origin_depth.as_ptr())?;
        if !call::is_true(depth.as_ptr())? {
            return Ok(());
        }
        let origin = call::getattr(self.shadow()?.as_ptr(), call::interned("cr_origin")?.as_ptr())?;
        self.extra().origin = Some(origin);
        Ok(())
    }

    /// The stdlib's coroutine function.
    pub(super) fn original(&self) -> Raw {
        match self.behaviour() {
            Some(behaviour) => behaviour.original.get(),
            None => function::original(self.kind.get()),
        }
    }

    /// The stdlib's coroutine for the same call.
    #[cold]
    pub(super) fn shadow(&self) -> PyResult<Obj> {
        if let Some(shadow) = self.extra_if_any().and_then(|extra| extra.shadow.clone()) {
            return Ok(shadow);
        }
        let event_loop = if matches!(self.kind.get(), Kind::Sleep | Kind::Other) {
            None
        } else {
            self.event_loop.get()
        };
        if self
            .behaviour()
            .is_some_and(|behaviour| behaviour.parameters.contains(&VARIADIC))
        {
            let shadow = self.shadow_of_variadic()?;
            self.extra().shadow = Some(shadow.clone());
            return Ok(shadow);
        }
        let held = [event_loop, self.first.get(), self.second.get(), self.third.get()];
        // The third of a sleep is not an argument, nor what a behaviour keeps after its arguments.
        let count = match self.behaviour() {
            Some(behaviour) => 1 + behaviour.parameters.len(),
            None if self.kind.get() == Kind::Sleep => 3,
            None => 4,
        };
        let mut arguments: Vec<Raw> = held.iter().take(count).flatten().map(Obj::as_ptr).collect();
        if let Some(behaviour) = self.behaviour() {
            // What no step needs is not kept: it is only there to be counted.
            let missing = behaviour.required.saturating_sub(arguments.len());
            // SAFETY: reading the address of the singleton.
            arguments.extend(std::iter::repeat_n(unsafe { c::Py_None() }, missing));
        }
        let shadow = call::call(
            self.original(),
            &arguments,
            self.keywords_of_shadow(arguments.len())?.as_ref(),
        )?;
        self.extra().shadow = Some(shadow.clone());
        Ok(shadow)
    }

    #[cold]
    fn shadow_of_variadic(&self) -> PyResult<Obj> {
        let (first, more) = (self.first.get_or_none(), self.second.get());
        let mut arguments = vec![first.as_ptr()];
        if let Some(more) = &more {
            arguments.extend((0..call::tuple_len(more.as_ptr())).map(|index| call::tuple_item(more.as_ptr(), index)));
        }
        call::call_with(self.original(), &call::tuple(&arguments)?, self.third.get().as_ref())
    }

    /// The names of those of `count` arguments that cannot be given by position.
    fn keywords_of_shadow(&self, count: usize) -> PyResult<Option<Obj>> {
        let Some((behaviour, max)) = self
            .behaviour()
            .and_then(|behaviour| behaviour.positional_max().map(|max| (behaviour, max)))
        else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for name in behaviour.parameters[max + 1..].iter().take(count.saturating_sub(max)) {
            names.push(call::interned(&name.to_string_lossy())?);
        }
        let raws: Vec<Raw> = names.iter().map(Obj::as_ptr).collect();
        call::tuple(&raws).map(Some)
    }

    /// Closes the stdlib's coroutine, which else would say that it was never awaited.
    #[inline]
    pub(super) fn drop_shadow(&self) {
        if let Some(shadow) = self.extra_if_any().and_then(|extra| extra.shadow.take()) {
            close_quietly(&shadow);
        }
    }

    #[cold]
    pub(super) fn free_extra(&self) {
        let extra = self.extra.replace(ptr::null_mut());
        if !extra.is_null() {
            // SAFETY: made by `extra()`, taken out above.
            let extra = unsafe { Box::from_raw(extra) };
            if let Some(shadow) = &extra.shadow {
                close_quietly(shadow);
            }
            drop(extra);
        }
    }
}

/// `coroutine.close()`, whatever is being raised meanwhile.
#[cold]
fn close_quietly(coroutine: &Obj) {
    let interrupted = error::take_if_any();
    if call::call_method(names::close(), &[coroutine.as_ptr()], None).is_err() {
        error::write_unraisable(coroutine.as_ptr());
    }
    if let Some(interrupted) = interrupted {
        let error::Raised = error::restore(interrupted);
    }
}
