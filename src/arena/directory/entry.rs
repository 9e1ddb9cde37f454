//! The entries of the directory, read without trusting them.

use crate::{
    arena::{RootInfo, process},
    error::{Error, Result},
    layout::{BUCKETS, RootEntry, root_state},
    mapping::Mapping,
    share::Schema,
};
use std::{
    alloc::Layout,
    slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
};

/// The longest name of a root.
pub(super) const LONGEST_NAME: usize = 255;

/// An entry that was checked to lie in the arena with all that belongs to it.
#[derive(Clone, Copy)]
pub(in crate::arena) struct Entry<'m> {
    pub(in crate::arena) offset: u64,
    mapping: &'m Mapping,
    /// As they were when they were checked.
    users: usize,
    name_len: usize,
    pub(super) fixed: &'m RootEntry,
}

impl<'m> Entry<'m> {
    /// The entry at an offset, if there can be one.
    pub(in crate::arena) fn at(mapping: &'m Mapping, offset: u64) -> Option<Self> {
        let place = mapping.address(offset, size_of::<RootEntry>())?;
        if !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: checked to lie in the arena, aligned; its fields are numbers and atomics, which
        // are constant or change under the directory's lock.
        let fixed = unsafe { place.cast::<RootEntry>().as_ref() };
        let (users, name_len) = (fixed.users as usize, fixed.name_len as usize);
        if users > 1 << 16 || name_len > LONGEST_NAME {
            return None;
        }
        mapping.address(offset, entry_size(users, name_len))?;
        Some(Entry {
            offset,
            mapping,
            users,
            name_len,
            fixed,
        })
    }

    pub(in crate::arena) fn name(&self) -> &'m [u8] {
        let from = self.offset + users_end(self.users) as u64;
        let len = self.name_len;
        let place = self.mapping.address(from, len);
        // SAFETY: `at` checked that the name lies in the arena; it is never changed.
        place.map_or(&[], |place| unsafe {
            slice::from_raw_parts(place.as_ptr(), len)
        })
    }

    pub(in crate::arena) fn is_linked(&self) -> bool {
        self.fixed.state.load(Acquire) == root_state::LINKED
    }

    /// Whether its state is one of those that there are.
    pub(in crate::arena) fn has_state(&self) -> bool {
        let state = self.fixed.state.load(Acquire);
        [root_state::LINKED, root_state::REMOVED].contains(&state)
    }

    /// Bytes of the entry with all that belongs to it.
    pub(in crate::arena) fn size(&self) -> u64 {
        entry_size(self.users, self.name_len) as u64
    }

    /// How many processes there is room for.
    pub(in crate::arena) fn users(&self) -> u64 {
        self.users as u64
    }

    pub(in crate::arena) fn value_size(&self) -> u64 {
        self.fixed.size
    }

    pub(in crate::arena) fn next(&self) -> u64 {
        self.fixed.next.load(Acquire)
    }

    pub(in crate::arena) fn value(&self) -> u64 {
        self.fixed.value
    }

    pub(in crate::arena) fn number(&self) -> u64 {
        self.fixed.number
    }

    pub(in crate::arena) fn schema_block(&self) -> u64 {
        self.fixed.schema
    }

    pub(in crate::arena) fn schema_bytes(&self) -> Option<&'m [u8]> {
        let len = usize::try_from(self.fixed.schema_len).ok()?;
        let place = self.mapping.address(self.fixed.schema, len)?;
        // SAFETY: checked to lie in the arena; a schema is never changed.
        Some(unsafe { slice::from_raw_parts(place.as_ptr(), len) })
    }

    /// The type, and that the value it describes lies in the arena.
    pub(in crate::arena) fn schema(&self) -> Result<Schema, String> {
        let bytes = self.schema_bytes().ok_or("its schema leads nowhere")?;
        let schema = crate::share::decode(bytes)?;
        let root = schema.root();
        let layout = Layout::from_size_align(root.size as usize, root.align.max(1) as usize);
        let layout = layout.map_err(|_| "its type has no layout")?;
        self.check_value(layout)?;
        Ok(schema)
    }

    /// That the value, which is to be laid out like this, lies in the arena.
    pub(super) fn check_value(&self, layout: Layout) -> Result<(), String> {
        let inside = self.mapping.address(self.value(), layout.size()).is_some();
        let aligned = self.value().is_multiple_of(layout.align() as u64);
        if layout.size() as u64 != self.fixed.size || !inside || !aligned {
            return Err("its value does not lie in the arena".into());
        }
        Ok(())
    }

    pub(super) fn cell(&self, process: usize) -> Option<&'m AtomicU32> {
        user_cell(self.mapping, self.offset, process)
    }

    /// Whether some process that is still there has a handle.
    pub(super) fn is_used(&self) -> bool {
        (0..self.users).any(|process| {
            self.cell(process)
                .is_some_and(|cell| cell.load(Acquire) != 0)
                && !process::is_gone(self.mapping, process)
        })
    }

    pub(super) fn info(&self) -> Result<RootInfo> {
        let name = String::from_utf8_lossy(self.name()).into_owned();
        let schema = self
            .schema()
            .map_err(|why| Error::damaged(format!("the root {name:?}: {why}")))?;
        Ok(RootInfo {
            type_name: schema.to_string(),
            name,
            offset: self.value(),
            size: self.fixed.size,
            number: self.number(),
        })
    }
}

/// The counter of a process's handles of a root.
pub(in crate::arena) fn user_cell(
    mapping: &Mapping,
    entry: u64,
    process: usize,
) -> Option<&AtomicU32> {
    let at = entry + (size_of::<RootEntry>() + process * 4) as u64;
    let place = mapping.address(at, 4)?;
    // SAFETY: checked to lie in the arena, and aligned, since entries are; atomic.
    Some(unsafe { place.cast::<AtomicU32>().as_ref() })
}

pub(super) fn users_end(users: usize) -> usize {
    size_of::<RootEntry>() + (users * 4).next_multiple_of(8)
}

pub(super) fn entry_size(users: usize, name: usize) -> usize {
    users_end(users) + name
}

/// The number of the list that a name belongs to.
pub(in crate::arena) fn bucket_of(name: &[u8]) -> usize {
    rapidhash::v3::rapidhash_v3(name) as usize % BUCKETS
}

/// The list that a name belongs to.
pub(super) fn bucket<'m>(mapping: &'m Mapping, name: &[u8]) -> &'m AtomicU64 {
    &mapping.header().buckets[bucket_of(name)]
}

/// Notices a list that leads back into itself: no more than some three times as many steps are
/// made in it as it has entries.
#[derive(Default)]
pub(super) struct Circle {
    /// An entry that was passed, which a circle leads to again.
    anchor: u64,
    steps: u64,
    limit: u64,
}

impl Circle {
    /// Whether the list came to an entry again. Called with each.
    pub(super) fn closes(&mut self, entry: u64) -> bool {
        if entry == self.anchor {
            return true;
        }
        self.steps += 1;
        if self.steps > self.limit {
            self.anchor = entry;
            self.limit = 2 * self.limit + 1;
            self.steps = 0;
        }
        false
    }
}

/// All entries of a list, also removed ones. Ends early at one that makes no sense.
pub(super) fn entries<'m>(
    mapping: &'m Mapping,
    head: &AtomicU64,
) -> impl Iterator<Item = Entry<'m>> {
    let mut next = head.load(Acquire);
    let mut circle = Circle::default();
    std::iter::from_fn(move || {
        let entry = Entry::at(mapping, next)?;
        if circle.closes(next) {
            return None;
        }
        next = entry.next();
        Some(entry)
    })
}

/// All entries of all lists.
pub(in crate::arena) fn all_entries(mapping: &Mapping) -> impl Iterator<Item = Entry<'_>> {
    let buckets = &mapping.header().buckets;
    buckets.iter().flat_map(|head| entries(mapping, head))
}

/// How many roots there are, without the lock.
pub(in crate::arena) fn count(mapping: &Mapping) -> u64 {
    all_entries(mapping).filter(Entry::is_linked).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_lead_into_themselves_end() {
        for before in 0..20 {
            for circle in 1..20 {
                let mut watch = Circle::default();
                let mut at = 1;
                let steps = (0..).take_while(|_| {
                    let closed = watch.closes(at);
                    at = if at == before + circle {
                        before + 1
                    } else {
                        at + 1
                    };
                    !closed
                });
                let steps = steps.count() as u64;
                assert!((before + circle..=3 * (before + circle) + 1).contains(&steps));
            }
        }
    }

    #[test]
    fn lists_that_end_are_no_circles() {
        let mut watch = Circle::default();
        assert!((1..10_000).all(|entry| !watch.closes(entry)));
    }
}
