//! A mapped arena: the one place where offsets become addresses.
//!
//! A mapping covers the arena's *maximum*, and what logs may need beyond it; memory is behind what is
//! *committed*. Growth allocates pages in the file and then moves the committed size with one store:
//! every process sees the new pages through the mapping it has.
//!
//! What is read from an arena is untrusted. Offsets become addresses by [`Mapping::address`], which
//! checks them against the committed size, or inside a container's buffer, which is trusted as far
//! as the contract of `Share` goes.

mod backing;
mod grow;
mod pure;
mod table;

pub(crate) use backing::{Backing, Locks};
pub(crate) use pure::{base_from, base_of};
pub(crate) use table::{Located, expect_room, find_base, find_file, find_id, locate, register};

use crate::layout::{
    Doubt, Geometry, Header, ProcessEntry, Readers, SlabBits, SlabState, Slot, mixed_seed,
};
use memmap2::MmapRaw;
use std::{
    os::unix::fs::FileExt,
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*, fence},
};

/// How the pages of an arena may be used by this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Access {
    /// Read and change the arena together with all others.
    #[default]
    ReadWrite,
    /// Only read it; the pages are really mapped `PROT_READ`.
    ReadOnly,
    /// Read it, and change a private copy that nobody else sees.
    CopyOnWrite,
}

/// An arena that is mapped by this process. Lives until its last handle and last slot are gone.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    geometry: Geometry,
    /// The bits of an offset, counted from the first slab's begin, that say where in its slab it is.
    within_slab: usize,
    /// Bytes of slabs that are known to be committed: never more than are, so that most questions need
    /// not touch the header, which others write.
    known: AtomicU64,
    /// The first slab's state word.
    states: NonNull<AtomicU64>,
    /// The first slab's bitmap of published blocks.
    published: NonNull<AtomicU64>,
    /// Bytes from there to the next slab's, and to this slab's bitmap of remote frees.
    stride: usize,
    bitmap: usize,
    id: u64,
    hash_seed: u64,
    access: Access,
    /// Whether this process asked for huge pages.
    huge: AtomicBool,
    /// Handles of users: arenas, roots. The mapping itself may outlive them in a thread's slot.
    handles: AtomicUsize,
    pub(crate) backing: Backing,
    /// This process's entry, plus 1, below the generation it is of; 0 until there is one.
    pub(crate) process: AtomicU64,
    _map: MmapRaw,
}

// SAFETY: the mapping is memory that other processes share anyway; all access through it is by
// atomics or under the arena's locks, and `base` stays valid until the value is dropped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A slab's bitmaps.
#[derive(Clone, Copy)]
pub(crate) struct Bitmaps<'m> {
    pub(crate) bits: &'m SlabBits,
    /// Blocks that are given out. Written by the slab's owner only.
    pub(crate) published: &'m [AtomicU64],
    /// Blocks of these that others freed.
    pub(crate) remote: &'m [AtomicU64],
}

impl Mapping {
    /// Wraps a map whose header was checked.
    ///
    /// # Safety
    ///
    /// `map` covers `geometry.addresses()` bytes, and has memory behind the header, the slots and the
    /// committed slabs with their states and bitmaps.
    pub(crate) unsafe fn new(
        map: MmapRaw,
        geometry: Geometry,
        access: Access,
        backing: Backing,
    ) -> Self {
        let base = NonNull::new(map.as_mut_ptr()).expect("a map is never at address 0");
        // SAFETY: by contract there is a header, and the page was checked by the caller.
        let header = unsafe { base.cast::<Header>().as_ref() };
        let published = geometry.bits_at as usize + size_of::<SlabBits>();
        Mapping {
            base,
            geometry,
            within_slab: geometry.slab() - 1,
            known: AtomicU64::new(0),
            // SAFETY: inside the map, as the geometry's places are.
            states: unsafe { base.add(geometry.states_at as usize) }.cast(),
            // SAFETY: as above.
            published: unsafe { base.add(published) }.cast(),
            stride: Geometry::stride(geometry.slab_shift),
            bitmap: Geometry::bitmap_bytes(geometry.slab_shift),
            id: header.id,
            hash_seed: mixed_seed(header.hash_random),
            access,
            huge: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            backing,
            process: AtomicU64::new(0),
            _map: map,
        }
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn len(&self) -> usize {
        self.geometry.addresses() as usize
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The part of the id that containers carry.
    #[inline(always)]
    pub(crate) fn arena(&self) -> u32 {
        self.id as u32
    }

    /// What the arena's hash tables hash with.
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// The file behind the mapping, if there is one.
    pub(crate) fn identity(&self) -> Option<crate::os::file::Identity> {
        match &self.backing {
            Backing::File { identity, .. } => Some(*identity),
            Backing::Memory => None,
        }
    }

    #[inline(always)]
    pub(crate) fn handles(&self) -> &AtomicUsize {
        &self.handles
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: there is a header at the base, M1; its plain fields never change once the arena
        // is visible, its others are atomic.
        unsafe { self.base.cast().as_ref() }
    }

    /// A shared view of a stored structure that consists of atomics.
    ///
    /// # Safety
    ///
    /// `at .. at + size_of::<T>()` lies in the arena's memory, `at` is aligned for `T`, and any
    /// bytes are a valid `T` that others may change at any time.
    #[inline(always)]
    unsafe fn stored<T>(&self, at: u64) -> &T {
        // SAFETY: by contract.
        unsafe { &*self.base.as_ptr().add(at as usize).cast::<T>() }
    }

    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub(crate) fn slot(&self, index: usize) -> &Slot {
        assert!(index < self.geometry.slots);
        let at = self.geometry.slots_at + (index * self.geometry.page) as u64;
        // SAFETY: the slots lie in the committed front part (M1); a slot is atomics and bytes that
        // are only reached through raw pointers.
        unsafe { self.stored(at) }
    }

    /// The word that the kernel marks when the slot's thread dies.
    pub(crate) fn life(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.geometry.slots);
        let page = self.geometry.page;
        let end = self.geometry.slots_at + ((index + 1) * page) as u64;
        // SAFETY: as for `slot`.
        unsafe { self.stored(end - crate::os::life::WORD_FROM_PAGE_END as u64) }
    }

    #[inline(always)]
    pub(crate) fn doubt(&self, index: usize) -> &Doubt {
        assert!(index < self.geometry.slots);
        // SAFETY: as for `slot`.
        unsafe { self.stored(self.geometry.doubts_at + (index * size_of::<Doubt>()) as u64) }
    }

    /// What the threads of the first `count` slots read.
    ///
    /// # Panics
    ///
    /// If there are not so many slots.
    #[inline(always)]
    pub(crate) fn readers(&self, count: usize) -> &[Readers] {
        assert!(count <= self.geometry.slots);
        // SAFETY: as for `slot`.
        unsafe {
            let first: *const Readers = self.stored::<Readers>(self.geometry.readers_at);
            std::slice::from_raw_parts(first, count)
        }
    }

    pub(crate) fn process_entry(&self, index: usize) -> &ProcessEntry {
        assert!(index < self.geometry.slots);
        let at = self.geometry.processes_at + (index * size_of::<ProcessEntry>()) as u64;
        // SAFETY: as for `slot`.
        unsafe { self.stored(at) }
    }

    /// How many slots were ever claimed.
    #[inline]
    pub(crate) fn slots_high(&self) -> usize {
        (self.header().slots_high.load(Acquire) as usize).min(self.geometry.slots)
    }

    /// The slabs that have memory behind them.
    #[inline(always)]
    pub(crate) fn committed(&self) -> usize {
        (self.header().committed.load(Acquire) as usize).min(self.geometry.all_slabs())
    }

    /// The slabs that were ever claimed.
    pub(crate) fn watermark(&self) -> usize {
        (self.header().watermark.load(Acquire) as usize).min(self.committed())
    }

    /// The state word of a slab that has memory behind it.
    #[inline(always)]
    pub(crate) fn state_word(&self, slab: usize) -> &AtomicU64 {
        debug_assert!(slab < self.committed());
        // SAFETY: states are committed together with their slabs (M2), and no caller goes beyond.
        unsafe { self.states.add(slab).as_ref() }
    }

    #[inline(always)]
    pub(crate) fn state(&self, slab: usize) -> SlabState {
        SlabState(self.state_word(slab).load(Acquire))
    }

    /// What is kept of a slab beside its state and its bitmaps.
    #[inline(always)]
    pub(crate) fn bits(&self, slab: usize) -> &SlabBits {
        debug_assert!(slab < self.committed());
        // SAFETY: as for `bitmaps`; it lies before the published bitmap.
        unsafe {
            let published = self.published.byte_add(slab * self.stride);
            published.cast::<SlabBits>().sub(1).as_ref()
        }
    }

    /// What is kept of a slab beside its state.
    #[inline(always)]
    pub(crate) fn bitmaps(&self, slab: usize) -> Bitmaps<'_> {
        debug_assert!(slab < self.committed());
        let shift = self.geometry.slab_shift;
        let at = self.geometry.bits_at + (slab * Geometry::stride(shift)) as u64;
        let words = Geometry::bitmap_bytes(shift) / 8;
        let first = at + size_of::<SlabBits>() as u64;
        // SAFETY: bitmaps are committed together with their slabs (M2), and consist of atomics.
        unsafe {
            let published: *const AtomicU64 = self.stored::<AtomicU64>(first);
            Bitmaps {
                bits: self.stored(at),
                published: std::slice::from_raw_parts(published, words),
                remote: std::slice::from_raw_parts(published.add(words), words),
            }
        }
    }

    /// Where the bit of a slab's block is, counted from the first slab's first one: for
    /// [`Mapping::words_at`].
    #[inline(always)]
    pub(crate) fn place_of(&self, slab: usize, index: usize) -> usize {
        debug_assert!(slab < self.committed() && index / 8 < self.bitmap);
        slab * self.stride * 8 + index
    }

    /// The word of each of a slab's bitmaps that has the bit of such a place, and the bit: the fast path's
    /// short way.
    #[inline(always)]
    pub(crate) fn words_at(&self, place: usize) -> (&AtomicU64, &AtomicU64, u64) {
        debug_assert!(place / 8 < self.committed() * self.stride);
        // SAFETY: as for `bitmaps`; the stride consists of whole words, and the second bitmap lies behind the
        // first.
        unsafe {
            let published = self.published.add(place / 64);
            let remote = published.byte_add(self.bitmap);
            (published.as_ref(), remote.as_ref(), 1 << (place % 64))
        }
    }

    /// How far behind the begin of the first slab an offset lies, if it lies in a committed slab.
    #[inline(always)]
    pub(crate) fn in_data(&self, offset: u64) -> Option<u64> {
        let behind = offset.wrapping_sub(self.geometry.data_at);
        (behind < self.known.load(Acquire) || self.reaches(behind.saturating_add(1)))
            .then_some(behind)
    }

    /// The slab in which the byte so far behind the first slab's begin lies, and where in the slab.
    #[inline(always)]
    pub(crate) fn split(&self, behind: u64) -> (usize, usize) {
        let slab = (behind >> self.geometry.slab_shift) as usize;
        (slab, behind as usize & self.within_slab)
    }

    /// How far behind its begin the last byte of a slab lies.
    #[inline(always)]
    pub(crate) fn within_slab(&self) -> usize {
        self.within_slab
    }

    /// Whether so many bytes of slabs are committed; also notes how many are.
    #[cold]
    #[inline(never)]
    fn reaches(&self, bytes: u64) -> bool {
        let committed = (self.committed() as u64) << self.geometry.slab_shift;
        self.known.fetch_max(committed, AcqRel);
        bytes <= committed
    }

    /// The slab in which a data offset lies; may be beyond the last one.
    #[inline(always)]
    pub(crate) fn slab_of(&self, offset: u64) -> usize {
        (offset.wrapping_sub(self.geometry.data_at) >> self.geometry.slab_shift) as usize
    }

    /// The offset at which a slab begins.
    #[inline(always)]
    pub(crate) fn slab_at(&self, slab: usize) -> u64 {
        self.geometry.end_of(slab)
    }

    /// The address of `len` bytes at a data offset, if all of them are committed.
    #[inline]
    pub(crate) fn address(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        // What lies before the data is far behind it, too.
        let behind = offset.wrapping_sub(self.geometry.data_at);
        let end = behind.checked_add(len as u64)?;
        if end > self.known.load(Acquire) && !self.reaches(end) {
            return None;
        }
        // SAFETY: just checked to lie inside the mapping.
        Some(unsafe { self.base.add(offset as usize) })
    }

    /// Whether there may be no memory behind some of `len` bytes, of which all are committed.
    pub(crate) fn is_in_hole(&self, offset: u64, len: usize) -> bool {
        let last = offset + (len as u64).max(1) - 1;
        last >= self.geometry.data_at
            && (self.slab_of(offset.max(self.geometry.data_at))..=self.slab_of(last))
                .any(|slab| self.state(slab).may_lack_memory())
    }

    /// The word at an aligned data offset, where something may have been freed meanwhile: it is read as
    /// a file is, since a page that was given back may not be touched.
    pub(crate) fn stale_word(&self, offset: u64) -> Option<u64> {
        let place = self.address(offset, 8)?;
        match &self.backing {
            Backing::File { file, .. } => {
                let mut bytes = [0; 8];
                file.read_exact_at(&mut bytes, offset).ok()?;
                fence(Acquire);
                Some(u64::from_ne_bytes(bytes))
            }
            // SAFETY: checked to lie in committed memory, which is always there if it is private;
            // aligned by contract, and an atomic word where there is a lock.
            Backing::Memory => Some(unsafe { place.cast::<AtomicU64>().as_ref() }.load(Acquire)),
        }
    }

    /// The address of `len` bytes anywhere in the arena, the header included.
    pub(crate) fn anywhere(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len as u64)?;
        let front = end <= self.geometry.states_at;
        if front {
            // SAFETY: the front part is committed and mapped, M1.
            return Some(unsafe { self.base.add(offset as usize) });
        }
        self.address(offset, len)
    }

    /// The parts of the arena that have memory behind them: offsets and lengths. While nobody trims it.
    pub(crate) fn resident_parts(&self) -> Vec<(u64, u64)> {
        let committed = self.committed();
        let [header, states, bits, _] = self.geometry.parts(committed);
        let mut parts = vec![header, states, bits];
        let is_hole = |slab: usize| self.state(slab).may_lack_memory();
        let mut next = 0;
        while let Some(first) = (next..committed).find(|&slab| !is_hole(slab)) {
            next = (first..committed)
                .find(|&slab| is_hole(slab))
                .unwrap_or(committed);
            let (from, to) = (self.slab_at(first), self.slab_at(next));
            parts.push((from, to - from));
        }
        parts
    }

    /// Copies what is committed to where it belongs in `image`, which reaches to the end of that, and
    /// is zeroes where there are holes.
    ///
    /// # Safety
    ///
    /// Nobody else writes the arena meanwhile, or torn values do not matter.
    pub(crate) unsafe fn copy_to(&self, image: &mut [u8]) {
        for (at, len) in self.resident_parts() {
            let (at, len) = (at as usize, len as usize);
            // SAFETY: all of these have memory behind them (M1, M2).
            unsafe {
                let from = self.base.as_ptr().add(at);
                from.copy_to_nonoverlapping(image[at..at + len].as_mut_ptr(), len);
            }
        }
    }

    /// The offset of an address inside the mapping.
    #[inline]
    pub(crate) fn offset_of<T: ?Sized>(&self, place: *const T) -> Option<u64> {
        let offset = place.addr().wrapping_sub(self.base.addr().get());
        (offset < self.len()).then_some(offset as u64)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        table::unregister(self);
    }
}
