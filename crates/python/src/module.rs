//! The import of the module: types in order of need, then functions.

use crate::ffi::error::{PyResult, import_error, value_error};
use crate::ffi::trampoline::{self, function};
use crate::ffi::types::{add_to_module, leak_methods};
use crate::ffi::{Args, Native, Obj, Raw, Slot, c, call, stop_iteration};
use crate::future::Future;
use crate::state::{self, Imports, Names, State, Types, imports, state};
use crate::{
    child, event_loop, fan_in, future, handle, locks, metaclass, offload, operation, queues, streams, task, timeouts,
    transport,
};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::Ordering;

/// Panics inside the border, so that tests can see what a defect of ours becomes.
fn panic_for_test(args: Args<'_>) -> PyResult<()> {
    panic!("asked for by a test with {} arguments", args.positional().len());
}

/// Faults before the system calls of all loops: see the reactor's `faults`.
#[cfg(feature = "faults")]
fn inject_faults(args: Args<'_>) -> PyResult<Obj> {
    use reactor::faults;
    let bound = args.bind(
        "_inject_faults",
        &[c"seed", c"short", c"interrupted", c"spurious", c"broken", c"resources"],
        1,
        1,
    )?;
    let [seed, per_thousand @ ..] = bound.map(|number| number.map_or(Ok(0), call::as_i64));
    let mut numbers = [0; faults::KINDS.len()];
    for (place, number) in numbers.iter_mut().zip(per_thousand) {
        *place = u32::try_from(number?).map_err(|_| value_error("faults come in 0 to 1000 of a thousand calls"))?;
    }
    let injected = faults::inject(seed? as u64, numbers).map(|count| call::int(count as i64));
    let list = call::list()?;
    for count in injected {
        call::list_append(&list, count?.as_ptr())?;
    }
    Ok(list)
}

/// Lets time pass for all loops of this process without anybody waiting for it.
fn advance_clock(args: Args<'_>) -> PyResult<()> {
    let [seconds] = args.bind("_advance_clock", &[c"seconds"], 1, 1)?;
    let seconds = seconds.map_or(Ok(0.0), call::as_f64)?;
    if !(0.0..=SECONDS_AHEAD_MAX).contains(&seconds) {
        return Err(value_error("time cannot go back, or so far ahead"));
    }
    reactor::advance_clock((seconds * 1e9) as u64);
    Ok(())
}

/// Ten years at once: sums of such steps stay far from the largest deadline.
const SECONDS_AHEAD_MAX: f64 = 3.2e8;

fn add_to_awaited_by(args: Args<'_>) -> PyResult<()> {
    awaited_by(
        args,
        "future_add_to_awaited_by",
        future::add_awaited_by,
        imports::future_add_to_awaited_by(),
    )
}

fn discard_from_awaited_by(args: Args<'_>) -> PyResult<()> {
    awaited_by(
        args,
        "future_discard_from_awaited_by",
        future::discard_awaited_by,
        imports::future_discard_from_awaited_by(),
    )
}

/// For a native future ours, for any other asyncio's.
fn awaited_by(args: Args<'_>, name: &str, change: fn(&Future, Raw) -> PyResult<()>, theirs: Raw) -> PyResult<()> {
    let [fut, waiter] = args.bind(name, &[c"fut", c"waiter"], 2, 2)?;
    let (Some(fut), Some(waiter)) = (fut, waiter) else {
        return Ok(());
    };
    match Future::of(fut) {
        Some(native) => change(native, waiter),
        None => call::call(theirs, &[fut, waiter], None).map(drop),
    }
}

unsafe extern "C" {
    fn PyInterpreterState_Main() -> *mut c::PyInterpreterState;
}

fn exec(module: Raw) -> PyResult<()> {
    // SAFETY: A1.
    let in_main = unsafe { c::PyInterpreterState_Get() == PyInterpreterState_Main() };
    if state::is_installed() || !in_main {
        return Err(import_error(
            "asynchrotron supports one interpreter per process: it cannot be imported in a sub-interpreter",
        ));
    }
    let state_made = State {
        names: Names::load()?,
        imports: Imports::load()?,
        types: Types::new(),
        helpers: Slot::empty(),
        hex_version: call::as_i64(call::import_from("sys", "hexversion")?.as_ptr())?,
        create_task_takes_eager_start: state::create_task_takes_eager_start()?,
    };
    state::install(state_made);
    event_loop::watch_forks();
    crate::ffi::types::measure_gc_head()?;
    stop_iteration::build(module)?;

    let meta = metaclass::build(module)?;
    let types = &state().types;
    let keep = |slot: &std::sync::atomic::AtomicPtr<c::PyTypeObject>, made: &Obj| {
        slot.store(made.clone().into_ptr().cast(), Ordering::Relaxed);
    };
    let (future_type, future_iter) = future::build_types(module, meta.as_ptr())?;
    keep(&types.future, &future_type);
    keep(&types.future_iter, &future_iter);
    add_to_module(module, c"Future", &future_type)?;
    let task_type = task::build_type(module, meta.as_ptr(), &future_type)?;
    keep(&types.task, &task_type);
    add_to_module(module, c"Task", &task_type)?;
    let (handle_type, timer_handle_type) = handle::build_types(module, meta.as_ptr())?;
    keep(&types.handle, &handle_type);
    keep(&types.timer_handle, &timer_handle_type);
    add_to_module(module, c"Handle", &handle_type)?;
    add_to_module(module, c"TimerHandle", &timer_handle_type)?;
    let event_loop_type = event_loop::build_types(module)?;
    keep(&types.event_loop, &event_loop_type);
    operation::build(module, &event_loop_type)?;
    add_to_module(module, c"EventLoop", &event_loop_type)?;
    locks::build(module, meta.as_ptr())?;
    queues::build(module, meta.as_ptr())?;
    fan_in::build(module, meta.as_ptr(), future_type.as_ptr())?;
    timeouts::build(module, meta.as_ptr())?;
    offload::build(module)?;
    let transport_type = transport::stream::build_type(module)?;
    keep(&types.stream_transport, &transport_type);
    add_to_module(module, c"StreamTransport", &transport_type)?;
    let datagram_type = transport::datagram::build_type(module)?;
    keep(&types.datagram_transport, &datagram_type);
    add_to_module(module, c"DatagramTransport", &datagram_type)?;
    let read_pipe_type = transport::pipe::build_read_type(module)?;
    keep(&types.read_pipe, &read_pipe_type);
    add_to_module(module, c"ReadPipeTransport", &read_pipe_type)?;
    let write_pipe_type = transport::pipe::build_write_type(module)?;
    keep(&types.write_pipe, &write_pipe_type);
    add_to_module(module, c"WritePipeTransport", &write_pipe_type)?;
    transport::sendfile::build_type(module)?;
    streams::build(module, meta.as_ptr())?;
    child::build(module)?;
    transport::tls::build(module)?;
    if cfg!(Py_3_12) {
        // asyncio's own factory function, over our Task.
        let create = call::import_from("asyncio.tasks", "create_eager_task_factory")?;
        add_to_module(
            module,
            c"eager_task_factory",
            &call::call1(create.as_ptr(), task_type.as_ptr())?,
        )?;
        add_to_module(module, c"create_eager_task_factory", &create)?;
    }
    add_to_module(module, c"__version__", &call::string(env!("CARGO_PKG_VERSION"))?)
}

unsafe extern "C" fn exec_slot(module: Raw) -> c_int {
    trampoline::enter(|| exec(module))
}

fn functions() -> *mut c::PyMethodDef {
    let mut all = vec![
        function!(c"current_task", task::registry::current_task, c"current_task($module, /, loop=None)\n--\n\nThe task running on the loop, or None."),
        function!(c"all_tasks", task::registry::all_tasks, c"all_tasks($module, /, loop=None)\n--\n\nThe set of pending tasks of the loop."),
        function!(c"all_tasks_everywhere", task::registry::all_tasks_everywhere, c"all_tasks_everywhere($module, /)\n--\n\nEvery pending native task of every loop."),
        function!(c"create_task", task::registry::create_task, c"create_task($module, coro, **kwargs)\n--\n\nSchedule a coroutine on the running loop; returns a Task."),
        function!(c"ensure_future", task::registry::ensure_future, c"ensure_future($module, coro_or_future, *, loop=None)\n--\n\nA future for a coroutine, an awaitable or a future."),
        function!(c"gather", fan_in::gather, c"gather($module, /, *coros_or_futures, return_exceptions=False)\n--\n\nA future for the results of all the given coroutines and futures, in their order."),
        function!(c"as_completed", fan_in::as_completed, c"as_completed($module, /, fs, *, timeout=None)\n--\n\nAn iterator of coroutines for the results, first come first served."),
        function!(c"shield", fan_in::shield, c"shield($module, /, arg)\n--\n\nA future for the same result whose cancellation does not reach the given one."),
        function!(c"wrap_future", offload::wrap_future, c"wrap_future($module, /, future, *, loop=None)\n--\n\nAn asyncio future for a concurrent.futures.Future."),
        function!(c"run_coroutine_threadsafe", offload::run_coroutine_threadsafe, c"run_coroutine_threadsafe($module, /, coro, loop)\n--\n\nSubmit a coroutine to a loop of another thread; returns a concurrent.futures.Future."),
        function!(c"timeout", timeouts::timeout, c"timeout($module, delay)\n--\n\nA context manager that cancels its body after `delay` seconds and raises TimeoutError; None is never."),
        function!(c"timeout_at", timeouts::timeout_at, c"timeout_at($module, when)\n--\n\nThe same with a point in time of the loop's clock."),
        function!(
            c"_park_loops",
            event_loop::park_loops,
            c"_park_loops($module, /)\n--\n\nAt exit: stop the loops of daemon threads between two turns."
        ),
        function!(
            c"_use_helpers",
            state::use_helpers,
            c"_use_helpers($module, module, /)\n--\n\nHand over the module of cold Python helpers."
        ),
        function!(c"_sendfile", transport::sendfile::start, c"_sendfile($module, /, loop, sock, fileno, offset, count=None)\n--\n\nBegin to send a file into a socket; without a count until its end."),
        function!(c"_advance_clock", advance_clock, c"_advance_clock($module, seconds, /)\n--\n\nMove the clock of this process's loops ahead: for tests and simulations, between two turns."),
        function!(c"_panic_for_test", panic_for_test, c"_panic_for_test($module, /, *args)\n--\n\nPanic, for tests of what a panic becomes."),
    ];
    #[cfg(feature = "faults")]
    all.push(function!(c"_inject_faults", inject_faults, c"_inject_faults($module, seed, /, short=0, interrupted=0, spurious=0, broken=0, resources=0)\n--\n\nFaults in so many of a thousand system calls; none with seed 0. Returns how many of each kind came since the last call."));
    all.extend(child::functions());
    all.extend(transport::tls::functions());
    #[cfg(Py_3_14)]
    all.push(function!(
        c"_use_thread_state",
        task::registry::use_thread_state,
        c"_use_thread_state($module, running_loop, running_task, /)\n--\n\nOffsets of asyncio's fields in the thread state; True if they hold."
    ));
    if cfg!(Py_3_14) {
        all.push(function!(
            c"future_add_to_awaited_by",
            add_to_awaited_by,
            c"future_add_to_awaited_by($module, fut, waiter, /)\n--\n\nNote who awaits a future."
        ));
        all.push(function!(
            c"future_discard_from_awaited_by",
            discard_from_awaited_by,
            c"future_discard_from_awaited_by($module, fut, waiter, /)\n--\n\nForget who awaited a future."
        ));
    }
    leak_methods(all)
}

#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub(crate) unsafe extern "C" fn PyInit__core() -> Raw {
    let slots = Box::leak(Box::new([
        c::PyModuleDef_Slot {
            slot: c::Py_mod_exec,
            value: exec_slot as *mut _,
        },
        #[cfg(Py_3_12)]
        c::PyModuleDef_Slot {
            slot: c::Py_mod_multiple_interpreters,
            value: c::Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED,
        },
        c::PyModuleDef_Slot {
            slot: 0,
            value: ptr::null_mut(),
        },
    ]));
    let definition = Box::leak(Box::new(c::PyModuleDef {
        m_base: c::PyModuleDef_HEAD_INIT,
        m_name: c"_core".as_ptr(),
        m_doc: c"The native core of asynchrotron.".as_ptr(),
        m_size: 0,
        m_methods: functions(),
        m_slots: slots.as_mut_ptr(),
        m_traverse: None,
        m_clear: None,
        m_free: None,
    }));
    // SAFETY: the definition lives for ever.
    unsafe { c::PyModuleDef_Init(definition) }
}
