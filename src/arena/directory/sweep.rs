//! Freeing removed roots that nobody has any more.

use super::{
    changing,
    empty::free_owned,
    entry::{Circle, Entry},
    rest,
};
use crate::{
    arena::{Arena, open},
    error::{Error, Result},
    journal,
    mapping::{Access, Mapping},
    section::Writer,
};
use std::{
    ptr,
    sync::atomic::{AtomicU64, Ordering::*},
};

/// Whether removed roots may be waiting for their last handle.
pub(in crate::arena) fn has_orphans(mapping: &Mapping) -> bool {
    mapping.header().orphans.load(Acquire) != 0
}

/// Frees removed roots that nobody has any more. Leaves it to others while a section is open.
pub(in crate::arena) fn sweep(arena: &Arena) -> Result {
    if !has_orphans(arena.mapping()) || arena.access() != Access::ReadWrite {
        return Ok(());
    }
    let swept = open::without_readers(arena.mapping(), || {
        changing(arena, |writer| {
            let mapping = writer.mapping();
            let mut left = false;
            for head in &mapping.header().buckets {
                left |= sweep_list(writer, head)?;
            }
            if !left {
                writer.record(&raw const mapping.header().orphans, 4)?;
                mapping.header().orphans.store(0, Release);
            }
            Ok(())
        })
    });
    match swept {
        Err(Error::InSection) => Ok(()),
        done => done.map(|_| ()),
    }
}

/// Frees the removed and unused roots of a list. Says whether removed ones are left.
///
/// A process that is gone may have died in a section under a lock of the root, or with permits of
/// it: what its journals say is done first, since it must not be done to whoever has the blocks
/// next. (The kernel marks a dead process's threads before it drops the byte that tells of its
/// death.) Where others are at that, the root is left to a later sweep (D5).
fn sweep_list(writer: Writer, head: &AtomicU64) -> Result<bool> {
    let mapping = writer.mapping();
    let mut left = false;
    let mut link = head;
    let mut circle = Circle::default();
    while let Some(entry) = Entry::at(mapping, link.load(Acquire)) {
        if circle.closes(entry.offset) {
            return Err(Error::damaged("a list of roots leads into itself"));
        }
        let removed = !entry.is_linked();
        if removed
            && !entry.is_used()
            && journal::resolve_all(mapping)?
            && is_at_rest(mapping, &entry)
        {
            free_root(writer, link, &entry)?;
            continue;
        }
        left |= removed;
        link = &entry.fixed.next;
    }
    Ok(left)
}

/// Whether no section of the living has to do with the root any more.
fn is_at_rest(mapping: &Mapping, entry: &Entry<'_>) -> bool {
    entry.schema().map_or(true, |schema| {
        rest::is_at_rest(mapping, &schema, entry.value())
    })
}

/// Frees all that a root's value owns, in units of their own, since a large value would need a
/// large log; then its entry goes out of the list, and value, schema and entry are freed, as one.
/// Where it fails or is killed, the root is still in its list, with what is left of its value.
fn free_root(writer: Writer, link: &AtomicU64, entry: &Entry<'_>) -> Result {
    if let Ok(schema) = entry.schema() {
        free_owned(writer, &schema, entry.value(), || writer.commit_and_go_on())?;
    }
    writer.record(ptr::from_ref(link), 8)?;
    writer.reserve(3)?;
    link.store(entry.next(), Release);
    writer.free(entry.value(), false)?;
    writer.free(entry.schema_block(), false)?;
    writer.free(entry.offset, false)
}

#[cfg(test)]
mod tests {
    use crate::{Arena, Error, collections, sync::Mutex};

    /// Freeing must not need the memory that it frees.
    #[test]
    fn a_full_arena_can_be_emptied() {
        type Words = Mutex<collections::Vec<collections::String>>;
        let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
        let before = arena.stats().used;
        let words = arena.root::<Words>("words").unwrap();
        let fill = || -> crate::Result {
            loop {
                let mut words = words.lock()?;
                words.push(collections::String::new())?;
                words.last_mut().unwrap().push_str("seventeen letters")?;
            }
        };
        assert!(matches!(fill(), Err(Error::Full { .. })));
        assert!(words.lock().unwrap().len() > 1000);
        drop(words);
        arena.remove("words").unwrap();
        assert_eq!(arena.stats().used, before);
        let report = arena.check();
        assert!(report.is_clean(), "{report}");
    }
}
