//! Which blocks a walk reached, and from where.

use super::Block;

/// The owner of what only raw pointers lead to.
const POINTERS: u64 = u64::MAX;

/// For each slab that has reached blocks, the offset of each block's owner; 0 for the others. So it
/// takes half of the memory that the smallest blocks do, at most.
#[derive(Default)]
pub(super) struct Reached {
    slabs: Vec<Box<[u64]>>,
}

impl Reached {
    /// Notes that `owner` owns a block. Gives the owner that it has already, if it has one.
    pub(super) fn insert(&mut self, block: &Block, owner: u64) -> Option<u64> {
        let Some(place) = self.place(block) else {
            // Not to be gone into, since that could not be noted.
            return Some(POINTERS);
        };
        if *place != 0 {
            return Some(*place);
        }
        *place = owner;
        None
    }

    /// Notes that a raw pointer leads into a block.
    pub(super) fn mark(&mut self, block: &Block) {
        self.insert(block, POINTERS);
    }

    pub(super) fn contains(&self, slab: usize, index: usize) -> bool {
        let slab = self.slabs.get(slab);
        slab.and_then(|owners| owners.get(index))
            .is_some_and(|&owner| owner != 0)
    }

    /// Where the block's owner is kept; nowhere if somebody changes the slab meanwhile.
    fn place(&mut self, block: &Block) -> Option<&mut u64> {
        if self.slabs.len() <= block.slab {
            self.slabs.resize_with(block.slab + 1, Box::default);
        }
        let owners = &mut self.slabs[block.slab];
        if owners.is_empty() {
            *owners = vec![0; block.blocks].into();
        }
        owners.get_mut(block.index)
    }
}
