//! Child processes: started without copying this process's memory and without waiting, watched and reaped by pidfd.
//!
//! The child is made with `clone(CLONE_VM)`. Until it executes its program it shares our memory, so it runs only
//! `child_side.rs`: system calls without the C library. Its answer is a word in the `Block`, and a pipe that closes by
//! itself says when to look at it.
//!
//! Invariants
//! - C1: a `Block` is written by the parent before `clone` and read by the child only, except `outcome` (the child writes
//!   it) and `alive` (the kernel clears it once the child's memory is no longer ours).
//! - C2: a `Block` is freed only when `alive` is zero.
//! - C3: the exec pipe's write end is above 2 and exists, after `start`, in the child alone.

#![allow(unsafe_code)]

mod child_side;
mod syscall;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::faults;

/// Everything about a child that is decided before it exists.
pub struct Plan {
    /// What to execute: tried in this order.
    pub programs: Vec<CString>,
    pub arguments: Vec<CString>,
    /// `NAME=value`; None is a copy of this process's.
    pub environment: Option<Vec<CString>>,
    pub directory: Option<CString>,
    /// What becomes descriptors 0, 1 and 2; -1 leaves ours.
    pub stdio: [RawFd; 3],
    /// Our ends of its pipes, which it closes; -1 is none.
    pub parent_ends: [RawFd; 3],
    /// Descriptors it inherits, in ascending order, whatever `close_others` says.
    pub kept: Vec<RawFd>,
    /// Close everything above 2 that is not kept.
    pub close_others: bool,
    /// SIGPIPE and SIGXFSZ, which Python ignores, get their default action.
    pub restore_signals: bool,
    pub new_session: bool,
    pub process_group: Option<i32>,
    pub umask: Option<u32>,
}

/// Why a child never ran its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The directory could not be entered.
    Directory(i32),
    /// Something else before the program, by errno.
    Preparation(i32),
    /// No program could be executed.
    Program(i32),
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal(i32),
}

/// Kernels and sandboxes that do not know a kind of clone say one of these.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EPERM | libc::EOPNOTSUPP)
    )
}

/// Enough for `child_side.rs`, unoptimised too.
const STACK_LEN: usize = 64 * 1024;

/// What parent and child share. Lives on the heap at one address.
struct Block {
    plan: Plan,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// Backs `environment` if the plan has none.
    own_environment: Vec<CString>,
    exec_pipe: RawFd,
    /// The thread's mask, which the child gets back.
    signal_mask: u64,
    descriptors_max: u32,
    outcome: AtomicI32,
    alive: AtomicU32,
    stack: Box<[MaybeUninit<u8>]>,
}

/// `outcome`: nothing was reported.
const NO_FAILURE: i32 = 0;
/// Added to the errno: the step that failed.
const STEP_DIRECTORY: i32 = 1 << 16;
const STEP_PREPARATION: i32 = 2 << 16;
const STEP_PROGRAM: i32 = 3 << 16;

/// A child that may not have reached its program.
struct Starting {
    exec_pipe: OwnedFd,
    block: NonNull<Block>,
}

// SAFETY: the block is plain memory; the child does not care which thread of ours looks at it.
unsafe impl Send for Starting {}

impl Starting {
    fn is_child_through(&self) -> bool {
        // SAFETY: C2: the block is there as long as this value.
        unsafe { &(*self.block.as_ptr()).alive }.load(Ordering::Acquire) == 0
    }

    fn outcome(&self) -> Result<(), Failure> {
        // SAFETY: as above.
        let outcome = unsafe { &(*self.block.as_ptr()).outcome }.load(Ordering::Acquire);
        let errno = outcome & 0xffff;
        match outcome & !0xffff {
            STEP_DIRECTORY => Err(Failure::Directory(errno)),
            STEP_PREPARATION => Err(Failure::Preparation(errno)),
            STEP_PROGRAM => Err(Failure::Program(errno)),
            _ => Ok(()),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if self.is_child_through() {
            // SAFETY: C2; made by `Box::into_raw`, and this is its only owner.
            drop(unsafe { Box::from_raw(self.block.as_ptr()) });
        }
        // Else the child still reads it: it is left to itself.
    }
}

/// A child process of ours. Dropping it neither kills nor reaps.
pub struct Child {
    pid: i32,
    pidfd: Option<OwnedFd>,
    starting: Option<Starting>,
}

impl Child {
    /// Makes a child, which goes on to its program by itself. `exec_fd` is readable when that is decided.
    ///
    /// An error for which `is_refusal` holds means that this way of starting is not to be had here.
    pub fn start(plan: Plan) -> io::Result<Child> {
        faults::before_spawn()?;
        let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The child fills 0 to 2 (C3).
        let write_end = if write_end.as_raw_fd() > 2 {
            write_end
        } else {
            rustix::io::fcntl_dupfd_cloexec(&write_end, 3)?
        };
        let mut block = Box::new(Block {
            arguments: pointers(&plan.arguments),
            environment: Vec::new(),
            own_environment: Vec::new(),
            exec_pipe: write_end.as_raw_fd(),
            signal_mask: 0,
            descriptors_max: descriptors_max(),
            outcome: AtomicI32::new(NO_FAILURE),
            alive: AtomicU32::new(1),
            stack: Box::new_uninit_slice(STACK_LEN),
            plan,
        });
        if block.plan.environment.is_none() {
            block.own_environment = own_environment();
        }
        block.environment = pointers(block.plan.environment.as_ref().unwrap_or(&block.own_environment));
        // SAFETY: from a box, so not null.
        let block = unsafe { NonNull::new_unchecked(Box::into_raw(block)) };
        let made = clone_into(block);
        drop(write_end);
        match made {
            Ok((pid, pidfd)) => Ok(Child {
                pid,
                pidfd,
                starting: Some(Starting {
                    exec_pipe: read_end,
                    block,
                }),
            }),
            Err(error) => {
                // SAFETY: no child was made, so nobody else knows the block.
                drop(unsafe { Box::from_raw(block.as_ptr()) });
                Err(error)
            }
        }
    }

    /// A child that somebody else has started, and that is not reaped yet.
    pub fn open(pid: i32) -> io::Result<Child> {
        let known = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let pidfd = rustix::process::pidfd_open(known, rustix::process::PidfdFlags::empty())?;
        Ok(Child {
            pid,
            pidfd: Some(pidfd),
            starting: None,
        })
    }

    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable once the child has exited; None after the reaping, or if the kernel gives none.
    #[must_use]
    pub fn pidfd(&self) -> Option<RawFd> {
        self.pidfd.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Readable once it is decided whether the program runs; None after that was told.
    #[must_use]
    pub fn exec_fd(&self) -> Option<RawFd> {
        self.starting.as_ref().map(|starting| starting.exec_pipe.as_raw_fd())
    }

    /// Does the program run? None: not decided yet. Told once, then it is `Ok`.
    pub fn exec_outcome(&mut self) -> Option<Result<(), Failure>> {
        let Some(starting) = &self.starting else {
            return Some(Ok(()));
        };
        let mut byte = [0; 1];
        // At its end when the last copy of the write end, the child's, is closed.
        if rustix::io::read(&starting.exec_pipe, &mut byte).is_err() {
            return None;
        }
        let outcome = starting.outcome();
        self.starting = None;
        Some(outcome)
    }

    /// Takes the exit, if there is one yet. `ECHILD`: somebody else took it. Then and after an exit the pidfd is closed.
    pub fn reap(&mut self) -> io::Result<Option<Exit>> {
        use std::os::fd::AsFd;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let waited = match &self.pidfd {
            Some(pidfd) => match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
                // Before Linux 5.4.
                Err(rustix::io::Errno::INVAL) => wait_for_pid(self.pid, options),
                waited => waited,
            },
            None => wait_for_pid(self.pid, options),
        };
        let status = match waited {
            Ok(Some(status)) => status,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.pidfd = None;
                return Err(error.into());
            }
        };
        self.pidfd = None;
        self.starting = None;
        Ok(Some(match status.terminating_signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Status(status.exit_status().unwrap_or(255)),
        }))
    }

    /// Sends SIGKILL to this very process. Whether it still exists does not matter.
    pub fn kill(&self) -> io::Result<()> {
        let sent = match &self.pidfd {
            Some(pidfd) => rustix::process::pidfd_send_signal(pidfd, Signal::KILL),
            None => match Pid::from_raw(self.pid) {
                Some(pid) => rustix::process::kill_process(pid, Signal::KILL),
                None => Ok(()),
            },
        };
        match sent {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }
}

fn wait_for_pid(pid: i32, options: WaitIdOptions) -> rustix::io::Result<Option<rustix::process::WaitIdStatus>> {
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::CHILD)?;
    rustix::process::waitid(WaitId::Pid(pid), options)
}

/// A table as `execve` wants it.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

fn descriptors_max() -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit
        .current
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(1 << 20)
}

unsafe extern "C" {
    /// The C library's table, which `os.environ` writes through to.
    static mut environ: *const *const c_char;
}

/// A copy of this process's environment. As for `getenv`, nobody may change it meanwhile; under Python the GIL sees to it.
fn own_environment() -> Vec<CString> {
    let mut copy = Vec::new();
    // SAFETY: null, or a table that ends with null.
    let mut entry = unsafe { environ };
    // SAFETY: `entry` is within the table, or null.
    while let Some(string) = unsafe { entry.as_ref() }.and_then(|string| NonNull::new(string.cast_mut())) {
        // SAFETY: an entry of the table is a C string.
        copy.push(unsafe { CStr::from_ptr(string.as_ptr()) }.to_owned());
        // SAFETY: not yet at the end.
        entry = unsafe { entry.add(1) };
    }
    copy
}

/// Makes the child. All signals are blocked meanwhile: it begins with a copy of our handlers, which must not run there.
fn clone_into(block: NonNull<Block>) -> io::Result<(i32, Option<OwnedFd>)> {
    if !syscall::SUPPORTED {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let (mut all, mut before) = (
        MaybeUninit::<libc::sigset_t>::uninit(),
        MaybeUninit::<libc::sigset_t>::zeroed(),
    );
    // SAFETY: fills the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a filled set, and room for the one before.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: C1: no child yet. The kernel's set is the first word of the C library's.
    unsafe { (*block.as_ptr()).signal_mask = before.as_ptr().cast::<u64>().read() };
    let made = match clone_with(block, libc::CLONE_PIDFD) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => clone_with(block, 0),
        made => made,
    };
    // SAFETY: the mask of before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    made
}

fn clone_with(block: NonNull<Block>, more_flags: c_int) -> io::Result<(i32, Option<OwnedFd>)> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD | more_flags;
    // SAFETY: one past the end of the stack, in the block's own memory.
    let top = unsafe {
        let stack = &mut (*block.as_ptr()).stack;
        stack.as_mut_ptr().add(stack.len())
    };
    let top = top.map_addr(|address| address & !15);
    // SAFETY: C1.
    let alive = unsafe { (*block.as_ptr()).alive.as_ptr() };
    // SAFETY: `child_side::run` keeps what it promises: no C library, no allocation, no return. Its stack and its argument
    // live until the kernel clears `alive` (C2).
    let pid = unsafe {
        libc::clone(
            child_side::run,
            top.cast::<c_void>(),
            flags,
            block.as_ptr().cast::<c_void>(),
            &raw mut pidfd,
            ptr::null_mut::<c_void>(),
            alive,
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fresh from the kernel, which wrote -1 for none.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    let pidfd = pidfd.or_else(|| Child::open(pid).ok().and_then(|child| child.pidfd));
    Ok((pid, pidfd))
}
