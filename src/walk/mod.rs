//! Walking objects through their schemas, without knowing their types.
//!
//! A walk begins at a value and visits every block that the value owns, and every value in these
//! blocks, to any depth. Nothing that it reads is trusted, and this is what holds whatever the
//! arena's bytes are:
//!
//! - W1: it reads only what [`Mapping::anywhere`] lets it read, in committed memory;
//! - W2: it goes into a block only if the block is given out, begins exactly where its owner says,
//!   and holds what the owner claims;
//! - W3: it goes into a block once. Blocks do not overlap, so the work is bounded by the committed
//!   bytes, times the depth of types in one another, which schemas bound (T3);
//! - W4: it does not recurse; what is still to be done lies in a list, bounded as W3 says;
//! - W5: raw pointers ([`RelPtr`](crate::RelPtr)) are followed last, and what is found behind them
//!   is never held against the arena: a raw pointer may be stale, and then leads to anything. The
//!   work there has a budget, since pointers may lead to overlapping places.

mod containers;
mod frozen;
mod kind;
mod maps;
mod owned;
mod plan;
mod pointers;
mod reached;
mod walker;

pub(crate) use containers::check_holder;
pub(crate) use frozen::is_frozen;
pub use kind::ProblemKind;
pub(crate) use owned::owned;
pub(crate) use plan::{Plan, Purpose};
pub(crate) use walker::{Edge, Visitor, Walk};

use kind::ProblemKind as Kind;

use crate::{heap::Allocation, layout::SlabKind, mapping::Mapping};

/// A block that is given out, as the heap knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    /// All of its bytes may be used.
    pub(crate) size: u64,
    /// Its slab, how many blocks that has, and which of them it is.
    slab: usize,
    blocks: usize,
    index: usize,
}

/// The block that begins at `offset`, if it is given out.
pub(crate) fn block_at(mapping: &Mapping, offset: u64) -> Option<Block> {
    let found = mapping.find(offset).ok()?;
    let size = mapping.usable_size(offset).ok()? as u64;
    let (slab, blocks, index) = match found {
        Allocation::Block(block) => (block.slab, mapping.blocks_of(block.class), block.index),
        Allocation::Span { head, .. } => (head, 1, 0),
    };
    Some(Block {
        offset,
        size,
        slab,
        blocks,
        index,
    })
}

/// The block in which `offset` lies, if it is given out.
pub(crate) fn block_around(mapping: &Mapping, offset: u64) -> Option<Block> {
    let slab = mapping.slab_of(offset);
    if offset < mapping.geometry().data_at || slab >= mapping.committed() {
        return None;
    }
    let state = mapping.state(slab);
    let begin = match state.kind()? {
        SlabKind::Owned | SlabKind::Abandoned => {
            mapping.offset_of_block(mapping.block_in(slab, state, offset))
        }
        SlabKind::Span => mapping.slab_at(slab),
        SlabKind::Tail => mapping.slab_at(slab.checked_sub(state.distance())?),
        _ => return None,
    };
    let found = block_at(mapping, begin)?;
    (offset - begin < found.size).then_some(found)
}

/// The `N` bytes at `offset`, wherever it is in committed memory (W1).
pub(crate) fn bytes<const N: usize>(mapping: &Mapping, offset: u64) -> Option<[u8; N]> {
    let place = mapping.anywhere(offset, N)?;
    if mapping.is_in_hole(offset, N) {
        // Reading it would allocate its pages, which may be SIGBUS.
        return None;
    }
    // SAFETY: checked to lie in committed memory (M2); bytes need no alignment. Volatile, since
    // others may change them: then torn bytes are read, which is fine for bytes.
    Some(unsafe { place.cast::<[u8; N]>().read_volatile() })
}

/// The word at `offset`.
pub(crate) fn word(mapping: &Mapping, offset: u64) -> Option<u64> {
    bytes(mapping, offset).map(u64::from_ne_bytes)
}
