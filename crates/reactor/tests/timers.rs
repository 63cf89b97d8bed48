//! The timer queue against a model that is too simple to be wrong: a vector sorted by deadline and order of arrival.

#![cfg(not(loom))]

use std::collections::HashSet;

use proptest::prelude::*;
use reactor::TimerQueue;

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Pop,
    PopExpired(u64),
    /// Declares one of the live entries dead, chosen by this number.
    Cancel(usize),
    Compact,
    Drain,
}

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

#[derive(Default)]
struct Model {
    /// Deadline and name, in the order they must come out. Names count up, so they also say who was first.
    entries: Vec<(u64, usize)>,
    dead: HashSet<usize>,
    named: usize,
}

impl Model {
    fn push(&mut self, when_ns: u64) -> usize {
        let name = self.named;
        self.named += 1;
        let place = self.entries.partition_point(|&entry| entry <= (when_ns, name));
        self.entries.insert(place, (when_ns, name));
        name
    }

    fn pop(&mut self) -> Option<(u64, usize)> {
        (!self.entries.is_empty()).then(|| self.entries.remove(0))
    }
}

/// As the event loop does: who pops a dead entry says so.
fn popped(timers: &mut TimerQueue<usize>, model: &mut Model, name: usize) {
    if model.dead.remove(&name) {
        timers.note_dead_popped();
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut timers = TimerQueue::new();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Push(when_ns) => {
                timers.push(when_ns, model.push(when_ns));
            }
            Step::Pop => {
                let (ours, expected) = (timers.pop(), model.pop());
                prop_assert_eq!(ours, expected);
                if let Some((_, name)) = ours {
                    popped(&mut timers, &mut model, name);
                }
            }
            Step::PopExpired(now_ns) => {
                let due = model.entries.first().is_some_and(|&(when_ns, _)| when_ns <= now_ns);
                let expected = if due { model.pop().map(|(_, name)| name) } else { None };
                let ours = timers.pop_expired(now_ns);
                prop_assert_eq!(ours, expected);
                if let Some(name) = ours {
                    popped(&mut timers, &mut model, name);
                }
            }
            Step::Cancel(choice) => {
                let live: Vec<_> = model
                    .entries
                    .iter()
                    .filter(|entry| !model.dead.contains(&entry.1))
                    .collect();
                if !live.is_empty() {
                    let name = live[choice % live.len()].1;
                    // The queue numbers its entries as the model names them.
                    if let Some(taken) = timers.remove_if_last(name as u64) {
                        prop_assert_eq!(taken, name);
                        model.entries.retain(|entry| entry.1 != name);
                    } else {
                        model.dead.insert(name);
                        timers.note_dead();
                    }
                }
            }
            Step::Compact => {
                let mut dropped = timers.compact(|name| !model.dead.contains(name));
                dropped.sort_unstable();
                let mut expected: Vec<_> = model.dead.drain().collect();
                expected.sort_unstable();
                prop_assert_eq!(&dropped, &expected);
                model.entries.retain(|entry| !expected.contains(&entry.1));
            }
            Step::Drain => {
                prop_assert_eq!(timers.drain().len(), model.entries.len());
                model.entries.clear();
                model.dead.clear();
            }
        }
        prop_assert_eq!(timers.len(), model.entries.len());
        prop_assert_eq!(timers.is_empty(), model.entries.is_empty());
        prop_assert_eq!(timers.dead_count(), model.dead.len());
        prop_assert_eq!(timers.next_deadline_ns(), model.entries.first().map(|entry| entry.0));
        prop_assert_eq!(timers.peek(), model.entries.first().map(|entry| &entry.1));
        let wants = model.dead.len() >= 100 && model.dead.len() * 2 > model.entries.len();
        prop_assert_eq!(timers.wants_compaction(), wants);
    }
    let mut left: Vec<_> = timers.iter().copied().collect();
    left.sort_unstable();
    let mut expected: Vec<_> = model.entries.iter().map(|entry| entry.1).collect();
    expected.sort_unstable();
    prop_assert_eq!(left, expected);
    while let Some(entry) = timers.pop() {
        prop_assert_eq!(Some(entry), model.pop());
    }
    prop_assert!(model.entries.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]

    #[test]
    fn behaves_as_a_sorted_list(steps in prop::collection::vec(step(), 0..400)) {
        run(steps)?;
    }
}

/// Enough of one kind to reach `wants_compaction` and several levels of the heap.
#[test]
fn behaves_as_a_sorted_list_when_most_are_cancelled() {
    let pushes = (0..1000).map(|number: u64| Step::Push(number * 7919 % 500));
    let cancels = (0..900).map(|number: usize| Step::Cancel(number * 31));
    let again = (0..300).map(|number: u64| Step::Push(number % 3));
    let pops = (0..50).map(|_| Step::Pop);
    run(pushes
        .chain(cancels)
        .chain([Step::Compact])
        .chain(again)
        .chain(pops)
        .collect())
    .unwrap();
}
