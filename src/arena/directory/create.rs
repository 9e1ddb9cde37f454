//! Making a root: its value, its type, its entry, and the link that makes it visible.

use super::{
    check_type,
    entry::{bucket, entry_size, user_cell, users_end},
    handle, lock, lookup, retire,
};
use crate::{
    arena::{Arena, Root, process},
    error::{Error, Result},
    layout::{RootEntry, root_state},
    section::{Ctx, Writer},
    share::{Share, encode},
};
use std::{
    alloc::Layout,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
};

/// Builds the value, then links it, unless somebody else was faster. One section.
pub(super) fn create<T: Share + Sync>(
    arena: &Arena,
    ctx: NonNull<Ctx>,
    name: &str,
    make: impl FnOnce() -> T,
    fill: impl FnOnce(&mut T) -> Result,
) -> Result<Root<T>> {
    let writer = Writer::of(ctx);
    let value = New::<T>::build(writer, make, fill)?;
    // SAFETY: C1; `fill`, which may use the context too, has returned.
    let own = unsafe { ctx.as_ref() };
    let lock = lock(own)?;
    if let Some(entry) = lookup(own.mapping(), name) {
        // `value` drops itself.
        check_type::<T>(&entry, name)?;
        return handle(arena, own, &entry);
    }
    let process = process::entry(own.mapping(), |index| retire(own.mapping(), index))?;
    let offset = link(writer, name, value.offset, &encode::<T>(), process)?;
    let root = Root::counted(arena, value.keep(), offset, process);
    // The root must not be seen before it is committed.
    // SAFETY: C1; nothing else of this thread uses the context here.
    unsafe { &mut *ctx.as_ptr() }.commit_and_go_on();
    drop(lock);
    Ok(root)
}

/// A value that is being built, and goes again unless it is kept.
struct New<T: Share> {
    writer: Writer,
    offset: u64,
    value: NonNull<T>,
}

impl<T: Share> New<T> {
    fn build(
        writer: Writer,
        make: impl FnOnce() -> T,
        fill: impl FnOnce(&mut T) -> Result,
    ) -> Result<Self> {
        // May panic, so it comes first.
        let made = make();
        let block = writer.alloc(Layout::new::<T>())?;
        let place = writer
            .base()
            .wrapping_add(block.offset as usize)
            .cast::<T>();
        // SAFETY: a block of the right size and alignment, allocated just now.
        unsafe { place.write(made) };
        let mut new = New {
            writer,
            offset: block.offset,
            // SAFETY: an address inside the mapping.
            value: unsafe { NonNull::new_unchecked(place) },
        };
        // SAFETY: written just now, and known to nobody else.
        fill(unsafe { new.value.as_mut() })?;
        Ok(new)
    }

    fn keep(self) -> NonNull<T> {
        let value = self.value;
        std::mem::forget(self);
        value
    }
}

impl<T: Share> Drop for New<T> {
    fn drop(&mut self) {
        // SAFETY: built, not kept, and dropped once; the block is this section's.
        unsafe { self.value.drop_in_place() };
        let _ = self.writer.free_dropped(self.offset, true);
    }
}

/// A block that is being filled, and goes again unless it is kept.
struct Draft {
    writer: Writer,
    offset: u64,
}

impl Draft {
    fn alloc(writer: Writer, size: usize) -> Result<Self> {
        let layout = Layout::from_size_align(size, 8).map_err(Error::other)?;
        let offset = writer.alloc(layout)?.offset;
        Ok(Draft { writer, offset })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = self.writer.free_dropped(self.offset, true);
    }
}

/// Makes an entry and puts it at the head of its list. Gives its offset.
fn link(writer: Writer, name: &str, value: u64, schema: &[u8], process: usize) -> Result<u64> {
    let mapping = writer.mapping();
    let users = mapping.geometry().slots;
    let root = crate::share::decode(schema).map_err(Error::damaged)?;
    let head = bucket(mapping, name.as_bytes());
    let schema_block = Draft::alloc(writer, schema.len())?;
    let block = Draft::alloc(writer, entry_size(users, name.len()))?;
    writer.record(ptr::from_ref(head), 8)?;
    // From here on nothing can fail.
    let entry = RootEntry {
        next: AtomicU64::new(head.load(Acquire)),
        number: mapping.header().next_root.fetch_add(1, AcqRel),
        state: AtomicU32::new(root_state::LINKED),
        name_len: name.len() as u32,
        value,
        size: root.root().size,
        schema: schema_block.offset,
        schema_len: schema.len() as u64,
        users: users as u64,
    };
    let place = writer.base().wrapping_add(block.offset as usize);
    // SAFETY: blocks of the right sizes, allocated just now; the copied ranges lie inside them.
    unsafe {
        place.cast::<RootEntry>().write(entry);
        place
            .add(size_of::<RootEntry>())
            .write_bytes(0, users_end(users) - size_of::<RootEntry>());
        place
            .add(users_end(users))
            .copy_from_nonoverlapping(name.as_ptr(), name.len());
        writer
            .base()
            .add(schema_block.offset as usize)
            .copy_from_nonoverlapping(schema.as_ptr(), schema.len());
    }
    if let Some(cell) = user_cell(mapping, block.offset, process) {
        cell.store(1, Release);
    }
    head.store(block.offset, Release);
    std::mem::forget(schema_block);
    let offset = block.offset;
    std::mem::forget(block);
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arena::directory::{lookup_committed, process},
        section::{self, in_any_section},
        sync::Mutex,
    };

    /// Who reads without the lock must not see what may be taken back.
    #[test]
    fn a_root_is_there_when_it_is_committed() {
        let arena = Arena::in_memory().unwrap();
        let mapping = arena.mapping();
        let mut ctx = section::attach(mapping).unwrap();
        in_any_section(ctx, || {
            // SAFETY: C1.
            let own = unsafe { ctx.as_ref() };
            let writer = Writer::of(ctx);
            let value = New::<Mutex<u64>>::build(writer, Mutex::default, |_| Ok(()))?;
            let held = lock(own)?;
            let process = process::entry(mapping, |_| Ok(()))?;
            link(
                writer,
                "new",
                value.offset,
                &encode::<Mutex<u64>>(),
                process,
            )?;
            value.keep();
            assert!(lookup(mapping, "new").is_some());
            assert!(lookup_committed(mapping, "new").is_none());
            // SAFETY: C1; `own` is not used any more but through the lock's word.
            unsafe { ctx.as_mut() }.commit_and_go_on();
            assert!(lookup_committed(mapping, "new").is_some());
            drop(held);
            Ok(())
        })
        .unwrap();
        assert!(lookup_committed(mapping, "new").is_some());
        assert!(arena.check().is_clean(), "{}", arena.check());
    }
}
