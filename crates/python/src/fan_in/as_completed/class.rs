//! What as_completed gives out, as programs see it.

use super::{AsCompleted, next, on_timeout, show_inner};
#[cfg(Py_3_13)]
use super::{GIVES_BACK, NEXT, WAIT_FOR_ONE};
use crate::ffi::collected::{self, collected};
use crate::ffi::error::PyResult;
#[cfg(not(Py_3_13))]
use crate::ffi::object;
#[cfg(not(Py_3_13))]
use crate::ffi::trampoline;
use crate::ffi::trampoline::{noargs, property, unary_slot};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Native, Obj, Raw, c, call};
#[cfg(Py_3_13)]
use crate::metaclass;
use crate::state::state;
use std::sync::atomic::Ordering;

fn return_self(this: &AsCompleted) -> PyResult<Obj> {
    Ok(this.obj())
}

/// What a generator has besides.
#[cfg(not(Py_3_13))]
mod generator {
    use super::{AsCompleted, Obj, PyResult, Raw, c, call, object};
    use crate::ffi::{Args, error};

    pub(super) fn send(this: &AsCompleted, value: Raw) -> PyResult<Obj> {
        if this.given.is_set() && !object::is_none(value) {
            return Err(error::type_error(
                "can't send non-None value to a just-started generator",
            ));
        }
        match super::next(this)? {
            Some(coroutine) => Ok(coroutine),
            // SAFETY: a static of the interpreter.
            None => Err(error::raise_object(unsafe { c::PyExc_StopIteration }, &Obj::none())),
        }
    }

    pub(super) fn close(this: &AsCompleted) -> PyResult<()> {
        this.given.clear();
        this.left.set(0);
        Ok(())
    }

    pub(super) fn throw(this: &AsCompleted, args: Args<'_>) -> PyResult<Obj> {
        let [kind, value, _traceback] = args.bind("throw", &[c"type", c"value", c"traceback"], 3, 1)?;
        close(this)?;
        let kind = kind.map_or_else(Obj::none, Obj::from_borrowed);
        // SAFETY: A1.
        let exception = if unsafe { c::PyExceptionInstance_Check(kind.as_ptr()) } != 0 {
            kind
        } else {
            match value.filter(|value| !object::is_none(*value)) {
                Some(value) => call::call1(kind.as_ptr(), value)?,
                None => call::call0(kind.as_ptr())?,
            }
        };
        Err(error::raise_object(
            object::type_of(exception.as_ptr()).cast(),
            &exception,
        ))
    }
}

fn show_todo(this: &AsCompleted) -> PyResult<Obj> {
    Ok(this.todo.get_or_none())
}

fn show_left(this: &AsCompleted) -> PyResult<Obj> {
    call::int(this.left.get() as i64)
}

fn show_timer(this: &AsCompleted) -> PyResult<Obj> {
    Ok(this.timer.get_or_none())
}

#[cfg(Py_3_13)]
fn class(this: &AsCompleted) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

collected!(AsCompleted, this =>
    this.given,
    this.timeout,
    this.todo,
    this.timer,
    this.collector,
    this.event_loop,
    this.done,
    this.getters,
);

pub(in crate::fan_in) fn build(module: Raw, #[allow(unused_variables)] metaclass: Raw) -> PyResult<()> {
    let mut spec = TypeSpec::new(
        if cfg!(Py_3_13) {
            c"asyncio.tasks._AsCompletedIterator"
        } else {
            c"asynchrotron._core.as_completed_iterator"
        },
        c"What as_completed() returns: coroutines for the results, first come first served.",
        size_of::<AsCompleted>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_DISALLOW_INSTANTIATION,
    );
    spec.methods = vec![noargs!(
        c"_handle_timeout",
        AsCompleted,
        on_timeout,
        c"_handle_timeout($self, /)\n--\n\nTell those who wait that the time is over."
    )];
    #[cfg(not(Py_3_13))]
    spec.methods.extend([
        trampoline::onearg!(
            c"send",
            AsCompleted,
            generator::send,
            c"send($self, value, /)\n--\n\nThe next coroutine."
        ),
        trampoline::fastcall!(
            c"throw",
            AsCompleted,
            generator::throw,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nEnd it with an exception."
        ),
        noargs!(
            c"close",
            AsCompleted,
            generator::close,
            c"close($self, /)\n--\n\nEnd it."
        ),
    ]);
    spec.properties = vec![
        property!(c"_todo", AsCompleted, show_todo),
        property!(c"_todo_left", AsCompleted, show_left),
        property!(c"_timeout_handle", AsCompleted, show_timer),
    ];
    spec.slots = vec![
        unary_slot!(c::Py_tp_iter, AsCompleted, return_self),
        unary_slot!(c::Py_tp_iternext, AsCompleted, next),
    ];
    spec.slots.extend(collected::slots::<AsCompleted>());
    #[cfg(Py_3_13)]
    {
        spec.metaclass = Some(metaclass);
        spec.properties.push(property!(c"__class__", AsCompleted, class));
        spec.slots.push(unary_slot!(c::Py_am_aiter, AsCompleted, return_self));
    }
    let made = spec.build(module)?;
    state()
        .types
        .as_completed
        .store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    #[cfg(Py_3_13)]
    {
        crate::fan_in::name_shortly(&made, "_AsCompletedIterator")?;
        crate::operation::function::add_methods(&made, &[&WAIT_FOR_ONE, &NEXT])?;
        let twin = call::import_from("asyncio.tasks", "_AsCompletedIterator")?;
        let method = call::getattr(twin.as_ptr(), call::interned("_wait_for_one")?.as_ptr())?;
        GIVES_BACK.store(
            crate::fan_in::task_group::mentions(&method, "_todo_left")?,
            Ordering::Relaxed,
        );
        metaclass::adopt(&made, twin);
    }
    show_inner()
}
