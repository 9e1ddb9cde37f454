//! Spans: runs of whole slabs for requests that no size class holds.
//!
//! # Claiming and publishing
//!
//! 1. Each slab of the run is claimed by its own compare-and-swap, `Free -> Reserved(slot)`; those that
//!    are holes by way of `Filling(slot)`, see `hole.rs`.
//! 2. The journal names the span. 3. Its further slabs become `Tail`, its length is stored.
//! 4. One store makes the head a `Span`: from here it is published.
//!
//! Killed before 2: the slabs are the dead slot's `Reserved` ones, and recovery frees them. Killed
//! later: the journal's entry frees the span, however far it came.
//!
//! # Freeing
//!
//! Any thread may free a published span: the head goes `Span -> Freeing(slot)` by exact
//! compare-and-swap (the generation in the word makes a repetition harmless), then the tails become
//! `Free`, the head last. Killed in between, the journal repeats it; a head that is neither the
//! named `Span` nor its own `Freeing` was freed before.

use super::hole::is_free;
use crate::{
    error::Result,
    layout::{LONGEST_SPAN, SlabKind, SlabState},
    mapping::Mapping,
    mutant::{self, Mutant},
};
use std::{ops::Range, sync::atomic::Ordering::*, time::Duration};

/// Rounds of a millisecond for which a thread waits for slabs that others give back to the system.
const PATIENCE: usize = 1000;

impl Mapping {
    /// Whole slabs that hold `size` bytes.
    pub(crate) fn slabs_for(&self, size: usize) -> usize {
        size.div_ceil(self.geometry().slab()).max(1)
    }

    /// Claims `count` adjacent slabs for `slot`; gives the first.
    pub(crate) fn claim_run(&self, count: usize, slot: usize) -> Result<usize> {
        if count > LONGEST_SPAN {
            return Err(self.full(count.saturating_mul(self.geometry().slab())));
        }
        let slabs = self.geometry().slabs;
        if self.header().freed.load(Relaxed) >= count as u64
            && let Ok(Some(first)) = self.claim_free_run(0..slabs, count, slot)
        {
            return Ok(first);
        }
        match self.claim_fresh_run(slabs, count, slot) {
            Ok(first) => Ok(first),
            // Hints may be wrong: look at every slab before giving up.
            Err(error) => self.claim_at_last(count, slot)?.ok_or(error),
        }
    }

    /// The same in the overflow: in a `part` of it; or before that, where it was never used.
    pub(crate) fn claim_overflow(
        &self,
        part: Range<usize>,
        count: usize,
        slot: usize,
    ) -> Result<usize> {
        match self.claim_free_run(part.clone(), count, slot) {
            Ok(Some(first)) => Ok(first),
            Ok(None) => self.claim_fresh_run(part.end, count, slot),
            Err(no_space) => Err(no_space),
        }
    }

    /// Claims slabs that were never used, of the first `limit`: bumps the watermark.
    fn claim_fresh_run(&self, limit: usize, count: usize, slot: usize) -> Result<usize> {
        let mut patience = PATIENCE;
        loop {
            let first = self.watermark();
            let end = first.saturating_add(count);
            if end > limit {
                return Err(self.full(count << self.geometry().slab_shift));
            }
            self.commit(end)?;
            if patience > 0 && self.is_any_in_transit(first..end, slot) {
                // Rather than growing past them.
                patience -= 1;
                std::thread::sleep(Duration::from_millis(1));
            } else if self.claim_above(first..end, slot)? {
                return Ok(first);
            }
        }
    }

    /// Claims the slabs from the watermark on, if that is where it stands.
    fn claim_above(&self, range: Range<usize>, slot: usize) -> Result<bool> {
        let (from, to) = (range.start as u64, range.end as u64);
        let watermark = &self.header().watermark;
        if watermark
            .compare_exchange(from, to, AcqRel, Relaxed)
            .is_err()
        {
            return Ok(false);
        }
        let claimed = self.claim_each(range.clone(), slot);
        if !matches!(claimed, Ok(true)) {
            // They lie below the watermark now, and count as free.
            self.note_freed(range);
        }
        claimed
    }

    /// Claims a run of free slabs below the watermark, in a `part` of the arena.
    fn claim_free_run(
        &self,
        part: Range<usize>,
        count: usize,
        slot: usize,
    ) -> Result<Option<usize>> {
        while let Some(first) = self.find_free_run(part.clone(), count) {
            if self.claim_below(first..first + count, slot)? {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    /// The first run of free slabs below the watermark; with holes in it only if there is no other.
    fn find_free_run(&self, part: Range<usize>, count: usize) -> Option<usize> {
        let (mut free, mut run) = (0, 0);
        let mut with_holes = None;
        for slab in part.start..part.end.min(self.watermark()) {
            let state = self.state(slab);
            free = if state.is(SlabKind::Free) {
                free + 1
            } else {
                0
            };
            run = if is_free(state) { run + 1 } else { 0 };
            if free >= count {
                return Some(slab + 1 - count);
            }
            if run >= count && with_holes.is_none() {
                with_holes = Some(slab + 1 - count);
            }
        }
        with_holes
    }

    /// The same when nothing is left above. Waits a while for slabs that others are giving back to
    /// the system, or having filled.
    #[cold]
    fn claim_at_last(&self, count: usize, slot: usize) -> Result<Option<usize>> {
        let slabs = self.geometry().slabs;
        for _ in 0..PATIENCE {
            if let Some(first) = self.claim_free_run(0..slabs, count, slot)? {
                return Ok(Some(first));
            }
            if !self.is_any_in_transit(0..self.watermark().min(slabs), slot) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.claim_free_run(0..slabs, count, slot)
    }

    /// Claims free slabs below the watermark, all or none.
    fn claim_below(&self, range: Range<usize>, slot: usize) -> Result<bool> {
        let claimed = self.claim_each(range.clone(), slot)?;
        if claimed {
            self.note_claimed(range);
        }
        Ok(claimed)
    }

    /// Claims each slab of a range, or none. Holes get their pages.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`](crate::Error::NoSpace) if there are none for them.
    fn claim_each(&self, range: Range<usize>, slot: usize) -> Result<bool> {
        let mut any_hole = false;
        for slab in range.clone() {
            let state = self.state(slab);
            let hole = state.is(SlabKind::Hole);
            let kind = if hole {
                SlabKind::Filling
            } else {
                SlabKind::Reserved
            };
            if !is_free(state) || !self.change(slab, state, state.next(kind, 0, slot)) {
                self.unclaim(range.start..slab, slot);
                return Ok(false);
            }
            any_hole |= hole;
        }
        if any_hole && let Err(error) = self.fill_holes(range.clone(), slot) {
            self.unclaim(range, slot);
            return Err(error);
        }
        Ok(true)
    }

    /// Gives back what was claimed of a range.
    fn unclaim(&self, range: Range<usize>, slot: usize) {
        let overflow = range.start.max(self.geometry().slabs)..range.end;
        self.release_overflow(overflow, slot);
        for slab in range {
            let state = self.state(slab);
            if state.is_by(SlabKind::Reserved, slot) {
                let free = state.next(SlabKind::Free, 0, 0);
                self.state_word(slab).store(free.0, Release);
            } else {
                self.abandon_transit(slab, slot);
            }
        }
    }

    /// Frees slabs that `slot` claimed and did not publish.
    pub(crate) fn release_reserved(&self, range: Range<usize>, slot: usize) {
        let overflow = self.geometry().slabs;
        self.release_overflow(range.start.max(overflow)..range.end, slot);
        for slab in range.start..range.end.min(overflow) {
            let state = self.state(slab);
            if state.is_by(SlabKind::Reserved, slot) {
                let free = state.next(SlabKind::Free, 0, 0);
                self.state_word(slab).store(free.0, Release);
                self.note_freed(slab..slab + 1);
            }
        }
    }

    /// The state a claimed head will have once it is published.
    pub(crate) fn published_state(&self, head: usize) -> SlabState {
        self.state(head).next(SlabKind::Span, 0, 0)
    }

    /// Publishes a claimed run whose journal entry is written.
    pub(crate) fn publish_span(&self, head: usize, count: usize, bytes: usize) {
        let bits = self.bitmaps(head).bits;
        bits.span_slabs.store(count as u64, Relaxed);
        bits.span_bytes.store(bytes as u64, Relaxed);
        self.make_tails(head, 1..count);
        let state = self.published_state(head);
        self.state_word(head).store(state.0, Release);
    }

    fn make_tails(&self, head: usize, range: Range<usize>) {
        for distance in range {
            let claimed = self.state(head + distance);
            let tail = SlabState::tail(distance, claimed.generation().wrapping_add(1));
            self.state_word(head + distance).store(tail.0, Release);
        }
    }

    /// The slabs of a span, clamped to what exists.
    pub(crate) fn span_slabs(&self, head: usize) -> usize {
        let count = self.bitmaps(head).bits.span_slabs.load(Acquire) as usize;
        count.clamp(1, self.committed() - head)
    }

    /// Frees a published span on behalf of `slot`, or goes on with it. Harmless if it was freed
    /// before: `exact` is the state the head had when the free was decided.
    pub(crate) fn free_span(&self, head: usize, exact: SlabState, slot: usize) -> bool {
        let exact = match self.state(head) {
            other if mutant::is(Mutant::FreeAnySpan) && other.is(SlabKind::Span) => other,
            _ => exact,
        };
        let freeing = SlabState::new(SlabKind::Freeing, 0, slot, exact.generation());
        if !self.change(head, exact, freeing) && self.state(head) != freeing {
            return false;
        }
        self.take_span_apart(head, self.span_slabs(head), freeing);
        true
    }

    /// Undoes an allocation of which the journal tells, wherever it was killed. `claimed` is the
    /// generation that the head had while it was reserved: whatever came later is not ours.
    pub(crate) fn undo_span(&self, head: usize, count: usize, claimed: u32, slot: usize) {
        let count = count.clamp(1, self.committed() - head);
        let reserved = SlabState::new(SlabKind::Reserved, 0, slot, claimed);
        let published = reserved.next(SlabKind::Span, 0, 0);
        let freeing = reserved.next(SlabKind::Freeing, 0, slot);
        if self.change(head, reserved, freeing)
            || self.change(head, published, freeing)
            || self.state(head) == freeing
        {
            self.take_span_apart(head, count, freeing);
        }
    }

    /// Frees the slabs of a span whose head says `freeing`: the tails first, the head last.
    fn take_span_apart(&self, head: usize, count: usize, freeing: SlabState) {
        self.free_tails(head, 1..count, freeing.slot());
        let free = freeing.next(SlabKind::Free, 0, 0);
        self.state_word(head).store(free.0, Release);
        self.header().freed.fetch_add(count as u64, Relaxed);
    }

    /// Frees further slabs of a span that belong to it, or were claimed for it by `slot`.
    fn free_tails(&self, head: usize, range: Range<usize>, slot: usize) {
        for distance in range {
            let state = self.state(head + distance);
            let tail = state.is(SlabKind::Tail) && state.distance() == distance;
            if tail || state.is_by(SlabKind::Reserved, slot) {
                let free = state.next(SlabKind::Free, 0, 0);
                self.state_word(head + distance).store(free.0, Release);
            }
        }
    }

    /// Claims the `extra` slabs behind a span for `slot`, if they are free.
    pub(crate) fn claim_behind(&self, head: usize, extra: usize, slot: usize) -> bool {
        let from = head + self.span_slabs(head);
        let to = from + extra;
        if to - head > LONGEST_SPAN || to > self.geometry().slabs {
            return false;
        }
        let watermark = self.watermark();
        let claimed = if from == watermark {
            self.commit(to)
                .and_then(|()| self.claim_above(from..to, slot))
        } else if to <= watermark {
            self.claim_below(from..to, slot)
        } else {
            Ok(false)
        };
        matches!(claimed, Ok(true))
    }

    /// Makes claimed slabs part of the span before them; the journal names the growth.
    pub(crate) fn extend_span(&self, head: usize, before: usize, after: usize, bytes: usize) {
        self.make_tails(head, before..after);
        let bits = self.bitmaps(head).bits;
        bits.span_bytes.store(bytes as u64, Relaxed);
        bits.span_slabs.store(after as u64, Release);
    }

    /// Undoes a growth in place of which the journal tells, wherever it was killed.
    pub(crate) fn undo_growth(&self, head: usize, before: usize, after: usize, slot: usize) {
        let room = self.committed() - head;
        let (before, after) = (before.clamp(1, room), after.min(room));
        self.bitmaps(head)
            .bits
            .span_slabs
            .store(before as u64, Release);
        self.free_tails(head, before..after, slot);
        let freed = after.saturating_sub(before) as u64;
        self.header().freed.fetch_add(freed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arena, layout::SlabKind};
    use std::collections::HashSet;

    /// A journal names a span by the exact word of its head: it must not come again, also where
    /// the slab was part of other spans in between.
    #[test]
    fn no_head_is_ever_the_same() {
        let arena = Arena::options().max_size(1 << 18).in_memory().unwrap();
        let mapping = arena.mapping();
        let slot = 1;
        let mut heads = HashSet::new();
        for count in [1, 3, 2, 4, 1, 5, 2, 1, 3, 1] {
            // A span before moves the others to where tails were.
            for shift in 0..2 {
                let before = (shift > 0).then(|| mapping.claim_run(shift, slot).unwrap());
                let head = mapping.claim_run(count, slot).unwrap();
                mapping.publish_span(head, count, count * mapping.geometry().slab());
                let state = mapping.state(head);
                assert!(
                    state.is(SlabKind::Span) && heads.insert((head, state.0)),
                    "{state:?}"
                );
                assert!(mapping.free_span(head, state, slot));
                assert!(!mapping.free_span(head, state, slot));
                if let Some(before) = before {
                    mapping.release_reserved(before..before + shift, slot);
                }
            }
        }
    }
}
