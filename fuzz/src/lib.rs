//! What the fuzzers run: each module turns an input into a sequence of calls, and a model beside the real thing says what
//! these must answer. Most models are those of the property tests, so that there is one of each.
//!
//! An input is read from its front, a few bytes per call; an input that ends early is a shorter program.

pub mod address;
pub mod inbox;
pub mod registry;
pub mod stream_buffer;
pub mod timers;
pub mod write_queue;

use arbitrary::{Result, Unstructured};

/// A target: its name, which is also that of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("address", address::run),
    ("inbox", inbox::run),
    ("registry", registry::run),
    ("stream_buffer", stream_buffer::run),
    ("timers", timers::run),
    ("write_queue", write_queue::run),
];

/// Everything that `draw` finds in the input, up to a number that keeps one run short.
fn all<'a, T>(
    input: &mut Unstructured<'a>,
    len_max: usize,
    mut draw: impl FnMut(&mut Unstructured<'a>) -> Result<T>,
) -> Vec<T> {
    let mut drawn = Vec::new();
    while drawn.len() < len_max && !input.is_empty() {
        let Ok(one) = draw(input) else { break };
        drawn.push(one);
    }
    drawn
}

/// A length: mostly small, sometimes around one of these thresholds.
fn len(input: &mut Unstructured<'_>, thresholds: &[usize]) -> Result<usize> {
    let kind = input.int_in_range(0..=9_usize)?;
    Ok(match kind.checked_sub(10 - thresholds.len()) {
        Some(which) => (thresholds[which] + input.int_in_range(0..=4)?).saturating_sub(2),
        None => input.int_in_range(0..=63)?,
    })
}
