//! Lock words.
//!
//! | bits 16..64 | bits 1..16 | bit 0 | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | generation | slot + 1 | 0 | held by that slot in that generation |
//! | generation | slot + 1 | 1 | the same, and somebody may sleep on the lower half |
//! | an older generation of the slot | slot + 1 | any | free: the holder died, and its journal is resolved |
//! | all ones | all ones | 0 | frozen: readers need no lock, writers never come again |
//!
//! The lower half is the futex: it holds the waiters bit, the slot and 16 bits of the generation.
//!
//! A thread that reads a `RwLock` says so in a *cell* of its slot, which is a word of its own:
//!
//! | bits 3..64 | bit 1 | bit 0 | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | the lock's offset / 8 | 0 | 0 | the slot's thread reads the lock |
//! | the lock's offset / 8 | 1 | 0 | it is about to: it has not looked at the lock's word yet |
//! | the lock's offset / 8 | any | 1 | the same, and a writer may sleep on the lower half |
//!
//! Only the slot's thread fills a cell, and it, or who recovers it, empties it. A cell says nothing
//! when its slot's thread is dead, or there is none.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Set while somebody may sleep on the word.
pub(crate) const WAITERS_BIT: u64 = 1;
/// The word of a lock that was frozen.
pub(crate) const FROZEN_TAG: u64 = !WAITERS_BIT;

/// In the cell of a reader that waited, until it has looked at the lock once more.
pub(crate) const PENDING_BIT: u64 = 2;

/// The lock that a reader's cell names; 0 if none.
pub(crate) const fn lock_of_cell(cell: u64) -> u64 {
    cell & !(WAITERS_BIT | PENDING_BIT)
}

/// A lock word or a reader's cell, see the truth tables above. Zero is free.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct LockWord(pub(crate) AtomicU64);

impl LockWord {
    /// A free lock.
    pub(crate) const fn new() -> Self {
        LockWord(AtomicU64::new(0))
    }

    /// The half of the word that waiters sleep on.
    pub(crate) fn futex(&self) -> &AtomicU32 {
        // SAFETY: the word is eight bytes, aligned to eight, and lives as long as `self`; its first
        // four are its lower half, since only little-endian machines are supported. Mixed-size
        // atomic access to the same word is only ever done by the kernel and by loads.
        unsafe { &*(&raw const self.0).cast::<AtomicU32>() }
    }
}

/// Who holds a lock: a slot in one of its generations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag(pub(crate) u64);

impl Tag {
    /// Bits of the generation.
    pub(crate) const GENERATION_BITS: u32 = 48;

    /// The tag of `slot` in `generation`.
    pub(crate) fn new(slot: usize, generation: u64) -> Self {
        Tag(generation << 16 | (slot as u64 + 1) << 1)
    }

    /// The holder that a lock word names, or `None` if it names nobody.
    pub(crate) fn of_word(word: u64) -> Option<Self> {
        let tag = word & !WAITERS_BIT;
        (tag != 0).then_some(Tag(tag))
    }

    /// The slot; may be out of range when the word was damaged.
    pub(crate) fn slot(self) -> usize {
        ((self.0 >> 1 & 0x7fff) as usize).wrapping_sub(1)
    }

    /// The generation of the slot, 48 bits.
    pub(crate) fn generation(self) -> u64 {
        self.0 >> 16
    }
}

/// What a thread waits for, in one word.
///
/// | bits 45..64 | bit 44 | bits 0..44 |
/// |---|---|---|
/// | the wait's number | for readers | the lock's offset / 8, 0 if the thread waits for none |
///
/// Who finds the same word twice knows that the thread has waited in between: it took at most the lock that
/// it waits for, and let go of none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait(pub(crate) u64);

impl Wait {
    const LOCK: u64 = Self::FOR_READERS - 1;
    const FOR_READERS: u64 = 1 << 44;
    const NUMBERS: u64 = !(Self::NUMBER - 1);
    const NUMBER: u64 = 1 << 45;

    /// The lock's offset.
    pub(crate) const fn lock(self) -> Option<u64> {
        match (self.0 & Self::LOCK) * 8 {
            0 => None,
            lock => Some(lock),
        }
    }

    /// Whether the thread has the lock's word, and waits for its readers.
    pub(crate) const fn is_for_readers(self) -> bool {
        self.0 & Self::FOR_READERS != 0
    }

    /// The next wait, for the lock at an offset or for its readers.
    pub(crate) const fn begun(self, lock: u64, for_readers: bool) -> Self {
        let number = self.0.wrapping_add(Self::NUMBER) & Self::NUMBERS;
        let for_readers = if for_readers { Self::FOR_READERS } else { 0 };
        Wait(number | for_readers | (lock / 8))
    }

    /// What the thread says when the wait is over.
    pub(crate) const fn ended(self) -> Self {
        Wait(self.0 & Self::NUMBERS)
    }
}

/// How a mutex is released, see `sync/calm.rs`.
///
/// | bits 2..32 | bits 0..2 | meaning |
/// |---|---|---|
/// | 0 | 0 | calm: nobody sleeps, and a release is a plain store |
/// | who may sleep | 1 | roused: not all who release know of it yet |
/// | who may sleep | 2 | contended: who releases looks for the waiters bit |
///
/// Other words, in a damaged arena, are not calm. A count of all ones stays: more than it can tell may
/// sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contention(pub(crate) u32);

impl Contention {
    pub(crate) const CALM: Self = Contention(0);
    const ROUSED: u32 = 1;
    const CONTENDED: u32 = 2;
    const SLEEPER: u32 = 1 << 2;
    const SLEEPERS: u32 = !3;

    pub(crate) fn is_contended(self) -> bool {
        self.0 & Self::CONTENDED != 0
    }

    pub(crate) fn has_sleepers(self) -> bool {
        self.0 & Self::SLEEPERS != 0
    }

    fn is_full(self) -> bool {
        self.0 & Self::SLEEPERS == Self::SLEEPERS
    }

    /// One more; the first one rouses it.
    pub(crate) fn with_sleeper(self) -> Self {
        let roused = match self.is_contended() {
            true => self.0,
            false => self.0 | Self::ROUSED,
        };
        match self.is_full() {
            true => Contention(roused),
            false => Contention(roused + Self::SLEEPER),
        }
    }

    pub(crate) fn without_sleeper(self) -> Self {
        match self.is_full() || !self.has_sleepers() {
            true => self,
            false => Contention(self.0 - Self::SLEEPER),
        }
    }

    pub(crate) fn contended(self) -> Self {
        Contention(self.0 & Self::SLEEPERS | Self::CONTENDED)
    }
}

/// What precedes the value in a `Mutex<T>` or a `RwLock<T>`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct MutexHeader {
    pub(crate) word: LockWord,
    /// 1 after a panic while the value was being changed.
    pub(crate) poison: AtomicU32,
    /// Whether somebody may sleep on the word: a [`Contention`].
    pub(crate) contention: AtomicU32,
    /// The section that recorded the value's own bytes.
    pub(crate) stamp: AtomicU64,
}

impl MutexHeader {
    /// That of a free mutex.
    pub(crate) const fn new() -> Self {
        MutexHeader {
            word: LockWord::new(),
            poison: AtomicU32::new(0),
            contention: AtomicU32::new(0),
            stamp: AtomicU64::new(0),
        }
    }
}

/// In [`SemaphoreHeader::sleepers`] while there may be some.
pub(crate) const SLEEPERS_BIT: u32 = 1;

/// A semaphore: its count, guarded by a lock of its own.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SemaphoreHeader {
    pub(crate) lock: LockWord,
    /// Permits that nobody holds.
    pub(crate) available: AtomicU32,
    /// What sleepers sleep on: it has [`SLEEPERS_BIT`], and all of it changes when they are woken.
    pub(crate) sleepers: AtomicU32,
}

static_assertions::assert_eq_size!(LockWord, u64);
static_assertions::const_assert_eq!(size_of::<MutexHeader>(), 24);
static_assertions::const_assert_eq!(size_of::<SemaphoreHeader>(), 16);

#[cfg(test)]
mod tests {
    use super::{Contention, Wait};

    #[test]
    fn each_wait_has_another_number() {
        let first = Wait(0).begun(0x4000_0000_0008, false);
        assert_eq!(first.lock(), Some(0x4000_0000_0008));
        assert_eq!(first.ended().lock(), None);
        let second = first.ended().begun(0x4000_0000_0008, false);
        assert_eq!(second.lock(), first.lock());
        assert_ne!(second, first);
        assert_eq!(Wait(u64::MAX).begun(8, false), Wait(1));
        let other = Wait(0).begun(0x4000_0000_0008, true);
        assert!(other.is_for_readers());
        assert_eq!(other.lock(), first.lock());
        assert_eq!(other.ended(), first.ended());
        assert!(!second.is_for_readers());
    }

    #[test]
    fn sleepers_are_counted() {
        let first = Contention::CALM.with_sleeper();
        assert!(first != Contention::CALM && !first.is_contended() && first.has_sleepers());
        let both = first.with_sleeper().contended();
        assert!(both.is_contended());
        let left = both.without_sleeper().without_sleeper();
        assert!(left.is_contended() && !left.has_sleepers());
        assert_eq!(left.without_sleeper(), left);
    }

    #[test]
    fn more_sleepers_than_it_can_count_stay() {
        let many = Contention(u32::MAX - 4).with_sleeper();
        assert!(many.is_full());
        assert_eq!(many.with_sleeper(), many);
        assert_eq!(many.without_sleeper(), many);
        assert!(many.is_contended());
    }
}
