//! `ptrace`: a forked child is stepped by its parent, which reads the child's copy of the arena
//! behind each instruction.
//!
//! On processors whose atomic operations are pairs of a linked load and a conditional store, a stop
//! in between makes the store fail: there the atomic instructions of later versions are needed,
//! which the standard library chooses at run time (aarch64: LSE).

use super::{Change, Pace, Recording, compare};
use std::{io, panic::AssertUnwindSafe};

/// Runs `f` in a child, stopping at every instruction, and notes how the `len` bytes at `base`
/// change there. In this process nothing changes.
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
pub(crate) fn step(base: *const u8, len: usize, _: Pace, f: impl FnOnce()) -> Recording {
    assert!(len.is_multiple_of(8) && base.addr().is_multiple_of(8));
    // SAFETY: the caller names an arena's memory, all of it mapped.
    let first = unsafe { std::slice::from_raw_parts(base, len) }.to_vec();
    // SAFETY: the child runs `f` and is killed; locks of other threads are none of its business.
    let child = unsafe { libc::fork() };
    match child {
        0 => be_stepped(f),
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        _ => Tracer::new(child, base, first).run(),
    }
}

/// The child's side: what lies between two stops by itself is stepped.
fn be_stepped(f: impl FnOnce()) -> ! {
    // SAFETY: asks to be traced by the parent, which waits for the stop; `_exit` runs no handlers.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        libc::raise(libc::SIGSTOP);
    }
    let done = std::panic::catch_unwind(AssertUnwindSafe(f));
    // SAFETY: as above.
    unsafe {
        if done.is_ok() {
            libc::raise(libc::SIGSTOP);
        }
        libc::_exit(1)
    }
}

struct Tracer {
    child: libc::pid_t,
    base: *const u8,
    now: Vec<u64>,
    shadow: Vec<u64>,
    first: Vec<u8>,
    changes: Vec<Change>,
    steps: usize,
}

impl Tracer {
    fn new(child: libc::pid_t, base: *const u8, first: Vec<u8>) -> Self {
        let words = first.chunks_exact(8);
        let words: Vec<u64> = words
            .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")))
            .collect();
        Tracer {
            child,
            base,
            now: words.clone(),
            shadow: words,
            first,
            changes: Vec::new(),
            steps: 0,
        }
    }

    fn run(mut self) -> Recording {
        assert_eq!(self.wait(), libc::SIGSTOP, "the child waits to be stepped");
        loop {
            self.go_on();
            match self.wait() {
                libc::SIGTRAP => self.look(),
                libc::SIGSTOP => break,
                other => panic!("the child got signal {other}"),
            }
        }
        Recording {
            first: std::mem::take(&mut self.first),
            changes: std::mem::take(&mut self.changes),
            boundaries: self.steps,
        }
    }

    /// The signal that the child stopped at.
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: waits for an own child.
        let waited = unsafe { libc::waitpid(self.child, &mut status, libc::__WALL) };
        assert_eq!(waited, self.child, "{}", io::Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "the child ended: {status:#x}");
        libc::WSTOPSIG(status)
    }

    fn go_on(&self) {
        // SAFETY: the child is stopped, and traced by this thread.
        let done = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.child, 0, 0) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    fn look(&mut self) {
        let len = self.first.len();
        let here = libc::iovec {
            iov_base: self.now.as_mut_ptr().cast(),
            iov_len: len,
        };
        let there = libc::iovec {
            iov_base: self.base.cast_mut().cast(),
            iov_len: len,
        };
        // SAFETY: `now` is as long as the arena, which is mapped in the child.
        let read = unsafe { libc::process_vm_readv(self.child, &here, 1, &there, 1, 0) };
        assert_eq!(read, len as isize, "{}", io::Error::last_os_error());
        let step = self.steps as u32;
        if self.now != self.shadow {
            let (now, before) = (self.now.as_ptr(), self.shadow.as_ptr());
            // SAFETY: both are `len` bytes of words.
            unsafe {
                compare(now.cast(), before.cast(), len, |word, value| {
                    self.changes.push(Change {
                        step,
                        word: word as u32,
                        value,
                    });
                });
            }
            self.shadow.copy_from_slice(&self.now);
        }
        self.steps += 1;
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: ends an own child, and takes it off the list of children.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, &mut status, libc::__WALL);
        }
    }
}
