//! A key's place in a map, looked up once.

use super::{
    map::{HashMap, or_panic},
    removed::Removed,
    storage::Storage,
};
use crate::{
    error::Result,
    share::{Key, Share, Store},
};
use std::{borrow::Borrow, hash::Hash};

/// The place of a key in a [`HashMap`], occupied or not. Made by [`HashMap::entry`].
pub enum Entry<'a, K, V, Q = K> {
    /// There is a value under the key.
    Occupied(OccupiedEntry<'a, K, V>),
    /// There is none.
    Vacant(VacantEntry<'a, K, V, Q>),
}

/// A key's place that has a value.
pub struct OccupiedEntry<'a, K, V> {
    map: &'a mut HashMap<K, V>,
    storage: Storage<K, V>,
    bucket: usize,
}

/// A key's place that has no value yet.
pub struct VacantEntry<'a, K, V, Q = K> {
    map: &'a mut HashMap<K, V>,
    hash: u64,
    key: Q,
}

impl<K: Share + Hash + Eq, V: Share> HashMap<K, V> {
    /// The place of a key, to look at it and change it with one lookup.
    ///
    /// Nothing changes by this alone.
    ///
    /// # Panics
    ///
    /// As [`get`](HashMap::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::HashMap, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// let map = arena.root::<Mutex<HashMap<char, u64>>>("letters")?;
    /// let mut letters = map.lock()?;
    /// for letter in "to be or not to be".chars() {
    ///     *letters.entry(letter).or_default()? += 1;
    /// }
    /// assert_eq!(letters[&'o'], 4);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[inline]
    pub fn entry<Q>(&mut self, key: Q) -> Entry<'_, K, V, Q>
    where
        Q: Key<K>,
        K: Borrow<Q::Form>,
    {
        match self.find(key.form()) {
            Some((storage, bucket)) => Entry::Occupied(OccupiedEntry {
                map: self,
                storage,
                bucket,
            }),
            None => Entry::Vacant(VacantEntry {
                hash: self.hash_here(key.form()),
                map: self,
                key,
            }),
        }
    }
}

impl<'a, K, V, Q> Entry<'a, K, V, Q>
where
    K: Share + Hash + Eq + Borrow<Q::Form>,
    V: Share,
    Q: Key<K>,
{
    /// The value that is there, or else this one.
    ///
    /// # Errors
    ///
    /// As [`HashMap::insert`].
    #[inline]
    pub fn or_insert(self, value: impl Store<V>) -> Result<&'a mut V> {
        match self {
            Entry::Occupied(entry) => match entry.try_into_mut() {
                Ok(found) => Ok(found),
                Err(error) => {
                    value.decline();
                    Err(error)
                }
            },
            Entry::Vacant(entry) => entry.insert(value),
        }
    }

    /// The value that is there, or else the one that `make` makes.
    ///
    /// # Errors
    ///
    /// As [`HashMap::insert`].
    #[inline]
    pub fn or_insert_with<S: Store<V>>(self, make: impl FnOnce() -> S) -> Result<&'a mut V> {
        match self {
            Entry::Occupied(entry) => entry.try_into_mut(),
            Entry::Vacant(entry) => entry.insert(make()),
        }
    }

    /// The value that is there, or else the one that `make` makes from the key.
    ///
    /// # Errors
    ///
    /// As [`HashMap::insert`].
    #[inline]
    pub fn or_insert_with_key<S: Store<V>>(
        self,
        make: impl FnOnce(&Q::Form) -> S,
    ) -> Result<&'a mut V> {
        match self {
            Entry::Occupied(entry) => entry.try_into_mut(),
            Entry::Vacant(entry) => {
                let value = make(entry.key());
                entry.insert(value)
            }
        }
    }

    /// The value that is there, or else the default one.
    ///
    /// # Errors
    ///
    /// As [`HashMap::insert`].
    #[inline]
    pub fn or_default(self) -> Result<&'a mut V>
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Changes the value if there is one.
    ///
    /// # Panics
    ///
    /// As [`HashMap::get_mut`].
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Entry::Occupied(entry) = &mut self {
            change(entry.get_mut());
        }
        self
    }

    /// The key.
    pub fn key(&self) -> &Q::Form {
        match self {
            Entry::Occupied(entry) => entry.key().borrow(),
            Entry::Vacant(entry) => entry.key(),
        }
    }
}

impl<'a, K: Share, V: Share> OccupiedEntry<'a, K, V> {
    /// The key, as it is stored.
    pub fn key(&self) -> &K {
        // SAFETY: the bucket is full while the entry borrows the map.
        unsafe { self.storage.key(self.bucket) }
    }

    /// The value.
    pub fn get(&self) -> &V {
        // SAFETY: as above.
        unsafe { &(*self.storage.pair(self.bucket)).value }
    }

    /// The value, to be changed.
    ///
    /// # Panics
    ///
    /// As [`HashMap::get_mut`].
    #[track_caller]
    pub fn get_mut(&mut self) -> &mut V {
        or_panic(self.map.value_mut(self.storage, self.bucket))
    }

    /// The value, to be changed as long as the map is borrowed.
    ///
    /// # Panics
    ///
    /// As [`HashMap::get_mut`].
    #[track_caller]
    pub fn into_mut(self) -> &'a mut V {
        or_panic(self.try_into_mut())
    }

    fn try_into_mut(self) -> Result<&'a mut V> {
        self.map.value_mut(self.storage, self.bucket)
    }

    /// Puts another value there, and drops the old one.
    ///
    /// # Errors
    ///
    /// As [`HashMap::insert`].
    pub fn insert(&mut self, value: impl Store<V>) -> Result {
        match self.map.open() {
            Ok(writer) => self
                .map
                .replace_value(writer, self.storage, self.bucket, value),
            Err(error) => {
                value.decline();
                Err(error)
            }
        }
    }

    /// Takes the pair out, as [`HashMap::remove`] does.
    ///
    /// # Panics
    ///
    /// As [`HashMap::remove`].
    #[track_caller]
    pub fn remove(self) -> Removed<'a, K, V> {
        let writer = or_panic(self.map.record_removal(self.storage, self.bucket));
        // SAFETY: a full bucket, recorded.
        unsafe { Removed::new(self.map, writer, self.storage, self.bucket) }
    }
}

impl<'a, K, V, Q> VacantEntry<'a, K, V, Q>
where
    K: Share + Hash + Eq + Borrow<Q::Form>,
    V: Share,
    Q: Key<K>,
{
    /// The key that has no value.
    pub fn key(&self) -> &Q::Form {
        self.key.form()
    }

    /// The key, given back.
    pub fn into_key(self) -> Q {
        self.key
    }

    /// Puts a value there.
    ///
    /// # Errors
    ///
    /// As [`HashMap::insert`].
    #[inline]
    pub fn insert(self, value: impl Store<V>) -> Result<&'a mut V> {
        let room = match self.map.room_for(self.hash) {
            Ok(room) => room,
            Err(error) => {
                value.decline();
                return Err(error);
            }
        };
        let value = self.map.fill(room, self.key, value)?;
        // SAFETY: a full bucket of a map that is borrowed mutably; it was free when the section
        // began, or recorded since.
        Ok(unsafe { &mut *value })
    }
}
