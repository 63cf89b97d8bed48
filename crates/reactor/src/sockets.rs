//! Socket calls on raw descriptors. All are plain: one system call, its error unchanged, `EAGAIN` and `EINTR` included.
//!
//! Python owns the sockets and chooses their options; what is here is what transports do per packet and per connection.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt,
};

use crate::sys::borrow;

/// The kernel takes no more pieces per call (`UIO_MAXIOV`).
const PIECES_LEN_MAX: usize = 1024;

/// `recv(2)` into memory that need not be initialised. The first `n` bytes are then; 0 is the end of the stream.
#[inline]
pub fn recv(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let ((received, _), _) = rustix::net::recv(borrow(fd)?, buffer, RecvFlags::DONTWAIT)?;
    Ok(received.len())
}

/// [`recv`] into memory that is initialised anyway.
#[inline]
pub fn recv_into(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(borrow(fd)?, buffer, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// `send(2)` that answers `EPIPE` rather than raising SIGPIPE. May take less than all.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(
        borrow(fd)?,
        bytes,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?)
}

/// [`send`] of several pieces in one call. Looks at the first 1024 pieces, and may take less than all of those.
#[inline]
pub fn sendmsg(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let pieces = &pieces[..pieces.len().min(PIECES_LEN_MAX)];
    Ok(rustix::net::sendmsg(
        borrow(fd)?,
        pieces,
        &mut SendAncillaryBuffer::default(),
        SendFlags::NOSIGNAL,
    )?)
}

/// As [`sendmsg`] for descriptors that are not sockets. There is no way to ask for no SIGPIPE; Python ignores that
/// signal.
#[inline]
pub fn writev(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let pieces = &pieces[..pieces.len().min(PIECES_LEN_MAX)];
    Ok(rustix::io::writev(borrow(fd)?, pieces)?)
}

/// Accepts one connection, non-blocking and closed on exec.
#[inline]
pub fn accept4(fd: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(
        borrow(fd)?,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    )?)
}

/// Tells the peer that nothing more will be sent.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(borrow(fd)?, Shutdown::Write)?)
}

/// Switches Nagle's algorithm off if `fd` is a TCP socket. Does nothing if it is not, or if the kernel refuses: it is
/// only a matter of speed.
///
/// The kernel is asked what the socket is, because a Python socket made from a descriptor may say `proto=0` for TCP.
pub fn set_nodelay(fd: RawFd) {
    let Ok(fd) = borrow(fd) else { return };
    let is_tcp = matches!(
        sockopt::socket_domain(fd),
        Ok(AddressFamily::INET | AddressFamily::INET6)
    ) && matches!(sockopt::socket_type(fd), Ok(SocketType::STREAM))
        && matches!(sockopt::socket_protocol(fd), Ok(Some(ipproto::TCP)));
    if is_tcp {
        let _ = sockopt::set_tcp_nodelay(fd, true);
    }
}

/// Whether `fd` is a stream socket: reading less than has come leaves the rest.
pub fn is_stream(fd: RawFd) -> bool {
    let Ok(fd) = borrow(fd) else { return false };
    matches!(sockopt::socket_type(fd), Ok(SocketType::STREAM))
}

/// Takes the pending error of the socket (`SO_ERROR`): how a connect ended, for instance. `Ok` if there is none.
pub fn socket_error(fd: RawFd) -> io::Result<()> {
    Ok(sockopt::socket_error(borrow(fd)?)??)
}
