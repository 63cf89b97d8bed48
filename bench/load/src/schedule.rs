//! Open loop: when requests are due, and which connection is free to send them. Times only, no sockets.
//!
//! The schedule does not know how the server is doing. A request that finds no free connection waits, and its latency
//! counts from when it was due: a server that stops for a second makes every request of that second late, not one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub struct Schedule {
    begin: Instant,
    interval_ns: f64,
    /// How many have been sent; the next one's number.
    sent: u64,
    free: VecDeque<usize>,
    busy: Vec<bool>,
}

impl Schedule {
    pub fn new(begin: Instant, per_second: u64, connections: usize) -> Self {
        Self {
            begin,
            interval_ns: 1e9 / per_second as f64,
            sent: 0,
            free: (0..connections).collect(),
            busy: vec![false; connections],
        }
    }

    fn due(&self, number: u64) -> Instant {
        self.begin + Duration::from_nanos((number as f64 * self.interval_ns) as u64)
    }

    /// The next request that is due, if there is a connection for it: which one, and since when.
    pub fn next(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let due = self.due(self.sent);
        if due > now {
            return None;
        }
        let index = self.free.pop_front()?;
        self.busy[index] = true;
        self.sent += 1;
        Some((index, due))
    }

    /// The connection's answer is complete.
    pub fn is_free(&mut self, index: usize) {
        self.busy[index] = false;
        self.free.push_back(index);
    }

    /// Nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.busy.len()
    }

    /// How long nothing will be due, in whole milliseconds; without a free connection, until an answer comes.
    pub fn patience(&self, now: Instant) -> Duration {
        if self.free.is_empty() {
            return Duration::from_secs(1);
        }
        Duration::from_millis(self.due(self.sent).saturating_duration_since(now).as_millis() as u64)
    }

    /// Since when the requests wait that have no answer: those under way, by `started`, and those not even sent.
    pub fn unanswered(&self, now: Instant, started: impl Fn(usize) -> Instant) -> Vec<Instant> {
        let under_way = (0..self.busy.len()).filter(|&index| self.busy[index]).map(started);
        let not_sent = (self.sent..)
            .map(|number| self.due(number))
            .take_while(|&due| due <= now);
        under_way.chain(not_sent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn requests_are_due_at_fixed_times() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(begin, 1_000, 3);
        assert_eq!(schedule.next(begin), Some((0, begin)));
        assert_eq!(schedule.next(begin), None);
        assert_eq!(schedule.patience(begin), Duration::from_millis(1));
        assert_eq!(schedule.next(after(begin, 2)), Some((1, after(begin, 1))));
        assert_eq!(schedule.next(after(begin, 2)), Some((2, after(begin, 2))));
    }

    #[test]
    fn a_server_that_stops_makes_all_of_them_late() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(begin, 1_000, 1);
        assert!(schedule.is_idle());
        assert_eq!(schedule.next(begin), Some((0, begin)));
        let now = after(begin, 10);
        assert_eq!(schedule.next(now), None);
        assert_eq!(schedule.patience(now), Duration::from_secs(1));
        // Number 0 is under way; 1 to 10 are due.
        assert_eq!(schedule.unanswered(now, |_| begin).len(), 11);
        schedule.is_free(0);
        assert_eq!(schedule.next(now), Some((0, after(begin, 1))));
        schedule.is_free(0);
        assert_eq!(schedule.next(now), Some((0, after(begin, 2))));
    }
}
