//! What a child does between `clone` and its program, in the order of the interpreter's `child_exec`.
//!
//! It runs in the parent's memory, beside the parent, with the parent's thread pointer. So: system calls through
//! `syscall.rs` only, nothing that allocates, locks, panics or uses a variable of a thread, and of the block only
//! `outcome` is written (C1).

use super::syscall::{Answer, call};
use super::{Block, STEP_DIRECTORY, STEP_PREPARATION, STEP_PROGRAM};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

/// The last signal of the kernel; its set is one word.
const SIGNAL_MAX: usize = 64;
const SIGNAL_SET_LEN: usize = 8;

/// The entry point of the child. `block` is a `Block` that outlives it.
pub(super) extern "C" fn run(block: *mut c_void) -> c_int {
    // SAFETY: C1, C2.
    let block = unsafe { &*block.cast::<Block>() };
    let Err(outcome) = prepare(block).and_then(|()| execute(block));
    block.outcome.store(outcome, Ordering::Release);
    loop {
        // SAFETY: ends this process, and only this one.
        let _ = unsafe { call(libc::SYS_exit_group, [255, 0, 0, 0, 0]) };
    }
}

enum Never {}

fn failed(step: i32) -> impl Fn(i32) -> i32 {
    move |errno| step + errno
}

fn prepare(block: &Block) -> Result<(), i32> {
    let plan = &block.plan;
    for fd in &plan.kept {
        set_close_on_exec(*fd, false).map_err(failed(STEP_PREPARATION))?;
    }
    for fd in plan.parent_ends {
        if fd >= 0 {
            close(fd).map_err(failed(STEP_PREPARATION))?;
        }
    }
    set_up_stdio(plan.stdio).map_err(failed(STEP_PREPARATION))?;
    if let Some(directory) = &plan.directory {
        // SAFETY: a C string.
        unsafe { call(libc::SYS_chdir, [directory.as_ptr() as usize, 0, 0, 0, 0]) }.map_err(failed(STEP_DIRECTORY))?;
    }
    if let Some(umask) = plan.umask {
        // SAFETY: changes this process's mask, which it does not share; cannot fail.
        let _ = unsafe { call(libc::SYS_umask, [umask as usize, 0, 0, 0, 0]) };
    }
    reset_signals(plan.restore_signals);
    if plan.new_session {
        // SAFETY: no arguments.
        unsafe { call(libc::SYS_setsid, [0; 5]) }.map_err(failed(STEP_PREPARATION))?;
    }
    if let Some(group) = plan.process_group {
        // SAFETY: numbers only.
        unsafe { call(libc::SYS_setpgid, [0, group as usize, 0, 0, 0]) }.map_err(failed(STEP_PREPARATION))?;
    }
    if plan.close_others {
        close_others(block);
    }
    // Signals that came in the meantime act now, by their default.
    set_signal_mask(block.signal_mask);
    Ok(())
}

/// The first error that is not about a missing file is the one to tell.
fn execute(block: &Block) -> Result<Never, i32> {
    let mut telling = None;
    let mut last = libc::ENOENT;
    for program in &block.plan.programs {
        let arguments = block.arguments.as_ptr() as usize;
        let environment = block.environment.as_ptr() as usize;
        // SAFETY: C strings, and tables of them that end with null. Returns only on failure.
        let executed = unsafe {
            call(
                libc::SYS_execve,
                [program.as_ptr() as usize, arguments, environment, 0, 0],
            )
        };
        if let Err(errno) = executed {
            last = errno;
            if errno != libc::ENOENT && errno != libc::ENOTDIR && telling.is_none() {
                telling = Some(errno);
            }
        }
    }
    Err(STEP_PROGRAM + telling.unwrap_or(last))
}

fn close(fd: RawFd) -> Answer {
    // SAFETY: this process's own table.
    unsafe { call(libc::SYS_close, [fd as usize, 0, 0, 0, 0]) }
}

fn set_close_on_exec(fd: RawFd, on: bool) -> Answer {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: as above.
    unsafe {
        call(
            libc::SYS_fcntl,
            [fd as usize, libc::F_SETFD as usize, flags as usize, 0, 0],
        )
    }
}

fn duplicate_above(fd: RawFd, lowest: usize) -> Result<RawFd, i32> {
    // SAFETY: as above.
    unsafe {
        call(
            libc::SYS_fcntl,
            [fd as usize, libc::F_DUPFD_CLOEXEC as usize, lowest, 0, 0],
        )
    }
    .map(|fd| fd as RawFd)
}

/// Makes 0, 1 and 2 of the given descriptors, which may be 0, 1 and 2 in another order.
fn set_up_stdio(mut given: [RawFd; 3]) -> Result<(), i32> {
    for (place, fd) in given.iter_mut().enumerate() {
        // It would be overwritten before its turn.
        if *fd >= 0 && (*fd as usize) < place {
            *fd = duplicate_above(*fd, 3)?;
        }
    }
    for (place, fd) in given.iter().enumerate() {
        if *fd == place as RawFd {
            set_close_on_exec(*fd, false)?;
        } else if *fd != -1 {
            // Also what cannot be a descriptor: the kernel says so.
            // SAFETY: this process's own table.
            unsafe { call(libc::SYS_dup3, [*fd as usize, place, 0, 0, 0]) }?;
        }
    }
    Ok(())
}

/// The kernel's `struct sigaction`: handler, flags, restorer, mask.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// Handlers are the parent's code: none may run here. What is ignored stays ignored, as over any exec.
fn reset_signals(restore: bool) {
    let default = Action {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    for signal in 1..=SIGNAL_MAX {
        let mut action = Action { ..default };
        let restored = restore && (signal == libc::SIGPIPE as usize || signal == libc::SIGXFSZ as usize);
        // SAFETY: room for one action.
        let read = unsafe {
            call(
                libc::SYS_rt_sigaction,
                [signal, 0, &raw mut action as usize, SIGNAL_SET_LEN, 0],
            )
        };
        let ignored = action.handler == libc::SIG_IGN;
        if read.is_err() || action.handler == libc::SIG_DFL || ignored && !restored {
            continue;
        }
        // SAFETY: one action. SIGKILL and SIGSTOP never get here: they have no handler.
        let _ = unsafe {
            call(
                libc::SYS_rt_sigaction,
                [signal, &raw const default as usize, 0, SIGNAL_SET_LEN, 0],
            )
        };
    }
}

fn set_signal_mask(mask: u64) {
    let mask = &raw const mask;
    // SAFETY: one set of that length.
    let _ = unsafe {
        call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as usize, mask as usize, 0, SIGNAL_SET_LEN, 0],
        )
    };
}

/// Closes all above 2 but what is kept and the exec pipe, which closes by itself.
fn close_others(block: &Block) {
    let mut first = 3;
    let mut next = 0;
    loop {
        let kept = following(block, next);
        let last = kept.map_or(u32::MAX as usize, |fd| (fd as usize).wrapping_sub(1));
        if kept.is_none_or(|fd| fd as usize > first) && close_range(first, last).is_err() {
            return close_one_by_one(block);
        }
        let Some(fd) = kept else { return };
        first = first.max(fd as usize + 1);
        next = fd + 1;
    }
}

/// The smallest descriptor from `from` on that stays open.
fn following(block: &Block, from: RawFd) -> Option<RawFd> {
    let kept = block.plan.kept.iter().copied();
    kept.chain([block.exec_pipe]).filter(|fd| *fd >= from && *fd > 2).min()
}

fn close_range(first: usize, last: usize) -> Answer {
    // SAFETY: this process's own table.
    unsafe { call(libc::SYS_close_range, [first, last, 0, 0, 0]) }
}

fn stays(block: &Block, fd: RawFd) -> bool {
    fd <= 2 || fd == block.exec_pipe || block.plan.kept.contains(&fd)
}

/// Before Linux 5.9, or where a sandbox does not know `close_range`.
#[cold]
fn close_one_by_one(block: &Block) {
    if close_listed(block).is_err() {
        for fd in 3..block.descriptors_max as RawFd {
            if !stays(block, fd) {
                let _ = close(fd);
            }
        }
    }
}

/// Closes what `/proc/self/fd` lists.
fn close_listed(block: &Block) -> Result<(), i32> {
    /// `struct linux_dirent64` up to the name.
    const NAME_AT: usize = 19;
    const LEN_AT: usize = 16;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let path: *const c_char = c"/proc/self/fd".as_ptr();
    // SAFETY: a C string.
    let listing = unsafe {
        call(
            libc::SYS_openat,
            [libc::AT_FDCWD as usize, path as usize, flags as usize, 0, 0],
        )
    }?;
    let mut buffer = [0_u64; 128];
    loop {
        let room = size_of_val(&buffer);
        let data = buffer.as_mut_ptr();
        // SAFETY: `room` bytes, aligned for the entries.
        let len = unsafe { call(libc::SYS_getdents64, [listing, data as usize, room, 0, 0]) }?;
        if len == 0 {
            break;
        }
        let mut at = 0;
        while at + NAME_AT < len {
            // SAFETY: the kernel wrote `len` bytes of whole entries; `at` is the start of one.
            let entry = unsafe { data.cast::<u8>().add(at) };
            // SAFETY: within the entry.
            let entry_len = unsafe { entry.add(LEN_AT).cast::<u16>().read_unaligned() };
            let mut number = None;
            let mut place = NAME_AT;
            while place < usize::from(entry_len) {
                // SAFETY: within the entry.
                let byte = unsafe { entry.add(place).read() };
                if !byte.is_ascii_digit() {
                    break;
                }
                number = Some(
                    number
                        .unwrap_or(0_i32)
                        .wrapping_mul(10)
                        .wrapping_add(RawFd::from(byte - b'0')),
                );
                place += 1;
            }
            if let Some(fd) = number
                && fd as usize != listing
                && !stays(block, fd)
            {
                let _ = close(fd);
            }
            at += usize::from(entry_len).max(1);
        }
    }
    close(listing as RawFd).map(drop)
}
