//! The gate of a slot: who takes a free slot, gives one up, or finds out that one who was about to
//! take it died, goes through it, and one at a time does (R5).
//!
//! It is a lock on a byte of the file, which the kernel drops when its holder dies, in whatever PID
//! namespace. Of threads of one process, which the kernel does not tell apart there, one at a time
//! goes through any gate. (A child that cannot open the file anew is not told from its parent either:
//! so who frees a claim asks for its process, too, where it can.)

use crate::{
    error::{Error, Result},
    mapping::{Backing, Mapping},
    os::{
        file::{self, Hold},
        memory::{ProcessLock, WipedWord},
    },
};

/// The first of the bytes that stand for slots.
const FIRST_BYTE: u64 = (1 << 62) + (1 << 20);

/// Runs `f` unless somebody else is in the slot's gate. Signals are blocked: a handler would wait
/// for its own thread.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn pass<R>(mapping: &Mapping, slot: usize, f: impl FnOnce() -> R) -> Result<Option<R>> {
    let _inside = ProcessLock::take(WipedWord::Gates);
    let Backing::File { locks, .. } = &mapping.backing else {
        return Ok(Some(f()));
    };
    let os = |source| Error::os("lock the arena's file", source);
    let own = locks.of_this_process_or_its_parent();
    let byte = FIRST_BYTE + slot as u64;
    if !file::try_lock_byte(own, byte, Hold::Exclusive).map_err(os)? {
        return Ok(None);
    }
    let done = f();
    // What stays locked, is so until this process ends.
    let _ = file::unlock_byte(own, byte);
    Ok(Some(done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Arena,
        os::testing::{Child, sleep_for_ever},
    };
    use std::{io::Read, io::Write, os::unix::net::UnixStream, sync::atomic::Ordering::*};

    /// The claim is one of another PID namespace: nothing but the gate tells what became of it.
    #[test]
    fn a_claim_is_freed_when_its_claimant_dies_in_the_gate() {
        const SLOT: usize = 5;
        let mut options = Arena::options();
        let arena = options.max_size(1 << 20).slots(8).anonymous().unwrap();
        let mapping = arena.mapping();
        mapping
            .header()
            .slots_high
            .fetch_max(SLOT as u32 + 1, AcqRel);
        let claim = || mapping.slot(SLOT).claim.load(Acquire);
        let (near, far) = UnixStream::pair().unwrap();
        let child = Child::fork(|| {
            let _ = pass(mapping, SLOT, || {
                mapping.slot(SLOT).claim.store(7, Release);
                (&far).write_all(&[0]).unwrap();
                sleep_for_ever()
            });
        });
        (&near).read_exact(&mut [0]).unwrap();
        arena.reap().unwrap();
        assert_eq!(claim(), 7);
        assert!(pass(mapping, SLOT, || ()).unwrap().is_none());
        child.kill();
        arena.reap().unwrap();
        assert_eq!(claim(), 0);
    }

    /// Nobody else gets the slot while its thread still has the life word watched.
    #[test]
    fn a_slot_that_cannot_be_left_is_its_threads_to_the_end() {
        let mut options = Arena::options();
        let arena = options.max_size(1 << 20).slots(8).anonymous().unwrap();
        let mapping = arena.mapping();
        let is_there = |slot: &usize| mapping.life(*slot).load(Acquire) != 0;
        let slot = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let before: Vec<_> = (0..8).filter(is_there).collect();
                drop(arena.alloc_value(1u64).unwrap());
                let own = (0..8).find(|slot| is_there(slot) && !before.contains(slot));
                let slot = own.expect("attached just now");
                let (near, far) = UnixStream::pair().unwrap();
                let in_the_gate = Child::fork(|| {
                    let _ = pass(mapping, slot, || {
                        (&far).write_all(&[0]).unwrap();
                        sleep_for_ever()
                    });
                });
                (&near).read_exact(&mut [0]).unwrap();
                crate::section::detach_current(mapping);
                let life = mapping.life(slot).load(Acquire);
                assert_eq!(life, crate::os::process::thread_id());
                in_the_gate.kill();
                slot
            });
            thread.join().unwrap()
        });
        assert!(crate::journal::is_dead(mapping, slot));
        arena.reap().unwrap();
        assert!(!is_there(&slot));
        assert_eq!(mapping.slot(slot).claim.load(Acquire), 0);
    }
}
