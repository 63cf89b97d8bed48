//! The system calls that rustix does not wrap the way we need, and the one place where a plain number becomes a
//! borrowed descriptor. Together with the tick counter in `clock.rs` this is all the unsafe code of the crate.
//!
//! Descriptors arrive as numbers because their owner is elsewhere (in practice a Python socket object), and that owner
//! may close them at any moment. So nothing here may assume that a number is open: each borrow lasts for one system
//! call, which answers `EBADF` if it is not.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use rustix::event::epoll;
use rustix::time::Timespec;

/// The process id, asked anew each time: the way to notice that the process forked.
pub fn getpid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

/// Lends `fd` to one system call.
#[inline]
pub(crate) fn borrow<'fd>(fd: RawFd) -> io::Result<BorrowedFd<'fd>> {
    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: not -1, as checked. That the number stays open cannot be known here (see the head of this file); every
    // user passes the result to a single system call and drops it, and the kernel checks the number.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `epoll_pwait2(2)`, Linux 5.11: a timeout in nanoseconds. Replaces what `list` holds and uses its capacity.
///
/// rustix calls it only when built for kernels that surely have it, or for timeouts too long for milliseconds.
#[inline]
pub(crate) fn epoll_pwait2(
    epoll: BorrowedFd<'_>,
    list: &mut Vec<epoll::Event>,
    timeout: &Timespec,
) -> io::Result<usize> {
    list.clear();
    let room = libc::c_int::try_from(list.capacity()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `list` has room for `room` events, laid out as the kernel's (rustix's `Event` is `struct epoll_event`),
    // and `timeout` is the kernel's 64-bit timespec on every target. Both live until the call returns. The signal mask
    // is null, so its size is not looked at.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            list.as_mut_ptr(),
            room,
            ptr::from_ref(timeout),
            ptr::null::<libc::sigset_t>(),
            0_usize,
        )
    };
    let Ok(ready) = usize::try_from(ready) else {
        return Err(io::Error::last_os_error());
    };
    debug_assert!(ready <= list.capacity());
    // SAFETY: the kernel has written the first `ready` events, and never more than `room`, which is at most the
    // capacity.
    unsafe { list.set_len(ready) };
    Ok(ready)
}
