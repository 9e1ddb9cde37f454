//! The read locks that a thread has: what its cells say ([`crate::journal::next_reader`]), and what
//! only the thread needs to know.
//!
//! A read lock begins no section. Its cell is emptied when the last of its guards goes; in a unit that
//! may have several locks, at the unit's end (S2).

use super::{Ctx, Taken, held::Held};
use crate::{
    error::{Error, Result},
    layout::{FIRST_READS, LockWord, MutexHeader, READS, Readers},
    mutant::{self, Mutant},
    sync::{Patience, Taker, release},
};
use std::{
    fmt::Write,
    panic::Location,
    sync::atomic::{Ordering::*, compiler_fence},
};

static_assertions::const_assert!(READS < 63);

/// In [`Reads::state`]: inside an operation, while a signal handler must keep out.
const BUSY: u64 = 1 << 63;

/// A thread's read locks. All zeroes is none.
#[repr(C)]
pub(super) struct Reads {
    /// The cells of the thread's slot; null after a fork.
    cells: *const Readers,
    /// A bit for each entry, whether it is in use; and [`BUSY`]. A word of its own, which is always
    /// stored as a whole: a load that meets a store of a part of it in the store buffer waits.
    state: u64,
    /// One for each cell, in their order.
    entries: [Read; READS],
}

/// A read lock.
#[derive(Clone, Copy)]
struct Read {
    /// The lock's offset.
    lock: u64,
    /// How many guards of it live; if none does, it is retained to the end of the unit.
    guards: u32,
    at: Option<&'static Location<'static>>,
}

impl Reads {
    /// Readies what is all zeroes.
    pub(super) fn set_up(&mut self, cells: *const Readers) {
        self.cells = cells;
    }

    /// The entries in use, as bits.
    #[inline(always)]
    fn used(&self) -> u64 {
        self.state & !BUSY
    }

    /// The entries in use, with their numbers.
    fn taken(&self) -> impl Iterator<Item = (usize, &Read)> {
        let mut left = self.used();
        std::iter::from_fn(move || {
            let index = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            Some((index, self.entries.get(index)?))
        })
    }

    fn find(&self, lock: u64) -> Option<usize> {
        let mut taken = self.taken();
        taken.find(|(_, read)| read.lock == lock).map(|(n, _)| n)
    }

    #[inline(always)]
    fn note(&mut self, index: usize, lock: u64, at: &'static Location<'static>) {
        self.entries[index] = Read {
            lock,
            guards: 1,
            at: Some(at),
        };
    }
}

/// Fills a cell, *then* looks at the lock's word (L8). Says whether that is free.
#[inline(always)]
fn fill(cell: &LockWord, lock: u64, word: &LockWord) -> bool {
    let looked = mutant::is(Mutant::ReaderLooksOnce) && word.0.load(SeqCst) == 0;
    mutant::here("before a reader's cell");
    cell.0.swap(lock, SeqCst);
    word.0.load(SeqCst) == 0 || looked
}

impl Ctx {
    /// What cells call a lock of this arena.
    #[inline(always)]
    pub(crate) fn lock_at(&self, word: *const LockWord) -> u64 {
        word.addr().wrapping_sub(self.base().addr()) as u64
    }

    #[inline(always)]
    fn first_cell(&self) -> &LockWord {
        // SAFETY: set in `Ctx::create`; the cells lie in the mapping, which the context keeps.
        unsafe { &(*self.reads.cells).cells[0] }
    }

    /// The thread's cell with that number, and how many of the further ones are in use up to it.
    fn cell(&self, index: usize) -> (&LockWord, usize) {
        match index.checked_sub(FIRST_READS) {
            // SAFETY: as for `first_cell`.
            None => (unsafe { &(*self.reads.cells).cells[index] }, 0),
            Some(further) => (&self.slot().reads[further], further + 1),
        }
    }

    /// Takes a read lock that no writer has, where the thread has no unit that may have several locks.
    #[inline(always)]
    pub(crate) fn read_first(&mut self, word: &LockWord, at: &'static Location<'static>) -> bool {
        if self.flags.are_busy_or_plural_or_others() && !self.is_free_to_read() {
            return false;
        }
        if self.reads.state != 0 {
            return self.read_another(word, at);
        }
        let lock = self.lock_at(word);
        self.reads.state = BUSY | 1;
        compiler_fence(SeqCst);
        self.reads.note(0, lock, at);
        let cell = self.first_cell();
        let free = fill(cell, lock, word);
        if !free {
            release(cell);
        }
        compiler_fence(SeqCst);
        self.reads.state = u64::from(free);
        free
    }

    /// The same for one who reads something already, perhaps that very lock.
    #[inline(never)]
    fn read_another(&mut self, word: &LockWord, at: &'static Location<'static>) -> bool {
        let lock = self.lock_at(word);
        let used = self.reads.used();
        let index = used.trailing_ones() as usize;
        if self.reads.state & BUSY != 0 || index >= FIRST_READS || self.reads.find(lock).is_some() {
            return false;
        }
        self.reads.state |= BUSY;
        compiler_fence(SeqCst);
        self.reads.note(index, lock, at);
        let cell = self.cell(index).0;
        let free = fill(cell, lock, word);
        if !free {
            release(cell);
        }
        compiler_fence(SeqCst);
        self.reads.state = used | u64::from(free) << index;
        free
    }

    /// Takes a read lock.
    #[inline(never)]
    pub(crate) fn read(
        &mut self,
        mutex: &MutexHeader,
        patience: Patience,
        at: &'static Location<'static>,
    ) -> Result {
        if self.reads.state & BUSY != 0 {
            return Err(Error::Reentered);
        }
        self.may_read()?;
        let word = &mutex.word;
        let lock = self.lock_at(word);
        if let Some(index) = self.reads.find(lock) {
            let guards = &mut self.reads.entries[index].guards;
            let more = guards.checked_add(1).ok_or(TOO_MANY)?;
            if *guards == 0 {
                self.reads.entries[index].at = Some(at);
            }
            self.reads.entries[index].guards = more;
            return Ok(());
        }
        if self.names_me(word) && self.taken(word) == Taken::Guarded {
            return Err(Error::WouldDeadlock);
        }
        let index = self.reads.used().trailing_ones() as usize;
        if index >= READS {
            return Err(TOO_MANY);
        }
        let (cell, further) = self.cell(index);
        if further != 0 {
            // SAFETY: as for `first_cell`.
            let count = unsafe { &(*self.reads.cells).further };
            // Before the cell: who sees that sees this.
            count.store((count.load(Relaxed)).max(further as u64), Release);
        }
        if !fill(cell, lock, word) {
            release(cell);
            self.taker(Some(mutex)).read(word, cell, lock, patience)?;
        }
        self.reads.note(index, lock, at);
        self.reads.state |= 1 << index;
        Ok(())
    }

    /// Who takes locks in the name of this thread.
    pub(crate) fn taker<'m>(&'m self, mutex: Option<&'m MutexHeader>) -> Taker<'m> {
        Taker {
            mapping: self.mapping(),
            tag: self.tag(),
            recoverer: self.tag(),
            wait: Some(&self.slot().wait),
            mutex,
        }
    }

    /// The same for small locks, for which nobody waits in a circle.
    pub(crate) fn taker_of_small(&self) -> Taker<'_> {
        Taker {
            wait: None,
            ..self.taker(None)
        }
    }

    fn names_me(&self, word: &LockWord) -> bool {
        crate::layout::Tag::of_word(word.0.load(Relaxed)) == Some(self.tag())
    }

    /// May this thread take a read lock now?
    fn may_read(&self) -> Result {
        if self.transaction {
            return Err(Error::InTransaction);
        }
        if self.flags.has_others() && self.retains_elsewhere() {
            return Err(Error::OtherArena);
        }
        Ok(())
    }

    /// The same question as that of the fast path, where there are other contexts.
    #[inline(never)]
    fn is_free_to_read(&self) -> bool {
        !self.flags.are_busy_or_plural() && !self.retains_elsewhere()
    }

    /// Whether the thread has a unit in another arena that retains its locks.
    fn retains_elsewhere(&self) -> bool {
        Ctx::all().any(|other| {
            // SAFETY: C1.
            let is_unit = unsafe { other.as_ref() }.flags.is_plural();
            !std::ptr::eq(other.as_ptr(), self) && is_unit
        })
    }

    /// May this thread take a lock to write, as far as its own read locks go? Says whether it has the
    /// lock to itself already.
    ///
    /// # Errors
    ///
    /// [`Error::WouldDeadlock`] while a read guard of the lock lives.
    #[inline(always)]
    pub(crate) fn may_write(&self, word: &LockWord) -> Result<bool> {
        if self.reads.state == 0 && !self.flags.is_plural() {
            return Ok(false);
        }
        self.may_write_slow(word)
    }

    #[cold]
    #[inline(never)]
    fn may_write_slow(&self, word: &LockWord) -> Result<bool> {
        let lock = self.lock_at(word);
        let mine = self.reads.find(lock);
        if mine.is_some_and(|index| self.reads.entries[index].guards != 0) {
            return Err(Error::WouldDeadlock);
        }
        Ok(self.names_me(word) && self.taken(word) == Taken::Retained)
    }

    /// A read guard goes.
    #[inline(always)]
    pub(crate) fn read_guard_dropped(&mut self, word: &LockWord) {
        let lock = self.lock_at(word);
        let first = &self.reads.entries[0];
        let only = self.reads.state == 1 && first.lock == lock && first.guards == 1;
        if !only || self.flags.are_busy_or_plural() {
            return self.read_guard_dropped_slow(lock);
        }
        self.reads.state = BUSY | 1;
        compiler_fence(SeqCst);
        release(self.first_cell());
        compiler_fence(SeqCst);
        self.reads.state = 0;
    }

    #[inline(never)]
    fn read_guard_dropped_slow(&mut self, lock: u64) {
        if !self.is_own() {
            // A guard of the process that this one was forked from: it still reads there.
            return;
        }
        let Some(index) = self.reads.find(lock) else {
            return;
        };
        let busy = self.reads.state & BUSY;
        self.reads.state |= BUSY;
        compiler_fence(SeqCst);
        let guards = &mut self.reads.entries[index].guards;
        *guards = guards.saturating_sub(1);
        let last = *guards == 0;
        if last && (!self.flags.is_plural() || mutant::is(Mutant::ReadsReleasedEarly)) {
            self.stop_reading(index);
        }
        compiler_fence(SeqCst);
        self.reads.state = self.reads.used() | busy;
    }

    /// Lets go of a read lock.
    fn stop_reading(&mut self, index: usize) {
        release(self.cell(index).0);
        self.reads.state &= !(1 << index);
        if index >= FIRST_READS && self.reads.used() >> FIRST_READS == 0 {
            // SAFETY: as for `first_cell`.
            unsafe { &(*self.reads.cells).further }.store(0, Release);
        }
    }

    #[cold]
    fn stop_reading_where(&mut self, gone: impl Fn(u64, u32) -> bool) {
        for index in 0..READS {
            let Read { lock, guards, .. } = self.reads.entries[index];
            if self.reads.used() >> index & 1 != 0 && gone(lock, guards) {
                self.stop_reading(index);
            }
        }
    }

    /// The unit ends: lets go of the read locks that it retained.
    #[inline(always)]
    pub(super) fn release_reads(&mut self) {
        if self.reads.used() != 0 {
            self.stop_reading_where(|_, guards| guards == 0);
        }
    }

    /// Forgets that guards live: those of a transaction have all gone when it ends, forgotten ones
    /// too.
    pub(super) fn retain_all_reads(&mut self) {
        for read in &mut self.reads.entries {
            read.guards = 0;
        }
    }

    /// Lets go of read locks in a range that is about to be handed out as `&mut`, moved or freed (J4).
    /// Their guards have gone: they were dropped, or leaked, since a guard borrows its lock.
    #[inline(always)]
    pub(super) fn forget_reads_in(&mut self, from: usize, to: usize) {
        if self.reads.used() != 0 {
            let base = self.base().addr();
            self.stop_reading_where(|lock, _| (from..to).contains(&(base + lock as usize)));
        }
    }

    /// Whether the thread has any read lock.
    #[inline(always)]
    pub(crate) fn reads_any(&self) -> bool {
        self.reads.state != 0
    }

    /// Whether a guard of some read lock lives.
    pub(super) fn has_read_guards(&self) -> bool {
        self.reads.taken().any(|(_, read)| read.guards != 0)
    }

    /// Whether read locks are held beyond their guards.
    pub(super) fn retains_reads(&self) -> bool {
        self.reads.taken().any(|(_, read)| read.guards == 0)
    }

    /// Where each read lock was taken.
    pub(super) fn write_reads(&self, text: &mut String) {
        for (_, Read { lock, at, .. }) in self.reads.taken() {
            let _ = write!(text, "\n  a read lock of the lock at offset {lock:#x}");
            if let Some(at) = at {
                let _ = write!(text, ", taken at {at}");
            }
        }
    }

    /// Lets go of a lock that was taken just now, under which nothing was done; whose guard is
    /// forgotten.
    #[cold]
    pub(crate) fn let_go(&mut self, word: &LockWord) {
        release(word);
        let is_it = |held: &Held| std::ptr::eq(held.word, word);
        if self.flags.is_plural() {
            self.body_mut().held.retain(|held| !is_it(held));
            compiler_fence(SeqCst);
            self.flags.remove_guards(1);
        } else {
            compiler_fence(SeqCst);
            self.flags.set_single(false, false);
        }
    }
}

const TOO_MANY: Error = Error::TooManyReadLocks { limit: READS };
