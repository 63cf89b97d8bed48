//! Senders in several threads wake a sleeper that waits as the event loop does: inbox, waker and poller together. All
//! interleavings of a few steps are in `loom_waker.rs`; here a real descriptor is waited for.

#![cfg(not(loom))]

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;

use reactor::{Events, Inbox, Interest, Poller, Waker};

const SENDERS: usize = 3;
const ITEMS: usize = if cfg!(miri) { 5 } else { 20_000 };

/// Who sent it, and its number, on the heap: one thread allocates it and another frees it.
type Letter = (usize, Box<usize>);

struct Letterbox {
    inbox: Inbox<Letter>,
    waker: Waker,
}

impl Letterbox {
    fn post(&self, sender: usize, number: usize) {
        if self.inbox.push((sender, Box::new(number))).expect("the inbox is open") {
            self.waker.notify();
        }
    }
}

/// What arrived until all had: without a time limit, so a lost wake-up would be a hang.
fn take_all(letterbox: &Letterbox, poller: &Poller) -> Vec<Letter> {
    let (mut events, mut batch, mut taken) = (Events::default(), Vec::new(), Vec::new());
    while taken.len() < SENDERS * ITEMS {
        letterbox.waker.prepare_sleep();
        let timeout = if letterbox.inbox.is_empty() { None } else { Some(0) };
        let rung = poller.wait(&mut events, timeout).unwrap();
        letterbox.waker.finish_sleep();
        if rung > 0 {
            letterbox.waker.drain();
        }
        letterbox.inbox.drain_into(&mut batch);
        taken.append(&mut batch);
    }
    taken
}

#[test]
fn every_item_wakes_the_sleeper_and_each_sender_keeps_its_order() {
    let letterbox = Arc::new(Letterbox {
        inbox: Inbox::new(),
        waker: Waker::new().unwrap(),
    });
    let poller = Poller::new().unwrap();
    poller.add(letterbox.waker.as_raw_fd(), 0, Interest::READABLE).unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let letterbox = Arc::clone(&letterbox);
            thread::spawn(move || (0..ITEMS).for_each(|number| letterbox.post(sender, number)))
        })
        .collect();
    let taken = take_all(&letterbox, &poller);
    for sender in senders {
        sender.join().unwrap();
    }
    for sender in 0..SENDERS {
        let of_one = taken.iter().filter(|item| item.0 == sender).map(|item| *item.1);
        assert!(of_one.eq(0..ITEMS));
    }
    assert!(letterbox.inbox.close().is_empty());
}

#[test]
fn a_closed_inbox_refuses_what_comes_late_and_hands_back_the_rest() {
    let letterbox = Arc::new(Letterbox {
        inbox: Inbox::new(),
        waker: Waker::new().unwrap(),
    });
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let letterbox = Arc::clone(&letterbox);
            thread::spawn(move || {
                let refused = (0..ITEMS).filter_map(|number| letterbox.inbox.push((sender, Box::new(number))).err());
                refused.count()
            })
        })
        .collect();
    let kept = letterbox.inbox.close().len();
    let refused: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    assert_eq!(kept + refused, SENDERS * ITEMS);
}
