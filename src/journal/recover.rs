//! Recovery: acting as a dead slot until nothing of it is left.
//!
//! Under a lease, so that one recovers at a time, and the next takes over if it dies too. Every
//! step may be repeated. The order:
//!
//! 1. lease: compare-and-swap from 0 or from a dead holder; *then look at the life word again*,
//!    since somebody else may have finished meanwhile;
//! 2. the immediate journal, then the section's: undone, or its frees finished; empty; doubt 0;
//! 3. generation + 1, cells of read locks emptied, and wake all: from here the dead one's locks are
//!    free;
//! 4. permits, slabs;
//! 5. claim 0, life word 0, lease 0, in this order.
//!
//! Recovery never allocates from the arena and never waits for a user's lock.

use super::{
    gate, immediate,
    reads::clear_reads,
    replay,
    slots::{
        Claim, Lived, claim_reserved, free_lifeless, leave, next_generation, reserved_slots, tag_of,
    },
};
use crate::{
    error::{Error, Result},
    layout::{LogPosition, SlabKind, Tag, Wait},
    mapping::{Backing, Mapping},
    mutant::{self, Mutant},
    os::{self, futex, life},
};
use std::{os::fd::AsFd, sync::atomic::Ordering::*};

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

/// Whether nobody has the slot: it has no life; or no claim, which comes before a life and goes behind it. (A
/// reserved slot may be taken over from a dead one, claim last.)
pub(crate) fn is_nobodys(mapping: &Mapping, slot: usize) -> bool {
    mapping.life(slot).load(Acquire) == 0
        || slot >= reserved_slots(mapping) && mapping.slot(slot).claim.load(Acquire) == 0
}

/// Whether the holder that a lease or a lock names can do nothing any more.
pub(crate) fn is_gone(mapping: &Mapping, holder: Tag) -> bool {
    let slot = holder.slot();
    slot >= mapping.geometry().slots || tag_of(mapping, slot) != holder || is_dead(mapping, slot)
}

/// Recovers a dead slot in the name of `by`. `false` if somebody else is at it, or it is not dead.
pub(crate) fn recover(mapping: &Mapping, dead: usize, by: Tag, depth: Depth) -> bool {
    if !is_dead(mapping, dead) {
        return false;
    }
    mutant::here("before a lease");
    if !take_lease(mapping, dead, by) {
        return false;
    }
    if !is_dead(mapping, dead) && !mutant::is(Mutant::NoSecondLook) {
        give_lease_back(mapping, dead, by);
        return false;
    }
    os::memory::membarrier();
    if mutant::is(Mutant::GenerationFirst) {
        next_generation(&mapping.slot(dead).generation);
    }
    mutant::here("before a journal is resolved");
    resolve_journal(mapping, dead);
    if !mutant::is(Mutant::NoGeneration) && !mutant::is(Mutant::GenerationFirst) {
        next_generation(&mapping.slot(dead).generation);
    }
    clear_reads(mapping, dead);
    futex::wake(mapping.life(dead), u32::MAX >> 1);
    if depth == Depth::All {
        if !mutant::is(Mutant::PermitsKept) {
            crate::sync::return_permits(mapping, dead, by);
        }
        if !mutant::is(Mutant::SlabsLast) {
            release_slabs(mapping, dead);
        }
        let wait = &mapping.slot(dead).wait;
        wait.store(Wait(wait.load(Relaxed)).ended().0, Relaxed);
        // Nobody claims it before it has no life either: a claim without a life is found in the
        // gate only where a claimant died.
        mapping.slot(dead).claim.store(0, Release);
        if !mutant::is(Mutant::ClaimBeforeLife) {
            mapping.life(dead).store(0, Release);
        }
        mutant::here("a slot was left");
        if mutant::is(Mutant::ClaimBeforeLife) {
            mapping.life(dead).store(0, Release);
        }
        if mutant::is(Mutant::SlabsLast) {
            release_slabs(mapping, dead);
        }
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
    slot.burying.store(0, Release);
}

/// Gives back every slab that the slot owns or was claiming.
fn release_slabs(mapping: &Mapping, dead: usize) {
    let reserved = |slab: &usize| mapping.state(*slab).is_by(SlabKind::Reserved, dead);
    // Those above the watermark may be on their way back to the system.
    let mut next = 0..mapping.committed();
    while let Some(slab) = next.next() {
        let state = mapping.state(slab);
        if state.slot() != dead {
            continue;
        }
        match state.kind() {
            Some(SlabKind::Owned) => mapping.give_up_slab(slab, dead),
            Some(SlabKind::Reserved) => {
                let behind = next.clone().take_while(reserved).count();
                mapping.release_reserved(slab..slab + 1 + behind, dead);
                next.start += behind;
            }
            Some(SlabKind::Filling | SlabKind::Punching) => mapping.abandon_transit(slab, dead),
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
        let Some(lived) = enter_reserved(mapping)? else {
            // Others are recovering: that is as good.
            return Ok(());
        };
        let by = tag_of(mapping, lived.slot);
        for dead in reserved..mapping.slots_high() {
            recover(mapping, dead, by, Depth::All);
        }
        leave_reserved(mapping, lived);
        Ok(())
    })
}

/// Recovers every dead slot, also those that the kernel lost track of. Says whether none is left
/// whose journal is not resolved: another recoverer may be at it.
///
/// # Errors
///
/// As [`recover_all`].
pub(crate) fn resolve_all(mapping: &Mapping) -> Result<bool> {
    let working = reserved_slots(mapping)..mapping.slots_high();
    working
        .clone()
        .for_each(|slot| second_opinion(mapping, slot));
    recover_all(mapping)?;
    Ok(!working.into_iter().any(|slot| is_dead(mapping, slot)))
}

/// Enters a slot reserved for recoverers, if there is one that nobody lives in.
fn enter_reserved(mapping: &Mapping) -> Result<Option<Lived>> {
    if let Some(lived) = claim_reserved(mapping)? {
        return Ok(Some(lived));
    }
    free_all_lifeless(mapping, 0..reserved_slots(mapping))?;
    if let Some(lived) = claim_reserved(mapping)? {
        return Ok(Some(lived));
    }
    (0..reserved_slots(mapping))
        .find_map(|slot| take_dead(mapping, slot).transpose())
        .transpose()
}

fn free_all_lifeless(mapping: &Mapping, mut slots: std::ops::Range<usize>) -> Result {
    slots.try_for_each(|slot| free_lifeless(mapping, slot).map(drop))
}

/// The reverse. The generation moves on, since leases named it.
fn leave_reserved(mapping: &Mapping, lived: Lived) {
    next_generation(&mapping.slot(lived.slot).generation);
    leave(mapping, lived);
}

/// Takes over the slot of a dead recoverer. It has no journal, no slab and no permit: nothing of it
/// is to be resolved.
///
/// Who links its own life word over the mark of the dead one has the slot, whatever the claim says;
/// a death right behind it marks the word again.
fn take_dead(mapping: &Mapping, slot: usize) -> Result<Option<Lived>> {
    let mark = mapping.life(slot).load(Acquire);
    if mark & life::OWNER_DIED == 0 {
        return Ok(None);
    }
    let taken = gate::pass(mapping, slot, || {
        let Some(life) = link_life_over(mapping, slot, mark)? else {
            return Ok(None);
        };
        mapping.slot(slot).claim.store(Claim::mine().0, Release);
        next_generation(&mapping.slot(slot).generation);
        Ok(Some(Lived { slot, life }))
    });
    taken?.unwrap_or(Ok(None))
}

/// Makes the kernel mark the slot's life word when the calling thread dies.
pub(super) fn link_life(mapping: &Mapping, slot: usize) -> Result<Option<life::LifeNode>> {
    match &mapping.backing {
        Backing::File { file, .. } => {
            let (at, page) = page_of(mapping, slot);
            // SAFETY: the slot was claimed by this thread alone, and its page lies in the file's
            // committed front part; the node is unlinked by this thread, or goes with it.
            let node = unsafe { life::LifeNode::link(file.as_fd(), at, page) };
            node.map(Some).map_err(unwatched)
        }
        Backing::Memory => {
            mapping.life(slot).store(os::process::thread_id(), Release);
            Ok(None)
        }
    }
}

/// The same over the mark of a dead thread, if it still stands: else `None`.
fn link_life_over(
    mapping: &Mapping,
    slot: usize,
    mark: u32,
) -> Result<Option<Option<life::LifeNode>>> {
    match &mapping.backing {
        Backing::File { file, .. } => {
            let (at, page) = page_of(mapping, slot);
            // SAFETY: the page lies in the file's committed front part. Who replaces the mark has
            // the slot alone; the node is unlinked by this thread, or goes with it.
            let node = unsafe { life::LifeNode::link_over(file.as_fd(), at, page, mark) };
            node.map(|node| node.map(Some)).map_err(unwatched)
        }
        Backing::Memory => {
            let mine = os::process::thread_id();
            let linked = mapping
                .life(slot)
                .compare_exchange(mark, mine, AcqRel, Relaxed);
            Ok(linked.is_ok().then_some(None))
        }
    }
}

/// Where a slot's page is in the file, and how long it is.
fn page_of(mapping: &Mapping, slot: usize) -> (u64, usize) {
    let page = mapping.geometry().page;
    (mapping.geometry().slots_at + (slot * page) as u64, page)
}

fn unwatched(source: std::io::Error) -> Error {
    Error::os("have the kernel watch over this thread", source)
}

/// The reverse: the life word says that nobody is there, and the kernel forgets it.
pub(super) fn unlink_life(mapping: &Mapping, slot: usize, node: Option<life::LifeNode>) {
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
    resolve_all(mapping)?;
    os::process::with_signals_blocked(|| {
        // Each once: one that cannot be left is dead again.
        for slot in 0..reserved_slots(mapping) {
            if let Some(lived) = take_dead(mapping, slot)? {
                leave_reserved(mapping, lived);
            }
        }
        free_all_lifeless(mapping, 0..mapping.slots_high())
    })?;
    Ok(before.saturating_sub(taken(mapping)))
}
