//! Blocks of the open section: allocated as a part of it, freed after its commit; and those that the
//! thread has at hand, which are nobody's.

use super::{
    Ctx, Writer,
    frees::{Deferred, SmallBlock},
};
use crate::{
    error::{Error, Rare, Result, unbox},
    heap::{Allocation, classes::size_of_class},
    layout::{EntryKind, SlabKind, SlabState},
    mapping::Mapping,
    mutant::{self, Mutant},
    os::memory,
};
use std::{
    alloc::Layout,
    sync::atomic::{Ordering::*, compiler_fence},
};

/// A block that was given out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocated {
    pub(crate) offset: u64,
    /// All of its bytes may be used: at least what was asked for.
    pub(crate) size: usize,
}

impl Writer {
    /// Allocates a block that belongs to the section: a death from here on frees it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::NoSpace`], [`Error::Layout`].
    #[inline]
    pub(crate) fn alloc(&self, layout: Layout) -> Result<Allocated> {
        self.reserve_short()?;
        match self.ctx_mut().take_at_hand(layout) {
            Some((offset, class)) => {
                self.publish_taken(offset, class);
                let size = size_of_class(class);
                Ok(Allocated { offset, size })
            }
            None => {
                let offset = unbox(self.alloc_slow(layout))?;
                let size = self.mapping().size_of_allocated(offset);
                Ok(Allocated { offset, size })
            }
        }
    }

    #[inline(always)]
    fn publish_taken(&self, offset: u64, class: usize) {
        if mutant::is(Mutant::PublishFirst) {
            publish(self.mapping(), offset, class);
        }
        self.append(EntryKind::Alloc, offset, []);
        publish(self.mapping(), offset, class);
    }

    /// A block that is not at hand: gives its offset.
    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> Rare<u64> {
        self.reserve(1)?;
        match self.or_reclaim(|| self.ctx_mut().take(layout))? {
            Some((offset, class)) => {
                self.publish_taken(offset, class);
                Ok(offset)
            }
            None => Ok(self.alloc_span(layout)?),
        }
    }

    fn alloc_span(&self, layout: Layout) -> Result<u64> {
        let mapping = self.mapping();
        let (head, count) = self.or_reclaim(|| self.ctx().claim_span(layout))?;
        let offset = mapping.slab_at(head);
        let claimed = u64::from(mapping.state(head).generation());
        self.append(EntryKind::AllocSpan, offset, [count as u64 | claimed << 32]);
        mapping.publish_span(head, count, layout.size());
        Ok(offset)
    }

    /// Publishes a block that was reserved: from here it belongs to the section. It is of `class`, or
    /// a span of `size` bytes.
    #[inline(always)]
    pub(crate) fn publish_reserved(
        &self,
        offset: u64,
        class: Option<usize>,
        size: usize,
    ) -> Result {
        let Some(class) = class else {
            return unbox(self.publish_reserved_span(offset, size));
        };
        self.append_short(EntryKind::Alloc, offset)?;
        self.ctx_mut().note_raw(offset);
        publish(self.mapping(), offset, class);
        Ok(())
    }

    #[cold]
    fn publish_reserved_span(&self, offset: u64, size: usize) -> Rare {
        self.reserve(1)?;
        self.ctx_mut().note_raw(offset);
        let mapping = self.mapping();
        let slab = mapping.slab_of(offset);
        let count = mapping.slabs_for(size);
        let claimed = u64::from(mapping.state(slab).generation());
        self.append(EntryKind::AllocSpan, offset, [count as u64 | claimed << 32]);
        mapping.publish_span(slab, count, size);
        Ok(())
    }

    /// Tries again once what the dead left behind was reclaimed, and what nobody owns.
    pub(super) fn or_reclaim<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        attempt().or_else(|error| {
            self.ctx().reclaim()?;
            attempt().map_err(|_| error)
        })
    }

    /// Frees a block: at once if it is `fresh`, allocated in this section; otherwise at commit.
    ///
    /// # Errors
    ///
    /// [`Error::DoubleFree`], [`Error::ForeignPointer`]; or when the log cannot grow, which
    /// [`Writer::reserve`] rules out: then nothing is changed.
    #[inline(always)]
    pub(crate) fn free(&self, offset: u64, fresh: bool) -> Result {
        let Some((block, state)) = self.mapping().block_at(offset) else {
            return unbox(self.free_span(offset));
        };
        let small = SmallBlock::new(self.mapping(), block, offset);
        if !self.mapping().is_allocated_at(small.place) {
            return Err(Error::DoubleFree { offset });
        }
        let ctx = self.ctx_mut();
        if fresh && ctx.owns(state) {
            let (body, magazines, mapping) = ctx.parts();
            mapping.unpublish(block);
            body.cache.put(mapping, magazines, offset, block.class);
            return Ok(());
        }
        self.append_short(EntryKind::Free, offset)?;
        self.defer(offset, Some(small), state, true);
        Ok(())
    }

    /// The same for a container that is dropped, which cannot be refused.
    ///
    /// # Errors
    ///
    /// [`Error::DoubleFree`], [`Error::ForeignPointer`].
    #[inline]
    pub(crate) fn free_dropped(&self, offset: u64, fresh: bool) -> Result {
        match self.free(offset, fresh) {
            Ok(()) => Ok(()),
            Err(error) => self.free_at_last(offset, error),
        }
    }

    /// In a full arena the log cannot always grow: then there is what was held back, and the overflow. If
    /// the disk is full, too, the block is freed nevertheless, unless this thread is killed before (J13).
    #[cold]
    #[inline(never)]
    fn free_at_last(&self, offset: u64, error: Error) -> Result {
        if matches!(
            error,
            Error::DoubleFree { .. } | Error::ForeignPointer { .. }
        ) {
            return Err(error);
        }
        let (block, state) = match self.mapping().block_at(offset) {
            Some((block, state)) => (Some(SmallBlock::new(self.mapping(), block, offset)), state),
            None => match self.mapping().find(offset)? {
                Allocation::Span { state, .. } => (None, state),
                Allocation::Block(_) => return Err(error),
            },
        };
        let span = state.is(SlabKind::Span);
        let noted = self.reserve_for_drop(if span { 16 } else { 8 });
        if noted && span {
            self.append(EntryKind::FreeSpan, offset, [state.0]);
        } else if noted {
            self.append(EntryKind::Free, offset, []);
        }
        self.defer(offset, block, state, noted);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn free_span(&self, offset: u64) -> Rare {
        match self.mapping().find(offset)? {
            Allocation::Span { state, .. } if state.is(SlabKind::Span) => {
                self.reserve(1)?;
                self.append(EntryKind::FreeSpan, offset, [state.0]);
                self.defer(offset, None, state, true);
                Ok(())
            }
            _ => Err(Error::DoubleFree { offset }.into()),
        }
    }

    /// Whether entries for so many frees would need another segment of the log.
    #[inline(always)]
    pub(crate) fn would_spill(&self, frees: usize) -> bool {
        let ctx = self.ctx();
        mutant::JOURNAL && (ctx.end.addr() - ctx.next.addr()) / 8 < frees
    }

    /// Leaves a free to the section's end. The log's last entry is of it, if it was `noted`.
    #[inline(always)]
    fn defer(&self, offset: u64, block: Option<SmallBlock>, state: SlabState, noted: bool) {
        let ctx = self.ctx();
        match block {
            Some(block) if ctx.owns(state) => self.defer_own(block),
            _ => self.defer_other(if noted { ctx.position().0 } else { 0 }, offset, state),
        }
    }

    #[inline(always)]
    fn defer_own(&self, block: SmallBlock) {
        let ctx = self.ctx_mut();
        if !mutant::JOURNAL || mutant::is(Mutant::FreeBeforeCommit) {
            return ctx.free_own(block);
        }
        ctx.leave_own_free(block);
    }

    #[inline(never)]
    fn defer_other(&self, position: u64, offset: u64, state: SlabState) {
        let ctx = self.ctx_mut();
        if !mutant::JOURNAL || mutant::is(Mutant::FreeBeforeCommit) {
            ctx.free_other(0, offset, state);
            return;
        }
        ctx.leave_free(Deferred::Other {
            position,
            offset,
            state,
        });
    }

    /// Makes a block longer where it lies, if there is room behind it. Says how long it is then.
    ///
    /// A small block never grows: all of it was given out at once.
    pub(crate) fn extend(&self, offset: u64, bytes: usize) -> Option<usize> {
        let mapping = self.mapping();
        let Ok(Allocation::Span { head, state }) = mapping.find(offset) else {
            return None;
        };
        if !state.is(SlabKind::Span) {
            return None;
        }
        let before = mapping.span_slabs(head);
        let after = mapping.slabs_for(bytes);
        let shift = mapping.geometry().slab_shift;
        if after <= before {
            return Some(before << shift);
        }
        self.reserve(1).ok()?;
        let index = self.ctx().index();
        if !mapping.claim_behind(head, after - before, index) {
            return None;
        }
        self.append(EntryKind::GrowSpan, offset, [before as u64, after as u64]);
        mapping.extend_span(head, before, after, bytes);
        Some(after << shift)
    }
}

/// Marks a block of an own slab as given out.
#[inline(always)]
pub(super) fn publish(mapping: &Mapping, offset: u64, class: usize) {
    let slab = mapping.slab_of(offset);
    let state = SlabState::new(SlabKind::Owned, class, 0, 0);
    mapping.publish(mapping.block_in(slab, state, offset));
    compiler_fence(SeqCst);
}

impl Ctx {
    /// A block out of a magazine.
    #[inline(always)]
    pub(crate) fn take_at_hand(&mut self, layout: Layout) -> Option<(u64, usize)> {
        let (offset, class) = self.magazines.pop_for(layout)?;
        // Who gets a block writes to it: by then it shall be in the cache.
        let ahead = self.magazines.next_but_one(class);
        memory::prefetch(self.base().wrapping_add(ahead as usize));
        Some((offset, class))
    }

    /// The same, with signal handlers kept out.
    #[inline(always)]
    pub(crate) fn take_one_at_hand(&mut self, layout: Layout) -> Option<(u64, usize)> {
        let entered = self.flags.enter()?;
        let taken = self.take_at_hand(layout);
        self.flags.leave(entered);
        taken
    }

    /// Takes an unpublished block, or `None` where only a span will do.
    fn take(&mut self, layout: Layout) -> Result<Option<(u64, usize)>> {
        let (body, magazines, mapping) = self.parts();
        body.cache.take(mapping, magazines, layout)
    }

    /// Claims the slabs for a large block, which is not published. Gives the first, and how many.
    fn claim_span(&self, layout: Layout) -> Result<(usize, usize)> {
        let mapping = self.mapping();
        let slab = mapping.geometry().slab();
        if layout.align() > mapping.geometry().page.min(slab) {
            return Err(Error::Layout {
                size: layout.size(),
                align: layout.align(),
            });
        }
        let count = mapping.slabs_for(layout.size());
        let head = mapping.claim_run(count, self.index())?;
        let slabs = &mapping.bitmaps(head).bits.span_slabs;
        slabs.store(count as u64, Relaxed);
        Ok((head, count))
    }

    /// Takes a block of any size, which is not published; with its class, unless it is a span.
    /// Reclaims what the dead left behind, if there is no other.
    pub(crate) fn reserve_block(&mut self, layout: Layout) -> Result<(u64, Option<usize>)> {
        self.try_reserve(layout).or_else(|error| {
            self.reclaim()?;
            self.try_reserve(layout).map_err(|_| error)
        })
    }

    pub(super) fn reclaim(&self) -> Result {
        crate::journal::recover_all(self.mapping())?;
        self.mapping().free_abandoned(self.index());
        Ok(())
    }

    fn try_reserve(&mut self, layout: Layout) -> Result<(u64, Option<usize>)> {
        match self.take(layout)? {
            Some((offset, class)) => Ok((offset, Some(class))),
            None => {
                let (head, _) = self.claim_span(layout)?;
                Ok((self.mapping().slab_at(head), None))
            }
        }
    }

    /// Puts the block at an address back into a magazine, which was taken from there and not
    /// published. Says whether that was possible.
    #[inline(always)]
    pub(crate) fn put_at_hand(&mut self, address: usize, class: usize) -> bool {
        if !self.is_own() {
            return false;
        }
        let Some(entered) = self.flags.enter() else {
            return false;
        };
        let offset = (address - self.base().addr()) as u64;
        let put = self.magazines.push(class, offset);
        self.flags.leave(entered);
        put
    }

    /// Puts back what [`Ctx::reserve_block`] gave.
    pub(crate) fn put_back_reserved(&mut self, offset: u64, class: Option<usize>) {
        let Some(class) = class else {
            return self.put_back(offset);
        };
        let (body, magazines, mapping) = self.parts();
        body.cache.put(mapping, magazines, offset, class);
    }

    /// Puts back what was taken or claimed, and never published.
    #[inline(never)]
    pub(crate) fn put_back(&mut self, offset: u64) {
        let (body, magazines, mapping) = self.parts();
        let slab = mapping.slab_of(offset);
        let state = mapping.state(slab);
        if state.is(SlabKind::Owned) {
            let block = mapping.block_in(slab, state, offset);
            if mapping.begins_at(block, offset) {
                body.cache.put(mapping, magazines, offset, block.class);
            }
        } else {
            let mut end = slab + 1;
            while end < mapping.watermark()
                && end - slab < mapping.bitmaps(slab).bits.span_slabs.load(Relaxed) as usize
            {
                end += 1;
            }
            mapping.release_reserved(slab..end, body.index);
        }
    }
}
