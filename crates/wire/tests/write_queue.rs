//! The write queue against the plainest model there is: one vector of bytes. Whatever is pushed, joined, cut by short
//! sends and refused, the kernel sees every byte once and in order.

use std::io::IoSlice;

use proptest::prelude::*;
use wire::write_queue::{QUEUED_LEN_MAX, SEND_AT_ONCE_LEN};
use wire::{Admission, Next, WriteQueue};

type Queue = WriteQueue<Vec<u8>>;

#[derive(Clone, Debug)]
enum Call {
    Keep(usize),
    Copy(usize),
    /// The kernel takes this part (of 256) of what it is shown.
    Send(usize),
    Writable,
    Clear,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    // Lengths around each threshold, and many small ones.
    let len = prop_oneof![
        4 => 0_usize..40,
        2 => 1000_usize..1100,
        1 => 16_000_usize..17_000,
        1 => Just(70_000_usize),
    ];
    let call = prop_oneof![
        4 => len.clone().prop_map(Call::Keep),
        3 => len.prop_map(Call::Copy),
        3 => (0_usize..=256).prop_map(Call::Send),
        1 => Just(Call::Writable),
        1 => Just(Call::Clear),
    ];
    prop::collection::vec(call, 1..120)
}

/// Different bytes each time, so that a repeated or a lost piece shows.
fn fresh_bytes(counter: &mut u32, len: usize) -> Vec<u8> {
    (0..len)
        .map(|_| {
            *counter = counter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*counter >> 24) as u8
        })
        .collect()
}

fn shown(queue: &Queue, pieces_max: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); pieces_max];
    let count = queue.gather(&mut slices);
    assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
    slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
}

proptest! {
    #[test]
    fn every_byte_is_shown_once_and_in_order(calls in calls(), pieces_max in 1_usize..5) {
        let mut queue = Queue::default();
        let mut model = Vec::new();
        let mut counter = 1;
        for call in calls {
            match call {
                Call::Keep(len) => {
                    let bytes = fresh_bytes(&mut counter, len);
                    model.extend_from_slice(&bytes);
                    queue.push(bytes);
                }
                Call::Copy(len) => {
                    let bytes = fresh_bytes(&mut counter, len);
                    model.extend_from_slice(&bytes);
                    queue.push_copy(&bytes);
                }
                Call::Send(part) => {
                    if queue.is_blocked() {
                        continue;
                    }
                    let bytes = match queue.single() {
                        Some(bytes) => bytes.to_vec(),
                        None => shown(&queue, pieces_max),
                    };
                    prop_assert_eq!(&bytes[..], &model[..bytes.len()]);
                    let taken = bytes.len() * part / 256;
                    queue.sent(taken);
                    if taken < bytes.len() {
                        queue.block();
                    }
                    model.drain(..taken);
                }
                Call::Writable => queue.unblock(),
                Call::Clear => {
                    queue.clear();
                    model.clear();
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            prop_assert!(!queue.is_empty() || !queue.is_blocked());
            prop_assert_eq!(queue.pieces().collect::<Vec<_>>().concat(), &model[..]);
            let expected = if queue.is_blocked() {
                Next::Wait
            } else if model.len() >= QUEUED_LEN_MAX || model.len() > 100 {
                Next::FlushNow
            } else {
                Next::FlushLater
            };
            prop_assert_eq!(queue.after_queueing(100), expected);
        }
    }
}

#[test]
fn only_big_data_before_nothing_is_sent_at_once() {
    let mut queue = Queue::default();
    assert_eq!(queue.admit(SEND_AT_ONCE_LEN - 1), Admission::Queue);
    assert_eq!(queue.admit(SEND_AT_ONCE_LEN), Admission::Send);
    queue.push(vec![0; 10]);
    assert_eq!(queue.admit(SEND_AT_ONCE_LEN), Admission::Queue);
}

#[test]
fn the_default_limits_flush_at_the_high_water_mark() {
    let mut queue = Queue::default();
    queue.push(vec![0; QUEUED_LEN_MAX - 1]);
    assert_eq!(queue.after_queueing(64 * 1024), Next::FlushLater);
    queue.push(vec![0; 1]);
    assert_eq!(queue.after_queueing(64 * 1024), Next::FlushNow);
}

#[test]
fn small_pieces_are_one_and_a_lone_one_is_not_copied() {
    let mut queue = Queue::default();
    let bytes = vec![1, 2, 3, 4];
    let address = bytes.as_ptr();
    queue.push(bytes);
    assert_eq!(queue.single().map(<[u8]>::as_ptr), Some(address));
    for _ in 0..3 {
        queue.push(vec![5, 6, 7, 8]);
    }
    assert_eq!(
        queue.single(),
        Some(&[1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7, 8][..])
    );
}

#[test]
fn big_pieces_are_not_copied() {
    let mut queue = Queue::default();
    queue.push(vec![1; 10]);
    let body = vec![2; 20_000];
    let address = body.as_ptr();
    queue.push(body);
    queue.push(vec![3; 10]);
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(queue.gather(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), address);
    assert!(queue.single().is_none());
}

#[test]
fn a_short_send_in_the_middle_of_a_piece_goes_on_there() {
    let mut queue = Queue::default();
    queue.push(vec![1; 10]);
    queue.push(vec![2; 5000]);
    queue.sent(13);
    queue.block();
    assert_eq!(queue.after_queueing(usize::MAX), Next::Wait);
    queue.push(vec![3; 4]);
    queue.unblock();
    let mut expected = vec![2; 4997];
    expected.extend([3; 4]);
    assert_eq!(shown(&queue, 8), expected);
    queue.sent(expected.len());
    assert!(queue.is_empty() && queue.single().is_none());
}
