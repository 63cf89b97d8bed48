//! Calls on raw descriptors of any kind: pipes, terminals, files. As in [`sockets`](crate::sockets): one system call, its
//! error unchanged, `EAGAIN` and `EINTR` included.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use rustix::fs::FileType;

use crate::faults;
use crate::sockets::some_of;
use crate::sys::borrow;

/// What a descriptor is open on, as far as waiting for it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pipe, with or without a name.
    Fifo,
    /// A socket of any family.
    Socket,
    /// A character device: a terminal, `/dev/null`.
    Device,
    /// A file, a folder, an eventfd and the like.
    Other,
}

/// `fstat(2)`: what `fd` is.
pub fn kind(fd: RawFd) -> io::Result<Kind> {
    let mode = rustix::fs::fstat(borrow(fd)?)?.st_mode;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::Device,
        _ => Kind::Other,
    })
}

/// What a pipe takes in one piece if the writer's end has `O_DIRECT`: a page at most. A read that has no room for the whole
/// piece loses the rest, and the reader's end does not show what the writer's end is.
pub fn packet_len_max() -> usize {
    rustix::param::page_size()
}

/// Makes calls on the open file answer `EAGAIN` instead of waiting: for all descriptors of it, also in other processes.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(borrow(fd)?, true)?)
}

/// `read(2)` into memory that need not be initialised. The first `n` bytes are then; 0 is the end.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let len = faults::before_read(buffer.len())?;
    let (received, _) = rustix::io::read(borrow(fd)?, &mut buffer[..len])?;
    Ok(received.len())
}

/// `write(2)`. May take less than all. A reader that is gone is `EPIPE`, and SIGPIPE unless the process ignores that
/// signal, as Python does.
#[inline]
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let len = faults::before_write(bytes.len())?;
    Ok(rustix::io::write(borrow(fd)?, &bytes[..len])?)
}

/// [`write`] of several pieces in one call. Looks at the first 1024 pieces, and may take less than all of those.
#[inline]
pub fn writev(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let pieces = some_of(pieces)?;
    Ok(rustix::io::writev(borrow(fd)?, pieces)?)
}

/// `sendfile(2)`: at most `count` bytes of the file `from`, from `offset` on, into the socket `to`. 0 is the end of the
/// file. The file's own position stays as it is.
pub fn sendfile(to: RawFd, from: RawFd, mut offset: u64, count: usize) -> io::Result<usize> {
    let count = faults::before_write(count)?;
    Ok(rustix::fs::sendfile(
        borrow(to)?,
        borrow(from)?,
        Some(&mut offset),
        count,
    )?)
}
