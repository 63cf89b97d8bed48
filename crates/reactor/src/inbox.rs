//! The one door for other threads: they push, the loop's thread takes everything at once.
//!
//! A lock around a vector, because the loop swaps the whole vector out: one lock per batch on its side, and pushes keep
//! their order, which `call_soon_threadsafe` promises. The flag beside it lets the loop look at every turn without
//! taking the lock.
//!
//! Waking a sleeping loop is the other half, with the order both sides must keep: see `waker.rs`.

use std::mem;

use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// A many-producer queue, emptied in batches by one thread.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    /// Whether `queue.items` holds something. Written only under the lock, read without it.
    filled: AtomicBool,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    closed: bool,
}

impl<T: Send> Inbox<T> {
    /// An empty, open inbox.
    pub fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                items: Vec::new(),
                closed: false,
            }),
            filled: AtomicBool::new(false),
        }
    }

    /// Adds `item`, from any thread. `Ok(true)` if the inbox was empty, `Err(item)` after [`close`](Self::close).
    ///
    /// Whoever finds it empty must call [`Waker::notify`](crate::Waker::notify) next. Who does not may leave that to
    /// whoever did: the items leave together.
    #[inline]
    pub fn push(&self, item: T) -> Result<bool, T> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(item);
        }
        let was_empty = queue.items.is_empty();
        queue.items.push(item);
        if was_empty {
            self.filled.store(true, Ordering::Release);
        }
        Ok(was_empty)
    }

    /// Whether there is nothing to take: one load, no lock. A push that is happening right now may be missed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Acquire)
    }

    /// Moves all items to the end of `batch`, oldest first. An empty `batch` is swapped in, so that two buffers keep
    /// going round and neither side allocates for long.
    #[inline]
    pub fn drain_into(&self, batch: &mut Vec<T>) {
        if self.is_empty() {
            return;
        }
        let mut queue = lock(&self.queue);
        if batch.is_empty() {
            mem::swap(&mut queue.items, batch);
        } else {
            batch.append(&mut queue.items);
        }
        self.filled.store(false, Ordering::Release);
    }

    /// Refuses pushes from now on and gives back what is left. For the caller to drop, when no lock of ours is held.
    pub fn close(&self) -> Vec<T> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        self.filled.store(false, Ordering::Release);
        mem::take(&mut queue.items)
    }
}

impl<T: Send> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_says_who_found_it_empty() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        assert_eq!(inbox.push(1), Ok(true));
        assert_eq!(inbox.push(2), Ok(false));
        assert!(!inbox.is_empty());
        let mut batch = vec![0];
        inbox.drain_into(&mut batch);
        assert_eq!(batch, [0, 1, 2]);
        assert!(inbox.is_empty());
        assert_eq!(inbox.push(3), Ok(true));
    }

    #[test]
    fn two_buffers_go_round() {
        let inbox = Inbox::new();
        let mut batch = Vec::with_capacity(100);
        for round in 0..10 {
            for item in 0..50 {
                inbox.push(round * 50 + item).unwrap();
            }
            inbox.drain_into(&mut batch);
            assert_eq!(batch.len(), 50);
            assert!(batch.capacity() >= 50);
            batch.clear();
        }
    }

    #[test]
    fn a_closed_inbox_hands_items_back() {
        let inbox = Inbox::new();
        inbox.push("left").unwrap();
        assert_eq!(inbox.close(), ["left"]);
        assert_eq!(inbox.push("late"), Err("late"));
        assert!(inbox.is_empty());
        assert!(inbox.close().is_empty());
    }
}
