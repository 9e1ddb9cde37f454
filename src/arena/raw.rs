//! Raw blocks: for structures of your own.

use super::Arena;
use crate::{
    error::{Error, Result},
    heap::Allocation,
    ptr::RelPtr,
    section::{self, Ctx, Writer, in_any_section},
    share::Share,
};
use std::{
    alloc::Layout,
    fmt,
    marker::PhantomData,
    ptr::{self, NonNull},
};

/// A block that belongs to nobody yet: made by [`Arena::alloc`] and [`Arena::alloc_value`].
///
/// Dropped, it is free again; killed, too. It becomes part of the arena by [`link`](Reserved::link)
/// or [`into_raw`](Reserved::into_raw). Not `Send`: until then it is in its thread's keeping.
#[must_use = "the block is freed as soon as it is dropped"]
pub struct Reserved<T> {
    arena: Arena,
    ctx: NonNull<Ctx>,
    offset: u64,
    layout: Layout,
    /// Whether there is a value to drop.
    filled: bool,
    target: PhantomData<*mut T>,
}

pub(super) fn alloc(arena: &Arena, layout: Layout) -> Result<Reserved<u8>> {
    reserve(arena, layout)
}

pub(super) fn alloc_value<T: Share>(arena: &Arena, value: T) -> Result<Reserved<T>> {
    let mut block: Reserved<T> = reserve(arena, Layout::new::<T>())?;
    // SAFETY: a block of the right size and alignment, which nobody else has.
    unsafe { block.as_ptr().cast::<T>().write(value) };
    block.filled = true;
    Ok(block)
}

fn reserve<T>(arena: &Arena, layout: Layout) -> Result<Reserved<T>> {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    let own = unsafe { ctx.as_mut() };
    own.enter()?;
    let offset = own.reserve_block(layout);
    own.leave();
    Ok(Reserved {
        arena: arena.clone(),
        ctx,
        offset: offset?,
        layout,
        filled: false,
        target: PhantomData,
    })
}

impl<T> Reserved<T> {
    /// Where the block lies in this process. Its bytes are not initialised, unless it was made from
    /// a value.
    pub fn as_ptr(&self) -> *mut T {
        let base = self.arena.mapping().base();
        base.wrapping_add(self.offset as usize).cast()
    }

    /// The size and alignment that were asked for.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Publishes the block and stores a pointer to it in `dest`, both or neither, whenever the
    /// process is killed. `dest` lies in the arena, and belongs to the open section.
    ///
    /// # Errors
    ///
    /// [`Error::NotInArena`], [`Error::OtherArena`] where `dest` lies elsewhere;
    /// [`Error::NoSection`].
    pub fn link(self, dest: &mut Option<RelPtr<T>>) -> Result<RelPtr<T>> {
        let pointer = self.pointer();
        let writer = Writer::at(ptr::from_mut(dest))?;
        if writer.arena() != self.arena.mapping().arena() {
            return Err(Error::OtherArena);
        }
        writer.record(ptr::from_mut(dest), size_of::<Option<RelPtr<T>>>())?;
        writer.publish_reserved(self.offset, self.layout)?;
        *dest = Some(pointer);
        self.defuse();
        Ok(pointer)
    }

    /// Publishes the block, which then belongs to whoever has the pointer.
    ///
    /// Without a place that owns it, nobody frees it after a death: `check` lists it as unowned
    /// until some `RelPtr` in a root leads to it. Inside a section it is undone with the section.
    ///
    /// # Errors
    ///
    /// When the journal cannot note it.
    pub fn into_raw(self) -> Result<RelPtr<T>> {
        let pointer = self.pointer();
        in_any_section(self.ctx, || {
            Writer::of(self.ctx).publish_reserved(self.offset, self.layout)
        })?;
        self.defuse();
        Ok(pointer)
    }

    fn pointer(&self) -> RelPtr<T> {
        RelPtr::from_offset(self.offset).expect("no block lies at offset 0")
    }

    /// Keeps `drop` from freeing the block.
    fn defuse(self) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped any more.
        drop(unsafe { ptr::read(&raw const this.arena) });
    }
}

impl<T> Drop for Reserved<T> {
    fn drop(&mut self) {
        // SAFETY: C1; after a fork the context is wiped, and the block is the parent's.
        let ctx = unsafe { self.ctx.as_mut() };
        if !ctx.is_own() {
            return;
        }
        if self.filled {
            // SAFETY: filled by `alloc_value`, and dropped once.
            unsafe { self.as_ptr().drop_in_place() };
        }
        // SAFETY: C1.
        unsafe { self.ctx.as_mut() }.put_back(self.offset);
    }
}

impl<T> fmt::Debug for Reserved<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved")
            .field("offset", &format_args!("{:#x}", self.offset))
            .field("layout", &self.layout)
            .finish()
    }
}

pub(super) fn dealloc(arena: &Arena, offset: u64) -> Result {
    let mapping = arena.mapping();
    match mapping.find(offset)? {
        Allocation::Block { block, .. } if !mapping.is_allocated(block) => {
            return Err(Error::DoubleFree { offset });
        }
        _ => {}
    }
    let ctx = section::attach(mapping)?;
    in_any_section(ctx, || Writer::of(ctx).free(offset, false))
}
