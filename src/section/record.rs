//! The log of the open section, as its thread writes it: old bytes are recorded before they are
//! overwritten, and each entry becomes valid by one store (J1).

use super::{Ctx, Writer};
use crate::{
    error::{Rare, Result, unbox},
    layout::{Entry, EntryKind, MAX_RECORD},
    mutant::{self, Mutant},
    share::Share,
};
use std::{
    ptr,
    sync::atomic::{Ordering::*, compiler_fence},
};

impl Writer {
    /// Whether the bytes lie in the range that was recorded last: then they need no other record.
    #[inline(always)]
    pub(crate) fn just_recorded<T: ?Sized>(&self, place: *const T, len: usize) -> bool {
        let (ctx, from) = (self.ctx(), place.cast::<u8>());
        let inside = from >= ctx.recorded_from && from.wrapping_add(len) <= ctx.recorded_to;
        // What asks for it shall take the same way in a build without a journal.
        !mutant::JOURNAL || inside
    }

    /// Records `len` bytes at `place`: a death from here on puts them back.
    ///
    /// # Errors
    ///
    /// When the log cannot grow: nothing is changed then.
    #[inline(always)]
    pub(crate) fn record<T: ?Sized>(&self, place: *const T, len: usize) -> Result {
        self.record_of(place, len, false)
    }

    /// The same for bytes in which no container lies, if it is a `leaf`: what was recorded before is
    /// not forgotten for it.
    ///
    /// # Errors
    ///
    /// As [`record`](Writer::record).
    #[inline(always)]
    pub(crate) fn record_of<T: ?Sized>(&self, place: *const T, len: usize, leaf: bool) -> Result {
        if !mutant::JOURNAL {
            return Ok(());
        }
        let ctx = self.ctx_mut();
        if mutant::is(Mutant::NoRecord) {
            ctx.note_recorded(place.cast(), len);
            return Ok(());
        }
        if ctx.flags.is_plural() {
            ctx.forget_locks_in(place.addr(), place.addr() + len);
        }
        let whole = len.next_multiple_of(8) + 8;
        if whole > MAX_RECORD || ctx.next.wrapping_add(whole) > ctx.end {
            return unbox(self.record_slow(place.cast(), len));
        }
        // SAFETY: there is room for the entry, and the caller names bytes of the arena.
        unsafe { ctx.append_undo(place.cast(), len) };
        if !leaf {
            ctx.note_recorded(place.cast(), len);
        }
        Ok(())
    }

    /// Records a word where nobody can be told that it cannot be: also with what is held back for drops.
    pub(crate) fn record_at_last<T>(&self, place: *const T) {
        const { assert!(size_of::<T>() <= 8) };
        if self.record(place, size_of::<T>()).is_err() && self.reserve_for_drop(16) {
            // SAFETY: there is room for the entry, and the caller names a word of the arena.
            unsafe { self.ctx_mut().append_undo(place.cast(), size_of::<T>()) };
        }
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
            return unbox(self.record_slow(place, 1));
        }
        // SAFETY: there is room for the entry, as they and segments are aligned to 8, and the caller
        // names a byte of the arena.
        unsafe { ctx.make_valid(ctx.write_byte(ctx.next, place)) };
        Ok(())
    }

    /// Records a value and one byte elsewhere, in which no locks lie: both at once.
    ///
    /// # Errors
    ///
    /// As [`record`](Writer::record).
    #[inline(always)]
    pub(crate) fn record_with_byte<T>(&self, value: *const T, byte: *const u8) -> Result {
        if !mutant::JOURNAL || mutant::is(Mutant::NoRecord) {
            return Ok(());
        }
        let ctx = self.ctx_mut();
        let whole = size_of::<T>().next_multiple_of(8) + 16;
        if whole > MAX_RECORD || ctx.next.wrapping_add(whole) > ctx.end {
            self.record(value, size_of::<T>())?;
            return self.record_byte(byte);
        }
        // SAFETY: there is room for both entries, and the caller names a value and a byte of the arena.
        unsafe {
            let behind = ctx.write_undo(ctx.next, value.cast(), size_of::<T>());
            ctx.make_valid(ctx.write_byte(behind, byte));
        }
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
            return self.record_something(place);
        }
        for index in 0..count {
            let value = place.wrapping_add(index).cast::<u8>();
            for part in parts.iter() {
                self.record(value.wrapping_add(part.start), part.len())?;
            }
        }
        Ok(())
    }

    /// Records no bytes, if nothing was recorded yet: a section whose stamp a header bears has something
    /// in the log, or else its stamp would be the next one's, too (J2).
    fn record_something<T: ?Sized>(&self, place: *const T) -> Result {
        if self.ctx().log_is_empty() {
            return self.record(place, 0);
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
    #[inline(never)]
    fn record_slow(&self, place: *const u8, len: usize) -> Rare {
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
            ctx.note_recorded(place.wrapping_add(done), piece);
            done += piece;
        }
        Ok(())
    }

    /// Makes sure that the log has room for an entry of so many bytes.
    pub(super) fn reserve_bytes(&self, bytes: usize) -> Result {
        let ctx = self.ctx();
        if mutant::JOURNAL && ctx.end.addr() - ctx.next.addr() < bytes {
            return unbox(self.grow_log(bytes));
        }
        Ok(())
    }

    /// Makes sure that the log has room for `entries` entries without long payloads.
    #[inline(always)]
    pub(crate) fn reserve(&self, entries: usize) -> Result {
        let ctx = self.ctx();
        if mutant::JOURNAL && ctx.end.addr() - ctx.next.addr() < entries * 24 {
            return unbox(self.grow_log(entries * 24));
        }
        Ok(())
    }

    /// The same for an entry without payload.
    #[inline(always)]
    pub(super) fn reserve_short(&self) -> Result {
        let ctx = self.ctx();
        if mutant::JOURNAL && ctx.next == ctx.end {
            return unbox(self.grow_log(8));
        }
        Ok(())
    }

    /// Appends an entry with up to two words of payload, for which there is room.
    #[inline(always)]
    pub(super) fn append<const WORDS: usize>(
        &self,
        kind: EntryKind,
        offset: u64,
        payload: [u64; WORDS],
    ) {
        if mutant::JOURNAL {
            debug_assert!(self.ctx().end.addr() - self.ctx().next.addr() >= WORDS * 8 + 8);
            // SAFETY: there is room at the cursor, by contract.
            unsafe { self.append_at(self.ctx().next, kind, offset, payload) };
        }
    }

    /// Appends an entry without payload.
    ///
    /// # Errors
    ///
    /// When the log cannot grow: nothing is changed then.
    #[inline(always)]
    pub(super) fn append_short(&self, kind: EntryKind, offset: u64) -> Result {
        if !mutant::JOURNAL {
            return Ok(());
        }
        let mut cursor = self.ctx().next;
        if cursor == self.ctx().end {
            unbox(self.grow_log_for_a_word())?;
            cursor = self.ctx().next;
        }
        // SAFETY: there is room for one word, since entries and segments are aligned to 8.
        unsafe { self.append_at(cursor, kind, offset, []) };
        Ok(())
    }

    /// # Safety
    ///
    /// `cursor` is the log's, and there is room for the entry.
    #[inline(always)]
    unsafe fn append_at<const WORDS: usize>(
        &self,
        cursor: *mut u8,
        kind: EntryKind,
        offset: u64,
        payload: [u64; WORDS],
    ) {
        let entry = Entry {
            kind,
            len: WORDS * 8,
            offset,
        };
        // SAFETY: by contract; segments are aligned to 8, and so are entries.
        unsafe {
            cursor.cast::<[u64; WORDS]>().write(payload);
            let behind = cursor.add(WORDS * 8).cast::<u64>();
            behind.write(entry.encode());
            self.ctx_mut().make_valid(behind.add(1).cast());
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
}

impl Ctx {
    #[inline(always)]
    fn offset_of<T: ?Sized>(&self, place: *const T) -> u64 {
        (place.addr() - self.base().addr()) as u64
    }

    /// Notes which range was recorded last.
    #[inline(always)]
    fn note_recorded(&mut self, from: *const u8, len: usize) {
        self.recorded_from = from;
        self.recorded_to = from.wrapping_add(len);
    }

    /// Appends an undo entry.
    ///
    /// # Safety
    ///
    /// There is room for it, and `place` names `len` bytes of the arena.
    #[inline(always)]
    unsafe fn append_undo(&mut self, place: *const u8, len: usize) {
        // SAFETY: by contract; entries are appended at the cursor.
        let behind = unsafe { self.write_undo(self.next, place, len) };
        self.make_valid(behind);
    }

    /// Writes an undo entry at `to`, which is not valid yet. Gives what is behind it.
    ///
    /// # Safety
    ///
    /// `to` is a place for entries in the log, with room for it, and `place` names `len` bytes of the
    /// arena.
    #[inline(always)]
    unsafe fn write_undo(&self, to: *mut u8, place: *const u8, len: usize) -> *mut u8 {
        let entry = Entry {
            kind: EntryKind::Undo,
            len,
            offset: self.offset_of(place),
        };
        // SAFETY: by contract; the log and the arena's data do not overlap; segments are aligned to 8,
        // and so are entries.
        unsafe {
            ptr::copy_nonoverlapping(place, to, len);
            let behind = to.add(len.next_multiple_of(8));
            behind.cast::<u64>().write(entry.encode());
            behind.add(8)
        }
    }

    /// The same for a byte.
    ///
    /// # Safety
    ///
    /// As [`write_undo`](Ctx::write_undo).
    #[inline(always)]
    unsafe fn write_byte(&self, to: *mut u8, place: *const u8) -> *mut u8 {
        // SAFETY: by contract.
        unsafe {
            let entry = Entry {
                kind: EntryKind::Byte,
                len: usize::from(place.read()),
                offset: self.offset_of(place),
            };
            to.cast::<u64>().write(entry.encode());
            to.add(8)
        }
    }

    /// Makes everything up to the cursor's new place valid, by one store. What the section writes
    /// comes later.
    #[inline(always)]
    pub(super) fn make_valid(&mut self, next: *mut u8) {
        self.next = next;
        compiler_fence(SeqCst);
        if mutant::is(Mutant::NoJournal) {
            return;
        }
        self.slot().log.store(self.position().0, Release);
        compiler_fence(SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Arena,
        collections::Vec,
        journal::{LogReader, reserved_slots},
        section::Writer,
        share::Unlogged,
        sync::Mutex,
    };

    #[test]
    fn what_was_recorded_last_is_known_to_the_byte() {
        let arena = Arena::in_memory().unwrap();
        let numbers = arena.root::<Mutex<[u64; 8]>>("numbers").unwrap();
        let mut guard = numbers.lock().unwrap();
        let first = guard.as_mut_ptr().cast::<u8>().cast_const();
        let at = |offset: isize| first.wrapping_offset(offset);
        let writer = Writer::at(first).unwrap();
        // All of it, by lending it just now.
        for (offset, len, recorded) in [
            (0, 64, true),
            (0, 8, true),
            (56, 8, true),
            (63, 1, true),
            (64, 0, true),
            (-1, 1, false),
            (-8, 16, false),
            (57, 8, false),
            (0, 65, false),
            (64, 1, false),
        ] {
            let found = writer.just_recorded(at(offset), len);
            assert_eq!(found, recorded, "{offset} {len}");
        }
        writer.record_of(at(8), 8, true).unwrap();
        assert!(writer.just_recorded(at(0), 64), "a leaf is not noted");
        writer.record(at(8), 8).unwrap();
        assert!(writer.just_recorded(at(8), 8) && !writer.just_recorded(at(0), 8));
        guard.commit().unwrap();
        assert!(!writer.just_recorded(at(8), 8));
        assert!(!writer.just_recorded(at(8), 0));
    }

    #[test]
    fn unlogged_elements_leave_no_entries() {
        let arena = Arena::in_memory().unwrap();
        let list = arena.root::<Mutex<Vec<Unlogged<u64>>>>("list").unwrap();
        list.lock().unwrap().resize(10, Unlogged(0)).unwrap();
        let mut guard = list.lock().unwrap();
        for index in 0..1000 {
            guard[index % 10].0 += 1;
        }
        let mapping = arena.mapping();
        let slots = reserved_slots(mapping)..mapping.slots_high();
        let entries = slots.flat_map(|slot| LogReader::new(mapping, slot)).count();
        assert_eq!(entries, 1, "the vector's header");
        drop(guard);
        assert!(list.lock().unwrap().iter().all(|count| count.0 == 100));
    }
}
