//! All interleavings of senders and a sleeper that keep the order `waker.rs` asks for. A lost wake-up leaves the
//! sleeper at a bell nobody will ring, which loom reports as a deadlock. Run with `RUSTFLAGS="--cfg loom" cargo test
//! --release --test loom_waker`.

#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use reactor::{Inbox, Waker};

struct Door {
    inbox: Inbox<u32>,
    waker: Waker,
}

impl Door {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inbox: Inbox::new(),
            waker: Waker::new().unwrap(),
        })
    }

    /// What `call_soon_threadsafe` does.
    fn send(&self, item: u32) {
        if self.inbox.push(item).unwrap() {
            self.waker.notify();
        }
    }

    /// One turn of the loop: sleeps only if there is nothing to do, and takes what is there afterwards.
    fn turn(&self, taken: &mut Vec<u32>) {
        if self.inbox.is_empty() {
            self.waker.prepare_sleep();
            if self.inbox.is_empty() {
                self.waker.wait_for_bell();
                self.waker.finish_sleep();
                self.waker.drain();
            } else {
                self.waker.finish_sleep();
            }
        }
        self.inbox.drain_into(taken);
    }
}

/// Bounded to interleavings with few preemptions where three threads would take minutes; three find all known kinds of
/// such bugs.
fn model(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(body);
}

#[test]
fn one_sender_wakes_the_sleeper_each_time() {
    model(None, || {
        let door = Door::new();
        let sender = thread::spawn({
            let door = Arc::clone(&door);
            move || {
                door.send(1);
                door.send(2);
            }
        });
        let mut taken = Vec::new();
        while taken.len() < 2 {
            door.turn(&mut taken);
        }
        assert_eq!(taken, [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_wake_the_sleeper() {
    model(Some(3), || {
        let door = Door::new();
        let senders: Vec<_> = (1..=2)
            .map(|item| {
                let door = Arc::clone(&door);
                thread::spawn(move || door.send(item))
            })
            .collect();
        let mut taken = Vec::new();
        while taken.len() < 2 {
            door.turn(&mut taken);
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// The sleeper also wakes for other reasons (a timer, a socket): then it never heard the bell, and must not miss the
/// next one.
#[test]
fn a_sleep_cut_short_loses_nothing() {
    model(Some(3), || {
        let door = Door::new();
        let sender = thread::spawn({
            let door = Arc::clone(&door);
            move || {
                door.send(1);
                door.send(2);
            }
        });
        let mut taken = Vec::new();
        door.waker.prepare_sleep();
        door.waker.finish_sleep();
        door.inbox.drain_into(&mut taken);
        while taken.len() < 2 {
            door.turn(&mut taken);
        }
        assert_eq!(taken, [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn a_forced_wake_up_is_kept_for_the_next_sleep() {
    model(None, || {
        let door = Door::new();
        let other = thread::spawn({
            let door = Arc::clone(&door);
            move || door.waker.force_notify()
        });
        door.turn(&mut Vec::new());
        other.join().unwrap();
    });
}
