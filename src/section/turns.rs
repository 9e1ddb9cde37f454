//! Turns: who takes the same lock or permit again and again lets those who sleep for it have it now and then.
//!
//! One that sleeps is woken by each release, but takes some microseconds to come, and by then a thread that
//! locks in a loop has the lock again. So a thread that woke somebody, and did not let anybody have a turn
//! for a millisecond, yields until the lock was taken, for as long as it takes to wake up. (`parking_lot`
//! hands its locks over, as often. A lock that is handed over has an owner that may be dead.)

use super::Ctx;
use crate::{journal, os::futex};
use std::time::Duration;

/// The time from one turn to the next.
const EVERY: Duration = Duration::from_millis(1);
/// How long others have for taking the lock.
const TURN: Duration = Duration::from_micros(100);

/// What a thread knows of turns in an arena. All zeroes at the beginning.
#[derive(Default)]
pub(super) struct Turns {
    /// When the next one is due, by the monotonic clock.
    due: u64,
    /// The offset of the lock at which somebody was woken, and not looked at yet; 0 if there is none.
    woken: u64,
}

impl Turns {
    /// Somebody was woken at the lock at an offset.
    pub(super) fn note(&mut self, lock: u64) {
        self.woken = lock;
    }

    /// Lets others have their turn, if it is due, at what is free as long as `is_free` says so.
    #[cold]
    fn give_while(&mut self, is_free: impl Fn() -> bool) {
        let now = futex::nanos();
        if now >= self.due {
            self.due = now + EVERY.as_nanos() as u64;
            give_turn(is_free, TURN);
        }
    }
}

impl Ctx {
    /// The unit is over: who was woken at one of its locks may have his turn.
    #[inline(always)]
    pub(super) fn give_turn(&mut self) {
        if self.turns.woken != 0 {
            self.give_turn_at_lock();
        }
    }

    #[cold]
    #[inline(never)]
    fn give_turn_at_lock(&mut self) {
        let lock = std::mem::take(&mut self.turns.woken);
        // SAFETY: the context keeps its mapping, which is no part of it.
        let mapping = unsafe { &*std::ptr::from_ref(self.mapping()) };
        let from = journal::reserved_slots(mapping);
        self.give_turn_while(|| {
            // What the lock lies in may have been freed by others by now: then that is not to be touched.
            let free = mapping.stale_word(lock) == Some(0);
            free && journal::next_reader(mapping, from, lock).is_none()
        });
    }

    /// Lets others have their turn at what is free as long as `is_free` says so, unless this thread still has
    /// locks that they may wait for.
    pub(crate) fn give_turn_while(&mut self, is_free: impl Fn() -> bool) {
        if !self.in_section() && !self.reads_any() && self.raw_locks == 0 {
            self.turns.give_while(is_free);
        }
    }
}

/// Yields until it is not free any more, for a time at most.
fn give_turn(is_free: impl Fn() -> bool, time: Duration) {
    let end = futex::nanos() + time.as_nanos() as u64;
    while is_free() && futex::nanos() < end {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERY, Turns, give_turn};
    use crate::{
        Arena, Error,
        layout::WAITERS_BIT,
        os::futex,
        section::attached,
        sync::{Mutex, Semaphore},
    };
    use std::{
        sync::{
            atomic::{AtomicBool, Ordering::*},
            mpsc::channel,
        },
        thread,
        time::Duration,
    };

    fn word_of(arena: &Arena, lock: &Mutex<u64>) -> u64 {
        let mapping = arena.mapping();
        let offset = mapping.offset_of(lock).unwrap();
        mapping.stale_word(offset).unwrap()
    }

    fn is_waited_for(arena: &Arena, lock: &Mutex<u64>) -> bool {
        word_of(arena, lock) & WAITERS_BIT != 0
    }

    #[test]
    fn a_turn_ends_when_the_lock_is_taken() {
        let arena = &Arena::in_memory().unwrap();
        let number = &arena.root::<Mutex<u64>>("number").unwrap();
        let guard = number.lock().unwrap();
        thread::scope(|threads| {
            let (end, ended) = channel::<()>();
            threads.spawn(move || {
                let _guard = number.lock().unwrap();
                let _ = ended.recv();
            });
            while !is_waited_for(arena, number) {
                thread::yield_now();
            }
            drop(guard);
            let is_free = || word_of(arena, number) == 0;
            // Otherwise this would take an hour.
            give_turn(is_free, Duration::from_secs(3600));
            assert!(number.try_lock().is_err());
            end.send(()).unwrap();
        });
    }

    #[test]
    fn turns_are_given_once_in_a_while() {
        let mut turns = Turns::default();
        let before = futex::nanos();
        turns.give_while(|| true);
        assert!(turns.due >= before + EVERY.as_nanos() as u64);
        turns.due = u64::MAX;
        turns.give_while(|| panic!("it is not due"));
        assert_eq!(turns.due, u64::MAX);
    }

    /// Starts others, who want what there is, and waits until that is so.
    type Others<'o> = &'o dyn Fn(&dyn Fn() -> bool);

    /// Whoever wakes somebody gives a turn, however he lets go; but not while he holds something else.
    #[test]
    fn who_wakes_somebody_gives_a_turn() {
        let arena = &Arena::in_memory().unwrap();
        let number = &arena.root::<Mutex<u64>>("number").unwrap();
        let other = &arena.root::<Mutex<u64>>("other").unwrap();
        let permits = &arena.root::<Semaphore>("permits").unwrap();
        permits.post().unwrap();
        let turn_given = |let_go: &dyn Fn(Others<'_>)| {
            let mut ctx = attached(&**number).unwrap();
            // SAFETY: C1; the reference ends with the statement.
            unsafe { ctx.as_mut() }.turns.due = 0;
            thread::scope(|threads| {
                let_go(&|waits| {
                    threads.spawn(|| drop(number.lock().unwrap()));
                    threads.spawn(|| drop(permits.acquire().unwrap()));
                    while !waits() {
                        thread::yield_now();
                    }
                });
            });
            // SAFETY: as above.
            unsafe { ctx.as_mut() }.turns.due != 0
        };
        let locked = || is_waited_for(arena, number);
        assert!(turn_given(&|others| {
            let _guard = number.lock().unwrap();
            others(&locked);
        }));
        assert!(turn_given(&|others| {
            let section = || {
                let _guards = (number.lock()?, other.lock()?);
                others(&locked);
                Ok(())
            };
            arena.section(section).unwrap();
        }));
        assert!(turn_given(&|_| {
            let taken = AtomicBool::new(false);
            thread::scope(|threads| {
                threads.spawn(|| {
                    while !taken.load(SeqCst) {
                        thread::yield_now();
                    }
                    drop(number.lock().unwrap());
                });
                let undone = arena.transaction(|tx| {
                    let _guard = tx.lock(number)?;
                    taken.store(true, SeqCst);
                    while !is_waited_for(arena, number) {
                        thread::yield_now();
                    }
                    Err::<(), _>(Error::from("undone"))
                });
                assert!(undone.is_err());
            });
        }));
        let asked = || permits.available() == 0 && permits.has_sleepers();
        assert!(turn_given(&|others| {
            let _permit = permits.acquire().unwrap();
            others(&asked);
        }));
        assert!(!turn_given(&|others| {
            let permit = permits.acquire().unwrap();
            others(&asked);
            let guard = other.lock().unwrap();
            drop(permit);
            drop(guard);
        }));
        assert!(
            !turn_given(&|_| drop(number.lock().unwrap())),
            "nobody waits"
        );
    }
}
