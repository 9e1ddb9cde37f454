//! The heap: slabs of blocks in size classes, spans of slabs above, private caches in front.
//!
//! The truth is what is *published*: a block is allocated when its bit says so, a span when its
//! head's state word does. There is no linked list in shared memory, and every transition is one
//! store or one compare-and-swap, so a kill leaves nothing to repair but what a journal names.
//! Thread caches hold unpublished blocks only, in private memory: a dead thread's need no recovery.
//!
//! Numbered invariants (H1 to H8) are in ARCHITECTURE.md.

mod cache;
pub(crate) mod classes;
mod hole;
mod magazines;
mod owned;
mod slab;
mod span;

pub(crate) use cache::Cache;
pub(crate) use magazines::Magazines;
pub(crate) use slab::Block;

use crate::{
    error::{Error, Result},
    layout::{SlabKind, SlabState},
    mapping::Mapping,
};

/// What an offset names.
#[derive(Clone, Copy)]
pub(crate) enum Allocation {
    /// A block in a slab of blocks.
    Block(Block),
    /// The head of a span.
    Span { head: usize, state: SlabState },
}

impl Mapping {
    /// Finds the allocation that begins at `offset`; allocated or not.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignPointer`] if no allocation can begin there.
    #[inline]
    pub(crate) fn find(&self, offset: u64) -> Result<Allocation> {
        match self.block_at(offset) {
            Some((block, _)) => Ok(Allocation::Block(block)),
            None => self.find_span(offset),
        }
    }

    /// The bytes of what was allocated at `offset` just now.
    pub(crate) fn size_of_allocated(&self, offset: u64) -> usize {
        match self.block_at(offset) {
            Some((block, _)) => classes::size_of_class(block.class),
            None => self.span_slabs(self.slab_of(offset)) << self.geometry().slab_shift,
        }
    }

    /// The small block that begins at `offset`; allocated or not.
    #[inline(always)]
    pub(crate) fn block_at(&self, offset: u64) -> Option<(Block, SlabState)> {
        let (slab, within) = self.split(self.in_data(offset)?);
        let state = self.state(slab);
        let class = state.class();
        let (index, exact) = classes::split_by_class(within, class);
        // The last bytes of a slab may be too few for a block.
        let last = within + (classes::size_of_class(class) - 1);
        let fits = last <= self.within_slab();
        (state.has_blocks() && exact && fits).then_some((Block { slab, class, index }, state))
    }

    /// The small block in which `offset` lies, if it lies in a slab of blocks.
    #[inline(always)]
    pub(crate) fn block_around(&self, offset: u64) -> Option<(Block, SlabState)> {
        let slab = self.split(self.in_data(offset)?).0;
        let state = self.state(slab);
        let block = self.block_in(slab, state, offset);
        state.has_blocks().then_some((block, state))
    }

    /// As [`Mapping::find`], for what is no small block.
    #[cold]
    #[inline(never)]
    fn find_span(&self, offset: u64) -> Result<Allocation> {
        let foreign = Error::ForeignPointer { offset };
        let slab = self.slab_of(offset);
        if slab >= self.committed() {
            return Err(foreign);
        }
        let state = self.state(slab);
        match state.kind() {
            Some(SlabKind::Span | SlabKind::Freeing) if self.slab_at(slab) == offset => {
                Ok(Allocation::Span { head: slab, state })
            }
            // The begin of a free slab was an allocation once, perhaps this one.
            Some(SlabKind::Free | SlabKind::Hole | SlabKind::Punching | SlabKind::Filling)
                if self.slab_at(slab) == offset =>
            {
                Err(Error::DoubleFree { offset })
            }
            _ => Err(foreign),
        }
    }

    /// The bytes that the allocation at `offset` holds, if it is allocated.
    pub(crate) fn usable_size(&self, offset: u64) -> Result<usize> {
        match self.find(offset)? {
            Allocation::Block(block) if self.is_allocated(block) => {
                Ok(classes::size_of_class(block.class))
            }
            Allocation::Span { head, state } if state.is(SlabKind::Span) => {
                Ok(self.span_slabs(head) << self.geometry().slab_shift)
            }
            _ => Err(Error::DoubleFree { offset }),
        }
    }
}
