//! Time: nanoseconds of the monotonic clock, and a tick counter that costs a few nanoseconds less than nothing to worry
//! about.
//!
//! Ticks answer one question only, "has about this long passed since I looked at the clock?". They are never turned
//! into a time: processors may differ, and a virtual machine may move. Everything that must be right (timers,
//! `loop.time()`) uses [`now_ns`].

#![allow(unsafe_code)]

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};

/// By how much [`advance`] has moved the clock. Reading it is nothing beside reading the kernel's.
static AHEAD_NS: AtomicU64 = AtomicU64::new(0);

/// The monotonic clock, as `time.monotonic_ns()` reads it. Never steps back; its origin means nothing.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64 + AHEAD_NS.load(Ordering::Relaxed)
}

/// Moves the clock of this process ahead for good: time passes without waiting, for tests and simulations.
///
/// Who waits already waits for as long as was agreed; call it where nobody does.
pub fn advance(by_ns: u64) {
    AHEAD_NS.fetch_add(by_ns, Ordering::Relaxed);
}

/// The processor's time-stamp counter.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: `rdtsc` only writes registers. Every x86_64 processor has it, and Linux lets user space run it unless the
    // process asked otherwise with `prctl(PR_SET_TSC)`.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The virtual counter, which Linux makes readable for user space (the vDSO's clock needs it too).
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
pub fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter register into `ticks`; touches neither memory, stack nor flags.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// No counter is known for this processor: the clock itself.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[inline]
pub fn ticks() -> u64 {
    now_ns()
}

/// How many [`ticks`] make a nanosecond, learned from pairs of readings the caller makes anyway.
#[derive(Debug, Clone)]
pub struct TickClock {
    /// Start of the window being measured, `None` before the first reading.
    anchor: Option<(u64, u64)>,
    /// Ticks per nanosecond in fixed point, see [`SHIFT`].
    rate: u64,
}

/// Binary places of the rate: precise to 1e-6 for a 1 GHz counter.
const SHIFT: u32 = 20;
/// Readings closer than this are not compared: the halves of a pair are read some time apart. When that is 10 µs, a
/// window of 1 ms is off by one percent.
const WINDOW_NS: u64 = 1_000_000;
/// What is assumed before the first window: x86 counters run at 1 to 4 GHz, and off by a factor of two is good enough
/// for a millisecond.
const RATE_AT_FIRST: u64 = if cfg!(all(target_arch = "x86_64", not(miri))) {
    2 << SHIFT
} else if cfg!(all(target_arch = "aarch64", not(miri))) {
    (1 << SHIFT) / 20
} else {
    1 << SHIFT
};
/// Rates outside 1 MHz to 16 GHz are not a counter's rate: somebody stopped or moved it between the two readings.
const RATES_BELIEVED: std::ops::RangeInclusive<u64> = (1 << SHIFT) / 1000..=16 << SHIFT;

impl TickClock {
    /// A clock that guesses until it has seen two readings a millisecond apart.
    pub fn new() -> Self {
        Self {
            anchor: None,
            rate: RATE_AT_FIRST,
        }
    }

    /// Takes one pair of readings made at about the same moment. Call it whenever the clock was read anyway, once per
    /// turn for instance.
    ///
    /// A counter that steps back, stands still or jumps starts a new window and leaves the rate as it was.
    #[inline]
    pub fn observe(&mut self, now_ns: u64, ticks: u64) {
        match self.anchor {
            Some((start_ns, start_ticks)) if now_ns >= start_ns && ticks >= start_ticks => {
                if now_ns - start_ns >= WINDOW_NS {
                    self.measure(now_ns - start_ns, ticks - start_ticks);
                    self.anchor = Some((now_ns, ticks));
                }
            }
            _ => self.anchor = Some((now_ns, ticks)),
        }
    }

    /// How far [`ticks`] moves in `ns` nanoseconds; saturates.
    #[inline]
    pub fn ticks_for_ns(&self, ns: u64) -> u64 {
        u64::try_from((u128::from(ns) * u128::from(self.rate)) >> SHIFT).unwrap_or(u64::MAX)
    }

    #[cold]
    fn measure(&mut self, ns: u64, ticks: u64) {
        let rate = (u128::from(ticks) << SHIFT) / u128::from(ns);
        if let Ok(rate) = u64::try_from(rate)
            && RATES_BELIEVED.contains(&rate)
        {
            self.rate = rate;
        }
    }
}

impl Default for TickClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_steps_back() {
        let mut before = now_ns();
        for _ in 0..1000 {
            let now = now_ns();
            assert!(now >= before);
            before = now;
        }
    }

    #[test]
    fn learns_the_rate_from_far_readings_only() {
        let mut clock = TickClock::new();
        clock.observe(5_000, 100);
        clock.observe(6_000, 999_999); // 1 µs later: too near to say anything
        assert_eq!(clock.ticks_for_ns(1 << SHIFT), RATE_AT_FIRST);
        clock.observe(2_005_000, 6_000_100); // 2 ms and 6M ticks after the first: 3 per ns
        assert_eq!(clock.ticks_for_ns(1_000), 3_000);
        assert_eq!(clock.ticks_for_ns(0), 0);
        assert_eq!(clock.ticks_for_ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_counter_that_steps_back_or_jumps_leaves_the_rate() {
        let mut clock = TickClock::new();
        clock.observe(0, 10_000_000);
        clock.observe(1_000_000, 12_500_000);
        assert_eq!(clock.ticks_for_ns(10), 25);
        clock.observe(9_000_000, 1_000); // moved to a machine that booted later
        assert_eq!(clock.ticks_for_ns(10), 25);
        clock.observe(10_000_000, 1_000); // stands still
        assert_eq!(clock.ticks_for_ns(10), 25);
        clock.observe(12_000_000, u64::MAX); // jumps
        assert_eq!(clock.ticks_for_ns(10), 25);
        clock.observe(13_000_000, 5_000);
        clock.observe(15_000_000, 2_005_000); // and works again
        assert_eq!(clock.ticks_for_ns(10), 10);
    }

    #[test]
    fn agrees_with_the_real_counter() {
        let mut clock = TickClock::new();
        let (start_ns, start_ticks) = (now_ns(), ticks());
        clock.observe(start_ns, start_ticks);
        while now_ns() - start_ns < 3 * WINDOW_NS {}
        let (end_ns, end_ticks) = (now_ns(), ticks());
        clock.observe(end_ns, end_ticks);
        let expected = clock.ticks_for_ns(end_ns - start_ns);
        assert!(expected.abs_diff(end_ticks - start_ticks) <= expected / 10);
    }
}
