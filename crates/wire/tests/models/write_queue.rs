//! The write queue beside the plainest model there is: one vector of bytes. Whatever is pushed, joined, cut by short
//! sends and refused, the kernel sees every byte once and in order. The property tests and the fuzzer draw the calls.

use std::io::IoSlice;

use wire::write_queue::{QUEUED_LEN_MAX, QUEUED_LEN_MAX_WITH_MORE, SEND_AT_ONCE_LEN};
use wire::{Admission, Next, WriteQueue};

pub(crate) type Queue = WriteQueue<Vec<u8>>;

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Keep(usize),
    Copy(usize),
    Give(usize),
    /// The kernel takes so many 256ths of what it is shown.
    Send(usize),
    Writable,
    ExpectMore(bool),
    Clear,
}

/// What a program does with a queue whose writer has this high-water mark, where the kernel looks at so many pieces.
pub(crate) fn run(calls: Vec<Call>, pieces_max: usize, len_max: usize) {
    let mut queue = Queue::default();
    let mut model = Vec::new();
    let mut expects_more = false;
    let mut counter = 1;
    for call in calls {
        match call {
            Call::Keep(len) => {
                let bytes = written(&queue, &mut model, expects_more, &mut counter, len);
                queue.push(bytes);
            }
            Call::Copy(len) => {
                let bytes = written(&queue, &mut model, expects_more, &mut counter, len);
                queue.push_copy(&bytes);
            }
            Call::Give(len) => {
                let bytes = written(&queue, &mut model, expects_more, &mut counter, len);
                queue.push_owned(bytes);
            }
            Call::Send(part) => {
                if queue.is_blocked() {
                    continue;
                }
                let bytes = match queue.single() {
                    Some(bytes) => bytes.to_vec(),
                    None => shown(&queue, pieces_max),
                };
                assert_eq!(&bytes[..], &model[..bytes.len()]);
                let taken = bytes.len() * part / 256;
                queue.sent(taken);
                if taken < bytes.len() {
                    queue.block();
                }
                model.drain(..taken);
            }
            Call::Writable => queue.unblock(),
            Call::ExpectMore(expects) => {
                expects_more = expects;
                queue.expect_more(expects);
            }
            Call::Clear => {
                queue.clear();
                model.clear();
            }
        }
        assert_eq!(queue.len(), model.len());
        assert_eq!(queue.is_empty(), model.is_empty());
        assert_eq!(queue.expects_more(), expects_more);
        assert!(!queue.is_empty() || !queue.is_blocked());
        assert_eq!(queue.pieces().collect::<Vec<_>>().concat(), &model[..]);
        let flush_len = if expects_more {
            QUEUED_LEN_MAX_WITH_MORE
        } else {
            QUEUED_LEN_MAX
        };
        let expected = if queue.is_blocked() {
            Next::Wait
        } else if model.len() >= flush_len || model.len() > len_max {
            Next::FlushNow
        } else {
            Next::FlushLater
        };
        assert_eq!(queue.after_queueing(len_max), expected);
    }
}

/// New bytes, of which the queue has said where they should go.
fn written(queue: &Queue, model: &mut Vec<u8>, expects_more: bool, counter: &mut u32, len: usize) -> Vec<u8> {
    let expected = if model.is_empty() && len >= SEND_AT_ONCE_LEN && !expects_more {
        Admission::Send
    } else {
        Admission::Queue
    };
    assert_eq!(queue.admit(len), expected);
    let bytes = fresh_bytes(counter, len);
    model.extend_from_slice(&bytes);
    bytes
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

pub(crate) fn shown(queue: &Queue, pieces_max: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); pieces_max];
    let count = queue.gather(&mut slices);
    assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
    slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
}
