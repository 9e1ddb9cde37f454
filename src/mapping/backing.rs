//! What is behind a mapping: a file that others can map, or memory of this process.

use crate::os::{
    file::{self, Identity},
    process,
};
use std::{
    fs::File,
    io,
    path::PathBuf,
    ptr,
    sync::atomic::{AtomicPtr, Ordering::*},
};

/// Where an arena's pages come from.
pub(crate) enum Backing {
    /// A file, named or not.
    File {
        /// As it was opened or handed over.
        file: File,
        /// The same file, opened anew.
        locks: Locks,
        identity: Identity,
        /// Where it was found, if it has a name.
        path: Option<PathBuf>,
    },
    /// Memory of this process, shared with nobody.
    Memory,
}

/// Open file descriptions through which this process locks bytes of the file.
///
/// The kernel drops a lock when the last process that has its description goes. So a child keeps
/// the description of its parent, and with it what the parent locked, whose handles it has too;
/// for locks of its own, and to see those of its parent, it needs one of its own (D4).
pub(crate) struct Locks {
    latest: AtomicPtr<Description>,
}

struct Description {
    file: File,
    /// The process that opened it.
    opened_by: u64,
    /// That of the process which this one was forked from.
    inherited: *mut Description,
}

// SAFETY: descriptions are never changed, and only dropped with the whole.
unsafe impl Send for Locks {}
// SAFETY: as above.
unsafe impl Sync for Locks {}

impl Locks {
    /// Locks through a description that only this process has.
    pub(crate) fn new(file: File) -> Self {
        let first = Description {
            file,
            opened_by: process::generation(),
            inherited: ptr::null_mut(),
        };
        Locks {
            latest: AtomicPtr::new(Box::into_raw(Box::new(first))),
        }
    }

    /// The description of this very process; in a forked child it is opened at its first use.
    pub(crate) fn of_this_process(&self) -> io::Result<&File> {
        let latest = self.latest.load(Acquire);
        // SAFETY: never null, and dropped with `self` only.
        let known = unsafe { &*latest };
        if known.opened_by == process::generation() {
            return Ok(&known.file);
        }
        let own = Box::into_raw(Box::new(Description {
            file: file::reopen(&known.file, true)?,
            opened_by: process::generation(),
            inherited: latest,
        }));
        let taken = match self.latest.compare_exchange(latest, own, AcqRel, Acquire) {
            Ok(_) => own,
            Err(theirs) => {
                // SAFETY: made just now, and seen by nobody else.
                drop(unsafe { Box::from_raw(own) });
                theirs
            }
        };
        // SAFETY: as above.
        Ok(unsafe { &(*taken).file })
    }
}

impl Locks {
    /// The same, or that of the process which this one was forked from, where a new one cannot be
    /// had: a child that gave up its rights may not open the file again.
    pub(crate) fn of_this_process_or_its_parent(&self) -> &File {
        self.of_this_process().unwrap_or_else(|_| {
            // SAFETY: never null, and dropped with `self` only.
            unsafe { &(*self.latest.load(Acquire)).file }
        })
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        let mut next = *self.latest.get_mut();
        while !next.is_null() {
            // SAFETY: each was made by `Box::into_raw`, and is in the chain once.
            next = unsafe { Box::from_raw(next) }.inherited;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{file::Hold, testing::Child};

    #[test]
    fn a_child_locks_for_itself_and_keeps_its_parents_locks() {
        let file = file::memfd("locks").unwrap();
        let outside = file::reopen(&file, true).unwrap();
        let locks = Locks::new(file::reopen(&file, true).unwrap());
        let lock = |at| {
            let own = locks.of_this_process().unwrap();
            file::try_lock_byte(own, at, Hold::Exclusive).unwrap()
        };
        assert!(lock(1));
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let child = Child::fork(|| {
            assert!(!lock(1) && lock(2));
            std::io::Write::write_all(&mut &far, &[0]).unwrap();
            crate::os::testing::sleep_for_ever()
        });
        std::io::Read::read_exact(&mut &near, &mut [0]).unwrap();
        assert!(!lock(2) && lock(3));
        drop(locks);
        let held = |at| file::byte_held(&outside, at).unwrap();
        assert!(held(1) && held(2) && held(3));
        child.kill();
        crate::os::testing::eventually("all are dropped", || !held(1) && !held(2) && !held(3));
    }
}
