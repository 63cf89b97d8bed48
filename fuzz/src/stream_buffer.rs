//! Pieces come, are read in parts or as a whole, and are searched for separators again and again.

use arbitrary::{Result, Unstructured};
use model::Call;

#[path = "../../crates/wire/tests/models/stream_buffer.rs"]
mod model;

pub fn run(input: &[u8]) {
    model::run(crate::all(&mut Unstructured::new(input), 200, call));
}

fn call(input: &mut Unstructured<'_>) -> Result<Call> {
    Ok(match input.int_in_range(0..=9)? {
        0..=2 => Call::Keep(bytes(input)?),
        3 => Call::Copy(bytes(input)?),
        4 => Call::Take(crate::len(input, &[16 * 1024, 20_000])?),
        5 => match input.int_in_range(0..=256)? {
            few @ 0..=31 => Call::ConsumeAllBut(few),
            part => Call::Consume(part),
        },
        6 => match input.int_in_range(0..=7)? {
            0 => Call::Clear,
            1 => Call::Bytes,
            _ => Call::Take(usize::MAX),
        },
        7 => {
            let separators = (0..input.int_in_range(1..=3)?)
                .map(|_| few(input, 1, 4))
                .collect::<Result<_>>()?;
            Call::Look(separators, i64::from(input.int_in_range(-1..=80_i8)?))
        }
        _ => Call::LookAgain,
    })
}

/// Of four different bytes, so that separators are found, also in part.
fn few(input: &mut Unstructured<'_>, least: usize, most: usize) -> Result<Vec<u8>> {
    let len = input.int_in_range(least..=most)?;
    // Two bits each: a longer input would only be harder to change in a way that matters.
    let packed = input.bytes(len.div_ceil(4))?;
    Ok((0..len).map(|at| packed[at / 4] >> (at % 4 * 2) & 3).collect())
}

/// A small piece, or one of those that are kept apart.
fn bytes(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    match input.int_in_range(0..=5)? {
        0 => {
            let mut large = vec![0; crate::len(input, &[16 * 1024, 20_000])?];
            large.extend(few(input, 0, 4)?);
            Ok(large)
        }
        _ => few(input, 0, 24),
    }
}
