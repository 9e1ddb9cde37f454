//! Maps from numbers and from short texts to numbers.

use super::same_hash::SameHash;
use heed::{
    Database, Env, EnvFlags, EnvOpenOptions,
    types::{Bytes, U64},
};
use sharena::{
    Arena, Root,
    collections::{HashMap, String},
    sync::Mutex,
};
use std::{hash::Hash, path::PathBuf};

/// A key of 16 characters: what lies in a `String` itself.
pub(crate) type Text = [u8; 16];
/// One of 32, which has a block of its own.
pub(crate) type LongText = [u8; 32];

#[inline(always)]
fn as_str(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("texts are ASCII")
}

/// Does the same thing with many keys: under one guard, in one transaction.
pub(crate) trait Map<K> {
    /// Puts each key in, with a number.
    fn insert_all(&mut self, keys: &[K]);
    /// How many of the keys are there.
    fn find_all(&mut self, keys: &[K]) -> u64;
    /// The sum of all values.
    fn sum(&mut self) -> u64;
    fn remove_all(&mut self, keys: &[K]);
    /// Makes it as small as a new one.
    fn reset(&mut self);
}

/// How a kind of key is kept by the maps in an arena and by `hashbrown`.
pub(crate) trait Key: Sized {
    type Shared: sharena::Share + Hash + Eq + Sync;
    type Private: Hash + Eq;

    fn insert_shared(&self, map: &mut HashMap<Self::Shared, u64>, value: u64);
    fn get_shared(&self, map: &HashMap<Self::Shared, u64>) -> Option<u64>;
    fn remove_shared(&self, map: &mut HashMap<Self::Shared, u64>) -> bool;
    fn insert_private(&self, map: &mut Private<Self::Private>, value: u64);
    fn get_private(&self, map: &Private<Self::Private>) -> Option<u64>;
    fn remove_private(&self, map: &mut Private<Self::Private>) -> bool;
    fn bytes(&self) -> &[u8];
}

pub(crate) type Private<K> = hashbrown::HashMap<K, u64, SameHash>;

const ROOM: &str = "the arena has room";

impl Key for u64 {
    type Shared = u64;
    type Private = u64;

    #[inline(always)]
    fn insert_shared(&self, map: &mut HashMap<u64, u64>, value: u64) {
        map.insert(*self, value).expect(ROOM);
    }
    #[inline(always)]
    fn get_shared(&self, map: &HashMap<u64, u64>) -> Option<u64> {
        map.get(self).copied()
    }
    #[inline(always)]
    fn remove_shared(&self, map: &mut HashMap<u64, u64>) -> bool {
        map.remove(self).is_some()
    }
    #[inline(always)]
    fn insert_private(&self, map: &mut Private<u64>, value: u64) {
        map.insert(*self, value);
    }
    #[inline(always)]
    fn get_private(&self, map: &Private<u64>) -> Option<u64> {
        map.get(self).copied()
    }
    #[inline(always)]
    fn remove_private(&self, map: &mut Private<u64>) -> bool {
        map.remove(self).is_some()
    }
    fn bytes(&self) -> &[u8] {
        // SAFETY: any number is eight bytes.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), 8) }
    }
}

impl<const LENGTH: usize> Key for [u8; LENGTH] {
    type Shared = String;
    type Private = std::string::String;

    #[inline(always)]
    fn insert_shared(&self, map: &mut HashMap<String, u64>, value: u64) {
        map.insert(as_str(self), value).expect(ROOM);
    }
    #[inline(always)]
    fn get_shared(&self, map: &HashMap<String, u64>) -> Option<u64> {
        map.get(as_str(self)).copied()
    }
    #[inline(always)]
    fn remove_shared(&self, map: &mut HashMap<String, u64>) -> bool {
        map.remove(as_str(self)).is_some()
    }
    #[inline(always)]
    fn insert_private(&self, map: &mut Private<std::string::String>, value: u64) {
        map.insert(as_str(self).to_owned(), value);
    }
    #[inline(always)]
    fn get_private(&self, map: &Private<std::string::String>) -> Option<u64> {
        map.get(as_str(self)).copied()
    }
    #[inline(always)]
    fn remove_private(&self, map: &mut Private<std::string::String>) -> bool {
        map.remove(as_str(self)).is_some()
    }
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A map in an arena, behind its mutex.
pub(crate) struct InArena<K: Key>(Root<Mutex<HashMap<K::Shared, u64>>>);

impl<K: Key> InArena<K> {
    pub(crate) fn new(arena: &Arena) -> Self {
        InArena(arena.root(&super::name("map")).expect(ROOM))
    }
}

impl<K: Key> Map<K> for InArena<K> {
    fn insert_all(&mut self, keys: &[K]) {
        let mut map = self.0.lock().expect("free");
        let map = &mut *map;
        for (value, key) in keys.iter().enumerate() {
            key.insert_shared(map, value as u64);
        }
    }

    fn find_all(&mut self, keys: &[K]) -> u64 {
        let map = self.0.lock().expect("free");
        let map = &*map;
        keys.iter()
            .map(|key| u64::from(key.get_shared(map).is_some()))
            .sum()
    }

    fn sum(&mut self) -> u64 {
        self.0.lock().expect("free").values().sum()
    }

    fn remove_all(&mut self, keys: &[K]) {
        let mut map = self.0.lock().expect("free");
        let map = &mut *map;
        for key in keys {
            key.remove_shared(map);
        }
    }

    fn reset(&mut self) {
        let mut map = self.0.lock().expect("free");
        map.clear();
        map.shrink_to_fit().expect("empty ones need no room");
    }
}

/// A map of `hashbrown`, which is also that of `std`, with sharena's hash function.
pub(crate) struct Hashbrown<K: Key>(Private<K::Private>);

impl<K: Key> Hashbrown<K> {
    pub(crate) fn new() -> Self {
        Hashbrown(Private::with_hasher(SameHash::new()))
    }
}

impl<K: Key> Map<K> for Hashbrown<K> {
    fn insert_all(&mut self, keys: &[K]) {
        for (value, key) in keys.iter().enumerate() {
            key.insert_private(&mut self.0, value as u64);
        }
    }

    fn find_all(&mut self, keys: &[K]) -> u64 {
        keys.iter()
            .map(|key| u64::from(key.get_private(&self.0).is_some()))
            .sum()
    }

    fn sum(&mut self) -> u64 {
        self.0.values().sum()
    }

    fn remove_all(&mut self, keys: &[K]) {
        for key in keys {
            key.remove_private(&mut self.0);
        }
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

/// A database of LMDB on tmpfs, written through its map, and never flushed.
pub(crate) struct Lmdb {
    env: Env,
    database: Database<Bytes, U64<heed::byteorder::NativeEndian>>,
    folder: PathBuf,
    created: bool,
}

impl Lmdb {
    /// A new one, whose files go with whoever made it.
    pub(crate) fn new() -> Lmdb {
        let folder = super::folder().join(super::name("lmdb"));
        std::fs::create_dir(&folder).expect("the folder is new");
        let mut lmdb = Self::open(folder.to_str().expect("names are ASCII"));
        lmdb.created = true;
        lmdb
    }

    pub(crate) fn open(folder: &str) -> Lmdb {
        let mut options = EnvOpenOptions::new();
        options.map_size(2 << 30);
        // SAFETY: opened once in this process; a power failure may ruin it, and does not matter.
        let env = unsafe {
            let fast = EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC;
            options.flags(fast).open(folder)
        };
        let env = env.expect("LMDB can open its files");
        let mut transaction = env.write_txn().expect(LMDB);
        let database = env.create_database(&mut transaction, None).expect(LMDB);
        transaction.commit().expect(LMDB);
        Lmdb {
            env,
            database,
            folder: folder.into(),
            created: false,
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.folder.to_str().expect("names are ASCII")
    }
}

impl Drop for Lmdb {
    fn drop(&mut self) {
        if self.created {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

const LMDB: &str = "the database is in order";

impl<K: Key> Map<K> for Lmdb {
    fn insert_all(&mut self, keys: &[K]) {
        let mut transaction = self.env.write_txn().expect(LMDB);
        for (value, key) in keys.iter().enumerate() {
            let put = self
                .database
                .put(&mut transaction, key.bytes(), &(value as u64));
            put.expect("the database has room");
        }
        transaction.commit().expect(LMDB);
    }

    fn find_all(&mut self, keys: &[K]) -> u64 {
        let transaction = self.env.read_txn().expect(LMDB);
        let get = |key: &K| self.database.get(&transaction, key.bytes()).expect(LMDB);
        keys.iter().map(|key| u64::from(get(key).is_some())).sum()
    }

    fn sum(&mut self) -> u64 {
        let transaction = self.env.read_txn().expect(LMDB);
        let all = self.database.iter(&transaction).expect(LMDB);
        all.map(|pair| pair.expect(LMDB).1).sum()
    }

    fn remove_all(&mut self, keys: &[K]) {
        let mut transaction = self.env.write_txn().expect(LMDB);
        for key in keys {
            let delete = self.database.delete(&mut transaction, key.bytes());
            delete.expect(LMDB);
        }
        transaction.commit().expect(LMDB);
    }

    fn reset(&mut self) {
        let mut transaction = self.env.write_txn().expect(LMDB);
        self.database.clear(&mut transaction).expect(LMDB);
        transaction.commit().expect(LMDB);
    }
}
