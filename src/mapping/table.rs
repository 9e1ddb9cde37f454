//! The table of this process's mappings: finds the arena that an address lies in.
//!
//! Read without a lock: the fast path compares the address with the range that the thread used
//! last, and looks at one word that changes when a mapping goes away. The table is a fixed array;
//! entries become visible by their last store. Changes are made under a lock that lies in a page
//! which a fork wipes, so a child never finds it taken.

use super::{Access, Mapping};
use crate::{
    error::{Error, Result},
    os::{
        file::Identity,
        memory::{ProcessLock, WipedWord},
    },
};
use std::{
    cell::Cell,
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*},
    },
};

/// Arenas that a process can have mapped at a time.
const LIMIT: usize = 128;

struct Entry {
    /// 0 while the entry is not in use.
    start: AtomicUsize,
    len: AtomicUsize,
    arena: AtomicU32,
    seed: AtomicU64,
    /// The number of the file, which others may have on other devices; 0 in private memory.
    ino: AtomicU64,
    mapping: AtomicPtr<Mapping>,
}

static TABLE: [Entry; LIMIT] = [const {
    Entry {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        arena: AtomicU32::new(0),
        seed: AtomicU64::new(0),
        ino: AtomicU64::new(0),
        mapping: AtomicPtr::new(ptr::null_mut()),
    }
}; LIMIT];

/// Changes whenever a range stops to be an arena's, so that no thread trusts what it remembers.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Where an arena is mapped, and what goes with it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Located {
    pub(crate) base: *mut u8,
    pub(crate) len: usize,
    /// What the arena's hash tables hash with.
    pub(crate) seed: u64,
    /// What containers know the arena by.
    pub(crate) arena: u32,
}

impl Located {
    /// All zeroes: no address lies in it.
    pub(crate) const NOWHERE: Located = Located {
        base: ptr::null_mut(),
        len: 0,
        seed: 0,
        arena: 0,
    };

    #[inline(always)]
    pub(crate) fn covers(&self, address: usize) -> bool {
        address.wrapping_sub(self.base.addr()) < self.len
    }
}

thread_local! {
    /// The arena located last, and the epoch of then.
    static LAST: Cell<(Located, u64)> = const { Cell::new((Located::NOWHERE, 0)) };
}

/// Finds the arena in which `place` lies.
#[inline(always)]
pub(crate) fn locate<T: ?Sized>(place: *const T) -> Option<Located> {
    let (last, epoch) = LAST.get();
    if last.covers(place.addr()) && epoch == EPOCH.load(Relaxed) {
        return Some(last);
    }
    locate_slow(place.addr())
}

/// The same, by looking through the table.
#[cold]
#[inline(never)]
pub(crate) fn locate_slow(address: usize) -> Option<Located> {
    let epoch = EPOCH.load(Acquire);
    let located = search(address)?;
    LAST.set((located, epoch));
    Some(located)
}

/// Reads the table, and nothing else. Who remembers the answer reads the epoch before.
#[inline(always)]
pub(super) fn search(address: usize) -> Option<Located> {
    for entry in &TABLE {
        let start = entry.start.load(Acquire);
        let len = entry.len.load(Relaxed);
        if start != 0 && address.wrapping_sub(start) < len {
            return Some(Located {
                base: ptr::with_exposed_provenance_mut(start),
                len,
                arena: entry.arena.load(Relaxed),
                seed: entry.seed.load(Relaxed),
            });
        }
    }
    None
}

/// A reference to the mapping of an entry, unless it is going away. Needs the lock.
fn upgrade(entry: &Entry) -> Option<Arc<Mapping>> {
    let pointer = entry.mapping.load(Acquire);
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the pointer came from `Weak::into_raw`, and is only taken out and dropped under the
    // lock, which the caller holds; the clone gives back what `from_raw` took.
    let weak = unsafe { Weak::from_raw(pointer.cast_const()) };
    let mapping = weak.upgrade();
    let _ = weak.into_raw();
    mapping
}

/// References to the mappings that are wanted. Needs the lock, and must be dropped after it: dropping
/// the last reference takes the lock.
///
/// To no others: a reference that somebody else has, be it for a moment, keeps an arena mapped whose
/// last handle goes meanwhile; then a copy of it, opened at once, would be refused as its twin.
fn those(_lock: &ProcessLock, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Mapping>> {
    let wanted = TABLE.iter().filter(|entry| wanted(entry));
    wanted.filter_map(upgrade).collect()
}

/// This process's mapping that begins at an address, unless it is going away.
pub(crate) fn find_base(base: *mut u8) -> Option<Arc<Mapping>> {
    let lock = ProcessLock::take(WipedWord::Mappings);
    let found = those(&lock, |entry| entry.start.load(Relaxed) == base.addr());
    drop(lock);
    found.into_iter().next()
}

/// This process's mapping of a file for that access, if it has one.
pub(crate) fn find_file(identity: Identity, access: Access) -> Option<Arc<Mapping>> {
    let mappings = those(&ProcessLock::take(WipedWord::Mappings), |entry| {
        entry.ino.load(Relaxed) == identity.ino
    });
    mappings
        .into_iter()
        .find(|mapping| mapping.identity() == Some(identity) && mapping.access() == access)
}

/// This process's mapping of an arena, by the id that its containers carry; one that can be written
/// if there is one.
pub(crate) fn find_id(arena: u32) -> Option<Arc<Mapping>> {
    let mut found = those(&ProcessLock::take(WipedWord::Mappings), |entry| {
        entry.arena.load(Relaxed) == arena
    });
    let writable = found
        .iter()
        .position(|mapping| mapping.access() == Access::ReadWrite);
    (!found.is_empty()).then(|| found.swap_remove(writable.unwrap_or(0)))
}

/// Whether two mappings of one arena can be told apart by their contents: a private copy cannot,
/// and a copy of the file must not be.
fn are_twins(a: &Mapping, b: &Mapping) -> bool {
    let copy_on_write = [a.access(), b.access()].contains(&Access::CopyOnWrite);
    let same_file = a.identity().is_some() && a.identity() == b.identity();
    a.arena() == b.arena() && (copy_on_write || !same_file)
}

/// Whether one more arena can be mapped.
///
/// # Errors
///
/// That of [`register`] otherwise.
pub(crate) fn expect_room() -> Result {
    let _lock = ProcessLock::take(WipedWord::Mappings);
    free_entry().map(drop).ok_or_else(too_many)
}

/// An entry that no mapping has. Under the table's lock.
fn free_entry() -> Option<&'static Entry> {
    let mut entries = TABLE.iter();
    entries.find(|entry| entry.start.load(Relaxed) == 0 && entry.mapping.load(Relaxed).is_null())
}

fn too_many() -> Error {
    let most =
        format!("this process has {LIMIT} mapped, which is the most: drop what holds one of them");
    let source = std::io::Error::new(std::io::ErrorKind::OutOfMemory, most);
    Error::os("map another arena", source)
}

/// Makes a new mapping findable; gives back an existing one if the same file is mapped already.
///
/// # Errors
///
/// [`Error::Twin`] if another arena with the same id is mapped; an OS error if too many are.
pub(crate) fn register(mapping: Mapping) -> Result<Arc<Mapping>> {
    let mapping = Arc::new(mapping);
    // Declared before the lock, so that they are dropped after it.
    let others;
    let _lock = ProcessLock::take(WipedWord::Mappings);
    // A file's arena has the same id wherever it is mapped.
    others = those(&_lock, |entry| entry.arena.load(Relaxed) == mapping.arena());
    for other in &others {
        let same_file = mapping.identity().is_some() && other.identity() == mapping.identity();
        if same_file && other.access() == mapping.access() {
            return Ok(other.clone());
        }
        if are_twins(other, &mapping) {
            return Err(Error::Twin { id: mapping.id() });
        }
    }
    let Some(entry) = free_entry() else {
        return Err(too_many());
    };
    let weak = Arc::downgrade(&mapping).into_raw();
    entry.arena.store(mapping.arena(), Relaxed);
    entry.seed.store(mapping.hash_seed(), Relaxed);
    let ino = mapping.identity().map_or(0, |identity| identity.ino);
    entry.ino.store(ino, Relaxed);
    entry.len.store(mapping.len(), Relaxed);
    entry.mapping.store(weak.cast_mut(), Release);
    entry
        .start
        .store(mapping.base().expose_provenance(), Release);
    Ok(mapping)
}

/// Takes a mapping out of the table, before it is unmapped.
pub(super) fn unregister(mapping: &Mapping) {
    let _lock = ProcessLock::take(WipedWord::Mappings);
    let base = mapping.base().addr();
    let Some(entry) = TABLE
        .iter()
        .find(|entry| entry.mapping.load(Relaxed).addr() == ptr::from_ref(mapping).addr())
    else {
        return;
    };
    debug_assert_eq!(entry.start.load(Relaxed), base);
    entry.start.store(0, Release);
    entry.len.store(0, Relaxed);
    EPOCH.fetch_add(1, AcqRel);
    let weak = entry.mapping.swap(ptr::null_mut(), AcqRel);
    // SAFETY: it came from `Weak::into_raw`, and was taken out just now, under the lock.
    drop(unsafe { Weak::from_raw(weak.cast_const()) });
}
