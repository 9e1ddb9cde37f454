//! The directory: lists of roots by the hash of their names, under one lock.
//!
//! Every change is a section of its own under the directory's lock, so that a kill leaves it as it
//! was. A removed root stays in its list until nobody has a handle of it: a count per process,
//! which is void when the process has gone.

use super::{Arena, Root, RootInfo, open, process, walk};
use crate::{
    error::{Error, Result},
    layout::{BUCKETS, RootEntry, root_state},
    mapping::{Access, Mapping},
    section::{self, Ctx, Writer, in_any_section},
    share::{Schema, Share, encode},
    sync::{Internal, Taker},
};
use std::{
    alloc::Layout,
    mem::offset_of,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
};

/// The longest name of a root.
const LONGEST_NAME: usize = 255;
/// More roots than this in one list are taken for a damaged list.
const LONGEST_LIST: usize = 1 << 20;

/// An entry that was checked to lie in the arena with all that belongs to it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'m> {
    pub(super) offset: u64,
    mapping: &'m Mapping,
    fixed: &'m RootEntry,
}

impl<'m> Entry<'m> {
    /// The entry at an offset, if there can be one.
    pub(super) fn at(mapping: &'m Mapping, offset: u64) -> Option<Self> {
        let place = mapping.address(offset, size_of::<RootEntry>())?;
        if !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: checked to lie in the arena, aligned; its fields are numbers and atomics, which
        // are constant or change under the directory's lock.
        let fixed = unsafe { place.cast::<RootEntry>().as_ref() };
        let sane = fixed.users <= 1 << 16 && fixed.name_len as usize <= LONGEST_NAME;
        if !sane {
            return None;
        }
        mapping.address(
            offset,
            entry_size(fixed.users as usize, fixed.name_len as usize),
        )?;
        Some(Entry {
            offset,
            mapping,
            fixed,
        })
    }

    pub(super) fn name(&self) -> &'m [u8] {
        let from = self.offset + users_end(self.fixed.users as usize) as u64;
        let len = self.fixed.name_len as usize;
        let place = self.mapping.address(from, len);
        // SAFETY: `at` checked that the name lies in the arena; it is never changed.
        place.map_or(&[], |place| unsafe {
            slice::from_raw_parts(place.as_ptr(), len)
        })
    }

    pub(super) fn is_linked(&self) -> bool {
        self.fixed.state.load(Acquire) == root_state::LINKED
    }

    /// Whether its state is one of those that there are.
    pub(super) fn has_state(&self) -> bool {
        let state = self.fixed.state.load(Acquire);
        [root_state::LINKED, root_state::REMOVED].contains(&state)
    }

    /// Bytes of the entry with all that belongs to it.
    pub(super) fn size(&self) -> u64 {
        entry_size(self.fixed.users as usize, self.fixed.name_len as usize) as u64
    }

    /// How many processes there is room for.
    pub(super) fn users(&self) -> u64 {
        self.fixed.users
    }

    pub(super) fn value_size(&self) -> u64 {
        self.fixed.size
    }

    pub(super) fn next(&self) -> u64 {
        self.fixed.next.load(Acquire)
    }

    pub(super) fn value(&self) -> u64 {
        self.fixed.value
    }

    pub(super) fn number(&self) -> u64 {
        self.fixed.number
    }

    pub(super) fn schema_block(&self) -> u64 {
        self.fixed.schema
    }

    pub(super) fn schema_bytes(&self) -> Option<&'m [u8]> {
        let len = usize::try_from(self.fixed.schema_len).ok()?;
        let place = self.mapping.address(self.fixed.schema, len)?;
        // SAFETY: checked to lie in the arena; a schema is never changed.
        Some(unsafe { slice::from_raw_parts(place.as_ptr(), len) })
    }

    /// The type, and that the value it describes lies in the arena.
    pub(super) fn schema(&self) -> Result<Schema, String> {
        let bytes = self.schema_bytes().ok_or("its schema leads nowhere")?;
        let schema = crate::share::decode(bytes)?;
        let root = schema.root();
        if root.size != self.fixed.size
            || self
                .mapping
                .address(self.value(), root.size as usize)
                .is_none()
            || !self.value().is_multiple_of(u64::from(root.align.max(1)))
        {
            return Err("its value does not lie in the arena".into());
        }
        Ok(schema)
    }

    fn cell(&self, process: usize) -> Option<&'m AtomicU32> {
        user_cell(self.mapping, self.offset, process)
    }

    /// Whether some process that is still there has a handle.
    fn is_used(&self) -> bool {
        (0..self.fixed.users as usize).any(|process| {
            self.cell(process)
                .is_some_and(|cell| cell.load(Acquire) != 0)
                && !process::is_gone(self.mapping, process)
        })
    }

    fn info(&self) -> Result<RootInfo> {
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
pub(super) fn user_cell(mapping: &Mapping, entry: u64, process: usize) -> Option<&AtomicU32> {
    let at = entry + (size_of::<RootEntry>() + process * 4) as u64;
    let place = mapping.address(at, 4)?;
    // SAFETY: checked to lie in the arena, and aligned, since entries are; atomic.
    Some(unsafe { place.cast::<AtomicU32>().as_ref() })
}

fn users_end(users: usize) -> usize {
    size_of::<RootEntry>() + (users * 4).next_multiple_of(8)
}

fn entry_size(users: usize, name: usize) -> usize {
    users_end(users) + name
}

/// The number of the list that a name belongs to.
pub(super) fn bucket_of(name: &[u8]) -> usize {
    rapidhash::v3::rapidhash_v3(name) as usize % BUCKETS
}

/// The list that a name belongs to.
fn bucket<'m>(mapping: &'m Mapping, name: &[u8]) -> &'m AtomicU64 {
    &mapping.header().buckets[bucket_of(name)]
}

/// All entries of a list, also removed ones. Ends early at one that makes no sense.
fn entries<'m>(mapping: &'m Mapping, head: &AtomicU64) -> impl Iterator<Item = Entry<'m>> {
    let mut next = head.load(Acquire);
    std::iter::from_fn(move || {
        let entry = Entry::at(mapping, next)?;
        next = entry.next();
        Some(entry)
    })
    .take(LONGEST_LIST)
}

/// All entries of all lists.
pub(super) fn all_entries(mapping: &Mapping) -> impl Iterator<Item = Entry<'_>> {
    let buckets = &mapping.header().buckets;
    buckets.iter().flat_map(|head| entries(mapping, head))
}

/// How many roots there are, without the lock.
pub(super) fn count(mapping: &Mapping) -> u64 {
    all_entries(mapping).filter(Entry::is_linked).count() as u64
}

fn lookup<'m>(mapping: &'m Mapping, name: &str) -> Option<Entry<'m>> {
    entries(mapping, bucket(mapping, name.as_bytes()))
        .find(|entry| entry.is_linked() && entry.name() == name.as_bytes())
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
    if entry.schema_bytes() == Some(encode::<T>().as_slice()) {
        entry
            .schema()
            .map_err(|why| Error::damaged(format!("the root {name:?}: {why}")))?;
        return Ok(());
    }
    let found = entry
        .schema()
        .map_err(|why| Error::damaged(format!("the root {name:?}: {why}")))?;
    Err(Error::TypeMismatch {
        name: name.to_owned(),
        expected: format!("{:#}", Schema::of::<T>()),
        found: format!("{found:#}"),
    })
}

fn taker(ctx: &Ctx) -> Taker<'_> {
    Taker {
        mapping: ctx.mapping(),
        tag: ctx.tag(),
        recoverer: ctx.tag(),
        waits: None,
    }
}

/// Takes the directory's lock. Not for a thread that has it already.
fn lock<'c>(ctx: &'c Ctx) -> Result<Internal<'c>> {
    let word = &ctx.mapping().header().directory;
    if word.0.load(Relaxed) & !crate::layout::WAITERS_BIT == ctx.tag().0 {
        return Err(Error::InSection);
    }
    Internal::take(word, taker(ctx))
}

/// A handle on an entry, counted for this process.
fn handle<T: Share>(arena: &Arena, ctx: &Ctx, entry: &Entry<'_>) -> Result<Root<T>> {
    let mapping = ctx.mapping();
    let process = process::entry(mapping, |index| retire(mapping, index))?;
    let cell = entry
        .cell(process)
        .ok_or_else(|| Error::damaged("a root has no room for this process"))?;
    cell.fetch_add(1, AcqRel);
    let value = mapping
        .address(entry.value(), size_of::<T>())
        .ok_or_else(|| Error::damaged("a root's value leads nowhere"))?;
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
    let entry = lookup(mapping, name).ok_or_else(|| Error::UnknownRoot {
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

pub(super) fn find_or_create<T: Share + Sync + Default>(
    arena: &Arena,
    name: &str,
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
    in_any_section(ctx, || create(arena, ctx, name, fill))
}

/// Builds the value, then links it, unless somebody else was faster. One section.
fn create<T: Share + Sync + Default>(
    arena: &Arena,
    ctx: NonNull<Ctx>,
    name: &str,
    fill: impl FnOnce(&mut T) -> Result,
) -> Result<Root<T>> {
    let writer = Writer::of(ctx);
    let value = New::<T>::build(writer, fill)?;
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

impl<T: Share + Default> New<T> {
    fn build(writer: Writer, fill: impl FnOnce(&mut T) -> Result) -> Result<Self> {
        let layout = Layout::new::<T>();
        let block = writer.alloc(layout)?;
        let place = writer
            .base()
            .wrapping_add(block.offset as usize)
            .cast::<T>();
        let default = T::default();
        // SAFETY: a block of the right size and alignment, allocated just now.
        unsafe { place.write(default) };
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
}

impl<T: Share> New<T> {
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
        let _ = self.writer.free(self.offset, true);
    }
}

/// Makes an entry and puts it at the head of its list. Gives its offset.
fn link(writer: Writer, name: &str, value: u64, schema: &[u8], process: usize) -> Result<u64> {
    let mapping = writer.mapping();
    let users = mapping.geometry().slots;
    let schema_block = writer.alloc(Layout::array::<u8>(schema.len()).map_err(Error::other)?)?;
    let size = entry_size(users, name.len());
    let block = writer.alloc(Layout::from_size_align(size, 8).map_err(Error::other)?)?;
    let head = bucket(mapping, name.as_bytes());
    let root = crate::share::decode(schema).map_err(Error::damaged)?;
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
    writer.record(ptr::from_ref(head), 8)?;
    head.store(block.offset, Release);
    Ok(block.offset)
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
    sweep(arena)
}

/// Whether removed roots may be waiting for their last handle.
pub(super) fn has_orphans(mapping: &Mapping) -> bool {
    mapping.header().orphans.load(Acquire) != 0
}

/// Frees removed roots that nobody has any more. Leaves it to others while a section is open.
pub(super) fn sweep(arena: &Arena) -> Result {
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
fn sweep_list(writer: Writer, head: &AtomicU64) -> Result<bool> {
    let mapping = writer.mapping();
    let mut left = false;
    let mut link = head;
    while let Some(entry) = Entry::at(mapping, link.load(Acquire)) {
        let removed = !entry.is_linked();
        if removed && !entry.is_used() {
            free_root(writer, link, &entry)?;
            continue;
        }
        left |= removed;
        link = &entry.fixed.next;
    }
    Ok(left)
}

/// Frees all that a root's value owns, in units of their own, since a large value would need a
/// large log; then its entry goes out of the list, and value, schema and entry are freed, as one.
/// Where it fails or is killed, the root is still in its list, with what is left of its value.
fn free_root(writer: Writer, link: &AtomicU64, entry: &Entry<'_>) -> Result {
    if let Ok(schema) = entry.schema() {
        walk::free_owned(writer, &schema, entry.value(), || writer.commit_and_go_on())?;
    }
    writer.record(ptr::from_ref(link), 8)?;
    writer.reserve(3)?;
    link.store(entry.next(), Release);
    writer.free(entry.value(), false)?;
    writer.free(entry.schema_block(), false)?;
    writer.free(entry.offset, false)
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
    let collect = |mapping: &Mapping| {
        all_entries(mapping)
            .filter(Entry::is_linked)
            .map(|entry| entry.info())
            .collect::<Result<Vec<_>>>()
    };
    let mut roots = if arena.access() == Access::ReadWrite {
        let ctx = section::attach(arena.mapping())?;
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_ref() };
        let _lock = lock(ctx)?;
        collect(ctx.mapping())?
    } else {
        collect(arena.mapping())?
    };
    roots.sort_by_key(|root| root.number);
    Ok(roots)
}

static_assertions::const_assert_eq!(offset_of!(RootEntry, next), 0);

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
                words.last_mut().unwrap().push_str("sixteen letters.")?;
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
