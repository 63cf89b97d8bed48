//! The measurement: connect, warm up, measure. Every connection has one request under way at any time
//! (closed loop): the next one leaves when the answer is complete.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::message::{Exchange, Progress};
use crate::sys::{self, Epoll};

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
}

pub struct Outcome {
    pub messages: u64,
    pub wall_ns: u64,
    pub client_cpu_ns: u64,
    pub server_cpu_ns: Option<u64>,
    pub latency: Histogram,
}

struct Connection {
    stream: TcpStream,
    progress: Progress,
    sent: usize,
    waits_for_room: bool,
    started: Instant,
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

pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut epoll = Epoll::new(plan.connections)?;
    let mut connections = connect(plan, &epoll)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut latency = Histogram::new();
    let mut mark: Option<Mark> = None;

    let begin = Instant::now();
    for (index, connection) in connections.iter_mut().enumerate() {
        connection.begin(plan, &epoll, index, begin)?;
    }
    let mut last_event = begin;
    loop {
        let ready = epoll.wait(1_000)?;
        let now = Instant::now();
        if ready > 0 {
            last_event = now;
        } else if now - last_event > STALL {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server has stopped answering",
            ));
        }
        match &mark {
            None if now - begin >= plan.warmup => {
                mark = Some(Mark::now(plan)?);
                latency.clear();
            }
            Some(mark)
                if now - mark.at >= plan.duration || plan.messages.is_some_and(|goal| latency.count() >= goal) =>
            {
                break;
            }
            _ => {}
        }
        for position in 0..ready {
            let event = epoll.ready(position);
            let connection = &mut connections[event.index];
            if event.events & sys::OUT != 0 {
                connection.send(plan, &epoll, event.index)?;
            }
            if event.events & !sys::OUT != 0 && connection.receive(plan, &mut buffer, mark.is_none())? {
                let now = Instant::now();
                latency.record((now - connection.started).as_nanos() as u64);
                connection.begin(plan, &epoll, event.index, now)?;
            }
        }
    }
    let end = Mark::now(plan)?;
    let mark = mark.expect("the loop ends only after the warm-up");
    Ok(Outcome {
        messages: latency.count(),
        wall_ns: (end.at - mark.at).as_nanos() as u64,
        client_cpu_ns: end.client_cpu_ns - mark.client_cpu_ns,
        server_cpu_ns: end
            .server_cpu_ns
            .zip(mark.server_cpu_ns)
            .map(|(end, start)| end - start),
        latency,
    })
}

fn connect(plan: &Plan, epoll: &Epoll) -> io::Result<Vec<Connection>> {
    (0..plan.connections)
        .map(|index| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, plan.port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_fd(), index, sys::IN)?;
            Ok(Connection {
                stream,
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
        if self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let waits_for_room = self.sent < request.len();
        if waits_for_room != self.waits_for_room {
            self.waits_for_room = waits_for_room;
            epoll.modify(
                self.stream.as_fd(),
                index,
                if waits_for_room { sys::IN | sys::OUT } else { sys::IN },
            )?;
        }
        Ok(())
    }

    /// One read (epoll is level-triggered, what is left is reported again); true when the answer is complete.
    fn receive(&mut self, plan: &Plan, buffer: &mut [u8], verify: bool) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed a connection",
                ));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        plan.exchange
            .receive(&mut self.progress, &buffer[..count], verify)
            .map_err(io::Error::other)
    }
}
