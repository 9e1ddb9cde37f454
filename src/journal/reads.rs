//! The cells in which threads say what they read, as others see them.
//!
//! A cell counts while its slot's thread lives. It is emptied by its thread; after a death by who
//! recovers the slot, before anybody else can get it (R6).

use crate::{
    layout::{LockWord, Readers, lock_of_cell},
    mapping::Mapping,
};
use std::sync::atomic::Ordering::*;

/// The slot's cells that may be in use.
fn cells<'m>(
    mapping: &'m Mapping,
    slot: usize,
    readers: &'m Readers,
) -> impl Iterator<Item = &'m LockWord> {
    // Behind the first ones only rarely is one.
    let further = match readers.further.load(Acquire) {
        0 => &[][..],
        count => {
            let cells = &mapping.slot(slot).reads;
            &cells[..cells.len().min(count as usize)]
        }
    };
    readers.cells.iter().chain(further)
}

/// The offsets in the slot's cells: of locks, unless the arena is damaged.
pub(crate) fn read_by(mapping: &Mapping, slot: usize) -> impl Iterator<Item = u64> {
    let readers = &mapping.readers(slot + 1)[slot];
    let offsets = cells(mapping, slot, readers).map(|cell| lock_of_cell(cell.0.load(Acquire)));
    offsets.filter(|&lock| lock != 0)
}

/// The cell in which the slot's thread says that it reads the lock, if it does.
pub(crate) fn cell_of(mapping: &Mapping, slot: usize, lock: u64) -> Option<&LockWord> {
    let readers = &mapping.readers(slot + 1)[slot];
    cells(mapping, slot, readers).find(|cell| lock_of_cell(cell.0.load(SeqCst)) == lock)
}

/// The first of the slots, from a number on, that has a cell for the lock.
///
/// Who has just taken the lock's word, and issued a full fence, misses no reader: one that stored its
/// cell too late to be seen here finds the word taken (L8).
#[inline]
pub(crate) fn next_reader(mapping: &Mapping, from: usize, lock: u64) -> Option<usize> {
    let readers = mapping.readers(mapping.slots_high());
    (from..readers.len()).find(|&slot| {
        let of = &readers[slot];
        let named = |cell: &LockWord| lock_of_cell(cell.0.load(SeqCst)) == lock;
        of.cells.iter().any(named)
            || of.further.load(SeqCst) != 0 && cell_of(mapping, slot, lock).is_some()
    })
}

/// Empties the cells of a slot that is dead, or that nobody has.
pub(crate) fn clear_reads(mapping: &Mapping, slot: usize) {
    let readers = &mapping.readers(slot + 1)[slot];
    for cell in readers.cells.iter().chain(&mapping.slot(slot).reads) {
        if cell.0.load(Relaxed) != 0 {
            cell.0.store(0, Release);
        }
    }
    readers.further.store(0, Release);
}
