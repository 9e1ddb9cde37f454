//! What several test files need: children that are killed, waits that end.
#![allow(dead_code, unreachable_pub)]

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::*},
    time::{Duration, Instant},
};

/// No wait of a test is longer: a hang is a failure, however busy the machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A forked child, killed and waited for at the end.
pub struct Forked {
    pid: i32,
    status: Option<i32>,
}

impl Forked {
    /// Forks; the child runs `f` and ends with its result.
    pub fn run(f: impl FnOnce() -> i32) -> Self {
        // SAFETY: the tests keep to the contract: the child uses handles from before, and no
        // guards or references.
        match unsafe { libc::fork() } {
            0 => {
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(101);
                // SAFETY: ends the child.
                unsafe { libc::_exit(code) }
            }
            pid if pid > 0 => Forked { pid, status: None },
            _ => panic!("could not fork: {}", std::io::Error::last_os_error()),
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: a child of ours that was not waited for.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    /// Whether the child has ended by now.
    pub fn ended(&mut self) -> bool {
        let mut status = 0;
        if self.status.is_none()
            // SAFETY: asks about a child of ours.
            && unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == self.pid
        {
            self.status = Some(status);
        }
        self.status.is_some()
    }

    /// Kills the child at once, and waits until the kernel has cleared it away.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }

    /// Waits for the end; gives the raw status.
    pub fn wait(&mut self) -> i32 {
        let began = Instant::now();
        while self.status.is_none() {
            let mut status = 0;
            // SAFETY: waits for a child of ours.
            if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == self.pid {
                self.status = Some(status);
            } else if began.elapsed() > PATIENCE {
                // SAFETY: as above.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                panic!("a child hangs");
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        self.status.unwrap_or(-1)
    }

    /// Waits for the end, which must be an orderly one.
    pub fn succeed(mut self) {
        let status = self.wait();
        assert_eq!(status, 0, "the child failed: {status:#x}");
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(libc::SIGKILL);
            let mut status = 0;
            // SAFETY: waits for a child of ours.
            unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        }
    }
}

/// A folder on tmpfs that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = format!("/dev/shm/sharena-test-{name}-{}", std::process::id());
        let path = PathBuf::from(path);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `done`.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Stages that processes tell each other, in an arena or in shared memory.
pub fn reach(stage: &AtomicU32, value: u32) {
    stage.fetch_max(value, AcqRel);
}

/// Waits until somebody reached a stage.
pub fn await_stage(stage: &AtomicU32, value: u32) {
    until("a stage is reached", || stage.load(Acquire) >= value);
}

/// A small generator of random numbers.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
