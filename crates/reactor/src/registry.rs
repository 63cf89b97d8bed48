//! The table of descriptors: who waits for reading, who for writing, and what the kernel has been told.
//!
//! Invariants:
//! - I1. `slot.interest` is what the kernel was last told successfully, and nothing after a call that showed the file
//!   to be closed. It covers both owners of an open file, and may exceed them: a *lingering* interest has no owner,
//!   which saves two system calls per message when the next owner comes at once.
//! - I2. A slot with no owner and no interest is empty, and has a generation no token in flight carries.
//! - I3. Owners are never dropped in here. Dropping may run any code, and that code may want this table; so they are
//!   handed back.
//!
//! Descriptors belong to the user, who may close one without telling us. Closing removes it from the kernel's set
//! (unless a duplicate keeps the open file alive), so calls then fail with `ENOENT`, or `EBADF`; both are expected
//! here, and adding again is the cure when the number was reused.

use std::io;
use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::poller::{Interest, Poller};
use crate::token::Token;

/// Owners of descriptors, over a [`Poller`]. `T` is one word, a reference in practice.
#[derive(Debug)]
pub struct Registry<T> {
    poller: Poller,
    /// Indexed by descriptor: the kernel always gives the lowest free number, so the table stays dense.
    slots: Vec<Slot<T>>,
    /// Slots with at least one owner.
    owned: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    interest: Interest,
    reader: Option<T>,
    writer: Option<T>,
}

// One reference each: a table for 10,000 connections is 240 kB.
const _: () = assert!(size_of::<Slot<&u8>>() <= 24);

impl<T> Slot<T> {
    const EMPTY: Self = Self {
        generation: 0,
        interest: Interest::NONE,
        reader: None,
        writer: None,
    };

    #[inline]
    fn is_owned(&self) -> bool {
        self.reader.is_some() || self.writer.is_some()
    }

    /// What the owners need the kernel to report.
    #[inline]
    fn wanted(&self) -> Interest {
        let mut wanted = Interest::NONE;
        if self.reader.is_some() {
            wanted = wanted | Interest::READABLE;
        }
        if self.writer.is_some() {
            wanted = wanted | Interest::WRITABLE;
        }
        wanted
    }

    #[inline]
    fn owner_mut(&mut self, side: Interest) -> &mut Option<T> {
        if side == Interest::READABLE {
            &mut self.reader
        } else {
            &mut self.writer
        }
    }
}

impl<T> Registry<T> {
    /// An empty table over a new poller.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            slots: Vec::new(),
            owned: 0,
        })
    }

    /// The poller, to wait on, and for descriptors that are not in the table ([`Token::RESERVED`]).
    #[inline]
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Makes `owner` the reader of `fd` and gives back who was before. On failure nothing has changed, and `owner`
    /// comes back with the error.
    ///
    /// Makes no system call if the kernel reports readability already, be it for an earlier owner or because the
    /// interest lingers. The second case trusts that `fd` is still the same open file; where that is not known,
    /// [`set_reader_verified`](Self::set_reader_verified) asks.
    #[inline]
    pub fn set_reader(&mut self, fd: RawFd, owner: T) -> Result<Option<T>, (io::Error, T)> {
        self.set(fd, Interest::READABLE, owner)
    }

    /// As [`set_reader`](Self::set_reader), but the kernel is asked whether it still knows `fd` (one call) where
    /// `set_reader` would make none. Without asking, a socket that took over the number of a closed one would wait for
    /// ever.
    #[inline]
    pub fn set_reader_verified(&mut self, fd: RawFd, owner: T) -> Result<Option<T>, (io::Error, T)> {
        if let Err(error) = self.verify(fd, Interest::READABLE) {
            return Err((error, owner));
        }
        self.set_reader(fd, owner)
    }

    /// As [`set_reader_verified`](Self::set_reader_verified), for the writer.
    #[inline]
    pub fn set_writer_verified(&mut self, fd: RawFd, owner: T) -> Result<Option<T>, (io::Error, T)> {
        if let Err(error) = self.verify(fd, Interest::WRITABLE) {
            return Err((error, owner));
        }
        self.set_writer(fd, owner)
    }

    fn verify(&mut self, fd: RawFd, side: Interest) -> io::Result<()> {
        match self.slot(fd).map(|slot| slot.interest) {
            Some(interest) if interest.contains(side) => self.tell(fd, interest, interest),
            _ => Ok(()),
        }
    }

    /// Makes `owner` the writer of `fd`; otherwise as [`set_reader`](Self::set_reader).
    #[inline]
    pub fn set_writer(&mut self, fd: RawFd, owner: T) -> Result<Option<T>, (io::Error, T)> {
        self.set(fd, Interest::WRITABLE, owner)
    }

    /// Removes the reader of `fd` and the kernel's interest, also a lingering one.
    #[inline]
    pub fn clear_reader(&mut self, fd: RawFd) -> Option<T> {
        self.clear(fd, Interest::READABLE)
    }

    /// Removes the writer of `fd` and the kernel's interest.
    #[inline]
    pub fn clear_writer(&mut self, fd: RawFd) -> Option<T> {
        self.clear(fd, Interest::WRITABLE)
    }

    /// The reader of `fd`.
    #[inline]
    pub fn reader(&self, fd: RawFd) -> Option<&T> {
        self.slot(fd)?.reader.as_ref()
    }

    /// The writer of `fd`.
    #[inline]
    pub fn writer(&self, fd: RawFd) -> Option<&T> {
        self.slot(fd)?.writer.as_ref()
    }

    /// The descriptor an event is about, or `None` if it is about an earlier use of the number, or about nothing of
    /// ours.
    #[inline]
    pub fn lookup(&self, token: u64) -> Option<RawFd> {
        let token = Token::from_raw(token);
        let slot = self.slot(token.fd())?;
        (slot.generation == token.generation()).then(|| token.fd())
    }

    /// The token of this use of `fd`, while somebody owns it.
    #[inline]
    pub fn token(&self, fd: RawFd) -> Option<u64> {
        let slot = self.slot(fd)?;
        slot.is_owned().then(|| Token::new(fd, slot.generation).raw())
    }

    /// Removes the reader of `fd` but leaves the kernel's interest, expecting the next reader soon. No system call.
    ///
    /// If an event comes first, [`disarm_idle`](Self::disarm_idle) it. Before the descriptor is closed,
    /// [`forget`](Self::forget) it.
    #[inline]
    pub fn linger_reader(&mut self, fd: RawFd) -> Option<T> {
        let slot = self.slot_mut(fd)?;
        let owner = slot.reader.take()?;
        if !slot.is_owned() {
            self.owned -= 1;
        }
        Some(owner)
    }

    /// An event came for a side that has no owner: stops the kernel from reporting what nobody waits for.
    ///
    /// `false` if that cannot be done: the token is stale, or the kernel does not know the number (any more). Such an
    /// event will come again at every wait if a duplicate of the closed descriptor lives on somewhere, in a child
    /// process for instance; [`rebuild`](Self::rebuild) ends that.
    pub fn disarm_idle(&mut self, token: u64) -> bool {
        let Some(fd) = self.lookup(token) else { return false };
        self.settle(fd)
    }

    /// Drops all knowledge of `fd`, here and in the kernel, and gives back its reader and writer.
    pub fn forget(&mut self, fd: RawFd) -> (Option<T>, Option<T>) {
        let Some(slot) = self.slot_mut(fd) else {
            return (None, None);
        };
        let owners = (slot.reader.take(), slot.writer.take());
        if owners.0.is_some() || owners.1.is_some() {
            self.owned -= 1;
        }
        self.settle(fd);
        owners
    }

    /// The descriptors that have an owner, in ascending order.
    pub fn owned_fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        let owned = |slot: &Slot<T>| slot.reader.is_some() || slot.writer.is_some();
        self.slots
            .iter()
            .enumerate()
            .filter(move |(_, slot)| owned(slot))
            .map(|(fd, _)| fd as RawFd)
    }

    /// How many descriptors have an owner.
    #[inline]
    pub fn len(&self) -> usize {
        self.owned
    }

    /// Whether nobody waits for anything.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.owned == 0
    }

    /// Empties the table and the kernel's set, and gives back all owners.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut owners = Vec::with_capacity(self.owned);
        for fd in 0..self.slots.len() as RawFd {
            let (reader, writer) = self.forget(fd);
            owners.extend(reader.into_iter().chain(writer));
        }
        owners
    }

    /// Starts over with a new kernel set that holds what owners wait for and what `others` adds.
    ///
    /// The only cure for an event whose token [`lookup`](Self::lookup) does not know although no registration changed
    /// since the wait: it is about a file that was closed under the number it was added with, and lives on in a
    /// duplicate. There is no way to take such a file out, and it would be reported at every wait.
    pub fn rebuild(&mut self, others: impl FnOnce(&Poller) -> io::Result<()>) -> io::Result<()> {
        let poller = Poller::new()?;
        others(&poller)?;
        for (fd, slot) in self.slots.iter_mut().enumerate() {
            if slot.interest.is_none() {
                continue;
            }
            let (fd, wanted) = (fd as RawFd, slot.wanted());
            let added = !wanted.is_none() && poller.add(fd, Token::new(fd, slot.generation).raw(), wanted).is_ok();
            slot.interest = if added { wanted } else { Interest::NONE };
            if !added && !slot.is_owned() {
                slot.generation = Token::next_generation(slot.generation);
            }
        }
        self.poller = poller;
        Ok(())
    }

    /// Gives back all owners without a word to the kernel: in a fork's child the kernel's set is the parent's too.
    pub fn abandon(self) -> Vec<T> {
        self.slots
            .into_iter()
            .flat_map(|slot| slot.reader.into_iter().chain(slot.writer))
            .collect()
    }

    /// Shows every owner to `visit`.
    pub fn for_each(&self, mut visit: impl FnMut(&T)) {
        for slot in &self.slots {
            slot.reader.iter().chain(&slot.writer).for_each(&mut visit);
        }
    }

    #[inline]
    fn slot(&self, fd: RawFd) -> Option<&Slot<T>> {
        self.slots.get(usize::try_from(fd).ok()?)
    }

    #[inline]
    fn slot_mut(&mut self, fd: RawFd) -> Option<&mut Slot<T>> {
        self.slots.get_mut(usize::try_from(fd).ok()?)
    }

    #[inline]
    fn set(&mut self, fd: RawFd, side: Interest, owner: T) -> Result<Option<T>, (io::Error, T)> {
        let slot = self.slot(fd).unwrap_or(&Slot::EMPTY);
        let (known, was_owned) = (slot.interest, slot.is_owned());
        let interest = known | side;
        if interest != known {
            // The kernel first: if it refuses there is nothing to undo, and a number nobody opened does not size the
            // table.
            if let Err(error) = self.tell(fd, known, interest) {
                return Err((error, owner));
            }
        }
        let index = fd as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || Slot::EMPTY);
        }
        let slot = &mut self.slots[index];
        slot.interest = interest;
        self.owned += usize::from(!was_owned);
        Ok(slot.owner_mut(side).replace(owner))
    }

    #[inline]
    fn clear(&mut self, fd: RawFd, side: Interest) -> Option<T> {
        let slot = self.slot_mut(fd)?;
        let owner = slot.owner_mut(side).take();
        let wanted = slot.interest.without(side);
        if owner.is_some() && !slot.is_owned() {
            self.owned -= 1;
        }
        self.reduce(fd, wanted);
        owner
    }

    /// Takes back every interest without an owner. `false` if the kernel did not know the descriptor.
    fn settle(&mut self, fd: RawFd) -> bool {
        let Some(slot) = self.slot(fd) else { return false };
        let wanted = slot.interest.common(slot.wanted());
        self.reduce(fd, wanted)
    }

    /// Tells the kernel that only `wanted` of what it knows is needed from now on, for a slot that exists.
    #[inline]
    fn reduce(&mut self, fd: RawFd, wanted: Interest) -> bool {
        let slot = &mut self.slots[fd as usize];
        let agreed = if wanted == slot.interest {
            true
        } else if wanted.is_none() {
            self.poller.remove(fd).is_ok()
        } else {
            // Not `tell`, which would add: if the number was reused, the remaining owner does not mean the new file.
            self.poller
                .modify(fd, Token::new(fd, slot.generation).raw(), wanted)
                .is_ok()
        };
        // An error means that the file was closed, and the kernel knows nothing of it any more.
        slot.interest = if agreed { wanted } else { Interest::NONE };
        if slot.interest.is_none() && !slot.is_owned() {
            slot.generation = Token::next_generation(slot.generation);
        }
        agreed
    }

    /// Brings the kernel from `known` to `wanted`, which is not nothing.
    #[inline]
    fn tell(&mut self, fd: RawFd, known: Interest, wanted: Interest) -> io::Result<()> {
        let generation = self.slot(fd).map_or(0, |slot| slot.generation);
        let token = Token::new(fd, generation).raw();
        if known.is_none() {
            match self.poller.add(fd, token, wanted) {
                // Left over from an earlier user of the number, whose file lives on in a duplicate.
                Err(error) if is(&error, Errno::EXIST) => self.poller.modify(fd, token, wanted),
                answer => answer,
            }
        } else {
            match self.poller.modify(fd, token, wanted) {
                // Closed behind our back, and the number was reused. If a duplicate keeps the old file alive, the kernel
                // goes on reporting it with the old token, so the new one gets another.
                Err(error) if is(&error, Errno::NOENT) => {
                    let generation = Token::next_generation(generation);
                    self.poller.add(fd, Token::new(fd, generation).raw(), wanted)?;
                    if let Some(slot) = self.slot_mut(fd) {
                        slot.generation = generation;
                    }
                    Ok(())
                }
                answer => answer,
            }
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
