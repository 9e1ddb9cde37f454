//! The map itself.

use super::{
    hash::hash_of,
    iter::{Drain, Iter, IterMut, Keys, Values, ValuesMut},
    removed::Removed,
    storage::{self, FullBuckets, Pair, Room, Storage},
    table::{Found, Hit, buckets_for, capacity_of},
};
use crate::{
    collections::{raw, vec::refuse},
    error::{Result, unbox},
    layout::MapHeader,
    mapping,
    section::Writer,
    share::{Builtin, Key, Lookup, Share, Store, TypeInfo, node},
};
use std::{
    borrow::Borrow,
    hash::Hash,
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ptr,
};

/// A hash map in shared memory, used like [`std::collections::HashMap`].
///
/// What may allocate returns [`Result`]. Keys are taken and looked up in borrowed form: a map with
/// `String` keys takes `&str`. Lookups take constant time, and so do changes, on average; a change
/// that makes the table grow takes time in proportion to its length. The order of iteration is
/// arbitrary.
///
/// A map lies in an arena, behind a lock, alone or as a part of something. An empty one can be made
/// anywhere; one that owns memory can be used only where it lies in its arena.
///
/// Hashes are the same in every process that can map the arena, and seeded per arena; they are fast,
/// and not meant to withstand those who can choose keys and learn the seed.
///
/// # Crash safety
///
/// All changes belong to the critical section of the guard that the map was reached by.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, collections::HashMap, sync::Mutex};
///
/// let arena = Arena::in_memory()?;
/// let stock = arena.root::<Mutex<HashMap<u32, u64>>>("stock")?;
///
/// let mut stock = stock.lock()?;
/// stock.insert(7, 100)?;
/// stock.insert(8, 250)?;
/// *stock.entry(7).or_default()? += 11;
/// assert_eq!(stock.get(&7), Some(&111));
/// assert_eq!(stock.remove(&8).map(|left| *left), Some(250));
/// assert_eq!(stock.len(), 1);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(C)]
pub struct HashMap<K, V> {
    pub(super) header: MapHeader,
    /// Owns pairs; not `Send`, since it frees arena memory in its thread's section.
    owns: PhantomData<(Pair<K, V>, *mut ())>,
}

// SAFETY: shared references give shared references to keys and values only.
unsafe impl<K: Sync, V: Sync> Sync for HashMap<K, V> {}

// SAFETY: `repr(C)` and made of offsets; what it owns is `Share`, and is freed by its schema.
unsafe impl<K: Share, V: Share> Share for HashMap<K, V> {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::HashMap, &[node::<K>, node::<V>]);
}

impl<K, V> HashMap<K, V> {
    /// An empty map, which owns nothing. It can be used once it lies in an arena.
    #[inline]
    pub const fn new() -> Self {
        HashMap {
            header: MapHeader {
                buffer: crate::layout::BufferHeader::new(),
                len: 0,
                mask: 0,
                growth_left: 0,
            },
            owns: PhantomData,
        }
    }

    /// How many keys there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.header.len as usize
    }

    /// Whether there is no key.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.header.len == 0
    }

    /// How many keys the map can hold before it must allocate. A lower bound.
    #[inline]
    pub fn capacity(&self) -> usize {
        (self.header.len + self.header.growth_left) as usize
    }

    /// The table, and the seed of its hashes. Only for a map that is not empty.
    #[inline(always)]
    pub(super) fn storage(&self) -> (Storage<K, V>, u64) {
        let (block, seed) = raw::buffer_and_seed(&self.header.buffer);
        // SAFETY: who is not empty has a block.
        (unsafe { Storage::new(block.as_ptr(), &self.header) }, seed)
    }

    /// The full buckets, to go through them. The storage must not be used for an empty map.
    pub(super) fn full_buckets(&self) -> (Option<Storage<K, V>>, FullBuckets) {
        if self.is_empty() {
            return (None, FullBuckets::none());
        }
        let storage = self.storage().0;
        (
            Some(storage),
            FullBuckets::new(storage.table, self.header.len as usize),
        )
    }

    /// Begins a change.
    #[inline(always)]
    pub(super) fn open(&mut self) -> Result<Writer> {
        // SAFETY: the map begins with its header, and is borrowed mutably.
        unsafe { raw::open::<{ size_of::<MapHeader>() }>(&raw mut self.header.buffer) }
    }

    /// Goes through the pairs, in arbitrary order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(self)
    }

    /// Goes through the keys, in arbitrary order.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// Goes through the values, in arbitrary order.
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }

    /// Goes through the pairs, in arbitrary order, with values that can be changed.
    ///
    /// Each value is recorded in the section when it is handed out.
    ///
    /// # Panics
    ///
    /// While iterating: if the arena is so full that a value cannot be recorded; nothing is lost
    /// then.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut::new(self)
    }

    /// Goes through the values, in arbitrary order, to change them.
    ///
    /// # Panics
    ///
    /// As [`iter_mut`](HashMap::iter_mut).
    pub fn values_mut(&mut self) -> ValuesMut<'_, K, V> {
        ValuesMut(self.iter_mut())
    }
}

impl<K: Share, V: Share> HashMap<K, V> {
    /// Takes everything out, one by one: in arbitrary order, as guards like those of
    /// [`remove`](HashMap::remove).
    ///
    /// What was not taken when the iterator is dropped is dropped with it. What is forgotten stays
    /// in the map, be it a guard or the iterator.
    ///
    /// # Panics
    ///
    /// While iterating: if the arena is so full that a pair cannot be recorded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::HashMap, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// let map = arena.root::<Mutex<HashMap<u32, u64>>>("map")?;
    /// let mut map = map.lock()?;
    /// map.insert(1, 10)?;
    /// map.insert(2, 20)?;
    /// assert_eq!(map.drain().map(|value| *value).sum::<u64>(), 30);
    /// assert!(map.is_empty());
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn drain(&mut self) -> Drain<'_, K, V> {
        Drain::new(self)
    }

    /// Keeps only those pairs for which `keep` says so.
    ///
    /// # Panics
    ///
    /// If `keep` does; then the pairs that it did not see are still there. And if the arena is so
    /// full that a pair cannot be recorded.
    #[track_caller]
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let (Some(storage), mut buckets) = self.full_buckets() else {
            return;
        };
        while let Some(bucket) = buckets.next(storage) {
            let pair = storage.pair(bucket);
            or_panic(self.record_value(bucket));
            // SAFETY: a full bucket of a map that is borrowed mutably, whose value is recorded.
            let Pair { key, value } = unsafe { &mut *pair };
            if !keep(key, value) {
                let writer = or_panic(self.record_removal(storage, bucket));
                // SAFETY: recorded just now.
                drop(unsafe { Removed::new(self, writer, storage, bucket) });
            }
        }
    }

    /// Takes everything out.
    ///
    /// The capacity stays, unless the arena has no room for an empty table beside the old one, which
    /// is needed until the section ends.
    ///
    /// # Panics
    ///
    /// If the arena is so full that the map cannot be recorded.
    #[track_caller]
    pub fn clear(&mut self) {
        if self.is_empty() {
            return;
        }
        let writer = or_panic(self.open());
        storage::clear::<K, V>(writer, &mut self.header);
    }

    /// Records what a removal changes.
    #[inline(always)]
    pub(super) fn record_removal(
        &mut self,
        storage: Storage<K, V>,
        bucket: usize,
    ) -> Result<Writer> {
        let writer = self.open()?;
        storage::record_control(writer, &mut self.header, storage, bucket)?;
        Ok(writer)
    }

    /// Records the value in a full bucket.
    #[inline(always)]
    pub(super) fn record_value(&mut self, bucket: usize) -> Result {
        let writer = self.open()?;
        self.record_value_in(writer, bucket)
    }

    /// The same in an opened map.
    #[inline(always)]
    fn record_value_in(&mut self, writer: Writer, bucket: usize) -> Result {
        if V::UNLOGGED {
            return self.record_lent(writer, bucket);
        }
        storage::record_value::<K, V>(writer, &mut self.header, bucket)
    }

    /// The same, while other values are handed out.
    #[inline(always)]
    pub(super) fn record_only_value(&mut self, bucket: usize) -> Result {
        let writer = self.open()?;
        if V::UNLOGGED {
            return self.record_lent(writer, bucket);
        }
        storage::record_only_value::<K, V>(writer, &mut self.header, bucket)
    }

    /// The same for values with parts that are not recorded.
    #[cold]
    fn record_lent(&mut self, writer: Writer, bucket: usize) -> Result {
        let value = storage::value_at::<K, V>(writer, &self.header, bucket);
        raw::record_lent(writer, &mut self.header.buffer, value, 1)
    }

    /// The value in a full bucket, recorded so that it can be changed.
    #[inline(always)]
    pub(super) fn value_mut(&mut self, storage: Storage<K, V>, bucket: usize) -> Result<&mut V> {
        self.record_value(bucket)?;
        // SAFETY: a full bucket of a map that is borrowed mutably, and recorded.
        Ok(unsafe { &mut (*storage.pair(bucket)).value })
    }

    /// Puts another value into a full bucket of an opened map, and drops the old one.
    #[inline(always)]
    pub(super) fn replace_value<S: Store<V>>(
        &mut self,
        writer: Writer,
        storage: Storage<K, V>,
        bucket: usize,
        value: S,
    ) -> Result {
        if let Err(error) = self.record_value_in(writer, bucket) {
            value.decline();
            return Err(error);
        }
        // SAFETY: a full bucket, which is recorded.
        let place = unsafe { &raw mut (*storage.pair(bucket)).value };
        let old = Displaced {
            // SAFETY: the bits of a value, which are put back or taken as the value itself.
            value: unsafe { place.cast::<MaybeUninit<V>>().read() },
            place,
        };
        // SAFETY: the slot lies in the arena, and is recorded.
        unsafe { value.store(place)? };
        old.drop_value();
        Ok(())
    }
}

/// A value whose place is being filled anew: put back unless that succeeds.
struct Displaced<V> {
    value: MaybeUninit<V>,
    place: *mut V,
}

impl<V> Displaced<V> {
    /// Its place has another value now.
    fn drop_value(self) {
        // SAFETY: the only copy of a value that is left; `self` is forgotten first.
        let value = unsafe { ptr::read(&self.value).assume_init() };
        mem::forget(self);
        drop(value);
    }
}

impl<V> Drop for Displaced<V> {
    fn drop(&mut self) {
        // SAFETY: the place's own bits; nothing else was made there.
        unsafe { ptr::copy_nonoverlapping(self.value.as_ptr(), self.place, 1) };
    }
}

impl<K: Share + Hash + Eq, V: Share> HashMap<K, V> {
    /// Puts a value under a key. Says whether there was another one before, which is dropped.
    ///
    /// To get the old value, use [`entry`](HashMap::entry) or [`replace`](HashMap::replace). The key
    /// can be anything that is stored as a `K` (a `K`, or `&str` where that is a `String`), and so
    /// can the value; a value that was [removed](HashMap::remove) from another map moves from there.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::Error::Full), [`NoSpace`](crate::Error::NoSpace) where there is no room;
    /// [`NotInArena`](crate::Error::NotInArena), [`OtherArena`](crate::Error::OtherArena) where the
    /// map cannot be used. It is as it was before then, and so is another map whose removed value
    /// was to be stored here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::HashMap, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// let map = arena.root::<Mutex<HashMap<u32, u64>>>("map")?;
    /// let mut map = map.lock()?;
    /// assert!(!map.insert(1, 10)?);
    /// assert!(map.insert(1, 11)?);
    /// assert_eq!(map[&1], 11);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    // By itself the compiler makes a call of it: 30 instructions and 9 stores more.
    #[inline(always)]
    pub fn insert<Q, S>(&mut self, key: Q, value: S) -> Result<bool>
    where
        Q: Key<K>,
        K: Borrow<Q::Form>,
        S: Store<V>,
    {
        match self.place_for(key.form()) {
            Ok(Place::Free(room)) => {
                self.fill(room, key, value)?;
                Ok(false)
            }
            Ok(Place::Full(writer, storage, bucket)) => {
                self.replace_value(writer, storage, bucket, value)?;
                Ok(true)
            }
            Err(error) => {
                value.decline();
                Err(error)
            }
        }
    }

    /// Puts a value under a key, and gives back the one that was there.
    ///
    /// For values that own nothing; others should not leave the arena.
    ///
    /// # Errors
    ///
    /// As [`insert`](HashMap::insert).
    pub fn replace<Q>(&mut self, key: Q, value: V) -> Result<Option<V>>
    where
        Q: Key<K>,
        K: Borrow<Q::Form>,
        V: Copy,
    {
        match self.place_for(key.form())? {
            Place::Free(room) => {
                self.fill(room, key, value)?;
                Ok(None)
            }
            Place::Full(writer, storage, bucket) => {
                self.record_value_in(writer, bucket)?;
                // SAFETY: a full bucket of a map that is borrowed mutably, and recorded.
                let place = unsafe { &mut (*storage.pair(bucket)).value };
                Ok(Some(mem::replace(place, value)))
            }
        }
    }

    /// Opens the map and finds a key's bucket, or a free one for it, which is recorded.
    #[inline(always)]
    fn place_for<Q>(&mut self, key: &Q) -> Result<Place<K, V>>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        let writer = self.open()?;
        let hash = hash_of(key, writer.hash_seed());
        if self.header.buffer.offset == 0 {
            return Ok(Place::Free(self.room_in_larger(writer, hash)?));
        }
        // SAFETY: the map is opened, and has a block.
        let storage = unsafe { Storage::<K, V>::opened(writer, &self.header) };
        let found = storage.table.find_or_free(hash, |bucket| {
            // SAFETY: a bucket whose tag matches is full, and the map is borrowed.
            unsafe { storage.key(bucket) }.is(key)
        });
        match found {
            Found::Full(bucket) => Ok(Place::Full(writer, storage, bucket)),
            Found::Free(bucket) => {
                let room = Room::at(storage, bucket, hash);
                Ok(Place::Free(self.recorded_room(writer, room)?))
            }
        }
    }

    /// Room for a key that is not there, recorded; opens the map.
    #[inline]
    pub(super) fn room_for(&mut self, hash: u64) -> Result<Room<K, V>> {
        let writer = self.open()?;
        if self.header.buffer.offset == 0 {
            return self.room_in_larger(writer, hash);
        }
        // SAFETY: the map is opened, and has a block.
        let storage = unsafe { Storage::<K, V>::opened(writer, &self.header) };
        let bucket = storage.table.find_free(hash);
        self.recorded_room(writer, Room::at(storage, bucket, hash))
    }

    /// Records a free bucket, or one of a larger table if this one is full.
    #[inline(always)]
    fn recorded_room(&mut self, writer: Writer, room: Room<K, V>) -> Result<Room<K, V>> {
        if room.is_empty() && self.header.growth_left == 0 {
            return self.room_in_larger(writer, room.hash);
        }
        room.recorded(writer, &mut self.header)
    }

    #[inline(always)]
    fn room_in_larger(&mut self, writer: Writer, hash: u64) -> Result<Room<K, V>> {
        unbox(storage::make_room::<K, V>(writer, &mut self.header, 1))?;
        // SAFETY: the map is opened, and has a block now: a fresh one, which needs no record.
        let storage = unsafe { Storage::<K, V>::opened(writer, &self.header) };
        Ok(Room::at(storage, storage.table.find_free(hash), hash))
    }

    /// Makes a pair in a free bucket that is recorded.
    #[inline(always)]
    pub(super) fn fill<Q: Key<K>, S: Store<V>>(
        &mut self,
        room: Room<K, V>,
        key: Q,
        value: S,
    ) -> Result<*mut V> {
        // SAFETY: a bucket that is free, in the arena; whatever happens to it does not matter until
        // its control byte says that it is full.
        let value = unsafe { make_pair(room.pair(), key, value)? };
        // SAFETY: the pair is complete, and the control byte recorded.
        unsafe { room.mark_full() };
        self.header.len += 1;
        self.header.growth_left -= u64::from(room.is_empty());
        Ok(value)
    }

    /// The bucket of a key.
    #[inline(always)]
    pub(super) fn find<Q>(&self, key: &Q) -> Option<(Storage<K, V>, usize)>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        self.find_hit(key)
            .map(|(storage, hit)| (storage, hit.bucket))
    }

    #[inline(always)]
    fn find_hit<Q>(&self, key: &Q) -> Option<(Storage<K, V>, Hit)>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let (storage, seed) = self.storage();
        // SAFETY: the map's table, which is borrowed.
        let hit = unsafe { Self::find_in(storage, seed, key) };
        hit.map(|hit| (storage, hit))
    }

    /// The bucket of a key in a table.
    ///
    /// # Safety
    ///
    /// Nobody changes it meanwhile.
    #[inline(always)]
    unsafe fn find_in<Q>(storage: Storage<K, V>, seed: u64, key: &Q) -> Option<Hit>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        storage.table.find(hash_of(key, seed), |bucket| {
            // SAFETY: a bucket whose tag matches is full, and stays so by contract.
            unsafe { storage.key(bucket) }.is(key)
        })
    }

    /// The hash of a key where this map lies.
    #[inline(always)]
    pub(super) fn hash_here<Q: ?Sized + Hash>(&self, key: &Q) -> u64 {
        hash_of(key, mapping::locate(self).map_or(0, |here| here.seed))
    }

    /// The value under a key.
    ///
    /// # Panics
    ///
    /// If the map owns memory and does not lie in its arena.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::HashMap, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// let map = arena.root::<Mutex<HashMap<u32, u64>>>("map")?;
    /// let mut map = map.lock()?;
    /// map.insert(1, 10)?;
    /// assert_eq!(map.get(&1), Some(&10));
    /// assert_eq!(map.get(&2), None);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        let (storage, bucket) = self.find(key)?;
        // SAFETY: a full bucket of a map that is borrowed.
        Some(unsafe { &(*storage.pair(bucket)).value })
    }

    /// The key as it is stored, and the value under it.
    ///
    /// # Panics
    ///
    /// As [`get`](HashMap::get).
    #[inline]
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        let (storage, bucket) = self.find(key)?;
        // SAFETY: a full bucket of a map that is borrowed.
        let pair = unsafe { &*storage.pair(bucket) };
        Some((&pair.key, &pair.value))
    }

    /// Whether there is a value under the key.
    ///
    /// # Panics
    ///
    /// As [`get`](HashMap::get).
    #[inline]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        self.find(key).is_some()
    }

    /// The value under a key, to be changed. Its bytes are recorded in the section first.
    ///
    /// # Panics
    ///
    /// As [`get`](HashMap::get); and if the arena is so full that the value cannot be recorded.
    #[inline]
    #[track_caller]
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        let (storage, bucket) = self.find(key)?;
        Some(or_panic(self.value_mut(storage, bucket)))
    }

    /// Takes a key and its value out: when the guard that this returns is dropped.
    ///
    /// The guard reads them where they lie: `*guard` copies a value that is `Copy`. It can be stored
    /// in another container, to which the value then moves. Forgotten, it leaves the pair where it
    /// was.
    ///
    /// # Panics
    ///
    /// As [`get`](HashMap::get); and if the arena is so full that the pair cannot be recorded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::HashMap, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// # type Map = Mutex<HashMap<u32, u64>>;
    /// let (giro, savings) = (arena.root::<Map>("giro")?, arena.root::<Map>("savings")?);
    /// giro.lock()?.insert(1, 10)?;
    ///
    /// arena.section(|| {
    ///     let (mut from, mut to) = (giro.lock()?, savings.lock()?);
    ///     to.insert(1, from.remove(&1).ok_or("not found")?)?;
    ///     Ok(())
    /// })?;
    /// assert!(giro.lock()?.is_empty());
    /// assert_eq!(savings.lock()?[&1], 10);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn remove<Q>(&mut self, key: &Q) -> Option<Removed<'_, K, V>>
    where
        Q: ?Sized + Hash + Eq,
        K: Lookup<Q>,
    {
        let recorded = Writer::that_recorded(&self.header.buffer);
        let (storage, hit) = match recorded {
            // SAFETY: the map is opened, and who is not empty has a block, which is borrowed.
            Some(writer) if !self.is_empty() => unsafe {
                let storage = Storage::opened(writer, &self.header);
                (storage, Self::find_in(storage, writer.hash_seed(), key)?)
            },
            _ => self.find_hit(key)?,
        };
        let writer = or_panic(match recorded {
            Some(writer) => {
                let done = storage::record_control(writer, &mut self.header, storage, hit.bucket);
                done.map(|()| writer)
            }
            None => self.record_removal(storage, hit.bucket),
        });
        // SAFETY: a full bucket, recorded.
        Some(unsafe { Removed::of_hit(self, writer, storage, hit) })
    }

    /// Makes room for `additional` more keys.
    ///
    /// # Errors
    ///
    /// As [`insert`](HashMap::insert).
    pub fn reserve(&mut self, additional: usize) -> Result {
        let writer = self.open()?;
        if additional as u64 > self.header.growth_left {
            unbox(storage::make_room::<K, V>(
                writer,
                &mut self.header,
                additional,
            ))?;
        }
        Ok(())
    }

    /// Gives back as much memory as the table does not need.
    ///
    /// # Errors
    ///
    /// As [`insert`](HashMap::insert): the smaller table is made beside the larger one.
    pub fn shrink_to_fit(&mut self) -> Result {
        let writer = self.open()?;
        if self.header.buffer.offset == 0 {
            return Ok(());
        }
        if self.is_empty() {
            storage::free_block::<K, V>(writer, &mut self.header)?;
            self.header.mask = 0;
            self.header.growth_left = 0;
            return Ok(());
        }
        let now = self.header.mask as usize + 1;
        match buckets_for(self.len()) {
            Some(buckets) if buckets < now => {
                debug_assert!(capacity_of(buckets) >= self.len());
                storage::resize::<K, V>(writer, &mut self.header, buckets)
            }
            _ => Ok(()),
        }
    }

    /// Puts all pairs in.
    ///
    /// # Errors
    ///
    /// As [`insert`](HashMap::insert). The pairs before the one that failed are in the map.
    pub fn try_extend<Q, S>(&mut self, pairs: impl IntoIterator<Item = (Q, S)>) -> Result
    where
        Q: Key<K>,
        K: Borrow<Q::Form>,
        S: Store<V>,
    {
        let pairs = pairs.into_iter();
        // As `std` does: many of them may be there already.
        let expected = pairs.size_hint().0;
        self.reserve(if self.is_empty() {
            expected
        } else {
            expected.div_ceil(2)
        })?;
        for (key, value) in pairs {
            self.insert(key, value)?;
        }
        Ok(())
    }
}

/// Where a key is, or where it is to be put.
enum Place<K, V> {
    Full(Writer, Storage<K, V>, usize),
    Free(Room<K, V>),
}

/// Makes a pair in a place where there is none. Gives where its value is.
///
/// # Safety
///
/// The place lies in the arena, may be written, and its old bytes do not matter.
#[inline(always)]
unsafe fn make_pair<K: Share, V: Share>(
    pair: *mut Pair<K, V>,
    key: impl Key<K>,
    value: impl Store<V>,
) -> Result<*mut V> {
    /// Drops a key whose value could not be made.
    struct Alone<K>(*mut K);
    impl<K> Drop for Alone<K> {
        fn drop(&mut self) {
            // SAFETY: a complete key that nobody else knows of.
            unsafe { ptr::drop_in_place(self.0) };
        }
    }
    // SAFETY: by contract.
    let places = unsafe { (&raw mut (*pair).key, &raw mut (*pair).value) };
    // SAFETY: by contract.
    if let Err(error) = unsafe { key.store(places.0) } {
        value.decline();
        return Err(error);
    }
    let alone = Alone(places.0);
    // SAFETY: by contract.
    unsafe { value.store(places.1)? };
    mem::forget(alone);
    Ok(places.1)
}

/// For operations without a `Result`: they have no other way to tell that the arena is so full that
/// not even the old bytes can be recorded.
#[inline(always)]
#[track_caller]
pub(super) fn or_panic<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => refuse(error),
    }
}

impl<K, V> Drop for HashMap<K, V> {
    /// Frees what the map owns, also where it was moved to the stack. See `raw::while_dropping`.
    fn drop(&mut self) {
        storage::drop_block::<K, V>(&self.header);
    }
}
