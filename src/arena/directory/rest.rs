//! Whether nothing of a value that nobody has a handle of will be touched any more.

use crate::{
    journal,
    layout::{FROZEN_TAG, Tag, WAITERS_BIT},
    mapping::Mapping,
    share::Schema,
    walk::{Edge, Plan, Purpose, Visitor, Walk, block_at},
};
use std::{ops::Range, sync::atomic::Ordering::*};

/// Whether no living thread's section has a lock of the value, none reads one, and none has permits of
/// it.
///
/// A section has locks also when their guards and the handle have gone, and its journal names what
/// lies under them; a thread that forgot a permit gives it back when it ends. Both write to where
/// the value is.
///
/// Goes into no mutex but frozen ones: what lies in another is reached under its lock only, and so
/// no permits are taken there.
pub(super) fn is_at_rest(mapping: &Mapping, schema: &Schema, value: u64) -> bool {
    let visitor = Rest {
        mapping,
        no_lock: true,
        parts: Vec::new(),
    };
    let mut walk = Walk::new(mapping, visitor);
    let end = value.saturating_add(schema.root().size);
    walk.visitor.parts.push(value..end);
    walk.value(&Plan::new(schema, Purpose::Everything), 0, value);
    let Rest { no_lock, parts, .. } = walk.visitor;
    no_lock && !has_permits(mapping, &parts) && !is_read(mapping, &parts)
}

struct Rest<'m> {
    mapping: &'m Mapping,
    no_lock: bool,
    /// Where the value lies, with what it owns.
    parts: Vec<Range<u64>>,
}

impl Visitor for Rest<'_> {
    fn owned(&mut self, edge: Edge) {
        if let Some(block) = block_at(self.mapping, edge.block) {
            self.parts.push(block.offset..block.offset + block.size);
        }
    }

    fn mutex(&mut self, _at: u64, word: u64) -> bool {
        if word & !WAITERS_BIT == FROZEN_TAG {
            return true;
        }
        self.no_lock &= !Tag::of_word(word).is_some_and(|tag| self.holds(tag));
        false
    }
}

impl Rest<'_> {
    fn holds(&self, tag: Tag) -> bool {
        tag.slot() < self.mapping.geometry().slots
            && journal::tag_of(self.mapping, tag.slot()) == tag
    }
}

fn has_permits(mapping: &Mapping, parts: &[Range<u64>]) -> bool {
    (0..mapping.slots_high())
        .flat_map(|slot| &mapping.slot(slot).permits)
        .any(|cell| {
            let semaphore = cell.semaphore.load(Acquire);
            semaphore != 0 && parts.iter().any(|part| part.contains(&semaphore))
        })
}

/// Whether a cell names a lock in these parts: a section that reads it to its end still looks at it.
fn is_read(mapping: &Mapping, parts: &[Range<u64>]) -> bool {
    let is_inside = |lock: u64| parts.iter().any(|part| part.contains(&lock));
    let mut slots = journal::reserved_slots(mapping)..mapping.slots_high();
    slots.any(|slot| {
        !journal::is_dead(mapping, slot) && journal::read_by(mapping, slot).any(is_inside)
    })
}
