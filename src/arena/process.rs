//! Processes that have handles of roots: an entry each, alive as long as its byte of the file is
//! locked.
//!
//! The lock belongs to an open file description, so the kernel drops it when the last process that
//! has it goes: a forked child, which has its parent's handles, rightly keeps it. In the child the
//! *generation* differs, and new handles get an entry of the child's own.

use crate::{
    error::{Error, Result},
    journal::Claim,
    mapping::{Backing, Mapping},
    os::{self, file::Hold},
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// The first of the bytes that stand for processes.
const FIRST_BYTE: u64 = (1 << 62) + 16;

/// Changes with each fork of this process: a child has the handles of before too, so those are not
/// counted down any more. (Both before and after the fork, so that none slips in between.)
pub(super) fn forks() -> u64 {
    FORKS.load(Acquire)
}

static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn note_fork() {
    FORKS.fetch_add(1, AcqRel);
}

fn watch_forks() {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if !WATCHING.swap(true, AcqRel) {
        // Without memory for this, the next line is not reached either.
        let _ = os::exit::at_fork(note_fork);
    }
}

/// The entry of this process in the arena; makes one if need be. `retire` is told of an entry
/// whose process is gone, before it is used again.
pub(super) fn entry(mapping: &Mapping, retire: impl Fn(usize) -> Result) -> Result<usize> {
    let known = mapping.process.load(Acquire);
    let generation = os::process::generation();
    if known as u32 != 0 && known >> 32 == generation & 0xffff_ffff {
        return Ok(known as u32 as usize - 1);
    }
    watch_forks();
    let index = match &mapping.backing {
        Backing::Memory => 0,
        Backing::File { locks, .. } => {
            let own = locks
                .of_this_process()
                .map_err(|source| Error::os("open the arena's file anew", source))?;
            claim(mapping, own, &retire)?
        }
    };
    let word = (generation & 0xffff_ffff) << 32 | (index as u64 + 1);
    mapping.process.store(word, Release);
    Ok(index)
}

fn claim(
    mapping: &Mapping,
    locks: &std::fs::File,
    retire: &impl Fn(usize) -> Result,
) -> Result<usize> {
    for index in 0..mapping.geometry().slots {
        let locked = os::file::try_lock_byte(locks, FIRST_BYTE + index as u64, Hold::Exclusive)
            .map_err(|source| Error::os("lock the arena's file", source))?;
        if !locked {
            continue;
        }
        // Perhaps of this process, when it had the arena mapped before.
        let stored = mapping.process_entry(index);
        retire(index)?;
        stored
            .namespace
            .store(os::incarnation::pid_namespace(), Relaxed);
        stored.claim.store(Claim::mine().0, Release);
        return Ok(index);
    }
    Err(Error::NoSlots {
        slots: mapping.geometry().slots as u32,
    })
}

/// Whether nobody of the entry's process, nor of its children, is there any more.
pub(super) fn is_gone(mapping: &Mapping, index: usize) -> bool {
    if index >= mapping.geometry().slots {
        return true;
    }
    if is_mine(mapping, index) {
        return false;
    }
    if mapping.process_entry(index).claim.load(Acquire) == 0 {
        return true;
    }
    match &mapping.backing {
        // A description that a child has from its parent would not see the parent's own lock.
        Backing::File { locks, .. } => {
            let held = locks
                .of_this_process()
                .and_then(|own| os::file::byte_held(own, FIRST_BYTE + index as u64));
            matches!(held, Ok(false))
        }
        Backing::Memory => false,
    }
}

/// Whether the entry is this process's, and not its parent's.
fn is_mine(mapping: &Mapping, index: usize) -> bool {
    let known = mapping.process.load(Acquire);
    known as u32 as usize == index + 1 && known >> 32 == os::process::generation() & 0xffff_ffff
}
