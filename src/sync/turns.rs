//! Turns: who takes the same lock or permit again and again lets those who sleep for it have it now and then.
//!
//! One that sleeps is woken by each release, but takes some microseconds to come, and by then a thread that
//! locks in a loop has the lock again. So a thread that woke somebody, and did not let anybody have a turn
//! for a millisecond, yields until the lock was taken, for as long as it takes to wake up. (`parking_lot`
//! hands its locks over, as often. A lock that is handed over has an owner that may be dead.)

use crate::os::futex;
use std::time::Duration;

/// The time from one turn to the next.
const EVERY: Duration = Duration::from_millis(1);
/// How long others have for taking the lock.
const TURN: Duration = Duration::from_micros(100);

/// What a thread knows of turns in an arena. All zeroes at the beginning.
#[derive(Default)]
pub(crate) struct Turns {
    /// When the next one is due, by the monotonic clock.
    due: u64,
    /// The offset of the lock at which somebody was woken, and not looked at yet; 0 if there is none.
    woken: u64,
}

impl Turns {
    /// Somebody was woken at the lock at an offset.
    pub(crate) fn note(&mut self, lock: u64) {
        self.woken = lock;
    }

    /// Whether somebody was.
    #[inline(always)]
    pub(crate) fn are_noted(&self) -> bool {
        self.woken != 0
    }

    /// The lock at which that was; from now on nobody was.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.woken)
    }

    /// Lets others have their turn, if it is due, at what is free as long as `is_free` says so. The thread
    /// holds nothing that they may need.
    #[cold]
    pub(crate) fn give_while(&mut self, is_free: impl Fn() -> bool) {
        let now = futex::nanos();
        if now >= self.due {
            self.due = now + EVERY.as_nanos() as u64;
            give_turn(is_free, TURN);
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
    use crate::{Arena, layout::Contention, os::futex, sync::Mutex};
    use std::{
        sync::{atomic::Ordering::*, mpsc::channel},
        thread,
        time::Duration,
    };

    #[test]
    fn a_turn_ends_when_the_lock_is_taken() {
        let arena = Arena::in_memory().unwrap();
        let number = &arena.root::<Mutex<u64>>("number").unwrap();
        let guard = number.lock().unwrap();
        thread::scope(|threads| {
            let (end, ended) = channel::<()>();
            threads.spawn(move || {
                let _guard = number.lock().unwrap();
                let _ = ended.recv();
            });
            let contention = || Contention(number.header.contention.load(SeqCst));
            while !contention().is_contended() {
                thread::yield_now();
            }
            drop(guard);
            let is_free = || number.header.word.0.load(SeqCst) == 0;
            // Otherwise this would take an hour.
            give_turn(is_free, Duration::from_secs(3600));
            assert!(number.try_lock().is_err());
            end.send(()).unwrap();
        });
    }

    #[test]
    fn turns_are_given_once_in_a_while() {
        let mut turns = Turns::default();
        assert!(!turns.are_noted());
        turns.note(8);
        assert!(turns.are_noted());
        assert_eq!(turns.take(), 8);
        assert!(!turns.are_noted());
        let before = futex::nanos();
        turns.give_while(|| true);
        assert!(turns.due >= before + EVERY.as_nanos() as u64);
        turns.due = u64::MAX;
        turns.give_while(|| panic!("it is not due"));
        assert_eq!(turns.due, u64::MAX);
    }
}
