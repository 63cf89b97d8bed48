//! Deadlines: a 4-ary heap in one vector, ordered by time and, for equal times, by when they were pushed.
//!
//! Four children per node halve the depth of a binary heap and sit in at most two cache lines. Cancelled entries stay
//! until they reach the top or until they are more than half of the heap (asyncio deletes lazily too): the owner knows
//! which entries are dead, the queue only counts them.
//!
//! The queue never drops a `T` by itself: dropping may run any code, which may well want to push to this queue.

use std::hint::select_unpredictable;
use std::mem;

/// Compacting a small heap is not worth the walk. asyncio's `_MIN_SCHEDULED_TIMER_HANDLES`.
const DEAD_LEN_MIN: usize = 100;
/// Children per node.
const ARITY: usize = 4;

/// A priority queue of `T` by deadline.
#[derive(Debug)]
pub struct TimerQueue<T> {
    heap: Vec<Entry<T>>,
    /// Number given to the next entry. Never reused: at one per nanosecond it lasts for centuries.
    sequence: u64,
    /// How many entries their owner has declared dead.
    dead: usize,
}

#[derive(Debug)]
struct Entry<T> {
    when_ns: u64,
    sequence: u64,
    item: T,
}

impl<T> Entry<T> {
    /// One comparison instead of two with a branch between.
    #[inline]
    fn key(&self) -> u128 {
        u128::from(self.when_ns) << 64 | u128::from(self.sequence)
    }
}

impl<T> TimerQueue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            heap: Vec::new(),
            sequence: 0,
            dead: 0,
        }
    }

    /// Adds `item`, due at `when_ns`, after everything else that is due at the same nanosecond. Returns its number, for
    /// [`remove_if_last`](Self::remove_if_last).
    #[inline]
    pub fn push(&mut self, when_ns: u64, item: T) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        self.heap.push(Entry {
            when_ns,
            sequence,
            item,
        });
        self.sift_up(self.heap.len() - 1);
        sequence
    }

    /// Takes the entry of this number out if it lies at the vector's end, as the newest one does unless it is due
    /// early: whoever ends soon after it began leaves nothing dead behind.
    #[inline]
    pub fn remove_if_last(&mut self, sequence: u64) -> Option<T> {
        self.heap
            .pop_if(|entry| entry.sequence == sequence)
            .map(|entry| entry.item)
    }

    /// The earliest deadline, dead entries included.
    #[inline]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.when_ns)
    }

    /// The entry with the earliest deadline.
    #[inline]
    pub fn peek(&self) -> Option<&T> {
        self.heap.first().map(|entry| &entry.item)
    }

    /// Takes the entry with the earliest deadline. If it is dead, tell [`note_dead_popped`](Self::note_dead_popped).
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, T)> {
        if self.heap.is_empty() {
            return None;
        }
        let entry = self.heap.swap_remove(0);
        self.sift_down(0);
        Some((entry.when_ns, entry.item))
    }

    /// Takes the earliest entry if it is due at `now_ns`. If it is dead, tell
    /// [`note_dead_popped`](Self::note_dead_popped).
    #[inline]
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<T> {
        if self.next_deadline_ns()? > now_ns {
            return None;
        }
        self.pop().map(|(_, item)| item)
    }

    /// All entries, dead ones included.
    #[inline]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no entry, not even a dead one.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The owner cancelled one entry that is in the queue.
    #[inline]
    pub fn note_dead(&mut self) {
        self.dead += 1;
    }

    /// The entry just popped was one of those counted by [`note_dead`](Self::note_dead).
    #[inline]
    pub fn note_dead_popped(&mut self) {
        self.dead = self.dead.saturating_sub(1);
    }

    /// How many dead entries are still in the queue.
    #[inline]
    pub fn dead_count(&self) -> usize {
        self.dead
    }

    /// Whether at least a hundred entries, and more than half of all, are dead.
    #[inline]
    pub fn wants_compaction(&self) -> bool {
        self.dead >= DEAD_LEN_MIN && self.dead * 2 > self.heap.len()
    }

    /// Takes out the entries that are not `alive` and gives them to the caller to drop. The others keep their order.
    pub fn compact(&mut self, mut alive: impl FnMut(&T) -> bool) -> Vec<T> {
        let dropped = self
            .heap
            .extract_if(.., |entry| !alive(&entry.item))
            .map(|entry| entry.item)
            .collect();
        self.dead = 0;
        if self.heap.len() > 1 {
            for parent in (0..=(self.heap.len() - 2) / ARITY).rev() {
                self.sift_down(parent);
            }
        }
        dropped
    }

    /// Takes out everything, in no particular order.
    pub fn drain(&mut self) -> Vec<T> {
        self.dead = 0;
        mem::take(&mut self.heap).into_iter().map(|entry| entry.item).collect()
    }

    /// Looks at every entry, in no particular order, dead ones included.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.heap.iter().map(|entry| &entry.item)
    }

    #[inline]
    fn sift_up(&mut self, mut index: usize) {
        let key = self.heap[index].key();
        while index > 0 {
            let parent = (index - 1) / ARITY;
            if self.heap[parent].key() <= key {
                break;
            }
            self.heap.swap(index, parent);
            index = parent;
        }
    }

    #[inline]
    fn sift_down(&mut self, mut index: usize) {
        let Some(moving) = self.heap.get(index) else { return };
        let key = moving.key();
        while let Some((least, least_key)) = self.least_child(index)
            && least_key < key
        {
            self.heap.swap(index, least);
            index = least;
        }
    }

    /// The child of `parent` that is due first. Random deadlines make every comparison a coin toss, so a node with all
    /// its children is decided by a knock-out the compiler can do without branches.
    #[inline]
    fn least_child(&self, parent: usize) -> Option<(usize, u128)> {
        let first = parent * ARITY + 1;
        if let Some([a, b, c, d]) = self.heap.get(first..first + ARITY) {
            let left = earlier((first, a.key()), (first + 1, b.key()));
            let right = earlier((first + 2, c.key()), (first + 3, d.key()));
            return Some(earlier(left, right));
        }
        let last = self.heap.get(first..)?;
        last.iter()
            .enumerate()
            .map(|(child, entry)| (first + child, entry.key()))
            .min_by_key(|&(_, key)| key)
    }
}

/// Whichever has the smaller key.
#[inline]
fn earlier(one: (usize, u128), other: (usize, u128)) -> (usize, u128) {
    let swap = other.1 < one.1;
    (
        select_unpredictable(swap, other.0, one.0),
        select_unpredictable(swap, other.1, one.1),
    )
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_deadlines_keep_their_order() {
        let mut timers = TimerQueue::new();
        for item in 0..50 {
            timers.push(7, item);
        }
        timers.push(6, 99);
        assert_eq!(timers.peek(), Some(&99));
        assert_eq!(timers.pop(), Some((6, 99)));
        for item in 0..50 {
            assert_eq!(timers.pop(), Some((7, item)));
        }
        assert_eq!(timers.pop(), None);
    }

    #[test]
    fn the_last_one_leaves_no_trace() {
        let mut timers = TimerQueue::new();
        let first = timers.push(7, "first");
        let second = timers.push(8, "second");
        assert_eq!(timers.remove_if_last(first), None);
        assert_eq!(timers.remove_if_last(second), Some("second"));
        assert_eq!(timers.remove_if_last(second), None);
        let early = timers.push(1, "early");
        assert_eq!(timers.remove_if_last(early), None);
        assert_eq!(timers.pop(), Some((1, "early")));
        assert_eq!(timers.remove_if_last(first), Some("first"));
        assert!(timers.is_empty());
    }

    #[test]
    fn nothing_expires_early() {
        let mut timers = TimerQueue::new();
        timers.push(100, "later");
        assert_eq!(timers.pop_expired(99), None);
        assert_eq!(timers.pop_expired(100), Some("later"));
        assert_eq!(timers.pop_expired(u64::MAX), None);
    }

    #[test]
    fn compaction_waits_for_a_hundred_and_for_half() {
        let mut timers = TimerQueue::new();
        for item in 0..300 {
            timers.push(300 - item, item);
        }
        for _ in 0..150 {
            timers.note_dead();
        }
        assert!(!timers.wants_compaction(), "exactly half is not more than half");
        timers.note_dead();
        assert!(timers.wants_compaction());
        let dropped = timers.compact(|item| item % 2 == 0);
        assert_eq!(dropped.len(), 150);
        assert_eq!((timers.len(), timers.dead_count()), (150, 0));
        assert_eq!(timers.pop(), Some((2, 298)));

        let mut few: TimerQueue<()> = TimerQueue::new();
        for _ in 0..99 {
            few.push(1, ());
            few.note_dead();
        }
        assert!(!few.wants_compaction());
    }
}
