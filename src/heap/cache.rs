//! A thread's cache: blocks of its own slabs that are not published, in private memory.
//!
//! A *magazine* per class serves the fast path. Behind it each owned slab has a private bitmap of
//! blocks that are *taken*: published, or in a magazine. A refill takes blocks from there, a flush
//! gives them back, and neither touches shared memory. A slab that became wholly free is given
//! back between sections, never inside one: a journal may name its blocks.

use super::{
    Magazines,
    classes::{CLASSES, size_of_class},
    owned::OwnedSlab,
    slab::lower,
};
use crate::{
    error::Result,
    layout::{SlabKind, SlabState},
    mapping::Mapping,
};
use std::{alloc::Layout, sync::atomic::Ordering::*};

/// No place in the cache.
const NONE: u32 = u32::MAX;
/// How many own slabs of a class a refill asks for remote frees before it takes another slab: so that
/// of so many slabs, one at most stays unused, and a thread with many does not look through all.
const LOOKS: usize = 16;

/// Everything a thread knows about its slabs. The magazines lie elsewhere, see [`Magazines`].
pub(crate) struct Cache {
    slot: usize,
    owned: Vec<OwnedSlab>,
    /// By slab: the place in `owned`, or `NONE`.
    place: Vec<u32>,
    /// By class: places of slabs with room.
    room: [Vec<u32>; CLASSES],
    /// By class: all slabs, and which of them was asked for remote frees last.
    of_class: [OfClass; CLASSES],
    /// Slabs that became wholly free, perhaps not for long.
    emptied: Vec<u32>,
    /// Refills that found no room since own slabs were last looked through for remote frees.
    since_drain: usize,
}

/// The slabs of one class.
#[derive(Default)]
struct OfClass {
    slabs: Vec<u32>,
    cursor: usize,
}

impl Cache {
    pub(crate) fn new(slot: usize) -> Self {
        Cache {
            slot,
            owned: Vec::new(),
            place: Vec::new(),
            room: [const { Vec::new() }; CLASSES],
            of_class: Default::default(),
            emptied: Vec::new(),
            since_drain: 0,
        }
    }

    /// Takes a block for `layout` out of the cache; it is not published yet. `None` means a span.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        mapping: &Mapping,
        magazines: &mut Magazines,
        layout: Layout,
    ) -> Result<Option<(u64, usize)>> {
        let Some(class) = magazines.class_for(layout) else {
            return Ok(None);
        };
        loop {
            if let Some(offset) = magazines.pop(class) {
                return Ok(Some((offset, class)));
            }
            self.refill(mapping, magazines, class)?;
        }
    }

    /// Puts a block of an own slab back, which is not published any more.
    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        mapping: &Mapping,
        magazines: &mut Magazines,
        offset: u64,
        class: usize,
    ) {
        if !magazines.push(class, offset) {
            self.flush(mapping, magazines, class);
            let pushed = magazines.push(class, offset);
            debug_assert!(pushed, "there is room after a flush");
        }
    }

    #[cold]
    #[inline(never)]
    fn refill(&mut self, mapping: &Mapping, magazines: &mut Magazines, class: usize) -> Result {
        if self.room[class].is_empty() {
            self.drain_some(mapping, class);
        }
        if self.room[class].is_empty() {
            self.drain_hinted(mapping);
        }
        if self.room[class].is_empty() {
            self.find_slab(mapping, magazines, class)?;
        }
        let place = *self.room[class].last().expect("a slab with room was found");
        let owned = &mut self.owned[place as usize];
        magazines.refill(class, |cells| owned.take_lowest(mapping, cells));
        if !owned.has_room() {
            owned.listed = false;
            self.room[class].pop();
        }
        Ok(())
    }

    /// Gives the older half of a magazine back to the private bitmaps.
    #[cold]
    #[inline(never)]
    fn flush(&mut self, mapping: &Mapping, magazines: &mut Magazines, class: usize) {
        let half = magazines.held(class).len().div_ceil(2);
        self.untake(mapping, &magazines.held(class)[..half], class);
        magazines.forget(class, half);
    }

    fn untake(&mut self, mapping: &Mapping, blocks: &[u64], class: usize) {
        for &offset in blocks {
            let slab = mapping.slab_of(offset);
            // In a damaged arena a block may have come from a slab that is not this cache's.
            let Some(place) = self.place_of(slab, class) else {
                continue;
            };
            let state = SlabState::new(SlabKind::Owned, class, self.slot, 0);
            let block = mapping.block_in(slab, state, offset);
            let owned = &mut self.owned[place as usize];
            owned.untake(block);
            if !owned.listed || owned.is_free() {
                self.list(place);
            }
        }
    }

    /// Where an own slab of that class is in `owned`.
    fn place_of(&self, slab: usize, class: usize) -> Option<u32> {
        let place = *self.place.get(slab)?;
        let owned = self.owned.get(place as usize)?;
        (owned.class as usize == class).then_some(place)
    }

    /// Puts a slab in which there is more room now into the lists that it belongs to.
    fn list(&mut self, place: u32) {
        let owned = &mut self.owned[place as usize];
        if owned.is_free() && !owned.emptied {
            owned.emptied = true;
            self.emptied.push(owned.slab);
        }
        if !owned.listed && owned.has_room() {
            owned.listed = true;
            self.room[owned.class as usize].push(place);
        }
    }

    /// Takes back what others freed in one of the next few slabs of the class, if they freed anything.
    fn drain_some(&mut self, mapping: &Mapping, class: usize) {
        if mapping.doubt(self.slot).remote_frees.load(Relaxed) == 0 {
            return;
        }
        for _ in 0..LOOKS.min(self.of_class[class].slabs.len()) {
            let OfClass { slabs, cursor } = &mut self.of_class[class];
            *cursor = if *cursor + 1 < slabs.len() {
                *cursor + 1
            } else {
                0
            };
            let slab = slabs[*cursor] as usize;
            if mapping.bits(slab).remote_hint.load(Relaxed) != 0 {
                self.drain_place(mapping, self.place[slab]);
            }
            if !self.room[class].is_empty() {
                return;
            }
        }
    }

    /// Takes back what others freed in own slabs of all classes, where they left a hint; not each time, so that
    /// looking through many slabs is paid for by many refills.
    fn drain_hinted(&mut self, mapping: &Mapping) {
        self.since_drain += 1;
        if self.since_drain * 16 < self.owned.len() {
            return;
        }
        self.since_drain = 0;
        mapping.doubt(self.slot).remote_frees.store(0, SeqCst);
        for place in 0..self.owned.len() {
            let slab = self.owned[place].slab as usize;
            if mapping.bits(slab).remote_hint.load(SeqCst) != 0 {
                self.drain_place(mapping, place as u32);
            }
        }
    }

    fn drain_place(&mut self, mapping: &Mapping, place: u32) {
        let owned = &mut self.owned[place as usize];
        let (slab, class) = (owned.slab as usize, owned.class as usize);
        let mut any = false;
        mapping.drain(slab, class, |word, bits| {
            owned.untake_word(word, bits);
            any = true;
        });
        if any {
            self.list(place);
        }
    }

    /// Finds a slab with room for the class: an abandoned one, a free one, a fresh one, at last an
    /// own one of another class that is empty.
    fn find_slab(&mut self, mapping: &Mapping, magazines: &mut Magazines, class: usize) -> Result {
        if self.adopt_any(mapping, class) {
            return Ok(());
        }
        match mapping.claim_run(1, self.slot) {
            Ok(slab) => {
                let owned = mapping.state(slab).next(SlabKind::Owned, class, self.slot);
                clear_bitmaps(mapping, slab);
                mapping.state_word(slab).store(owned.0, Release);
                self.own(mapping, slab, class);
                Ok(())
            }
            Err(error) => self.scrape(mapping, magazines, class).or(Err(error)),
        }
    }

    /// What is left when the arena is full: own slabs that others freed blocks in, own slabs of
    /// other classes that are empty, abandoned slabs that are.
    #[cold]
    fn scrape(&mut self, mapping: &Mapping, magazines: &mut Magazines, class: usize) -> Result {
        for place in 0..self.owned.len() {
            self.drain_place(mapping, place as u32);
        }
        self.empty_magazines(mapping, magazines, Some(class));
        if !self.room[class].is_empty() || self.reclass_own(mapping, class) {
            return Ok(());
        }
        if self.adopt_empty(mapping, class) {
            return Ok(());
        }
        Err(mapping.full(size_of_class(class)))
    }

    /// Gives an own slab that is wholly free to another class: one store, since no bit is set.
    fn reclass_own(&mut self, mapping: &Mapping, class: usize) -> bool {
        let found = self.owned.iter().position(|owned| {
            owned.is_free() && mapping.is_empty_slab(owned.slab as usize, owned.class as usize)
        });
        let Some(place) = found else {
            return false;
        };
        let slab = self.disown(place as u32);
        let state = mapping.state(slab).next(SlabKind::Owned, class, self.slot);
        mapping.state_word(slab).store(state.0, Release);
        self.own(mapping, slab, class);
        true
    }

    /// Adopts an abandoned slab of the class that has room.
    fn adopt_any(&mut self, mapping: &Mapping, class: usize) -> bool {
        if mapping.header().abandoned.load(Relaxed) == 0 {
            return false;
        }
        let mut seen = 0;
        for slab in 0..mapping.watermark() {
            let state = mapping.state(slab);
            seen += u64::from(state.is(SlabKind::Abandoned));
            if state.is(SlabKind::Abandoned)
                && state.class() == class
                && mapping.allocated_in(slab, class) < mapping.blocks_of(class)
                && self.adopt(mapping, slab, state)
                && !self.room[class].is_empty()
            {
                return true;
            }
        }
        if seen == 0 {
            mapping.header().abandoned.store(0, Relaxed);
        }
        false
    }

    /// Adopts an abandoned slab of whatever class that is empty, for `class`.
    fn adopt_empty(&mut self, mapping: &Mapping, class: usize) -> bool {
        for slab in 0..mapping.watermark() {
            let state = mapping.state(slab);
            if state.is(SlabKind::Abandoned)
                && mapping.allocated_in(slab, state.class()) == 0
                && self.adopt(mapping, slab, state)
                && self.reclass_own(mapping, class)
            {
                return true;
            }
        }
        false
    }

    fn adopt(&mut self, mapping: &Mapping, slab: usize, state: SlabState) -> bool {
        let class = state.class();
        let owned = state.next(SlabKind::Owned, class, self.slot);
        if !mapping.change(slab, state, owned) {
            return false;
        }
        lower(&mapping.header().abandoned, 1);
        mapping.drain(slab, class, |_, _| {});
        self.own(mapping, slab, class);
        true
    }

    /// Takes a slab into the cache that the state word says is ours.
    fn own(&mut self, mapping: &Mapping, slab: usize, class: usize) {
        let place = self.owned.len() as u32;
        if self.place.len() <= slab {
            self.place.resize(slab + 1, NONE);
        }
        self.place[slab] = place;
        let of_class = &mut self.of_class[class].slabs;
        let mut owned = OwnedSlab::new(mapping, slab, class, of_class.len());
        of_class.push(slab as u32);
        if owned.has_room() {
            owned.listed = true;
            self.room[class].push(place);
        }
        self.owned.push(owned);
    }

    /// Takes a slab out of the cache; its state word is still ours.
    fn disown(&mut self, place: u32) -> usize {
        let slab = self.owned[place as usize].slab as usize;
        let class = self.owned[place as usize].class as usize;
        self.room[class].retain(|&other| other != place);
        let rank = self.owned[place as usize].rank as usize;
        self.of_class[class].slabs.swap_remove(rank);
        if let Some(&moved) = self.of_class[class].slabs.get(rank) {
            let moved = self.place[moved as usize];
            self.owned[moved as usize].rank = rank as u32;
        }
        self.place[slab] = NONE;
        self.owned.swap_remove(place as usize);
        let moved = self.owned.len() as u32;
        if moved != place {
            let owned = &self.owned[place as usize];
            self.place[owned.slab as usize] = place;
            for other in &mut self.room[owned.class as usize] {
                if *other == moved {
                    *other = place;
                }
            }
        }
        slab
    }

    /// Gives slabs back that are wholly free. Only while the thread's journal is empty: it names
    /// blocks. Keeps one slab of each class, so that a thread at the edge does not thrash.
    #[inline]
    pub(crate) fn release_emptied(&mut self, mapping: &Mapping) {
        if !self.emptied.is_empty() {
            self.release_emptied_slow(mapping);
        }
    }

    #[cold]
    fn release_emptied_slow(&mut self, mapping: &Mapping) {
        for slab in std::mem::take(&mut self.emptied) {
            let place = self.place[slab as usize];
            if place == NONE {
                continue;
            }
            let owned = &mut self.owned[place as usize];
            owned.emptied = false;
            let class = owned.class as usize;
            let empty = owned.is_free();
            if empty && self.room[class].len() > 1 {
                self.disown(place);
                mapping.give_up_slab(slab as usize, self.slot);
            }
        }
    }

    /// Gives every slab back that is wholly free, also the last of its class. Only while the thread's
    /// journal is empty. Blocks that are reserved or used by the log keep theirs.
    pub(crate) fn release_empty(&mut self, mapping: &Mapping, magazines: &mut Magazines) {
        self.empty_magazines(mapping, magazines, None);
        for place in 0..self.owned.len() {
            self.drain_place(mapping, place as u32);
        }
        for place in (0..self.owned.len()).rev() {
            if self.owned[place].is_free() {
                let slab = self.disown(place as u32);
                mapping.give_up_slab(slab, self.slot);
            }
        }
        for slab in std::mem::take(&mut self.emptied) {
            if let Some(owned) = self.owned.get_mut(self.place[slab as usize] as usize) {
                owned.emptied = false;
            }
        }
    }

    /// Gives the blocks in the magazines back to the private bitmaps, but for those of one class.
    fn empty_magazines(
        &mut self,
        mapping: &Mapping,
        magazines: &mut Magazines,
        kept: Option<usize>,
    ) {
        for class in (0..CLASSES).filter(|&class| Some(class) != kept) {
            self.untake(mapping, magazines.held(class), class);
            magazines.forget(class, magazines.held(class).len());
        }
    }

    /// Gives every slab back. Only while the thread's journal is empty.
    pub(crate) fn release_all(&mut self, mapping: &Mapping, magazines: &mut Magazines) {
        for class in 0..CLASSES {
            magazines.forget(class, magazines.held(class).len());
        }
        for owned in std::mem::take(&mut self.owned) {
            mapping.give_up_slab(owned.slab as usize, self.slot);
        }
        self.place.clear();
        self.room = [const { Vec::new() }; CLASSES];
        self.of_class = Default::default();
        self.emptied.clear();
    }
}

/// A slab's bitmaps as a fresh slab has them.
fn clear_bitmaps(mapping: &Mapping, slab: usize) {
    let bitmaps = mapping.bitmaps(slab);
    bitmaps.bits.remote_hint.store(0, Relaxed);
    for word in bitmaps.published.iter().chain(bitmaps.remote) {
        if word.load(Relaxed) != 0 {
            word.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arena, RelPtr};
    use std::{alloc::Layout, sync::atomic::Ordering::*, thread};

    const COUNT: usize = 20_000;

    fn allocate(arena: &Arena) -> Vec<RelPtr<u8>> {
        let block = Layout::new::<[u64; 8]>();
        let blocks = (0..COUNT).map(|_| arena.alloc(block)?.into_raw());
        blocks.collect::<crate::Result<_>>().unwrap()
    }

    /// As after the death of somebody who was about to tell.
    #[test]
    fn what_others_freed_is_found_without_being_told() {
        let arena = Arena::in_memory().unwrap();
        let mapping = arena.mapping();
        let blocks = allocate(&arena);
        let before = mapping.watermark();
        thread::scope(|threads| {
            threads.spawn(|| {
                for block in blocks {
                    // SAFETY: just allocated, and used by nobody.
                    unsafe { arena.dealloc(block) }.unwrap();
                }
            });
        });
        for slot in 0..mapping.slots_high() {
            mapping.doubt(slot).remote_frees.store(0, SeqCst);
        }
        allocate(&arena);
        let after = mapping.watermark();
        // Each slab has a thousand of them.
        assert!(after <= before + 3, "{before} slabs, then {after}");
    }
}
