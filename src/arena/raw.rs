//! Raw blocks: for structures of your own.

use super::Arena;
use crate::{
    error::{Error, Rare, Result, unbox},
    heap::classes::CLASSES,
    ptr::RelPtr,
    section::{self, Ctx, Writer, in_any_section},
    share::Share,
};
use std::{
    alloc::Layout,
    fmt,
    marker::PhantomData,
    mem::ManuallyDrop,
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
    shape: Shape,
    target: PhantomData<*mut T>,
}

/// What is known of a reserved block, in one word, since who has many of them wants them small.
///
/// | bits 16..64 | bits 9..16 | bit 8 | bits 0..8 |
/// |---|---|---|---|
/// | the size asked for | log2 of the alignment | there is a value to drop | class, or `SPAN` |
#[derive(Clone, Copy)]
struct Shape(u64);

impl Shape {
    /// The class of a large block, which has none.
    const SPAN: u8 = u8::MAX;
    const FILLED: u64 = 1 << 8;

    #[inline(always)]
    fn new(layout: Layout, class: u8) -> Self {
        // No arena has blocks of 2^48 bytes.
        let size = (layout.size() as u64) << 16;
        let align = u64::from(layout.align().trailing_zeros()) << 9;
        Shape(in_one_piece(size | align | u64::from(class)))
    }

    #[inline(always)]
    fn class(self) -> Option<usize> {
        let class = self.0 as u8;
        // The remainder tells the compiler how many classes there are.
        (class != Self::SPAN).then_some(class as usize % CLASSES)
    }

    #[inline(always)]
    fn size(self) -> usize {
        (self.0 >> 16) as usize
    }

    fn align(self) -> usize {
        1 << (self.0 >> 9 & 0x7f)
    }

    #[inline(always)]
    fn is_filled(self) -> bool {
        self.0 & Self::FILLED != 0
    }

    /// The class of a small block that has no value to drop.
    #[inline(always)]
    fn plain_class(self) -> Option<usize> {
        let other = Self::FILLED | u64::from(Self::SPAN) & !(CLASSES as u64 - 1);
        (self.0 & other == 0).then_some(self.0 as usize % CLASSES)
    }
}

/// A word of which the compiler does not know the parts. It would store each of them by itself, and a load
/// of the whole right behind that waits until all have left the store buffer.
#[inline(always)]
fn in_one_piece(#[allow(unused_mut)] mut word: u64) -> u64 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inlateout(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    word
}

#[inline(always)]
pub(super) fn alloc(arena: &Arena, layout: Layout) -> Result<Reserved<u8>> {
    reserve(arena, layout)
}

#[inline(always)]
pub(super) fn alloc_value<T: Share>(arena: &Arena, value: T) -> Result<Reserved<T>> {
    let mut block: Reserved<T> = reserve(arena, Layout::new::<T>())?;
    // SAFETY: a block of the right size and alignment, which nobody else has.
    unsafe { block.place.write(value) };
    block.shape.0 |= Shape::FILLED;
    Ok(block)
}

#[inline(always)]
fn reserve<T>(arena: &Arena, layout: Layout) -> Result<Reserved<T>> {
    // No call here writes the result itself: it would lie in memory on the fast path, too, and be
    // copied from where it was stored just now, in wider pieces.
    let Taken { ctx, offset, class } = match take_at_hand(arena, layout) {
        Some(taken) => taken,
        None => unbox(take_slow(arena, layout))?,
    };
    // SAFETY: C1; the reference ends with this statement.
    let base = unsafe { ctx.as_ref() }.base();
    let place = base.wrapping_add(offset as usize).cast();
    Ok(Reserved::from_parts(ctx, place, Shape::new(layout, class)))
}

/// A block that was taken, and counted.
struct Taken {
    ctx: NonNull<Ctx>,
    offset: u64,
    class: u8,
}

#[inline(always)]
fn take_at_hand(arena: &Arena, layout: Layout) -> Option<Taken> {
    let mut ctx = Ctx::find_last(arena.mapping().base())?;
    // SAFETY: C1; the reference ends with this function.
    let own = unsafe { ctx.as_mut() };
    let (offset, class) = own.take_one_at_hand(layout)?;
    own.count_reserved();
    Some(Taken {
        ctx,
        offset,
        class: class as u8,
    })
}

#[cold]
#[inline(never)]
fn take_slow(arena: &Arena, layout: Layout) -> Rare<Taken> {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1; the reference ends with this function.
    let own = unsafe { ctx.as_mut() };
    own.enter()?;
    let taken = own.reserve_block(layout);
    own.leave();
    let (offset, class) = taken?;
    own.count_reserved();
    Ok(Taken {
        ctx,
        offset,
        class: class.map_or(Shape::SPAN, |class| class as u8),
    })
}

impl<T> Reserved<T> {
    /// Where the block lies in this process. Its bytes are not initialised, unless it was made from
    /// a value.
    pub fn as_ptr(&self) -> *mut T {
        self.place
    }

    /// The size and alignment that were asked for.
    pub fn layout(&self) -> Layout {
        Layout::from_size_align(self.shape.size(), self.shape.align()).expect("it was a layout")
    }

    /// Publishes the block and stores a pointer to it in `dest`, both or neither, whenever the
    /// process is killed. `dest` lies in the arena, and belongs to the open section.
    ///
    /// # Errors
    ///
    /// [`Error::NotInArena`], [`Error::OtherArena`] where `dest` lies elsewhere;
    /// [`Error::NoSection`].
    #[inline(always)]
    pub fn link(self, dest: &mut Option<RelPtr<T>>) -> Result<RelPtr<T>> {
        // Field by field: a copy of the whole would wait for the stores of its parts.
        let (ctx, place, shape) = self.into_parts();
        let linked = publish_in(dest, ctx, place, shape);
        if linked.is_err() {
            drop(Reserved::from_parts(ctx, place, shape));
        } else {
            let_go(ctx);
        }
        linked
    }

    #[inline(always)]
    fn into_parts(self) -> (NonNull<Ctx>, *mut T, Shape) {
        let this = ManuallyDrop::new(self);
        (this.ctx, this.place, this.shape)
    }

    #[inline(always)]
    fn from_parts(ctx: NonNull<Ctx>, place: *mut T, shape: Shape) -> Self {
        Reserved {
            ctx,
            place,
            shape,
            target: PhantomData,
        }
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
        // SAFETY: C1.
        let own = unsafe { self.ctx.as_mut() };
        if own.is_own()
            && let Some(class) = self.shape.class()
        {
            let pointer = self.pointer();
            if own.publish_alone(pointer.offset(), class) {
                self.defuse();
                return Ok(pointer);
            }
        }
        self.publish_in_section()
    }

    /// What takes more than one store, or is refused.
    #[cold]
    #[inline(never)]
    fn publish_in_section(mut self) -> Result<RelPtr<T>> {
        // SAFETY: C1; the reference ends with this statement.
        if !unsafe { self.ctx.as_ref() }.is_own() {
            // Its maker's process was forked: the block is the parent's.
            return Err(Error::NoSection);
        }
        let pointer = self.pointer();
        if let Some(class) = self.shape.class()
            // SAFETY: C1; the reference ends with this call.
            && unsafe { self.ctx.as_mut() }.publish_among_others(pointer.offset(), class)
        {
            self.defuse();
            return Ok(pointer);
        }
        may_open(self.ctx)?;
        in_any_section(self.ctx, || {
            let (class, size) = (self.shape.class(), self.shape.size());
            Writer::of(self.ctx).publish_reserved(pointer.offset(), class, size)
        })?;
        self.defuse();
        Ok(pointer)
    }

    #[inline(always)]
    fn pointer(&self) -> RelPtr<T> {
        pointer_to(self.ctx, self.place)
    }

    /// Keeps `drop` from freeing the block.
    #[inline(always)]
    fn defuse(self) {
        let_go(self.into_parts().0);
    }
}

/// Where a block lies in the arena. Not in a forked child, where the context is wiped.
#[inline(always)]
fn pointer_to<T>(ctx: NonNull<Ctx>, place: *mut T) -> RelPtr<T> {
    // SAFETY: C1; the reference ends with this statement.
    let base = unsafe { ctx.as_ref() }.base();
    RelPtr::from_offset((place.addr() - base.addr()) as u64).expect("no block lies at offset 0")
}

/// Publishes a block, and stores a pointer to it.
#[inline(always)]
fn publish_in<T>(
    dest: &mut Option<RelPtr<T>>,
    ctx: NonNull<Ctx>,
    place: *mut T,
    shape: Shape,
) -> Result<RelPtr<T>> {
    const SIZE: usize = size_of::<Option<RelPtr<u8>>>();
    let writer = Writer::at(ptr::from_mut(dest))?;
    if !writer.is_of(ctx) {
        return Err(Error::OtherArena);
    }
    let pointer = pointer_to(ctx, place);
    if !writer.just_recorded(ptr::from_mut(dest), SIZE) {
        writer.record(ptr::from_mut(dest), SIZE)?;
    }
    writer.publish_reserved(pointer.offset(), shape.class(), shape.size())?;
    *dest = Some(pointer);
    Ok(pointer)
}

/// Lets go of a context for a block, which is not used any more.
#[inline(always)]
fn let_go(mut ctx: NonNull<Ctx>) {
    // SAFETY: C1; the reference ends with this statement.
    if unsafe { ctx.as_mut() }.reserved_gone() {
        section::leave_unused(ctx);
    }
}

impl<T> Drop for Reserved<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: C1; the reference ends before `let_go`.
        let own = unsafe { self.ctx.as_mut() };
        if let Some(class) = self.shape.plain_class()
            && own.put_at_hand(self.place.addr(), class)
        {
            return let_go(self.ctx);
        }
        self.drop_slowly();
    }
}

impl<T> Reserved<T> {
    /// Drops what is large, has a value, is not put back into a magazine, or is not this process's.
    #[cold]
    #[inline(never)]
    fn drop_slowly(&mut self) {
        // SAFETY: C1; after a fork the context is wiped, and the block is the parent's.
        if !unsafe { self.ctx.as_ref() }.is_own() {
            return;
        }
        if self.shape.is_filled() {
            // SAFETY: filled by `alloc_value`, and dropped once.
            unsafe { self.place.drop_in_place() };
        }
        let (offset, class) = (self.pointer().offset(), self.shape.class());
        // SAFETY: C1; the reference ends before `let_go`.
        let own = unsafe { self.ctx.as_mut() };
        // A signal handler must not touch the cache in the midst of another step: there the block
        // stays out of the cache to the thread's end, when its slab is given up.
        if own.enter().is_ok() {
            own.put_back_reserved(offset, class);
            own.leave();
        }
        let_go(self.ctx);
    }
}

impl<T> fmt::Debug for Reserved<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved")
            .field("place", &self.place)
            .field("layout", &self.layout())
            .finish()
    }
}

#[inline(always)]
pub(super) fn dealloc(arena: &Arena, offset: u64) -> Result {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1; the reference ends before the section is used.
    let own = unsafe { ctx.as_mut() };
    if own.free_alone(offset) {
        return Ok(());
    }
    if own.in_section() {
        return Writer::of(ctx).free(offset, false);
    }
    free_in_section(ctx, offset)
}

/// Whether the thread has a section, or may open one.
///
/// # Errors
///
/// Those of taking a lock; [`Error::Reentered`].
fn may_open(mut ctx: NonNull<Ctx>) -> Result {
    // SAFETY: C1.
    let own = unsafe { ctx.as_mut() };
    if !own.in_section() {
        own.may_lock()?;
        own.enter()?;
        own.leave();
    }
    Ok(())
}

/// What takes more than one change, or is refused.
#[cold]
#[inline(never)]
fn free_in_section(mut ctx: NonNull<Ctx>, offset: u64) -> Result {
    // SAFETY: C1; the reference ends with this statement.
    if unsafe { ctx.as_mut() }.free_among_others(offset) {
        return Ok(());
    }
    may_open(ctx)?;
    in_any_section(ctx, || Writer::of(ctx).free(offset, false))
}
