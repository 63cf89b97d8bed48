//! The queues of `asyncio.queues`, native: docs/internals/waiters.md.
//!
//! `queue.rs` has what a queue is and does, `waiting.rs` the coroutines `put`, `get` and `join`, `finished.rs` what
//! `join` waits for; items and waiters are in deques that are native until somebody looks at them (`waiters/deque.rs`).
//! `class.rs` makes the classes, `subclass.rs` looks what a subclass overrides, `views.rs` shows what programs look at.
//!
//! The three exceptions stay the stdlib's classes.

mod class;
mod finished;
mod queue;
mod subclass;
mod views;
mod waiting;

pub(crate) use class::build;

use crate::ffi::error::{PyResult, Raised};
use crate::ffi::{Obj, Raw, c, call};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What queues look up once, at import: before `install()` can rebind it.
struct Table {
    /// The stdlib's Queue, PriorityQueue and LifoQueue, in the order of `Kind`.
    classes: [Obj; 3],
    event: Obj,
    heappush: Obj,
    heappop: Obj,
    queue_empty: Obj,
    queue_full: Obj,
    /// None before 3.13.
    queue_shut_down: Obj,
    names: Names,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

#[inline]
fn table() -> &'static Table {
    // SAFETY: set by `load` before any queue exists, never freed.
    unsafe { &*TABLE.load(Ordering::Relaxed) }
}

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// Interned strings.
        struct Names { $($name: Obj),* }
        impl Names {
            fn load() -> PyResult<Names> {
                Ok(Names { $($name: call::interned($text)?),* })
            }
        }
    };
}
names! {
    clear = "clear",
    get_item = "_get",
    init = "_init",
    loop_ = "_loop",
    pop = "pop",
    put_item = "_put",
    set = "set",
    wait = "wait",
    waiters = "_waiters",
}

/// Raises an instance of `kind` without arguments.
#[inline]
fn raise(kind: &Obj) -> Raised {
    // SAFETY: A1; an exception class.
    unsafe { c::PyErr_SetNone(kind.as_ptr()) };
    Raised
}

/// The stdlib's function `name` of one of its classes.
#[cold]
fn stdlib_function(class: usize, name: &str) -> PyResult<Obj> {
    let class: Raw = table().classes[class].as_ptr();
    call::getattr(class, call::interned(name)?.as_ptr())
}

fn load() -> PyResult<()> {
    let find = |name| call::import_from("asyncio.queues", name);
    let made = Table {
        classes: [find("Queue")?, find("PriorityQueue")?, find("LifoQueue")?],
        event: call::import_from("asyncio.locks", "Event")?,
        heappush: call::import_from("heapq", "heappush")?,
        heappop: call::import_from("heapq", "heappop")?,
        queue_empty: find("QueueEmpty")?,
        queue_full: find("QueueFull")?,
        queue_shut_down: if cfg!(Py_3_13) {
            find("QueueShutDown")?
        } else {
            Obj::none()
        },
        names: Names::load()?,
    };
    TABLE.store(Box::into_raw(Box::new(made)), Ordering::Release);
    Ok(())
}
