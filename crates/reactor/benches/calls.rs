//! What the other hot calls of the crate cost: clocks, inbox, waker, a look at the poller, a send and a receive.
//! `cargo bench --bench calls`. Without `--bench` (as `cargo test --all-targets` runs it) each case runs once and tiny.

use std::env;
use std::hint::black_box;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use reactor::{Events, Inbox, Interest, Poller, Registry, TickClock, Waker, now_ns, sockets, ticks};

struct Bench {
    real: bool,
}

impl Bench {
    /// Prints the best time per call over a few rounds.
    fn case(&self, name: &str, mut call: impl FnMut()) {
        let (rounds, calls) = if self.real { (9, 200_000) } else { (1, 10) };
        let best = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..calls {
                    call();
                }
                start.elapsed().as_nanos() as f64 / f64::from(calls)
            })
            .fold(f64::INFINITY, f64::min);
        println!("{name:<44}{best:>10.1}");
    }
}

fn main() {
    let bench = Bench {
        real: env::args().any(|argument| argument == "--bench"),
    };
    println!("{:<44}{:>10}", "calls, ns", "best");
    clocks(&bench);
    threads(&bench);
    kernel(&bench);
}

fn clocks(bench: &Bench) {
    bench.case("now_ns", || {
        black_box(now_ns());
    });
    bench.case("ticks", || {
        black_box(ticks());
    });
    let mut clock = TickClock::new();
    bench.case("TickClock::observe + ticks_for_ns", || {
        clock.observe(black_box(5), black_box(7));
        black_box(clock.ticks_for_ns(black_box(50_000)));
    });
}

fn threads(bench: &Bench) {
    let inbox = Inbox::new();
    let waker = Waker::new().expect("an eventfd");
    let mut batch = Vec::new();
    bench.case("inbox: is_empty", || {
        black_box(inbox.is_empty());
    });
    bench.case("inbox: push + drain, one at a time", || {
        let _ = inbox.push(1_usize);
        inbox.drain_into(&mut batch);
        batch.clear();
    });
    bench.case("inbox: 100 x push, one drain", || {
        for item in 0..100 {
            let _ = inbox.push(item);
        }
        inbox.drain_into(&mut batch);
        batch.clear();
    });
    bench.case("waker: notify, nobody sleeps", || waker.notify());
    bench.case("waker: prepare_sleep + finish_sleep", || {
        waker.prepare_sleep();
        waker.finish_sleep();
    });
    bench.case("waker: a sleeper notified, then drained", || {
        waker.prepare_sleep();
        waker.notify();
        waker.finish_sleep();
        waker.drain();
    });
}

fn kernel(bench: &Bench) {
    let (one, mut other) = UnixStream::pair().expect("a socket pair");
    one.set_nonblocking(true).expect("a socket takes the flag");
    let fd = one.as_raw_fd();
    let mut events = Events::default();

    let poller = Poller::new().expect("an epoll instance");
    poller.add(fd, 1, Interest::READABLE).expect("a socket can be watched");
    let look = |events: &mut Events| {
        black_box(poller.wait(events, Some(0)).expect("no signals here"));
    };
    bench.case("wait(0), nothing ready", || look(&mut events));
    bench.case("wait(1 ns), nothing ready", || {
        black_box(poller.wait(&mut events, Some(1)).expect("no signals here"));
    });
    other.write_all(b"x").expect("room for a byte");
    bench.case("wait(0), one ready", || look(&mut events));

    let mut registry = Registry::new().expect("an epoll instance");
    bench.case("set_reader + clear_reader", || {
        let _ = registry.set_reader(fd, 1_usize);
        black_box(registry.clear_reader(fd));
    });
    let _ = registry.set_reader(fd, 1);
    bench.case("linger_reader + set_reader", || {
        black_box(registry.linger_reader(fd));
        let _ = registry.set_reader(fd, 1);
    });
    bench.case("linger_reader + set_reader_verified", || {
        black_box(registry.linger_reader(fd));
        let _ = registry.set_reader_verified(fd, 1);
    });
    bench.case("set_writer + clear_writer beside a reader", || {
        let _ = registry.set_writer(fd, 1);
        black_box(registry.clear_writer(fd));
    });

    let mut buffer = [MaybeUninit::uninit(); 4096];
    let _ = sockets::recv(fd, &mut buffer);
    bench.case("recv, EAGAIN", || {
        let _ = black_box(sockets::recv(fd, &mut buffer));
    });
    bench.case("send + recv of 64 bytes, unix sockets", || {
        let _ = black_box(sockets::send(other.as_raw_fd(), &[7; 64]));
        let _ = black_box(sockets::recv(fd, &mut buffer));
    });
    bench.case("getpid", || {
        black_box(reactor::getpid());
    });
}
