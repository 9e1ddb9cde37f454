//! Recovery: acting as a dead slot until nothing of it is left (PROTOCOL R).
//!
//! Under a lease, so that one recovers at a time, and the next takes over if it dies too. Every
//! step may be repeated. The order:
//!
//! 1. lease: compare-and-swap from 0 or from a dead holder; *then look at the life word again*,
//!    since somebody else may have finished meanwhile;
//! 2. the immediate journal, then the section's: undone, or its frees finished; empty; doubt 0;
//! 3. generation + 1 and wake all: from here the dead one's locks are free;
//! 4. permits, slabs;
//! 5. life word 0, claim 0, lease 0, in this order.
//!
//! Recovery never allocates from the arena and never waits for a user's lock.

use super::{
    immediate, replay,
    slots::{Claim, claim_reserved, next_generation, release_slot, reserved_slots, tag_of},
};
use crate::{
    error::Result,
    layout::{LogPosition, SlabKind, Tag},
    mapping::{Backing, Mapping},
    os::{self, futex, life},
};
use std::sync::atomic::Ordering::*;

/// How far a recovery goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// Until the locks are free: for who waits for one of them.
    Locks,
    /// To the end.
    All,
}

/// Whether the kernel marked the slot's thread as dead.
#[inline]
pub(crate) fn is_dead(mapping: &Mapping, slot: usize) -> bool {
    mapping.life(slot).load(Acquire) & life::OWNER_DIED != 0
}

/// Whether the holder that a lease or a lock names can do nothing any more.
fn is_gone(mapping: &Mapping, holder: Tag) -> bool {
    let slot = holder.slot();
    slot >= mapping.geometry().slots || tag_of(mapping, slot) != holder || is_dead(mapping, slot)
}

/// Recovers a dead slot in the name of `by`. `false` if somebody else is at it, or it is not dead.
pub(crate) fn recover(mapping: &Mapping, dead: usize, by: Tag, depth: Depth) -> bool {
    if !is_dead(mapping, dead) || !take_lease(mapping, dead, by) {
        return false;
    }
    if !is_dead(mapping, dead) {
        give_lease_back(mapping, dead, by);
        return false;
    }
    os::memory::membarrier();
    resolve_journal(mapping, dead);
    #[cfg(not(sharena_mutant = "no_generation"))]
    next_generation(&mapping.slot(dead).generation);
    futex::wake(mapping.life(dead), u32::MAX >> 1);
    if depth == Depth::All {
        crate::sync::return_permits(mapping, dead, by);
        release_slabs(mapping, dead);
        mapping.slot(dead).waits.store(0, Relaxed);
        mapping.life(dead).store(0, Release);
        release_slot(mapping, dead);
    }
    give_lease_back(mapping, dead, by);
    true
}

fn take_lease(mapping: &Mapping, dead: usize, by: Tag) -> bool {
    let lease = &mapping.slot(dead).lease;
    let holder = lease.load(Acquire);
    let free = holder == 0 || holder == by.0 || is_gone(mapping, Tag(holder));
    free && lease
        .compare_exchange(holder, by.0, AcqRel, Relaxed)
        .is_ok()
}

fn give_lease_back(mapping: &Mapping, dead: usize, by: Tag) {
    let _ = mapping
        .slot(dead)
        .lease
        .compare_exchange(by.0, 0, AcqRel, Relaxed);
}

/// Undoes or finishes what the slot's journals tell.
pub(crate) fn resolve_journal(mapping: &Mapping, dead: usize) {
    let slot = mapping.slot(dead);
    immediate::replay(mapping, dead);
    let position = LogPosition(slot.log.load(Acquire));
    if position.0 != 0 {
        if position.committed() {
            replay::finish(mapping, dead);
        } else {
            replay::roll_back(mapping, dead);
        }
        slot.log.store(0, Release);
    }
    mapping.doubt(dead).block.store(0, Release);
}

/// Gives back every slab that the slot owns or was claiming.
fn release_slabs(mapping: &Mapping, dead: usize) {
    for slab in 0..mapping.watermark() {
        let state = mapping.state(slab);
        if state.slot() != dead {
            continue;
        }
        match state.kind() {
            Some(SlabKind::Owned) => mapping.give_up_slab(slab, dead),
            Some(SlabKind::Reserved) => mapping.release_reserved(slab..slab + 1, dead),
            Some(kind @ (SlabKind::Filling | SlabKind::Punching)) => {
                let hole = state.next(SlabKind::Hole, 0, 0);
                debug_assert!(state.is(kind));
                mapping.change(slab, state, hole);
            }
            _ => {}
        }
    }
}

/// Recovers every dead slot, in the name of a slot reserved for that.
///
/// # Errors
///
/// When the kernel refuses to mark the recoverer's own death.
pub(crate) fn recover_all(mapping: &Mapping) -> Result {
    let reserved = reserved_slots(mapping);
    let any_dead = (reserved..mapping.slots_high()).any(|slot| is_dead(mapping, slot));
    if !any_dead {
        return Ok(());
    }
    os::process::with_signals_blocked(|| {
        let Some(slot) = claim_reserved(mapping).or_else(|| take_dead_reserved(mapping)) else {
            // Others are recovering: that is as good.
            return Ok(());
        };
        let life = match link_life(mapping, slot) {
            Ok(life) => life,
            Err(error) => {
                release_slot(mapping, slot);
                return Err(error);
            }
        };
        let by = tag_of(mapping, slot);
        for dead in reserved..mapping.slots_high() {
            recover(mapping, dead, by, Depth::All);
        }
        next_generation(&mapping.slot(slot).generation);
        unlink_life(mapping, slot, life);
        release_slot(mapping, slot);
        Ok(())
    })
}

/// A reserved slot has no journal, no slab and no permit: a dead one is taken over directly.
fn take_dead_reserved(mapping: &Mapping) -> Option<usize> {
    (0..reserved_slots(mapping)).find(|&slot| {
        let claim = &mapping.slot(slot).claim;
        let holder = claim.load(Acquire);
        // The word of a dead holder stays marked until its successor has linked its own, so the
        // claim must tell too; one from another PID namespace cannot.
        let dead = is_dead(mapping, slot) || mapping.life(slot).load(Acquire) == 0;
        let foreign = is_dead(mapping, slot) && Claim(holder).is_foreign();
        let gone = (dead && Claim(holder).is_gone()) || foreign;
        let mine = Claim::mine().0;
        let won = holder != 0
            && gone
            && holder != mine
            && claim
                .compare_exchange(holder, mine, AcqRel, Relaxed)
                .is_ok();
        if won {
            next_generation(&mapping.slot(slot).generation);
        }
        won
    })
}

/// Makes the kernel mark the slot's life word when the calling thread dies.
pub(crate) fn link_life(mapping: &Mapping, slot: usize) -> Result<Option<life::LifeNode>> {
    match &mapping.backing {
        Backing::File { file, .. } => {
            let page = mapping.geometry().page;
            let at = mapping.geometry().slots_at + (slot * page) as u64;
            // SAFETY: the slot was claimed by this thread alone, and its page lies in the file's
            // committed front part; the node is unlinked by this thread, or goes with it.
            let node = unsafe { life::LifeNode::link(std::os::fd::AsFd::as_fd(file), at, page) };
            node.map(Some).map_err(|source| {
                crate::Error::os("have the kernel watch over this thread", source)
            })
        }
        Backing::Memory => {
            mapping.life(slot).store(os::process::thread_id(), Release);
            Ok(None)
        }
    }
}

/// The reverse: the life word says that nobody is there, and the kernel forgets it.
pub(crate) fn unlink_life(mapping: &Mapping, slot: usize, node: Option<life::LifeNode>) {
    mapping.life(slot).store(0, Release);
    if let Some(node) = node {
        // SAFETY: linked by this thread in this process.
        unsafe { node.unlink() };
    }
}

/// Marks a slot as dead whose process is gone, although the kernel did not: it loses track of a
/// thread when foreign code unmaps a robust mutex that the thread holds.
pub(crate) fn second_opinion(mapping: &Mapping, slot: usize) {
    let life = mapping.life(slot);
    let word = life.load(Acquire);
    let claim = mapping.slot(slot).claim.load(Acquire);
    let unmarked = word != 0 && word & life::OWNER_DIED == 0;
    if unmarked && claim != 0 && Claim(claim).is_gone() {
        let _ = life.compare_exchange(word, life::OWNER_DIED, AcqRel, Relaxed);
    }
}

/// Recovers every dead slot and frees those whose claimants died before they were marked.
/// Says how many slots came back.
pub(crate) fn reap(mapping: &Mapping) -> Result<usize> {
    let taken = |mapping: &Mapping| {
        (0..mapping.slots_high())
            .filter(|&slot| mapping.slot(slot).claim.load(Acquire) != 0)
            .count()
    };
    let before = taken(mapping);
    for slot in reserved_slots(mapping)..mapping.slots_high() {
        second_opinion(mapping, slot);
    }
    recover_all(mapping)?;
    while let Some(slot) = take_dead_reserved(mapping) {
        mapping.life(slot).store(0, Release);
        release_slot(mapping, slot);
    }
    for slot in 0..mapping.slots_high() {
        let claim = &mapping.slot(slot).claim;
        let claimant = claim.load(Acquire);
        if claimant != 0 && mapping.life(slot).load(Acquire) == 0 && Claim(claimant).is_gone() {
            let _ = claim.compare_exchange(claimant, 0, AcqRel, Relaxed);
        }
    }
    Ok(before.saturating_sub(taken(mapping)))
}
