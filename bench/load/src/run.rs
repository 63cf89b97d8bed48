//! The measurement: connect, warm up, measure. Closed loop: every connection has one request under way at any time, the
//! next one leaves when the answer is complete. Open loop: `schedule.rs` says which requests are due.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::link::Link;
use crate::message::{Exchange, Progress};
use crate::schedule::Schedule;
use crate::sys::{self, Epoll};
use crate::window::{Outcome, Window};

const STALL: Duration = Duration::from_secs(10);

pub struct Plan {
    pub port: u16,
    pub connections: usize,
    pub exchange: Exchange,
    pub warmup: Duration,
    /// The measured part ends when this much time has passed or `messages` were answered.
    pub duration: Duration,
    pub messages: Option<u64>,
    pub server_pid: Option<i32>,
    /// Over UDP.
    pub datagrams: bool,
    pub tls: Option<Arc<ClientConfig>>,
    /// Each message is a connection of its own: connect, handshake, one exchange, close.
    pub reconnects: bool,
    /// Requests per second, over all connections; None is closed loop.
    pub rate: Option<u64>,
}

struct Connection {
    link: Link,
    progress: Progress,
    sent: usize,
    waits_for_room: bool,
    started: Instant,
}

pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut epoll = Epoll::new(plan.connections)?;
    let mut connections = connect(plan, &epoll)?;
    let mut buffer = vec![0; 256 * 1024];

    let begin = Instant::now();
    let mut window = Window::new(plan, begin);
    let mut schedule = plan.rate.map(|rate| Schedule::new(begin, rate, connections.len()));
    if schedule.is_none() {
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.begin(plan, &epoll, index, begin)?;
        }
    }
    let mut last_event = begin;
    loop {
        // The kernel's timers are too coarse for what is due within a millisecond: the client spins, on its own core.
        let timeout_ms = schedule
            .as_ref()
            .map_or(1_000, |due| due.patience(Instant::now()).as_millis() as i32);
        let ready = epoll.wait(timeout_ms)?;
        let now = Instant::now();
        if ready > 0 || schedule.as_ref().is_some_and(Schedule::is_idle) {
            last_event = now;
        } else if now - last_event > STALL {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server has stopped answering",
            ));
        }
        if window.is_over(now)? {
            break;
        }
        while let Some((index, due)) = schedule.as_mut().and_then(|schedule| schedule.next(now)) {
            connections[index].begin(plan, &epoll, index, due)?;
        }
        for position in 0..ready {
            let event = epoll.ready(position);
            let connection = &mut connections[event.index];
            if event.events & sys::OUT != 0 {
                connection.send(plan, &epoll, event.index)?;
            }
            if event.events & !sys::OUT != 0 && connection.receive(plan, &mut buffer, window.is_warm_up())? {
                let now = Instant::now();
                window.latency.record((now - connection.started).as_nanos() as u64);
                match &mut schedule {
                    Some(schedule) => schedule.is_free(event.index),
                    None => connection.begin(plan, &epoll, event.index, now)?,
                }
            }
        }
    }
    let waits = schedule.map(|schedule| schedule.unanswered(Instant::now(), |index| connections[index].started));
    window.end(waits.unwrap_or_default())
}

fn connect(plan: &Plan, epoll: &Epoll) -> io::Result<Vec<Connection>> {
    (0..plan.connections)
        .map(|index| {
            let link = Link::open(plan.port, plan.tls.as_ref())?;
            link.set_nonblocking()?;
            epoll.add(link.as_fd(), index, sys::IN)?;
            Ok(Connection {
                link,
                progress: Progress::default(),
                sent: 0,
                waits_for_room: false,
                started: Instant::now(),
            })
        })
        .collect()
}

impl Connection {
    fn begin(&mut self, plan: &Plan, epoll: &Epoll, index: usize, now: Instant) -> io::Result<()> {
        self.started = now;
        self.sent = 0;
        self.send(plan, epoll, index)
    }

    fn send(&mut self, plan: &Plan, epoll: &Epoll, index: usize) -> io::Result<()> {
        let request = plan.exchange.request();
        if self.sent < request.len() || self.link.has_unsent() {
            self.sent += self.link.send(&request[self.sent..])?;
        }
        let waits_for_room = self.sent < request.len() || self.link.has_unsent();
        if waits_for_room != self.waits_for_room {
            self.waits_for_room = waits_for_room;
            epoll.modify(
                self.link.as_fd(),
                index,
                if waits_for_room { sys::IN | sys::OUT } else { sys::IN },
            )?;
        }
        Ok(())
    }

    /// One read (epoll is level-triggered, what is left is reported again); true when the answer is complete.
    fn receive(&mut self, plan: &Plan, buffer: &mut [u8], verify: bool) -> io::Result<bool> {
        let (progress, mut complete) = (&mut self.progress, false);
        let open = self.link.receive(buffer, |bytes| {
            complete = plan
                .exchange
                .receive(progress, bytes, verify)
                .map_err(io::Error::other)?;
            Ok(())
        })?;
        if open { Ok(complete) } else { Err(closed()) }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a connection")
}

/// One connection after the other, each for one exchange. What is counted is the server's time for a connection.
pub fn run_reconnecting(plan: &Plan) -> io::Result<Outcome> {
    let mut buffer = vec![0; 256 * 1024];
    let mut window = Window::new(plan, Instant::now());
    loop {
        let now = Instant::now();
        if window.is_over(now)? {
            break;
        }
        let mut link = Link::open(plan.port, plan.tls.as_ref())?;
        let (mut progress, mut complete) = (Progress::default(), false);
        link.send(plan.exchange.request())?;
        while !complete {
            let open = link.receive(&mut buffer, |bytes| {
                complete = plan
                    .exchange
                    .receive(&mut progress, bytes, true)
                    .map_err(io::Error::other)?;
                Ok(())
            })?;
            if !open {
                return Err(closed());
            }
        }
        window.latency.record(now.elapsed().as_nanos() as u64);
    }
    window.end(Vec::new())
}
