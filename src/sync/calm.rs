//! Releasing a lock without an atomic instruction, as long as nobody sleeps for it.
//!
//! A release must not miss a sleeper. With one exchange, which empties the word and gets its waiters
//! bit, it cannot; but such an instruction waits until all stores of the section have left the
//! processor, which is as long as the rest of a short section takes. So a lock is *calm* until
//! somebody wants to sleep: its holder empties the word by a plain store, and then looks whether the
//! lock still is calm. Store and look may be carried out the other way round. That nothing is missed
//! is the sleeper's business, who has time:
//!
//! 1. It counts itself in [`Contention`]; the lock is *roused*.
//! 2. It has all running threads of all processes pass a barrier. A holder that did not see (1) when
//!    it looked has emptied the word by now; one that has not looked yet will see it, and wake.
//! 3. It says that the lock is *contended*: others need no barrier. Now the word may have its waiters
//!    bit, see [`wait`](super::wait), and whoever sees (1) releases by an exchange.
//!
//! When nobody is counted any more, and many releases had nobody to wake, a holder makes the lock calm
//! again. A sleeper that is killed stays counted: then the lock is released by exchanges for good.
//!
//! `tests/model/calm.rs` has all of this with store buffers.

use super::wait::{release, wake_one};
use crate::{
    layout::{Contention, MutexHeader, WAITERS_BIT},
    os,
};
use std::sync::atomic::{AtomicU32, Ordering::*, compiler_fence};

/// After so many releases without a sleeper a lock is made calm. They take longer than the barrier
/// that the next sleeper will need: tens of microseconds, and that some.
const UNEVENTFUL: u32 = 2000;

/// Lets go of a mutex, and wakes a sleeper if there may be one: says whether there was. `uneventful` counts
/// the thread's releases of contended locks in which there was none.
#[inline(always)]
pub(crate) fn release_mutex(mutex: &MutexHeader, uneventful: &mut u32) -> bool {
    if !is_calm(mutex) {
        return release_contended(mutex, uneventful);
    }
    let wakes = !release_calm(mutex);
    if wakes {
        wake_one(&mutex.word);
    }
    wakes
}

/// Whether nobody sleeps for the lock.
#[inline(always)]
pub(crate) fn is_calm(mutex: &MutexHeader) -> bool {
    mutex.contention.load(Relaxed) == Contention::CALM.0
}

/// Lets go of a mutex that is calm, or was just now. Says whether it still is; otherwise somebody has to be
/// [woken](wake_one).
#[inline(always)]
pub(crate) fn release_calm(mutex: &MutexHeader) -> bool {
    mutex.word.0.store(0, Release);
    compiler_fence(SeqCst);
    is_calm(mutex)
}

#[cold]
#[inline(never)]
fn release_contended(mutex: &MutexHeader, uneventful: &mut u32) -> bool {
    let waited = mutex.word.0.load(Relaxed) & WAITERS_BIT != 0;
    *uneventful = if waited { 0 } else { *uneventful + 1 };
    if *uneventful > UNEVENTFUL {
        *uneventful = 0;
        let before = Contention(mutex.contention.load(Relaxed));
        if !before.has_sleepers() {
            let calm = Contention::CALM.0;
            let _ = mutex
                .contention
                .compare_exchange(before.0, calm, AcqRel, Relaxed);
        }
    }
    release(&mutex.word);
    waited
}

/// Who may sleep on a mutex's word: as long as it is counted, the lock does not become calm.
pub(super) struct Sleeper<'m> {
    mutex: &'m MutexHeader,
    /// Whether all releases see it. Not where the kernel has no barriers.
    pub(super) is_seen: bool,
}

impl<'m> Sleeper<'m> {
    /// Rouses the lock.
    pub(super) fn enter(mutex: &'m MutexHeader) -> Self {
        let before = update(&mutex.contention, Contention::with_sleeper);
        let is_seen = before.is_contended() || os::memory::membarrier();
        if is_seen && !before.is_contended() {
            update(&mutex.contention, Contention::contended);
        }
        Sleeper { mutex, is_seen }
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        update(&self.mutex.contention, Contention::without_sleeper);
    }
}

/// Gives what it was before.
fn update(word: &AtomicU32, change: fn(Contention) -> Contention) -> Contention {
    let mut before = word.load(Relaxed);
    loop {
        let after = change(Contention(before)).0;
        match word.compare_exchange(before, after, SeqCst, Relaxed) {
            Ok(_) => return Contention(before),
            Err(now) => before = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Contention, UNEVENTFUL};
    use crate::{Arena, sync::Mutex};
    use std::{sync::atomic::Ordering::*, thread};

    #[test]
    fn a_lock_is_roused_by_a_sleeper_and_becomes_calm_again() {
        let arena = Arena::in_memory().unwrap();
        let number = arena.root::<Mutex<u32>>("number").unwrap();
        let contention = || Contention(number.header.contention.load(SeqCst));
        let guard = number.lock().unwrap();
        assert_eq!(contention(), Contention::CALM);
        thread::scope(|threads| {
            threads.spawn(|| *number.lock().unwrap() += 1);
            while !contention().is_contended() {
                thread::yield_now();
            }
            assert!(contention().has_sleepers());
            drop(guard);
        });
        assert!(contention().is_contended() && !contention().has_sleepers());
        for _ in 0..=UNEVENTFUL {
            *number.lock().unwrap() += 1;
        }
        assert_eq!(contention(), Contention::CALM);
        assert_eq!(*number.lock().unwrap(), UNEVENTFUL + 2);
    }
}
