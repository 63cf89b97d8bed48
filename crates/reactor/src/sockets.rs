//! Socket calls on raw descriptors. All are plain: one system call, its error unchanged, `EAGAIN` and `EINTR` included.
//!
//! Python owns the sockets and chooses their options; what is here is what transports do per packet and per connection.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

use crate::address::Address;
use crate::faults;
use crate::sys::{self, borrow};

/// The kernel takes no more pieces per call (`UIO_MAXIOV`).
const PIECES_LEN_MAX: usize = 1024;

/// `recv(2)` into memory that need not be initialised. The first `n` bytes are then; 0 is the end of the stream.
#[inline]
pub fn recv(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let len = faults::before_read(buffer.len())?;
    let ((received, _), _) = rustix::net::recv(borrow(fd)?, &mut buffer[..len], RecvFlags::DONTWAIT)?;
    Ok(received.len())
}

/// [`recv`] into `first`, and into `second` when that is full, in one call.
#[inline]
pub fn recv_into_two(fd: RawFd, first: &mut [MaybeUninit<u8>], second: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let len = faults::before_read(first.len() + second.len())?;
    let first_len = len.min(first.len());
    sys::recv_into_two(borrow(fd)?, &mut first[..first_len], &mut second[..len - first_len])
}

/// [`recv`] into memory that is initialised anyway.
#[inline]
pub fn recv_into(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let len = faults::before_read(buffer.len())?;
    let (received, _) = rustix::net::recv(borrow(fd)?, &mut buffer[..len], RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// `send(2)` that answers `EPIPE` rather than raising SIGPIPE. May take less than all.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let len = faults::before_write(bytes.len())?;
    Ok(rustix::net::send(
        borrow(fd)?,
        &bytes[..len],
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?)
}

/// [`send`] of several pieces in one call. Looks at the first 1024 pieces, and may take less than all of those.
#[inline]
pub fn sendmsg(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let pieces = some_of(pieces)?;
    Ok(rustix::net::sendmsg(
        borrow(fd)?,
        pieces,
        &mut SendAncillaryBuffer::default(),
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?)
}

/// `recvfrom(2)`: one datagram and its sender. What the buffer has no room for is lost.
#[inline]
pub fn recvfrom(fd: RawFd, buffer: &mut [MaybeUninit<u8>], from: &mut Address) -> io::Result<usize> {
    faults::before_datagram()?;
    sys::recvfrom(fd, buffer, from)
}

/// `sendto(2)`: one datagram, all of it or nothing. `to` is an [`Address`]'s bytes.
#[inline]
pub fn sendto(fd: RawFd, bytes: &[u8], to: &[u8]) -> io::Result<usize> {
    faults::before_datagram()?;
    sys::sendto(fd, bytes, to)
}

/// [`sendto`] the one peer of a connected socket.
#[inline]
pub fn send_datagram(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    faults::before_datagram()?;
    Ok(rustix::net::send(
        borrow(fd)?,
        bytes,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?)
}

/// Which family of addresses a socket has, as the system numbers them.
pub fn family(fd: RawFd) -> io::Result<i32> {
    Ok(i32::from(sockopt::socket_domain(borrow(fd)?)?.as_raw()))
}

/// As many pieces as one call takes; fewer under faults, since a cut piece would not be the caller's any more.
#[inline]
pub(crate) fn some_of<'a, 'b>(pieces: &'a [IoSlice<'b>]) -> io::Result<&'a [IoSlice<'b>]> {
    let len = faults::before_write(pieces.len().min(PIECES_LEN_MAX))?;
    Ok(&pieces[..len])
}

/// Accepts one connection, non-blocking and closed on exec.
#[inline]
pub fn accept4(fd: RawFd) -> io::Result<OwnedFd> {
    faults::before_accept()?;
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
/// The kernel is asked what the socket is, because a Python socket made from a descriptor may say `proto=0` for TCP. Its
/// protocol is enough: nothing but a TCP stream takes the option, and a raw socket of this protocol refuses it.
pub fn set_nodelay(fd: RawFd) {
    let Ok(fd) = borrow(fd) else { return };
    if matches!(sockopt::socket_protocol(fd), Ok(Some(ipproto::TCP))) {
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
