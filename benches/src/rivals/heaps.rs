//! Allocators, each used through its own interface and none as the program's global one: so they do
//! not get into each other's way, and what the program itself needs goes to glibc.

use mimalloc::MiMalloc;
use sharena::{Arena, RelPtr, Reserved};
use snmalloc_rs::SnMalloc;
use std::{
    alloc::{GlobalAlloc, Layout},
    sync::LazyLock,
};
use talc::{ErrOnOom, Span, Talc, Talck};

/// Memory in blocks.
pub(crate) trait Heap: Sync {
    /// What its user keeps of a block.
    type Block;

    fn alloc(&self, size: usize) -> Self::Block;
    fn free(&self, block: Self::Block);
    /// Where its bytes are.
    fn address(&self, block: &Self::Block) -> *mut u8;

    /// Allocates a block and writes to it, as everybody does first.
    #[inline(always)]
    fn alloc_written(&self, size: usize) -> Self::Block {
        let block = self.alloc(size);
        // SAFETY: a block of this user's, of 8 bytes at least.
        unsafe { self.address(&block).cast::<u64>().write(size as u64) };
        block
    }
}

#[inline(always)]
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("sizes of blocks are small")
}

/// Blocks of an arena that are reserved: private to the thread, until they are linked somewhere.
pub(crate) struct Reserving<'a>(pub(crate) &'a Arena);

impl Heap for Reserving<'_> {
    type Block = Reserved<u8>;

    #[inline(always)]
    fn alloc(&self, size: usize) -> Reserved<u8> {
        self.0.alloc(layout(size)).expect("the arena has room")
    }

    #[inline(always)]
    fn free(&self, block: Reserved<u8>) {
        drop(block);
    }

    #[inline(always)]
    fn address(&self, block: &Reserved<u8>) -> *mut u8 {
        block.as_ptr()
    }
}

/// Blocks of an arena that are published: everybody may have them, each change is a section of its
/// own, and survives a kill.
pub(crate) struct Publishing<'a>(pub(crate) &'a Arena);

impl Heap for Publishing<'_> {
    type Block = RelPtr<u8>;

    #[inline(always)]
    fn alloc(&self, size: usize) -> RelPtr<u8> {
        let block = self.0.alloc(layout(size)).expect("the arena has room");
        block.into_raw().expect("a journal has room for one block")
    }

    #[inline(always)]
    fn free(&self, block: RelPtr<u8>) {
        // SAFETY: made by `alloc`, and used by nobody any more.
        unsafe { self.0.dealloc(block) }.expect("a published block can be freed");
    }

    #[inline(always)]
    fn address(&self, block: &RelPtr<u8>) -> *mut u8 {
        block.resolve(self.0).expect("the block is in the arena")
    }
}

/// An allocator with Rust's interface.
pub(crate) struct Global<A>(pub(crate) A);

/// A block of [`Global`]: Rust's interface wants to know the size again.
pub(crate) struct Sized {
    address: *mut u8,
    size: usize,
}

// SAFETY: memory belongs to whoever has it, on any thread.
unsafe impl Send for Sized {}

impl<A: GlobalAlloc + Sync> Heap for Global<A> {
    type Block = Sized;

    #[inline(always)]
    fn alloc(&self, size: usize) -> Sized {
        // SAFETY: of more than no bytes.
        let address = unsafe { self.0.alloc(layout(size)) };
        assert!(!address.is_null(), "no memory");
        Sized { address, size }
    }

    #[inline(always)]
    fn free(&self, block: Sized) {
        // SAFETY: made by `alloc` with this layout, and used by nobody any more.
        unsafe { self.0.dealloc(block.address, layout(block.size)) };
    }

    #[inline(always)]
    fn address(&self, block: &Sized) -> *mut u8 {
        block.address
    }
}

pub(crate) const MIMALLOC: Global<MiMalloc> = Global(MiMalloc);
pub(crate) const SNMALLOC: Global<SnMalloc> = Global(SnMalloc);
/// The system's allocator: glibc's.
pub(crate) const GLIBC: Global<std::alloc::System> = Global(std::alloc::System);

/// Talc on 512 MiB of its own, behind a mutex.
type Talked = Talck<parking_lot::RawMutex, ErrOnOom>;

pub(crate) fn talc() -> &'static Global<Talked> {
    static TALC: LazyLock<Global<Talked>> = LazyLock::new(|| {
        let memory = Vec::<u8>::with_capacity(512 << 20).leak();
        let mut talc = Talc::new(ErrOnOom);
        let span = Span::from_base_size(memory.as_mut_ptr(), 512 << 20);
        // SAFETY: leaked, so it is talc's alone from now on.
        unsafe { talc.claim(span) }.expect("large enough");
        Global(talc.lock())
    });
    &TALC
}
