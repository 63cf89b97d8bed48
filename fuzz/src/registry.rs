//! Owners of descriptors come and go, over a real epoll instance, while the numbers are reused.

use arbitrary::Unstructured;
use model::{NUMBERS, Step};

#[path = "../../crates/reactor/tests/models/registry.rs"]
mod model;

pub fn run(input: &[u8]) {
    model::run(crate::all(&mut Unstructured::new(input), 60, |input| {
        let number = input.int_in_range(0..=NUMBERS - 1)?;
        Ok((number, *input.choose(&Step::ALL)?))
    }));
}
