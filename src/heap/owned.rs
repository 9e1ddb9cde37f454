//! What a thread knows of a slab that it owns.

use super::{
    classes::size_of_class,
    slab::{Block, WORDS},
};
use crate::mapping::Mapping;
use std::sync::atomic::Ordering::*;

/// A slab of the thread's own.
pub(super) struct OwnedSlab {
    pub(super) slab: u32,
    pub(super) class: u8,
    /// Whether it is in the list of slabs with room.
    pub(super) listed: bool,
    /// Whether it is in the list of slabs that became wholly free.
    pub(super) emptied: bool,
    /// Where it is in the list of its class.
    pub(super) rank: u32,
    /// Blocks in all, and those that are not taken.
    blocks: u32,
    free: u32,
    /// Blocks that are published, or in the magazine, and bits that stand for no block.
    taken: Box<[u64; WORDS]>,
}

impl OwnedSlab {
    /// A slab whose state word says that it is the thread's; in no list yet.
    pub(super) fn new(mapping: &Mapping, slab: usize, class: usize, rank: usize) -> Self {
        let blocks = mapping.blocks_of(class);
        let mut taken = Box::new([!0; WORDS]);
        let mut free = 0;
        let published = mapping.bitmaps(slab).published;
        for (word, taken) in taken[..blocks.div_ceil(64)].iter_mut().enumerate() {
            *taken = published[word].load(Relaxed) | !valid_bits(blocks, word);
            free += taken.count_zeros();
        }
        OwnedSlab {
            slab: slab as u32,
            class: class as u8,
            listed: false,
            emptied: false,
            rank: rank as u32,
            blocks: blocks as u32,
            free,
            taken,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.free > 0
    }

    /// Whether no block is taken.
    pub(super) fn is_free(&self) -> bool {
        self.free == self.blocks
    }

    /// Takes the blocks with the lowest addresses, as many as there are cells, the lowest into the last
    /// one. Says how many cells are left.
    pub(super) fn take_lowest(&mut self, mapping: &Mapping, cells: &mut [u64]) -> usize {
        let first = mapping.slab_at(self.slab as usize);
        let size = size_of_class(self.class as usize) as u64;
        let words = (self.blocks as usize).div_ceil(64);
        let mut left = cells.len();
        for (word, taken) in self.taken[..words].iter_mut().enumerate() {
            let mut free = !*taken;
            while free != 0 && left > 0 {
                let index = word as u64 * 64 + u64::from(free.trailing_zeros());
                free &= free - 1;
                left -= 1;
                cells[left] = first + index * size;
            }
            *taken = !free;
            if left == 0 {
                break;
            }
        }
        self.free -= (cells.len() - left) as u32;
        left
    }

    /// Notes that a block is not taken any more.
    #[inline(always)]
    pub(super) fn untake(&mut self, block: Block) {
        let taken = &mut self.taken[block.word() % WORDS];
        self.free += u32::from(*taken & block.bit() != 0);
        *taken &= !block.bit();
    }

    /// The same for blocks of one word of the bitmap.
    pub(super) fn untake_word(&mut self, word: usize, bits: u64) {
        let bits = bits & valid_bits(self.blocks as usize, word);
        self.free += (self.taken[word] & bits).count_ones();
        self.taken[word] &= !bits;
    }
}

/// The bits of a bitmap word that stand for blocks.
#[inline]
fn valid_bits(blocks: usize, word: usize) -> u64 {
    let left = blocks - word * 64;
    if left >= 64 { !0 } else { (1 << left) - 1 }
}
