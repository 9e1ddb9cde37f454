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
    mutant::{self, Mutant},
    os::process::{self, Fate},
};
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Who claimed something: process id (22 bits), start time (26 bits), namespaces (16 bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim(pub(crate) u64);

impl Claim {
    /// The claim of this process. Never 0, since no process has id 0.
    pub(crate) fn mine() -> Self {
        static KNOWN: AtomicU64 = AtomicU64::new(0);
        static KNOWN_OF: AtomicU64 = AtomicU64::new(0);
        // A forked child is another process, even if it has the same id (in another namespace, or
        // when ids came round again).
        let generation = process::generation();
        if KNOWN_OF.load(Acquire) == generation {
            return Claim(KNOWN.load(Relaxed));
        }
        let start = process::own_start_time();
        let claim = Claim::new(std::process::id(), start, namespaces());
        KNOWN.store(claim.0, Relaxed);
        KNOWN_OF.store(generation, Release);
        claim
    }

    /// The claim of a process that started at that time, in those namespaces: their lower bits.
    pub(crate) fn new(pid: u32, start: u64, namespaces: u64) -> Self {
        Claim(u64::from(pid & 0x3f_ffff) << 42 | (start & 0x3ff_ffff) << 16 | (namespaces & 0xffff))
    }

    /// Whether the process that made this claim is certainly gone. One in another namespace cannot
    /// be judged, and counts as there; so does one that this process cannot see.
    pub(crate) fn is_gone(self) -> bool {
        let namespaces = namespaces();
        if namespaces == 0 || self.0 & 0xffff != namespaces & 0xffff {
            return false;
        }
        let pid = (self.0 >> 42) as u32;
        match process::fate(pid) {
            Fate::There(start) => Claim::new(pid, start, namespaces) != self,
            Fate::Gone => true,
            Fate::Unknown => false,
        }
    }
}

/// A number for the namespaces in which process ids and start times mean something; 0 when unknown.
fn namespaces() -> u64 {
    match process::pid_namespace() {
        0 => 0,
        pid => pid.wrapping_add(process::time_namespace().wrapping_mul(0x9e37)),
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

/// Rounds of a millisecond for which a thread waits while others recover the dead,
const PATIENCE: u32 = 5000;
/// and while they claim or leave slots, which takes them a few instructions.
const LITTLE_PATIENCE: u32 = 50;

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
        if round > 0 && !dead {
            let lived_in = |slot: usize| mapping.life(slot).load(Acquire) != 0;
            if round > LITTLE_PATIENCE || working.clone().all(lived_in) {
                break;
            }
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
    for cell in &mapping.slot(slot).permits {
        // Only a damaged arena has permits in a free slot: they would keep the thread in it.
        cell.count.store(0, Relaxed);
        cell.semaphore.store(0, Relaxed);
    }
    if mutant::is(Mutant::StampsStartAgain) {
        mapping.slot(slot).serial.store(0, Release);
    }
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

/// Lets go of a slot of a claimant that is gone, unless that was done already: to a claim without a
/// life both a recovery that is about to end and `reap` may come, and behind the first of them
/// somebody else may claim the slot.
pub(crate) fn release_slot_of(mapping: &Mapping, slot: usize, claimant: Claim) {
    let claim = &mapping.slot(slot).claim;
    let _ = claim.compare_exchange(claimant.0, 0, AcqRel, Relaxed);
}

/// Moves the generation on: from here every lock that names the old one is free.
pub(crate) fn next_generation(generation: &AtomicU64) {
    let now = generation.load(Relaxed);
    // A damaged arena may say anything.
    generation.store(now.wrapping_add(1) & 0xffff_ffff_ffff, Release);
}
