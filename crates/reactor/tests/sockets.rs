//! Socket calls on real sockets: what they move, and which error they answer.

#![cfg(not(loom))]

use std::io::{ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use reactor::{files, sockets};

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no shutdown of a socket pair")]
fn bytes_arrive_and_the_stream_ends() {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let mut raw = [MaybeUninit::uninit(); 16];
    let mut plain = [0_u8; 16];
    assert_eq!(
        sockets::recv(one.as_raw_fd(), &mut raw).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        sockets::recv_into(one.as_raw_fd(), &mut plain).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(sockets::send(other.as_raw_fd(), b"hello world").unwrap(), 11);
    assert_eq!(sockets::recv(one.as_raw_fd(), &mut raw[..5]).unwrap(), 5);
    assert_eq!(sockets::recv_into(one.as_raw_fd(), &mut plain).unwrap(), 6);
    assert_eq!(&plain[..6], b" world");
    sockets::shutdown_write(other.as_raw_fd()).unwrap();
    assert_eq!(sockets::recv(one.as_raw_fd(), &mut raw).unwrap(), 0);
    assert_eq!(
        sockets::recv(-1, &mut raw).unwrap_err().raw_os_error(),
        Some(libc::EBADF)
    );
}

/// Rust programs start with SIGPIPE ignored; with the default put back, the test would die of one.
#[test]
#[cfg_attr(miri, ignore = "Miri has no recvmsg")]
fn two_places_are_filled_in_order() {
    let (one, other) = UnixStream::pair().unwrap();
    let fd = one.as_raw_fd();
    let (mut first, mut second) = ([MaybeUninit::new(0_u8); 4], [MaybeUninit::new(0_u8); 8]);
    let blocked = sockets::recv_into_two(fd, &mut first, &mut second).unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    let read = |place: &[MaybeUninit<u8>]| {
        // SAFETY: both were initialised above, and a byte has the layout of one that may not be.
        unsafe { std::slice::from_raw_parts(place.as_ptr().cast::<u8>(), place.len()) }.to_vec()
    };
    sockets::send(other.as_raw_fd(), b"abc").unwrap();
    assert_eq!(sockets::recv_into_two(fd, &mut first, &mut second).unwrap(), 3);
    assert_eq!(read(&first[..3]), b"abc");
    sockets::send(other.as_raw_fd(), b"0123456789").unwrap();
    assert_eq!(sockets::recv_into_two(fd, &mut first, &mut second).unwrap(), 10);
    assert_eq!(
        (read(&first), read(&second[..6])),
        (b"0123".to_vec(), b"456789".to_vec())
    );
    drop(other);
    assert_eq!(sockets::recv_into_two(fd, &mut first, &mut second).unwrap(), 0);
    let closed = sockets::recv_into_two(-1, &mut first, &mut second).unwrap_err();
    assert_eq!(closed.raw_os_error(), Some(libc::EBADF));
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no signal")]
fn a_gone_peer_is_an_error_and_no_signal() {
    let (one, other) = UnixStream::pair().unwrap();
    drop(other);
    // SAFETY: no other test of this binary writes where nobody reads.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let sent = sockets::send(one.as_raw_fd(), b"x");
    let gathered = sockets::sendmsg(one.as_raw_fd(), &[IoSlice::new(b"x")]);
    // SAFETY: as it was.
    unsafe { libc::signal(libc::SIGPIPE, before) };
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(gathered.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no sendmsg")]
fn many_pieces_go_in_one_call_and_more_are_cut() {
    let (one, mut other) = UnixStream::pair().unwrap();
    let pieces: Vec<_> = (0..3000).map(|_| IoSlice::new(b"ab")).collect();
    assert_eq!(sockets::sendmsg(one.as_raw_fd(), &pieces).unwrap(), 2048);
    assert_eq!(files::writev(one.as_raw_fd(), &pieces[..3]).unwrap(), 6);
    assert_eq!(sockets::sendmsg(one.as_raw_fd(), &[]).unwrap(), 0);
    let mut received = [0; 2054];
    other.read_exact(&mut received).unwrap();
    assert_eq!(received.to_vec(), b"ab".repeat(1027));

    let (mut reader, writer) = std::io::pipe().unwrap();
    assert_eq!(files::writev(writer.as_raw_fd(), &pieces[..2]).unwrap(), 4);
    reader.read_exact(&mut [0; 4]).unwrap();
    let refused = sockets::sendmsg(writer.as_raw_fd(), &pieces[..2]);
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
}

#[test]
fn accepted_sockets_do_not_block_and_close_on_exec() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(
        sockets::accept4(listener.as_raw_fd()).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = sockets::accept4(listener.as_raw_fd()).unwrap();
    let fd = accepted.as_raw_fd();
    // SAFETY: both read flags of a descriptor we own.
    let (status, descriptor) = unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::fcntl(fd, libc::F_GETFD)) };
    assert_ne!(status & libc::O_NONBLOCK, 0);
    assert_ne!(descriptor & libc::FD_CLOEXEC, 0);
    sockets::send(fd, b"hi").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no SO_PROTOCOL")]
fn nodelay_is_for_tcp_and_harmless_elsewhere() {
    let (client, server) = tcp_pair();
    sockets::set_nodelay(client.as_raw_fd());
    assert!(client.nodelay().unwrap());
    assert!(!server.nodelay().unwrap());
    let (unix, _peer) = UnixStream::pair().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    for fd in [unix.as_raw_fd(), reader.as_raw_fd(), -1] {
        sockets::set_nodelay(fd);
    }
}

#[test]
fn a_failed_connect_leaves_its_error_once() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(address) = unused.local_addr().unwrap() else {
        unreachable!("bound to IPv4")
    };
    drop(unused);
    // SAFETY: a new socket, owned from here on.
    let socket =
        unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)) };
    let fd = socket.as_raw_fd();
    sockets::socket_error(fd).unwrap();
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: a whole sockaddr_in, and its size.
    unsafe { libc::connect(fd, (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) };
    let poller = reactor::Poller::new().unwrap();
    poller.add(fd, 0, reactor::Interest::WRITABLE).unwrap();
    poller.wait(&mut reactor::Events::default(), None).unwrap();
    assert_eq!(
        sockets::socket_error(fd).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    sockets::socket_error(fd).unwrap();
}

/// `O_NONBLOCK` belongs to the open file: whoever shares it, a child process for instance, may take it away.
#[test]
#[cfg_attr(miri, ignore = "Miri has no sendmsg")]
fn sending_never_waits_also_on_a_blocking_socket() {
    let (one, _other) = UnixStream::pair().unwrap();
    one.set_nonblocking(false).unwrap();
    let bytes = [0_u8; 8 * 1024];
    let fill = |send: &dyn Fn() -> std::io::Result<usize>| {
        loop {
            if let Err(error) = send() {
                return error.kind();
            }
        }
    };
    let pieces = [IoSlice::new(&bytes), IoSlice::new(&bytes)];
    assert_eq!(
        fill(&|| sockets::sendmsg(one.as_raw_fd(), &pieces)),
        ErrorKind::WouldBlock
    );
    assert_eq!(fill(&|| sockets::send(one.as_raw_fd(), &bytes)), ErrorKind::WouldBlock);
}
