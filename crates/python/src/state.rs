//! What the module keeps for the life of the process: its types, interned names, and the Python objects
//! it looks up. One table each, filled once at import.
//!
//! One interpreter only: a second one gets an `ImportError` (`lib.rs`). `state()` is the single place to
//! change for state per interpreter, as `ffi::freelist` is for free-threading.

use crate::ffi::error::PyResult;
use crate::ffi::{Args, Obj, Raw, Slot, c, call};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

static STATE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());

/// The module's state. Only reachable after import, so it is always there.
#[inline]
pub(crate) fn state() -> &'static State {
    // SAFETY: set by `install` before any type of ours exists, never freed.
    unsafe { &*STATE.load(Ordering::Relaxed) }
}

pub(crate) fn install(state: State) {
    STATE.store(Box::leak(Box::new(state)), Ordering::Release);
}

pub(crate) fn is_installed() -> bool {
    !STATE.load(Ordering::Acquire).is_null()
}

pub(crate) struct State {
    pub(crate) names: Names,
    pub(crate) imports: Imports,
    pub(crate) types: Types,
    /// The module `asynchrotron._helpers`.
    pub(crate) helpers: Slot,
    /// `sys.hexversion`.
    pub(crate) hex_version: i64,
    /// Which keywords `loop.create_task` takes changed within 3.13.
    pub(crate) create_task_takes_eager_start: bool,
}

/// Does this version's `create_task` hand every keyword on to Task?
pub(crate) fn create_task_takes_eager_start() -> PyResult<bool> {
    let create_task = call::import_from("asyncio.base_events", "BaseEventLoop")
        .and_then(|class| call::getattr(class.as_ptr(), call::interned("create_task")?.as_ptr()))?;
    let code = call::getattr(create_task.as_ptr(), call::interned("__code__")?.as_ptr())?;
    let names = call::getattr(code.as_ptr(), call::interned("co_varnames")?.as_ptr())?;
    let kwargs = call::interned("kwargs")?;
    // SAFETY: A1.
    match unsafe { c::PySequence_Contains(names.as_ptr(), kwargs.as_ptr()) } {
        code if code < 0 => Err(crate::ffi::Raised),
        code => Ok(code != 0),
    }
}

macro_rules! types {
    ($($name:ident),* $(,)?) => {
        /// Our types, as pointers compared and called on every path.
        pub(crate) struct Types { $(pub(crate) $name: AtomicPtr<c::PyTypeObject>),* }
        impl Types {
            pub(crate) const fn new() -> Types {
                Types { $($name: AtomicPtr::new(ptr::null_mut())),* }
            }
            $(
                #[inline]
                pub(crate) fn $name(&self) -> *mut c::PyTypeObject { self.$name.load(Ordering::Relaxed) }
            )*
        }
    };
}
types!(
    future,
    future_iter,
    task,
    handle,
    timer_handle,
    event_loop,
    ready_view,
    selector_view,
    operation,
    operation_function,
    stream_transport,
    datagram_transport,
    read_pipe,
    sendfile,
    write_pipe,
    collector,
    gathering_future,
    task_group,
    as_completed,
    job
);

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// Interned strings.
        pub(crate) struct Names { $(pub(crate) $name: Obj),* }
        impl Names {
            pub(crate) fn load() -> PyResult<Names> {
                Ok(Names { $($name: call::interned($text)?),* })
            }
        }
        $(
            #[inline]
            #[allow(dead_code)]
            pub(crate) fn $name() -> Raw { state().names.$name.as_ptr() }
        )*
    };
}

/// Names of attributes, one function each: `names::call_soon()`.
pub(crate) mod names {
    use super::{Obj, PyResult, Raw, call, state};
    names! {
        add_done_callback = "add_done_callback",
        append = "append",
        asyncio_future_blocking = "_asyncio_future_blocking",
        buffer_updated = "buffer_updated",
        call_at = "call_at",
        call_exception_handler = "call_exception_handler",
        call_soon = "call_soon",
        cancel = "cancel",
        cancelling = "cancelling",
        close = "close",
        connection_lost = "connection_lost",
        connection_made = "connection_made",
        context = "context",
        cr_await = "cr_await",
        current_handle = "_current_handle",
        data_received = "data_received",
        default_executor = "_default_executor",
        done = "done",
        eof_received = "eof_received",
        executor_shutdown_called = "_executor_shutdown_called",
        fileno = "fileno",
        future_class = "Future",
        get_buffer = "get_buffer",
        get_debug = "get_debug",
        get_loop = "get_loop",
        is_running = "is_running",
        loop_ = "_loop",
        msg = "msg",
        on_timeout = "_on_timeout",
        name = "name",
        pause_writing = "pause_writing",
        popleft = "popleft",
        remove = "remove",
        result = "result",
        resume_writing = "resume_writing",
        run_in_executor = "run_in_executor",
        send = "send",
        submit = "submit",
        task_class = "Task",
        throw = "throw",
        time = "time",
        timer_handle_cancelled = "_timer_handle_cancelled",
        uncancel = "uncancel",
    }
}
pub(crate) use names::Names;

macro_rules! imports {
    ($($name:ident = $module:literal . $attribute:literal),* $(,)?) => {
        /// Python objects we call or compare with.
        pub(crate) struct Imports { $($name: Obj),* }
        impl Imports {
            pub(crate) fn load() -> PyResult<Imports> {
                Ok(Imports { $($name: find($module, $attribute)?),* })
            }
        }
        $(
            #[inline]
            #[allow(dead_code)]
            pub(crate) fn $name() -> Raw { state().imports.$name.as_ptr() }
        )*
    };
}

/// What one part of the crate looks up beside that, for itself: a function for each name and each import, and
/// `load_table`, which must run before the first of them is called. Nothing of it is ever freed.
macro_rules! table {
    (names: $($name:ident = $text:literal),* ; imports: $($import:ident = $module:literal . $attribute:literal),* $(;)?) => {
        struct Table { $($name: $crate::ffi::Obj,)* $($import: $crate::ffi::Obj),* }

        static TABLE: ::std::sync::atomic::AtomicPtr<Table> = ::std::sync::atomic::AtomicPtr::new(::std::ptr::null_mut());

        fn load_table() -> $crate::ffi::error::PyResult<()> {
            use $crate::ffi::call;
            let made = Table {
                $($name: call::interned($text)?,)*
                $($import: call::import_from($module, $attribute)?),*
            };
            TABLE.store(Box::into_raw(Box::new(made)), ::std::sync::atomic::Ordering::Release);
            Ok(())
        }

        fn table() -> &'static Table {
            // SAFETY: `load_table` ran before any type of this part existed.
            unsafe { &*TABLE.load(::std::sync::atomic::Ordering::Relaxed) }
        }

        $(fn $name() -> $crate::ffi::Raw { table().$name.as_ptr() })*
        $(fn $import() -> $crate::ffi::Raw { table().$import.as_ptr() })*
    };
}
pub(crate) use table;

/// Names a version may lack are None: their users are compiled for versions that have them.
fn find(module: &str, attribute: &str) -> PyResult<Obj> {
    let name = call::interned(attribute)?;
    Ok(call::getattr_optional(call::import(module)?.as_ptr(), name.as_ptr())?.unwrap_or_else(Obj::none))
}

/// Python objects looked up once, before anything can rebind them: `imports::cancelled_error()`.
pub(crate) mod imports {
    use super::{Obj, PyResult, Raw, find, state};
    imports! {
        cancelled_error = "asyncio.exceptions"."CancelledError",
        invalid_state_error = "asyncio.exceptions"."InvalidStateError",
        stdlib_future = "asyncio.futures"."Future",
        stdlib_task = "asyncio.tasks"."Task",
        stdlib_handle = "asyncio.events"."Handle",
        stdlib_thread_safe_handle = "asyncio.events"."_ThreadSafeHandle",
        stdlib_timer_handle = "asyncio.events"."TimerHandle",
        base_event_loop = "asyncio.base_events"."BaseEventLoop",
        deque = "collections"."deque",
        set_result_unless_cancelled = "asyncio.futures"."_set_result_unless_cancelled",
        transport = "asyncio.transports"."Transport",
        buffered_protocol = "asyncio.protocols"."BufferedProtocol",
        iscoroutine = "asyncio.coroutines"."iscoroutine",
        stdlib_create_task = "asyncio.tasks"."create_task",
        stdlib_ensure_future = "asyncio.tasks"."ensure_future",
        get_running_loop = "asyncio.events"."get_running_loop",
        get_running_loop_or_none = "asyncio.events"."_get_running_loop",
        events_module = "asyncio"."events",
        release_waiter = "asyncio.tasks"."_release_waiter",
        stdlib_as_completed = "asyncio.tasks"."as_completed",
        stdlib_shield = "asyncio.tasks"."shield",
        stdlib_get_loop = "asyncio.futures"."_get_loop",
        stdlib_isfuture = "asyncio.futures"."isfuture",
        stdlib_wrap_future = "asyncio.futures"."wrap_future",
        stdlib_run_coroutine_threadsafe = "asyncio.tasks"."run_coroutine_threadsafe",
        convert_future_exc = "asyncio.futures"."_convert_future_exc",
        concurrent_future = "concurrent.futures"."Future",
        future_add_to_awaited_by = "asyncio.futures"."future_add_to_awaited_by",
        future_discard_from_awaited_by = "asyncio.futures"."future_discard_from_awaited_by",
        futures_module = "asyncio"."futures",
        tasks_module = "asyncio"."tasks",
        current_tasks = "asyncio.tasks"."_current_tasks",
        enter_task = "asyncio.tasks"."_enter_task",
        leave_task = "asyncio.tasks"."_leave_task",
        register_task = "asyncio.tasks"."_register_task",
        stdlib_current_task = "asyncio.tasks"."current_task",
        stdlib_all_tasks = "asyncio.tasks"."all_tasks",
        swap_current_task = "asyncio.tasks"."_swap_current_task",
        stdlib_timeout = "asyncio.timeouts"."timeout",
        stdlib_timeout_at = "asyncio.timeouts"."timeout_at",
        stdlib_timeout_class = "asyncio.timeouts"."Timeout",
        timeout_state = "asyncio.timeouts"."_State",
    }
}
pub(crate) use imports::Imports;

/// A function of `asynchrotron._helpers`: what is cold stays Python. The package hands the module over
/// (`use_helpers`), so that reports made while the interpreter shuts down need no import.
pub(crate) fn helper(name: &str) -> PyResult<Obj> {
    let module = match state().helpers.get() {
        Some(module) => module,
        None => call::import("asynchrotron._helpers")?,
    };
    call::getattr(module.as_ptr(), call::interned(name)?.as_ptr())
}

/// `_use_helpers(module)`.
pub(crate) fn use_helpers(args: Args<'_>) -> PyResult<()> {
    let [module] = args.bind("_use_helpers", &[c"module"], 1, 1)?;
    state().helpers.set_option(module.map(Obj::from_borrowed));
    crate::fan_in::name_coroutines()?;
    crate::offload::look_up()
}
