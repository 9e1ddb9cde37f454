//! The immediate journal: for what takes effect at once and is not undone with a section.
//!
//! A *redo* record of absolute values in the slot: while it stands, its thread (or who recovers it)
//! holds the internal lock over the words it names, so that repeating it is harmless.
//!
//! 1. The words are written.
//! 2. The code is stored: from here it will happen.
//! 3. The values are stored where they belong.
//! 4. The code is cleared.
//!
//! Killed before 2: nothing happened; later: 3 is repeated.

use crate::{
    layout::SemaphoreHeader,
    mapping::Mapping,
    mutant::{self, Mutant},
};
use std::sync::atomic::{Ordering::*, compiler_fence};

const PERMITS: u64 = 1;

/// A change of a semaphore's count together with the thread's permits of it.
#[derive(Clone, Copy)]
pub(crate) struct Immediate {
    /// The semaphore's offset.
    pub(crate) semaphore: u64,
    /// Permits that nobody holds, afterwards.
    pub(crate) available: u32,
    /// Which of the slot's cells holds the thread's permits; none for a plain `post`.
    pub(crate) cell: Option<usize>,
    /// Permits in that cell, afterwards. A cell without permits names the semaphore until its owner
    /// is done with it.
    pub(crate) held: u64,
}

impl Immediate {
    /// Makes the change, as `slot`, which holds the semaphore's lock.
    pub(crate) fn perform(self, mapping: &Mapping, slot: usize) {
        let words = &mapping.slot(slot).immediate;
        words[1].store(self.semaphore, Relaxed);
        words[2].store(u64::from(self.available), Relaxed);
        words[3].store(self.cell.map_or(0, |cell| cell as u64 + 1), Relaxed);
        words[4].store(self.held, Relaxed);
        compiler_fence(SeqCst);
        if !mutant::is(Mutant::NoRedo) {
            words[0].store(PERMITS, Release);
        }
        compiler_fence(SeqCst);
        self.apply(mapping, slot);
        compiler_fence(SeqCst);
        words[0].store(0, Release);
    }

    fn apply(self, mapping: &Mapping, slot: usize) {
        let size = size_of::<SemaphoreHeader>();
        let aligned = self
            .semaphore
            .is_multiple_of(align_of::<SemaphoreHeader>() as u64);
        let Some(place) = mapping.address(self.semaphore, size).filter(|_| aligned) else {
            return;
        };
        // SAFETY: checked to lie in the arena and to be aligned; a header is made of atomics.
        let semaphore = unsafe { place.cast::<SemaphoreHeader>().as_ref() };
        semaphore.available.store(self.available, Release);
        if let Some(cell) = self
            .cell
            .and_then(|cell| mapping.slot(slot).permits.get(cell))
        {
            cell.count.store(self.held, Relaxed);
            cell.semaphore.store(self.semaphore, Release);
        }
    }
}

/// Repeats what a dead slot was about to do at once.
pub(super) fn replay(mapping: &Mapping, slot: usize) {
    let words = &mapping.slot(slot).immediate;
    if words[0].load(Acquire) == PERMITS {
        let cell = words[3].load(Relaxed);
        let change = Immediate {
            semaphore: words[1].load(Relaxed),
            available: words[2].load(Relaxed) as u32,
            cell: (cell > 0).then(|| cell as usize - 1),
            held: words[4].load(Relaxed),
        };
        change.apply(mapping, slot);
    }
    words[0].store(0, Release);
}
