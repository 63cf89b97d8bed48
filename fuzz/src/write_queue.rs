//! Programs write in all sizes, and a kernel takes as much as it likes.

use arbitrary::{Result, Unstructured};
use model::Call;
use wire::write_queue::{QUEUED_LEN_MAX, SEND_AT_ONCE_LEN};

#[path = "../../crates/wire/tests/models/write_queue.rs"]
mod model;

pub fn run(input: &[u8]) {
    let input = &mut Unstructured::new(input);
    let mut numbers = || Ok((input.int_in_range(1..=4)?, input.int_in_range(0..=3)?));
    let Ok::<(usize, usize), arbitrary::Error>((pieces_max, mark)) = numbers() else {
        return;
    };
    let len_max = [0, 100, 64 * 1024, usize::MAX][mark];
    model::run(crate::all(input, 100, call), pieces_max, len_max);
}

fn call(input: &mut Unstructured<'_>) -> Result<Call> {
    Ok(match input.int_in_range(0..=9)? {
        0..=2 => Call::Keep(len(input)?),
        3 => Call::Copy(len(input)?),
        4 => Call::Give(len(input)?),
        5..=7 => Call::Send(input.int_in_range(0..=256)?),
        8 => Call::Writable,
        _ => match input.int_in_range(0..=3)? {
            0 => Call::Clear,
            1 => Call::ExpectMore(true),
            2 => Call::ExpectMore(false),
            _ => Call::Send(256),
        },
    })
}

/// Around the lengths from which pieces are not joined, sent at once, and flushed.
fn len(input: &mut Unstructured<'_>) -> Result<usize> {
    crate::len(input, &[1024, 1024, SEND_AT_ONCE_LEN, QUEUED_LEN_MAX])
}
