//! Who waits for whom: a thread that waits in a circle waits for ever.
//!
//! A thread that sleeps for a lock says so in its slot (`Slot.waits`). It waits for the thread that the
//! lock's word names; if that is itself, for those that read the lock.

use crate::{
    journal,
    layout::{PENDING_BIT, Tag, lock_of_cell},
    mapping::Mapping,
};
use std::sync::atomic::Ordering::*;

/// A thread that waits.
struct Waiting {
    slot: usize,
    /// The lock that it waits for.
    lock: u64,
    /// Which of those found before waits for this one.
    before: Option<usize>,
}

/// The locks in a circle of waiting that leads from `me`, which waits for the lock `wanted`, back to
/// it: that one first.
pub(super) fn find(mapping: &Mapping, me: Tag, wanted: u64) -> Option<Vec<u64>> {
    let mut found = vec![Waiting {
        slot: me.slot(),
        lock: wanted,
        before: None,
    }];
    let mut next = 0;
    while next < found.len() {
        for slot in who_has(mapping, &found[next]) {
            if slot == me.slot() {
                return Some(way_to(&found, next));
            }
            let lock = mapping.slot(slot).waits.load(Acquire);
            if lock != 0 && found.iter().all(|known| known.slot != slot) {
                found.push(Waiting {
                    slot,
                    lock,
                    before: Some(next),
                });
            }
        }
        next += 1;
    }
    None
}

/// The locks that the threads up to number `last` wait for.
fn way_to(found: &[Waiting], last: usize) -> Vec<u64> {
    let way = std::iter::successors(Some(last), |&number| found[number].before);
    let mut locks: Vec<_> = way.map(|number| found[number].lock).collect();
    locks.reverse();
    locks
}

/// The threads that somebody waits for.
fn who_has(mapping: &Mapping, waiting: &Waiting) -> Vec<usize> {
    match holder_of(mapping, waiting.lock) {
        Some(holder) if holder == waiting.slot => readers_of(mapping, waiting),
        Some(holder) => vec![holder],
        None => Vec::new(),
    }
}

fn holder_of(mapping: &Mapping, lock: u64) -> Option<usize> {
    if !lock.is_multiple_of(8) {
        return None;
    }
    // Nobody may wait for it any more: then its pages may have been given back.
    let holder = Tag::of_word(mapping.stale_word(lock)?)?;
    let slot = holder.slot();
    let holds = slot < mapping.geometry().slots && journal::tag_of(mapping, slot) == holder;
    holds.then_some(slot)
}

/// The others that read the lock, for sure.
fn readers_of(mapping: &Mapping, waiting: &Waiting) -> Vec<usize> {
    let reads = |&slot: &usize| {
        let cell = journal::cell_of(mapping, slot, waiting.lock);
        let cell = cell.map_or(0, |cell| cell.0.load(SeqCst));
        let sure = lock_of_cell(cell) == waiting.lock && cell & PENDING_BIT == 0;
        sure && slot != waiting.slot && !journal::is_dead(mapping, slot)
    };
    (0..mapping.slots_high()).filter(reads).collect()
}
