//! Claiming and releasing slots.
//!
//! In the slot's gate, so that one at a time does either:
//!
//! 1. The claim word goes from 0 to a word that names the claimant.
//! 2. The claimant links its life word, which from then on the kernel marks at its death.
//!
//! Killed between 1 and 2, the slot is lost until [`super::reap`] comes through its gate: who finds a
//! claim without a life there knows that the claimant died. Releasing is the reverse: life word 0,
//! unlinked, claim word 0.

use super::gate;
use crate::{
    error::{Error, Result},
    layout::Tag,
    mapping::Mapping,
    mutant::{self, Mutant},
    os::{
        incarnation::{self, Fate, Incarnation, Kind},
        life::LifeNode,
        process,
    },
};
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Who claimed something: process id (22 bits), whether what follows is of its descriptor (1 bit),
/// incarnation (25 bits), namespaces (16 bits).
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
        let own = Incarnation::own();
        if own.number == 0 {
            // Nobody judges it. Perhaps it is known the next time.
            return Claim::new(std::process::id(), own, 0);
        }
        let claim = Claim::new(std::process::id(), own, namespaces(own.kind));
        KNOWN.store(claim.0, Relaxed);
        KNOWN_OF.store(generation, Release);
        claim
    }

    /// The claim of a process of that incarnation, in those namespaces: the lower bits of the numbers.
    pub(crate) fn new(pid: u32, incarnation: Incarnation, namespaces: u64) -> Self {
        let descriptor = u64::from(incarnation.kind == Kind::Descriptor);
        let number = incarnation.number & 0x1ff_ffff;
        Claim(
            u64::from(pid & 0x3f_ffff) << 42
                | descriptor << 41
                | number << 16
                | (namespaces & 0xffff),
        )
    }

    fn kind(self) -> Kind {
        match self.0 >> 41 & 1 {
            0 => Kind::Start,
            _ => Kind::Descriptor,
        }
    }

    /// Whether the claim is of a process that this one cannot judge.
    fn is_foreign(self) -> bool {
        let theirs = self.0 & 0xffff;
        theirs == 0 || theirs != namespaces(self.kind())
    }

    /// Whether the process that made this claim is certainly gone. One in another namespace, or that could
    /// not tell its own incarnation, cannot be judged, and counts as there; so does one that this process
    /// cannot see.
    pub(crate) fn is_gone(self) -> bool {
        if self.is_foreign() {
            return false;
        }
        let (pid, kind) = ((self.0 >> 42) as u32, self.kind());
        match incarnation::fate(pid, kind) {
            Fate::There(number) => {
                Claim::new(pid, Incarnation { number, kind }, self.0 & 0xffff) != self
            }
            Fate::Gone => true,
            Fate::Unknown => false,
        }
    }
}

/// A number of 16 bits for the namespaces in which process ids and incarnations mean something; 0 when
/// unknown.
fn namespaces(kind: Kind) -> u64 {
    let number = match (incarnation::pid_namespace(), kind) {
        (0, _) => return 0,
        (pid, Kind::Descriptor) => pid,
        (pid, Kind::Start) => pid.wrapping_add(incarnation::time_namespace().wrapping_mul(0x9e37)),
    };
    (number & 0xffff).max(1)
}

/// Slots that only recoverers use: when all others are dead, one of them can still recover.
#[inline]
pub(crate) fn reserved_slots(mapping: &Mapping) -> usize {
    (mapping.geometry().slots / 32).max(1)
}

/// A slot that a thread lives in.
pub(crate) struct Lived {
    pub(crate) slot: usize,
    /// What the kernel knows of it; none in an arena that only this process has.
    pub(crate) life: Option<LifeNode>,
}

/// Claims a slot, and links a life word, if it is free.
fn try_enter(mapping: &Mapping, slot: usize) -> Result<Option<Lived>> {
    if !is_free(mapping, slot) {
        return Ok(None);
    }
    let entered = gate::pass(mapping, slot, || {
        let stored = &mapping.slot(slot).claim;
        if !is_free(mapping, slot) || !claim(mapping, slot) {
            return Ok(None);
        }
        begin(mapping, slot);
        mutant::here("a slot was claimed");
        match super::link_life(mapping, slot) {
            Ok(life) => Ok(Some(Lived { slot, life })),
            Err(error) => {
                stored.store(0, Release);
                Err(error)
            }
        }
    });
    entered?.unwrap_or(Ok(None))
}

/// Claims a slot that was free just now. Says whether it is this process's.
///
/// A forked child that is not told from its parent in the gate may have had it meanwhile, and may have
/// died: a recovery clears the claim, whose ever that is, and then the life word. So the life word
/// is looked at again, and then the claim.
fn claim(mapping: &Mapping, slot: usize) -> bool {
    let (stored, mine) = (&mapping.slot(slot).claim, Claim::mine().0);
    if stored.compare_exchange(0, mine, AcqRel, Acquire).is_err() {
        return false;
    }
    if mapping.life(slot).load(Acquire) != 0 && !mutant::is(Mutant::ClaimBeforeLife) {
        let _ = stored.compare_exchange(mine, 0, AcqRel, Relaxed);
        return false;
    }
    stored.load(Acquire) == mine
}

/// Whether nobody has the slot, and nothing is left of one who had it.
fn is_free(mapping: &Mapping, slot: usize) -> bool {
    let lifeless = mapping.life(slot).load(Acquire) == 0 || mutant::is(Mutant::ClaimBeforeLife);
    mapping.slot(slot).claim.load(Acquire) == 0 && lifeless
}

/// Enters the first of the slots that is free.
fn enter_any(mapping: &Mapping, mut slots: impl Iterator<Item = usize>) -> Result<Option<Lived>> {
    slots
        .find_map(|slot| try_enter(mapping, slot).transpose())
        .transpose()
}

/// Rounds of a millisecond for which a thread waits while others recover the dead,
const PATIENCE: u32 = 5000;
/// and while they claim or leave slots, which takes them a few instructions.
const LITTLE_PATIENCE: u32 = 50;

/// Enters a slot for a thread to work with; recovers dead ones first if all are taken.
pub(crate) fn claim_slot(mapping: &Mapping) -> Result<Lived> {
    let working = reserved_slots(mapping)..mapping.geometry().slots;
    for round in 0..PATIENCE {
        if let Some(entered) = enter_any(mapping, working.clone())? {
            return Ok(entered);
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

/// Enters one of the slots reserved for recovery.
pub(super) fn claim_reserved(mapping: &Mapping) -> Result<Option<Lived>> {
    enter_any(mapping, 0..reserved_slots(mapping))
}

/// Readies a slot that was just claimed.
fn begin(mapping: &Mapping, slot: usize) {
    let high = &mapping.header().slots_high;
    high.fetch_max(slot as u32 + 1, AcqRel);
    for cell in &mapping.slot(slot).permits {
        // Only a damaged arena has permits (or read locks) in a free slot: they would keep the thread
        // in it.
        cell.count.store(0, Relaxed);
        cell.semaphore.store(0, Relaxed);
    }
    super::reads::clear_reads(mapping, slot);
    // A death may have left it, or a recovery; a section needs it to be 0 at its commit.
    if !mutant::is(Mutant::ClaimKeepsDone) {
        mapping.slot(slot).done.store(0, Relaxed);
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

/// How often a thread that leaves tries to come through its slot's gate, without a pause,
const HASTY: u32 = 20;
/// and with one of a millisecond: in a gate somebody takes a few steps, or has died.
const ATTEMPTS: u32 = 1000;

/// Leaves a slot of which nothing is left: the life word says that nobody is there, the kernel
/// forgets it, and others may claim it.
///
/// Who cannot come through the gate leaves the life word as it is, and to the kernel, which marks it when
/// the thread ends. To mark it here would make the slot another's while this thread still has it
/// watched: at its death the kernel would take that one's number, of another namespace, for its own.
pub(crate) fn leave(mapping: &Mapping, lived: Lived) {
    let Lived { slot, mut life } = lived;
    for attempt in 0..ATTEMPTS {
        let left = gate::pass(mapping, slot, || {
            super::unlink_life(mapping, slot, life.take());
            mapping.slot(slot).claim.store(0, Release);
        });
        match left {
            Ok(Some(())) => return,
            Ok(None) if attempt < HASTY => std::thread::yield_now(),
            Ok(None) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    // A forgotten node stays right.
}

/// Frees a slot whose claimant died before it lived there. Says whether it did.
///
/// What can be told of the claimant's process is asked first, also for the sake of a child that is
/// not told from its parent in the gate.
pub(super) fn free_lifeless(mapping: &Mapping, slot: usize) -> Result<bool> {
    let claim = &mapping.slot(slot).claim;
    let claimant = Claim(claim.load(Acquire));
    let is_there = || claimant == Claim::mine() || !claimant.is_foreign() && !claimant.is_gone();
    let free = || {
        let lifeless = mapping.life(slot).load(Acquire) == 0;
        lifeless
            && claim
                .compare_exchange(claimant.0, 0, AcqRel, Relaxed)
                .is_ok()
    };
    if claimant.0 == 0 || mapping.life(slot).load(Acquire) != 0 {
        return Ok(false);
    }
    if mutant::is(Mutant::ReapLiving) {
        return Ok(free());
    }
    if is_there() {
        return Ok(false);
    }
    Ok(gate::pass(mapping, slot, free)? == Some(true))
}

/// Moves the generation on: from here every lock that names the old one is free.
pub(crate) fn next_generation(generation: &AtomicU64) {
    let now = generation.load(Relaxed);
    // A damaged arena may say anything.
    generation.store(now.wrapping_add(1) & 0xffff_ffff_ffff, Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, os::life::OWNER_DIED};

    #[test]
    fn claims_are_judged_by_what_they_were_made_of() {
        let (pid, own) = (std::process::id(), Incarnation::own());
        let start = match incarnation::fate(pid, Kind::Start) {
            Fate::There(number) => Incarnation {
                number,
                kind: Kind::Start,
            },
            fate => panic!("{fate:?}"),
        };
        for known in [own, start] {
            let claim = |number, namespaces| {
                let kind = known.kind;
                Claim::new(pid, Incarnation { number, kind }, namespaces)
            };
            let here = namespaces(known.kind);
            assert_ne!(here, 0);
            assert!(!claim(known.number, here).is_gone());
            assert!(claim(known.number + 1, here).is_gone());
            assert!(!claim(known.number + 1, here ^ 1).is_gone());
            // Nobody knows, it least of all.
            assert!(!claim(0, 0).is_gone());
        }
        assert!(!Claim::mine().is_gone() && !Claim::mine().is_foreign());
    }

    /// Somebody had the slot, and died, since it was found free.
    #[test]
    fn who_claims_a_slot_looks_back() {
        const SLOT: usize = 5;
        let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
        let mapping = arena.mapping();
        mapping.life(SLOT).store(OWNER_DIED, Release);
        assert!(!claim(mapping, SLOT));
        assert_eq!(mapping.slot(SLOT).claim.load(Acquire), 0);
        mapping.life(SLOT).store(0, Release);
        assert!(claim(mapping, SLOT));
        assert!(!claim(mapping, SLOT));
        mapping.slot(SLOT).claim.store(0, Release);
    }
}
