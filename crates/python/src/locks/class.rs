//! How a class of this folder is made: what all of them have besides their own methods and attributes.

use super::primitive::{Base, Class, Fit, Given, Primitive, value_for};
use crate::ffi::args::with_tuple_and_dict;
use crate::ffi::collected::{self, collected};
use crate::ffi::error::PyResult;
use crate::ffi::trampoline::{self, noargs, onearg, property};
use crate::ffi::types::{Method, Property, TypeSpec, add_to_module};
use crate::ffi::{Native, Obj, Raw, c, call, object};
use crate::metaclass;
use crate::operation::{Behaviour, function};
use crate::waiters::make_attributes;
use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::offset_of;

// ---- construction --------------------------------------------------------------------------------

unsafe extern "C" fn init<T: Primitive>(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_init's receiver.
        let this = unsafe { &*slf.cast::<T>() };
        make_attributes(&this.base().dict)?;
        if let Some(given) = given::<T>(positional, keywords)?
            && this.init(given)? == Fit::Yes
        {
            this.base().waiters.clear();
            return Ok(());
        }
        let init = call::getattr(T::CLASS.twin(), call::interned("__init__")?.as_ptr())?;
        with_tuple_and_dict(positional, keywords, |args| args.forward_call(init.as_ptr(), slf)).map(drop)
    })
}

#[inline]
fn given<T: Primitive>(positional: Raw, keywords: Raw) -> PyResult<Option<Given>> {
    let named = if keywords.is_null() {
        0
    } else {
        // SAFETY: A1; a dict.
        unsafe { c::PyDict_Size(keywords) }
    };
    Ok(match (call::tuple_len(positional), named, T::PARAMETER) {
        (0, 0, _) => Some(Given::Nothing),
        (1, 0, Some(_)) => Some(Given::One(call::tuple_item(positional, 0))),
        (0, 1, Some(name)) => {
            let name = call::interned(name)?;
            // SAFETY: A1; a dict, which lends the value for the call, or gives NULL.
            let value = unsafe { c::PyDict_GetItemWithError(keywords, name.as_ptr()) };
            (!value.is_null()).then_some(Given::One(value))
        }
        _ => None,
    })
}

// ---- the class -----------------------------------------------------------------------------------

/// Any primitive, for what is the same in all of them.
#[repr(C)]
struct Any {
    base: Base,
}

// SAFETY: repr(C), header first; never allocated as such.
unsafe impl Native for Any {
    fn type_object() -> *mut c::PyTypeObject {
        &raw mut c::PyBaseObject_Type
    }
}

fn show_waiters(this: &Any) -> PyResult<Obj> {
    this.base.waiters.show()
}

fn show_waiters_if_used(this: &Any) -> PyResult<Obj> {
    this.base.waiters.show_if_used()
}

fn set_waiters(this: &Any, value: Option<Raw>) -> PyResult<()> {
    this.base.waiters.assign(value_for(this, value, "_waiters")?);
    Ok(())
}

fn show_loop(this: &Any) -> PyResult<Obj> {
    Ok(this.base.event_loop.slot().get_or_none())
}

fn set_loop(this: &Any, value: Option<Raw>) -> PyResult<()> {
    let value = value_for(this, value, "_loop")?;
    this.base.event_loop.slot().set(Obj::from_borrowed(value));
    Ok(())
}

fn get_loop(this: &Any) -> PyResult<Obj> {
    this.base.event_loop.get(this.raw())
}

fn show_class(this: &Any) -> PyResult<Obj> {
    Ok(metaclass::shown_class(this.raw()))
}

/// Assigning `__class__` keeps working as for any object.
fn set_class(this: &Any, value: Option<Raw>) -> PyResult<()> {
    metaclass::set_class(this.raw(), value)
}

fn show_dict(this: &Any) -> PyResult<Obj> {
    this.base.own_attributes()
}

/// What `vars()` of asyncio's object is, for pickle and copy.
fn show_state<T: Primitive>(this: &T) -> PyResult<Obj> {
    let state = call::dict()?;
    let bound: &[&str] = if this.base().event_loop.slot().is_set() {
        &["_loop"]
    } else {
        &[]
    };
    for name in T::ATTRIBUTES.iter().chain(bound) {
        let value = call::getattr(this.raw(), call::interned(name)?.as_ptr())?;
        call::dict_set(&state, name, value.as_ptr())?;
    }
    if this.base().has_attributes() {
        let (update, own) = (call::interned("update")?, this.base().own_attributes()?);
        call::call_method(update.as_ptr(), &[state.as_ptr(), own.as_ptr()], None)?;
    }
    Ok(state)
}

/// An instance of the very class says that it is of the stdlib's, so what `object` does is not for it.
fn reduce<T: Primitive>(this: &T, protocol: Raw) -> PyResult<Obj> {
    let kind = T::CLASS.kind();
    if object::type_of(this.raw()) != kind {
        // SAFETY: a static type of the interpreter.
        let object_type: Raw = (&raw mut c::PyBaseObject_Type).cast();
        let reduce = call::getattr(object_type, call::interned("__reduce_ex__")?.as_ptr())?;
        return call::call(reduce.as_ptr(), &[this.raw(), protocol], None);
    }
    let one = call::int(1)?;
    // Whatever they are, the state sets everything.
    let arguments: &[Raw] = if T::REQUIRED { &[one.as_ptr()] } else { &[] };
    let arguments = call::tuple(arguments)?;
    call::tuple(&[kind.cast(), arguments.as_ptr(), show_state(this)?.as_ptr()])
}

fn set_state(this: &Any, state: Raw) -> PyResult<()> {
    call::set_all(this.raw(), state)
}

collected!(Any, this =>
    weak this.base.weaklist;
    this.base.event_loop,
    this.base.waiters,
    this.base.held[0],
    this.base.held[1],
    this.base.dict,
);

/// When `_waiters` begins to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiters {
    Always,
    OnceUsed,
    Never,
}

/// A method without parameters, `fn(&T) -> PyResult<Obj>`. Given any, it calls the stdlib's, which says what is wrong.
macro_rules! method {
    ($name:literal, $type:ty, $body:path, $doc:literal) => {{
        fn checked(this: &$type, args: $crate::ffi::Args<'_>) -> PyResult<Obj> {
            if args.positional().is_empty() && !args.has_keywords() {
                return $body(this);
            }
            let class = <$type as $crate::locks::primitive::Primitive>::CLASS;
            class.forward($name, this.raw(), args)
        }
        $crate::ffi::trampoline::fastcall!($name, $type, checked, $doc)
    }};
}
pub(super) use method;

/// What makes a class of this folder.
pub(super) struct ClassSpec {
    /// With its module.
    pub(super) name: &'static CStr,
    pub(super) doc: &'static CStr,
    pub(super) base: Option<&'static Class>,
    pub(super) waiters: Waiters,
    pub(super) methods: Vec<Method>,
    pub(super) properties: Vec<Property>,
    pub(super) slots: Vec<(c_int, *mut c_void)>,
    pub(super) operations: Vec<&'static Behaviour>,
    /// Functions of the stdlib's class that serve ours as they are, where the running version has them.
    pub(super) adopted: &'static [&'static str],
}

impl ClassSpec {
    /// Makes the class in `module`.
    pub(super) fn build<T: Primitive>(self, module: Raw, metaclass: Raw) -> PyResult<()> {
        let full_name = self.name.to_string_lossy();
        let name = full_name.rsplit('.').next().unwrap_or_default();
        let twin = call::import_from("asyncio.locks", name)?;

        let mut spec = TypeSpec::new(
            self.name,
            self.doc,
            size_of::<T>(),
            c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
        );
        spec.metaclass = Some(metaclass);
        spec.bases = self.base.iter().map(|base| base.kind().cast()).collect();
        spec.dict_offset = Some(offset_of!(Base, dict));
        spec.weaklist_offset = Some(offset_of!(Base, weaklist));
        spec.methods = self.methods;
        spec.methods.extend([
            noargs!(
                c"_get_loop",
                Any,
                get_loop,
                c"_get_loop($self, /)\n--\n\nThe running loop, to which it is bound from now on."
            ),
            Method::noargs(
                c"__getstate__",
                state_entry::<T>,
                c"__getstate__($self, /)\n--\n\nFor pickle.",
            ),
            Method::noargs(
                c"__dir__",
                dir_entry::<T>,
                c"__dir__($self, /)\n--\n\nNames of all attributes.",
            ),
            Method::onearg(
                c"__reduce_ex__",
                reduce_entry::<T>,
                c"__reduce_ex__($self, protocol, /)\n--\n\nFor pickle.",
            ),
            onearg!(
                c"__setstate__",
                Any,
                set_state,
                c"__setstate__($self, state, /)\n--\n\nFor pickle."
            ),
        ]);
        spec.properties = self.properties;
        spec.properties.extend([
            property!(c"_loop", Any, show_loop, set_loop),
            property!(c"__class__", Any, show_class, set_class),
            property!(c"__dict__", Any, show_dict),
        ]);
        match self.waiters {
            Waiters::Always => spec
                .properties
                .push(property!(c"_waiters", Any, show_waiters, set_waiters)),
            Waiters::OnceUsed => spec
                .properties
                .push(property!(c"_waiters", Any, show_waiters_if_used, set_waiters)),
            Waiters::Never => {}
        }
        spec.slots = self.slots;
        spec.slots.extend([
            (c::Py_tp_new, c::PyType_GenericNew as *mut c_void),
            (c::Py_tp_init, init::<T> as *mut c_void),
        ]);
        spec.slots.extend(collected::slots_of_chained::<Any>());
        let made = spec.build(module)?;
        // Error texts name a type without its module only if they are told so.
        let short = call::string(name)?;
        call::setattr(made.as_ptr(), call::interned("__name__")?.as_ptr(), short.as_ptr())?;
        function::add_methods(&made, &self.operations)?;
        for name in self.adopted {
            let name = call::interned(name)?;
            if let Some(function) = call::getattr_optional(twin.as_ptr(), name.as_ptr())? {
                call::setattr(made.as_ptr(), name.as_ptr(), function.as_ptr())?;
            }
        }
        let reached = ["_get_loop", "_loop", "__getattribute__", "__setattr__"];
        let inner = T::INNER.iter().chain(T::ATTRIBUTES).chain(&reached);
        let inner: Vec<Obj> = inner.map(|name| call::interned(name)).collect::<PyResult<_>>()?;
        let inner: Vec<Raw> = inner.iter().map(Obj::as_ptr).collect();
        T::CLASS.fill(&made, &twin, call::tuple(&inner)?)?;
        metaclass::adopt(&made, twin);
        add_to_module(module, &CString::new(name).unwrap_or_default(), &made)
    }
}

unsafe extern "C" fn state_entry<T: Primitive>(slf: Raw, _: Raw) -> Raw {
    // SAFETY: a method's receiver.
    trampoline::enter(|| show_state(unsafe { &*slf.cast::<T>() }))
}

unsafe extern "C" fn dir_entry<T: Primitive>(slf: Raw, _: Raw) -> Raw {
    trampoline::enter(|| {
        let names = T::ATTRIBUTES.iter().chain(T::BORROWED);
        metaclass::names_of(
            slf,
            names.map(|name| call::interned(name)).collect::<PyResult<Vec<_>>>()?,
        )
    })
}

unsafe extern "C" fn reduce_entry<T: Primitive>(slf: Raw, protocol: Raw) -> Raw {
    // SAFETY: a method's receiver.
    trampoline::enter(|| reduce(unsafe { &*slf.cast::<T>() }, protocol))
}
