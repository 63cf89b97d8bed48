//! EventLoop: the native base of `asynchrotron.EventLoop`. This file: fields, life and death, and the
//! Python surface; siblings hold what happens (`schedule`, `run_once`, `io`).
//!
//! Invariants
//! - I1: fields behind `initialised` are whole once it is true; `tp_new` writes them, `tp_dealloc` drops them.
//! - I2: `UnsafeCell` fields are borrowed only attached (A1), by code that runs no Python meanwhile. The
//!   exceptions, `events`, the poller and the waker during a detached wait, are used by the thread that runs the loop;
//!   other threads only ring the waker, and `close_core` takes it and the poller out while the loop does not run.
//! - I3: `current` is null or the task being stepped, which its stepper keeps alive.
//! - I4: `all` in `REGISTRY_OF_LOOPS` holds exactly the initialised loops.

mod batches;
mod bursts;
pub(crate) mod io;
mod own_methods;
pub(crate) mod ready;
pub(crate) mod receive_buffer;
pub(crate) mod run_once;
pub(crate) mod schedule;
mod views;

use self::receive_buffer::ReceiveBuffer;
use crate::ffi::error::{self, PyResult, os_error, runtime_error, type_error};
use crate::ffi::trampoline::{self, fastcall, noargs, onearg, property};
use crate::ffi::types::TypeSpec;
use crate::ffi::{Args, Native, Obj, Raised, Raw, Slot, c, call, object, slot, thread, types};
use crate::future::Future;
use crate::operation::KnownSockets;
use crate::state::state;
use crate::task::{Task, TaskList};
use reactor::{Events, Inbox, Registry, TickClock, TimerQueue, Waker};
use ready::{Entry, ReadyQueue, is_unique};
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

#[repr(C)]
pub(crate) struct EventLoop {
    head: c::PyObject,
    initialised: Cell<bool>,
    debug: Cell<bool>,
    closed: Cell<bool>,
    stopping: Cell<bool>,
    plain: Cell<bool>,
    /// Between the beginning and the end of `run_turns`, the outermost if they nest.
    in_run: Cell<bool>,
    /// How many futures in `timers` the collector does not track.
    pub(crate) hidden_sleeps: Cell<usize>,
    /// `asyncio.tasks.Task` or `asyncio.futures.Future` is a class neither asyncio's nor ours.
    pub(crate) other_classes: Cell<bool>,
    plain_timers: Cell<bool>,
    /// `call_at`, to which asyncio's `call_later` leaves the timer, is not ours.
    pub(crate) other_call_at: Cell<bool>,
    plain_posts: Cell<bool>,
    plain_tasks: Cell<bool>,
    /// A poll is due at the next turn, whatever the counters say.
    pub(crate) force_poll: Cell<bool>,
    /// A wait recently found the GIL taken when it came back.
    pub(crate) contended_waits_left: Cell<u8>,
    #[cfg(not(Py_3_14))]
    pub(crate) publishing: Cell<bool>,
    thread: Cell<c_ulong>,
    thread_id: Slot,
    task_factory: Slot,
    slow_callback_duration: Slot,
    slow_callback_seconds: Cell<f64>,
    clock_resolution: Cell<f64>,
    current: Cell<*const Task>,
    /// What CPython's C module was last told to be the current task; borrowed, compared only.
    pub(crate) published: Cell<Raw>,
    /// The context entered for the entry being run; the thread state holds it.
    pub(crate) entered: Cell<Raw>,
    tasks: MaybeUninit<TaskList>,
    ready: MaybeUninit<ReadyQueue>,
    inner: MaybeUninit<Inner>,
}

/// What only polls, timers and I/O touch.
pub(crate) struct Inner {
    pub(crate) timers: UnsafeCell<TimerQueue<Entry>>,
    pub(crate) registry: UnsafeCell<Option<Registry<Obj>>>,
    pub(crate) inbox: Inbox<Entry>,
    /// Until the loop is closed; `waker()`.
    waker: UnsafeCell<Option<Waker>>,
    pub(crate) events: UnsafeCell<Events>,
    pub(crate) posted: UnsafeCell<Vec<Entry>>,
    bursts: bursts::Bursts,
    batches: batches::Batches,
    pub(super) watched_files: UnsafeCell<io::WatchedFiles>,
    receive_buffer: UnsafeCell<ReceiveBuffer>,
    known_sockets: UnsafeCell<KnownSockets>,
    pub(crate) tick_clock: UnsafeCell<TickClock>,
    pub(crate) last_poll_ticks: Cell<u64>,
    pub(crate) last_poll_turn: Cell<u32>,
    pub(crate) poll_interval_ticks: Cell<u64>,
    pub(crate) entries_since_poll: Cell<usize>,
    /// Counts turns, for writes: which are of the same one. Starts at 1; transports start at 0.
    turn_number: Cell<u32>,
    /// Registered descriptors nobody's latency depends on: the signal wake-up.
    pub(crate) internal_fds: Cell<usize>,
    /// Rung when the callback of a handle from `call_soon_threadsafe` has run.
    pub(crate) shared_handle_ran: Bell,
    fork_generation: u32,
}

impl Inner {
    /// None: the loop is closed.
    #[inline]
    pub(crate) fn waker(&self) -> Option<&Waker> {
        // SAFETY: I2; `close_core` alone takes it out, attached and while the loop does not run.
        unsafe { (*self.waker.get()).as_ref() }
    }

    /// Ends the present wait, or the next one.
    fn ring(&self) {
        if let Some(waker) = self.waker() {
            waker.force_notify();
        }
    }
}

/// Lets threads wait for the next of a kind of event.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
    /// Threads that wait or are about to. Written attached; a ringer that sees none has nobody to wake (A1).
    waiting: AtomicU32,
}

impl Bell {
    pub(crate) fn count(&self) -> u64 {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without anybody waiting it costs a load: waking is a system call.
    #[inline]
    pub(crate) fn notify(&self) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Blocks, detached, until it rings after `count` was `seen`; the caller found its reason to wait while attached.
    pub(crate) fn wait(&self, seen: u64) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        thread::detached(|| {
            let guard = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.changed.wait_while(guard, |rung| *rung == seen));
        });
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

// SAFETY: repr(C), header first; `tp_new` makes the rest whole before anyone sees the object.
unsafe impl Native for EventLoop {
    #[inline]
    fn type_object() -> *mut c::PyTypeObject {
        state().types.event_loop()
    }
}

/// How often this process is a fork's child. A loop made before the last fork belongs to the parent.
static FORK_GENERATION: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_fork() {
    FORK_GENERATION.fetch_add(1, Ordering::Relaxed);
    RUNNING.with(|running| running.set(ptr::null()));
}

/// At import: makes `check_fork` work.
pub(crate) fn watch_forks() {
    // SAFETY: a plain function for the child side.
    unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
}

thread_local! {
    /// The native loop whose turns this thread runs.
    static RUNNING: Cell<*const EventLoop> = const { Cell::new(ptr::null()) };
}

struct LoopList(UnsafeCell<Vec<*const EventLoop>>);
// SAFETY: only touched attached (A1).
unsafe impl Sync for LoopList {}
static REGISTRY_OF_LOOPS: LoopList = LoopList(UnsafeCell::new(Vec::new()));

impl EventLoop {
    /// The native loop running in this thread.
    #[inline]
    pub(crate) fn running<'a>() -> Option<&'a EventLoop> {
        // SAFETY: set for the time `run_turns` is on this thread's stack, which holds the loop.
        unsafe { RUNNING.get().as_ref() }
    }

    /// Makes this the thread's running loop; gives back which one was.
    pub(crate) fn set_running(event_loop: *const EventLoop) -> *const EventLoop {
        RUNNING.replace(event_loop)
    }

    /// Looks at every loop; `look` must not run Python code.
    pub(crate) fn for_each(mut look: impl FnMut(&EventLoop)) {
        // SAFETY: A1; I4.
        for event_loop in unsafe { &*REGISTRY_OF_LOOPS.0.get() } {
            // SAFETY: I4.
            look(unsafe { &**event_loop });
        }
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        debug_assert!(self.initialised.get());
        // SAFETY: I1.
        unsafe { self.inner.assume_init_ref() }
    }

    #[inline]
    pub(crate) fn ready(&self) -> &ReadyQueue {
        // SAFETY: I1.
        unsafe { self.ready.assume_init_ref() }
    }

    #[inline]
    pub(crate) fn tasks(&self) -> &TaskList {
        // SAFETY: I1.
        unsafe { self.tasks.assume_init_ref() }
    }

    #[inline]
    pub(crate) fn is_debug(&self) -> bool {
        self.debug.get()
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.thread.get() != 0
    }

    /// The run is over: what it kept alive is for the collector to look at.
    pub(crate) fn show_hidden(&self) {
        self.tasks().show_all();
        if self.hidden_sleeps.get() > 0 {
            // SAFETY: I2; nothing below runs Python code.
            unsafe { (*self.inner().timers.get()).iter() }
                .filter_map(Entry::as_future)
                .for_each(Future::show);
        }
    }

    /// Does it run turns until `stop()`? Whoever runs single turns is not meant.
    #[inline]
    pub(crate) fn is_in_run(&self) -> bool {
        self.in_run.get()
    }

    /// Entries may be put into the queue directly: neither a subclass nor the loop has a `call_soon` of its own.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain.get()
    }

    /// A sleep may put its future into the timer queue: what `asyncio.sleep` calls is ours.
    #[inline]
    pub(crate) fn has_plain_timers(&self) -> bool {
        self.plain_timers.get()
    }

    /// Other threads may put entries into the inbox directly: `call_soon_threadsafe` is ours.
    #[inline]
    pub(crate) fn has_plain_posts(&self) -> bool {
        self.plain_posts.get()
    }

    /// A task may be made without asking the loop: `create_task` is ours.
    #[inline]
    pub(crate) fn has_plain_tasks(&self) -> bool {
        self.plain_tasks.get()
    }

    #[inline]
    pub(crate) fn current_task(&self) -> *const Task {
        self.current.get()
    }

    #[inline]
    pub(crate) fn replace_current(&self, task: *const Task) -> *const Task {
        self.current.replace(task)
    }

    pub(crate) fn slow_callback_seconds(&self) -> f64 {
        self.slow_callback_seconds.get()
    }

    #[inline]
    pub(crate) fn has_task_factory(&self) -> bool {
        self.task_factory.is_set() && !object::is_none(self.task_factory.ptr())
    }

    /// Is this the thread that runs the loop?
    #[inline]
    pub(crate) fn is_own_thread(&self) -> bool {
        self.thread.get() == thread::ident()
    }

    /// The loop was made before a fork and this is the child: its descriptors are the parent's.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.inner().fork_generation != FORK_GENERATION.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn check_fork(&self) -> PyResult<()> {
        if self.is_forked() { Err(forked()) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn turn_number(&self) -> u32 {
        self.inner().turn_number.get()
    }

    #[inline]
    pub(crate) fn begin_turn(&self) {
        let inner = self.inner();
        inner.turn_number.set(inner.turn_number.get().wrapping_add(1).max(1));
    }

    /// The shared receive buffer; borrowed by one receive at a time, returned before Python code runs.
    pub(crate) fn take_receive_buffer(&self) -> ReceiveBuffer {
        // SAFETY: I2.
        let mut buffer = unsafe { std::mem::take(&mut *self.inner().receive_buffer.get()) };
        buffer.reserve();
        buffer
    }

    pub(crate) fn return_receive_buffer(&self, buffer: ReceiveBuffer) {
        // SAFETY: I2.
        unsafe { *self.inner().receive_buffer.get() = buffer };
    }

    /// Whose descriptors operations waited for; `look` must not run Python code.
    #[inline]
    pub(crate) fn known_sockets<T>(&self, look: impl FnOnce(&mut KnownSockets) -> T) -> T {
        // SAFETY: I2.
        look(unsafe { &mut *self.inner().known_sockets.get() })
    }

    /// Drops everything pending and closes the kernel's descriptors.
    fn close_core(&self) -> PyResult<()> {
        if self.is_running() {
            return Err(runtime_error("Cannot close a running event loop"));
        }
        self.closed.set(true);
        let inner = self.inner();
        // SAFETY: I2; all are taken out first and dropped last: dropping runs Python code.
        let (timers, registry, waker, unflushed, files) = unsafe {
            (
                (*inner.timers.get()).drain(),
                (*inner.registry.get()).take(),
                (*inner.waker.get()).take(),
                inner.bursts.take_all(),
                std::mem::take(&mut *inner.watched_files.get()),
            )
        };
        let posted = inner.inbox.close();
        // Who posts from now on is refused and rings nothing, so its descriptor can go.
        drop(waker);
        let ready = self.ready().take_all();
        let tasks = self.tasks().take_all();
        let owners = registry.map(|mut registry| {
            // In a fork's child the epoll instance is still the parent's: closing our descriptor is all.
            if self.is_forked() {
                registry.abandon()
            } else {
                registry.take_all()
            }
        });
        for entry in ready.iter().chain(&timers).chain(&posted) {
            if let Some(handle) = entry.as_handle() {
                handle.release();
            }
        }
        let known_sockets = self.known_sockets(KnownSockets::take_all);
        drop((ready, timers, posted, owners, unflushed, files, known_sockets));
        drop(tasks);
        Ok(())
    }
}

#[cold]
fn forked() -> Raised {
    // An exit of the child's has left the loop, and whoever ran it, asyncio.run() for one, uses it once more to tidy up.
    // The child still ends as it was told to.
    if let Some(exit) = error::handled().filter(|handled| error::is_exit(handled.as_ptr())) {
        return error::restore(exit);
    }
    runtime_error(
        "This event loop was created before os.fork() and belongs to the parent process; \
         create a new event loop in the child",
    )
}

/// Set when the interpreter is about to shut down: loops of daemon threads stop where no Python code is on the stack.
pub(crate) static PARKING: AtomicBool = AtomicBool::new(false);
/// How many have.
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// For `turn`: this loop's thread ends here.
#[cold]
pub(crate) fn park() -> ! {
    PARKED.fetch_add(1, Ordering::Release);
    thread::park_for_ever()
}

/// `_park_loops()`, called at exit: waits, at most a second, until loops running in other threads have parked. Up to
/// 3.13 CPython would end those threads in the middle of a callback, unwinding frames that must not be unwound.
pub(crate) fn park_loops(args: Args<'_>) -> PyResult<()> {
    let [] = args.bind("_park_loops", &[], 0, 0)?;
    let mut running = 0;
    EventLoop::for_each(|event_loop| {
        if event_loop.is_running() && !event_loop.is_own_thread() && !event_loop.is_forked() {
            running += 1;
            event_loop.inner().ring();
        }
    });
    if running > 0 {
        PARKING.store(true, Ordering::Release);
        thread::detached(|| {
            for _ in 0..1000 {
                if PARKED.load(Ordering::Acquire) >= running {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
    }
    Ok(())
}

// ---- life and death ------------------------------------------------------------------------------

unsafe extern "C" fn new(kind: *mut c::PyTypeObject, _args: Raw, _kwargs: Raw) -> Raw {
    trampoline::enter(|| {
        let make = || -> std::io::Result<Inner> {
            let waker = Waker::new()?;
            let registry = Registry::new()?;
            registry.poller().add(
                waker.as_raw_fd(),
                reactor::Token::RESERVED.raw(),
                reactor::Interest::READABLE,
            )?;
            Ok(Inner {
                timers: UnsafeCell::new(TimerQueue::new()),
                registry: UnsafeCell::new(Some(registry)),
                inbox: Inbox::new(),
                waker: UnsafeCell::new(Some(waker)),
                events: UnsafeCell::new(Events::with_capacity(128)),
                posted: UnsafeCell::new(Vec::new()),
                bursts: bursts::Bursts::default(),
                batches: batches::Batches::default(),
                watched_files: UnsafeCell::new(io::WatchedFiles::default()),
                receive_buffer: UnsafeCell::default(),
                known_sockets: UnsafeCell::new(KnownSockets::new()),
                tick_clock: UnsafeCell::new(TickClock::new()),
                last_poll_ticks: Cell::new(0),
                last_poll_turn: Cell::new(0),
                poll_interval_ticks: Cell::new(0),
                entries_since_poll: Cell::new(0),
                turn_number: Cell::new(1),
                internal_fds: Cell::new(0),
                shared_handle_ran: Bell::default(),
                fork_generation: FORK_GENERATION.load(Ordering::Relaxed),
            })
        };
        let inner = make().map_err(|error| os_error(&error))?;
        let instance = types::allocate(kind)?;
        let raw = instance.as_ptr().cast::<EventLoop>();
        // SAFETY: a fresh zeroed instance nobody else sees; no Python code runs in between.
        unsafe {
            (&raw mut (*raw).tasks).write(MaybeUninit::new(TaskList::new()));
            (&raw mut (*raw).ready).write(MaybeUninit::new(ReadyQueue::new()));
            (&raw mut (*raw).inner).write(MaybeUninit::new(inner));
            (*raw).initialised.set(true);
            (*REGISTRY_OF_LOOPS.0.get()).push(raw);
        }
        // SAFETY: just made.
        let this = unsafe { &*raw };
        this.force_poll.set(true);
        this.slow_callback_seconds.set(0.1);
        this.clock_resolution.set(1e-9);
        own_methods::look_for_others(this, ptr::null_mut())?;
        Ok(instance)
    })
}

unsafe extern "C" fn traverse(slf: Raw, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: tp_traverse's receiver.
    let this = unsafe { &*slf.cast::<EventLoop>() };
    macro_rules! visit {
        ($raw:expr) => {
            let code = slot::visit_raw($raw, visit, arg);
            if code != 0 {
                return code;
            }
        };
    }
    visit!(object::type_of(slf).cast());
    visit!(this.thread_id.ptr());
    visit!(this.task_factory.ptr());
    visit!(this.slow_callback_duration.ptr());
    if !this.initialised.get() {
        return 0;
    }
    for task in this.tasks().iter() {
        visit!(task.raw());
    }
    let mut code = 0;
    // Handles and alarms are not tracked: what a handle owned by the loop alone holds is the loop's.
    let mut look = |entry: &Entry| {
        if code != 0 {
            return;
        }
        match (entry.as_handle(), entry.as_alarm()) {
            (Some(handle), _) if is_unique(handle) => code = handle.traverse(visit, arg),
            (_, Some(alarm)) => code = alarm.traverse(visit, arg),
            _ => code = slot::visit_raw(entry.object().unwrap_or(ptr::null_mut()), visit, arg),
        }
    };
    this.ready().for_each(&mut look);
    // SAFETY: I2; traversal runs no Python code.
    unsafe { (*this.inner().timers.get()).iter() }.for_each(&mut look);
    // SAFETY: as above.
    for file in unsafe { &*this.inner().watched_files.get() }.iter() {
        visit!(file);
    }
    if code != 0 {
        return code;
    }
    // SAFETY: as above.
    if let Some(registry) = unsafe { &*this.inner().registry.get() } {
        registry.for_each(|owner| {
            if code != 0 {
                return;
            }
            code = match crate::handle::Handle::of(owner.as_ptr()) {
                Some(handle) if is_unique(handle) => handle.traverse(visit, arg),
                _ => slot::visit_raw(owner.as_ptr(), visit, arg),
            };
        });
    }
    code
}

unsafe extern "C" fn clear(slf: Raw) -> c_int {
    trampoline::enter(|| {
        // SAFETY: tp_clear's receiver.
        let this = unsafe { &*slf.cast::<EventLoop>() };
        this.thread_id.clear();
        this.task_factory.clear();
        this.slow_callback_duration.clear();
        if this.initialised.get() {
            this.close_core()?;
        }
        Ok(())
    })
}

unsafe extern "C" fn dealloc(slf: Raw) {
    trampoline::enter_void(|| {
        // SAFETY: tp_dealloc's receiver, a GC object.
        unsafe { c::PyObject_GC_UnTrack(slf.cast()) };
        // SAFETY: as above.
        let this = unsafe { &*slf.cast::<EventLoop>() };
        this.thread_id.clear();
        this.task_factory.clear();
        this.slow_callback_duration.clear();
        if this.initialised.get() {
            this.thread.set(0);
            if this.close_core().is_err() {
                crate::ffi::error::write_unraisable(ptr::null_mut());
            }
            this.initialised.set(false);
            // SAFETY: A1; I4.
            unsafe { (*REGISTRY_OF_LOOPS.0.get()).retain(|known| !ptr::eq(*known, this)) };
            let raw = slf.cast::<EventLoop>();
            // SAFETY: I1; nobody can reach the object any more.
            unsafe {
                (*raw).inner.assume_init_drop();
                (*raw).ready.assume_init_drop();
            }
        }
        // SAFETY: fields are dropped.
        unsafe { types::free(slf) };
    });
}

unsafe extern "C" fn hash(slf: Raw) -> isize {
    // SAFETY: tp_hash's receiver.
    #[cfg(not(Py_3_14))]
    crate::task::registry::publish_for_lookup(unsafe { &*slf.cast::<EventLoop>() });
    let address = slf as usize;
    // As object.__hash__: the low bits of an address say nothing.
    let hash = address.rotate_right(4) as isize;
    if hash == -1 { -2 } else { hash }
}

// ---- the Python surface, in asyncio's documented order --------------------------------------------

fn py_run_turns(this: &EventLoop) -> PyResult<()> {
    this.run_turns()
}

fn py_run_once(this: &EventLoop) -> PyResult<()> {
    this.run_one_turn()
}

fn py_stop(this: &EventLoop) -> PyResult<()> {
    this.stopping.set(true);
    Ok(())
}

fn py_is_running(this: &EventLoop) -> PyResult<bool> {
    Ok(this.is_running())
}

fn py_is_closed(this: &EventLoop) -> PyResult<bool> {
    Ok(this.is_closed())
}

fn py_close_core(this: &EventLoop) -> PyResult<()> {
    this.close_core()
}

fn py_time(_this: &EventLoop) -> PyResult<Obj> {
    call::float(schedule::seconds_now())
}

fn py_create_future(this: &EventLoop) -> PyResult<Obj> {
    this.create_future()
}

fn py_get_debug(this: &EventLoop) -> PyResult<bool> {
    Ok(this.is_debug())
}

fn py_timer_handle_cancelled(this: &EventLoop, handle: Raw) -> PyResult<()> {
    if let Some(timer) = crate::handle::TimerHandle::of(handle)
        && timer.handle.has(crate::handle::SCHEDULED)
    {
        this.note_dead_timer();
    }
    Ok(())
}

fn py_write_to_self(this: &EventLoop) -> PyResult<()> {
    if !this.is_closed() {
        this.inner().ring();
    }
    Ok(())
}

fn py_process_events(_this: &EventLoop, _events: Raw) -> PyResult<()> {
    // Events reach the ready queue in the poll itself; kept for loops' drivers written against asyncio's.
    Ok(())
}

fn show_bool(value: bool) -> PyResult<Obj> {
    Ok(Obj::bool(value))
}

fn truth(value: Option<Raw>) -> PyResult<bool> {
    value.map_or_else(|| Err(type_error("cannot delete attribute")), call::is_true)
}

fn show_debug(this: &EventLoop) -> PyResult<Obj> {
    show_bool(this.debug.get())
}

fn set_debug(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    this.debug.set(truth(value)?);
    Ok(())
}

fn show_closed(this: &EventLoop) -> PyResult<Obj> {
    show_bool(this.closed.get())
}

fn set_closed(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    this.closed.set(truth(value)?);
    Ok(())
}

fn show_stopping(this: &EventLoop) -> PyResult<Obj> {
    show_bool(this.stopping.get())
}

fn set_stopping(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    this.stopping.set(truth(value)?);
    Ok(())
}

fn show_thread_id(this: &EventLoop) -> PyResult<Obj> {
    Ok(this.thread_id.get_or_none())
}

fn set_thread_id(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    let value = value.filter(|value| !object::is_none(*value));
    let ident = match value {
        None => 0,
        Some(value) => {
            // SAFETY: A1.
            let ident = unsafe { c::PyLong_AsUnsignedLongMask(value) };
            if crate::ffi::error::occurred() {
                return Err(crate::ffi::Raised);
            }
            ident
        }
    };
    this.thread.set(ident);
    this.thread_id.set_option(value.map(Obj::from_borrowed));
    Ok(())
}

fn show_task_factory(this: &EventLoop) -> PyResult<Obj> {
    Ok(this.task_factory.get_or_none())
}

fn set_task_factory(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    this.task_factory.set_option(value.map(Obj::from_borrowed));
    Ok(())
}

fn show_slow_callback_duration(this: &EventLoop) -> PyResult<Obj> {
    match this.slow_callback_duration.get() {
        Some(value) => Ok(value),
        None => call::float(this.slow_callback_seconds.get()),
    }
}

fn set_slow_callback_duration(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| type_error("cannot delete attribute"))?;
    this.slow_callback_seconds.set(call::as_f64(value)?);
    this.slow_callback_duration.set(Obj::from_borrowed(value));
    Ok(())
}

fn show_clock_resolution(this: &EventLoop) -> PyResult<Obj> {
    call::float(this.clock_resolution.get())
}

fn set_clock_resolution(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| type_error("cannot delete attribute"))?;
    this.clock_resolution.set(call::as_f64(value)?);
    Ok(())
}

fn show_timer_cancelled_count(this: &EventLoop) -> PyResult<Obj> {
    // SAFETY: I2.
    call::int(unsafe { (*this.inner().timers.get()).dead_count() } as i64)
}

fn show_internal_fds(this: &EventLoop) -> PyResult<Obj> {
    // The waker is one for as long as the loop is open.
    let waker = i64::from(!this.is_closed());
    call::int(this.inner().internal_fds.get() as i64 + waker)
}

/// asyncio's `_make_self_pipe` and `_close_self_pipe` count their descriptor here.
fn set_internal_fds(this: &EventLoop, value: Option<Raw>) -> PyResult<()> {
    let value = value.ok_or_else(|| type_error("cannot delete attribute"))?;
    let waker = i64::from(!this.is_closed());
    this.inner()
        .internal_fds
        .set(usize::try_from(call::as_i64(value)? - waker).unwrap_or(0));
    Ok(())
}

/// asyncio's own initialiser assigns these; their storage is native.
fn ignore_assignment(_this: &EventLoop, _value: Option<Raw>) -> PyResult<()> {
    Ok(())
}

fn show_ready(this: &EventLoop) -> PyResult<Obj> {
    views::ready(this)
}

fn show_selector(this: &EventLoop) -> PyResult<Obj> {
    if this.is_closed() {
        return Ok(Obj::none());
    }
    views::selector(this)
}

/// Timers are kept natively; drivers written against asyncio's list find it empty and leave them to `_selector`.
fn show_scheduled(_this: &EventLoop) -> PyResult<Obj> {
    call::list()
}

unsafe extern "C" fn init(slf: Raw, _args: Raw, _kwargs: Raw) -> c_int {
    let _ = slf;
    0
}

pub(crate) fn build_types(module: Raw) -> PyResult<Obj> {
    let mut spec = TypeSpec::new(
        c"asynchrotron._core.EventLoop",
        c"The native base of asynchrotron.EventLoop: ready queue, timers, poller, scheduling.",
        size_of::<EventLoop>(),
        c::Py_TPFLAGS_DEFAULT | c::Py_TPFLAGS_HAVE_GC | c::Py_TPFLAGS_BASETYPE,
    );
    spec.methods = vec![
        noargs!(c"_run_turns", EventLoop, py_run_turns, c"_run_turns($self, /)\n--\n\nRun turns until stop() is called."),
        noargs!(c"_run_once", EventLoop, py_run_once, c"_run_once($self, /)\n--\n\nRun one turn."),
        noargs!(c"stop", EventLoop, py_stop, c"stop($self, /)\n--\n\nStop the loop at the end of the current turn."),
        noargs!(c"is_running", EventLoop, py_is_running, c"is_running($self, /)\n--\n\nTrue if the loop is running."),
        noargs!(c"is_closed", EventLoop, py_is_closed, c"is_closed($self, /)\n--\n\nTrue if the loop was closed."),
        noargs!(c"_close_core", EventLoop, py_close_core, c"_close_core($self, /)\n--\n\nDrop everything pending and close the poller."),
        noargs!(c"time", EventLoop, py_time, c"time($self, /)\n--\n\nThe loop's monotonic clock, in seconds with nanosecond steps."),
        fastcall!(c"call_soon", EventLoop, schedule::call_soon, c"call_soon($self, callback, *args, context=None)\n--\n\nCall callback(*args) in the next turn; returns a Handle."),
        fastcall!(c"call_soon_threadsafe", EventLoop, schedule::call_soon_threadsafe, c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\ncall_soon from any thread; wakes the loop."),
        fastcall!(c"call_later", EventLoop, schedule::call_later, c"call_later($self, delay, callback, *args, context=None)\n--\n\nCall callback(*args) after delay seconds; returns a TimerHandle."),
        fastcall!(c"call_at", EventLoop, schedule::call_at, c"call_at($self, when, callback, *args, context=None)\n--\n\nCall callback(*args) at the loop time `when`; returns a TimerHandle."),
        noargs!(c"create_future", EventLoop, py_create_future, c"create_future($self, /)\n--\n\nA new Future bound to the loop."),
        fastcall!(c"create_task", EventLoop, schedule::create_task, c"create_task($self, coro, **kwargs)\n--\n\nSchedule a coroutine; returns a Task."),
        crate::ffi::types::Method::fastcall(c"run_in_executor", crate::offload::run_in_executor_entry, c"run_in_executor($self, executor, func, *args)\n--\n\nCall func(*args) in an executor, the default one if that is None; returns a Future."),
        noargs!(c"get_debug", EventLoop, py_get_debug, c"get_debug($self, /)\n--\n\nTrue in debug mode."),
        fastcall!(c"_add_reader", EventLoop, io::add_reader, c"_add_reader($self, fd, callback, /, *args, context=None)\n--\n\nCall callback(*args) whenever fd is readable; returns a Handle."),
        fastcall!(c"_add_writer", EventLoop, io::add_writer, c"_add_writer($self, fd, callback, /, *args, context=None)\n--\n\nCall callback(*args) whenever fd is writable; returns a Handle."),
        onearg!(c"_remove_reader", EventLoop, io::remove_reader, c"_remove_reader($self, fd, /)\n--\n\nForget the reader of fd; True if there was one."),
        onearg!(c"_remove_writer", EventLoop, io::remove_writer, c"_remove_writer($self, fd, /)\n--\n\nForget the writer of fd; True if there was one."),
        onearg!(c"_timer_handle_cancelled", EventLoop, py_timer_handle_cancelled, c"_timer_handle_cancelled($self, handle, /)\n--\n\nNote that a timer was cancelled."),
        noargs!(c"_write_to_self", EventLoop, py_write_to_self, c"_write_to_self($self, /)\n--\n\nWake the loop from any thread."),
        onearg!(c"_dispatch", EventLoop, views::dispatch, c"_dispatch($self, event, /)\n--\n\nTell the owners of a descriptor about an event taken from `_ready`."),
        onearg!(c"_process_events", EventLoop, py_process_events, c"_process_events($self, events, /)\n--\n\nNothing: events are queued by the poll itself."),
    ];
    spec.properties = vec![
        property!(c"_debug", EventLoop, show_debug, set_debug),
        property!(c"_closed", EventLoop, show_closed, set_closed),
        property!(c"_stopping", EventLoop, show_stopping, set_stopping),
        property!(c"_thread_id", EventLoop, show_thread_id, set_thread_id),
        property!(c"_task_factory", EventLoop, show_task_factory, set_task_factory),
        property!(
            c"slow_callback_duration",
            EventLoop,
            show_slow_callback_duration,
            set_slow_callback_duration
        ),
        property!(
            c"_clock_resolution",
            EventLoop,
            show_clock_resolution,
            set_clock_resolution
        ),
        property!(
            c"_timer_cancelled_count",
            EventLoop,
            show_timer_cancelled_count,
            ignore_assignment
        ),
        property!(c"_internal_fds", EventLoop, show_internal_fds, set_internal_fds),
        property!(c"_ready", EventLoop, show_ready, ignore_assignment),
        property!(c"_scheduled", EventLoop, show_scheduled, ignore_assignment),
        property!(c"_selector", EventLoop, show_selector, ignore_assignment),
    ];
    spec.slots = vec![
        (c::Py_tp_new, new as *mut c_void),
        (c::Py_tp_init, init as *mut c_void),
        (c::Py_tp_traverse, traverse as *mut c_void),
        (c::Py_tp_clear, clear as *mut c_void),
        (c::Py_tp_dealloc, dealloc as *mut c_void),
        (c::Py_tp_hash, hash as *mut c_void),
        (c::Py_tp_setattro, own_methods::setattro as *mut c_void),
    ];
    views::build_types(module)?;
    spec.build(module)
}
