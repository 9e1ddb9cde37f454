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
    os::{self, file::Hold, memory::Wiped},
};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};

/// The first of the bytes that stand for processes.
const FIRST_BYTE: u64 = (1 << 62) + 16;

/// A number of this process that differs in a forked child. Never 0.
pub(super) fn generation() -> u64 {
    static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut page = PAGE.load(Acquire);
    if page.is_null() {
        let fresh = Wiped::map(8).expect("no memory for one page");
        let made = fresh.as_ptr().cast();
        match PAGE.compare_exchange(std::ptr::null_mut(), made, AcqRel, Acquire) {
            Ok(_) => {
                fresh.leak();
                page = made;
            }
            Err(theirs) => page = theirs,
        }
    }
    // SAFETY: mapped, zeroed at first and in a child, aligned, never unmapped.
    let word = unsafe { &*page };
    match word.load(Acquire) {
        0 => {
            let new = NEXT.fetch_add(1, Relaxed);
            match word.compare_exchange(0, new, AcqRel, Acquire) {
                Ok(_) => new,
                Err(theirs) => theirs,
            }
        }
        known => known,
    }
}

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
    let generation = generation();
    if known as u32 != 0 && known >> 32 == generation & 0xffff_ffff {
        return Ok(known as u32 as usize - 1);
    }
    watch_forks();
    let index = match &mapping.backing {
        Backing::Memory => 0,
        Backing::File { locks, .. } if known == 0 => claim(mapping, locks, &retire)?,
        // In a forked child: the parent's description would lock the parent's bytes. The new one
        // is kept for as long as the process lives.
        Backing::File { locks, .. } => {
            let own = os::file::reopen(locks, true)
                .map_err(|source| Error::os("open the arena's file anew", source))?;
            let index = claim(mapping, &own, &retire)?;
            std::mem::forget(own);
            index
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
        // A byte that this description has locked already is another entry of this process.
        let stored = mapping.process_entry(index);
        if !locked || stored.claim.load(Acquire) == Claim::mine().0 {
            continue;
        }
        retire(index)?;
        stored
            .namespace
            .store(os::process::pid_namespace(), Relaxed);
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
    let mine = mapping.process.load(Acquire) as u32 as usize == index + 1;
    let stored = mapping.process_entry(index).claim.load(Acquire);
    if mine || stored == 0 {
        return !mine;
    }
    match &mapping.backing {
        Backing::File { locks, .. } => {
            matches!(
                os::file::byte_held(locks, FIRST_BYTE + index as u64),
                Ok(false)
            )
        }
        Backing::Memory => false,
    }
}
