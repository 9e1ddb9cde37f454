//! Blocks of one class in a slab: bitmaps are the truth.
//!
//! A block is *allocated* if it is published and not remotely freed. The published bitmap has one
//! writer, the owner that the state word names (H1). Others note their frees in the remote bitmap.
//!
//! # Draining
//!
//! The owner takes remotely freed blocks back:
//! 1. read the remote bits, then all doubt words (acquire);
//! 2. leave blocks that a doubt word names: their free may yet be repeated by a recovery;
//! 3. clear the others in the published bitmap, then in the remote one.
//!
//! A kill after the first half of 3 leaves blocks that are neither published nor clean: free, and
//! the next drain finishes (a remote bit over an unpublished block means nothing else).

use super::classes::{index_of, size_of_class};
use crate::{
    layout::{SlabBits, SlabKind, SlabState},
    mapping::Mapping,
    mutant::{self, Mutant},
};
use std::sync::atomic::Ordering::*;

/// Words of a slab's bitmap at most.
pub(crate) const WORDS: usize = 64;

/// A small block, found by its offset.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) slab: usize,
    pub(crate) class: usize,
    pub(crate) index: usize,
}

impl Block {
    #[inline(always)]
    pub(crate) fn word(self) -> usize {
        self.index / 64
    }

    #[inline(always)]
    pub(crate) fn bit(self) -> u64 {
        1 << (self.index % 64)
    }

    /// See [`Mapping::place_of`].
    #[inline(always)]
    pub(crate) fn place(self, mapping: &Mapping) -> usize {
        mapping.place_of(self.slab, self.index)
    }
}

impl Mapping {
    /// Blocks of the class in a slab.
    #[inline]
    pub(crate) fn blocks_of(&self, class: usize) -> usize {
        self.geometry().slab() / size_of_class(class)
    }

    /// The classes this arena uses.
    pub(crate) fn largest_small(&self) -> usize {
        (self.geometry().slab() / 2).min(super::classes::LARGEST)
    }

    /// The block of `slab` at `offset`, whose state is `state`.
    #[inline(always)]
    pub(crate) fn block_in(&self, slab: usize, state: SlabState, offset: u64) -> Block {
        let class = state.class();
        Block {
            slab,
            class,
            index: index_of(self.within(slab, offset), class),
        }
    }

    /// Whether the block begins at `offset`, and ends in its slab: the class was read from a state
    /// word, and the offset came from elsewhere. (The last bytes of a slab may be too few for one.)
    #[inline(always)]
    pub(crate) fn begins_at(&self, block: Block, offset: u64) -> bool {
        let (within, size) = (self.within(block.slab, offset), size_of_class(block.class));
        block.index * size == within && within + size <= self.geometry().slab()
    }

    /// How far behind the begin of its slab an offset is.
    #[inline(always)]
    pub(crate) fn within(&self, slab: usize, offset: u64) -> usize {
        debug_assert_eq!(slab, self.slab_of(offset));
        self.split(offset.wrapping_sub(self.geometry().data_at)).1
    }

    /// The offset of a block.
    #[inline(always)]
    pub(crate) fn offset_of_block(&self, block: Block) -> u64 {
        self.slab_at(block.slab) + (block.index * size_of_class(block.class)) as u64
    }

    /// Whether the block is given out.
    #[inline(always)]
    pub(crate) fn is_allocated(&self, block: Block) -> bool {
        self.is_allocated_at(block.place(self))
    }

    /// The same for a block whose place is known.
    #[inline(always)]
    pub(crate) fn is_allocated_at(&self, place: usize) -> bool {
        let (published, remote, bit) = self.words_at(place);
        published.load(Acquire) & !remote.load(Acquire) & bit != 0
    }

    /// Marks a block as given out. Only for the slab's owner.
    #[inline(always)]
    pub(crate) fn publish(&self, block: Block) {
        let (word, _, bit) = self.words_at(block.place(self));
        word.store(word.load(Relaxed) | bit, Release);
    }

    /// Marks a block as free. Only for the slab's owner. Says whether it was given out.
    #[inline(always)]
    pub(crate) fn unpublish(&self, block: Block) -> bool {
        self.unpublish_at(block.place(self))
    }

    /// The same for a block whose place is known.
    #[inline(always)]
    pub(crate) fn unpublish_at(&self, place: usize) -> bool {
        let (word, _, bit) = self.words_at(place);
        let old = word.load(Relaxed);
        word.store(old & !bit, Release);
        old & bit != 0
    }

    /// Frees a block, if it is given out: in a slab of the thread's `own`, or in one of others. Says whether
    /// it was.
    #[inline(always)]
    pub(crate) fn free_given_out(&self, block: Block, own: bool) -> bool {
        let (published, remote, bit) = self.words_at(block.place(self));
        let now = published.load(Acquire);
        if now & !remote.load(Acquire) & bit == 0 {
            return false;
        }
        if own {
            published.store(now & !bit, Release);
        } else {
            // Found out where the block's place is at hand.
            let bits = self.bits(block.slab);
            remote.fetch_or(bit, AcqRel);
            self.hint_in(bits, block.slab);
        }
        true
    }

    /// Notes the free of a block in a slab of another owner, or of none.
    pub(crate) fn free_remotely(&self, block: Block) {
        let (_, remote, bit) = self.words_at(block.place(self));
        remote.fetch_or(bit, AcqRel);
        self.hint(block.slab);
    }

    /// Tells the owner that there is something to drain, unless he was told.
    fn hint(&self, slab: usize) {
        self.hint_in(self.bits(slab), slab);
    }

    /// The same by what is kept of the slab.
    #[inline(always)]
    fn hint_in(&self, bits: &SlabBits, slab: usize) {
        if bits.remote_hint.load(Relaxed) == 0 {
            self.raise_hint(slab);
        }
    }

    /// Who is killed in between has told nobody, and keeps others from telling: so the owner does not only
    /// look at his slabs when he is told.
    #[cold]
    #[inline(never)]
    fn raise_hint(&self, slab: usize) {
        self.bits(slab).remote_hint.store(1, SeqCst);
        let state = self.state(slab);
        if state.is(SlabKind::Owned) && state.slot() < self.geometry().slots {
            self.doubt(state.slot()).remote_frees.store(1, SeqCst);
        }
    }

    /// Takes back what others freed. Only for the slab's owner, or its recoverer. `took` is told
    /// the bits of each word that became free. See the module's protocol.
    pub(crate) fn drain(&self, slab: usize, class: usize, mut took: impl FnMut(usize, u64)) {
        let bitmaps = self.bitmaps(slab);
        bitmaps.bits.remote_hint.store(0, SeqCst);
        let words = self.blocks_of(class).div_ceil(64);
        let mut freed = [0u64; WORDS];
        let mut any = 0;
        for (word, freed) in freed[..words].iter_mut().enumerate() {
            *freed = bitmaps.remote[word].load(Acquire);
            any |= *freed;
        }
        if any == 0 {
            return;
        }
        if !mutant::is(Mutant::NoDoubtCheck) {
            self.leave_doubted(slab, class, &mut freed);
        }
        for (word, &freed) in freed[..words].iter().enumerate() {
            if freed != 0 {
                let published = &bitmaps.published[word];
                published.store(published.load(Relaxed) & !freed, Release);
                bitmaps.remote[word].fetch_and(!freed, AcqRel);
                took(word, freed);
            }
        }
    }

    /// Takes the blocks out of `freed` that some slot is freeing now.
    fn leave_doubted(&self, slab: usize, class: usize, freed: &mut [u64; WORDS]) {
        for slot in 0..self.slots_high() {
            let doubted = self.doubt(slot).block.load(Acquire);
            if doubted == 0 || self.slab_of(doubted) != slab {
                continue;
            }
            let within = (doubted - self.slab_at(slab)) as usize;
            let index = index_of(within, class);
            let bit = 1 << (index % 64);
            if freed[index / 64] & bit != 0 {
                freed[index / 64] &= !bit;
                self.hint(slab);
            }
        }
    }

    /// Whether no block of the slab is given out, and none waits to be drained.
    pub(crate) fn is_empty_slab(&self, slab: usize, class: usize) -> bool {
        let bitmaps = self.bitmaps(slab);
        let words = self.blocks_of(class).div_ceil(64);
        (0..words).all(|word| {
            bitmaps.published[word].load(Acquire) == 0 && bitmaps.remote[word].load(Acquire) == 0
        })
    }

    /// Blocks of the slab that are given out.
    pub(crate) fn allocated_in(&self, slab: usize, class: usize) -> usize {
        let bitmaps = self.bitmaps(slab);
        let words = self.blocks_of(class).div_ceil(64);
        (0..words)
            .map(|word| {
                let published = bitmaps.published[word].load(Acquire);
                (published & !bitmaps.remote[word].load(Acquire)).count_ones() as usize
            })
            .sum()
    }

    /// Gives up a slab of `slot`: drained, then free if it is empty, else abandoned. One store.
    ///
    /// Only for the owner or its recoverer, while no journal of the owner names a block of it.
    pub(crate) fn give_up_slab(&self, slab: usize, slot: usize) {
        let state = self.state(slab);
        if !state.is_by(SlabKind::Owned, slot) {
            return;
        }
        let class = state.class();
        self.drain(slab, class, |_, _| {});
        if self.is_empty_slab(slab, class) {
            let free = state.next(SlabKind::Free, 0, 0);
            self.state_word(slab).store(free.0, Release);
            self.header().freed.fetch_add(1, Relaxed);
        } else {
            let abandoned = state.next(SlabKind::Abandoned, class, 0);
            self.state_word(slab).store(abandoned.0, Release);
            self.header().abandoned.fetch_add(1, Relaxed);
        }
    }

    /// Makes slabs free that nobody owns and in which nothing is given out, on behalf of `slot`. They
    /// are of use to their class only until somebody does: a span could not be had in an arena that
    /// is empty but for them.
    pub(crate) fn free_abandoned(&self, slot: usize) {
        for slab in 0..self.watermark() {
            let state = self.state(slab);
            if !state.is(SlabKind::Abandoned) || self.allocated_in(slab, state.class()) != 0 {
                continue;
            }
            let owned = state.next(SlabKind::Owned, state.class(), slot);
            if self.change(slab, state, owned) {
                lower(&self.header().abandoned, 1);
                self.give_up_slab(slab, slot);
            }
        }
    }

    /// Moves a slab from one state to another, if it is still in the first.
    #[inline]
    pub(crate) fn change(&self, slab: usize, from: SlabState, to: SlabState) -> bool {
        self.state_word(slab)
            .compare_exchange(from.0, to.0, AcqRel, Relaxed)
            .is_ok()
    }
}

/// Lowers a hint, never below zero.
pub(crate) fn lower(hint: &std::sync::atomic::AtomicU64, by: u64) {
    let now = hint.load(Relaxed);
    hint.store(now.saturating_sub(by), Relaxed);
}
