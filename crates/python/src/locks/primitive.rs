//! What the classes of this folder share: the fields they all begin with, construction, `_waiters` and `_loop`, pickling,
//! and the rule for who is served natively.
//!
//! Served natively is a *plain* object: nothing that the stdlib's functions reach through `self` has been replaced, be it
//! by a subclass or in the object. For any other the stdlib's function does the work: it finds in the object every
//! attribute that it uses, and every method that stands in place of another.
//!
//! Invariants
//! - I1: the first of an operation's arguments is a plain object of the class that the behaviour belongs to; `first`
//!   keeps it while the operation runs.
//! - I2: `third` is the future the operation waits for, and that future is in the line of a primitive.

use crate::ffi::error::{self, PyResult, Raised, owned, status, system_error};
use crate::ffi::{Args, Native, Obj, Raw, Slot, c, call, object};
use crate::future::{Future, cannot_delete};
use crate::operation::{Behaviour, Bound, Operation, Original, Step, raise_it};
use crate::waiters::LoopBinding;
use crate::waiters::deque::Deque;
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// A class of ours and the stdlib's that it stands for; both live for ever.
pub(super) struct Class {
    kind: AtomicPtr<c::PyTypeObject>,
    twin: AtomicPtr<c::PyObject>,
    /// Interned names of the methods that the stdlib's functions reach through `self`, a tuple.
    inner: AtomicPtr<c::PyObject>,
    /// What the class had under these names at import, a tuple; None where nothing.
    originals: AtomicPtr<c::PyObject>,
    /// The class while it has all of these, by its version tag: tags are given out once, and a class that changes, as
    /// when a test patches a method, gets another one.
    own_tag: AtomicU32,
    /// The latest subclass seen that replaces none of these, in the same way.
    plain_tag: AtomicU32,
}

/// No class has it.
const NO_TAG: u32 = u32::MAX;

impl Class {
    pub(super) const fn new() -> Class {
        Class {
            kind: AtomicPtr::new(ptr::null_mut()),
            twin: AtomicPtr::new(ptr::null_mut()),
            inner: AtomicPtr::new(ptr::null_mut()),
            originals: AtomicPtr::new(ptr::null_mut()),
            own_tag: AtomicU32::new(NO_TAG),
            plain_tag: AtomicU32::new(NO_TAG),
        }
    }

    /// Once at import, with `inner`, the names of methods.
    pub(super) fn fill(&self, kind: &Obj, twin: &Obj, inner: Obj) -> PyResult<()> {
        let originals: Vec<Obj> = (0..call::tuple_len(inner.as_ptr()))
            .map(|index| {
                let found = call::getattr_optional(kind.as_ptr(), call::tuple_item(inner.as_ptr(), index))?;
                Ok(found.unwrap_or_else(Obj::none))
            })
            .collect::<PyResult<_>>()?;
        let originals: Vec<Raw> = originals.iter().map(Obj::as_ptr).collect();
        self.originals
            .store(call::tuple(&originals)?.into_ptr(), Ordering::Relaxed);
        self.kind.store(kind.clone().into_ptr().cast(), Ordering::Relaxed);
        self.twin.store(twin.clone().into_ptr(), Ordering::Relaxed);
        self.inner.store(inner.into_ptr(), Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(super) fn kind(&self) -> *mut c::PyTypeObject {
        self.kind.load(Ordering::Relaxed)
    }

    pub(super) fn twin(&self) -> Raw {
        self.twin.load(Ordering::Relaxed)
    }

    /// Is `raw`, of this class or a subclass, plain?
    #[inline]
    pub(super) fn is_plain(&self, raw: Raw) -> bool {
        let kind = object::type_of(raw);
        // SAFETY: every instance begins with a Base.
        let base = unsafe { &*raw.cast::<Base>() };
        // SAFETY: the type of a live object.
        let tag = unsafe { (*kind).tp_version_tag };
        if kind == self.kind() && tag == self.own_tag.load(Ordering::Relaxed) && !base.has_attributes() {
            return true;
        }
        self.is_plain_at_a_closer_look(kind, base)
    }

    #[inline(never)]
    fn is_plain_at_a_closer_look(&self, kind: *mut c::PyTypeObject, base: &Base) -> bool {
        let known = if kind == self.kind() {
            &self.own_tag
        } else {
            &self.plain_tag
        };
        self.is_plain_class(kind, known) && (!base.has_attributes() || self.replaces_nothing(base))
    }

    fn is_plain_class(&self, kind: *mut c::PyTypeObject, known: &AtomicU32) -> bool {
        // SAFETY: the type of a live object.
        let tag = unsafe { (*kind).tp_version_tag };
        if tag == known.load(Ordering::Relaxed) {
            return true;
        }
        let plain = self.look_at_class(kind.cast()).unwrap_or_else(|Raised| {
            error::clear();
            false
        });
        // SAFETY: as above. The look has given the class a tag, if it can have one.
        let tag = unsafe { (*kind).tp_version_tag };
        if plain && tag != 0 {
            known.store(tag, Ordering::Relaxed);
        }
        plain
    }

    #[cold]
    fn look_at_class(&self, class: Raw) -> PyResult<bool> {
        let inner = self.inner.load(Ordering::Relaxed);
        let originals = self.originals.load(Ordering::Relaxed);
        for index in 0..call::tuple_len(inner) {
            let found = call::getattr_optional(class, call::tuple_item(inner, index))?;
            if !found.unwrap_or_else(Obj::none).is(call::tuple_item(originals, index)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Is none of the methods an attribute of the object?
    #[cold]
    fn replaces_nothing(&self, base: &Base) -> bool {
        let inner = self.inner.load(Ordering::Relaxed);
        let Some(dict) = base.dict() else { return true };
        (0..call::tuple_len(inner)).all(|index| {
            // SAFETY: A1; a dict and a string.
            match unsafe { c::PyDict_Contains(dict.as_ptr(), call::tuple_item(inner, index)) } {
                0 => true,
                1 => false,
                _ => {
                    error::clear();
                    false
                }
            }
        })
    }

    /// The stdlib's function with arguments that ours does not take: mostly an error.
    #[cold]
    pub(super) fn forward(&self, name: &CStr, receiver: Raw, args: Args<'_>) -> PyResult<Obj> {
        let name = call::interned(&name.to_string_lossy())?;
        let function = call::getattr(self.twin(), name.as_ptr())?;
        args.forward_call(function.as_ptr(), receiver)
    }

    /// The stdlib's function with these arguments, the receiver first.
    #[cold]
    pub(super) fn stdlib(&self, name: &str, arguments: &[Raw]) -> PyResult<Obj> {
        let function = call::getattr(self.twin(), call::interned(name)?.as_ptr())?;
        call::call(function.as_ptr(), arguments, None)
    }
}

/// The fields that every primitive begins with.
#[repr(C)]
pub(super) struct Base {
    head: c::PyObject,
    pub(super) event_loop: LoopBinding,
    pub(super) waiters: Deque,
    /// What else a class refers to, in its own order.
    pub(super) held: [Slot; 2],
    pub(super) dict: Slot,
    pub(super) weaklist: Cell<Raw>,
}

impl Base {
    #[inline]
    fn raw(&self) -> Raw {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Has it attributes of its own?
    #[inline]
    pub(super) fn has_attributes(&self) -> bool {
        let dict = self.dict.ptr();
        // SAFETY: A1; a dict.
        !dict.is_null() && unsafe { (*dict.cast::<c::PyDictObject>()).ma_used } > 0
    }

    /// `__dict__`, if there is one. Looking for a name in it may compare keys, and that may run code which puts another
    /// one in its place.
    fn dict(&self) -> Option<Obj> {
        self.dict.get()
    }

    /// An attribute of its own.
    pub(super) fn own_attribute(&self, name: &str) -> PyResult<Option<Obj>> {
        if !self.has_attributes() {
            return Ok(None);
        }
        let Some(dict) = self.dict() else { return Ok(None) };
        let name = call::interned(name)?;
        // SAFETY: A1; a dict, which gives a borrowed reference, or NULL with or without an exception.
        let value = unsafe { c::PyDict_GetItemWithError(dict.as_ptr(), name.as_ptr()) };
        if value.is_null() {
            return if error::occurred() { Err(Raised) } else { Ok(None) };
        }
        Ok(Some(Obj::from_borrowed(value)))
    }

    pub(super) fn set_own_attribute(&self, name: &str, value: Option<Raw>) -> PyResult<()> {
        let dict = self.own_attributes()?;
        let name = call::interned(name)?;
        // SAFETY: A1; a dict.
        status(unsafe {
            match value {
                Some(value) => c::PyDict_SetItem(dict.as_ptr(), name.as_ptr(), value),
                None => c::PyDict_DelItem(dict.as_ptr(), name.as_ptr()),
            }
        })
    }

    /// `__dict__`, made if there was none yet.
    pub(super) fn own_attributes(&self) -> PyResult<Obj> {
        // SAFETY: A1; the type has a dict offset.
        owned(unsafe { c::PyObject_GenericGetDict(self.raw(), ptr::null_mut()) })
    }

    /// A future of the running loop, in line with no other.
    #[inline]
    pub(super) fn create_future(&self) -> PyResult<Obj> {
        self.event_loop.create_future(self.raw())
    }

    /// Puts a future for `this` at the end of the line.
    #[inline]
    pub(super) fn line_up(&self, this: &Operation) -> PyResult<Obj> {
        let future = self.create_future()?;
        self.line_up_with(this, &future)?;
        Ok(future)
    }

    #[inline]
    pub(super) fn line_up_with(&self, this: &Operation, future: &Obj) -> PyResult<()> {
        self.waiters.push(future.as_ptr())?;
        this.third.set(future.clone());
        Ok(())
    }

    /// Waits at the end of the line.
    #[inline]
    pub(super) fn wait(&self, this: &Operation) -> PyResult<Step> {
        let future = self.line_up(this)?;
        this.wait_for(future)
    }

    /// Takes the future of `this` out of the line, and gives it.
    #[inline]
    pub(super) fn leave(&self, this: &Operation) -> PyResult<Option<Obj>> {
        let future = this.third.take();
        if let Some(future) = &future {
            self.waiters.remove(future.as_ptr())?;
        }
        Ok(future)
    }

    /// The same after a wait that succeeded: nobody looks at the future any more.
    #[inline]
    pub(super) fn leave_for_good(&self, this: &Operation) -> PyResult<()> {
        if let Some(future) = self.leave(this)? {
            Future::discard(future);
        }
        Ok(())
    }
}

/// A class of this folder.
///
/// # Safety
/// The type begins with a `Base`, and `CLASS` is its class.
pub(super) unsafe trait Primitive: Native + 'static {
    const CLASS: &'static Class;
    /// The methods that the stdlib's functions reach through `self`, besides `_get_loop`.
    const INNER: &'static [&'static str];
    /// What `vars()` of asyncio's object shows, besides `_loop`.
    const ATTRIBUTES: &'static [&'static str];
    /// Further ones, which `dir()` shows.
    const BORROWED: &'static [&'static str] = &[];
    /// The one parameter of `__init__`.
    const PARAMETER: Option<&'static str>;
    /// Must it be given?
    const REQUIRED: bool = false;

    /// `__init__`.
    fn init(&self, given: Given) -> PyResult<Fit>;

    #[inline]
    fn base(&self) -> &Base {
        // SAFETY: as the trait promises.
        unsafe { &*self.raw().cast::<Base>() }
    }

    #[inline]
    fn is_plain(&self) -> bool {
        Self::CLASS.is_plain(self.raw())
    }

    /// `raw`, if it is a plain object of this class.
    #[inline]
    fn plain<'a>(raw: Raw) -> Option<&'a Self> {
        Self::of(raw).filter(|this| this.is_plain())
    }
}

/// Arguments of an `__init__` that has one parameter at most, where they are as usual.
pub(super) enum Given {
    Nothing,
    One(Raw),
}

/// Did `init` take them? Otherwise the stdlib's `__init__` does, into attributes that a subclass has replaced, or says
/// what is wrong with them.
#[derive(PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
}

type Create = fn(&'static Behaviour, Bound<'_>) -> PyResult<Option<Obj>>;

/// A coroutine method without parameters.
pub(super) const fn behaviour(
    class: &'static str,
    name: &'static str,
    create: Create,
    start: fn(&Operation) -> PyResult<Step>,
    resume: fn(&Operation, Obj) -> PyResult<Step>,
    raised: fn(&Operation, Obj) -> PyResult<Step>,
) -> Behaviour {
    Behaviour {
        module: "asyncio.locks",
        class,
        name,
        parameters: &[c"self"],
        required: 1,
        create,
        start,
        resume,
        raised,
        original: Original::new(),
    }
}

/// `__aexit__`, which releases and never waits.
pub(super) const fn exit(class: &'static str, create: Create, release: fn(&Operation) -> PyResult<Step>) -> Behaviour {
    Behaviour {
        parameters: &[c"self", c"exc_type", c"exc", c"tb"],
        required: 4,
        ..behaviour(
            class,
            "__aexit__",
            create,
            release,
            |_, value| Ok(Step::Done(value)),
            raise_it,
        )
    }
}

/// For `Behaviour::create`: natively for plain objects.
#[inline]
pub(super) fn create_for<T: Primitive>(behaviour: &'static Behaviour, bound: Bound<'_>) -> PyResult<Option<Obj>> {
    match bound.get(0).and_then(T::plain) {
        Some(_) => Operation::create(behaviour, bound),
        None => Ok(None),
    }
}

/// The receiver of an operation.
#[inline]
pub(super) fn receiver<T: Primitive>(this: &Operation) -> &T {
    debug_assert!(T::check(this.first.ptr()));
    // SAFETY: I1.
    unsafe { &*this.first.ptr().cast::<T>() }
}

/// `<asyncio.locks.Lock object at 0x… [unlocked]>`: what `object.__repr__` says, the state, and how many wait.
pub(super) fn repr_with(base: &Base, state: &str) -> PyResult<Obj> {
    // SAFETY: a static type of the interpreter, which has a repr.
    let plain = match unsafe { c::PyBaseObject_Type.tp_repr } {
        // SAFETY: A1; a slot that takes any object.
        Some(repr) => owned(unsafe { repr(base.raw()) })?,
        None => return Err(system_error("object has no repr")),
    };
    let plain = call::to_string(plain.as_ptr())?;
    let inner = plain.get(1..plain.len().saturating_sub(1)).unwrap_or_default();
    let waiting = match base.waiters.len()? {
        0 => String::new(),
        waiting => format!(", waiters:{waiting}"),
    };
    call::string(&format!("<{inner} [{state}{waiting}]>"))
}

/// An attribute that is true or false, which a subclass may have replaced.
pub(super) fn flag(this: &impl Native, name: &str) -> PyResult<bool> {
    let value = call::getattr(this.raw(), call::interned(name)?.as_ptr())?;
    call::is_true(value.as_ptr())
}

/// The value that a property is set to.
pub(super) fn value_for(this: &impl Native, value: Option<Raw>, name: &str) -> PyResult<Raw> {
    value.ok_or_else(|| cannot_delete(this.raw(), name))
}

/// An int that can be counted up and down without looking.
pub(super) fn small_int(value: Raw) -> Option<i64> {
    if object::type_of(value) != &raw mut c::PyLong_Type {
        return None;
    }
    let mut overflow = 0;
    // SAFETY: A1; an int.
    let int = unsafe { c::PyLong_AsLongLongAndOverflow(value, &raw mut overflow) };
    (overflow == 0 && int.unsigned_abs() < 1 << 62).then_some(int)
}
