//! Sizes and counts of an arena.

use super::{Arena, directory};
use crate::{
    heap::classes::{CLASSES, size_of_class},
    layout::SlabKind,
    mapping::{Backing, Mapping},
    os,
};
use std::sync::atomic::Ordering::*;

/// The blocks of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of a block.
    pub size: u64,
    /// Slabs that hold blocks of this size.
    pub slabs: u64,
    /// Blocks that are given out.
    pub allocated: u64,
    /// Blocks that are not.
    pub free: u64,
}

/// Sizes and counts of an arena at some moment. Sizes are in bytes.
///
/// Taken without locks: while others allocate, the numbers may not add up exactly. Otherwise
/// `metadata + used + cached + free` is all that is committed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The arena's maximum size: what it may ever use, but for the journals of sections that are at work in
    /// a full arena.
    pub reserved: u64,
    /// What is in use or was: all of it has memory behind it, but for the holes.
    pub committed: u64,
    /// Blocks that are given out, in the sizes that they have, which may be a little more than was
    /// asked for.
    pub used: u64,
    /// What threads keep for themselves: the blocks in their slabs that are not given out, and
    /// slabs that are claimed but not given out, such as those of a journal.
    pub cached: u64,
    /// What anybody can have: free slabs, and free blocks in slabs that no thread owns.
    pub free: u64,
    /// Of what is free: what [`Arena::trim`] gave back to the system. It gets memory again when it is
    /// needed; so `committed - holes` is what has memory behind it.
    pub holes: u64,
    /// The arena's own structures: header, slots, states of slabs.
    pub metadata: u64,
    /// The largest block that could be allocated without growing. What there is of it in holes needs
    /// memory first.
    pub largest_free_run: u64,
    /// Slots for threads.
    pub slots: u32,
    /// Slots that are taken: by threads, alive or dead and not recovered yet.
    pub slots_attached: u32,
    /// Named objects.
    pub roots: u64,
    /// Blocks by their size, for each size that the arena uses; larger ones are spans.
    pub classes: Vec<ClassStats>,
    /// Large blocks.
    pub spans: u64,
    /// Their bytes: whole slabs.
    pub span_bytes: u64,
    /// What the file takes on its file system, or in memory if that is one. 0 for an arena in
    /// ordinary memory.
    pub file_bytes: u64,
}

impl ClassStats {
    fn add_slab(&mut self, blocks: u64, allocated: u64) {
        self.slabs += 1;
        self.allocated += allocated;
        self.free += blocks.saturating_sub(allocated);
    }
}

pub(super) fn stats(arena: &Arena) -> Stats {
    let mapping = arena.mapping();
    let geometry = mapping.geometry();
    let slots = (0..geometry.slots).filter(|&slot| mapping.slot(slot).claim.load(Relaxed) != 0);
    let classes = (0..CLASSES).map(|class| size_of_class(class) as u64);
    let mut stats = Stats {
        reserved: geometry.maximum,
        metadata: metadata(mapping),
        slots: geometry.slots as u32,
        slots_attached: slots.count() as u32,
        roots: directory::count(mapping),
        classes: classes
            .filter(|&size| size <= mapping.largest_small() as u64)
            .map(|size| ClassStats {
                size,
                ..ClassStats::default()
            })
            .collect(),
        file_bytes: match &mapping.backing {
            Backing::File { file, .. } => os::file::blocks(file).unwrap_or(0),
            Backing::Memory => 0,
        },
        ..Stats::default()
    };
    let slabs = mapping.committed().min(geometry.slabs) as u64;
    stats.committed = stats.metadata + (slabs << geometry.slab_shift);
    stats.add_slabs(mapping);
    stats.add_overflow(mapping);
    stats
}

/// What describes the committed slabs, and what lies before.
fn metadata(mapping: &Mapping) -> u64 {
    let geometry = mapping.geometry();
    let stride = crate::layout::Geometry::stride(geometry.slab_shift);
    geometry.states_at + (mapping.committed() * (8 + stride)) as u64
}

impl Stats {
    fn add_slabs(&mut self, mapping: &Mapping) {
        let slab_size = mapping.geometry().slab() as u64;
        let committed = mapping.committed().min(mapping.geometry().slabs);
        let mut run = 0;
        let mut slab = 0;
        while slab < committed {
            let state = mapping.state(slab);
            let mut slabs = 1;
            let mut is_free = false;
            match state.kind() {
                Some(SlabKind::Free | SlabKind::Hole) | None => is_free = true,
                Some(SlabKind::Owned) => self.cached += self.add_blocks(mapping, slab),
                Some(SlabKind::Abandoned) => self.free += self.add_blocks(mapping, slab),
                Some(SlabKind::Span) => {
                    slabs = mapping.span_slabs(slab);
                    self.spans += 1;
                    self.span_bytes += slabs as u64 * slab_size;
                    self.used += slabs as u64 * slab_size;
                }
                Some(_) => self.cached += slab_size,
            }
            self.holes += if state.is(SlabKind::Hole) {
                slab_size
            } else {
                0
            };
            run = if is_free { run + slab_size } else { 0 };
            self.free += if is_free { slab_size } else { 0 };
            self.largest_free_run = self.largest_free_run.max(run);
            slab += slabs;
        }
    }

    /// Adds what logs have beyond the maximum.
    fn add_overflow(&mut self, mapping: &Mapping) {
        let from = mapping.geometry().slabs;
        let in_use = (from..mapping.committed())
            .filter(|&slab| !mapping.state(slab).is(SlabKind::Hole))
            .count();
        let bytes = (in_use as u64) << mapping.geometry().slab_shift;
        self.committed += bytes;
        self.cached += bytes;
    }

    /// Adds a slab of small blocks. Gives the bytes in it that are not given out.
    fn add_blocks(&mut self, mapping: &Mapping, slab: usize) -> u64 {
        let class = mapping.state(slab).class();
        let (blocks, size) = (mapping.blocks_of(class) as u64, size_of_class(class) as u64);
        let allocated = (mapping.allocated_in(slab, class) as u64).min(blocks);
        self.used += allocated * size;
        if let Some(class) = self.classes.get_mut(class) {
            class.add_slab(blocks, allocated);
        }
        mapping.geometry().slab() as u64 - allocated * size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::Layout;

    fn assert_adds_up(stats: &Stats) {
        let parts = stats.metadata + stats.used + stats.cached + stats.free;
        assert_eq!(parts, stats.committed, "{stats:?}");
    }

    #[test]
    fn everything_is_counted_once() {
        let mut options = Arena::options();
        let arena = options.max_size(1 << 22).in_memory().unwrap();
        let before = arena.stats();
        assert_adds_up(&before);
        assert_eq!((before.used, before.slots_attached), (0, 0));
        let alloc = |size| {
            let layout = Layout::from_size_align(size, 8).unwrap();
            arena.alloc(layout).unwrap().into_raw().unwrap()
        };
        let small: Vec<_> = (0..100).map(|_| alloc(40)).collect();
        let large = alloc(100_000);
        let stats = arena.stats();
        assert_adds_up(&stats);
        let class = stats.classes.iter().find(|class| class.size == 48).unwrap();
        assert_eq!((class.slabs, class.allocated), (1, 100));
        assert_eq!((stats.spans, stats.slots_attached), (1, 1));
        assert_eq!(stats.used, 4800 + stats.span_bytes);
        assert!(stats.largest_free_run <= stats.free);
        for pointer in small.into_iter().chain([large]) {
            // SAFETY: allocated above, and used by nobody.
            unsafe { arena.dealloc(pointer).unwrap() };
        }
        let after = arena.stats();
        assert_adds_up(&after);
        assert_eq!((after.used, after.spans), (0, 0));
    }

    #[test]
    fn files_have_a_size() {
        let arena = Arena::anonymous().unwrap();
        let stats = arena.stats();
        assert_adds_up(&stats);
        assert!(stats.file_bytes >= stats.committed, "{stats:?}");
        assert!(stats.reserved > stats.committed);
        arena.root::<crate::sync::Mutex<u64>>("one").unwrap();
        assert_eq!(arena.stats().roots, 1);
    }
}
