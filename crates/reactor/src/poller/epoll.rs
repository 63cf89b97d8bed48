//! Epoll, level-triggered. `EPOLLRDHUP` and `EPOLLPRI` are not asked for: a half-closed peer shows as readable, then as
//! a read of nothing.
//!
//! The wait takes nanoseconds: `epoll_pwait2` (Linux 5.11), or `epoll_wait` with the time rounded *up* to milliseconds
//! where the kernel or a sandbox refuses it. Never early, so a timer that is not due yet does not make the loop spin.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use super::{Event, Interest, Readiness};
use crate::{faults, sys};

/// Longer waits end after a day with no events, as asyncio's do (`MAXIMUM_SELECT_TIMEOUT`): far below every limit of
/// the kernel's types.
const TIMEOUT_NS_MAX: u64 = 24 * 3600 * 1_000_000_000;
/// A list of events stops growing here; what does not fit is reported by the next wait.
const EVENTS_LEN_MAX: usize = 4096;

/// Set once the kernel has refused `epoll_pwait2`: it will not learn it while we run.
static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

/// Where a wait puts its events. Doubles when a wait filled it.
pub struct Events {
    list: Vec<epoll::Event>,
    limit: usize,
}

impl Events {
    /// A list that takes `capacity` events per wait, at least one.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            list: Vec::with_capacity(capacity.clamp(1, EVENTS_LEN_MAX)),
            limit: EVENTS_LEN_MAX,
        }
    }

    /// The next waits bring at most `limit` events, at least one. The kernel begins with those it did not report last.
    #[inline]
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, EVENTS_LEN_MAX);
    }

    /// How many events a wait brings at most, if the list has room for them.
    #[inline]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many events the last wait left here.
    #[inline]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the last wait left none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The event at `index`, for callers that cannot keep the list borrowed while they act on one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Event> {
        self.list.get(index).map(translate)
    }

    /// The events of the last wait.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list.iter().map(translate)
    }

    #[inline]
    fn grow_if_full(&mut self) {
        let len = self.list.len();
        if len == self.list.capacity() && len < EVENTS_LEN_MAX {
            self.list.reserve_exact(len.min(EVENTS_LEN_MAX - len));
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::with_capacity(64)
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A new instance, closed on exec.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Starts watching `fd`; events carry `token`. `EEXIST` if it is watched already, `EPERM` if it can never block (a
    /// regular file).
    #[inline]
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        faults::before_watch()?;
        Ok(epoll::add(
            &self.epoll,
            sys::borrow(fd)?,
            EventData::new_u64(token),
            flags(interest),
        )?)
    }

    /// Changes token and interest of a watched `fd`. `ENOENT` if it is not watched (closed meanwhile, and the number
    /// used again).
    #[inline]
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            sys::borrow(fd)?,
            EventData::new_u64(token),
            flags(interest),
        )?)
    }

    /// Stops watching `fd`.
    #[inline]
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, sys::borrow(fd)?)?)
    }

    /// Waits until something is ready, `timeout_ns` has passed (`None`: for ever; 0: only looks), or a signal arrived
    /// (`Interrupted`).
    ///
    /// Says how many events `events` now holds: none after the timeout, and none after an error.
    #[inline]
    pub fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize> {
        if let Err(error) = faults::before_wait() {
            events.list.clear();
            return Err(error);
        }
        let ready = match timeout_ns {
            // The older call, because it has no timespec to copy in.
            Some(0) => self.wait_plain(events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })),
            None => self.wait_plain(events, None),
            Some(ns) => self.wait_ns(events, ns.min(TIMEOUT_NS_MAX)),
        }?;
        events.grow_if_full();
        Ok(ready)
    }

    /// `epoll_wait`, whose timeout must be whole milliseconds.
    #[inline]
    fn wait_plain(&self, events: &mut Events, timeout: Option<&Timespec>) -> io::Result<usize> {
        sys::epoll_wait(self.epoll.as_fd(), &mut events.list, events.limit, timeout)
    }

    fn wait_ns(&self, events: &mut Events, ns: u64) -> io::Result<usize> {
        if !NO_PWAIT2.load(Ordering::Relaxed) {
            match sys::epoll_pwait2(self.epoll.as_fd(), &mut events.list, events.limit, &timespec(ns)) {
                // Sandboxes that do not know a call yet answer EPERM where the kernel says ENOSYS; the call itself
                // never does.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    NO_PWAIT2.store(true, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        self.wait_plain(events, Some(&timespec(ns.next_multiple_of(1_000_000))))
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: (ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    }
}

#[inline]
fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.contains(Interest::READABLE));
    flags.set(EventFlags::OUT, interest.contains(Interest::WRITABLE));
    flags
}

#[inline]
fn translate(event: &epoll::Event) -> Event {
    // By value: the kernel's struct is packed on x86_64, so its fields cannot be borrowed.
    let (flags, data) = (event.flags, event.data);
    let failed = EventFlags::ERR | EventFlags::HUP;
    Event {
        token: data.u64(),
        readiness: Readiness::new(
            flags.intersects(EventFlags::IN | failed),
            flags.intersects(EventFlags::OUT | failed),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_hang_ups_are_both_readable_and_writable() {
        let event = |flags| {
            translate(&epoll::Event {
                flags,
                data: EventData::new_u64(7),
            })
            .readiness
        };
        assert_eq!(event(EventFlags::IN), Readiness::READABLE);
        assert_eq!(event(EventFlags::OUT), Readiness::WRITABLE);
        assert_eq!(event(EventFlags::ERR).bits(), 3);
        assert_eq!(event(EventFlags::IN | EventFlags::HUP).bits(), 3);
    }

    #[test]
    fn without_epoll_pwait2_waits_are_rounded_up() {
        NO_PWAIT2.store(true, Ordering::Relaxed);
        let poller = Poller::new().unwrap();
        let mut events = Events::default();
        let start = crate::now_ns();
        assert_eq!(poller.wait(&mut events, Some(1_200_000)).unwrap(), 0);
        let waited = crate::now_ns() - start;
        NO_PWAIT2.store(false, Ordering::Relaxed);
        assert!(
            waited >= 2_000_000,
            "waited {waited} ns instead of two whole milliseconds"
        );
    }
}
