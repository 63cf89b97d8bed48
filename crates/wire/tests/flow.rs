//! Watermarks against asyncio's own rules, written down as plainly as `transports._FlowControlMixin` has them.

use proptest::prelude::*;
use wire::{Flow, Signal};

#[test]
fn a_buffer_at_its_mark_is_within_it() {
    let mut flow = Flow::default();
    assert_eq!(flow.grown(64 * 1024), Signal::None);
    assert_eq!(flow.grown(64 * 1024 + 1), Signal::Pause);
    assert_eq!(flow.grown(1 << 30), Signal::None);
    assert_eq!(flow.shrunk(16 * 1024 + 1), Signal::None);
    assert_eq!(flow.shrunk(16 * 1024), Signal::Resume);
    assert_eq!(flow.shrunk(0), Signal::None);
}

#[test]
fn with_limits_of_zero_any_byte_pauses() {
    let mut flow = Flow::default();
    flow.set_limits(0, 0);
    assert_eq!(flow.grown(0), Signal::None);
    assert_eq!(flow.grown(1), Signal::Pause);
    assert_eq!(flow.shrunk(0), Signal::Resume);
}

proptest! {
    #[test]
    fn signals_alternate_and_come_when_the_marks_are_crossed(
        limits in (0_usize..100, 0_usize..100),
        lens in prop::collection::vec(0_usize..250, 1..200),
    ) {
        let (low, high) = (limits.0.min(limits.1), limits.0.max(limits.1));
        let mut flow = Flow::default();
        flow.set_limits(low, high);
        let (mut paused, mut before) = (false, 0);
        for len in lens {
            let signal = if len >= before { flow.grown(len) } else { flow.shrunk(len) };
            let expected = if len >= before && len > high && !paused {
                paused = true;
                Signal::Pause
            } else if len < before && paused && len <= low {
                paused = false;
                Signal::Resume
            } else {
                Signal::None
            };
            prop_assert_eq!(signal, expected);
            prop_assert_eq!(flow.is_paused(), paused);
            before = len;
        }
    }
}
