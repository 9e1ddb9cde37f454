//! Taking a lock word, and the one function that sleeps.
//!
//! 1. Free, or of an older generation of its slot: one exact compare-and-swap takes it.
//! 2. Its holder is dead: recover the holder's journal, then as 1.
//! 3. Otherwise spin briefly, then set the waiters bits of the lock and of the holder's life word
//!    and sleep on both. A back-stop of 40 ms covers the wake-ups that a death can swallow.

use crate::{
    error::{Error, Result},
    journal::{self, Depth},
    layout::{FROZEN_TAG, LockWord, Tag, WAITERS_BIT},
    mapping::Mapping,
    mutant::{self, Mutant},
    os::{futex, life},
};
use std::{
    sync::atomic::{AtomicU64, Ordering::*, fence},
    time::{Duration, Instant},
};

/// The longest sleep before a waiter looks again by itself.
const BACK_STOP: Duration = Duration::from_millis(40);
/// Sleeps for the same lock after which its holder's process is looked for: about a second's worth.
const SLEEPS_BEFORE_DOUBT: u32 = 25;
/// Looks at a held lock before sleeping. From one to the next the time doubles: each look takes the
/// word's cache line from the holder, who otherwise locks and unlocks many times meanwhile.
const LOOKS: u32 = 7;

/// Until when somebody is ready to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    Until(Instant),
    Endless,
}

impl Patience {
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
    pub(crate) waits: Option<&'m AtomicU64>,
}

impl Taker<'_> {
    /// Takes the lock. The caller made sure that the word does not name the taker as holder of it.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_slow(self, word: &LockWord, patience: Patience) -> Result {
        let taken = self.take_loop(word, patience);
        if let Some(waits) = self.waits {
            waits.store(0, Release);
        }
        taken
    }

    fn take_loop(self, word: &LockWord, patience: Patience) -> Result {
        let mut contended = 0;
        let mut looks = 0;
        let mut sleeps = 0u32;
        let mut absent = 0;
        loop {
            let now = word.0.load(Acquire);
            let holder = match Tag::of_word(now) {
                Some(holder) if self.holds(holder)? => holder,
                _ => {
                    let mine = self.tag.0 | now & WAITERS_BIT | contended;
                    if word.0.compare_exchange(now, mine, Acquire, Relaxed).is_ok() {
                        return Ok(());
                    }
                    continue;
                }
            };
            if journal::is_dead(self.mapping, holder.slot()) {
                let done =
                    journal::recover(self.mapping, holder.slot(), self.recoverer, Depth::Locks);
                if !done {
                    // Somebody else recovers it.
                    let sleep = patience.next_sleep()?.min(Duration::from_millis(1));
                    futex::wait(word.futex(), now as u32, Some(sleep));
                }
                continue;
            }
            if looks < LOOKS && patience != Patience::None {
                (0..1 << looks).for_each(|_| std::hint::spin_loop());
                looks += 1;
                continue;
            }
            let sleep = patience.next_sleep()?;
            self.refuse_deadlock(word)?;
            if self.mapping.life(holder.slot()).load(Acquire) == 0 {
                absent += 1;
                self.refuse_nobody(holder, absent)?;
            }
            self.sleep(word, now, holder, sleep);
            contended = WAITERS_BIT;
            sleeps += 1;
            if sleeps.is_multiple_of(SLEEPS_BEFORE_DOUBT) {
                journal::second_opinion(self.mapping, holder.slot());
            }
        }
    }

    /// Whether a word's tag still means that somebody has the lock.
    fn holds(self, holder: Tag) -> Result<bool> {
        if holder.0 == FROZEN_TAG {
            return Err(Error::Frozen);
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

    /// Publishes what this thread waits for, and follows who waits for whom.
    fn refuse_deadlock(self, word: &LockWord) -> Result {
        let (Some(waits), Some(wanted)) = (self.waits, self.mapping.offset_of(word)) else {
            return Ok(());
        };
        waits.store(wanted, Release);
        fence(SeqCst);
        match self.circle(wanted) {
            Some(_) => self
                .circle(wanted)
                .map_or(Ok(()), |locks| Err(Error::Deadlock { locks })),
            None => Ok(()),
        }
    }

    /// The locks in a circle of waiting that leads back to this thread.
    fn circle(self, wanted: u64) -> Option<Vec<u64>> {
        let mut locks = vec![wanted];
        let slots = self.mapping.geometry().slots;
        for _ in 0..slots {
            let holder = self.holder_of(*locks.last()?)?;
            if holder == self.tag {
                return Some(locks);
            }
            let next = self.mapping.slot(holder.slot()).waits.load(Acquire);
            if next == 0 || locks.contains(&next) {
                return None;
            }
            locks.push(next);
        }
        None
    }

    fn holder_of(self, lock: u64) -> Option<Tag> {
        if !lock.is_multiple_of(8) {
            return None;
        }
        // Nobody may wait for it any more: then its pages may have been given back.
        let holder = Tag::of_word(self.mapping.stale_word(lock)?)?;
        (holder.slot() < self.mapping.geometry().slots).then_some(holder)
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
fn wake_one(word: &LockWord) {
    futex::wake(word.futex(), 1);
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
