//! What stands for `faults.rs` in builds without the feature `faults`: every call goes through as it is.

use std::io;

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_read(len: usize) -> io::Result<usize> {
    Ok(len)
}

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_write(len: usize) -> io::Result<usize> {
    Ok(len)
}

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_datagram() -> io::Result<()> {
    Ok(())
}

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_accept() -> io::Result<()> {
    Ok(())
}

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_watch() -> io::Result<()> {
    Ok(())
}

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_wait() -> io::Result<()> {
    Ok(())
}

#[inline]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn before_spawn() -> io::Result<()> {
    Ok(())
}
