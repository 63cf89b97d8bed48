//! Faults that the kernel produces rarely, produced often: in builds with the feature `faults` only. Wheels have
//! `faults_off.rs` in its place, the same functions without a body.
//!
//! Each function stands before one kind of system call. It answers an error that this call may give (the call is then
//! not made, so nothing is lost), or how many bytes it may move at most. What comes is drawn from a seed, so that a run
//! of one thread can be repeated; `inject` sets the seed and how often each kind comes, in a thousand calls.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;

/// What can be asked for, in the order of `inject`'s numbers.
pub const KINDS: [&str; 5] = ["short", "interrupted", "spurious", "broken", "resources"];

#[derive(Clone, Copy)]
enum Kind {
    /// A read or write moves fewer bytes than it could.
    Short,
    /// `EINTR`: a signal came first.
    Interrupted,
    /// `EAGAIN` although the descriptor was said to be ready.
    Spurious,
    /// `ECONNRESET`, `EPIPE`, `ETIMEDOUT`: the connection is gone. The kernel's own is not, so the peer sees what the
    /// owner does next.
    Broken,
    /// `ENOBUFS`, `ENOMEM`, `EMFILE`, `ENFILE`, `ENOSPC`: something has run out, for this call.
    Resources,
}

/// The calls that meet faults. Each has a sequence of its own, so that one wait more (a matter of the machine's mood)
/// changes nothing for the reads.
#[derive(Clone, Copy)]
enum Call {
    Read,
    Write,
    Datagram,
    Accept,
    Watch,
    Wait,
    Spawn,
}

const CALLS: usize = Call::Spawn as usize + 1;

/// The states of the generators; 0 is off.
static STATES: [AtomicU64; CALLS] = [const { AtomicU64::new(0) }; CALLS];
static PER_THOUSAND: [AtomicU32; KINDS.len()] = [const { AtomicU32::new(0) }; KINDS.len()];
static INJECTED: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

/// From now on, `per_thousand` of the calls meet a fault of each kind; with the seed 0 none do. Answers how many of each
/// kind there have been since it was last called.
pub fn inject(seed: u64, per_thousand: [u32; KINDS.len()]) -> [u64; KINDS.len()] {
    for state in &STATES {
        state.store(0, Ordering::Relaxed);
    }
    for (place, number) in PER_THOUSAND.iter().zip(per_thousand) {
        place.store(number, Ordering::Relaxed);
    }
    if seed != 0 {
        for (call, state) in STATES.iter().enumerate() {
            state.store(mix(seed.wrapping_add(call as u64) | 1 << 63), Ordering::Relaxed);
        }
    }
    std::array::from_fn(|kind| INJECTED[kind].swap(0, Ordering::Relaxed))
}

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(GAMMA);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The next number of the call's sequence; `None` when switched off.
fn draw(call: Call) -> Option<u64> {
    STATES[call as usize]
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            (state != 0).then(|| state.wrapping_add(GAMMA).max(1))
        })
        .ok()
        .map(mix)
}

/// Whether a fault of this kind comes now; the number it may be chosen with.
fn strikes(call: Call, kind: Kind) -> Option<u64> {
    let often = PER_THOUSAND[kind as usize].load(Ordering::Relaxed);
    if often == 0 {
        return None;
    }
    let drawn = draw(call)?;
    if drawn % 1000 >= u64::from(often) {
        return None;
    }
    INJECTED[kind as usize].fetch_add(1, Ordering::Relaxed);
    Some(drawn / 1000)
}

fn strike(call: Call, kind: Kind, errors: &[Errno]) -> io::Result<()> {
    match strikes(call, kind) {
        Some(number) => Err(errors[(number % errors.len() as u64) as usize].into()),
        None => Ok(()),
    }
}

/// At least one byte, so that it is never mistaken for an end.
fn shorten(call: Call, len: usize) -> usize {
    match strikes(call, Kind::Short) {
        Some(number) if len > 1 => 1 + (number % (len as u64 - 1)) as usize,
        _ => len,
    }
}

/// Before a read of up to `len` bytes.
pub(crate) fn before_read(len: usize) -> io::Result<usize> {
    strike(Call::Read, Kind::Interrupted, &[Errno::INTR])?;
    strike(Call::Read, Kind::Spurious, &[Errno::AGAIN])?;
    strike(Call::Read, Kind::Broken, &[Errno::CONNRESET, Errno::TIMEDOUT])?;
    strike(Call::Read, Kind::Resources, &[Errno::NOBUFS, Errno::NOMEM])?;
    Ok(shorten(Call::Read, len))
}

/// Before a write of `len` bytes, be they in memory or in a file.
pub(crate) fn before_write(len: usize) -> io::Result<usize> {
    strike(Call::Write, Kind::Interrupted, &[Errno::INTR])?;
    strike(Call::Write, Kind::Spurious, &[Errno::AGAIN])?;
    strike(Call::Write, Kind::Broken, &[Errno::CONNRESET, Errno::PIPE])?;
    strike(Call::Write, Kind::Resources, &[Errno::NOBUFS, Errno::NOMEM])?;
    Ok(shorten(Call::Write, len))
}

/// Before a datagram is received or sent: it comes whole or not at all.
pub(crate) fn before_datagram() -> io::Result<()> {
    strike(Call::Datagram, Kind::Interrupted, &[Errno::INTR])?;
    strike(Call::Datagram, Kind::Spurious, &[Errno::AGAIN])?;
    strike(Call::Datagram, Kind::Broken, &[Errno::CONNREFUSED, Errno::HOSTUNREACH])?;
    strike(Call::Datagram, Kind::Resources, &[Errno::NOBUFS, Errno::NOMEM])
}

/// Before a connection is accepted.
pub(crate) fn before_accept() -> io::Result<()> {
    strike(Call::Accept, Kind::Interrupted, &[Errno::INTR])?;
    strike(Call::Accept, Kind::Spurious, &[Errno::AGAIN])?;
    strike(Call::Accept, Kind::Broken, &[Errno::CONNABORTED])?;
    strike(
        Call::Accept,
        Kind::Resources,
        &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM],
    )
}

/// Before the kernel is asked to watch one more descriptor.
pub(crate) fn before_watch() -> io::Result<()> {
    strike(Call::Watch, Kind::Resources, &[Errno::NOSPC, Errno::NOMEM])
}

/// Before a wait for readiness.
pub(crate) fn before_wait() -> io::Result<()> {
    strike(Call::Wait, Kind::Interrupted, &[Errno::INTR])
}

/// Before a child process is made.
pub(crate) fn before_spawn() -> io::Result<()> {
    strike(
        Call::Spawn,
        Kind::Resources,
        &[Errno::MFILE, Errno::NFILE, Errno::NOMEM],
    )
}
