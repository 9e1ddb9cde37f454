//! What a thread keeps about itself and one arena, in pages that a fork wipes.
//!
//! In a forked child the context is all zeroes: its range is empty, so no address lies in it, and
//! the child attaches anew.

use super::{
    doom::Dooms,
    flags::Flags,
    frees::{Frees, SmallBlock},
    held::{Held, LockKind},
    here::Here,
    permits::PermitCells,
    reads::Reads,
    segments::Segments,
    turns::Turns,
};
use crate::{
    error::{Error, Result},
    heap::{Cache, Magazines},
    layout::{LockWord, LogPosition, SlabKind, SlabState, Slot, Stamp, Tag},
    mapping::Mapping,
    os::{life::LifeNode, memory::Wiped},
    share::Schema,
};
use std::{
    cell::Cell,
    panic::Location,
    ptr::{self, NonNull},
    rc::Rc,
    sync::{
        Arc,
        atomic::{Ordering::*, compiler_fence},
    },
};

/// A thread's context in one arena. Only its own thread uses it.
#[repr(C)]
pub(crate) struct Ctx {
    /// The arena's range; empty after a fork.
    pub(super) here: Here,
    /// What lock words say while this thread holds them.
    pub(super) tag: u64,
    /// The stamp of the open section, or of the next one.
    stamp: u64,
    /// Guards, and what else the fast paths ask for.
    pub(super) flags: Flags,
    /// Nesting of `Arena::section`.
    pub(super) scopes: u32,
    /// Locks whose guards have gone, but which are held to the end of the scope.
    pub(super) retained: u32,
    /// Whether the thread was panicking when the scope was opened.
    pub(super) opened_in_panic: bool,
    /// Whether locks of the unit have moved.
    pub(super) moved: bool,
    /// Whether the unit is a transaction, which takes its locks in its own way.
    pub(super) transaction: bool,
    /// Raw locks that the thread holds.
    pub(super) raw_locks: u32,
    /// Releases of contended locks in a row that had nobody to wake.
    pub(super) uneventful: u32,
    /// Blocks that a [`crate::Reserved`] of this thread has.
    pub(super) reserved: u32,
    /// The lock of a unit that can have only one, if the flags say that there is one.
    pub(super) single: *const LockWord,
    pub(super) single_kind: Option<&'static LockKind>,
    pub(super) single_at: Option<&'static Location<'static>>,
    /// The next free byte of the log, the end of its segment, and the segment's begin.
    pub(super) next: *mut u8,
    pub(super) end: *mut u8,
    pub(super) start: *mut u8,
    /// The begin of the log in the slot.
    pub(super) inline: *mut u8,
    /// Which segment that is, as in a `LogPosition`.
    pub(super) segment: u64,
    /// What the address in `next` is ahead of its `LogPosition`.
    origin: u64,
    /// The range recorded last in this section, which is empty if `recorded_to` is null: containers in it
    /// need no record of their own.
    pub(super) recorded_from: *const u8,
    pub(super) recorded_to: *const u8,
    /// The first block that the section frees after commit, if the flags say that there is one.
    pub(super) one_free: SmallBlock,
    /// The last stamp whose number the slot is beyond.
    reserved_stamp: u64,
    mapping: *const Mapping,
    slot: *const Slot,
    /// The slot's number.
    index: usize,
    /// What the states of the thread's own slabs say, but for the class and the generation: put together
    /// once, as each free compares with it.
    own_slab: SlabState,
    body: *mut Body,
    /// The thread's next context.
    pub(super) next_ctx: *mut Ctx,
    pub(super) reads: Reads,
    /// The slot's cells that hold permits.
    pub(super) permits: PermitCells,
    pub(super) turns: Turns,
    /// Moves the cells of the magazines apart from what sections ask for: see [`IN_PAGE`].
    _apart: [u64; 73],
    pub(super) magazines: Magazines,
}

/// Locks of a section for which room is there from the beginning: a signal handler that takes one
/// may have interrupted the allocator.
const LOCKS_AT_HAND: usize = 16;

/// The part of a context that lies on the ordinary heap.
pub(super) struct Body {
    pub(super) mapping: Arc<Mapping>,
    pub(super) index: usize,
    pub(super) cache: Cache,
    /// What to free after commit, beyond `one_free`.
    pub(super) frees: Frees,
    /// The locks of a unit that may have several.
    pub(super) held: Vec<Held>,
    /// The types of the containers among the frees, in order.
    pub(super) doomed: Vec<Rc<Schema>>,
    /// Types of which containers were doomed.
    pub(super) dooms: Dooms,
    /// Blocks that a transaction published without an owner.
    pub(super) raw: Vec<u64>,
    pub(super) segments: Segments,
    pub(super) life: Option<LifeNode>,
    /// The pages that the context lies in: unmapped with the body.
    _pages: Wiped,
}

/// Where in its first page a context begins.
///
/// A processor takes a load for one of what a store just before it wrote, if both are at the same place in
/// their pages, and has it wait until that store has left for the cache: behind a lock, until everything
/// has. So a context lies neither where the first blocks of slabs lie in their pages, nor where the slot's
/// page has the words and the log's begin, which each section writes.
const IN_PAGE: usize = 2176;

// The magazines' marks end where the slot's words begin.
static_assertions::const_assert!(IN_PAGE.is_multiple_of(align_of::<Ctx>()));
static_assertions::const_assert!(
    IN_PAGE + CELLS_AT <= std::mem::offset_of!(Slot, claim)
        && std::mem::offset_of!(Slot, inline) + 512 < IN_PAGE
);

/// Cells that are written again and again are those near half of a magazine, where it is after it was filled
/// or emptied: of blocks of which a slab has 255 or more, cells 127 and 128. Two pages have four magazines: what
/// sections ask for is at the place of cells 48 to 77.
const CELLS_AT: usize = std::mem::offset_of!(Ctx, magazines) + Magazines::CELLS_AT;
static_assertions::const_assert_eq!((Magazines::BYTES - CELLS_AT) / size_of::<u64>(), 48);

/// How many section numbers a thread takes at once.
const RESERVED_SERIALS: u64 = 1024;

thread_local! {
    /// The thread's first context.
    static FIRST: Cell<*mut Ctx> = const { Cell::new(ptr::null_mut()) };
}

/// Bytes of each segment of the log that are for what is dropped when the log cannot grow: a drop
/// cannot be refused (J13).
pub(super) const HELD_BACK: usize = 512;

impl Ctx {
    /// The calling thread's contexts.
    pub(crate) fn all() -> impl Iterator<Item = NonNull<Ctx>> {
        let mut next = FIRST.get();
        std::iter::from_fn(move || {
            let ctx = NonNull::new(next)?;
            // SAFETY: C1.
            next = unsafe { ctx.as_ref() }.next_ctx;
            Some(ctx)
        })
    }

    /// Tells all contexts of the thread whether there are others.
    fn tell_all() {
        let several = Self::all().nth(1).is_some();
        for mut ctx in Self::all() {
            // SAFETY: C1, and no other reference to a context lives here.
            unsafe { ctx.as_mut() }.flags.set_others(several);
        }
    }

    /// Forgets contexts of the process that this one was forked from: a wiped one has no range.
    pub(super) fn drop_inherited() {
        let first = FIRST.get();
        // SAFETY: C1; a context of this process always has a range.
        if !first.is_null() && unsafe { (*first).here.0.len } == 0 {
            FIRST.set(ptr::null_mut());
            Self::set_current(None);
        }
    }

    /// Whether the context is this process's, and not a wiped one of its parent.
    #[inline(always)]
    pub(crate) fn is_own(&self) -> bool {
        self.here.0.len != 0
    }

    /// Memory for a context: before there is anything that would have to be given back.
    pub(super) fn pages() -> Result<Wiped> {
        Wiped::map(IN_PAGE + size_of::<Ctx>())
            .map_err(|source| Error::os("map memory for a thread's cache", source))
    }

    /// Makes a context for a claimed slot, and puts it on the thread's list.
    pub(super) fn create(
        pages: Wiped,
        mapping: Arc<Mapping>,
        index: usize,
        tag: Tag,
        life: Option<LifeNode>,
    ) -> NonNull<Ctx> {
        let ctx: *mut Ctx = pages.as_ptr().wrapping_add(IN_PAGE).cast();
        let slot: *const Slot = mapping.slot(index);
        let body = Box::new(Body {
            index,
            cache: Cache::new(index),
            frees: Frees::default(),
            held: Vec::with_capacity(LOCKS_AT_HAND),
            raw: Vec::new(),
            doomed: Vec::new(),
            dooms: Dooms::default(),
            segments: Segments::default(),
            life,
            mapping,
            _pages: pages,
        });
        // SAFETY: fresh zeroed pages with room for it behind `IN_PAGE`, which is aligned for it; all zeroes
        // is a valid `Ctx`, and only this thread knows of it.
        let this = unsafe { &mut *ctx };
        this.here.0.base = body.mapping.base();
        this.tag = tag.0;
        this.mapping = Arc::as_ptr(&body.mapping);
        this.slot = slot;
        this.index = index;
        this.own_slab = SlabState::new(SlabKind::Owned, 0, index, 0);
        this.here.0.arena = body.mapping.arena();
        this.here.0.seed = body.mapping.hash_seed();
        this.magazines.set_up(&body.mapping);
        this.reads.set_up(&body.mapping.readers(index + 1)[index]);
        this.here.0.len = body.mapping.len();
        this.body = Box::into_raw(body);
        this.next_ctx = FIRST.get();
        this.inline = (&raw const this.slot().inline).cast::<u8>().cast_mut();
        this.rewind();
        this.next_stamp();
        FIRST.set(ctx);
        let ctx = NonNull::new(ctx);
        Self::set_current(ctx);
        Self::tell_all();
        ctx.expect("pages do not lie at address 0")
    }

    /// Takes a context off the thread's list. Its memory goes with the body.
    ///
    /// # Safety
    ///
    /// It is on the calling thread's list, and nothing refers to it any more.
    pub(super) unsafe fn destroy(this: NonNull<Ctx>) -> Box<Body> {
        // SAFETY: by contract.
        let ctx = unsafe { this.as_ref() };
        let next = ctx.next_ctx;
        // SAFETY: made by `Box::into_raw` in `create`, taken once.
        let body = unsafe { Box::from_raw(ctx.body) };
        if FIRST.get() == this.as_ptr() {
            FIRST.set(next);
        }
        for mut other in Self::all() {
            // SAFETY: C1, and no other reference to a context lives here.
            let other = unsafe { other.as_mut() };
            if other.next_ctx == this.as_ptr() {
                other.next_ctx = next;
            }
        }
        Self::set_current(NonNull::new(FIRST.get()));
        Self::tell_all();
        body
    }

    #[inline(always)]
    pub(crate) fn mapping(&self) -> &Mapping {
        // SAFETY: the body holds a reference count for as long as the context lives.
        unsafe { &*self.mapping }
    }

    #[inline(always)]
    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: the slot lies in the mapping, which the context keeps alive.
        unsafe { &*self.slot }
    }

    #[inline(always)]
    pub(super) fn body(&self) -> &Body {
        // SAFETY: made in `create`, freed in `destroy`; only this thread uses it.
        unsafe { &*self.body }
    }

    #[inline(always)]
    pub(super) fn body_mut(&mut self) -> &mut Body {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { &mut *self.body }
    }

    /// The body and the magazines, which the heap needs together.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> (&mut Body, &mut Magazines, &Mapping) {
        // SAFETY: the body and the mapping are other allocations than the context.
        unsafe { (&mut *self.body, &mut self.magazines, &*self.mapping) }
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether a slab is the thread's own.
    #[inline(always)]
    pub(super) fn owns(&self, state: SlabState) -> bool {
        state.is_as(self.own_slab)
    }

    #[inline(always)]
    pub(crate) fn tag(&self) -> Tag {
        Tag(self.tag)
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.here.0.base
    }

    /// The part of the arena's id that containers carry.
    #[inline(always)]
    pub(crate) fn arena(&self) -> u32 {
        self.here.0.arena
    }

    /// What the arena's hash tables hash with.
    #[inline(always)]
    pub(crate) fn hash_seed(&self) -> u64 {
        self.here.0.seed
    }

    /// Whether a section is open.
    #[inline(always)]
    pub(crate) fn in_section(&self) -> bool {
        self.flags.guards() | u64::from(self.scopes) != 0
    }

    /// Whether the thread has a section, or reads something.
    pub(crate) fn has_something_open(&self) -> bool {
        self.in_section() || self.reads_any()
    }

    /// Whether locks are held beyond their guards.
    pub(crate) fn retains(&self) -> bool {
        self.retained != 0 || self.retains_reads()
    }

    /// The open section's stamp. A section that has something in the log has it alone; of others
    /// nothing bears it.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Whether the stamps that the thread took at once are used up.
    #[inline(always)]
    pub(super) fn stamp_is_last(&self) -> bool {
        self.stamp == self.reserved_stamp
    }

    /// The stamp of the section after one that has something in the log.
    #[inline(always)]
    pub(super) fn next_stamp(&mut self) {
        if self.stamp_is_last() {
            self.reserve_stamps();
        }
        self.stamp += 1;
    }

    /// The slot's serial is beyond each number before that is used, and never goes back (J2): whoever
    /// has the slot next begins there.
    #[cold]
    #[inline(never)]
    fn reserve_stamps(&mut self) {
        let serial = self.slot().serial.load(Relaxed);
        // A damaged arena may count from anywhere; others do not come so far.
        let first = if serial < Stamp::SERIALS - RESERVED_SERIALS {
            serial
        } else {
            0
        };
        let end = first + RESERVED_SERIALS;
        self.slot().serial.store(end, Release);
        compiler_fence(SeqCst);
        self.stamp = Stamp::new(self.index(), first).0;
        self.reserved_stamp = Stamp::new(self.index(), end).0;
    }

    /// How far the log is written.
    #[inline(always)]
    pub(super) fn position(&self) -> LogPosition {
        LogPosition((self.next.addr() as u64).wrapping_sub(self.origin))
    }

    /// Whether the section has nothing in the log.
    #[inline(always)]
    pub(super) fn log_is_empty(&self) -> bool {
        self.next == self.inline
    }

    /// Sets the cursor to the log's begin.
    pub(super) fn rewind(&mut self) {
        let ordinary = crate::layout::INLINE_LOG - HELD_BACK;
        self.set_segment(0, self.inline, ordinary);
    }

    /// Sets the cursor to the begin of a segment, which is given as in a `LogPosition`. What is beyond its
    /// `ordinary` bytes is held back.
    pub(super) fn set_segment(&mut self, segment: u64, start: *mut u8, ordinary: usize) {
        self.start = start;
        self.next = start;
        self.end = start.wrapping_add(ordinary);
        self.segment = segment;
        self.origin = (start.addr() as u64).wrapping_sub(segment);
    }

    /// Takes so many bytes of what is held back at the segment's end: no more, so that nothing else
    /// finds room there. Says whether there are so many.
    #[cold]
    pub(super) fn take_held_back(&mut self, bytes: usize) -> bool {
        let size = match (self.segment >> 56) as usize {
            0 => crate::layout::INLINE_LOG,
            number => self.slot().segments[number - 1].size.load(Relaxed) as usize,
        };
        let behind = self.next.wrapping_add(bytes);
        let enough = behind.addr() - self.start.addr() <= size;
        if enough && behind > self.end {
            self.end = behind;
        }
        enough
    }

    /// Keeps signal handlers out until [`Ctx::leave`].
    ///
    /// # Errors
    ///
    /// [`Error::Reentered`] in such a handler.
    #[inline(always)]
    pub(crate) fn enter(&mut self) -> Result {
        if self.flags.is_busy() {
            return Err(Error::Reentered);
        }
        self.flags.set_busy(true);
        compiler_fence(SeqCst);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn leave(&mut self) {
        compiler_fence(SeqCst);
        self.flags.set_busy(false);
    }
}
