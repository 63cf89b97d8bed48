//! The write queue against a model (`models/write_queue.rs`), and its thresholds one by one.

use std::io::IoSlice;

use model::{Call, Queue, run, shown};
use proptest::prelude::*;
use wire::write_queue::{QUEUED_LEN_MAX, QUEUED_LEN_MAX_WITH_MORE, SEND_AT_ONCE_LEN};
use wire::{Admission, Next};

#[path = "models/write_queue.rs"]
mod model;

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
        3 => len.clone().prop_map(Call::Copy),
        1 => len.prop_map(Call::Give),
        3 => (0_usize..=256).prop_map(Call::Send),
        1 => Just(Call::Writable),
        1 => any::<bool>().prop_map(Call::ExpectMore),
        1 => Just(Call::Clear),
    ];
    // Miri takes a second for what takes others a millisecond.
    prop::collection::vec(call, 1..if cfg!(miri) { 12 } else { 120 })
}

proptest! {
    #[test]
    fn every_byte_is_shown_once_and_in_order(calls in calls(), pieces_max in 1_usize..5) {
        run(calls, pieces_max, 100);
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
fn where_more_is_expected_large_pieces_leave_together() {
    let mut queue = Queue::default();
    queue.expect_more(true);
    assert!(queue.expects_more());
    assert_eq!(queue.admit(SEND_AT_ONCE_LEN), Admission::Queue);
    queue.push(vec![0; QUEUED_LEN_MAX]);
    assert_eq!(queue.after_queueing(QUEUED_LEN_MAX), Next::FlushLater);
    queue.push(vec![0; 1]);
    assert_eq!(queue.after_queueing(QUEUED_LEN_MAX), Next::FlushNow);
    assert_eq!(queue.after_queueing(usize::MAX), Next::FlushLater);
    queue.push(vec![0; QUEUED_LEN_MAX_WITH_MORE]);
    assert_eq!(queue.after_queueing(usize::MAX), Next::FlushNow);
    queue.clear();
    queue.expect_more(false);
    assert_eq!(queue.admit(SEND_AT_ONCE_LEN), Admission::Send);
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
