//! The Rust echo limit: an echo server with nothing between the kernel and the bytes. What a Python loop on this
//! machine can at best hope for.
//!
//! It does what the real transport does, and no more: level-triggered epoll, one thread, one shared receive buffer,
//! reading stops at a short read, sends at once, and asks for writability only after a short send (reading pauses until
//! that is sent).
//!
//! `echo_limit --port 0 [--once-report]` prints `listening PORT`, serves until stdin closes or SIGTERM (with
//! `--once-report` also when the last client has gone), then prints one JSON line: its CPU seconds since it listened,
//! and how many messages it received. Without `--port` it serves a client of its own for a moment: a self-test.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use reactor::{Event, Events, Interest, Poller, sockets};

/// As the transport's: holds any burst a socket buffer of ordinary size can.
const BUFFER_LEN: usize = 256 * 1024;

/// The transport's begins with a page: the kernel fills it more quickly then on some processors.
const PAGE_LEN: usize = 4096;

struct Connection {
    socket: OwnedFd,
    /// What a short send left, and how much of it is sent by now.
    unsent: Vec<u8>,
    sent: usize,
}

struct Server {
    poller: Poller,
    listener: TcpListener,
    /// Becomes readable at SIGTERM.
    terminated: OwnedFd,
    /// Indexed by descriptor, which is also the token.
    connections: Vec<Option<Connection>>,
    open: usize,
    served: usize,
    messages: u64,
    buffer: Vec<u8>,
}

pub(crate) fn main() -> io::Result<ExitCode> {
    let arguments: Vec<_> = env::args().collect();
    let Some(place) = arguments.iter().position(|argument| argument == "--port") else {
        return self_test(arguments.iter().any(|argument| argument == "--bench"));
    };
    let Some(port) = arguments.get(place + 1).and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: echo_limit --port PORT [--once-report]");
        return Ok(ExitCode::from(2));
    };
    let once = arguments.iter().any(|argument| argument == "--once-report");
    let mut server = Server::new(port)?;
    println!("listening {}", server.listener.local_addr()?.port());
    // Standard input may be a file or /dev/null, which cannot be watched: then only SIGTERM ends us.
    let stdin = io::stdin().as_raw_fd();
    let _ = server.poller.add(stdin, stdin as u64, Interest::READABLE);
    let (user, system) = cpu_seconds();
    server.serve(once)?;
    let (user_end, system_end) = cpu_seconds();
    println!(
        "{}",
        report(user_end - user, system_end - system, server.messages, server.served)
    );
    Ok(ExitCode::SUCCESS)
}

fn report(user: f64, system: f64, messages: u64, connections: usize) -> String {
    let cpu = user + system;
    let times = format!(r#""user_s": {user:.6}, "system_s": {system:.6}, "cpu_s": {cpu:.6}"#);
    format!(r#"{{{times}, "messages": {messages}, "connections": {connections}}}"#)
}

/// Serves one client thread that echoes small messages through it.
fn self_test(real: bool) -> io::Result<ExitCode> {
    let messages = if real { 100_000 } else { 10 };
    let mut server = Server::new(0)?;
    let address = server.listener.local_addr()?;
    let client = thread::spawn(move || -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (message, mut echo) = ([7; 64], [0; 64]);
        for _ in 0..messages {
            stream.write_all(&message)?;
            stream.read_exact(&mut echo)?;
            assert_eq!(echo, message);
        }
        // More than the socket buffers hold, before anything is read: the server must see short sends and wait to
        // write.
        stream.set_nonblocking(true)?;
        let (block, mut sent) = (vec![9; 1 << 20], 0);
        loop {
            match stream.write(&block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                answer => sent += answer?,
            }
        }
        stream.set_nonblocking(false)?;
        stream.read_exact(&mut vec![0; sent])
    });
    let started = thread_cpu_seconds();
    server.serve(true)?;
    let cpu = thread_cpu_seconds() - started;
    client.join().expect("every echo is what was sent")?;
    println!("{}", report(cpu, 0.0, server.messages, server.served));
    Ok(ExitCode::SUCCESS)
}

impl Server {
    fn new(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let (poller, terminated) = (Poller::new()?, sigterm_as_descriptor()?);
        for fd in [listener.as_raw_fd(), terminated.as_raw_fd()] {
            poller.add(fd, fd as u64, Interest::READABLE)?;
        }
        Ok(Self {
            poller,
            listener,
            terminated,
            connections: Vec::new(),
            open: 0,
            served: 0,
            messages: 0,
            buffer: vec![0; BUFFER_LEN + PAGE_LEN],
        })
    }

    fn serve(&mut self, once: bool) -> io::Result<()> {
        let (listener, terminated, stdin) = (
            self.listener.as_raw_fd(),
            self.terminated.as_raw_fd(),
            io::stdin().as_raw_fd(),
        );
        let mut events = Events::with_capacity(256);
        loop {
            match self.poller.wait(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                answer => answer?,
            };
            for event in events.iter() {
                let fd = event.token as RawFd;
                if fd == listener {
                    self.accept()?;
                } else if fd == terminated || fd == stdin {
                    if fd == terminated || stdin_closed() {
                        return Ok(());
                    }
                } else {
                    self.on_event(fd, event);
                }
            }
            if once && self.open == 0 && self.served > 0 {
                return Ok(());
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match sockets::accept4(self.listener.as_raw_fd()) {
                Ok(socket) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let fd = socket.as_raw_fd();
            sockets::set_nodelay(fd);
            self.poller.add(fd, fd as u64, Interest::READABLE)?;
            let index = fd as usize;
            if index >= self.connections.len() {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Connection {
                socket,
                unsent: Vec::new(),
                sent: 0,
            });
            self.open += 1;
            self.served += 1;
        }
    }

    /// Any failure ends the connection, as the end of its stream does.
    fn on_event(&mut self, fd: RawFd, event: Event) {
        let Some(connection) = self.connections.get_mut(fd as usize).and_then(Option::as_mut) else {
            return;
        };
        let goes_on = if connection.unsent.is_empty() {
            let begin = self.buffer.as_ptr().align_offset(PAGE_LEN);
            let buffer = &mut self.buffer[begin..begin + BUFFER_LEN];
            connection.echo(&self.poller, buffer, &mut self.messages)
        } else if event.readiness.is_writable() {
            connection.send_rest(&self.poller)
        } else {
            Ok(true)
        };
        if !matches!(goes_on, Ok(true)) {
            self.connections[fd as usize] = None;
            self.open -= 1;
        }
    }
}

impl Connection {
    fn echo(&mut self, poller: &Poller, buffer: &mut [u8], messages: &mut u64) -> io::Result<bool> {
        let fd = self.socket.as_raw_fd();
        loop {
            let received = match sockets::recv_into(fd, buffer) {
                Ok(0) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                answer => answer?,
            };
            *messages += 1;
            let sent = send_now(fd, &buffer[..received])?;
            if sent < received {
                self.unsent.extend_from_slice(&buffer[sent..received]);
                poller.modify(fd, fd as u64, Interest::WRITABLE)?;
                return Ok(true);
            }
            if received < buffer.len() {
                return Ok(true);
            }
        }
    }

    fn send_rest(&mut self, poller: &Poller) -> io::Result<bool> {
        let fd = self.socket.as_raw_fd();
        self.sent += send_now(fd, &self.unsent[self.sent..])?;
        if self.sent == self.unsent.len() {
            self.unsent.clear();
            self.sent = 0;
            poller.modify(fd, fd as u64, Interest::READABLE)?;
        }
        Ok(true)
    }
}

/// How much the socket took; nothing if its buffer is full.
fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    match sockets::send(fd, bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        answer => answer,
    }
}

/// Reads what came; a closed input, or one that fails, ends us.
fn stdin_closed() -> bool {
    !matches!(io::stdin().lock().read(&mut [0; 4096]), Ok(1..))
}

fn sigterm_as_descriptor() -> io::Result<OwnedFd> {
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the mask, and the calls after it read it. Blocking a signal concerns this
    // thread and those it starts; the descriptor is new and owned by nobody else.
    unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        libc::sigaddset(mask.as_mut_ptr(), libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, mask.as_ptr(), std::ptr::null_mut());
        match libc::signalfd(-1, mask.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

fn cpu_seconds() -> (f64, f64) {
    usage(libc::RUSAGE_SELF)
}

fn thread_cpu_seconds() -> f64 {
    let (user, system) = usage(libc::RUSAGE_THREAD);
    user + system
}

fn usage(of: libc::c_int) -> (f64, f64) {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the struct, whose zeroes are valid too.
    let usage = unsafe {
        libc::getrusage(of, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime), seconds(usage.ru_stime))
}
