//! What `std`'s map can do by its traits.

use super::map::HashMap;
use crate::{
    collections::raw,
    share::{Key, Lookup, Share, Store},
};
use std::{
    borrow::Borrow,
    collections, fmt,
    hash::{BuildHasher, Hash},
    ops::Index,
};

impl<K, V> Default for HashMap<K, V> {
    fn default() -> Self {
        HashMap::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for HashMap<K, V> {
    /// Never panics: a map that was moved out of its arena only says how long it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_empty() && raw::buffer_anywhere(&self.header.buffer).is_none() {
            return write!(f, "{{{} pairs, outside their arena}}", self.len());
        }
        f.debug_map().entries(self).finish()
    }
}

impl<K, V, Q> Index<&Q> for HashMap<K, V>
where
    K: Share + Hash + Eq + Lookup<Q>,
    V: Share,
    Q: ?Sized + Hash + Eq,
{
    type Output = V;

    /// # Panics
    ///
    /// If there is no such key.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no value under this key")
    }
}

impl<K: Share + Hash + Eq, V: Share + PartialEq> PartialEq for HashMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(key, value)| other.get(key).is_some_and(|theirs| value == theirs))
    }
}

impl<K: Share + Hash + Eq, V: Share + Eq> Eq for HashMap<K, V> {}

impl<K, V, S> PartialEq<collections::HashMap<K, V, S>> for HashMap<K, V>
where
    K: Share + Hash + Eq,
    V: Share + PartialEq,
    S: BuildHasher,
{
    fn eq(&self, other: &collections::HashMap<K, V, S>) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(key, value)| other.get(key).is_some_and(|theirs| value == theirs))
    }
}

impl<K, V, Q, S> Extend<(Q, S)> for HashMap<K, V>
where
    K: Share + Hash + Eq + Borrow<Q::Form>,
    V: Share,
    Q: Key<K>,
    S: Store<V>,
{
    /// # Panics
    ///
    /// If the arena is full, or the map does not lie in one: use
    /// [`try_extend`](HashMap::try_extend) where that may be.
    fn extend<I: IntoIterator<Item = (Q, S)>>(&mut self, pairs: I) {
        if let Err(error) = self.try_extend(pairs) {
            panic!("could not extend a map: {error}");
        }
    }
}
