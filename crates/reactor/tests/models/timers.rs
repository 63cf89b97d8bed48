//! The timer queue beside a model that is too simple to be wrong: a vector sorted by deadline and order of arrival. The
//! property tests and the fuzzer draw the steps.

use std::collections::HashSet;

use reactor::TimerQueue;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Push(u64),
    Pop,
    PopExpired(u64),
    /// Declares one of the live entries dead, chosen by this number.
    Cancel(usize),
    Compact,
    Drain,
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

pub(crate) fn run(steps: Vec<Step>) {
    let mut timers = TimerQueue::new();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Push(when_ns) => {
                timers.push(when_ns, model.push(when_ns));
            }
            Step::Pop => {
                let (ours, expected) = (timers.pop(), model.pop());
                assert_eq!(ours, expected);
                if let Some((_, name)) = ours {
                    popped(&mut timers, &mut model, name);
                }
            }
            Step::PopExpired(now_ns) => {
                let due = model.entries.first().is_some_and(|&(when_ns, _)| when_ns <= now_ns);
                let expected = if due { model.pop().map(|(_, name)| name) } else { None };
                let ours = timers.pop_expired(now_ns);
                assert_eq!(ours, expected);
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
                        assert_eq!(taken, name);
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
                assert_eq!(&dropped, &expected);
                model.entries.retain(|entry| !expected.contains(&entry.1));
            }
            Step::Drain => {
                assert_eq!(timers.drain().len(), model.entries.len());
                model.entries.clear();
                model.dead.clear();
            }
        }
        assert_eq!(timers.len(), model.entries.len());
        assert_eq!(timers.is_empty(), model.entries.is_empty());
        assert_eq!(timers.dead_count(), model.dead.len());
        assert_eq!(timers.next_deadline_ns(), model.entries.first().map(|entry| entry.0));
        assert_eq!(timers.peek(), model.entries.first().map(|entry| &entry.1));
        let wants = model.dead.len() >= 100 && model.dead.len() * 2 > model.entries.len();
        assert_eq!(timers.wants_compaction(), wants);
    }
    let mut left: Vec<_> = timers.iter().copied().collect();
    left.sort_unstable();
    let mut expected: Vec<_> = model.entries.iter().map(|entry| entry.1).collect();
    expected.sort_unstable();
    assert_eq!(left, expected);
    while let Some(entry) = timers.pop() {
        assert_eq!(Some(entry), model.pop());
    }
    assert!(model.entries.is_empty());
}
