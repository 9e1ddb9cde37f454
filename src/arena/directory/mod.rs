//! The directory: lists of roots by the hash of their names, under one lock.
//!
//! Every change is a section of its own under the directory's lock, so that a kill leaves it as it
//! was. A removed root stays in its list until nobody has a handle of it: a count per process,
//! which is void when the process has gone.

mod create;
mod empty;
mod entry;
mod keep;
mod rest;
mod sweep;

pub(super) use entry::{Entry, all_entries, bucket_of, count, user_cell};
pub(super) use keep::{Kept, with_all};
pub(super) use sweep::{has_orphans, sweep};

use super::{Arena, Root, RootInfo, process};
use crate::{
    error::{Error, Result},
    journal,
    layout::{EntryKind, LogPosition, RootEntry, Tag, root_state},
    mapping::{Access, Mapping},
    section::{self, Ctx, Writer, in_any_section},
    share::{Schema, Share, encode},
    sync::Internal,
    walk,
};
use create::create;
use entry::{LONGEST_NAME, bucket, entries};
use std::{alloc::Layout, mem::offset_of, sync::atomic::Ordering::*};

/// A process has no more handles of a root than this: they are counted in 32 bits, and a count that
/// went round would free what has handles.
pub(super) const MOST_HANDLES: u32 = u32::MAX / 2;

fn lookup<'m>(mapping: &'m Mapping, name: &str) -> Option<Entry<'m>> {
    entries(mapping, bucket(mapping, name.as_bytes()))
        .find(|entry| entry.is_linked() && entry.name() == name.as_bytes())
}

/// The same without the lock, where it cannot be taken. What its holder has linked and not committed
/// yet is not there (D2): it would go again if the holder died.
fn lookup_committed<'m>(mapping: &'m Mapping, name: &str) -> Option<Entry<'m>> {
    let entry = lookup(mapping, name)?;
    if is_pending(mapping, entry.offset) {
        return None;
    }
    // It may have been taken back before it was looked for in the holder's journal.
    lookup(mapping, name).filter(|again| again.offset == entry.offset)
}

/// Whether the block belongs to an open section of the lock's holder.
fn is_pending(mapping: &Mapping, block: u64) -> bool {
    let Some(holder) = Tag::of_word(mapping.header().directory.0.load(Acquire)) else {
        return false;
    };
    let slot = holder.slot();
    if slot >= mapping.geometry().slots || journal::tag_of(mapping, slot) != holder {
        return false;
    }
    let open = !LogPosition(mapping.slot(slot).log.load(Acquire)).committed();
    open && journal::LogReader::of_the_living(mapping, slot).any(|found| {
        matches!(found.entry.kind, EntryKind::Alloc | EntryKind::AllocSpan)
            && found.entry.offset == block
    })
}

fn check_name(name: &str) -> Result {
    let reason = match name.len() {
        0 => "it is empty",
        1..=LONGEST_NAME => return Ok(()),
        _ => "it is longer than 255 bytes",
    };
    Err(Error::BadName {
        name: name.to_owned(),
        reason,
    })
}

/// Whether the entry's type is `T`.
fn check_type<T: Share>(entry: &Entry<'_>, name: &str) -> Result {
    let damaged = |why| Error::damaged(format!("the root {name:?}: {why}"));
    if entry.schema_bytes() == Some(encode::<T>().as_slice()) {
        return entry.check_value(Layout::new::<T>()).map_err(damaged);
    }
    let found = entry.schema().map_err(damaged)?;
    Err(Error::TypeMismatch {
        name: name.to_owned(),
        expected: format!("{:#}", Schema::of::<T>()),
        found: format!("{found:#}"),
    })
}

/// Takes the directory's lock. Not for a thread that has it already.
fn lock<'c>(ctx: &'c Ctx) -> Result<Internal<'c>> {
    let word = &ctx.mapping().header().directory;
    if word.0.load(Relaxed) & !crate::layout::WAITERS_BIT == ctx.tag().0 {
        return Err(Error::InSection);
    }
    Internal::take(word, ctx.taker_of_small())
}

/// A handle on an entry, counted for this process.
fn handle<T: Share>(arena: &Arena, ctx: &Ctx, entry: &Entry<'_>) -> Result<Root<T>> {
    let mapping = ctx.mapping();
    let process = process::entry(mapping, |index| retire(mapping, index))?;
    let cell = entry
        .cell(process)
        .ok_or_else(|| Error::damaged("a root has no room for this process"))?;
    let value = mapping
        .address(entry.value(), size_of::<T>())
        .ok_or_else(|| Error::damaged("a root's value leads nowhere"))?;
    if cell.fetch_add(1, AcqRel) >= MOST_HANDLES {
        cell.fetch_sub(1, AcqRel);
        return Err(Error::damaged(format!(
            "a root has more than {MOST_HANDLES} handles in one process"
        )));
    }
    Ok(Root::counted(arena, value.cast(), entry.offset, process))
}

/// Makes an entry of the process table fit for another process: nobody's counts remain. Needs the
/// directory's lock.
fn retire(mapping: &Mapping, process: usize) -> Result {
    for entry in all_entries(mapping) {
        if let Some(cell) = entry.cell(process) {
            cell.store(0, Release);
        }
    }
    Ok(())
}

pub(super) fn find<T: Share + Sync>(arena: &Arena, name: &str) -> Result<Root<T>> {
    check_name(name)?;
    if arena.access() != Access::ReadWrite {
        return find_unlocked(arena, name);
    }
    let ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    let ctx = unsafe { ctx.as_ref() };
    let _lock = lock(ctx)?;
    let entry = lookup(ctx.mapping(), name).ok_or_else(|| Error::UnknownRoot {
        name: name.to_owned(),
    })?;
    check_type::<T>(&entry, name)?;
    handle(arena, ctx, &entry)
}

/// In an arena that cannot be written: no lock can be taken, and only what nobody writes any more
/// is handed out.
fn find_unlocked<T: Share + Sync>(arena: &Arena, name: &str) -> Result<Root<T>> {
    let mapping = arena.mapping();
    let entry = lookup_committed(mapping, name).ok_or_else(|| Error::UnknownRoot {
        name: name.to_owned(),
    })?;
    check_type::<T>(&entry, name)?;
    let schema = entry.schema().map_err(Error::damaged)?;
    if !walk::is_frozen(mapping, &schema, entry.value()) {
        return Err(Error::NotFrozen);
    }
    let value = mapping
        .address(entry.value(), size_of::<T>())
        .ok_or_else(|| Error::damaged("a root's value leads nowhere"))?;
    Ok(Root::uncounted(arena, value.cast()))
}

pub(super) fn find_or_create<T: Share + Sync>(
    arena: &Arena,
    name: &str,
    make: impl FnOnce() -> T,
    fill: impl FnOnce(&mut T) -> Result,
) -> Result<Root<T>> {
    match find(arena, name) {
        Err(Error::UnknownRoot { .. }) if arena.access() == Access::ReadWrite => {}
        done => return done,
    }
    let ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    if unsafe { ctx.as_ref() }.in_section() {
        return Err(Error::InSection);
    }
    in_any_section(ctx, || create(arena, ctx, name, make, fill))
}

pub(super) fn remove(arena: &Arena, name: &str) -> Result {
    check_name(name)?;
    changing(arena, |writer| {
        let mapping = writer.mapping();
        let entry = lookup(mapping, name).ok_or_else(|| Error::UnknownRoot {
            name: name.to_owned(),
        })?;
        writer.record(&raw const entry.fixed.state, 4)?;
        entry.fixed.state.store(root_state::REMOVED, Release);
        mapping.header().orphans.store(1, Release);
        Ok(())
    })?;
    // The name is gone; what cannot be freed now is left to later sweeps.
    let _ = sweep(arena);
    Ok(())
}

/// Changes the directory: a section of its own, under the directory's lock.
fn changing(arena: &Arena, f: impl FnOnce(Writer) -> Result) -> Result {
    let ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    if unsafe { ctx.as_ref() }.in_section() {
        return Err(Error::InSection);
    }
    in_any_section(ctx, || {
        // SAFETY: C1.
        let own = unsafe { ctx.as_ref() };
        let lock = lock(own)?;
        let done = f(Writer::of(ctx));
        // Others must not see what is not committed yet.
        // SAFETY: C1; nothing else of this thread uses the context here.
        unsafe { &mut *ctx.as_ptr() }.commit_and_go_on();
        drop(lock);
        done
    })
}

pub(super) fn list(arena: &Arena) -> Result<Vec<RootInfo>> {
    let collect = |mapping: &Mapping, committed: &dyn Fn(&Entry<'_>) -> bool| {
        all_entries(mapping)
            .filter(|entry| entry.is_linked() && committed(entry))
            .map(|entry| entry.info())
            .collect::<Result<Vec<_>>>()
    };
    let mut roots = if arena.access() == Access::ReadWrite {
        let ctx = section::attach(arena.mapping())?;
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_ref() };
        let _lock = lock(ctx)?;
        collect(ctx.mapping(), &|_| true)?
    } else {
        let mapping = arena.mapping();
        collect(mapping, &|entry| !is_pending(mapping, entry.offset))?
    };
    roots.sort_by_key(|root| root.number);
    Ok(roots)
}

static_assertions::const_assert_eq!(offset_of!(RootEntry, next), 0);

#[cfg(test)]
mod tests {
    use super::{MOST_HANDLES, all_entries};
    use crate::{Arena, Error, sync::Mutex};
    use std::sync::atomic::Ordering::*;

    /// Programs that forget handles cannot make their count go round.
    #[test]
    fn handles_are_limited() {
        let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
        let root = arena.root::<Mutex<u64>>("root").unwrap();
        let cell = all_entries(arena.mapping())
            .next()
            .unwrap()
            .cell(0)
            .unwrap();
        cell.fetch_add(MOST_HANDLES - 2, AcqRel);
        let last = arena.root::<Mutex<u64>>("root").unwrap();
        let refused = arena.root::<Mutex<u64>>("root");
        assert!(matches!(refused, Err(Error::Damaged { .. })));
        drop(last);
        assert!(arena.root::<Mutex<u64>>("root").is_ok());
        cell.fetch_sub(MOST_HANDLES - 2, AcqRel);
        drop(root);
    }
}
