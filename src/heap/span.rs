//! Spans: runs of whole slabs for requests that no size class holds.
//!
//! # Claiming and publishing
//!
//! 1. Each slab of the run is claimed by its own compare-and-swap, `Free -> Reserved(slot)`.
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

use super::slab::lower;
use crate::{
    error::Result,
    layout::{LONGEST_SPAN, SlabKind, SlabState},
    mapping::Mapping,
    mutant::{self, Mutant},
};
use std::sync::atomic::Ordering::*;

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
        if self.header().freed.load(Relaxed) >= count as u64
            && let Some(first) = self.claim_free_run(count, slot)
        {
            return Ok(first);
        }
        match self.claim_fresh_run(count, slot) {
            Ok(first) => Ok(first),
            // Hints may be wrong: look at every slab before giving up.
            Err(error) => self.claim_free_run(count, slot).ok_or(error),
        }
    }

    /// Claims slabs that were never used: bumps the watermark.
    fn claim_fresh_run(&self, count: usize, slot: usize) -> Result<usize> {
        loop {
            let first = self.watermark();
            let Some(end) = first.checked_add(count) else {
                return Err(self.full(usize::MAX));
            };
            self.commit(end)?;
            let moved =
                self.header()
                    .watermark
                    .compare_exchange(first as u64, end as u64, AcqRel, Relaxed);
            if moved.is_ok() && self.claim_each(first..end, slot) {
                return Ok(first);
            }
        }
    }

    /// Claims a run of free slabs below the watermark.
    fn claim_free_run(&self, count: usize, slot: usize) -> Option<usize> {
        let watermark = self.watermark();
        let mut run = 0;
        for slab in 0..watermark {
            run = if self.state(slab).is(SlabKind::Free) {
                run + 1
            } else {
                0
            };
            if run >= count {
                let first = slab + 1 - count;
                if self.claim_each(first..slab + 1, slot) {
                    lower(&self.header().freed, count as u64);
                    return Some(first);
                }
                run = 0;
            }
        }
        None
    }

    /// Claims each slab of a range, or none.
    fn claim_each(&self, range: std::ops::Range<usize>, slot: usize) -> bool {
        let first = range.start;
        for slab in range {
            let state = self.state(slab);
            let reserved = state.next(SlabKind::Reserved, 0, slot);
            if !state.is(SlabKind::Free) || !self.change(slab, state, reserved) {
                self.release_reserved(first..slab, slot);
                return false;
            }
        }
        true
    }

    /// Frees slabs that `slot` claimed and did not publish.
    pub(crate) fn release_reserved(&self, range: std::ops::Range<usize>, slot: usize) {
        for slab in range {
            let state = self.state(slab);
            if state.is_by(SlabKind::Reserved, slot) {
                let free = state.next(SlabKind::Free, 0, 0);
                self.state_word(slab).store(free.0, Release);
                self.header().freed.fetch_add(1, Relaxed);
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

    fn make_tails(&self, head: usize, range: std::ops::Range<usize>) {
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
    fn free_tails(&self, head: usize, range: std::ops::Range<usize>, slot: usize) {
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
        if to - head > LONGEST_SPAN {
            return false;
        }
        let watermark = self.watermark();
        if from == watermark {
            let fresh = self.commit(to).is_ok()
                && self
                    .header()
                    .watermark
                    .compare_exchange(from as u64, to as u64, AcqRel, Relaxed)
                    .is_ok();
            return fresh && self.claim_each(from..to, slot);
        }
        if to > watermark || !self.claim_each(from..to, slot) {
            return false;
        }
        lower(&self.header().freed, extra as u64);
        true
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
