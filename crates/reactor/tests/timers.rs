//! The timer queue against a model (`models/timers.rs`).

#![cfg(not(loom))]

use model::{Step, run};
use proptest::prelude::*;

#[path = "models/timers.rs"]
mod model;

/// Miri takes a second for what takes others a millisecond.
const SCALE: usize = if cfg!(miri) { 8 } else { 1 };

fn step() -> impl Strategy<Value = Step> {
    // Few distinct deadlines, so that many are equal; more pushes than pops, so that heaps get deep.
    prop_oneof![
        8 => (0..40_u64).prop_map(Step::Push),
        1 => any::<u64>().prop_map(Step::Push),
        3 => Just(Step::Pop),
        2 => (0..45_u64).prop_map(Step::PopExpired),
        4 => any::<usize>().prop_map(Step::Cancel),
        1 => Just(Step::Compact),
        1 => (0..20_u8).prop_map(|dice| if dice == 0 { Step::Drain } else { Step::Pop }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]

    #[test]
    fn behaves_as_a_sorted_list(steps in prop::collection::vec(step(), 0..400 / SCALE)) {
        run(steps);
    }
}

/// Enough of one kind to reach `wants_compaction` and several levels of the heap.
#[test]
fn behaves_as_a_sorted_list_when_most_are_cancelled() {
    let pushes = (0..1000)
        .step_by(SCALE)
        .map(|number: u64| Step::Push(number * 7919 % 500));
    let cancels = (0..900).step_by(SCALE).map(|number: usize| Step::Cancel(number * 31));
    let again = (0..300).step_by(SCALE).map(|number: u64| Step::Push(number % 3));
    let pops = (0..50).map(|_| Step::Pop);
    run(pushes
        .chain(cancels)
        .chain([Step::Compact])
        .chain(again)
        .chain(pops)
        .collect());
}
