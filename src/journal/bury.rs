//! Taking apart what a committed section doomed: a container, with all that it owns.
//!
//! A section that drops something large does not note each block in its log: it copies the
//! container's header there, and what it owns stays as it is until after the commit, when the locks
//! are free. Then, the deepest blocks first, one at a time:
//!
//! 1. `burying` says that this goes on, or the exact state of a span; the doubt word names the block;
//! 2. the offset in the owner's header becomes 0: from here the walk does not find it any more;
//! 3. the block is freed;
//! 4. the doubt word is 0 again, then `burying`.
//!
//! A block is freed only behind 2. So who goes on behind a kill walks first, while the doubt word
//! still stands: a block in doubt that the walk finds was not freed yet, and its turn comes again. One
//! that it does not find is freed once more, which is harmless: nobody can have it while a doubt word
//! names it (J9), and a span's state would be another (J10).

use super::replay::{free_block, head_at};
use crate::{
    heap::Allocation,
    layout::{BufferHeader, SlabState},
    mapping::Mapping,
    share::Schema,
    walk::{self, Edge},
};
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering::*, compiler_fence},
};

/// In `Slot::burying`: what the doubt word names is a block.
const A_BLOCK: u64 = u64::MAX;

/// Takes apart the container whose header was copied to `header`. `free` frees a block.
pub(crate) fn bury(
    mapping: &Mapping,
    slot: usize,
    header: u64,
    schema: &Schema,
    mut free: impl FnMut(u64),
) {
    let mut edges = walk::owned(mapping, schema, header);
    go_on(mapping, slot, &edges);
    // Owners were met before what they own.
    while let Some(edge) = edges.pop() {
        let Some(offset) = offset_word(mapping, &edge) else {
            continue;
        };
        doubt(mapping, slot, edge.block);
        offset.store(0, Release);
        compiler_fence(SeqCst);
        free(edge.block);
        settle(mapping, slot);
    }
}

/// The word of a header that says where its buffer is.
fn offset_word<'m>(mapping: &'m Mapping, edge: &Edge) -> Option<&'m AtomicU64> {
    static_assertions::const_assert_eq!(offset_of!(BufferHeader, offset), 0);
    let place = mapping.anywhere(edge.header, 8)?;
    // SAFETY: checked to lie in committed memory; headers are aligned to 8, or the walk would not
    // have gone there; nobody else can reach what the section gave up.
    edge.header
        .is_multiple_of(8)
        .then(|| unsafe { place.cast::<AtomicU64>().as_ref() })
}

fn doubt(mapping: &Mapping, slot: usize, block: u64) {
    let exact = match mapping.find(block) {
        Ok(Allocation::Span { state, .. }) => state.0,
        _ => A_BLOCK,
    };
    mapping.slot(slot).burying.store(exact, Release);
    compiler_fence(SeqCst);
    mapping.doubt(slot).block.store(block, Release);
    compiler_fence(SeqCst);
}

fn settle(mapping: &Mapping, slot: usize) {
    compiler_fence(SeqCst);
    mapping.doubt(slot).block.store(0, Release);
    compiler_fence(SeqCst);
    mapping.slot(slot).burying.store(0, Release);
}

/// Does the rest of what was begun with the block that the slot's doubt word names, if it was in a
/// burial.
fn go_on(mapping: &Mapping, slot: usize, edges: &[Edge]) {
    let block = mapping.doubt(slot).block.load(Acquire);
    let exact = mapping.slot(slot).burying.load(Acquire);
    let begun = exact != 0 && block != 0 && !edges.iter().any(|edge| edge.block == block);
    if begun && exact == A_BLOCK {
        free_block(mapping, slot, block);
    } else if begun && let Some(head) = head_at(mapping, block) {
        mapping.free_span(head, SlabState(exact), slot);
    }
    // Also where another free, which is done, was named last.
    settle(mapping, slot);
}
