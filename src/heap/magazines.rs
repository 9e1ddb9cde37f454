//! The magazines: for each class, a few blocks that are at hand.
//!
//! They lie in pages that a fork wipes: all zeroes is empty, and takes nothing.

use super::classes::{CLASSES, LARGEST, class_aligned, class_of, size_of_class};
use crate::mapping::Mapping;
use std::alloc::Layout;

/// Cells of a magazine; it holds fewer blocks, so that one whose mark is at a multiple is empty.
const CELLS: usize = 256;

/// A magazine for each class.
#[repr(C)]
pub(crate) struct Magazines {
    marks: [Mark; CLASSES],
    /// The largest size that has a class in this arena.
    largest: usize,
    /// Offsets, of each magazine the next one to give out last.
    cells: [u64; CLASSES * CELLS],
}

/// How full a magazine is.
#[repr(C)]
struct Mark {
    /// The first cell that is not used. The magazine begins at a multiple of [`CELLS`].
    at: u32,
    /// The first that never is: a magazine holds no more blocks than a slab does.
    end: u32,
}

impl Magazines {
    /// Where the cells begin, and bytes of those of one magazine.
    pub(crate) const CELLS_AT: usize = std::mem::offset_of!(Magazines, cells);
    pub(crate) const BYTES: usize = CELLS * size_of::<u64>();

    /// Gets wiped ones ready for an arena.
    pub(crate) fn set_up(&mut self, mapping: &Mapping) {
        self.largest = mapping.largest_small();
        for (class, mark) in self.marks.iter_mut().enumerate() {
            mark.at = (class * CELLS) as u32;
            mark.end = mark.at + mapping.blocks_of(class).clamp(4, CELLS - 1) as u32;
        }
    }

    /// The class of blocks for `layout`; `None` means a span.
    #[inline(always)]
    pub(crate) fn class_for(&self, layout: Layout) -> Option<usize> {
        if layout.align() > 16 {
            return class_aligned(layout.size(), layout.align())
                .filter(|&class| size_of_class(class) <= self.largest);
        }
        (layout.size() <= self.largest).then(|| class_of(layout.size()))
    }

    /// Takes a block for `layout` out of a magazine, if there is one.
    #[inline(always)]
    pub(crate) fn pop_for(&mut self, layout: Layout) -> Option<(u64, usize)> {
        // A magazine of a class that the arena does not use is always empty.
        let class = if layout.align() > 16 {
            self.class_for(layout)?
        } else if layout.size() <= LARGEST {
            class_of(layout.size())
        } else {
            return None;
        };
        Some((self.pop(class)?, class))
    }

    /// Takes a block out of a magazine, if there is one; it is not published yet.
    #[inline(always)]
    pub(crate) fn pop(&mut self, class: usize) -> Option<u64> {
        let mark = &mut self.marks[class];
        if (mark.at as usize).is_multiple_of(CELLS) {
            return None;
        }
        mark.at -= 1;
        Some(self.cells[mark.at as usize % (CLASSES * CELLS)])
    }

    /// The block that the magazine will give out after the next one, if there is one; otherwise any
    /// offset.
    #[inline(always)]
    pub(crate) fn next_but_one(&self, class: usize) -> u64 {
        let cell = self.marks[class].at.wrapping_sub(2);
        self.cells[cell as usize % (CLASSES * CELLS)]
    }

    /// Puts a block into a magazine, unless that is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, class: usize, offset: u64) -> bool {
        let mark = &mut self.marks[class % CLASSES];
        let room = mark.at < mark.end;
        if room {
            self.cells[mark.at as usize % (CLASSES * CELLS)] = offset;
            mark.at += 1;
        }
        room
    }

    /// Puts blocks into a magazine that is empty, at most half of what it holds: `fill` is given the
    /// cells, fills the last ones, and says how many it left. The last one is given out first.
    pub(super) fn refill(&mut self, class: usize, fill: impl FnOnce(&mut [u64]) -> usize) {
        let (begin, end) = (class * CELLS, self.marks[class].end as usize);
        let cells = &mut self.cells[begin..begin + (end - begin) / 2];
        let left = fill(cells);
        cells.copy_within(left.., 0);
        let got = cells.len() - left;
        self.marks[class].at = (begin + got) as u32;
    }

    /// The blocks of a magazine, those that were in it longest first.
    pub(super) fn held(&self, class: usize) -> &[u64] {
        &self.cells[class * CELLS..self.marks[class].at as usize]
    }

    /// Forgets so many blocks, those that were in the magazine longest.
    pub(super) fn forget(&mut self, class: usize, count: usize) {
        let (begin, at) = (class * CELLS, self.marks[class].at as usize);
        self.cells.copy_within(begin + count..at, begin);
        self.marks[class].at = (at - count) as u32;
    }
}
