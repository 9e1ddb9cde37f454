//! Reading a dead slot's log, and doing what it says. Nothing read here is trusted.

use super::bury;
use crate::{
    heap::{Allocation, Block},
    layout::{
        Doom, Entry, EntryKind, INLINE_LOG, LogPosition, MAX_RECORD, SEGMENTS, SlabKind, SlabState,
    },
    mapping::Mapping,
    mutant::{self, Mutant},
    share::{self, Schema},
};
use std::{
    mem::offset_of,
    ptr::{self, NonNull},
    sync::atomic::{Ordering::*, compiler_fence},
};

/// Reads the entries of a slot's log from the last to the first.
pub(crate) struct LogReader<'m> {
    mapping: &'m Mapping,
    slot: usize,
    segment: usize,
    used: usize,
    /// Whether the slot's thread may be at work, and its segments go, and their pages with them.
    living: bool,
}

/// An entry and where it stands.
pub(crate) struct Found {
    pub(crate) entry: Entry,
    pub(crate) payload: NonNull<u8>,
    /// The position behind the entry.
    pub(crate) end: LogPosition,
}

impl Found {
    /// A word of the payload; 0 beyond its end.
    fn word(&self, index: usize) -> u64 {
        if (index + 1) * 8 > self.entry.len {
            return 0;
        }
        // SAFETY: the payload is `len` bytes inside a log segment (checked by the reader), which
        // nobody writes while its slot is dead and leased.
        unsafe { self.payload.cast::<u64>().add(index).read_unaligned() }
    }
}

impl<'m> LogReader<'m> {
    /// Starts at the end of the slot's log.
    pub(crate) fn new(mapping: &'m Mapping, slot: usize) -> Self {
        let position = LogPosition(mapping.slot(slot).log.load(Acquire));
        LogReader {
            mapping,
            slot,
            segment: position.segment(),
            used: position.used(),
            living: false,
        }
    }

    /// The same for who has no right to stop the slot's thread. Only the entries may be looked at, not what
    /// belongs to them.
    pub(crate) fn of_the_living(mapping: &'m Mapping, slot: usize) -> Self {
        LogReader {
            living: true,
            ..LogReader::new(mapping, slot)
        }
    }

    /// The position behind the entry that comes next: the end of what was not read yet.
    fn position(&self) -> LogPosition {
        LogPosition::new(self.segment, self.used)
    }

    /// The bytes of the present segment that could not be read as entries, at the end of the walk;
    /// `None` if it came to the begin of the log.
    pub(crate) fn unread(&self) -> Option<usize> {
        (self.segment != 0 || self.used != 0).then_some(self.used)
    }

    /// Where a segment lies and how long it is; `None` if the slot says nonsense.
    fn segment(&self, index: usize) -> Option<(NonNull<u8>, usize)> {
        if index == 0 {
            let at = self.mapping.geometry().slots_at
                + (self.slot * self.mapping.geometry().page
                    + offset_of!(crate::layout::Slot, inline)) as u64;
            let place = self.mapping.anywhere(at, INLINE_LOG)?;
            return Some((place, INLINE_LOG));
        }
        let segment = self.mapping.slot(self.slot).segments.get(index - 1)?;
        let size = segment.size.load(Relaxed) as usize;
        let place = self.mapping.address(segment.offset.load(Relaxed), size)?;
        Some((place, size))
    }
}

impl Iterator for LogReader<'_> {
    type Item = Found;

    /// The entry before the last one returned. Ends early at an entry that makes no sense.
    fn next(&mut self) -> Option<Found> {
        while self.used == 0 {
            if self.segment == 0 || self.segment > SEGMENTS {
                return None;
            }
            let segment = &self.mapping.slot(self.slot).segments[self.segment - 1];
            self.used = segment.before.load(Relaxed) as usize;
            self.segment -= 1;
        }
        let (place, size) = self.segment(self.segment)?;
        if self.used > size || self.used < 8 || !self.used.is_multiple_of(8) {
            return None;
        }
        // SAFETY: `8 <= used <= size`, inside the segment.
        let place_of_word = unsafe { place.add(self.used - 8) };
        let word = if self.living && self.segment != 0 {
            let base = self.mapping.base().addr();
            let offset = place_of_word.addr().get() - base;
            self.mapping.stale_word(offset as u64)?
        } else {
            // SAFETY: as above; there is memory behind it.
            unsafe { place_of_word.cast::<u64>().read_unaligned() }
        };
        let entry = Entry::decode(word)?;
        let end = LogPosition::new(self.segment, self.used);
        self.used = self.used.checked_sub(entry.size())?;
        // SAFETY: `used` is still inside the segment.
        let payload = unsafe { place.add(self.used) };
        Some(Found {
            entry,
            payload,
            end,
        })
    }
}

/// Undoes what an open section did: bytes in reverse, new blocks freed.
pub(super) fn roll_back(mapping: &Mapping, slot: usize) {
    if mutant::is(Mutant::KeepLog) {
        for found in LogReader::new(mapping, slot) {
            undo(mapping, slot, &found);
        }
        return;
    }
    while undo_last(mapping, slot).is_some() {}
}

/// What the undoing of an entry set free.
pub(crate) enum Undone {
    /// A block of a slab of the slot's own.
    Block(Block),
    /// Nothing, or what belongs to nobody now.
    Else,
}

/// Undoes the log's last entry, then takes it off. `None` if there is none.
///
/// No entry may be undone again once those before it were: undoing an allocation gives slabs to
/// whoever wants them, and bytes in them must not be restored any more; and a block that was freed
/// in the section may have become a segment of this very log, in which older entries restore bytes.
pub(crate) fn undo_last(mapping: &Mapping, slot: usize) -> Option<Undone> {
    let mut log = LogReader::new(mapping, slot);
    let found = log.next()?;
    let undone = undo(mapping, slot, &found);
    compiler_fence(SeqCst);
    mapping.slot(slot).log.store(log.position().0, Release);
    Some(undone)
}

/// Undoes one entry.
fn undo(mapping: &Mapping, slot: usize, found: &Found) -> Undone {
    let offset = found.entry.offset;
    let mut undone = Undone::Else;
    match found.entry.kind {
        EntryKind::Byte => restore_byte(mapping, found),
        EntryKind::Undo => restore(mapping, found),
        EntryKind::Alloc => {
            if let Some(block) = unpublish_own(mapping, slot, offset) {
                undone = Undone::Block(block);
            }
        }
        EntryKind::AllocSpan => {
            let (count, claimed) = (found.word(0) as u32 as usize, found.word(0) >> 32);
            if let Some(head) = head_at(mapping, offset) {
                mapping.undo_span(head, count, claimed as u32, slot);
            }
        }
        EntryKind::GrowSpan => {
            let (before, after) = (found.word(0) as usize, found.word(1) as usize);
            if let Some(head) = head_at(mapping, offset) {
                mapping.undo_growth(head, before, after, slot);
            }
        }
        EntryKind::Free | EntryKind::FreeSpan | EntryKind::Doom => {}
    }
    mutant::here("an entry was undone");
    undone
}

/// Does the frees that a committed section has not done yet.
pub(super) fn finish(mapping: &Mapping, slot: usize) {
    let stored = mapping.slot(slot);
    let done = stored.done.load(Acquire);
    for found in LogReader::new(mapping, slot) {
        if done != 0 && found.end.0 >= done {
            continue;
        }
        let offset = found.entry.offset;
        match found.entry.kind {
            EntryKind::Free => {
                free_block(mapping, slot, offset);
                stored.done.store(found.end.0, Release);
            }
            EntryKind::FreeSpan => {
                if let Some(head) = head_at(mapping, offset) {
                    mapping.free_span(head, SlabState(found.word(0)), slot);
                }
            }
            EntryKind::Doom => {
                if let Some((header, schema)) = doomed(mapping, &found) {
                    bury::bury(mapping, slot, header, &schema, |block| {
                        free_owned(mapping, slot, block);
                    });
                }
                stored.done.store(found.end.0, Release);
            }
            _ => {}
        }
    }
}

/// Where the header that an entry dooms was copied to, and its type.
pub(crate) fn doomed(mapping: &Mapping, found: &Found) -> Option<(u64, Schema)> {
    if found.entry.len < size_of::<Doom>() {
        return None;
    }
    let (at, len) = (found.word(0), found.word(1) as usize);
    let bytes = mapping.anywhere(at, len.min(MAX_RECORD))?;
    // SAFETY: checked to lie in committed memory; a log that nobody writes meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), len.min(MAX_RECORD)) };
    let schema = share::decode(bytes).ok()?;
    let payload = found.payload.as_ptr().addr() - mapping.base().addr();
    Some(((payload + offset_of!(Doom, header)) as u64, schema))
}

/// Frees a block or a span that a doomed container owned.
fn free_owned(mapping: &Mapping, slot: usize, offset: u64) {
    match mapping.find(offset) {
        Ok(Allocation::Span { head, state }) => {
            mapping.free_span(head, state, slot);
        }
        Ok(Allocation::Block { .. }) => free_block(mapping, slot, offset),
        Err(_) => {}
    }
}

pub(super) fn head_at(mapping: &Mapping, offset: u64) -> Option<usize> {
    let slab = mapping.slab_of(offset);
    let exact = offset >= mapping.geometry().data_at && slab < mapping.committed();
    (exact && mapping.slab_at(slab) == offset).then_some(slab)
}

/// Puts old bytes back.
fn restore(mapping: &Mapping, found: &Found) {
    let Some(place) = mapping.anywhere(found.entry.offset, found.entry.len) else {
        return;
    };
    // SAFETY: both ranges were checked to lie inside the mapping; a section that died holds the
    // locks over the bytes it recorded until its generation moves on (R2), so nobody else uses
    // them. `copy` allows what only a damaged log can cause: that they overlap.
    unsafe { ptr::copy(found.payload.as_ptr(), place.as_ptr(), found.entry.len) };
    compiler_fence(SeqCst);
}

/// Puts an old byte back.
fn restore_byte(mapping: &Mapping, found: &Found) {
    let Some(place) = mapping.anywhere(found.entry.offset, 1) else {
        return;
    };
    // SAFETY: as for `restore`.
    unsafe { place.write(found.entry.len as u8) };
    compiler_fence(SeqCst);
}

/// Takes a block back that the section allocated; those lie in the slot's own slabs. None if it was
/// freed in the section already.
///
/// The slab may have changed its class in the section, which needs it to be empty: then every bit
/// of it is the section's, and whichever is cleared for this entry is to be cleared anyway.
fn unpublish_own(mapping: &Mapping, slot: usize, offset: u64) -> Option<Block> {
    let (block, state) = mapping.block_around(offset)?;
    (state.is_by(SlabKind::Owned, slot) && mapping.unpublish(block)).then_some(block)
}

/// Frees a small block on behalf of a slot. Repeating it is harmless (J9).
pub(super) fn free_block(mapping: &Mapping, slot: usize, offset: u64) {
    let Some((block, state)) = mapping.block_around(offset) else {
        return;
    };
    if state.is_by(SlabKind::Owned, slot) {
        mapping.unpublish(block);
    } else {
        if !mutant::is(Mutant::NoDoubt) {
            mapping.doubt(slot).block.store(offset, Release);
        }
        mapping.free_remotely(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, collections::Vec, journal::reserved_slots, sync::Mutex};

    type Lists = Mutex<Vec<Vec<u64>>>;

    fn root(arena: &Arena) -> crate::Root<Lists> {
        arena.root::<Lists>("lists").unwrap()
    }

    /// An arena in the midst of a section whose log has a segment in a block that the section
    /// itself had and freed, and in which its log restores bytes.
    fn long_section() -> std::vec::Vec<u8> {
        let arena = Arena::options().max_size(256 << 20).in_memory().unwrap();
        let lists = root(&arena);
        let mut guard = lists.lock().unwrap();
        for at in 0..4 {
            guard.push(Vec::new()).unwrap();
            for _ in 0..500 {
                guard[at].push(1).unwrap();
            }
        }
        guard.commit().unwrap();
        // A block of the size that segments have, which headers are recorded in; then a larger one.
        guard
            .reserve_exact(8192 / size_of::<Vec<u64>>() - 4)
            .unwrap();
        guard.push(Vec::new()).unwrap();
        guard[4].push(7).unwrap();
        guard.reserve_exact(1000).unwrap();
        // Outgrows the slot's part of the log.
        for list in guard.iter_mut().take(4) {
            for value in list.iter_mut() {
                *value = 2;
            }
        }
        let dead = busy_slot(&arena);
        let log = LogPosition(arena.mapping().slot(dead).log.load(Acquire));
        assert!(log.segment() > 0 && !log.committed());
        arena.image()
    }

    fn busy_slot(arena: &Arena) -> usize {
        let mapping = arena.mapping();
        (reserved_slots(mapping)..mapping.slots_high())
            .find(|&slot| mapping.slot(slot).log.load(Acquire) != 0)
            .expect("somebody is in a section")
    }

    /// However far a recoverer came that was killed, the next one goes on from there.
    #[test]
    fn a_rollback_goes_on_where_the_last_one_was_killed() {
        let image = long_section();
        for killed_after in 0.. {
            let mut options = Arena::options();
            options.max_size(256 << 20).leave_the_dead(true);
            let arena = options.from_image(&image).unwrap();
            let dead = busy_slot(&arena);
            let undone = (0..killed_after)
                .take_while(|_| undo_last(arena.mapping(), dead).is_some())
                .count();
            arena.reap().unwrap();
            let lists = root(&arena);
            let guard = lists.lock().unwrap();
            assert_eq!(guard.len(), 4, "killed after {killed_after} entries");
            assert!(guard.iter().all(|list| list.len() == 500));
            assert!(guard.iter().flatten().all(|&value| value == 1));
            drop(guard);
            assert!(arena.check().is_clean(), "{}", arena.check());
            if undone < killed_after {
                return;
            }
        }
    }
}
