//! The descriptor table over real sockets: one case after the other, and against a model (`models/registry.rs`).

#![cfg(not(loom))]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{NUMBERS, Step, full_pair, pair, rename, run, turn};
use proptest::prelude::*;
use reactor::{Events, Interest, Registry, Token};

#[path = "models/registry.rs"]
mod model;

/// One test at a time: a number that one has closed must not be opened by another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn owners_come_back() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, _other) = pair();
    let fd = one.as_raw_fd();
    assert_eq!(registry.set_reader(fd, 1).unwrap(), None);
    assert_eq!(registry.set_reader(fd, 2).unwrap(), Some(1));
    assert_eq!(registry.set_writer(fd, 3).unwrap(), None);
    assert_eq!(
        (registry.reader(fd), registry.writer(fd), registry.len()),
        (Some(&2), Some(&3), 1)
    );
    let mut seen = Vec::new();
    registry.for_each(|owner| seen.push(*owner));
    assert_eq!(seen, [2, 3]);
    assert_eq!(registry.clear_reader(fd), Some(2));
    assert_eq!(registry.clear_reader(fd), None);
    assert_eq!(registry.len(), 1);
    assert_eq!(registry.clear_writer(fd), Some(3));
    assert!(registry.is_empty());
    assert_eq!(
        (
            registry.clear_writer(fd),
            registry.clear_writer(9999),
            registry.clear_reader(-1)
        ),
        (None, None, None)
    );
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no epoll with a regular file")]
fn a_refused_owner_comes_back_with_the_error() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    for fd in [-1, i32::MAX, 100_000] {
        let (error, owner) = registry.set_reader(fd, "mine").unwrap_err();
        assert_eq!((error.raw_os_error(), owner), (Some(libc::EBADF), "mine"));
        assert_eq!(registry.reader(fd), None);
    }
    let file = std::fs::File::open("/proc/self/cmdline").unwrap();
    let (error, _) = registry.set_writer(file.as_raw_fd(), "mine").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert!(registry.is_empty());

    // The same with an owner on the other side: it stays.
    let (one, _other) = pair();
    let fd = one.as_raw_fd();
    registry.set_reader(fd, "reader").unwrap();
    drop(one);
    let (error, owner) = registry.set_writer(fd, "writer").unwrap_err();
    assert_eq!((error.raw_os_error(), owner), (Some(libc::EBADF), "writer"));
    assert_eq!(
        (registry.reader(fd), registry.writer(fd), registry.len()),
        (Some(&"reader"), None, 1)
    );
    assert_eq!(registry.clear_reader(fd), Some("reader"));
}

#[test]
fn a_reused_number_is_added_again() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, _other) = pair();
    let fd = one.as_raw_fd();
    registry.set_reader(fd, 1).unwrap();
    let (replacement, mut its_peer) = pair();
    rename(&replacement, &one);
    // The kernel forgot the registration with the old file; MOD says ENOENT, and ADD covers both sides.
    registry.set_writer(fd, 2).unwrap();
    its_peer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), [(fd, 'r', 1), (fd, 'w', 2)]);
}

#[test]
fn a_number_known_to_the_kernel_only_is_modified() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, mut other) = pair();
    let fd = one.as_raw_fd();
    registry
        .poller()
        .add(fd, Token::RESERVED.raw(), Interest::WRITABLE)
        .unwrap();
    registry.set_reader(fd, 1).unwrap();
    other.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), [(fd, 'r', 1)]);
}

#[test]
fn stale_tokens_find_nothing() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, mut other) = pair();
    let fd = one.as_raw_fd();
    other.write_all(b"x").unwrap();
    registry.set_reader(fd, 1).unwrap();
    let mut events = Events::default();
    registry.poller().wait(&mut events, Some(0)).unwrap();
    let token = events.get(0).unwrap().token;
    assert_eq!(registry.lookup(token), Some(fd));
    // An earlier event of the same batch closed the descriptor, and a new one got its number.
    registry.clear_reader(fd);
    registry.set_reader(fd, 2).unwrap();
    assert_eq!(registry.lookup(token), None);
    assert!(!registry.disarm_idle(token));
    assert_eq!(turn(&mut registry), [(fd, 'r', 2)]);
    assert_eq!(registry.lookup(Token::RESERVED.raw()), None);
    assert_eq!(registry.lookup(Token::new(9999, 0).raw()), None);
}

#[test]
fn a_lingering_reader_costs_nothing_and_is_disarmed_by_an_event() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, mut other) = pair();
    let fd = one.as_raw_fd();
    registry.set_reader(fd, 1).unwrap();
    assert_eq!(registry.linger_reader(fd), Some(1));
    assert_eq!((registry.linger_reader(fd), registry.len()), (None, 0));
    // Still armed: asking the kernel to add it says so.
    let again = registry.poller().add(fd, 0, Interest::READABLE);
    assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EEXIST));
    assert_eq!(registry.set_reader(fd, 2).unwrap(), None);
    other.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), [(fd, 'r', 2)]);

    registry.linger_reader(fd);
    assert_eq!(turn(&mut registry), []);
    let gone = registry.poller().remove(fd);
    assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::ENOENT), "disarmed");
    registry.set_reader(fd, 3).unwrap();
    assert_eq!(turn(&mut registry), [(fd, 'r', 3)]);

    // With a writer beside it, only the reading side goes.
    registry.set_writer(fd, 4).unwrap();
    registry.linger_reader(fd);
    assert_eq!(turn(&mut registry), [(fd, 'w', 4)]);
    assert_eq!(turn(&mut registry), [(fd, 'w', 4)]);
    assert_eq!(registry.clear_writer(fd), Some(4));
    assert_eq!(
        registry.poller().remove(fd).unwrap_err().raw_os_error(),
        Some(libc::ENOENT)
    );
}

#[test]
fn a_lingering_reader_of_a_closed_socket_is_noticed_when_verified() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, _other) = pair();
    let fd = one.as_raw_fd();
    registry.set_reader(fd, 1).unwrap();
    registry.linger_reader(fd);
    let (replacement, mut its_peer) = pair();
    rename(&replacement, &one);
    its_peer.write_all(b"x").unwrap();
    assert_eq!(registry.set_reader_verified(fd, 2).unwrap(), None);
    assert_eq!(turn(&mut registry), [(fd, 'r', 2)]);
    assert_eq!(registry.set_reader_verified(fd, 3).unwrap(), Some(2));

    registry.linger_reader(fd);
    drop(one);
    let (error, owner) = registry.set_reader_verified(fd, 4).unwrap_err();
    assert_eq!((error.raw_os_error(), owner), (Some(libc::EBADF), 4));
}

#[test]
fn a_file_that_outlives_its_number_is_told_apart_and_left_behind() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, mut other) = pair();
    let fd = one.as_raw_fd();
    registry.set_reader(fd, 1).unwrap();
    registry.linger_reader(fd);
    // Closed without a word, while a duplicate keeps the file alive; the number is used again.
    let _duplicate = one.try_clone().unwrap();
    let (replacement, mut its_peer) = pair();
    rename(&replacement, &one);
    assert_eq!(registry.set_reader_verified(fd, 2).unwrap(), None);
    other.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), [], "not news for the new owner");
    let mut events = Events::default();
    assert_eq!(
        registry.poller().wait(&mut events, Some(0)).unwrap(),
        1,
        "but reported for ever"
    );
    assert_eq!(registry.lookup(events.get(0).unwrap().token), None);

    let (waker, mut its_bell) = pair();
    let add = |poller: &reactor::Poller| poller.add(waker.as_raw_fd(), Token::RESERVED.raw(), Interest::READABLE);
    registry.rebuild(add).unwrap();
    assert_eq!(registry.poller().wait(&mut events, Some(0)).unwrap(), 0);
    its_peer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), [(fd, 'r', 2)]);
    its_bell.write_all(b"x").unwrap();
    assert_eq!(registry.poller().wait(&mut events, Some(0)).unwrap(), 2);
}

#[test]
fn rebuilding_keeps_owners_and_drops_what_lingers() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let pairs: Vec<_> = (0..4).map(|_| full_pair()).collect();
    let fds: Vec<_> = pairs.iter().map(|(one, _)| one.as_raw_fd()).collect();
    registry.set_reader(fds[0], 1).unwrap();
    registry.set_writer(fds[1], 2).unwrap();
    registry.set_reader(fds[2], 3).unwrap();
    registry.linger_reader(fds[2]);
    registry.set_reader(fds[3], 4).unwrap();
    registry.set_writer(fds[3], 5).unwrap();
    registry.linger_reader(fds[3]);
    let refused = registry.rebuild(|_| Err(std::io::ErrorKind::Other.into()));
    assert!(refused.is_err(), "and nothing has changed");
    for _ in 0..2 {
        registry.rebuild(|_| Ok(())).unwrap();
        assert_eq!(registry.len(), 3);
        assert_eq!(
            turn(&mut registry),
            [(fds[0], 'r', 1), (fds[1], 'w', 2), (fds[3], 'w', 5)]
        );
        let mut events = Events::default();
        assert_eq!(registry.poller().wait(&mut events, Some(0)).unwrap(), 3);
    }
    registry.set_reader(fds[2], 6).unwrap();
    assert_eq!(registry.clear_writer(fds[1]), Some(2));
    assert_eq!(
        turn(&mut registry),
        [(fds[0], 'r', 1), (fds[2], 'r', 6), (fds[3], 'w', 5)]
    );
}

#[test]
fn forget_is_for_the_moment_before_closing() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let (one, mut other) = pair();
    let fd = one.as_raw_fd();
    registry.set_reader(fd, 1).unwrap();
    registry.set_writer(fd, 2).unwrap();
    assert_eq!(registry.forget(fd), (Some(1), Some(2)));
    assert_eq!(
        (registry.forget(fd), registry.forget(9999), registry.forget(-5)),
        ((None, None), (None, None), (None, None))
    );
    assert!(registry.is_empty());
    other.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), []);

    registry.set_reader(fd, 3).unwrap();
    registry.linger_reader(fd);
    registry.forget(fd);
    let (replacement, mut its_peer) = pair();
    rename(&replacement, &one);
    registry.set_reader(fd, 4).unwrap();
    its_peer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut registry), [(fd, 'r', 4)]);
}

#[test]
fn take_all_empties_table_and_kernel() {
    let _alone = alone();
    let mut registry = Registry::new().unwrap();
    let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
    for (number, (one, _)) in pairs.iter().enumerate() {
        registry.set_reader(one.as_raw_fd(), number as u32).unwrap();
        registry.set_writer(one.as_raw_fd(), 100 + number as u32).unwrap();
    }
    registry.linger_reader(pairs[0].0.as_raw_fd());
    let mut owners = registry.take_all();
    owners.sort_unstable();
    assert_eq!(owners, (1..10).chain(100..110).collect::<Vec<_>>());
    assert!(registry.is_empty());
    assert_eq!(turn(&mut registry), []);
    registry.set_writer(pairs[3].0.as_raw_fd(), 7).unwrap();
    assert_eq!(turn(&mut registry), [(pairs[3].0.as_raw_fd(), 'w', 7)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 300 }))]

    #[test]
    fn the_kernel_reports_what_owners_wait_for(
        steps in prop::collection::vec((0..NUMBERS, prop::sample::select(Step::ALL.to_vec())), 1..60),
    ) {
        let _alone = alone();
        run(steps);
    }
}
