//! The system calls that rustix does not wrap the way we need, and the one place where a plain number becomes a
//! borrowed descriptor. Together with the tick counter in `clock.rs` and `children/` this is all the unsafe code of the crate.
//!
//! Descriptors arrive as numbers because their owner is elsewhere (in practice a Python socket object), and that owner
//! may close them at any moment. So nothing here may assume that a number is open: each borrow lasts for one system
//! call, which answers `EBADF` if it is not.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use rustix::event::epoll;
use rustix::time::Timespec;

use crate::address::Address;

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

/// `epoll_wait(2)`. Replaces what `list` holds with `count_max` events at most, and no more than its capacity.
#[inline]
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    list: &mut Vec<epoll::Event>,
    count_max: usize,
    timeout: Option<&Timespec>,
) -> io::Result<usize> {
    list.clear();
    let room = list.capacity().min(count_max);
    let (events, _) = epoll::wait(epoll, &mut list.spare_capacity_mut()[..room], timeout)?;
    let ready = events.len();
    // SAFETY: rustix says that so many events at the beginning of the spare capacity are initialised.
    unsafe { list.set_len(ready) };
    Ok(ready)
}

/// `epoll_pwait2(2)`, Linux 5.11: [`epoll_wait`] with a timeout in nanoseconds.
///
/// rustix calls it only when built for kernels that surely have it, or for timeouts too long for milliseconds.
#[inline]
pub(crate) fn epoll_pwait2(
    epoll: BorrowedFd<'_>,
    list: &mut Vec<epoll::Event>,
    count_max: usize,
    timeout: &Timespec,
) -> io::Result<usize> {
    list.clear();
    let room = libc::c_int::try_from(list.capacity().min(count_max)).unwrap_or(libc::c_int::MAX);
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

/// `recvfrom(2)` without waiting: how many bytes of `buffer` are written, and from whom. rustix decodes the address at
/// each call; here it stays bytes, as most are those of a peer that is known.
#[inline]
pub(crate) fn recvfrom(fd: RawFd, buffer: &mut [MaybeUninit<u8>], from: &mut Address) -> io::Result<usize> {
    let (address, address_len) = from.parts();
    let mut len = address.len() as libc::socklen_t;
    // SAFETY: both places are ours and as long as said; the kernel writes no more than that into either.
    let received = unsafe {
        libc::recvfrom(
            fd,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            address.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    *address_len = (len as usize).min(address.len());
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// `sendto(2)` without waiting.
#[inline]
pub(crate) fn sendto(fd: RawFd, bytes: &[u8], to: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads both slices, as long as they are.
    let sent = unsafe {
        libc::sendto(
            fd,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            to.as_ptr().cast(),
            to.len() as libc::socklen_t,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

unsafe extern "C" {
    // POSIX; not in the libc crate.
    fn inet_ntop(
        family: libc::c_int,
        address: *const libc::c_void,
        text: *mut libc::c_char,
        len: libc::socklen_t,
    ) -> *const libc::c_char;
}

/// `inet_ntop(3)` for an IPv6 address; the text ends with a NUL, and always fits.
pub(crate) fn inet_ntop6(ip: &[u8; 16], text: &mut [u8; 64]) {
    // SAFETY: an address of that family, and room for `INET6_ADDRSTRLEN` (46) bytes.
    unsafe {
        inet_ntop(
            libc::AF_INET6,
            ip.as_ptr().cast(),
            text.as_mut_ptr().cast(),
            text.len() as libc::socklen_t,
        )
    };
}

/// `recvmsg(2)` into two pieces of memory that need not be initialised. rustix takes only what is.
#[inline]
pub(crate) fn recv_into_two(
    fd: BorrowedFd<'_>,
    first: &mut [MaybeUninit<u8>],
    second: &mut [MaybeUninit<u8>],
) -> io::Result<usize> {
    let mut pieces = [first, second].map(|piece| libc::iovec {
        iov_base: piece.as_mut_ptr().cast(),
        iov_len: piece.len(),
    });
    // SAFETY: a struct of C for which zeroes are valid: no address, no ancillary data.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: the message names two pieces of memory that are borrowed for the call, as long as they say.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}
