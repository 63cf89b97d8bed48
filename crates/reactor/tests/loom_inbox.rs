//! All interleavings of a few threads pushing to an inbox while its owner empties or closes it.
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release --test loom_inbox`.

#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use reactor::Inbox;

#[test]
fn nothing_is_lost_doubled_or_reordered() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new());
        let senders: Vec<_> = [10, 20]
            .into_iter()
            .map(|base| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    let first = inbox.push(base).unwrap();
                    let second = inbox.push(base + 1).unwrap();
                    usize::from(first) + usize::from(second)
                })
            })
            .collect();
        let mut taken = Vec::new();
        inbox.drain_into(&mut taken);
        let batches = usize::from(!taken.is_empty());
        let found_empty: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        let before = taken.len();
        inbox.drain_into(&mut taken);
        let batches = batches + usize::from(taken.len() > before);
        assert!(inbox.is_empty());
        assert_eq!(found_empty, batches, "exactly one push per batch is told to notify");
        for base in [10, 20] {
            let of_one: Vec<_> = taken.iter().copied().filter(|item| item / 10 * 10 == base).collect();
            assert_eq!(of_one, [base, base + 1]);
        }
    });
}

#[test]
fn closing_leaves_each_item_with_exactly_one_side() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new());
        let sender = thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || (1..=2).filter_map(|item| inbox.push(item).err()).collect::<Vec<_>>()
        });
        let mut kept = inbox.close();
        let refused = sender.join().unwrap();
        assert!(inbox.close().is_empty());
        kept.extend(refused);
        assert_eq!(kept, [1, 2]);
    });
}
