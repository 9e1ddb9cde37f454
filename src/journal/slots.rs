//! Claiming and releasing slots.
//!
//! 1. The claim word goes from 0 to a word that names the claimant, by compare-and-swap. Only the
//!    winner goes on.
//! 2. The winner links its life word, which from then on the kernel marks at its death.
//!
//! Killed between 1 and 2, the slot is lost until [`super::reap`] finds that the claimant has gone:
//! the claim word tells process id, start time and PID namespace. Releasing is the reverse: life
//! word 0, unlinked, claim word 0.

use crate::{
    error::{Error, Result},
    layout::Tag,
    mapping::Mapping,
    os::process,
};
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Who claimed something: process id (22 bits), start time (26 bits), PID namespace (16 bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim(pub(crate) u64);

impl Claim {
    /// The claim of this process. Never 0, since no process has id 0.
    pub(crate) fn mine() -> Self {
        static KNOWN: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let known = Claim(KNOWN.load(Relaxed));
        // A forked child has another id.
        if known.0 >> 42 == u64::from(pid & 0x3f_ffff) {
            return known;
        }
        let start = process::start_time(pid).unwrap_or(0);
        let claim = Claim::new(pid, start, process::pid_namespace());
        KNOWN.store(claim.0, Relaxed);
        claim
    }

    /// The claim of a process that started at that time, in that namespace: their lower bits.
    pub(crate) fn new(pid: u32, start: u64, namespace: u64) -> Self {
        Claim(u64::from(pid & 0x3f_ffff) << 42 | (start & 0x3ff_ffff) << 16 | (namespace & 0xffff))
    }

    /// Whether the claim was made in another PID namespace, or in one that cannot be told.
    pub(crate) fn is_foreign(self) -> bool {
        let namespace = process::pid_namespace();
        namespace == 0 || self.0 & 0xffff != namespace & 0xffff
    }

    /// Whether the process that made this claim is certainly gone. One in another PID namespace
    /// cannot be judged, and counts as there.
    pub(crate) fn is_gone(self) -> bool {
        if self.is_foreign() {
            return false;
        }
        let namespace = process::pid_namespace();
        let pid = (self.0 >> 42) as u32;
        match process::start_time(pid) {
            Some(start) => Claim::new(pid, start, namespace) != self,
            None => true,
        }
    }
}

/// Slots that only recoverers use: when all others are dead, one of them can still recover.
pub(crate) fn reserved_slots(mapping: &Mapping) -> usize {
    (mapping.geometry().slots / 32).max(1)
}

fn try_claim(mapping: &Mapping, slot: usize, claim: Claim) -> bool {
    let stored = mapping.slot(slot);
    stored.claim.load(Relaxed) == 0
        && stored
            .claim
            .compare_exchange(0, claim.0, AcqRel, Relaxed)
            .is_ok()
}

/// Rounds of a millisecond for which a thread waits while others recover the dead.
const PATIENCE: u32 = 5000;

/// Claims a slot for a thread to work with; recovers dead ones first if all are taken.
pub(crate) fn claim_slot(mapping: &Mapping) -> Result<usize> {
    let claim = Claim::mine();
    let working = reserved_slots(mapping)..mapping.geometry().slots;
    for round in 0..PATIENCE {
        if let Some(slot) = working
            .clone()
            .find(|&slot| try_claim(mapping, slot, claim))
        {
            begin(mapping, slot);
            return Ok(slot);
        }
        let dead = working.clone().any(|slot| super::is_dead(mapping, slot));
        if !dead && round > 0 {
            break;
        }
        super::reap(mapping)?;
        if round > 0 {
            // Somebody else is recovering them, and is not done yet.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Err(Error::NoSlots {
        slots: working.len() as u32,
    })
}

/// Claims one of the slots reserved for recovery.
pub(crate) fn claim_reserved(mapping: &Mapping) -> Option<usize> {
    let claim = Claim::mine();
    let slot = (0..reserved_slots(mapping)).find(|&slot| try_claim(mapping, slot, claim))?;
    begin(mapping, slot);
    Some(slot)
}

/// Readies a slot that was just claimed.
fn begin(mapping: &Mapping, slot: usize) {
    let high = &mapping.header().slots_high;
    high.fetch_max(slot as u32 + 1, AcqRel);
    let generation = &mapping.slot(slot).generation;
    let _ = generation.compare_exchange(0, 1, AcqRel, Relaxed);
}

/// The tag of a slot as it is now.
pub(crate) fn tag_of(mapping: &Mapping, slot: usize) -> Tag {
    Tag::new(slot, mapping.slot(slot).generation.load(Acquire))
}

/// Lets go of a slot whose life word is 0 and unlinked.
pub(crate) fn release_slot(mapping: &Mapping, slot: usize) {
    mapping.slot(slot).claim.store(0, Release);
}

/// Moves the generation on: from here every lock that names the old one is free.
pub(crate) fn next_generation(generation: &AtomicU64) {
    let now = generation.load(Relaxed);
    // A damaged arena may say anything.
    generation.store(now.wrapping_add(1) & 0xffff_ffff_ffff, Release);
}
