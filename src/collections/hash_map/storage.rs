//! A table in its block: where the pairs lie, and how a larger one takes over.

use super::{
    control::{Buckets, Freed, GROUP, is_empty},
    hash::hash_of,
    table::{FEWEST_BUCKETS, Table, buckets_for, capacity_of, control_len},
};
use crate::{
    collections::{
        raw::{self, Piece},
        take_apart,
    },
    error::{Error, Rare, Result, unbox},
    layout::{BufferHeader, MapHeader, marks},
    mutant::{self, Mutant},
    os::memory,
    section::Writer,
};
use std::{alloc::Layout, hash::Hash, marker::PhantomData, mem, ptr};

/// What lies in a bucket.
#[repr(C)]
pub(super) struct Pair<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

/// A map's table in memory, for one operation.
pub(super) struct Storage<K, V> {
    pairs: *mut Pair<K, V>,
    pub(super) table: Table,
}

impl<K, V> Clone for Storage<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Storage<K, V> {}

/// A block that is no larger, of pairs that are no larger, is recorded whole where otherwise all control
/// bytes would be: most of the pairs are changed soon, too, and this is a copy of a few microseconds.
const SMALL: usize = 64 << 10;
/// Such a pair is also copied sooner than another one's cache line is fetched.
const SMALL_PAIR: usize = 32;

/// Of pairs that are no larger there are one or two in each line of the cache, and the processor sees by itself that
/// one line after the other is read. Of larger ones some lines are left out, and it does not: going through a
/// map of half a million texts, a pair each 48 bytes, took 7.9 ns for each, and takes 4.3.
const FETCHED_BY_ITSELF: usize = 32;
/// More lines of a group are not fetched ahead: the processor waits for some dozens at a time.
const MOST_LINES: usize = 16;

/// Where the control bytes begin.
#[inline(always)]
fn control_at<K, V>(buckets: usize) -> usize {
    buckets * size_of::<Pair<K, V>>()
}

/// The bytes of a whole block.
#[inline(always)]
fn whole<K, V>(header: &MapHeader) -> usize {
    whole_of::<K, V>(header.mask as usize + 1)
}

/// The same by the number of buckets.
#[inline(always)]
fn whole_of<K, V>(buckets: usize) -> usize {
    control_at::<K, V>(buckets) + control_len(buckets)
}

fn layout_of<K, V>(buckets: usize) -> Result<Layout> {
    let align = align_of::<Pair<K, V>>();
    buckets
        .checked_mul(size_of::<Pair<K, V>>())
        .and_then(|pairs| pairs.checked_add(control_len(buckets)))
        .and_then(|size| Layout::from_size_align(size, align).ok())
        .ok_or(Error::Layout {
            size: usize::MAX,
            align,
        })
}

impl<K, V> Storage<K, V> {
    /// The table that a map's block holds.
    ///
    /// # Safety
    ///
    /// `block` is the map's block, and the map has one.
    #[inline(always)]
    pub(super) unsafe fn new(block: *mut u8, header: &MapHeader) -> Self {
        let mask = header.mask as usize;
        let control = block.wrapping_add(control_at::<K, V>(mask + 1));
        Storage {
            pairs: block.cast(),
            // SAFETY: by contract; the table was made by `Fresh`.
            table: unsafe { Table::new(control, mask) },
        }
    }

    /// The table of an opened map that has one.
    ///
    /// # Safety
    ///
    /// As [`Storage::new`]: the map has a block in the writer's arena.
    #[inline(always)]
    pub(super) unsafe fn opened(writer: Writer, header: &MapHeader) -> Self {
        // SAFETY: by contract.
        unsafe { Self::new(start(writer, &header.buffer), header) }
    }

    #[inline(always)]
    pub(super) fn pair(self, bucket: usize) -> *mut Pair<K, V> {
        debug_assert!(bucket < self.table.buckets());
        // SAFETY: one of the buckets, which lie in one block.
        unsafe { self.pairs.add(bucket) }
    }

    /// Has the processor fetch what somebody needs soon who goes through the groups and is at this one.
    #[inline(always)]
    fn fetch_ahead_of(self, group: usize) {
        const AHEAD: usize = 2 * GROUP;
        if size_of::<Pair<K, V>>() <= FETCHED_BY_ITSELF {
            return;
        }
        let lines = (GROUP * size_of::<Pair<K, V>>() / 64).min(MOST_LINES);
        let pairs = self.pairs.wrapping_add(group + AHEAD).cast::<u8>();
        (0..lines).for_each(|line| memory::prefetch(pairs.wrapping_add(line * 64)));
    }

    /// The key of a full bucket.
    ///
    /// # Safety
    ///
    /// It is full, and stays so as long as the result is used.
    #[inline(always)]
    pub(super) unsafe fn key<'t>(self, bucket: usize) -> &'t K {
        // SAFETY: by contract.
        unsafe { &(*self.pair(bucket)).key }
    }
}

/// A free bucket, in which a key is to be put.
pub(super) struct Room<K, V> {
    storage: Storage<K, V>,
    bucket: usize,
    /// What its control byte says.
    control: u8,
    /// The key's hash.
    pub(super) hash: u64,
}

impl<K, V> Room<K, V> {
    #[inline(always)]
    pub(super) fn at(storage: Storage<K, V>, bucket: usize, hash: u64) -> Self {
        let control = storage.table.control(bucket);
        Room {
            storage,
            bucket,
            control,
            hash,
        }
    }

    /// Whether filling it uses up a bucket that is empty.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        is_empty(self.control)
    }

    /// Records what filling the bucket changes: its control byte. Of a bucket that may have been full
    /// when the section began the pair is recorded, too; a long one is spared by another bucket.
    #[inline(always)]
    pub(super) fn recorded(mut self, writer: Writer, header: &mut MapHeader) -> Result<Self> {
        if header.buffer.marks & (marks::FRESH | marks::WHOLE) != 0 {
            return Ok(self);
        }
        if Freed::by(header.buffer.stamp).may_have(self.control) {
            if size_of::<Pair<K, V>>() <= SMALL_PAIR {
                record_bucket(writer, header, self.storage, self.bucket)?;
                return Ok(self);
            }
            self.bucket = unbox(another_bucket::<K, V>(writer, header, self.bucket))?;
        }
        record_control(writer, header, self.storage, self.bucket)?;
        Ok(self)
    }

    #[inline(always)]
    pub(super) fn pair(&self) -> *mut Pair<K, V> {
        self.storage.pair(self.bucket)
    }

    /// Says that the pair is there.
    ///
    /// # Safety
    ///
    /// It is complete, and the bucket is recorded.
    #[inline(always)]
    pub(super) unsafe fn mark_full(&self) {
        // SAFETY: by contract.
        unsafe { self.storage.table.fill(self.bucket, self.hash) };
    }
}

/// Another free bucket of the same group, which for certain was free when the section began; or this
/// one, with its pair recorded.
#[inline(never)]
fn another_bucket<K, V>(writer: Writer, header: &mut MapHeader, bucket: usize) -> Rare<usize> {
    // SAFETY: the map is opened, and has a block. (Not handed over: it would lie in memory.)
    let table = unsafe { Storage::<K, V>::opened(writer, header) }.table;
    if let Some(other) = table.another_free(bucket) {
        return Ok(other);
    }
    record_pair::<K, V>(writer, header, bucket)?;
    Ok(bucket)
}

/// Records the pair that a free bucket had.
#[inline(always)]
fn record_pair<K, V>(writer: Writer, header: &mut MapHeader, bucket: usize) -> Result {
    let size = size_of::<Pair<K, V>>();
    if size == 0 || mutant::is(Mutant::FillUnrecorded) {
        return Ok(());
    }
    record_in_block::<K, V>(writer, header, bucket * size, size)
}

/// Records the pair that a free bucket had, and its control byte.
#[inline(always)]
fn record_bucket<K, V>(
    writer: Writer,
    header: &mut MapHeader,
    storage: Storage<K, V>,
    bucket: usize,
) -> Result {
    let size = size_of::<Pair<K, V>>();
    if size == 0 || mutant::is(Mutant::FillUnrecorded) || !records_singly(header, storage.table) {
        record_pair::<K, V>(writer, header, bucket)?;
        return record_control(writer, header, storage, bucket);
    }
    writer.record_with_byte(storage.pair(bucket), storage.table.control_at(bucket))?;
    header.buffer.marks += size.div_ceil(8) as u32 + 2;
    Ok(())
}

/// Records the control byte of a bucket.
#[inline(always)]
pub(super) fn record_control<K, V>(
    writer: Writer,
    header: &mut MapHeader,
    storage: Storage<K, V>,
    bucket: usize,
) -> Result {
    let recorded = marks::FRESH | marks::WHOLE | marks::CONTROL;
    if header.buffer.marks & recorded != 0 {
        return Ok(());
    }
    if records_singly(header, storage.table) {
        writer.record_byte(storage.table.control_at(bucket))?;
        header.buffer.marks += 1;
        return Ok(());
    }
    unbox(record_all_control::<K, V>(writer, header))
}

/// Whether control bytes are recorded one by one. Once as much was recorded as there are control bytes,
/// they are recorded together, and no more.
#[inline(always)]
fn records_singly(header: &MapHeader, table: Table) -> bool {
    // Marks with flags are beyond this, and there is room for what a bucket adds.
    const MOST: usize = (marks::COUNT as usize - SMALL_PAIR) * 8;
    (header.buffer.marks as usize * 8) < table.buckets().min(MOST)
}

#[cold]
#[inline(never)]
fn record_all_control<K, V>(writer: Writer, header: &mut MapHeader) -> Rare {
    // SAFETY: the map is opened, and has a block. (Not handed over: it would lie in memory.)
    let table = unsafe { Storage::<K, V>::opened(writer, header) }.table;
    let bytes = whole::<K, V>(header);
    if size_of::<Pair<K, V>>() <= SMALL_PAIR
        && bytes <= SMALL
        && writer.record(start(writer, &header.buffer), bytes).is_ok()
    {
        header.buffer.marks = marks::WHOLE;
        return Ok(());
    }
    writer.record(table.control_at(0), control_len(table.buckets()))?;
    header.buffer.marks |= marks::CONTROL;
    Ok(())
}

/// Records a part of a pair in a block that is neither fresh nor recorded.
#[inline(always)]
fn record_in_block<K, V>(
    writer: Writer,
    header: &mut MapHeader,
    from: usize,
    len: usize,
) -> Result {
    let buckets = header.mask as usize + 1;
    let words = buckets * size_of::<Pair<K, V>>().div_ceil(8);
    let whole = || whole_of::<K, V>(buckets);
    let piece = Piece {
        from,
        len,
        leaf: !mem::needs_drop::<Pair<K, V>>(),
    };
    raw::record_some(writer, &mut header.buffer, piece, words, whole)
}

/// Records the value in a bucket.
#[inline(always)]
pub(super) fn record_value<K, V>(writer: Writer, header: &mut MapHeader, bucket: usize) -> Result {
    let (from, size) = value_in::<K, V>(bucket);
    if header.buffer.marks & (marks::FRESH | marks::WHOLE) != 0 || size == 0 {
        let base = start(writer, &header.buffer);
        writer.forget_locks_in(base.wrapping_add(from), size);
        return Ok(());
    }
    record_in_block::<K, V>(writer, header, from, size)
}

/// Records the value in a bucket while others are handed out: never the whole block, which these
/// are in.
#[inline(always)]
pub(super) fn record_only_value<K, V>(
    writer: Writer,
    header: &mut MapHeader,
    bucket: usize,
) -> Result {
    let (from, size) = value_in::<K, V>(bucket);
    let value = start(writer, &header.buffer).wrapping_add(from);
    if header.buffer.marks & (marks::FRESH | marks::WHOLE) != 0 || size == 0 {
        writer.forget_locks_in(value, size);
        return Ok(());
    }
    writer.record(value, size)?;
    raw::count_recorded(&mut header.buffer, size);
    Ok(())
}

/// The value in a bucket of an opened map.
pub(super) fn value_at<K, V>(writer: Writer, header: &MapHeader, bucket: usize) -> *const V {
    let (from, _) = value_in::<K, V>(bucket);
    start(writer, &header.buffer).wrapping_add(from).cast()
}

/// Where the value in a bucket begins, and its size.
#[inline(always)]
fn value_in<K, V>(bucket: usize) -> (usize, usize) {
    let from = bucket * size_of::<Pair<K, V>>() + mem::offset_of!(Pair<K, V>, value);
    (from, size_of::<V>())
}

#[inline(always)]
fn start(writer: Writer, buffer: &BufferHeader) -> *mut u8 {
    writer.base().wrapping_add(buffer.offset as usize)
}

/// An empty table in a new block; freed again unless it becomes a map's.
struct Fresh<K, V> {
    writer: Writer,
    offset: u64,
    storage: Storage<K, V>,
}

impl<K, V> Fresh<K, V> {
    fn alloc(writer: Writer, buckets: usize) -> Result<Self> {
        let block = writer.alloc(layout_of::<K, V>(buckets)?)?;
        let base = writer.base().wrapping_add(block.offset as usize);
        let control = base.wrapping_add(control_at::<K, V>(buckets));
        Ok(Fresh {
            writer,
            offset: block.offset,
            storage: Storage {
                pairs: base.cast(),
                // SAFETY: the block has room for the pairs and that many control bytes, and nobody
                // else knows of it.
                table: unsafe { Table::clear(control, buckets - 1) },
            },
        })
    }
}

impl<K, V> Drop for Fresh<K, V> {
    fn drop(&mut self) {
        // What cannot be freed for want of log is freed at a death, or left to `check`.
        let _ = self.writer.free_dropped(self.offset, true);
    }
}

/// Makes room for `additional` more keys in an opened map: a table of another size, or of the same
/// one without the deleted buckets.
#[cold]
#[inline(never)]
pub(super) fn make_room<K: Hash, V>(
    writer: Writer,
    header: &mut MapHeader,
    additional: usize,
) -> Rare {
    let none = Error::Layout {
        size: usize::MAX,
        align: align_of::<Pair<K, V>>(),
    };
    let Some(wanted) = (header.len as usize).checked_add(additional) else {
        return Err(none.into());
    };
    if header.buffer.offset == 0 {
        return Ok(resize::<K, V>(
            writer,
            header,
            buckets_for(wanted).ok_or(none)?,
        )?);
    }
    let capacity = capacity_of(header.mask as usize + 1);
    // With so many deleted buckets that a table of the same size would be half empty, it will do.
    let wanted = if wanted <= capacity / 2 {
        capacity
    } else {
        wanted.max(capacity + 1)
    };
    Ok(resize::<K, V>(
        writer,
        header,
        buckets_for(wanted).ok_or(none)?,
    )?)
}

/// Moves everything to a new table of that many buckets, which hold all keys.
///
/// All of it happens in the new block, while the old one stays as it is. Then the old one is freed,
/// and the header names the new one.
pub(super) fn resize<K: Hash, V>(writer: Writer, header: &mut MapHeader, buckets: usize) -> Result {
    debug_assert!(capacity_of(buckets) >= header.len as usize && buckets >= FEWEST_BUCKETS);
    let fresh = Fresh::<K, V>::alloc(writer, buckets)?;
    if header.buffer.offset != 0 {
        forget_locks::<K, V>(writer, header);
        // SAFETY: the map is opened, and has a block.
        let old = unsafe { Storage::<K, V>::opened(writer, header) };
        copy_all(old, fresh.storage, header.len as usize, writer.hash_seed());
    }
    take_over(writer, header, fresh)
}

/// Empties an opened map: where it is, if all of its block is fresh or recorded; otherwise by a new
/// block of the same size, or by none if the arena is full.
pub(super) fn clear<K, V>(writer: Writer, header: &mut MapHeader) {
    if header.buffer.marks & (marks::FRESH | marks::WHOLE) != 0 {
        clear_in_place::<K, V>(writer, header);
        return;
    }
    let old = mem::take(header);
    header.buffer.stamp = old.buffer.stamp;
    header.buffer.arena = old.buffer.arena;
    if let Ok(fresh) = Fresh::<K, V>::alloc(writer, old.mask as usize + 1) {
        set_fresh(header, fresh);
    }
    drop_block::<K, V>(&old);
}

fn clear_in_place<K, V>(writer: Writer, header: &mut MapHeader) {
    /// Empties the table also if dropping a pair should panic.
    struct Empty(Table);
    impl Drop for Empty {
        fn drop(&mut self) {
            // SAFETY: the control bytes of a map that was opened, fresh or recorded.
            unsafe { self.0.clear_again() };
        }
    }
    // SAFETY: the map is opened, and has a block.
    let storage = unsafe { Storage::<K, V>::opened(writer, header) };
    forget_locks::<K, V>(writer, header);
    let len = mem::take(&mut header.len) as usize;
    header.growth_left = capacity_of(storage.table.buckets()) as u64;
    let _empty = Empty(storage.table);
    // SAFETY: no control byte says any more that they are there, in the end.
    unsafe { drop_pairs(storage, len) };
}

fn take_over<K, V>(writer: Writer, header: &mut MapHeader, fresh: Fresh<K, V>) -> Result {
    // So that freeing the old block cannot fail.
    writer.reserve(1)?;
    free_block::<K, V>(writer, header)?;
    set_fresh(header, fresh);
    Ok(())
}

fn set_fresh<K, V>(header: &mut MapHeader, fresh: Fresh<K, V>) {
    let buckets = fresh.storage.table.buckets();
    raw::set_fresh_buffer(&mut header.buffer, fresh.offset);
    mem::forget(fresh);
    header.mask = buckets as u64 - 1;
    header.growth_left = capacity_of(buckets) as u64 - header.len;
}

/// Frees the block of an opened map, which is left without one.
pub(super) fn free_block<K, V>(writer: Writer, header: &mut MapHeader) -> Result {
    forget_locks::<K, V>(writer, header);
    raw::free_buffer(writer, &mut header.buffer)
}

/// Lets go of locks in a block that is about to be moved or freed (J4).
fn forget_locks<K, V>(writer: Writer, header: &MapHeader) {
    if header.buffer.offset != 0 {
        writer.forget_locks_in(start(writer, &header.buffer), whole::<K, V>(header));
    }
}

/// Copies `len` pairs to their places in an empty table.
fn copy_all<K: Hash, V>(old: Storage<K, V>, new: Storage<K, V>, len: usize, seed: u64) {
    let mut buckets = FullBuckets::new(old.table, len);
    while let Some(from) = buckets.next(old) {
        // SAFETY: full in a table that nobody changes meanwhile.
        let hash = hash_of(unsafe { old.key(from) }, seed);
        let to = new.table.find_free(hash);
        // SAFETY: two tables; the bucket is free, and the new table is nobody else's.
        unsafe {
            ptr::copy_nonoverlapping(old.pair(from), new.pair(to), 1);
            new.table.fill(to, hash);
        }
    }
}

/// Drops every pair of a table, and leaves all bytes as they are otherwise.
///
/// # Safety
///
/// The pairs are never used again.
pub(super) unsafe fn drop_pairs<K, V>(storage: Storage<K, V>, len: usize) {
    if !mem::needs_drop::<Pair<K, V>>() {
        return;
    }
    let mut buckets = FullBuckets::new(storage.table, len);
    while let Some(bucket) = buckets.next(storage) {
        // SAFETY: full, and never used again by contract.
        unsafe { ptr::drop_in_place(storage.pair(bucket)) };
    }
}

/// What lies in a map's block, as far as its control bytes tell.
struct Contents<K, V>(PhantomData<Pair<K, V>>);

impl<K, V> take_apart::Contents for Contents<K, V> {
    type Container = super::HashMap<K, V>;
    type Header = MapHeader;

    const OWNS: bool = mem::needs_drop::<Pair<K, V>>();

    fn size(buckets: usize) -> usize {
        control_at::<K, V>(buckets)
    }

    unsafe fn drop_all(block: *mut u8, buckets: usize) {
        let control = block.wrapping_add(control_at::<K, V>(buckets));
        let storage: Storage<K, V> = Storage {
            pairs: block.cast(),
            // SAFETY: by contract, the block of a map with that many buckets.
            table: unsafe { Table::new(control, buckets - 1) },
        };
        // SAFETY: they belong to a map that goes.
        unsafe { drop_pairs(storage, storage.table.count_full()) };
    }
}

/// Drops the pairs of a map that goes, and frees its block. Never panics.
pub(super) fn drop_block<K, V>(header: &MapHeader) {
    take_apart::drop_contents::<Contents<K, V>>(header, header.mask as usize + 1);
}

/// Goes through the full buckets of a table.
#[derive(Clone)]
pub(super) struct FullBuckets {
    /// Where the current group begins.
    at: usize,
    /// What is left of it.
    group: Buckets,
    /// Full buckets that are left in all.
    left: usize,
}

impl FullBuckets {
    #[inline]
    pub(super) fn new(table: Table, len: usize) -> Self {
        FullBuckets {
            at: 0,
            group: table.group(0).full(),
            left: len,
        }
    }

    /// Those of a map without a table.
    pub(super) fn none() -> Self {
        FullBuckets {
            at: 0,
            group: Buckets(0),
            left: 0,
        }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    #[inline(always)]
    pub(super) fn next<K, V>(&mut self, storage: Storage<K, V>) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        loop {
            if let Some(bucket) = self.group.next() {
                self.left -= 1;
                return Some(self.at + bucket);
            }
            self.go_on(storage);
        }
    }

    #[inline(always)]
    fn go_on<K, V>(&mut self, storage: Storage<K, V>) {
        self.at += GROUP;
        self.group = storage.table.group(self.at).full();
        storage.fetch_ahead_of(self.at);
    }

    /// What is left of the next group that has a full bucket, and where that group begins: within it
    /// nobody need ask how many are left in all.
    #[inline(always)]
    pub(super) fn next_group<K, V>(&mut self, storage: Storage<K, V>) -> Option<(usize, Buckets)> {
        if self.left == 0 {
            return None;
        }
        while !self.group.any() {
            self.go_on(storage);
        }
        let group = mem::replace(&mut self.group, Buckets(0));
        // More than there should be are met in a damaged table only, and come out then.
        self.left = self.left.saturating_sub(group.count());
        Some((self.at, group))
    }
}
