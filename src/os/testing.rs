//! What the tests of this room share: forked children that never return into the test harness.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// A forked child, killed and reaped when dropped.
pub(crate) struct Child {
    pub(crate) pid: libc::pid_t,
    reaped: bool,
}

impl Child {
    /// Forks; the child runs `f` and leaves with status 0, or 101 if it panicked.
    pub(crate) fn fork(f: impl FnOnce()) -> Child {
        // SAFETY: the child runs `f` only, which the tests keep free of locks of other threads.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            let status = if catch_unwind(AssertUnwindSafe(f)).is_ok() {
                0
            } else {
                101
            };
            // SAFETY: leaves without running the harness's destructors.
            unsafe { libc::_exit(status) }
        }
        Child { pid, reaped: false }
    }

    /// Waits for the child and returns its wait status.
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: plain waitpid on our own child.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        self.reaped = true;
        status
    }

    /// Waits until the child, traced, stops or ends; returns its wait status.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn wait_for_stop(&mut self) -> i32 {
        let status = self.wait();
        self.reaped = !libc::WIFSTOPPED(status);
        status
    }

    /// Waits, and asserts that the child left with status 0.
    pub(crate) fn succeed(mut self) {
        assert_eq!(self.wait(), 0, "the child failed");
    }

    /// Kills and reaps the child.
    pub(crate) fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: our own child that was not reaped yet.
        unsafe { libc::kill(self.pid, signal) };
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(libc::SIGKILL);
            self.wait();
        }
    }
}

/// Sleeps for ever, until a signal ends the process.
pub(crate) fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: plain pause.
        unsafe { libc::pause() };
    }
}

/// Polls until `done`, failing after ten seconds.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "never happened: {what}"
        );
        std::thread::sleep(Duration::from_micros(50));
    }
}
