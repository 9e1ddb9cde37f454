//! What containers write through: record, allocate, free, in the calling thread's open section.

use super::{
    Ctx,
    ctx::{Body, Deferred, HELD_BACK},
};
use crate::{
    error::{Error, Result},
    heap::{Allocation, classes::size_of_class},
    layout::{BufferHeader, Entry, EntryKind, MAX_RECORD, SEGMENTS, SlabKind, SlabState},
    mapping::{self, Mapping},
    mutant::{self, Mutant},
    os::memory,
    share::Share,
};
use std::{
    alloc::Layout,
    ptr::{self, NonNull},
    sync::atomic::{Ordering::*, compiler_fence},
};

/// The calling thread's open section, as an operation uses it. `Copy`, for one operation only.
///
/// The order of an operation (J1): *record* what will be overwritten, *allocate*, then write.
/// Each of these makes its log entry valid by one store, before anything is changed.
#[derive(Clone, Copy)]
pub(crate) struct Writer {
    ctx: NonNull<Ctx>,
}

/// A block that was given out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocated {
    pub(crate) offset: u64,
    /// All of its bytes may be used: at least what was asked for.
    pub(crate) size: usize,
}

impl Writer {
    /// The section in which the bytes at `place` may be changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotInArena`], [`Error::ReadOnly`], or [`Error::NoSection`] where the thread has no
    /// write guard in that arena.
    #[inline(always)]
    pub(crate) fn at<T: ?Sized>(place: *const T) -> Result<Self> {
        if let Some(ctx) = Ctx::find(place) {
            // SAFETY: C1; the reference ends with this statement.
            if unsafe { ctx.as_ref() }.in_section() {
                return Ok(Writer { ctx });
            }
        }
        Err(Self::refuse(place.addr()))
    }

    /// The open section, if it recorded the container's header already. The fast path of
    /// [`raw::open`](crate::collections::raw::open): a header that bears the section's stamp was
    /// borrowed mutably under its guard.
    #[inline(always)]
    pub(crate) fn that_recorded(header: &BufferHeader) -> Option<Self> {
        let ctx = Ctx::find_last(header)?;
        // SAFETY: C1; the reference ends with this function.
        let own = unsafe { ctx.as_ref() };
        let recorded = own.stamp != 0 && header.stamp == own.stamp && header.arena == own.arena();
        recorded.then_some(Writer { ctx })
    }

    /// The thread's open section in the arena that containers know by `arena`, if it has one.
    #[inline]
    pub(crate) fn open_in(arena: u32) -> Option<Self> {
        Ctx::all()
            .find(|ctx| {
                // SAFETY: C1.
                let ctx = unsafe { ctx.as_ref() };
                ctx.in_section() && ctx.mapping().arena() == arena
            })
            .map(|ctx| Writer { ctx })
    }

    #[cold]
    fn refuse(address: usize) -> Error {
        let place: *const u8 = ptr::without_provenance(address);
        if Ctx::find(place).is_some() {
            return Error::NoSection;
        }
        match mapping::locate(place) {
            None => Error::NotInArena,
            Some(located) => match mapping::find_id(located.arena) {
                Some(found) if found.access() == mapping::Access::ReadWrite => Error::NoSection,
                _ => Error::ReadOnly,
            },
        }
    }

    /// The section of a context that is known to have one.
    #[inline(always)]
    pub(crate) fn of(ctx: NonNull<Ctx>) -> Self {
        Writer { ctx }
    }

    /// Whether it is the section of that context.
    #[inline(always)]
    pub(crate) fn is_of(&self, ctx: NonNull<Ctx>) -> bool {
        self.ctx == ctx
    }

    #[inline(always)]
    fn ctx(&self) -> &Ctx {
        // SAFETY: C1: the context lives as long as its section; no `&mut` to it is held across
        // calls, see `ctx_mut`.
        unsafe { self.ctx.as_ref() }
    }

    /// The context, for the length of one call. Only the owning thread has a `Writer`, which is not
    /// `Send`, and no method calls user code while it holds this.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(super) fn ctx_mut(&self) -> &mut Ctx {
        // SAFETY: as said above.
        unsafe { &mut *self.ctx.as_ptr() }
    }

    #[inline(always)]
    pub(crate) fn mapping(&self) -> &Mapping {
        self.ctx().mapping()
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.ctx().base()
    }

    /// The part of the arena's id that containers carry.
    #[inline(always)]
    pub(crate) fn arena(&self) -> u32 {
        self.ctx().arena()
    }

    /// What the arena's hash tables hash with.
    #[inline(always)]
    pub(crate) fn hash_seed(&self) -> u64 {
        self.ctx().hash_seed()
    }

    /// Whether the section is still open, and this process's: not so in a forked child that has
    /// inherited the writer.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.ctx().in_section()
    }

    /// The open section's stamp.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u64 {
        self.ctx_mut().stamp()
    }

    /// Ends the unit and begins the next one: for a section that has no guard.
    pub(crate) fn commit_and_go_on(&self) {
        self.ctx_mut().commit_and_go_on();
    }

    /// Whether the bytes lie in the range that was recorded last: then they need no other record.
    #[inline(always)]
    pub(crate) fn just_recorded<T: ?Sized>(&self, place: *const T, len: usize) -> bool {
        let (from, to) = self.ctx().recorded;
        place.addr() >= from && place.addr() + len <= to
    }

    /// Records `len` bytes at `place`: a death from here on puts them back.
    ///
    /// # Errors
    ///
    /// When the log cannot grow: nothing is changed then.
    #[inline(always)]
    pub(crate) fn record<T: ?Sized>(&self, place: *const T, len: usize) -> Result {
        if !mutant::JOURNAL || mutant::is(Mutant::NoRecord) {
            return Ok(());
        }
        let ctx = self.ctx_mut();
        if ctx.flags.is_plural() {
            ctx.forget_locks_in(place.addr(), place.addr() + len);
        }
        let whole = len.next_multiple_of(8) + 8;
        if whole > MAX_RECORD || ctx.end.addr() - ctx.next.addr() < whole {
            return self.record_slow(place.cast(), len);
        }
        // SAFETY: there is room for the entry, and the caller names bytes of the arena.
        unsafe { ctx.append_undo(place.cast(), len) };
        ctx.recorded = (place.addr(), place.addr() + len);
        Ok(())
    }

    /// Records one byte, in which no lock lies.
    ///
    /// # Errors
    ///
    /// As [`record`](Writer::record).
    #[inline(always)]
    pub(crate) fn record_byte(&self, place: *const u8) -> Result {
        if !mutant::JOURNAL || mutant::is(Mutant::NoRecord) {
            return Ok(());
        }
        let ctx = self.ctx_mut();
        if ctx.end == ctx.next {
            return self.record_slow(place, 1);
        }
        // SAFETY: there is room for the entry, as they and segments are aligned to 8, and the caller
        // names a byte of the arena.
        unsafe { ctx.append_byte(place) };
        Ok(())
    }

    /// Records values that are about to be lent as `&mut`: all but what is
    /// [`Unlogged`](crate::share::Unlogged) in them.
    ///
    /// # Errors
    ///
    /// As [`record`](Writer::record).
    #[inline(always)]
    pub(crate) fn record_lent<T: Share>(&self, place: *const T, count: usize) -> Result {
        if T::UNLOGGED {
            return self.record_logged(place, count);
        }
        self.record(place, count * size_of::<T>())
    }

    #[cold]
    fn record_logged<T: Share>(&self, place: *const T, count: usize) -> Result {
        self.forget_locks_in(place, count * size_of::<T>());
        let parts = crate::share::logged::<T>();
        if parts.is_empty() {
            return Ok(());
        }
        for index in 0..count {
            let value = place.wrapping_add(index).cast::<u8>();
            for part in parts.iter() {
                self.record(value.wrapping_add(part.start), part.len())?;
            }
        }
        Ok(())
    }

    /// Forgets locks in bytes that are moved or freed without a record (J4).
    #[inline(always)]
    pub(crate) fn forget_locks_in<T: ?Sized>(&self, place: *const T, len: usize) {
        let ctx = self.ctx_mut();
        if ctx.flags.is_plural() {
            ctx.forget_locks_in(place.addr(), place.addr() + len);
        }
    }

    /// Records in pieces that fill what room there is.
    #[cold]
    fn record_slow(&self, place: *const u8, len: usize) -> Result {
        let mut done = 0;
        while done < len {
            let ctx = self.ctx_mut();
            let room = ctx.end.addr() - ctx.next.addr();
            if room < 72 {
                self.grow_log(len - done + 8)?;
                continue;
            }
            let piece = (len - done).min(MAX_RECORD).min((room - 8) & !7);
            // SAFETY: there is room for the piece, which lies in the arena by contract.
            unsafe { ctx.append_undo(place.add(done), piece) };
            done += piece;
        }
        self.ctx_mut().recorded = (place.addr(), place.addr() + len);
        Ok(())
    }

    /// Makes sure that the log has room for an entry of so many bytes.
    pub(super) fn reserve_bytes(&self, bytes: usize) -> Result {
        let ctx = self.ctx();
        if mutant::JOURNAL && ctx.end.addr() - ctx.next.addr() < bytes {
            return self.grow_log(bytes);
        }
        Ok(())
    }

    /// Makes sure that the log has room for `entries` entries without long payloads.
    #[inline(always)]
    pub(crate) fn reserve(&self, entries: usize) -> Result {
        let ctx = self.ctx();
        if mutant::JOURNAL && ctx.end.addr() - ctx.next.addr() < entries * 24 {
            return self.grow_log(entries * 24);
        }
        Ok(())
    }

    /// Appends an entry with up to two words of payload, for which there is room.
    #[inline(always)]
    fn append<const WORDS: usize>(&self, kind: EntryKind, offset: u64, payload: [u64; WORDS]) {
        if !mutant::JOURNAL {
            return;
        }
        let ctx = self.ctx_mut();
        debug_assert!(ctx.end.addr() - ctx.next.addr() >= WORDS * 8 + 8);
        let entry = Entry {
            kind,
            len: WORDS * 8,
            offset,
        };
        // SAFETY: there is room, by contract; segments are aligned to 8, and so are entries.
        unsafe {
            ctx.next.cast::<[u64; WORDS]>().write(payload);
            let behind = ctx.next.add(WORDS * 8).cast::<u64>();
            behind.write(entry.encode());
            ctx.make_valid(behind.add(1).cast());
        }
    }

    /// Appends an entry with any number of words, for which there is room.
    pub(super) fn append_words(&self, kind: EntryKind, offset: u64, payload: &[u64]) {
        if !mutant::JOURNAL {
            return;
        }
        let ctx = self.ctx_mut();
        debug_assert!(ctx.end.addr() - ctx.next.addr() >= payload.len() * 8 + 8);
        let entry = Entry {
            kind,
            len: payload.len() * 8,
            offset,
        };
        // SAFETY: there is room, by contract; segments are aligned to 8, and so are entries.
        unsafe {
            let words = ctx.next.cast::<u64>();
            ptr::copy_nonoverlapping(payload.as_ptr(), words, payload.len());
            let behind = words.add(payload.len());
            behind.write(entry.encode());
            ctx.make_valid(behind.add(1).cast());
        }
    }

    /// Gives the log another segment of at least `needed` bytes: a block that is never published.
    #[cold]
    fn grow_log(&self, needed: usize) -> Result {
        let ctx = self.ctx_mut();
        let number = (ctx.segment >> 56) as usize;
        if number >= SEGMENTS {
            return Err(ctx.mapping().full(needed));
        }
        let used = ctx.next.addr() - ctx.start.addr();
        let (offset, size) = self.or_reclaim(|| self.ctx_mut().segment_block(number, needed))?;
        let stored = &ctx.slot().segments[number];
        stored.offset.store(offset, Relaxed);
        stored.size.store(size as u64, Relaxed);
        stored.before.store(used as u64, Relaxed);
        compiler_fence(SeqCst);
        let start = ctx.base().wrapping_add(offset as usize);
        ctx.set_segment((number as u64 + 1) << 56, start, size);
        ctx.make_valid(start);
        Ok(())
    }

    /// Allocates a block that belongs to the section: a death from here on frees it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::NoSpace`], [`Error::Layout`].
    #[inline]
    pub(crate) fn alloc(&self, layout: Layout) -> Result<Allocated> {
        self.reserve(1)?;
        let ctx = self.ctx_mut();
        let taken = match ctx.take(layout) {
            Ok(taken) => taken,
            Err(_) => self.or_reclaim(|| self.ctx_mut().take(layout))?,
        };
        match taken {
            Some((offset, class)) => {
                if mutant::is(Mutant::PublishFirst) {
                    publish(self.mapping(), offset, class);
                }
                self.append(EntryKind::Alloc, offset, []);
                publish(self.mapping(), offset, class);
                Ok(Allocated {
                    offset,
                    size: size_of_class(class),
                })
            }
            None => self.alloc_span(layout),
        }
    }

    #[cold]
    fn alloc_span(&self, layout: Layout) -> Result<Allocated> {
        let mapping = self.mapping();
        let slab = mapping.geometry().slab();
        let (head, count) = self.or_reclaim(|| self.ctx().claim_span(layout))?;
        let offset = mapping.slab_at(head);
        let claimed = u64::from(mapping.state(head).generation());
        self.append(EntryKind::AllocSpan, offset, [count as u64 | claimed << 32]);
        mapping.publish_span(head, count, layout.size());
        Ok(Allocated {
            offset,
            size: count * slab,
        })
    }

    /// Publishes a block that was reserved: from here it belongs to the section. It is of `class`, or
    /// a span of `size` bytes.
    #[inline(always)]
    pub(crate) fn publish_reserved(
        &self,
        offset: u64,
        class: Option<usize>,
        size: usize,
    ) -> Result {
        self.reserve(1)?;
        self.ctx_mut().note_raw(offset);
        match class {
            Some(class) => {
                self.append(EntryKind::Alloc, offset, []);
                publish(self.mapping(), offset, class);
            }
            None => self.publish_reserved_span(offset, size),
        }
        Ok(())
    }

    #[cold]
    fn publish_reserved_span(&self, offset: u64, size: usize) {
        let mapping = self.mapping();
        let slab = mapping.slab_of(offset);
        let count = mapping.slabs_for(size);
        let claimed = u64::from(mapping.state(slab).generation());
        self.append(EntryKind::AllocSpan, offset, [count as u64 | claimed << 32]);
        mapping.publish_span(slab, count, size);
    }

    /// Tries again once what the dead left behind was reclaimed, and what nobody owns.
    fn or_reclaim<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        attempt().or_else(|error| {
            self.ctx().reclaim()?;
            attempt().map_err(|_| error)
        })
    }

    /// Frees a block: at once if it is `fresh`, allocated in this section; otherwise at commit.
    ///
    /// # Errors
    ///
    /// [`Error::DoubleFree`], [`Error::ForeignPointer`]; or when the log cannot grow, which
    /// [`Writer::reserve`] rules out: then nothing is changed.
    #[inline]
    pub(crate) fn free(&self, offset: u64, fresh: bool) -> Result {
        let Some((block, state)) = self.mapping().block_at(offset) else {
            return self.free_span(offset);
        };
        if !self.mapping().is_allocated(block) {
            return Err(Error::DoubleFree { offset });
        }
        let ctx = self.ctx_mut();
        if fresh && state.is_by(SlabKind::Owned, ctx.index()) {
            let (body, magazines, mapping) = ctx.parts();
            mapping.unpublish(block);
            body.cache.put(mapping, magazines, offset, block.class);
            return Ok(());
        }
        self.reserve(1)?;
        self.append(EntryKind::Free, offset, []);
        self.defer(offset, state);
        Ok(())
    }

    /// The same for a container that is dropped, which cannot be refused.
    ///
    /// # Errors
    ///
    /// [`Error::DoubleFree`], [`Error::ForeignPointer`].
    #[inline]
    pub(crate) fn free_dropped(&self, offset: u64, fresh: bool) -> Result {
        match self.free(offset, fresh) {
            Ok(()) => Ok(()),
            Err(error) => self.free_at_last(offset, error),
        }
    }

    /// In a full arena the log cannot always grow: then there is what was held back. When that is used
    /// up, too, the block is freed nevertheless, unless this thread is killed before (J13).
    #[cold]
    #[inline(never)]
    fn free_at_last(&self, offset: u64, error: Error) -> Result {
        if matches!(
            error,
            Error::DoubleFree { .. } | Error::ForeignPointer { .. }
        ) {
            return Err(error);
        }
        let state = match self.mapping().block_at(offset) {
            Some((_, state)) => state,
            None => match self.mapping().find(offset)? {
                Allocation::Span { state, .. } => state,
                Allocation::Block(_) => return Err(error),
            },
        };
        if !self.ctx_mut().take_held_back(16) {
            self.defer_at(0, offset, state);
            return Ok(());
        }
        if state.is(SlabKind::Span) {
            self.append(EntryKind::FreeSpan, offset, [state.0]);
        } else {
            self.append(EntryKind::Free, offset, []);
        }
        self.defer(offset, state);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn free_span(&self, offset: u64) -> Result {
        match self.mapping().find(offset)? {
            Allocation::Span { state, .. } if state.is(SlabKind::Span) => {
                self.reserve(1)?;
                self.append(EntryKind::FreeSpan, offset, [state.0]);
                self.defer(offset, state);
                Ok(())
            }
            _ => Err(Error::DoubleFree { offset }),
        }
    }

    /// Whether entries for so many frees would need another segment of the log.
    #[inline(always)]
    pub(crate) fn would_spill(&self, frees: usize) -> bool {
        let ctx = self.ctx();
        mutant::JOURNAL && (ctx.end.addr() - ctx.next.addr()) / 8 < frees
    }

    /// Leaves a free, whose entry is the log's last, to the section's end.
    #[inline(always)]
    fn defer(&self, offset: u64, state: SlabState) {
        let position = self.ctx().position().0;
        self.defer_at(position, offset, state);
    }

    /// Leaves a free to the section's end; of which the log tells, unless `position` is 0.
    #[inline(always)]
    fn defer_at(&self, position: u64, offset: u64, state: SlabState) {
        let ctx = self.ctx_mut();
        let free = Deferred {
            position,
            offset,
            state,
        };
        if !mutant::JOURNAL || mutant::is(Mutant::FreeBeforeCommit) {
            ctx.free_now(free);
            return;
        }
        ctx.flags.set_frees(true);
        ctx.body_mut().frees.push(free);
    }

    /// Makes a block longer where it lies, if there is room behind it. Says how long it is then.
    ///
    /// A small block never grows: all of it was given out at once.
    pub(crate) fn extend(&self, offset: u64, bytes: usize) -> Option<usize> {
        let mapping = self.mapping();
        let Ok(Allocation::Span { head, state }) = mapping.find(offset) else {
            return None;
        };
        if !state.is(SlabKind::Span) {
            return None;
        }
        let before = mapping.span_slabs(head);
        let after = mapping.slabs_for(bytes);
        let shift = mapping.geometry().slab_shift;
        if after <= before {
            return Some(before << shift);
        }
        self.reserve(1).ok()?;
        let index = self.ctx().index();
        if !mapping.claim_behind(head, after - before, index) {
            return None;
        }
        self.append(EntryKind::GrowSpan, offset, [before as u64, after as u64]);
        mapping.extend_span(head, before, after, bytes);
        Some(after << shift)
    }
}

/// Marks a block of an own slab as given out.
#[inline(always)]
pub(super) fn publish(mapping: &Mapping, offset: u64, class: usize) {
    let slab = mapping.slab_of(offset);
    let state = SlabState::new(SlabKind::Owned, class, 0, 0);
    mapping.publish(mapping.block_in(slab, state, offset));
    compiler_fence(SeqCst);
}

impl Ctx {
    /// Writes an undo entry at the cursor.
    ///
    /// # Safety
    ///
    /// There is room for it, and `place` names `len` bytes of the arena.
    #[inline(always)]
    unsafe fn append_undo(&mut self, place: *const u8, len: usize) {
        let entry = Entry {
            kind: EntryKind::Undo,
            len,
            offset: (place.addr() - self.base().addr()) as u64,
        };
        // SAFETY: by contract; the log and the arena's data do not overlap; segments are aligned to 8,
        // and so are entries.
        unsafe {
            ptr::copy_nonoverlapping(place, self.next, len);
            let behind = self.next.add(len.next_multiple_of(8));
            behind.cast::<u64>().write(entry.encode());
            self.make_valid(behind.add(8));
        }
    }

    /// The same for a byte.
    ///
    /// # Safety
    ///
    /// As [`append_undo`](Ctx::append_undo).
    #[inline(always)]
    unsafe fn append_byte(&mut self, place: *const u8) {
        // SAFETY: by contract.
        unsafe {
            let entry = Entry {
                kind: EntryKind::Byte,
                len: usize::from(place.read()),
                offset: (place.addr() - self.base().addr()) as u64,
            };
            self.next.cast::<u64>().write(entry.encode());
            self.make_valid(self.next.add(8));
        }
    }

    /// Makes everything up to the cursor's new place valid, by one store. What the section writes
    /// comes later.
    #[inline(always)]
    fn make_valid(&mut self, next: *mut u8) {
        self.next = next;
        compiler_fence(SeqCst);
        if mutant::is(Mutant::NoJournal) {
            return;
        }
        self.slot().log.store(self.position().0, Release);
        compiler_fence(SeqCst);
    }

    /// A block for the log's segment `number`: the one of an earlier section if it is long enough.
    fn segment_block(&mut self, number: usize, needed: usize) -> Result<(u64, usize)> {
        let needed = needed.next_multiple_of(8) + HELD_BACK;
        let size = (8192usize << number).max(needed);
        if let Some(&(offset, size)) = self.body().segments.get(number)
            && size >= needed
        {
            return Ok((offset, size));
        }
        let (body, magazines, mapping) = self.parts();
        let Body { cache, index, .. } = body;
        let layout = Layout::from_size_align(size, 16).expect("a segment's size is sane");
        let fresh = match cache.take(mapping, magazines, layout)? {
            Some((offset, class)) => (offset, size_of_class(class)),
            None => {
                let count = mapping.slabs_for(size);
                let head = mapping.claim_run(count, *index)?;
                mapping
                    .bitmaps(head)
                    .bits
                    .span_slabs
                    .store(count as u64, Relaxed);
                (
                    mapping.slab_at(head),
                    count << mapping.geometry().slab_shift,
                )
            }
        };
        self.drop_segments(number);
        self.body_mut().segments.push(fresh);
        Ok(fresh)
    }

    /// Puts the blocks of segments back, from number `keep` on.
    pub(super) fn drop_segments(&mut self, keep: usize) {
        while self.body().segments.len() > keep {
            let Some((offset, _)) = self.body_mut().segments.pop() else {
                return;
            };
            self.put_back(offset);
        }
    }

    /// Takes an unpublished block, or `None` where only a span will do.
    #[inline(always)]
    pub(crate) fn take(&mut self, layout: Layout) -> Result<Option<(u64, usize)>> {
        match self.take_at_hand(layout) {
            Some(taken) => Ok(Some(taken)),
            None => self.take_slow(layout),
        }
    }

    /// A block out of a magazine.
    #[inline(always)]
    pub(crate) fn take_at_hand(&mut self, layout: Layout) -> Option<(u64, usize)> {
        let (offset, class) = self.magazines.pop_for(layout)?;
        // Who gets a block writes to it: by then it shall be in the cache.
        let ahead = self.magazines.next_but_one(class);
        memory::prefetch(self.base().wrapping_add(ahead as usize));
        Some((offset, class))
    }

    /// The same, with signal handlers kept out.
    #[inline(always)]
    pub(crate) fn take_one_at_hand(&mut self, layout: Layout) -> Option<(u64, usize)> {
        let entered = self.flags.enter()?;
        let taken = self.take_at_hand(layout);
        self.flags.leave(entered);
        taken
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&mut self, layout: Layout) -> Result<Option<(u64, usize)>> {
        let (body, magazines, mapping) = self.parts();
        body.cache.take(mapping, magazines, layout)
    }

    /// Claims the slabs for a large block, which is not published. Gives the first, and how many.
    fn claim_span(&self, layout: Layout) -> Result<(usize, usize)> {
        let mapping = self.mapping();
        let slab = mapping.geometry().slab();
        if layout.align() > mapping.geometry().page.min(slab) {
            return Err(Error::Layout {
                size: layout.size(),
                align: layout.align(),
            });
        }
        let count = mapping.slabs_for(layout.size());
        let head = mapping.claim_run(count, self.index())?;
        let slabs = &mapping.bitmaps(head).bits.span_slabs;
        slabs.store(count as u64, Relaxed);
        Ok((head, count))
    }

    /// Takes a block of any size, which is not published; with its class, unless it is a span.
    /// Reclaims what the dead left behind, if there is no other.
    pub(crate) fn reserve_block(&mut self, layout: Layout) -> Result<(u64, Option<usize>)> {
        self.try_reserve(layout).or_else(|error| {
            self.reclaim()?;
            self.try_reserve(layout).map_err(|_| error)
        })
    }

    fn reclaim(&self) -> Result {
        crate::journal::recover_all(self.mapping())?;
        self.mapping().free_abandoned(self.index());
        Ok(())
    }

    fn try_reserve(&mut self, layout: Layout) -> Result<(u64, Option<usize>)> {
        match self.take_slow(layout)? {
            Some((offset, class)) => Ok((offset, Some(class))),
            None => {
                let (head, _) = self.claim_span(layout)?;
                Ok((self.mapping().slab_at(head), None))
            }
        }
    }

    /// Puts the block at an address back into a magazine, which was taken from there and not
    /// published. Says whether that was possible.
    #[inline(always)]
    pub(crate) fn put_at_hand(&mut self, address: usize, class: usize) -> bool {
        if !self.is_own() {
            return false;
        }
        let Some(entered) = self.flags.enter() else {
            return false;
        };
        let offset = (address - self.base().addr()) as u64;
        let put = self.magazines.push(class, offset);
        self.flags.leave(entered);
        put
    }

    /// Puts back what [`Ctx::reserve_block`] gave.
    pub(crate) fn put_back_reserved(&mut self, offset: u64, class: Option<usize>) {
        let Some(class) = class else {
            return self.put_back(offset);
        };
        let (body, magazines, mapping) = self.parts();
        body.cache.put(mapping, magazines, offset, class);
    }

    /// Puts back what was taken or claimed, and never published.
    #[inline(never)]
    pub(crate) fn put_back(&mut self, offset: u64) {
        let (body, magazines, mapping) = self.parts();
        let slab = mapping.slab_of(offset);
        let state = mapping.state(slab);
        if state.is(SlabKind::Owned) {
            let block = mapping.block_in(slab, state, offset);
            if mapping.begins_at(block, offset) {
                body.cache.put(mapping, magazines, offset, block.class);
            }
        } else {
            let mut end = slab + 1;
            while end < mapping.watermark()
                && end - slab < mapping.bitmaps(slab).bits.span_slabs.load(Relaxed) as usize
            {
                end += 1;
            }
            mapping.release_reserved(slab..end, body.index);
        }
    }
}
