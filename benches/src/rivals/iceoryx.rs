//! The pool of iceoryx2: blocks of one size, that of the largest.

use super::heaps::Heap;
// iceoryx2 does not link without a logger.
use iceoryx2_bb_elementary_traits::allocator::BaseAllocator;
use iceoryx2_bb_loggers as _;
use iceoryx2_bb_memory::pool_allocator::FixedSizePoolAllocator;
use std::{alloc::Layout, ptr::NonNull};

const BLOCKS: usize = 1 << 17;

pub(crate) struct Pool {
    pool: Box<FixedSizePoolAllocator<BLOCKS>>,
    block: Layout,
    /// The blocks; used through pointers only.
    _memory: Vec<u8>,
}

// SAFETY: the pool is lock-free, and meant to be shared.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of blocks for up to so many bytes.
    pub(crate) fn new(largest: usize) -> Pool {
        let block = Layout::from_size_align(largest, 8).expect("sizes of blocks are small");
        let size = block.pad_to_align().size() * BLOCKS;
        let mut memory = Vec::with_capacity(size);
        let start = NonNull::new(memory.as_mut_ptr()).expect("vectors are not null");
        let pool = Box::new(FixedSizePoolAllocator::new(block, start, size));
        Pool {
            pool,
            block,
            _memory: memory,
        }
    }
}

impl Heap for Pool {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn alloc(&self, size: usize) -> NonNull<u8> {
        let layout = Layout::from_size_align(size, 8).expect("sizes of blocks are small");
        self.pool
            .allocate(layout)
            .expect("the pool has room")
            .cast()
    }

    #[inline(always)]
    fn free(&self, block: NonNull<u8>) {
        // SAFETY: made by `alloc`, and used by nobody any more; the layout is not looked at.
        unsafe { self.pool.deallocate(block, self.block) };
    }

    #[inline(always)]
    fn address(&self, block: &NonNull<u8>) -> *mut u8 {
        block.as_ptr()
    }
}
