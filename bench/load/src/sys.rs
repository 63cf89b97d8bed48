//! The system calls the standard library does not offer: epoll, and the CPU clock of another process.
//! All of the client's unsafe code is here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Readable, or closed by the other side.
pub const IN: u32 = libc::EPOLLIN as u32;
/// Writable again after a short write.
pub const OUT: u32 = libc::EPOLLOUT as u32;

/// One ready descriptor: the index given at registration and the events seen.
pub struct Ready {
    pub index: usize,
    pub events: u32,
}

/// A level-triggered epoll instance.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new(capacity: usize) -> io::Result<Self> {
        // SAFETY: no pointer is passed; the result is checked before it becomes an owner.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just returned to us and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            fd,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)],
        })
    }

    pub fn add(&self, fd: BorrowedFd<'_>, index: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, index, interest)
    }

    pub fn modify(&self, fd: BorrowedFd<'_>, index: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, index, interest)
    }

    /// Waits for at most `timeout_ms` and says how many events can be read with [`Epoll::ready`].
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        let room = self.events.len() as i32;
        // SAFETY: the buffer is ours and `room` entries long.
        let seen = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms) };
        match check(seen) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub fn ready(&self, position: usize) -> Ready {
        let event = self.events[position];
        Ready {
            index: event.u64 as usize,
            events: event.events,
        }
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, index: usize, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest,
            u64: index as u64,
        };
        // SAFETY: both descriptors are open for the length of the call and `event` outlives it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) })?;
        Ok(())
    }
}

/// User plus system time of a process, all its threads included, in nanoseconds.
/// The kernel answers from its scheduler's own sums: the process is not disturbed, and the tick does not matter.
pub fn process_cpu_ns(pid: libc::pid_t) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place to write to.
    let errno = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if errno != 0 {
        return Err(io::Error::from_raw_os_error(errno));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
