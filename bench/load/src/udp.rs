//! The same measurement with datagrams: each connection is a connected UDP socket with one message under way. A message
//! that gets no answer in time is lost, and sent again.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::message::Progress;
use crate::run::Plan;
use crate::sys::{self, Epoll};
use crate::window::{Outcome, Window};

/// Over loopback only a full receive buffer loses anything.
const LOST: Duration = Duration::from_millis(200);

struct Peer {
    socket: UdpSocket,
    started: Instant,
}

pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut epoll = Epoll::new(plan.connections)?;
    let mut buffer = vec![0; 64 * 1024];
    let begin = Instant::now();
    let mut window = Window::new(plan, begin);
    let mut peers = Vec::with_capacity(plan.connections);
    for index in 0..plan.connections {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, plan.port))?;
        socket.set_nonblocking(true)?;
        epoll.add(socket.as_fd(), index, sys::IN)?;
        socket.send(plan.exchange.request())?;
        peers.push(Peer { socket, started: begin });
    }
    let mut last_look = begin;
    loop {
        let ready = epoll.wait(100)?;
        let now = Instant::now();
        if window.is_over(now)? {
            break;
        }
        for position in 0..ready {
            let peer = &mut peers[epoll.ready(position).index];
            let count = match peer.socket.recv(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            // A datagram is a whole answer, or a wrong one.
            plan.exchange
                .receive(&mut Progress::default(), &buffer[..count], window.is_warm_up())
                .map_err(io::Error::other)?;
            let now = Instant::now();
            window.latency.record((now - peer.started).as_nanos() as u64);
            peer.started = now;
            peer.socket.send(plan.exchange.request())?;
        }
        if now - last_look > LOST {
            last_look = now;
            for peer in &mut peers {
                if now.saturating_duration_since(peer.started) > LOST {
                    peer.started = now;
                    peer.socket.send(plan.exchange.request())?;
                }
            }
        }
    }
    window.end(Vec::new())
}
