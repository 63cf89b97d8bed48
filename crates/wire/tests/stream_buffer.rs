//! The stream buffer against one plain vector, and the search for separators against the plainest one.

use model::{Buffer, Call, run, taken};
use proptest::prelude::*;
use wire::stream_buffer::search;
use wire::{Search, Separators};

#[path = "models/stream_buffer.rs"]
mod model;

#[test]
fn a_message_read_as_a_whole_is_not_copied() {
    let mut buffer = Buffer::default();
    let message = b"message".to_vec();
    let address = message.as_ptr();
    buffer.push(message);
    let (whole, message) = taken(&mut buffer, 100);
    assert!(whole && message.as_ptr() == address && buffer.is_empty());
}

#[test]
fn a_message_longer_than_the_read_is_read_in_parts() {
    let mut buffer = Buffer::default();
    buffer.push(b"message".to_vec());
    assert_eq!(taken(&mut buffer, 4), (false, b"mess".to_vec()));
    assert_eq!(taken(&mut buffer, 4), (false, b"age".to_vec()));
    assert_eq!(taken(&mut buffer, 4), (false, Vec::new()));
}

#[test]
fn two_messages_are_read_as_one() {
    let mut buffer = Buffer::default();
    buffer.push(b"one,".to_vec());
    assert_eq!(taken(&mut buffer, 2).1, b"on");
    buffer.push(b"two".to_vec());
    assert_eq!(buffer.bytes(), b"e,two");
    assert_eq!(taken(&mut buffer, 9), (false, b"e,two".to_vec()));
    buffer.push(b"three".to_vec());
    assert_eq!(taken(&mut buffer, 5), (true, b"three".to_vec()));
}

#[test]
fn a_large_message_is_not_joined_with_the_next_if_read_alone() {
    let mut buffer = Buffer::default();
    for read in [20_000, 19_999, 20_001, usize::MAX] {
        buffer.push(vec![1; 20_000]);
        buffer.push(vec![2; 5]);
        assert_eq!(buffer.len(), 20_005);
        let (whole, taken_bytes) = taken(&mut buffer, read);
        assert_eq!((whole, taken_bytes.len()), (read == 20_000, read.min(20_005)));
        let left = 20_005 - taken_bytes.len();
        assert_eq!(
            taken(&mut buffer, 100),
            (read == 20_000, [1, 2, 2, 2, 2, 2][6 - left..].to_vec())
        );
    }
}

#[test]
fn nothing_is_not_kept() {
    let mut buffer = Buffer::default();
    buffer.push(Vec::new());
    assert!(buffer.is_empty());
    assert_eq!(taken(&mut buffer, 5), (false, Vec::new()));
}

#[test]
#[should_panic(expected = "more is consumed than there is")]
fn more_than_there_is_cannot_be_consumed() {
    Buffer::default().consume(1);
}

fn one(bytes: &[u8], separator: &[u8], limit: i64) -> (Search, usize) {
    let mut scanned = 0;
    (search(bytes, &Separators::One(separator), &mut scanned, limit), scanned)
}

#[test]
fn the_limit_is_of_what_lies_before_the_separator() {
    assert_eq!(one(b"abc\n", b"\n", 3).0, Search::Take(4));
    assert_eq!(one(b"abc\n", b"\n", 2).0, Search::FoundTooFar(3));
    assert_eq!(one(b"abc", b"\n", 3), (Search::Wait, 3));
    assert_eq!(one(b"abc", b"\n", 2).0, Search::NotFound(3));
    // A part of the separator may be there already.
    assert_eq!(one(b"abc--", b"---", 3), (Search::Wait, 3));
    assert_eq!(one(b"", b"---", 3), (Search::Wait, 0));
}

#[test]
fn of_several_separators_the_one_that_ends_first_counts() {
    let all: [&[u8]; 3] = [b"b", b"abc", b"bcd"];
    let mut scanned = 0;
    assert_eq!(
        search(b"xabcd", &Separators::Any(&all), &mut scanned, 9),
        Search::Take(3)
    );
    let all: [&[u8]; 2] = [b"cd", b"abc"];
    assert_eq!(
        search(b"xabcd", &Separators::Any(&all), &mut scanned, 9),
        Search::Take(4)
    );
    let all: [&[u8]; 2] = [b"cd", b"abcd"];
    assert_eq!(
        search(b"xabcd", &Separators::Any(&all), &mut scanned, 2),
        Search::FoundTooFar(3)
    );
}

#[test]
fn bytes_that_others_took_are_no_error() {
    let mut scanned = 5;
    assert_eq!(search(b"abc", &Separators::One(b"c"), &mut scanned, 9), Search::Wait);
    assert_eq!(scanned, 5);
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let bytes = || {
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (15_000_usize..18_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        ]
    };
    // Of few different bytes, so that something is found.
    let separator = || prop::collection::vec(0_u8..3, 1..4);
    let few = || prop::collection::vec(0_u8..3, 0..40);
    let call = prop_oneof![
        2 => few().prop_map(Call::Keep),
        1 => few().prop_map(Call::Copy),
        2 => (prop::collection::vec(separator(), 1..4), -1_i64..60).prop_map(|(all, limit)| Call::Look(all, limit)),
        3 => Just(Call::LookAgain),
        4 => bytes().prop_map(Call::Keep),
        2 => bytes().prop_map(Call::Copy),
        4 => (0_usize..60).prop_map(Call::Take),
        1 => Just(Call::Take(usize::MAX)),
        1 => (15_000_usize..18_000).prop_map(Call::Take),
        2 => (0_usize..=256).prop_map(Call::Consume),
        1 => (0_usize..40).prop_map(Call::ConsumeAllBut),
        1 => Just(Call::Clear),
        1 => Just(Call::Bytes),
    ];
    // Miri takes a second for what takes others a millisecond.
    prop::collection::vec(call, 1..if cfg!(miri) { 15 } else { 60 })
}

proptest! {
    #[test]
    fn every_byte_is_read_once_and_in_order(calls in calls()) {
        run(calls);
    }

    /// However the bytes arrive in parts, the answer is the one for all that is needed of them at once.
    #[test]
    fn a_search_may_be_continued(
        bytes in prop::collection::vec(0_u8..3, 0..60),
        separators in prop::collection::vec(prop::collection::vec(0_u8..3, 1..4), 1..4),
        parts in prop::collection::vec(1_usize..8, 60),
    ) {
        let mut sorted: Vec<&[u8]> = separators.iter().map(Vec::as_slice).collect();
        sorted.sort_by_key(|separator| separator.len());
        let expected = (1..=bytes.len()).find(|end| sorted.iter().any(|separator| bytes[..*end].ends_with(separator)));
        let (mut scanned, mut len, mut answer) = (0, 0, None);
        for part in parts {
            len = (len + part).min(bytes.len());
            match search(&bytes[..len], &Separators::Any(&sorted), &mut scanned, 1000) {
                Search::Take(end) => {
                    answer = Some(end);
                    break;
                }
                Search::Wait => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(answer, expected);
        if let [only] = sorted[..] {
            let mut scanned = 0;
            let single = search(&bytes, &Separators::One(only), &mut scanned, 1000);
            prop_assert_eq!(single, expected.map_or(Search::Wait, Search::Take));
        }
    }
}
