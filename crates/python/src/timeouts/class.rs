//! What Timeout shows to Python: methods, coroutine methods, and the attributes that the stdlib's code keeps.

use super::{
    COUNTS_FROM_ENTRY, FREE_TIMEOUTS, INSERTS_ERROR, RULES, State, TAKES_SUBCLASSES, TIMEOUT, Timeout, alarm,
    timeout_error, wait_for,
};
use crate::ffi::collected::{self, Collected, collected};
use crate::ffi::error::{self, PyResult, attribute_error, value_error};
use crate::ffi::trampoline::{self, fastcall, noargs, property, unary_slot};
use crate::ffi::types::{Property, TypeSpec, add_to_module};
use crate::ffi::{Args, Native, Obj, Raw, args, c, call, object, types};
use crate::metaclass;
use crate::operation::{Behaviour, Bound, Operation, Original, Step, function, raise_it};
use crate::state::imports;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::Ordering;

// ---- __aenter__ and __aexit__ --------------------------------------------------------------------

/// The stdlib's own for subclasses.
fn create_for_exact(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(Timeout::of_exact) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

#[inline]
fn timeout_of(this: &Operation) -> &Timeout {
    // SAFETY: `create_for_exact` made sure of it, and the slot keeps it while the operation runs.
    unsafe { &*this.first.ptr().cast::<Timeout>() }
}

fn start_enter(this: &Operation) -> PyResult<Step> {
    let timeout = timeout_of(this);
    timeout.enter()?;
    Ok(Step::Done(timeout.obj()))
}

fn start_exit(this: &Operation) -> PyResult<Step> {
    let given = |raw: Raw| (!raw.is_null() && !object::is_none(raw)).then_some(raw);
    let exception = given(this.third.ptr()).map(Obj::from_borrowed);
    let rules = RULES.load(Ordering::Relaxed);
    if !timeout_of(this).exit(given(this.second.ptr()), exception.as_ref(), rules)? {
        return Ok(Step::Done(Obj::none()));
    }
    if rules & COUNTS_FROM_ENTRY == 0 {
        // SAFETY: A1; a static of the interpreter.
        unsafe { c::PyErr_SetNone(c::PyExc_TimeoutError) };
        return Err(error::Raised);
    }
    let made = timeout_error(exception.as_ref())?;
    Err(error::raise_object(object::type_of(made.as_ptr()).cast(), &made))
}

static ENTER: Behaviour = Behaviour {
    module: "asyncio.timeouts",
    class: "Timeout",
    name: "__aenter__",
    parameters: &[c"self"],
    required: 1,
    create: create_for_exact,
    start: start_enter,
    resume: |_, value| Ok(Step::Done(value)),
    raised: raise_it,
    original: Original::new(),
};

static EXIT: Behaviour = Behaviour {
    module: "asyncio.timeouts",
    class: "Timeout",
    name: "__aexit__",
    parameters: &[c"self", c"exc_type", c"exc_val", c"exc_tb"],
    required: 4,
    create: create_for_exact,
    start: start_exit,
    resume: |_, value| Ok(Step::Done(value)),
    raised: raise_it,
    original: Original::new(),
};

// ---- methods and attributes ----------------------------------------------------------------------

fn when(this: &Timeout) -> PyResult<Obj> {
    this.when()
}

fn reschedule(this: &Timeout, args: Args<'_>) -> PyResult<()> {
    let [when] = args.bind("Timeout.reschedule", &[c"when"], 1, 1)?;
    this.reschedule(when.unwrap_or(ptr::null_mut()))
}

fn expired(this: &Timeout) -> PyResult<bool> {
    Ok(matches!(this.state.get(), State::Expiring | State::Expired))
}

fn on_timeout(this: &Timeout) -> PyResult<()> {
    this.expire()
}

fn repr(this: &Timeout) -> PyResult<Obj> {
    let mut info = String::new();
    if this.state.get() == State::Entered {
        let mut when = this.when()?;
        if !when.is_none() {
            let round = call::import_from("builtins", "round")?;
            when = call::call(round.as_ptr(), &[when.as_ptr(), call::int(3)?.as_ptr()], None)?;
        }
        // SAFETY: A1; no format specification.
        let text = error::owned(unsafe { c::PyObject_Format(when.as_ptr(), ptr::null_mut()) })?;
        info = format!(" when={}", call::to_string(text.as_ptr())?);
    }
    call::string(&format!("<Timeout [{}]{info}>", this.state.get().words().1))
}

fn show_state(this: &Timeout) -> PyResult<Obj> {
    let name = call::interned(this.state.get().words().0)?;
    call::getattr(imports::timeout_state(), name.as_ptr())
}

fn set_state(this: &Timeout, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| attribute_error("_state"))?;
    for state in State::ALL {
        let member = call::getattr(imports::timeout_state(), call::interned(state.words().0)?.as_ptr())?;
        if member.is(value) {
            this.state.set(state);
            return Ok(());
        }
    }
    Err(value_error("not a state of a Timeout"))
}

fn show_when(this: &Timeout) -> PyResult<Obj> {
    this.when()
}

fn set_when(this: &Timeout, value: Option<Raw>) -> PyResult<()> {
    this.set_when(value.ok_or_else(|| attribute_error("_when"))?)
}

fn show_handler(this: &Timeout) -> PyResult<Obj> {
    this.show_handler()
}

fn set_handler(this: &Timeout, value: Option<Raw>) -> PyResult<()> {
    if let Some(alarm) = this.alarm() {
        alarm.cancel();
    }
    this.handler
        .set_option(value.filter(|value| !object::is_none(*value)).map(Obj::from_borrowed));
    Ok(())
}

fn show_task(this: &Timeout) -> PyResult<Obj> {
    Ok(this.task.get_or_none())
}

fn set_task(this: &Timeout, value: Option<Raw>) -> PyResult<()> {
    this.task.set_option(value.map(Obj::from_borrowed));
    Ok(())
}

fn show_cancelling(this: &Timeout) -> PyResult<Obj> {
    if this.task.is_set() {
        call::int(this.cancelling.get())
    } else {
        Err(attribute_error("'Timeout' object has no attribute '_cancelling'"))
    }
}

fn set_cancelling(this: &Timeout, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| attribute_error("_cancelling"))?;
    this.cancelling.set(call::as_i64(value)?);
    Ok(())
}

fn class(this: &Timeout) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

// ---- life and death ------------------------------------------------------------------------------

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_init's receiver.
        let this = unsafe { &*slf.cast::<Timeout>() };
        args::with_tuple_and_dict(positional, keywords, |args| {
            let Some(when) = super::only(&args, c"when") else {
                // Words the error.
                let init = call::getattr(imports::stdlib_timeout_class(), call::interned("__init__")?.as_ptr())?;
                return args.forward_call(init.as_ptr(), slf).map(drop);
            };
            this.state.set(State::Created);
            set_handler(this, None)?;
            this.task.clear();
            this.set_when(when)
        })
    })
}

collected!(Timeout, this => weak this.weaklist; this.task, this.handler, this.when_given, this.dict);

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        // SAFETY: as above.
        let this = unsafe { &*slf.cast::<Timeout>() };
        // An alarm would keep it alive.
        debug_assert!(this.alarm.get().is_null());
        collected::clear_weak_references(this);
        this.empty_fields();
        this.state.set(State::Created);
        if !(Timeout::check_exact(slf) && FREE_TIMEOUTS.push(slf)) {
            // SAFETY: fields are dropped.
            unsafe { types::free(slf) };
        }
    });
}

// ---- the class -----------------------------------------------------------------------------------

/// Reads from the stdlib's `__aexit__` what it looks at: bug-fix releases have changed that.
fn look_for_rules() -> PyResult<u8> {
    let exit = call::getattr(imports::stdlib_timeout_class(), call::interned("__aexit__")?.as_ptr())?;
    let code = call::getattr(exit.as_ptr(), call::interned("__code__")?.as_ptr())?;
    let used = call::getattr(code.as_ptr(), call::interned("co_names")?.as_ptr())?;
    let mut rules = 0;
    for (name, rule) in [
        ("_cancelling", COUNTS_FROM_ENTRY),
        ("issubclass", TAKES_SUBCLASSES),
        ("_insert_timeout_error", INSERTS_ERROR),
    ] {
        // SAFETY: A1; a tuple.
        match unsafe { c::PySequence_Contains(used.as_ptr(), call::interned(name)?.as_ptr()) } {
            code if code < 0 => return Err(error::Raised),
            0 => {}
            _ => rules |= rule,
        }
    }
    Ok(rules)
}

fn spec() -> TypeSpec {
    let mut spec = TypeSpec::new(
        c"asyncio.timeouts.Timeout",
        c"Timeout(when)\n--\n\nAn asynchronous context manager that cancels its body at a time (asyncio.Timeout).",
        size_of::<Timeout>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.dict_offset = Some(offset_of!(Timeout, dict));
    spec.weaklist_offset = Some(offset_of!(Timeout, weaklist));
    spec.methods = vec![
        noargs!(
            c"when",
            Timeout,
            when,
            c"when($self, /)\n--\n\nThe deadline on the loop's clock, or None."
        ),
        fastcall!(
            c"reschedule",
            Timeout,
            reschedule,
            c"reschedule($self, /, when)\n--\n\nSet another deadline; None is never."
        ),
        noargs!(
            c"expired",
            Timeout,
            expired,
            c"expired($self, /)\n--\n\nTrue if the body was cancelled because its time was up."
        ),
        noargs!(
            c"_on_timeout",
            Timeout,
            on_timeout,
            c"_on_timeout($self, /)\n--\n\nThe time is up."
        ),
    ];
    spec.properties = vec![
        property!(c"_state", Timeout, show_state, set_state),
        property!(c"_when", Timeout, show_when, set_when),
        property!(c"_timeout_handler", Timeout, show_handler, set_handler),
        property!(c"_task", Timeout, show_task, set_task),
        property!(c"_cancelling", Timeout, show_cancelling, set_cancelling),
        property!(c"__class__", Timeout, class),
        Property::new(
            c"__dict__",
            c::PyObject_GenericGetDict,
            Some(c::PyObject_GenericSetDict),
        ),
    ];
    spec.slots = vec![
        (c::Py_tp_new, c::PyType_GenericNew as *mut c_void),
        (c::Py_tp_init, init as *mut c_void),
        unary_slot!(c::Py_tp_repr, Timeout, repr),
    ];
    spec.slots.extend(collected::slots_with::<Timeout>(dealloc));
    spec
}

pub(crate) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    RULES.store(look_for_rules()?, Ordering::Relaxed);
    alarm::build(module)?;
    let mut spec = spec();
    spec.metaclass = Some(metaclass);
    let made = spec.build(module)?;
    let name = call::string("Timeout")?;
    call::setattr(made.as_ptr(), call::interned("__name__")?.as_ptr(), name.as_ptr())?;
    TIMEOUT.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, &[&ENTER, &EXIT])?;
    if RULES.load(Ordering::Relaxed) & INSERTS_ERROR != 0 {
        // Subclasses run the stdlib's `__aexit__`, which calls it.
        let name = call::interned("_insert_timeout_error")?;
        let inspect = call::import_from("inspect", "getattr_static")?;
        let method = call::call(
            inspect.as_ptr(),
            &[imports::stdlib_timeout_class(), name.as_ptr()],
            None,
        )?;
        call::setattr(made.as_ptr(), name.as_ptr(), method.as_ptr())?;
    }
    metaclass::adopt(&made, Obj::from_borrowed(imports::stdlib_timeout_class()));
    add_to_module(module, c"Timeout", &made)?;
    wait_for::build(module)
}
