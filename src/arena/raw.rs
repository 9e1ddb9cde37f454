//! Raw blocks: for structures of your own.

use super::Arena;
use crate::{
    error::{Error, Result},
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
    /// Counts the block, and so stays (C1).
    ctx: NonNull<Ctx>,
    place: *mut T,
    offset: u64,
    layout: Layout,
    /// The class of a small block; `SPAN` of a large one.
    class: u8,
    /// Whether there is a value to drop.
    filled: bool,
    target: PhantomData<*mut T>,
}

/// The `class` of what has none.
const SPAN: u8 = u8::MAX;

#[inline(always)]
pub(super) fn alloc(arena: &Arena, layout: Layout) -> Result<Reserved<u8>> {
    reserve(arena, layout)
}

#[inline(always)]
pub(super) fn alloc_value<T: Share>(arena: &Arena, value: T) -> Result<Reserved<T>> {
    let mut block: Reserved<T> = reserve(arena, Layout::new::<T>())?;
    // SAFETY: a block of the right size and alignment, which nobody else has.
    unsafe { block.place.write(value) };
    block.filled = true;
    Ok(block)
}

#[inline(always)]
fn reserve<T>(arena: &Arena, layout: Layout) -> Result<Reserved<T>> {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    let own = unsafe { ctx.as_mut() };
    own.enter()?;
    let (offset, class) = match own.take_at_hand(layout) {
        Some((offset, class)) => (offset, class as u8),
        None => reserve_slow(own, layout)?,
    };
    own.leave();
    own.count_reserved();
    Ok(Reserved {
        ctx,
        place: own.base().wrapping_add(offset as usize).cast(),
        offset,
        layout,
        class,
        filled: false,
        target: PhantomData,
    })
}

/// What is not at hand; leaves the context if there is nothing.
#[cold]
#[inline(never)]
fn reserve_slow(ctx: &mut Ctx, layout: Layout) -> Result<(u64, u8)> {
    match ctx.reserve_block(layout) {
        Ok((offset, class)) => Ok((offset, class.map_or(SPAN, |class| class as u8))),
        Err(error) => {
            ctx.leave();
            Err(error)
        }
    }
}

impl<T> Reserved<T> {
    /// Where the block lies in this process. Its bytes are not initialised, unless it was made from
    /// a value.
    pub fn as_ptr(&self) -> *mut T {
        self.place
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
    #[inline]
    pub fn link(self, dest: &mut Option<RelPtr<T>>) -> Result<RelPtr<T>> {
        const SIZE: usize = size_of::<Option<RelPtr<u8>>>();
        let pointer = self.pointer();
        let writer = Writer::at(ptr::from_mut(dest))?;
        if !writer.is_of(self.ctx) {
            return Err(Error::OtherArena);
        }
        if !writer.just_recorded(ptr::from_mut(dest), SIZE) {
            writer.record(ptr::from_mut(dest), SIZE)?;
        }
        writer.publish_reserved(self.offset, self.class(), self.layout.size())?;
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
    #[inline]
    pub fn into_raw(mut self) -> Result<RelPtr<T>> {
        let pointer = self.pointer();
        // SAFETY: C1.
        let own = unsafe { self.ctx.as_mut() };
        if !own.is_own() {
            // Its maker's process was forked: the block is the parent's.
            return Err(Error::NoSection);
        }
        match self.class() {
            Some(class) if !own.in_section() => {
                own.may_lock()?;
                own.enter()?;
                own.publish_alone(self.offset, class);
                own.leave();
            }
            class => in_any_section(self.ctx, || {
                Writer::of(self.ctx).publish_reserved(self.offset, class, self.layout.size())
            })?,
        }
        self.defuse();
        Ok(pointer)
    }

    #[inline(always)]
    fn class(&self) -> Option<usize> {
        (self.class != SPAN).then_some(self.class as usize)
    }

    #[inline(always)]
    fn pointer(&self) -> RelPtr<T> {
        RelPtr::from_offset(self.offset).expect("no block lies at offset 0")
    }

    /// Keeps `drop` from freeing the block.
    #[inline(always)]
    fn defuse(self) {
        let mut this = std::mem::ManuallyDrop::new(self);
        this.let_go();
    }

    /// Lets go of the context, which is not used any more.
    #[inline(always)]
    fn let_go(&mut self) {
        // SAFETY: C1; the reference ends with this statement.
        if unsafe { self.ctx.as_mut() }.reserved_gone() {
            section::leave_unused(self.ctx);
        }
    }
}

impl<T> Drop for Reserved<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: C1; after a fork the context is wiped, and the block is the parent's.
        let ctx = unsafe { self.ctx.as_mut() };
        if !ctx.is_own() {
            return;
        }
        if self.filled {
            // SAFETY: filled by `alloc_value`, and dropped once.
            unsafe { self.place.drop_in_place() };
        }
        // SAFETY: C1; the reference ends before `let_go`.
        let ctx = unsafe { self.ctx.as_mut() };
        // A signal handler must not touch the cache in the midst of another step: there the block
        // stays out of the cache to the thread's end, when its slab is given up.
        if ctx.enter().is_ok() {
            ctx.put_back_reserved(self.offset, self.class());
            ctx.leave();
        }
        self.let_go();
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

#[inline(always)]
pub(super) fn dealloc(arena: &Arena, offset: u64) -> Result {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    let own = unsafe { ctx.as_mut() };
    if own.in_section() {
        return Writer::of(ctx).free(offset, false);
    }
    own.may_lock()?;
    own.enter()?;
    let freed = own.free_alone(offset);
    own.leave();
    if freed? {
        return Ok(());
    }
    free_in_section(ctx, offset)
}

/// What takes more than one store.
#[cold]
#[inline(never)]
fn free_in_section(ctx: NonNull<Ctx>, offset: u64) -> Result {
    in_any_section(ctx, || Writer::of(ctx).free(offset, false))
}
