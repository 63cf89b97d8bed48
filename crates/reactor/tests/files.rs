//! Calls on pipes and files.

#![cfg(not(loom))]

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use reactor::files::{self, Kind};

#[test]
fn what_descriptors_are() {
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(files::kind(reader.as_raw_fd()).unwrap(), Kind::Fifo);
    assert_eq!(files::kind(writer.as_raw_fd()).unwrap(), Kind::Fifo);
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(files::kind(one.as_raw_fd()).unwrap(), Kind::Socket);
    assert_eq!(
        files::kind(File::open("/dev/null").unwrap().as_raw_fd()).unwrap(),
        Kind::Device
    );
    assert_eq!(files::kind(File::open("/").unwrap().as_raw_fd()).unwrap(), Kind::Other);
    assert_eq!(files::kind(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no ioctl on a pipe")]
fn a_pipe_that_does_not_wait() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (reading, writing) = (reader.as_raw_fd(), writer.as_raw_fd());
    files::set_nonblocking(reading).unwrap();
    files::set_nonblocking(writing).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 8];
    assert_eq!(
        files::read(reading, &mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(files::write(writing, b"hello").unwrap(), 5);
    assert_eq!(files::read(reading, &mut buffer).unwrap(), 5);
    while files::write(writing, &[0; 4096]).is_ok() {}
    assert_eq!(files::write(writing, b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(writer);
    let mut rest = vec![MaybeUninit::uninit(); 1 << 20];
    while files::read(reading, &mut rest).unwrap() > 0 {}
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no sendfile")]
fn a_file_goes_into_a_socket() {
    let path = std::env::temp_dir().join(format!("asynchrotron-file-{}", std::process::id()));
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(b"0123456789").unwrap();
    let (one, mut other) = UnixStream::pair().unwrap();
    let (to, from) = (one.as_raw_fd(), file.as_raw_fd());
    let send = |offset, count| files::sendfile(to, from, offset, count);
    assert_eq!(send(2, 5).unwrap(), 5);
    assert_eq!(send(8, 100).unwrap(), 2);
    assert_eq!(send(10, 1).unwrap(), 0);
    let mut got = [0; 7];
    other.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"2345689");
    assert_eq!(file.stream_position().unwrap(), 10);
    drop(other);
    assert_eq!(send(0, 1).unwrap_err().kind(), ErrorKind::BrokenPipe);
}
