//! Epoll with real pipes and sockets: what is reported, and when.

#![cfg(not(loom))]

use std::io::{ErrorKind, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use reactor::{Events, Interest, Poller, Readiness, Waker, now_ns};

/// What is ready now, in the order of the tokens.
fn ready(poller: &Poller) -> Vec<(u64, Readiness)> {
    let mut events = Events::default();
    poller.wait(&mut events, Some(0)).unwrap();
    let mut ready: Vec<_> = events.iter().map(|event| (event.token, event.readiness)).collect();
    ready.sort_unstable_by_key(|entry| entry.0);
    ready
}

#[test]
fn reports_readiness_until_it_is_gone() {
    let poller = Poller::new().unwrap();
    let (mut reader, mut writer) = pipe().unwrap();
    poller.add(reader.as_raw_fd(), 1, Interest::READABLE).unwrap();
    assert_eq!(ready(&poller), []);
    writer.write_all(b"ab").unwrap();
    assert_eq!(ready(&poller), [(1, Readiness::READABLE)]);
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(
        ready(&poller),
        [(1, Readiness::READABLE)],
        "level-triggered: one byte is left"
    );
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(ready(&poller), []);
}

#[test]
fn interest_can_change_and_end() {
    let poller = Poller::new().unwrap();
    let (one, mut other) = UnixStream::pair().unwrap();
    let fd = one.as_raw_fd();
    other.write_all(b"x").unwrap();
    poller.add(fd, 1, Interest::BOTH).unwrap();
    let token = ready(&poller);
    assert_eq!((token[0].0, token[0].1.bits()), (1, 3));
    poller.modify(fd, u64::MAX, Interest::WRITABLE).unwrap();
    assert_eq!(ready(&poller), [(u64::MAX, Readiness::WRITABLE)]);
    poller.modify(fd, 3, Interest::NONE).unwrap();
    assert_eq!(ready(&poller), []);
    assert_eq!(
        poller.add(fd, 4, Interest::READABLE).unwrap_err().raw_os_error(),
        Some(libc::EEXIST)
    );
    poller.remove(fd).unwrap();
    assert_eq!(poller.remove(fd).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(
        poller.modify(fd, 4, Interest::READABLE).unwrap_err().raw_os_error(),
        Some(libc::ENOENT)
    );
}

#[test]
fn hang_ups_reach_whoever_waits() {
    let poller = Poller::new().unwrap();
    let (reader, writer) = pipe().unwrap();
    poller.add(writer.as_raw_fd(), 1, Interest::WRITABLE).unwrap();
    drop(reader);
    let events = ready(&poller);
    assert!(
        events[0].1.is_writable() && events[0].1.is_readable(),
        "EPOLLERR counts as both"
    );

    let (reader, writer) = pipe().unwrap();
    poller.add(reader.as_raw_fd(), 2, Interest::READABLE).unwrap();
    drop(writer);
    assert!(
        ready(&poller)
            .iter()
            .any(|&(token, readiness)| token == 2 && readiness.is_readable())
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no shutdown of a socket pair")]
fn a_half_closed_peer_is_readable_only() {
    let poller = Poller::new().unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    poller.add(one.as_raw_fd(), 1, Interest::READABLE).unwrap();
    other.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(ready(&poller), [(1, Readiness::READABLE)]);
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no epoll with a regular file")]
fn bad_descriptors_are_errors() {
    let poller = Poller::new().unwrap();
    for fd in [-1, i32::MIN, i32::MAX] {
        assert_eq!(
            poller.add(fd, 0, Interest::READABLE).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert_eq!(poller.remove(fd).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
    let file = std::fs::File::open("/proc/self/cmdline").unwrap();
    let answer = poller.add(file.as_raw_fd(), 0, Interest::READABLE);
    assert_eq!(
        answer.unwrap_err().kind(),
        ErrorKind::PermissionDenied,
        "files never block"
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no epoll_pwait2")]
fn timeouts_are_never_early_and_take_nanoseconds() {
    let poller = Poller::new().unwrap();
    let mut events = Events::default();
    let mut shortest = u64::MAX;
    for timeout_ns in [1, 999, 50_000, 300_000, 999_999, 1_000_000, 1_500_000, 3_000_001] {
        let start = now_ns();
        assert_eq!(poller.wait(&mut events, Some(timeout_ns)).unwrap(), 0);
        let waited = now_ns() - start;
        assert!(waited >= timeout_ns, "waited {waited} ns of {timeout_ns}");
        shortest = shortest.min(waited);
    }
    assert!(
        shortest < 1_000_000,
        "no wait was shorter than a millisecond: {shortest} ns"
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no epoll_pwait2")]
fn zero_and_huge_timeouts() {
    let poller = Poller::new().unwrap();
    let waker = Waker::new().unwrap();
    poller.add(waker.as_raw_fd(), 9, Interest::READABLE).unwrap();
    let mut events = Events::default();
    assert_eq!(poller.wait(&mut events, Some(0)).unwrap(), 0);
    for timeout_ns in [None, Some(u64::MAX), Some(1 << 62)] {
        thread::scope(|scope| {
            scope.spawn(|| waker.force_notify());
            assert_eq!(poller.wait(&mut events, timeout_ns).unwrap(), 1);
        });
        assert_eq!(events.get(0).unwrap().token, 9);
        assert_eq!(events.get(1), None);
        waker.drain();
        assert_eq!(ready(&poller), []);
    }
}

#[test]
fn the_list_grows_when_a_wait_filled_it() {
    let poller = Poller::new().unwrap();
    let pipes: Vec<_> = (0..40).map(|_| pipe().unwrap()).collect();
    for (index, (_, writer)) in pipes.iter().enumerate() {
        poller
            .add(writer.as_raw_fd(), index as u64, Interest::WRITABLE)
            .unwrap();
    }
    let mut events = Events::with_capacity(0);
    let mut lens = Vec::new();
    for _ in 0..8 {
        lens.push(poller.wait(&mut events, Some(0)).unwrap());
        assert_eq!(events.iter().count(), events.len());
    }
    assert_eq!(lens, [1, 2, 4, 8, 16, 32, 40, 40]);
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no epoll_pwait2")]
fn a_limited_wait_begins_with_those_not_reported_last() {
    let poller = Poller::new().unwrap();
    let pairs: Vec<_> = (0..5).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (one, mut other)) in pairs.iter().map(|(one, other)| (one, other)).enumerate() {
        poller.add(one.as_raw_fd(), token as u64, Interest::READABLE).unwrap();
        other.write_all(b"x").unwrap();
    }
    for timeout_ns in [Some(0), Some(1_000), None] {
        let mut events = Events::default();
        events.set_limit(2);
        let mut seen = Vec::new();
        for _ in 0..5 {
            assert_eq!(poller.wait(&mut events, timeout_ns).unwrap(), 2);
            seen.extend(events.iter().map(|event| event.token));
        }
        for token in 0..5 {
            assert_eq!(seen.iter().filter(|&&other| other == token).count(), 2, "{seen:?}");
        }
        events.set_limit(0);
        assert_eq!(
            poller.wait(&mut events, timeout_ns).unwrap(),
            1,
            "a wait for nothing would not end"
        );
        events.set_limit(usize::MAX);
        assert_eq!(poller.wait(&mut events, timeout_ns).unwrap(), 5);
    }
}

#[test]
fn the_poller_is_closed_on_exec() {
    let poller = Poller::new().unwrap();
    // SAFETY: reads the flags of a descriptor we own.
    let flags = unsafe { libc::fcntl(poller.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
}

/// `EINTR` comes back: a signal handler may have to run before the wait goes on. A timer of this thread delivers the
/// signal.
#[test]
#[cfg_attr(miri, ignore = "Miri has no sigaction")]
fn a_signal_ends_the_wait() {
    extern "C" fn ignore(_: libc::c_int) {}
    let poller = Poller::new().unwrap();
    let mut events = Events::default();
    let handler = ignore as extern "C" fn(libc::c_int);
    // SAFETY: installs a handler that does nothing, without SA_RESTART; no other test uses SIGUSR2.
    let waiting = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
        libc::pthread_self()
    };
    thread::scope(|scope| {
        let (done, finished) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            // Repeats, since the first one may arrive before the wait has begun.
            while finished.recv_timeout(std::time::Duration::from_millis(2))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                // SAFETY: the thread is alive, it waits for the end of this scope.
                unsafe { libc::pthread_kill(waiting, libc::SIGUSR2) };
            }
        });
        let answer = poller.wait(&mut events, None);
        drop(done);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(events.is_empty());
    });
}
