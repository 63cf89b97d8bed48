//! The descriptor table over real sockets beside a plain note of who waits for what: every sequence of registrations,
//! closings behind our back and reused numbers must leave the kernel reporting exactly what an owner waits for. The
//! property tests and the fuzzer draw the steps.

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use reactor::{Events, Registry};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    SetReader,
    SetReaderVerified,
    SetWriter,
    SetWriterVerified,
    ClearReader,
    ClearWriter,
    Linger,
    Forget,
    /// Another file takes over the number, without a word to the registry, as when the user closes and opens sockets.
    Reuse,
    /// The same with a file that has nothing to read, while a duplicate keeps the old one alive: the kernel goes on
    /// reporting that.
    Haunt,
    /// What the event loop does about files that are reported and cannot be taken out.
    Rebuild,
    TakeAll,
    Turn,
}

impl Step {
    pub(crate) const ALL: [Self; 13] = [
        Self::SetReader,
        Self::SetReaderVerified,
        Self::SetWriter,
        Self::SetWriterVerified,
        Self::ClearReader,
        Self::ClearWriter,
        Self::Linger,
        Self::Forget,
        Self::Reuse,
        Self::Haunt,
        Self::Rebuild,
        Self::TakeAll,
        Self::Turn,
    ];
}

pub(crate) const NUMBERS: usize = 3;

#[derive(Clone, Copy, Default)]
struct Sides {
    reader: Option<u32>,
    writer: Option<u32>,
    /// The file has nothing to read.
    quiet: bool,
    /// The file was replaced while nobody waited, and the registry has not been asked since.
    unknown: bool,
}

impl Sides {
    fn owned(&self) -> bool {
        self.reader.is_some() || self.writer.is_some()
    }

    /// Who is called, for this number.
    fn calls(&self, fd: RawFd) -> impl Iterator<Item = (RawFd, char, u32)> {
        let reader = self.reader.filter(|_| !self.quiet).map(|owner| (fd, 'r', owner));
        let writer = self.writer.map(|owner| (fd, 'w', owner));
        reader.into_iter().chain(writer)
    }
}

/// Each step is about one of `NUMBERS` sockets. Those have room to write and, unless said otherwise, a byte to read, so
/// the kernel reports the sides that are armed.
pub(crate) fn run(steps: impl IntoIterator<Item = (usize, Step)>) {
    let mut registry = Registry::new().unwrap();
    let mut sockets: Vec<_> = (0..NUMBERS).map(|_| full_pair()).collect();
    let mut model = [Sides::default(); NUMBERS];
    let (mut named, mut ghosts) = (0, Vec::new());
    for (number, step) in steps {
        let fd = sockets[number].0.as_raw_fd();
        let sides = &mut model[number];
        named += 1;
        let step = match step {
            // Who cannot know whether the file is still the same has to ask.
            Step::SetReader if sides.unknown => Step::SetReaderVerified,
            Step::SetWriter if sides.unknown => Step::SetWriterVerified,
            step => step,
        };
        // Taking an owner off asks the kernel only where that changes what it was told.
        let asks = !matches!(
            step,
            Step::ClearReader | Step::ClearWriter | Step::Linger | Step::Turn | Step::Rebuild | Step::TakeAll
        );
        if asks {
            sides.unknown = false;
        }
        match step {
            Step::SetReader => assert_eq!(registry.set_reader(fd, named).unwrap(), sides.reader.replace(named)),
            Step::SetReaderVerified => {
                assert_eq!(
                    registry.set_reader_verified(fd, named).unwrap(),
                    sides.reader.replace(named)
                );
            }
            Step::SetWriter => assert_eq!(registry.set_writer(fd, named).unwrap(), sides.writer.replace(named)),
            Step::SetWriterVerified => {
                assert_eq!(
                    registry.set_writer_verified(fd, named).unwrap(),
                    sides.writer.replace(named)
                );
            }
            Step::ClearReader => assert_eq!(registry.clear_reader(fd), sides.reader.take()),
            Step::ClearWriter => assert_eq!(registry.clear_writer(fd), sides.writer.take()),
            Step::Linger => assert_eq!(registry.linger_reader(fd), sides.reader.take()),
            Step::Forget => {
                assert_eq!(registry.forget(fd), (sides.reader.take(), sides.writer.take()));
            }
            Step::Reuse | Step::Haunt => {
                sides.quiet = matches!(step, Step::Haunt);
                if sides.quiet {
                    let old_peer = sockets[number].1.try_clone().unwrap();
                    ghosts.push((sockets[number].0.try_clone().unwrap(), old_peer));
                }
                let (replacement, peer) = if sides.quiet { pair() } else { full_pair() };
                rename(&replacement, &sockets[number].0);
                sockets[number].1 = peer;
                sides.unknown = !sides.owned();
                if sides.owned() {
                    // A careful user removes reader and writer when closing. Doing it late must do no harm.
                    assert_eq!(registry.clear_reader(fd), sides.reader.take());
                    assert_eq!(registry.clear_writer(fd), sides.writer.take());
                }
            }
            Step::Rebuild => registry.rebuild(|_| Ok(())).unwrap(),
            Step::TakeAll => {
                let mut owners = registry.take_all();
                owners.sort_unstable();
                assert_eq!(owners, all_owners(&model));
                for sides in &mut model {
                    (sides.reader, sides.writer) = (None, None);
                }
            }
            Step::Turn => {
                assert_eq!(turn(&mut registry), all_calls(&model, &sockets));
            }
        }
        assert_eq!(registry.len(), model.iter().filter(|sides| sides.owned()).count());
        assert_eq!(registry.is_empty(), !model.iter().any(Sides::owned));
    }
    if !ghosts.is_empty() {
        registry.rebuild(|_| Ok(())).unwrap();
    }
    assert_eq!(turn(&mut registry), all_calls(&model, &sockets));
    // The first turn has disarmed what lingered: nothing else is reported any more.
    let mut events = Events::default();
    let armed = model.iter().filter(|sides| sides.calls(0).next().is_some()).count();
    assert_eq!(registry.poller().wait(&mut events, Some(0)).unwrap(), armed);
    let mut owners = registry.take_all();
    owners.sort_unstable();
    assert_eq!(owners, all_owners(&model));
    assert_eq!(registry.poller().wait(&mut events, Some(0)).unwrap(), 0);
}

fn all_calls(model: &[Sides], sockets: &[(UnixStream, UnixStream)]) -> Vec<(RawFd, char, u32)> {
    let each = model.iter().zip(sockets);
    let mut calls: Vec<_> = each
        .flat_map(|(sides, (socket, _))| sides.calls(socket.as_raw_fd()))
        .collect();
    calls.sort_unstable();
    calls
}

fn all_owners(model: &[Sides]) -> Vec<u32> {
    let mut owners: Vec<_> = model
        .iter()
        .flat_map(|sides| sides.reader.into_iter().chain(sides.writer))
        .collect();
    owners.sort_unstable();
    owners
}

/// What the kernel reports now, settled as the event loop would: who owns the side is named, idle sides are disarmed.
pub(crate) fn turn(registry: &mut Registry<u32>) -> Vec<(RawFd, char, u32)> {
    let mut events = Events::default();
    registry.poller().wait(&mut events, Some(0)).unwrap();
    let mut called = Vec::new();
    for event in events.iter() {
        let Some(fd) = registry.lookup(event.token) else {
            continue;
        };
        if event.readiness.is_readable() {
            match registry.reader(fd) {
                Some(&owner) => called.push((fd, 'r', owner)),
                None => drop(registry.disarm_idle(event.token)),
            }
        }
        if event.readiness.is_writable() {
            match registry.writer(fd) {
                Some(&owner) => called.push((fd, 'w', owner)),
                None => drop(registry.disarm_idle(event.token)),
            }
        }
    }
    called.sort_unstable();
    called
}

pub(crate) fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

pub(crate) fn full_pair() -> (UnixStream, UnixStream) {
    let (one, mut other) = pair();
    other.write_all(b"x").unwrap();
    (one, other)
}

/// Makes the number of `victim` mean the file of `file`, as closing it and opening another would.
pub(crate) fn rename(file: &UnixStream, victim: &UnixStream) {
    // SAFETY: both numbers are open and ours; the victim's number stays open, for its owner to close.
    assert!(unsafe { libc::dup2(file.as_raw_fd(), victim.as_raw_fd()) } >= 0);
}
