//! TaskGroup as programs see it: methods, attributes, life and death.

use super::{TaskGroup, cancel_all, create_task, on_task_done, scope};
use crate::ffi::collected::{self, collected};
use crate::ffi::error::{self, PyResult, type_error};
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property, unary_slot};
use crate::ffi::types::{Property, TypeSpec, add_to_module};
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::metaclass;
use crate::operation::function;
use crate::state::state;
use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

fn py_cancel(this: &TaskGroup) -> PyResult<()> {
    if !this.entered.get() {
        this.cancel_on_enter.set(true);
        return Ok(());
    }
    if (this.exiting.get() && !this.has_tasks()) || this.aborting.get() {
        return Ok(());
    }
    let this = this.own();
    this.abort()?;
    if this.parent_task.is_set() && !this.parent_cancel_requested.get() {
        this.cancel_parent()?;
    }
    Ok(())
}

fn py_is_base_error(_this: &TaskGroup, exception: Raw) -> PyResult<bool> {
    Ok(error::is_exit(exception))
}

fn repr(this: &TaskGroup) -> PyResult<Obj> {
    let mut text = String::from("<TaskGroup");
    if this.has_tasks() {
        let _ = write!(text, " tasks={}", this.tasks.len());
    }
    if this.error_count() > 0 {
        let _ = write!(text, " errors={}", this.error_count());
    }
    if this.aborting.get() {
        text.push_str(" cancelling");
    } else if this.entered.get() {
        text.push_str(" entered");
    }
    text.push('>');
    call::string(&text)
}

fn class(this: &TaskGroup) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

fn set_tasks(this: &TaskGroup, value: Option<Raw>) -> PyResult<()> {
    match value {
        // SAFETY: A1; checked to be a set.
        Some(value) if unsafe { c::PySet_Check(value) } != 0 => {
            this.tasks.replace(Obj::from_borrowed(value));
            Ok(())
        }
        _ => Err(type_error("_tasks must be a set")),
    }
}

/// Properties that show a field as asyncio's attribute, and set it.
macro_rules! field {
    ($name:literal, $field:ident, object) => {{
        fn show(this: &TaskGroup) -> PyResult<Obj> {
            Ok(this.$field.get_or_none())
        }
        fn assign(this: &TaskGroup, value: Option<Raw>) -> PyResult<()> {
            let value = value.filter(|value| !object::is_none(*value));
            this.$field.set_option(value.map(Obj::from_borrowed));
            Ok(())
        }
        property!($name, TaskGroup, show, assign)
    }};
    ($name:literal, $field:ident, flag) => {{
        fn show(this: &TaskGroup) -> PyResult<Obj> {
            Ok(Obj::bool(this.$field.get()))
        }
        fn assign(this: &TaskGroup, value: Option<Raw>) -> PyResult<()> {
            this.$field.set(value.map_or(Ok(false), call::is_true)?);
            Ok(())
        }
        property!($name, TaskGroup, show, assign)
    }};
}

fn show_tasks(this: &TaskGroup) -> PyResult<Obj> {
    this.tasks.show()
}

/// `__init__` has no parameters.
fn refuse_arguments(slf: Raw, positional: Raw, keywords: Raw) -> PyResult<()> {
    let class = object::type_name(slf);
    let given = call::tuple_len(positional);
    if given > 0 {
        return Err(type_error(&format!(
            "{class}.__init__() takes 1 positional argument but {} were given",
            given + 1
        )));
    }
    if keywords.is_null() {
        return Ok(());
    }
    let (mut position, mut name) = (0, std::ptr::null_mut());
    // SAFETY: A1; a dict, whose first key is borrowed.
    if unsafe { c::PyDict_Next(keywords, &raw mut position, &raw mut name, std::ptr::null_mut()) } == 0 {
        return Ok(());
    }
    Err(type_error(&format!(
        "{class}.__init__() got an unexpected keyword argument '{}'",
        call::to_string(name)?
    )))
}

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        refuse_arguments(slf, positional, keywords)?;
        // SAFETY: tp_init's receiver.
        let this = unsafe { &*slf.cast::<TaskGroup>() };
        for flag in [
            &this.entered,
            &this.exiting,
            &this.aborting,
            &this.parent_cancel_requested,
            &this.cancel_on_enter,
        ] {
            flag.set(false);
        }
        this.tasks.clear();
        this.errors.set(call::list()?);
        for held in [
            &this.event_loop,
            &this.parent_task,
            &this.base_error,
            &this.on_completed,
            &this.collector,
        ] {
            held.clear();
        }
        Ok(())
    })
}

collected!(TaskGroup, this =>
    weak this.weaklist;
    this.event_loop,
    this.parent_task,
    this.errors,
    this.base_error,
    this.on_completed,
    this.collector,
    this.tasks,
    this.dict,
);

pub(in crate::fan_in) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    let twin = call::import_from("asyncio.taskgroups", "TaskGroup")?;
    scope::look_up_traits(&twin)?;
    let mut spec = TypeSpec::new(
        c"asyncio.taskgroups.TaskGroup",
        c"TaskGroup()\n--\n\nTasks that end before their `async with` block does (asyncio.TaskGroup).",
        size_of::<TaskGroup>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.metaclass = Some(metaclass);
    spec.dict_offset = Some(offset_of!(TaskGroup, dict));
    spec.weaklist_offset = Some(offset_of!(TaskGroup, weaklist));
    spec.methods = vec![
        fastcall!(
            c"create_task",
            TaskGroup,
            create_task,
            c"create_task($self, coro, **kwargs)\n--\n\nStart a task of this group and return it."
        ),
        onearg!(
            c"_is_base_error",
            TaskGroup,
            py_is_base_error,
            c"_is_base_error($self, exc, /)\n--\n\nIs it raised as itself, not in a group?"
        ),
        noargs!(
            c"_abort",
            TaskGroup,
            cancel_all,
            c"_abort($self, /)\n--\n\nCancel all tasks."
        ),
        onearg!(
            c"_on_task_done",
            TaskGroup,
            on_task_done,
            c"_on_task_done($self, task, /)\n--\n\nTake a task out that is done."
        ),
    ];
    if scope::traits().can_be_cancelled {
        spec.methods.push(noargs!(
            c"cancel",
            TaskGroup,
            py_cancel,
            c"cancel($self, /)\n--\n\nCancel the tasks and the body; the block then ends without CancelledError."
        ));
        spec.properties.push(field!(c"_cancel_on_enter", cancel_on_enter, flag));
    }
    spec.properties.extend([
        field!(c"_entered", entered, flag),
        field!(c"_exiting", exiting, flag),
        field!(c"_aborting", aborting, flag),
        field!(c"_parent_cancel_requested", parent_cancel_requested, flag),
        field!(c"_loop", event_loop, object),
        field!(c"_parent_task", parent_task, object),
        field!(c"_errors", errors, object),
        field!(c"_base_error", base_error, object),
        field!(c"_on_completed_fut", on_completed, object),
        property!(c"_tasks", TaskGroup, show_tasks, set_tasks),
        property!(c"__class__", TaskGroup, class),
        Property::new(
            c"__dict__",
            c::PyObject_GenericGetDict,
            Some(c::PyObject_GenericSetDict),
        ),
    ]);
    spec.slots = vec![
        (c::Py_tp_new, c::PyType_GenericNew as *mut c_void),
        (c::Py_tp_init, init as *mut c_void),
        unary_slot!(c::Py_tp_repr, TaskGroup, repr),
    ];
    spec.slots.extend(collected::slots::<TaskGroup>());
    let made = spec.build(module)?;
    crate::fan_in::name_shortly(&made, "TaskGroup")?;
    state()
        .types
        .task_group
        .store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, scope::METHODS)?;
    metaclass::adopt(&made, twin);
    add_to_module(module, c"TaskGroup", &made)
}
