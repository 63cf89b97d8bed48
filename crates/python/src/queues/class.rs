//! The three classes of queues and their methods.

use super::queue::{Kind, QUEUE, Queue};
use super::{stdlib_function, subclass, table, views, waiting};
use crate::ffi::collected::{self, collected};
use crate::ffi::error::PyResult;
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, unary_slot};
use crate::ffi::types::{Method, TypeSpec, add_to_module};
use crate::ffi::{Args, Native, Obj, Raw, c, call, types};
use crate::metaclass;
use crate::operation::function;
use crate::waiters::make_attributes;
use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::sync::atomic::Ordering;

// ---- methods -------------------------------------------------------------------------------------

/// The stdlib's function, for what is handed over and for arguments that do not fit.
#[cold]
fn forward(this: &Queue, kind: Kind, name: &str, args: Args<'_>) -> PyResult<Obj> {
    args.forward_call(stdlib_function(kind as usize, name)?.as_ptr(), this.raw())
}

#[cold]
pub(super) fn forward_noargs(this: &Queue, kind: Kind, name: &str) -> PyResult<Obj> {
    call::call1(stdlib_function(kind as usize, name)?.as_ptr(), this.raw())
}

fn put_nowait(this: &Queue, args: Args<'_>) -> PyResult<Obj> {
    match args.only(c"item") {
        Some(item) if !this.handed_over.get() => this.put_nowait(item).map(|()| Obj::none()),
        _ => forward(this, Kind::Fifo, "put_nowait", args),
    }
}

fn get_nowait(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "get_nowait");
    }
    this.get_nowait()
}

fn qsize(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "qsize");
    }
    call::int(this.len()? as i64)
}

fn empty(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "empty");
    }
    this.is_empty().map(Obj::bool)
}

fn full(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "full");
    }
    this.is_full().map(Obj::bool)
}

fn task_done(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "task_done");
    }
    this.task_done().map(|()| Obj::none())
}

#[cfg(Py_3_13)]
fn shutdown(this: &Queue, args: Args<'_>) -> PyResult<Obj> {
    let immediate = args.only(c"immediate");
    let fits = immediate.is_some() || args.positional().is_empty() && !args.has_keywords();
    if this.handed_over.get() || !fits {
        return forward(this, Kind::Fifo, "shutdown", args);
    }
    this.shutdown(immediate).map(|()| Obj::none())
}

fn get_loop(this: &Queue) -> PyResult<Obj> {
    if this.handed_over.get() {
        return forward_noargs(this, Kind::Fifo, "_get_loop");
    }
    this.event_loop.get(this.raw())
}

/// Of whatever deque it is given: the stdlib's own.
fn wakeup_next(this: &Queue, args: Args<'_>) -> PyResult<Obj> {
    forward(this, Kind::Fifo, "_wakeup_next", args)
}

macro_rules! item_methods {
    ($module:ident, $kind:expr) => {
        mod $module {
            use super::{Args, Kind, Obj, PyResult, Queue, forward, forward_noargs};

            const KIND: Kind = $kind;

            pub(super) fn init(this: &Queue, args: Args<'_>) -> PyResult<Obj> {
                match args.only(c"maxsize") {
                    Some(_) if !this.handed_over.get() => this.reset_items(KIND).map(|()| Obj::none()),
                    _ => forward(this, KIND, "_init", args),
                }
            }

            pub(super) fn put(this: &Queue, args: Args<'_>) -> PyResult<Obj> {
                match args.only(c"item") {
                    Some(item) if !this.handed_over.get() => this.push_as(KIND, item).map(|()| Obj::none()),
                    _ => forward(this, KIND, "_put", args),
                }
            }

            pub(super) fn get(this: &Queue) -> PyResult<Obj> {
                if this.handed_over.get() {
                    return forward_noargs(this, KIND, "_get");
                }
                this.pop_as(KIND)
            }

            pub(super) fn methods() -> Vec<super::Method> {
                vec![
                    super::fastcall!(
                        c"_init",
                        Queue,
                        init,
                        c"_init($self, /, maxsize)\n--\n\nMake what holds the items. Subclasses may override it."
                    ),
                    super::fastcall!(
                        c"_put",
                        Queue,
                        put,
                        c"_put($self, /, item)\n--\n\nStore an item. Subclasses may override it."
                    ),
                    super::noargs!(
                        c"_get",
                        Queue,
                        get,
                        c"_get($self, /)\n--\n\nTake out the next item. Subclasses may override it."
                    ),
                ]
            }
        }
    };
}
item_methods!(fifo, Kind::Fifo);
item_methods!(priority, Kind::Priority);
item_methods!(lifo, Kind::Lifo);

unsafe extern "C" fn init(slf: Raw, positional: Raw, keywords: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_init's receiver.
        let this = unsafe { &*slf.cast::<Queue>() };
        make_attributes(&this.dict)?;
        // SAFETY: A1; a dict or NULL.
        let named = !keywords.is_null() && unsafe { c::PyDict_Size(keywords) } > 0;
        if !this.handed_over.get() {
            match (call::tuple_len(positional), named) {
                (0, false) => return this.init(None),
                (1, false) => return this.init(Some(call::tuple_item(positional, 0))),
                _ => {}
            }
        }
        crate::ffi::args::with_tuple_and_dict(positional, keywords, |args| match args.only(c"maxsize") {
            Some(maxsize) if !this.handed_over.get() => this.init(Some(maxsize)),
            _ => forward(this, Kind::Fifo, "__init__", args).map(drop),
        })
    })
}

// ---- the types -----------------------------------------------------------------------------------

unsafe extern "C" fn new(class: *mut c::PyTypeObject, _positional: Raw, _keywords: Raw) -> Raw {
    trampoline::enter(|| {
        if class == Queue::type_object() && subclass::is_unchanged(class) {
            return types::allocate(class);
        }
        subclass::make(class)
    })
}

unsafe extern "C" fn class_getitem(class: Raw, item: Raw) -> Raw {
    // SAFETY: A1; both live.
    unsafe { c::Py_GenericAlias(class, item) }
}

collected!(Queue, this =>
    weak this.weaklist;
    this.event_loop,
    this.items,
    this.getters,
    this.putters,
    this.finished,
    this.maxsize,
    this.dict,
);

fn queue_methods() -> Vec<Method> {
    let mut all = vec![
        fastcall!(
            c"put_nowait",
            Queue,
            put_nowait,
            c"put_nowait($self, /, item)\n--\n\nPut an item without waiting; QueueFull if there is no room."
        ),
        noargs!(
            c"get_nowait",
            Queue,
            get_nowait,
            c"get_nowait($self, /)\n--\n\nTake out the next item without waiting; QueueEmpty if there is none."
        ),
        noargs!(c"qsize", Queue, qsize, c"qsize($self, /)\n--\n\nHow many items there are."),
        noargs!(c"empty", Queue, empty, c"empty($self, /)\n--\n\nTrue if there are no items."),
        noargs!(
            c"full",
            Queue,
            full,
            c"full($self, /)\n--\n\nTrue if there are maxsize items; never without a maxsize."
        ),
        noargs!(
            c"task_done",
            Queue,
            task_done,
            c"task_done($self, /)\n--\n\nSay that an item taken out before is worked off; join() waits for all of them."
        ),
        #[cfg(Py_3_13)]
        fastcall!(
            c"shutdown",
            Queue,
            shutdown,
            c"shutdown($self, /, immediate=False)\n--\n\nRefuse new items and wake all who wait; drop the items if immediate."
        ),
        noargs!(c"_format", Queue, views::format, c"_format($self, /)\n--\n\nThe state, as repr() shows it."),
        noargs!(c"_get_loop", Queue, get_loop, c"_get_loop($self, /)\n--\n\nThe loop it is bound to."),
        fastcall!(
            c"_wakeup_next",
            Queue,
            wakeup_next,
            c"_wakeup_next($self, /, waiters)\n--\n\nWake the first of these futures that is not done."
        ),
        noargs!(
            c"__getstate__",
            Queue,
            views::state,
            c"__getstate__($self, /)\n--\n\nFor copies and pickle."
        ),
        noargs!(
            c"__dir__",
            Queue,
            views::names,
            c"__dir__($self, /)\n--\n\nNames of all attributes."
        ),
        onearg!(
            c"__setstate__",
            Queue,
            views::set_state,
            c"__setstate__($self, state, /)\n--\n\nFor copies and pickle."
        ),
        Method::onearg(c"__class_getitem__", class_getitem, c"See PEP 585").of_class(),
    ];
    all.extend(fifo::methods());
    all
}

const FLAGS: u64 = c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE;

fn build_queue(module: Raw, metaclass: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asyncio.queues.Queue",
        c"Queue(maxsize=0)\n--\n\nItems from producers to consumers, first in first out (asyncio.Queue).\n\nput() waits while there are maxsize items; 0 means no limit.",
        size_of::<Queue>(),
        FLAGS,
    );
    spec.metaclass = Some(metaclass);
    spec.dict_offset = Some(offset_of!(Queue, dict));
    spec.weaklist_offset = Some(offset_of!(Queue, weaklist));
    spec.methods = queue_methods();
    spec.properties = views::properties();
    spec.slots = collected::slots_of_chained::<Queue>().to_vec();
    spec.slots.extend([
        (c::Py_tp_new, new as *mut c_void),
        (c::Py_tp_init, init as *mut c_void),
        (c::Py_tp_setattro, subclass::setattro as *mut c_void),
        unary_slot!(c::Py_tp_repr, Queue, views::repr),
        unary_slot!(c::Py_tp_str, Queue, views::str),
    ]);
    let made = spec.build(module)?;
    QUEUE.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    function::add_methods(&made, &waiting::ALL)?;
    Ok(made)
}

fn build_kind(
    module: Raw,
    metaclass: Raw,
    base: &Obj,
    name: &'static CStr,
    doc: &'static CStr,
    methods: Vec<Method>,
) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(name, doc, size_of::<Queue>(), FLAGS);
    spec.metaclass = Some(metaclass);
    spec.bases = vec![base.as_ptr()];
    spec.methods = methods;
    spec.slots = collected::slots_of_chained::<Queue>().to_vec();
    spec.build(module)
}

pub(crate) fn build(module: Raw, metaclass: Raw) -> PyResult<()> {
    super::load()?;
    let queue = build_queue(module, metaclass)?;
    let priority = build_kind(
        module,
        metaclass,
        &queue,
        c"asyncio.queues.PriorityQueue",
        c"PriorityQueue(maxsize=0)\n--\n\nA Queue that gives out the smallest item first (asyncio.PriorityQueue).",
        priority::methods(),
    )?;
    let lifo = build_kind(
        module,
        metaclass,
        &queue,
        c"asyncio.queues.LifoQueue",
        c"LifoQueue(maxsize=0)\n--\n\nA Queue that gives out the newest item first (asyncio.LifoQueue).",
        lifo::methods(),
    )?;
    let classes = [queue, priority, lifo];
    let names = [c"Queue", c"PriorityQueue", c"LifoQueue"];
    for ((class, name), twin) in classes.iter().zip(names).zip(&table().classes) {
        // Error texts name the class without its module, as that of a Python class.
        let short = call::string(&name.to_string_lossy())?;
        call::setattr(class.as_ptr(), call::interned("__name__")?.as_ptr(), short.as_ptr())?;
        metaclass::adopt(class, twin.clone());
        add_to_module(module, name, class)?;
    }
    subclass::note_own(&classes)
}
