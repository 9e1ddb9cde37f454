//! Taking a lock word, and the one function that sleeps.
//!
//! 1. Free, or of an older generation of its slot: one exact compare-and-swap takes it.
//! 2. Its holder is dead: recover the holder's journal, then as 1.
//! 3. Otherwise spin briefly, then rouse the lock (see [`calm`](super::calm)), set the waiters bits
//!    of the lock and of the holder's life word, and sleep on both. A back-stop of 40 ms covers the wake-ups that a death can swallow.

use super::{calm::Sleeper, circle};
use crate::{
    error::{Error, Result},
    journal::{self, Depth},
    layout::{
        FROZEN_TAG, LockWord, MutexHeader, PENDING_BIT, Tag, WAITERS_BIT, Wait, lock_of_cell,
    },
    mapping::Mapping,
    mutant::{self, Mutant},
    os::{futex, life},
};
use std::{
    sync::atomic::{AtomicU64, Ordering::*, compiler_fence, fence},
    time::{Duration, Instant},
};

/// The longest sleep before a waiter looks again by itself.
const BACK_STOP: Duration = Duration::from_millis(40);
/// The longest sleep where a release may be missed, as the kernel has no barriers.
const NAP: Duration = Duration::from_millis(1);
/// Sleeps for the same lock after which its holder's process is looked for: about a second's worth.
const SLEEPS_BEFORE_DOUBT: u32 = 25;
/// Looks at a held lock before sleeping. From one to the next the time doubles: each look takes the
/// word's cache line from the holder, who otherwise locks and unlocks many times meanwhile.
const LOOKS: u32 = 7;
/// What the word of a frozen lock names.
const FROZEN: Tag = Tag(FROZEN_TAG);

/// Until when somebody is ready to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    /// So long from now.
    pub(super) fn within(time: Duration) -> Self {
        let deadline = Instant::now().checked_add(time);
        deadline.map_or(Patience::Endless, Patience::Until)
    }

    /// How long the next sleep may be; the error if there is no patience left.
    pub(super) fn next_sleep(self) -> Result<Duration> {
        match self {
            Patience::None => Err(Error::WouldBlock),
            Patience::Endless => Ok(BACK_STOP),
            Patience::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Error::TimedOut);
                }
                Ok(left.min(BACK_STOP))
            }
        }
    }
}

/// Who takes a lock, and on whose behalf.
#[derive(Clone, Copy)]
pub(crate) struct Taker<'m> {
    pub(crate) mapping: &'m Mapping,
    /// What the word will say.
    pub(crate) tag: Tag,
    /// Who recovers the dead; the same as `tag` but during a recovery.
    pub(crate) recoverer: Tag,
    /// Where the taker says what it waits for; none for internal locks.
    pub(crate) wait: Option<&'m AtomicU64>,
    /// The mutex whose word is to be taken, if it is one: who sleeps on it is counted there.
    pub(crate) mutex: Option<&'m MutexHeader>,
}

/// What somebody who waits did so far.
#[derive(Default)]
struct Waited<'m> {
    /// Keeps the lock from being calm, once there was a sleep.
    sleeper: Option<Sleeper<'m>>,
    looks: u32,
    sleeps: u32,
    /// Looks at a holder's slot that nobody had.
    absent: u32,
}

impl Waited<'_> {
    /// The bit that a sleeper leaves in the word that it takes: others may sleep on it.
    fn waiters(&self) -> u64 {
        if self.sleeps == 0 { 0 } else { WAITERS_BIT }
    }
}

impl<'m> Taker<'m> {
    /// Takes the lock. The caller made sure that the word does not name the taker as holder of it.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_slow(self, word: &LockWord, patience: Patience) -> Result {
        let taken = self.take_loop(word, patience);
        self.wait_no_more();
        taken
    }

    fn take_loop(self, word: &LockWord, patience: Patience) -> Result {
        let mut waited = Waited::default();
        loop {
            let now = word.0.load(Acquire);
            match self.holder(now)? {
                Some(FROZEN) => return Err(Error::Frozen),
                Some(holder) => self.wait(word, now, holder, word, patience, &mut waited)?,
                None => {
                    let mine = self.tag.0 | now & WAITERS_BIT | waited.waiters();
                    if word.0.compare_exchange(now, mine, Acquire, Relaxed).is_ok() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes a read lock: fills `cell` when no writer has the word.
    pub(crate) fn read(
        self,
        word: &LockWord,
        cell: &LockWord,
        lock: u64,
        patience: Patience,
    ) -> Result {
        let taken = self.read_loop(word, cell, lock, patience);
        if taken.is_err() {
            self.wait_no_more();
        }
        taken
    }

    /// First the cell, then the look at the word that counts (L8). The cell is pending, until the
    /// thread waits for nothing any more: so nobody finds it reading what it waits for.
    fn read_loop(self, word: &LockWord, cell: &LockWord, lock: u64, patience: Patience) -> Result {
        let mut waited = Waited::default();
        loop {
            let now = word.0.load(Acquire);
            if let Some(holder) = self.writer(now)? {
                self.wait(word, now, holder, word, patience, &mut waited)?;
                continue;
            }
            mutant::here("before a reader's cell");
            cell.0.swap(lock | PENDING_BIT, SeqCst);
            let open = match self.writer(word.0.load(SeqCst)) {
                Ok(None) => true,
                Ok(Some(_)) => mutant::is(Mutant::ReaderLooksOnce),
                Err(error) => {
                    release(cell);
                    return Err(error);
                }
            };
            if !open {
                release(cell);
                continue;
            }
            self.wait_no_more();
            cell.0.fetch_and(!PENDING_BIT, AcqRel);
            if waited.sleeps != 0 {
                // A release wakes one, and this one leaves no bit in the word for the others.
                futex::wake(word.futex(), 1);
            }
            return Ok(());
        }
    }

    /// Waits until no other thread reads the lock, whose word the taker has.
    ///
    /// # Errors
    ///
    /// Those of running out of patience, and [`Error::Deadlock`].
    #[cold]
    #[inline(never)]
    pub(crate) fn await_readers(self, word: &LockWord, patience: Patience) -> Result {
        debug_assert!(self.mutex.is_none(), "it sleeps on cells");
        let lock = self.mapping.offset_of(word).ok_or(Error::NotInArena)?;
        let mut slot = journal::reserved_slots(self.mapping);
        let mut done = Ok(());
        while let Some(reader) = journal::next_reader(self.mapping, slot, lock) {
            if reader != self.tag.slot() {
                done = self.await_reader(word, reader, lock, patience);
            }
            if done.is_err() {
                break;
            }
            slot = reader + 1;
        }
        self.wait_no_more();
        done
    }

    fn await_reader(self, word: &LockWord, reader: usize, lock: u64, patience: Patience) -> Result {
        let mut waited = Waited::default();
        while let Some(cell) = journal::cell_of(self.mapping, reader, lock) {
            let now = cell.0.load(Acquire);
            if lock_of_cell(now) != lock {
                continue;
            }
            let life = self.mapping.life(reader).load(Acquire);
            if life == 0 {
                // Nobody's: what is left of a damaged arena.
                return Ok(());
            }
            if life & life::OWNER_DIED != 0 {
                if !journal::recover(self.mapping, reader, self.recoverer, Depth::Locks) {
                    // Somebody else is at it. Threads that the dead one lent to have stopped (R7).
                    crate::os::memory::membarrier();
                }
                return Ok(());
            }
            self.wait(cell, now, Tag::new(reader, 0), word, patience, &mut waited)?;
        }
        Ok(())
    }

    /// The thread that has the lock according to its word: not a dead generation's, nor the taker.
    fn holder(self, word: u64) -> Result<Option<Tag>> {
        match Tag::of_word(word) {
            Some(holder) if self.holds(holder)? => Ok(Some(holder)),
            _ => Ok(None),
        }
    }

    /// The thread that keeps readers out; nobody does where the lock is frozen.
    fn writer(self, word: u64) -> Result<Option<Tag>> {
        let holder = self.holder(word)?;
        Ok(holder.filter(|&holder| holder != FROZEN))
    }

    /// Waits a little for who has `word`, which was `now`: a lock's, or a reader's cell. What is
    /// wanted is the lock `wanted`.
    fn wait(
        self,
        word: &LockWord,
        now: u64,
        holder: Tag,
        wanted: &LockWord,
        patience: Patience,
        waited: &mut Waited<'m>,
    ) -> Result {
        if journal::is_dead(self.mapping, holder.slot()) {
            if !journal::recover(self.mapping, holder.slot(), self.recoverer, Depth::Locks) {
                // Somebody else recovers it.
                let sleep = patience.next_sleep()?.min(Duration::from_millis(1));
                futex::wait(word.futex(), now as u32, Some(sleep));
            }
            return Ok(());
        }
        if waited.looks < LOOKS && patience != Patience::None {
            (0..1 << waited.looks).for_each(|_| std::hint::spin_loop());
            waited.looks += 1;
            return Ok(());
        }
        let mut sleep = patience.next_sleep()?;
        // Who gives up some time breaks a circle by itself: it is in none.
        if patience == Patience::Endless {
            // Who waits for a cell has the lock's word.
            let for_readers = !std::ptr::eq(word, wanted);
            self.refuse_deadlock(wanted, for_readers)?;
        }
        if journal::is_nobodys(self.mapping, holder.slot()) {
            if word.0.load(Acquire) != now {
                // It has let go, and then left.
                return Ok(());
            }
            waited.absent += 1;
            self.refuse_nobody(holder, waited.absent)?;
        }
        if let Some(mutex) = self.mutex {
            let sleeper = waited.sleeper.get_or_insert_with(|| Sleeper::enter(mutex));
            sleep = sleep.min(if sleeper.is_seen { BACK_STOP } else { NAP });
        }
        self.sleep(word, now, holder, sleep);
        waited.sleeps += 1;
        if waited.sleeps.is_multiple_of(SLEEPS_BEFORE_DOUBT) {
            journal::second_opinion(self.mapping, holder.slot());
        }
        Ok(())
    }

    /// Whether a word's tag still means that somebody has the lock.
    fn holds(self, holder: Tag) -> Result<bool> {
        if holder == FROZEN {
            return Ok(true);
        }
        if holder.slot() >= self.mapping.geometry().slots {
            return Err(Error::damaged(format!(
                "a lock names slot {}, and there are {}",
                holder.slot(),
                self.mapping.geometry().slots
            )));
        }
        if holder == self.recoverer && holder != self.tag {
            // Whoever recovers others has no small lock of its own meanwhile.
            return Err(Error::damaged(format!(
                "a lock is held by slot {}, which recovers its holder",
                holder.slot()
            )));
        }
        Ok(holder != self.tag && journal::tag_of(self.mapping, holder.slot()) == holder)
    }

    /// A thread lets go of its locks, or its slot's generation moves on, before it leaves its slot:
    /// a lock that stays with a slot which nobody has is damaged, and would never become free.
    fn refuse_nobody(self, holder: Tag, looks: u32) -> Result {
        if looks < 5 {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        Err(Error::damaged(format!(
            "a lock is held by slot {}, which nobody has",
            holder.slot()
        )))
    }

    /// Sleeps until the lock or its holder's life changes, or the time is up.
    fn sleep(self, word: &LockWord, now: u64, holder: Tag, time: Duration) {
        let wanted = now | WAITERS_BIT;
        if now != wanted
            && word
                .0
                .compare_exchange(now, wanted, AcqRel, Relaxed)
                .is_err()
        {
            return;
        }
        mutant::here("before a sleep");
        if mutant::is(Mutant::NoLifeWord) {
            futex::wait(word.futex(), wanted as u32, Some(Duration::from_secs(3600)));
            return;
        }
        let life = self.mapping.life(holder.slot());
        let alive = life.load(Acquire);
        if alive == 0 || alive & life::OWNER_DIED != 0 {
            return;
        }
        let watched = alive | life::WAITERS;
        if alive != watched
            && life
                .compare_exchange(alive, watched, AcqRel, Relaxed)
                .is_err()
        {
            return;
        }
        futex::wait_either(word.futex(), wanted as u32, life, watched, time);
    }

    /// Says what this thread waits for, and follows who waits for whom.
    fn refuse_deadlock(self, word: &LockWord, for_readers: bool) -> Result {
        let (Some(wait), Some(wanted)) = (self.wait, self.mapping.offset_of(word)) else {
            return Ok(());
        };
        let said = Wait(wait.load(Relaxed));
        if said.lock() != Some(wanted) {
            wait.store(said.begun(wanted, for_readers).0, Release);
        }
        fence(SeqCst);
        match circle::find(self.mapping, self.tag) {
            Some(locks) => Err(Error::Deadlock { locks }),
            None => Ok(()),
        }
    }

    /// Says that this thread waits for nothing any more. Who sees what it takes from now on sees that.
    fn wait_no_more(self) {
        let Some(wait) = self.wait else {
            return;
        };
        let said = Wait(wait.load(Relaxed));
        if said.lock().is_some() {
            wait.store(said.ended().0, Release);
            fence(SeqCst);
        }
    }
}

/// Lets go of a lock, and wakes a sleeper if there may be one.
#[inline(always)]
pub(crate) fn release(word: &LockWord) {
    if word.0.swap(0, Release) & WAITERS_BIT != 0 {
        wake_one(word);
    }
}

/// The same for a word that may not be that lock any more: only if it bears the tag.
pub(crate) fn release_if(word: &LockWord, tag: u64) {
    if word.0.compare_exchange(tag, 0, Release, Relaxed).is_ok() {
        return;
    }
    let waited = tag | WAITERS_BIT;
    if word.0.compare_exchange(waited, 0, Release, Relaxed).is_ok() {
        wake_one(word);
    }
}

#[cold]
#[inline(never)]
pub(crate) fn wake_one(word: &LockWord) {
    futex::wake(word.futex(), 1);
}

/// A full fence behind a compare-and-swap that took a lock: what is read behind it is read after.
#[inline(always)]
pub(super) fn full_fence() {
    if cfg!(target_arch = "x86_64") {
        // The locked instruction is one already.
        compiler_fence(SeqCst);
    } else {
        fence(SeqCst);
    }
}

/// A small lock inside the implementation, held for a few instructions, without a section.
pub(crate) struct Internal<'l>(&'l LockWord);

impl<'l> Internal<'l> {
    /// Takes the lock.
    pub(crate) fn take(word: &'l LockWord, taker: Taker<'_>) -> Result<Self> {
        if word
            .0
            .compare_exchange(0, taker.tag.0, Acquire, Relaxed)
            .is_err()
        {
            taker.take_slow(word, Patience::Endless)?;
        }
        Ok(Internal(word))
    }
}

impl Drop for Internal<'_> {
    fn drop(&mut self) {
        release(self.0);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arena, Error, journal, layout::Tag, sync::Mutex};
    use std::sync::atomic::Ordering::*;

    /// What is left of a damaged arena: neither kept waiting for, nor taken.
    #[test]
    fn a_lock_of_a_slot_that_nobody_has_is_an_error() {
        let arena = Arena::options().slots(8).in_memory().unwrap();
        let number = arena.root::<Mutex<u64>>("number").unwrap();
        let (mapping, slot) = (arena.mapping(), 5);
        let claim = &mapping.slot(slot).claim;
        let held = journal::tag_of(mapping, slot);
        let word = &number.header.word.0;
        for (life, claimed) in [(0, 0), (0, 7), (8, 0)] {
            mapping.life(slot).store(life, Release);
            claim.store(claimed, Release);
            word.store(held.0, Release);
            assert!(
                matches!(number.lock(), Err(Error::Damaged { .. })),
                "{life} {claimed}"
            );
            let elsewhere = Tag::new(slot, 99);
            word.store(elsewhere.0, Release);
            *number.lock().unwrap() += 1;
        }
        mapping.life(slot).store(0, Release);
        claim.store(0, Release);
        assert_eq!(*number.lock().unwrap(), 3);
    }
}
