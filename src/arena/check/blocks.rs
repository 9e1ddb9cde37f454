//! That the blocks which are given out are those that something owns (P2).

use super::{Found, Unowned};
use crate::{
    heap::{Block, classes::size_of_class},
    layout::SlabKind,
    mapping::Mapping,
    walk::Walk,
};
use std::{collections::HashSet, sync::atomic::Ordering::*};

/// Looks at every block that is given out.
pub(super) fn compare(mapping: &Mapping, walk: &mut Walk<'_, Found<'_>>, journaled: &HashSet<u64>) {
    for_each_block(mapping, |slab, index, offset, size| {
        let reached = walk.has_reached(slab, index);
        let report = &mut *walk.visitor.report;
        report.blocks += 1;
        report.bytes += size;
        if reached {
            report.reachable += 1;
        } else if journaled.contains(&offset) {
            report.journaled += 1;
        } else {
            report.unowned.push(Unowned { offset, size });
        }
    });
}

/// Calls `f` for every block that is given out: slab, index in it, offset, size.
fn for_each_block(mapping: &Mapping, mut f: impl FnMut(usize, usize, u64, u64)) {
    for slab in 0..mapping.watermark() {
        let state = mapping.state(slab);
        match state.kind() {
            Some(SlabKind::Owned | SlabKind::Abandoned) => {
                blocks_in(mapping, slab, state.class(), &mut f);
            }
            Some(SlabKind::Span) => {
                let size = (mapping.span_slabs(slab) as u64) << mapping.geometry().slab_shift;
                f(slab, 0, mapping.slab_at(slab), size);
            }
            _ => {}
        }
    }
}

fn blocks_in(
    mapping: &Mapping,
    slab: usize,
    class: usize,
    f: &mut impl FnMut(usize, usize, u64, u64),
) {
    let bitmaps = mapping.bitmaps(slab);
    let blocks = mapping.blocks_of(class);
    for word in 0..blocks.div_ceil(64) {
        let published = bitmaps.published[word].load(Acquire);
        let mut bits = published & !bitmaps.remote[word].load(Acquire);
        while bits != 0 {
            let index = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if index < blocks {
                let block = Block { slab, class, index };
                let offset = mapping.offset_of_block(block);
                f(slab, index, offset, size_of_class(class) as u64);
            }
        }
    }
}
