//! What a timer costs, in nanoseconds per operation, at several queue sizes. Plain timing, best of a few rounds: `cargo
//! bench --bench timers`. Without `--bench` (as `cargo test --all-targets` runs it) each case runs once and tiny.

use std::env;
use std::hint::black_box;
use std::time::Instant;

use reactor::TimerQueue;

/// Reproducible deadlines with no pattern the branch predictor could learn (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Best time per operation over the rounds. `prepare` is not timed.
fn measure<S>(rounds: usize, operations: usize, mut prepare: impl FnMut() -> S, mut body: impl FnMut(&mut S)) -> f64 {
    (0..rounds)
        .map(|_| {
            let mut state = prepare();
            let start = Instant::now();
            body(&mut state);
            start.elapsed().as_nanos() as f64 / operations as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn filled(len: usize, range: u64) -> TimerQueue<usize> {
    let mut random = Random(len as u64);
    let mut timers = TimerQueue::new();
    for item in 0..len {
        timers.push(random.next() % range, item);
    }
    timers
}

fn main() {
    let real = env::args().any(|argument| argument == "--bench");
    let (rounds, sizes) = if real {
        (7, &[10, 1_000, 100_000][..])
    } else {
        (1, &[10, 100][..])
    };
    println!("{:<44}{:>10}", "timers, ns per operation", "best");
    for &len in sizes {
        // Enough queues per round to make it long against the clock's resolution.
        let copies = if real { 100_000 / len } else { 1 };
        let many = || (0..copies).map(|_| filled(len, 1 << 40)).collect::<Vec<_>>();

        let push = measure(
            rounds,
            copies * len,
            || Random(len as u64),
            |random| {
                for _ in 0..copies {
                    let mut timers = TimerQueue::new();
                    for item in 0..len {
                        timers.push(random.next() % (1 << 40), item);
                    }
                    black_box(&timers);
                }
            },
        );
        println!("{:<44}{push:>10.1}", format!("push, random deadlines, up to {len}"));

        let pop = measure(rounds, copies * len, many, |queues| {
            for timers in queues {
                while let Some(item) = timers.pop_expired(u64::MAX) {
                    black_box(item);
                }
            }
        });
        println!("{:<44}{pop:>10.1}", format!("pop_expired until empty, from {len}"));

        let steady = measure(
            rounds,
            100_000.min(1_000 * len),
            || (filled(len, 1_000_000), Random(7)),
            |(timers, random)| {
                for _ in 0..100_000.min(1_000 * len) {
                    let (when_ns, item) = timers.pop().expect("one is pushed for each popped");
                    timers.push(when_ns + random.next() % 1_000_000, item);
                }
            },
        );
        println!("{:<44}{steady:>10.1}", format!("pop + push, {len} waiting"));

        let in_order = measure(
            rounds,
            copies * len,
            || (),
            |()| {
                for _ in 0..copies {
                    let mut timers = TimerQueue::new();
                    for item in 0..len {
                        timers.push(item as u64, item);
                    }
                    black_box(&timers);
                }
            },
        );
        println!("{:<44}{in_order:>10.1}", format!("push, rising deadlines, up to {len}"));

        let compact = measure(rounds, copies * len, many, |queues| {
            for timers in queues {
                black_box(timers.compact(|item| item % 4 == 0));
            }
        });
        println!(
            "{:<44}{compact:>10.1}",
            format!("compact, three of four dead, per entry of {len}")
        );
    }
}
