//! The inbox against a plain list. (What several threads do at once is in `loom_inbox.rs`.)

#![cfg(not(loom))]

use proptest::prelude::*;
use reactor::Inbox;

#[derive(Debug, Clone)]
enum Step {
    /// From this thread, or from another one.
    Push {
        elsewhere: bool,
    },
    /// Into a batch that still holds so many.
    Drain(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => any::<bool>().prop_map(|elsewhere| Step::Push { elsewhere }),
        4 => (0..4_usize).prop_map(Step::Drain),
        1 => (0..10_u8).prop_map(|dice| if dice == 0 { Step::Close } else { Step::Drain(0) }),
    ]
}

fn push(inbox: &Inbox<u64>, item: u64, elsewhere: bool) -> Result<bool, u64> {
    if elsewhere {
        std::thread::scope(|scope| scope.spawn(|| inbox.push(item)).join().expect("push does not panic"))
    } else {
        inbox.push(item)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]

    #[test]
    fn behaves_as_a_list(steps in prop::collection::vec(step(), 0..120)) {
        let inbox = Inbox::new();
        let (mut waiting, mut closed, mut batch) = (Vec::new(), false, Vec::new());
        for (number, step) in (0_u64..).zip(steps) {
            match step {
                Step::Push { elsewhere } => {
                    let expected = if closed { Err(number) } else { Ok(waiting.is_empty()) };
                    prop_assert_eq!(push(&inbox, number, elsewhere), expected);
                    if !closed {
                        waiting.push(number);
                    }
                }
                Step::Drain(kept) => {
                    batch.truncate(kept);
                    let mut expected = batch.clone();
                    expected.append(&mut waiting);
                    inbox.drain_into(&mut batch);
                    prop_assert_eq!(&batch, &expected);
                }
                Step::Close => {
                    prop_assert_eq!(inbox.close(), std::mem::take(&mut waiting));
                    closed = true;
                }
            }
            prop_assert_eq!(inbox.is_empty(), waiting.is_empty());
        }
        prop_assert_eq!(inbox.close(), waiting);
    }
}
