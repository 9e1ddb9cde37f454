//! Sleeping and waking on 32-bit words that several processes map.
//!
//! All calls are process-shared (never `FUTEX_PRIVATE_FLAG`), so the kernel finds a word by its
//! file and offset: two mappings of one page, in one process or in two, meet.
//!
//! A return from a wait never proves anything: the caller looks at the words again. What is
//! guaranteed is that a wait does not sleep when a word differs from the expected value at the
//! moment of going to sleep, and does not outlast its timeout by more than scheduling takes.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    thread::{
        ClockId, Timespec,
        futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags},
    },
};

/// Longest sleep on one word where waiting on two is impossible.
const SLICE: Duration = Duration::from_millis(10);

/// Pause after an error that no kernel should return, so that the caller's loop cannot spin.
const UNEXPECTED_PAUSE: Duration = Duration::from_millis(1);

/// Whether `futex_waitv` failed in a way that will not change (old kernel, seccomp, rr).
static WAITV_MISSING: AtomicBool = AtomicBool::new(false);

/// Why a wait ended. In every case the caller must look at the words again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Woken, interrupted by a signal, or told to look again.
    Woken,
    /// A word did not hold the expected value.
    Changed,
    /// The whole timeout passed.
    TimedOut,
}

/// Wakes at most `n` sleepers of `word` and returns how many there were.
pub(crate) fn wake(word: &AtomicU32, n: u32) -> usize {
    // The kernel reads the count as a signed number.
    futex::wake(word, Flags::empty(), n.min(i32::MAX as u32)).unwrap_or(0)
}

/// Sleeps while `word` holds `expected`, at most for `timeout`.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wake {
    let timeout = timeout.map(timespec);
    match futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) => Wake::Woken,
        Err(error) => expected_end(error).unwrap_or_else(|| {
            thread::sleep(UNEXPECTED_PAUSE);
            Wake::Woken
        }),
    }
}

/// Sleeps while `a` holds `va` and `b` holds `vb`, at most for `timeout`.
///
/// Where the kernel cannot wait on two words it sleeps on `a` for at most 10 ms and returns
/// `Woken` if `timeout` is longer than that: the caller looks at both words again.
pub(crate) fn wait_either(
    a: &AtomicU32,
    va: u32,
    b: &AtomicU32,
    vb: u32,
    timeout: Duration,
) -> Wake {
    if WAITV_MISSING.load(Relaxed) {
        return wait_slice(a, va, b, vb, timeout);
    }
    match wait_on_both(a, va, b, vb, timeout) {
        Ok(_) => Wake::Woken,
        Err(error) => expected_end(error).unwrap_or_else(|| {
            WAITV_MISSING.store(true, Relaxed);
            wait_slice(a, va, b, vb, timeout)
        }),
    }
}

/// Behave as if the kernel could (not) wait on two words.
#[cfg(test)]
pub(crate) fn pretend_waitv_missing(missing: bool) {
    WAITV_MISSING.store(missing, Relaxed);
}

fn wait_on_both(
    a: &AtomicU32,
    va: u32,
    b: &AtomicU32,
    vb: u32,
    timeout: Duration,
) -> Result<usize, Errno> {
    let words = [wait_entry(a, va), wait_entry(b, vb)];
    let deadline = deadline(timeout);
    futex::waitv(
        &words,
        WaitvFlags::empty(),
        Some(&deadline),
        ClockId::Monotonic,
    )
}

fn wait_entry(word: &AtomicU32, expected: u32) -> Wait {
    let mut entry = Wait::new();
    entry.val = u64::from(expected);
    entry.uaddr = WaitPtr::new(word.as_ptr().cast());
    entry.flags = WaitFlags::SIZE_U32;
    entry
}

/// The way without `futex_waitv`: a short sleep on `a` alone.
fn wait_slice(a: &AtomicU32, va: u32, b: &AtomicU32, vb: u32, timeout: Duration) -> Wake {
    if b.load(Relaxed) != vb {
        return Wake::Changed;
    }
    match wait(a, va, Some(timeout.min(SLICE))) {
        Wake::TimedOut if timeout > SLICE => Wake::Woken,
        end => end,
    }
}

/// The ends of a wait that a healthy kernel reports as errors.
fn expected_end(error: Errno) -> Option<Wake> {
    match error {
        Errno::AGAIN => Some(Wake::Changed),
        Errno::TIMEDOUT => Some(Wake::TimedOut),
        Errno::INTR => Some(Wake::Woken),
        _ => None,
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// `timeout` from now on the monotonic clock.
fn deadline(timeout: Duration) -> Timespec {
    let now = monotonic_now();
    let nanos = now.tv_nsec + i64::from(timeout.subsec_nanos());
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: now
            .tv_sec
            .saturating_add(seconds)
            .saturating_add(nanos / 1_000_000_000),
        tv_nsec: nanos % 1_000_000_000,
    }
}

/// The clock by which sleeps end, in nanoseconds.
pub(crate) fn nanos() -> u64 {
    let now = monotonic_now();
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn monotonic_now() -> libc::timespec {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to the local only; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, MutexGuard},
        time::Instant,
    };

    use super::*;
    use crate::os::testing::{Child, eventually};

    /// The pretence is process-wide, so the tests that depend on it take turns.
    static TURN: Mutex<()> = Mutex::new(());

    fn pretence(missing: bool) -> MutexGuard<'static, ()> {
        let turn = TURN.lock().unwrap_or_else(|poison| poison.into_inner());
        pretend_waitv_missing(missing);
        turn
    }

    fn shared_words() -> &'static [AtomicU32; 2] {
        let flags = rustix::mm::MapFlags::SHARED;
        let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping, never unmapped, zeroed, page-aligned.
        unsafe {
            let page = rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, access, flags);
            &*page.unwrap().cast()
        }
    }

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn wait_sees_a_changed_word_and_its_timeout() {
        let word = AtomicU32::new(7);
        assert_eq!(wait(&word, 6, None), Wake::Changed);
        let start = Instant::now();
        assert_eq!(wait(&word, 7, Some(SHORT)), Wake::TimedOut);
        assert!(start.elapsed() >= SHORT);
        assert_eq!(wake(&word, u32::MAX), 0);
    }

    #[test]
    fn another_process_is_woken() {
        let [word, done] = shared_words();
        let child = Child::fork(|| {
            while word.load(Relaxed) == 0 {
                wait(word, 0, Some(LONG));
            }
            done.store(1, Relaxed);
        });
        eventually("the child sleeps", || wake(word, 1) == 1);
        word.store(1, Relaxed);
        wake(word, u32::MAX);
        child.succeed();
        assert_eq!(done.load(Relaxed), 1);
    }

    fn check_wait_either() {
        let [a, b] = [AtomicU32::new(1), AtomicU32::new(2)];
        assert_eq!(wait_either(&a, 0, &b, 2, LONG), Wake::Changed);
        assert_eq!(wait_either(&a, 1, &b, 0, LONG), Wake::Changed);
        let start = Instant::now();
        while wait_either(&a, 1, &b, 2, SHORT.saturating_sub(start.elapsed())) != Wake::TimedOut {}
        assert!(start.elapsed() >= SHORT && start.elapsed() < LONG);
    }

    #[test]
    fn wait_either_on_two_words() {
        let _turn = pretence(false);
        check_wait_either();
        assert!(!WAITV_MISSING.load(Relaxed), "this kernel has futex_waitv");
    }

    #[test]
    fn wait_either_without_waitv() {
        let _turn = pretence(true);
        check_wait_either();
        pretend_waitv_missing(false);
    }

    #[test]
    fn wait_either_is_woken_by_both_words() {
        let _turn = pretence(false);
        for woken in 0..2 {
            let words = shared_words();
            let child = Child::fork(|| {
                let end = wait_either(&words[0], 0, &words[1], 0, LONG);
                assert_eq!(end, Wake::Woken);
            });
            eventually("the child sleeps", || wake(&words[woken], 1) == 1);
            child.succeed();
        }
    }

    #[test]
    fn the_fallback_never_sleeps_longer_than_a_slice() {
        let _turn = pretence(true);
        let [a, b] = [AtomicU32::new(0), AtomicU32::new(0)];
        let start = Instant::now();
        assert_eq!(wait_either(&a, 0, &b, 0, LONG), Wake::Woken);
        assert!(start.elapsed() >= SLICE && start.elapsed() < LONG / 10);
        pretend_waitv_missing(false);
    }

    #[test]
    fn an_unexpected_error_means_missing() {
        let _turn = pretence(false);
        // Without flags the kernel says EINVAL, as it does under rr.
        let odd = [Wait::new(), Wait::new()];
        let end = futex::waitv(&odd, WaitvFlags::empty(), None, ClockId::Monotonic);
        assert_eq!(expected_end(end.unwrap_err()), None);
    }

    #[test]
    fn huge_timeouts_saturate() {
        assert_eq!(timespec(Duration::MAX).tv_sec, i64::MAX);
        assert_eq!(deadline(Duration::MAX).tv_sec, i64::MAX);
    }
}
