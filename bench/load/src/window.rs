//! The measured part of a run: from the end of the warm-up until its time has passed, or enough messages were answered.

use std::io;
use std::time::Instant;

use crate::histogram::Histogram;
use crate::run::Plan;
use crate::sys;

pub struct Outcome {
    pub messages: u64,
    /// Open loop: due, but without an answer at the end. The latencies hold how long they have waited so far.
    pub unanswered: u64,
    pub wall_ns: u64,
    pub client_cpu_ns: u64,
    pub server_cpu_ns: Option<u64>,
    pub latency: Histogram,
}

/// The clocks at the start of the measured part.
struct Mark {
    at: Instant,
    client_cpu_ns: u64,
    server_cpu_ns: Option<u64>,
}

impl Mark {
    fn now(plan: &Plan) -> io::Result<Self> {
        Ok(Self {
            server_cpu_ns: plan.server_pid.map(sys::process_cpu_ns).transpose()?,
            client_cpu_ns: sys::process_cpu_ns(0)?,
            at: Instant::now(),
        })
    }
}

pub struct Window<'a> {
    plan: &'a Plan,
    begin: Instant,
    /// None during the warm-up.
    mark: Option<Mark>,
    /// Of the warm-up, as long as that lasts.
    pub latency: Histogram,
}

impl<'a> Window<'a> {
    /// The warm-up begins at `begin`.
    pub fn new(plan: &'a Plan, begin: Instant) -> Self {
        Self {
            plan,
            begin,
            mark: None,
            latency: Histogram::new(),
        }
    }

    pub fn is_warm_up(&self) -> bool {
        self.mark.is_none()
    }

    /// Has it ended by `now`? Begins it after the warm-up.
    pub fn is_over(&mut self, now: Instant) -> io::Result<bool> {
        match &self.mark {
            None if now - self.begin >= self.plan.warmup => {
                self.mark = Some(Mark::now(self.plan)?);
                self.latency.clear();
                Ok(false)
            }
            None => Ok(false),
            Some(mark) => {
                let goal = self.plan.messages;
                Ok(now - mark.at >= self.plan.duration || goal.is_some_and(|goal| self.latency.count() >= goal))
            }
        }
    }

    /// What was measured, once it is over; `unanswered` were due when and have no answer yet.
    pub fn end(self, unanswered: Vec<Instant>) -> io::Result<Outcome> {
        let (start, end) = (
            self.mark.expect("the loop ends only after the warm-up"),
            Mark::now(self.plan)?,
        );
        let mut latency = self.latency;
        let messages = latency.count();
        // Left out, the ones that wait longest would make the server look better than it is.
        for due in unanswered {
            latency.record((end.at - due).as_nanos() as u64);
        }
        Ok(Outcome {
            messages,
            unanswered: latency.count() - messages,
            wall_ns: (end.at - start.at).as_nanos() as u64,
            client_cpu_ns: end.client_cpu_ns - start.client_cpu_ns,
            server_cpu_ns: end
                .server_cpu_ns
                .zip(start.server_cpu_ns)
                .map(|(end, start)| end - start),
            latency,
        })
    }
}
