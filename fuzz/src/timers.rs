//! Timers are set, cancelled, compacted and expire.

use arbitrary::{Result, Unstructured};
use model::Step;

#[path = "../../crates/reactor/tests/models/timers.rs"]
mod model;

pub fn run(input: &[u8]) {
    let steps = crate::all(&mut Unstructured::new(input), 400, several);
    model::run(steps.into_iter().flatten().collect());
}

/// Mostly one; sometimes so many that the heap gets deep and compaction is wanted.
fn several(input: &mut Unstructured<'_>) -> Result<Vec<Step>> {
    if input.int_in_range(0..=20)? != 0 {
        return Ok(vec![step(input)?]);
    }
    let count = input.int_in_range(1..=120)?;
    let (first, stride) = (input.arbitrary::<u8>()?, input.arbitrary::<u8>()?);
    let number = |index: usize| usize::from(first) + index * usize::from(stride);
    Ok(if input.arbitrary()? {
        (0..count).map(|index| Step::Push(number(index) as u64 % 500)).collect()
    } else {
        (0..count).map(|index| Step::Cancel(number(index))).collect()
    })
}

fn step(input: &mut Unstructured<'_>) -> Result<Step> {
    Ok(match input.int_in_range(0..=9)? {
        // Few distinct deadlines, so that many are equal.
        0..=3 => Step::Push(input.int_in_range(0..=40)?),
        4 => Step::Push(input.arbitrary()?),
        5 => Step::Pop,
        6 => Step::PopExpired(input.int_in_range(0..=45)?),
        7 | 8 => Step::Cancel(input.arbitrary::<u8>()?.into()),
        _ => match input.int_in_range(0..=7)? {
            0 => Step::Drain,
            _ => Step::Compact,
        },
    })
}
