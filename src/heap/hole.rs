//! Holes: free slabs whose pages the system has back.
//!
//! # Punching
//!
//! 1. Each slab of a run is claimed by its own compare-and-swap, `Free -> Punching(slot)`.
//! 2. One system call gives the pages of the whole run back.
//! 3. Each slab becomes a `Hole`.
//!
//! # Filling
//!
//! 1. Who claims a hole makes it `Filling(slot)`, by compare-and-swap.
//! 2. The pages are allocated: a full disk is an error here, not SIGBUS at the first touch.
//! 3. The slab is `Reserved(slot)`, like one that was free. After an error it is a `Hole` again.
//!
//! Killed anywhere in between, a slab is the dead slot's `Punching` or `Filling`. Whether the system
//! call took place nobody knows, so recovery makes it a `Hole`, which is right in both cases (H8).

use super::slab::lower;
use crate::{
    error::{Error, Result},
    layout::{SlabKind, SlabState},
    mapping::Mapping,
    os::life,
};
use std::{ops::Range, sync::atomic::Ordering::*};

/// Bytes that are given back by one system call at most: nobody can claim them meanwhile.
const LONGEST_PUNCH: usize = 16 << 20;

/// Whether slabs of that kind are free to whoever claims them.
#[inline]
pub(super) fn is_free(state: SlabState) -> bool {
    state.is(SlabKind::Free) || state.is(SlabKind::Hole)
}

/// Whether some slot is giving the slab's pages back, or having them allocated.
fn is_in_transit(state: SlabState) -> bool {
    state.is(SlabKind::Punching) || state.is(SlabKind::Filling)
}

impl Mapping {
    /// Gives the pages of all free slabs back to the system, on behalf of `slot`. Says how many
    /// bytes that were.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub(crate) fn punch_free(&self, slot: usize) -> Result<u64> {
        if self.shares_pages() {
            return Ok(0);
        }
        let mut given = 0;
        let mut next = 0;
        let end = self.committed();
        while let Some(run) = self.free_run(next..end) {
            let taken = self.start_punching(run.clone(), slot);
            given += self.punch_run(taken.clone(), slot)?;
            next = taken.end.max(run.start + 1);
        }
        Ok(given)
    }

    /// The first free slabs of a range, adjacent ones, and no more than one call punches.
    fn free_run(&self, range: Range<usize>) -> Option<Range<usize>> {
        let free = |&slab: &usize| self.state(slab).is(SlabKind::Free);
        let longest = self.longest_punch();
        let first = range.clone().find(free)?;
        let count = (first..range.end).take(longest).take_while(free).count();
        Some(first..first + count)
    }

    /// Claims slabs for punching, up to the first that is not free any more.
    fn start_punching(&self, run: Range<usize>, slot: usize) -> Range<usize> {
        let taken = |&slab: &usize| {
            let state = self.state(slab);
            let punching = state.next(SlabKind::Punching, 0, slot);
            state.is(SlabKind::Free) && self.change(slab, state, punching)
        };
        let count = run.clone().take_while(taken).count();
        run.start..run.start + count
    }

    /// Punches slabs that `slot` has claimed for it. Gives the bytes.
    fn punch_run(&self, run: Range<usize>, slot: usize) -> Result<u64> {
        if run.is_empty() {
            return Ok(0);
        }
        let bytes = (run.len() << self.geometry().slab_shift) as u64;
        let (kind, punched) = self.punch(run.clone());
        for slab in run {
            self.end_transit(slab, slot, kind);
        }
        match punched {
            Ok(()) => Ok(bytes),
            Err(source) => Err(Error::os("give memory back to the system", source)),
        }
    }

    /// Gives the pages of slabs back that nobody else can have. What the slabs are then: holes, but where
    /// there is no way to punch.
    fn punch(&self, run: Range<usize>) -> (SlabKind, std::io::Result<()>) {
        let punched = self.punch_pages(self.slab_at(run.start), self.slab_at(run.end));
        let unsupported = punched
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::Unsupported);
        // After any other error nobody knows how much was punched.
        let kind = if unsupported {
            SlabKind::Free
        } else {
            SlabKind::Hole
        };
        (kind, punched)
    }

    /// Whether others than `slot` have slabs in a part of the overflow.
    pub(crate) fn is_any_of_others(&self, part: Range<usize>, slot: usize) -> bool {
        (part.start..part.end.min(self.watermark()))
            .map(|slab| self.state(slab))
            .any(|state| !is_free(state) && state.slot() != slot)
    }

    /// Whether pages are shared by slabs: then none can go back alone.
    fn shares_pages(&self) -> bool {
        self.geometry().slab() < self.geometry().page
    }

    fn longest_punch(&self) -> usize {
        LONGEST_PUNCH >> self.geometry().slab_shift
    }

    /// Frees slabs of the overflow that `slot` claimed: first their pages go back, while nobody else can have
    /// them. A repetition does that once more.
    pub(super) fn release_overflow(&self, range: Range<usize>, slot: usize) {
        let mut next = range.start;
        while next < range.end {
            let claimed = |&slab: &usize| self.state(slab).is_by(SlabKind::Reserved, slot);
            let run = (next..range.end).take(self.longest_punch());
            let run = next..next + run.take_while(claimed).count();
            next = run.end.max(next + 1);
            if run.is_empty() {
                continue;
            }
            let kind = if self.shares_pages() {
                SlabKind::Free
            } else {
                self.punch(run.clone()).0
            };
            for slab in run {
                let state = self.state(slab).next(kind, 0, 0);
                self.state_word(slab).store(state.0, Release);
            }
        }
    }

    /// Allocates the pages of those slabs of a range that `slot` claimed as holes: they are
    /// `Reserved` then, as the others.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]: then those that were not filled are still `Filling`.
    pub(super) fn fill_holes(&self, range: Range<usize>, slot: usize) -> Result {
        let filling = |&slab: &usize| self.state(slab).is_by(SlabKind::Filling, slot);
        let mut next = range.start;
        while let Some(first) = (next..range.end).find(filling) {
            next = first + (first..range.end).take_while(filling).count();
            self.fill_run(first..next, slot)?;
        }
        Ok(())
    }

    fn fill_run(&self, run: Range<usize>, slot: usize) -> Result {
        let (from, to) = (self.slab_at(run.start), self.slab_at(run.end));
        self.allocate_pages(from, to)
            .map_err(|source| Error::NoSpace {
                requested: to - from,
                source,
            })?;
        for slab in run {
            self.end_transit(slab, slot, SlabKind::Reserved);
        }
        Ok(())
    }

    /// Makes a slab that `slot` was filling or punching something else.
    fn end_transit(&self, slab: usize, slot: usize, kind: SlabKind) {
        let state = self.state(slab);
        let owner = if kind == SlabKind::Reserved { slot } else { 0 };
        if is_in_transit(state) && state.slot() == slot {
            self.change(slab, state, state.next(kind, 0, owner));
        }
    }

    /// Makes a slab a hole that `slot` was filling or punching: it is dead, or found no room.
    pub(crate) fn abandon_transit(&self, slab: usize, slot: usize) {
        self.end_transit(slab, slot, SlabKind::Hole);
    }

    /// Whether somebody is punching or filling a slab of a range, which `slot` may have soon. Those of
    /// dead threads are made holes; those of nobody are damage.
    pub(super) fn is_any_in_transit(&self, range: Range<usize>, slot: usize) -> bool {
        let mut any = false;
        for slab in range {
            let state = self.state(slab);
            if !is_in_transit(state) || state.slot() >= self.geometry().slots {
                continue;
            }
            let life = self.life(state.slot()).load(Acquire);
            if life & life::OWNER_DIED != 0 {
                self.change(slab, state, state.next(SlabKind::Hole, 0, 0));
            }
            any |= life != 0 && state.slot() != slot;
        }
        any
    }

    /// Notes that slabs were claimed that had been free below the watermark.
    pub(super) fn note_claimed(&self, range: Range<usize>) {
        lower(&self.header().freed, self.before_overflow(range));
    }

    /// Notes that slabs below the watermark are free.
    pub(super) fn note_freed(&self, range: Range<usize>) {
        let freed = self.before_overflow(range);
        self.header().freed.fetch_add(freed, Relaxed);
    }

    /// How many slabs of a range anybody may have.
    fn before_overflow(&self, range: Range<usize>) -> u64 {
        let slabs = self.geometry().slabs;
        (range.end.min(slabs) - range.start.min(slabs)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arena;

    const MINE: usize = 1;
    const ANOTHER: usize = 2;

    /// An arena in which every slab was claimed once, and is free.
    fn all_free() -> Arena {
        let arena = Arena::options().max_size(1 << 18).in_memory().unwrap();
        let mapping = arena.mapping();
        let slabs = mapping.geometry().slabs;
        assert_eq!(mapping.claim_run(slabs, MINE).unwrap(), 0);
        mapping.release_reserved(0..slabs, MINE);
        arena
    }

    #[test]
    fn slabs_are_punched_and_claimed_again() {
        let arena = all_free();
        let mapping = arena.mapping();
        let (slabs, slab) = (mapping.geometry().slabs, mapping.geometry().slab());
        assert_eq!(mapping.claim_run(3, MINE).unwrap(), 0);
        mapping.release_reserved(0..1, MINE);
        let given_back = mapping.punch_free(ANOTHER).unwrap() as usize;
        assert_eq!(given_back, (slabs - 2) * slab);
        assert_eq!(mapping.punch_free(ANOTHER).unwrap(), 0);
        // Those with pages come first.
        mapping.release_reserved(2..3, MINE);
        assert_eq!(mapping.claim_run(1, MINE).unwrap(), 2);
        assert_eq!(mapping.claim_run(slabs - 3, MINE).unwrap(), 3);
        assert_eq!(mapping.claim_run(1, MINE).unwrap(), 0);
        assert!(matches!(
            mapping.claim_run(1, MINE),
            Err(Error::Full { .. })
        ));
    }

    /// A slab that was being punched or filled is for the next one, if its thread is dead.
    #[test]
    fn what_the_dead_were_at_is_a_hole() {
        for kind in [SlabKind::Punching, SlabKind::Filling] {
            let arena = all_free();
            let mapping = arena.mapping();
            for slab in 0..mapping.geometry().slabs {
                let state = mapping.state(slab);
                assert!(mapping.change(slab, state, state.next(kind, 0, ANOTHER)));
            }
            assert!(matches!(
                mapping.claim_run(1, MINE),
                Err(Error::Full { .. })
            ));
            mapping.life(ANOTHER).store(life::OWNER_DIED, Release);
            assert_eq!(mapping.claim_run(2, MINE).unwrap(), 0);
            assert!(mapping.state(1).is_by(SlabKind::Reserved, MINE));
            assert!(mapping.state(2).is(SlabKind::Hole));
            mapping.life(ANOTHER).store(0, Release);
        }
    }

    /// What is claimed for a span beside a hole that cannot be filled is free again.
    #[test]
    fn slabs_go_back_one_by_one() {
        let arena = all_free();
        let mapping = arena.mapping();
        let claim = |slab, kind| {
            let state = mapping.state(slab);
            assert!(mapping.change(slab, state, state.next(kind, 0, MINE)));
        };
        claim(0, SlabKind::Reserved);
        claim(1, SlabKind::Filling);
        for slab in 0..3 {
            mapping.abandon_transit(slab, MINE);
            mapping.abandon_transit(slab, ANOTHER);
        }
        assert!(mapping.state(0).is_by(SlabKind::Reserved, MINE));
        assert!(mapping.state(1).is(SlabKind::Hole));
        assert!(mapping.state(2).is(SlabKind::Free));
    }
}
