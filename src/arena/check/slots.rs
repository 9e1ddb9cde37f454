//! The slots of threads, and their journals.

use super::{Check, Kind};
use crate::{
    journal::{self, LogReader, doomed, reserved_slots},
    layout::{
        EntryKind, LogPosition, MutexHeader, Readers, SEGMENTS, SemaphoreHeader, Slot, Stamp, Tag,
    },
    walk,
};
use std::{mem::offset_of, sync::atomic::Ordering::*};

impl Check<'_> {
    pub(super) fn slots(&mut self) {
        for slot in 0..self.mapping.geometry().slots {
            self.slot(slot);
        }
    }

    fn slot(&mut self, index: usize) {
        let mapping = self.mapping;
        let slot = mapping.slot(index);
        let place = |field: usize| {
            mapping.geometry().slots_at + (index * mapping.geometry().page + field) as u64
        };
        let claimed = slot.claim.load(Acquire) != 0;
        if claimed && index >= mapping.slots_high() {
            self.wrong(
                Kind::Slot,
                place(offset_of!(Slot, claim)),
                format_args!(
                    "expected the slots from {} on to be unused, found slot {index} claimed",
                    mapping.slots_high()
                ),
            );
        }
        self.counters(index, &place);
        let lease = slot.lease.load(Acquire);
        self.tag(place(offset_of!(Slot, lease)), lease);
        let log = LogPosition(slot.log.load(Acquire));
        let doubt = mapping.doubt(index).block.load(Acquire);
        // A thread that is in a section, or died in one that nobody undid yet.
        let busy = claimed && index >= reserved_slots(mapping);
        if log.0 != 0 && !busy {
            self.wrong(
                Kind::Journal,
                place(offset_of!(Slot, log)),
                format_args!(
                    "expected the empty journal of a free slot, found {:#x}",
                    log.0
                ),
            );
        } else if log.0 != 0 {
            self.journal(index, place(offset_of!(Slot, log)), log);
        }
        if doubt != 0 && log.0 == 0 {
            self.wrong(
                Kind::Slot,
                mapping.geometry().doubts_at + (index * size_of::<crate::layout::Doubt>()) as u64,
                format_args!("expected no block in doubt without a journal, found {doubt:#x}"),
            );
        }
        self.permits(index, claimed);
        self.reads(index);
    }

    /// Numbers that only count up fit where they are used.
    fn counters(&mut self, index: usize, place: &dyn Fn(usize) -> u64) {
        let slot = self.mapping.slot(index);
        let counters = [
            (
                "serial",
                &slot.serial,
                Stamp::SERIAL_BITS,
                offset_of!(Slot, serial),
            ),
            (
                "generation",
                &slot.generation,
                Tag::GENERATION_BITS,
                offset_of!(Slot, generation),
            ),
        ];
        for (name, counter, bits, field) in counters {
            let found = counter.load(Acquire);
            // Half of the range: so far it never comes by itself.
            if found >> (bits - 1) != 0 {
                self.wrong(
                    Kind::Slot,
                    place(field),
                    format_args!("expected a {name} that is far from the end of its {bits} bits, found {found:#x}"),
                );
            }
        }
    }

    /// A journal that is not empty: its entries can be read to the first one.
    fn journal(&mut self, index: usize, at: u64, log: LogPosition) {
        if log.segment() > SEGMENTS {
            self.wrong(
                Kind::Journal,
                at,
                format_args!(
                    "expected at most {SEGMENTS} segments, found {}",
                    log.segment()
                ),
            );
            return;
        }
        let mut reader = LogReader::new(self.mapping, index);
        for found in reader.by_ref() {
            match found.entry.kind {
                EntryKind::Alloc | EntryKind::Free | EntryKind::AllocSpan | EntryKind::FreeSpan => {
                    self.journaled.insert(found.entry.offset);
                }
                EntryKind::GrowSpan => {
                    self.growing.insert(found.entry.offset);
                }
                EntryKind::Doom => {
                    if let Some((header, schema)) = doomed(self.mapping, &found) {
                        let owned = walk::owned(self.mapping, &schema, header);
                        let blocks = owned.into_iter().map(|edge| edge.block);
                        self.journaled.extend(blocks);
                    }
                }
                EntryKind::Byte | EntryKind::Undo => {}
            }
        }
        if let Some(left) = reader.unread() {
            self.wrong(
                Kind::Journal,
                at,
                format_args!(
                    "expected entries to the journal's begin, found none in the first {left} bytes"
                ),
            );
        }
    }

    /// What is read lies in the arena, and is read by a thread.
    fn reads(&mut self, index: usize) {
        let mapping = self.mapping;
        let at = mapping.geometry().readers_at + (index * size_of::<Readers>()) as u64;
        for lock in journal::read_by(mapping, index) {
            let place = mapping.address(lock, size_of::<MutexHeader>());
            // Asked now: who leaves a slot empties its cells before.
            if mapping.slot(index).claim.load(Acquire) == 0 {
                self.wrong(
                    Kind::Slot,
                    at,
                    format_args!("expected no read locks in a free slot, found that of {lock:#x}"),
                );
            } else if !lock.is_multiple_of(8) || place.is_none() {
                self.wrong(
                    Kind::Slot,
                    at,
                    format_args!("expected the cell of a lock, found the offset {lock:#x}"),
                );
            }
        }
    }

    /// Permits are held by a thread, and of a semaphore that lies in the arena.
    fn permits(&mut self, index: usize, claimed: bool) {
        let mapping = self.mapping;
        let at = mapping.geometry().slots_at + (index * mapping.geometry().page) as u64;
        for (cell, permit) in mapping.slot(index).permits.iter().enumerate() {
            let semaphore = permit.semaphore.load(Acquire);
            if semaphore == 0 {
                continue;
            }
            let place = mapping.address(semaphore, size_of::<SemaphoreHeader>());
            if !claimed {
                self.wrong(
                    Kind::Slot,
                    at,
                    format_args!(
                        "expected no permits in a free slot, found those of {semaphore:#x}"
                    ),
                );
            } else if !semaphore.is_multiple_of(8) || place.is_none() {
                self.wrong(
                    Kind::Slot,
                    at,
                    format_args!(
                        "expected permits of a semaphore in cell {cell}, found the offset \
                         {semaphore:#x}"
                    ),
                );
            }
        }
    }
}
