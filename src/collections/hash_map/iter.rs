//! Going through a map.

use super::{
    map::{HashMap, or_panic},
    removed::Removed,
    storage::{FullBuckets, Pair, Storage},
};
use crate::share::Share;
use std::{fmt, iter::FusedIterator, marker::PhantomData};

/// Goes through the pairs of a map. Made by [`HashMap::iter`].
pub struct Iter<'a, K, V> {
    /// None for an empty map.
    storage: Option<Storage<K, V>>,
    buckets: FullBuckets,
    map: PhantomData<&'a HashMap<K, V>>,
}

// SAFETY: it is a shared reference to keys and values.
unsafe impl<K: Sync, V: Sync> Send for Iter<'_, K, V> {}
// SAFETY: as above.
unsafe impl<K: Sync, V: Sync> Sync for Iter<'_, K, V> {}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(map: &'a HashMap<K, V>) -> Self {
        let (storage, buckets) = map.full_buckets();
        Iter {
            storage,
            buckets,
            map: PhantomData,
        }
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Iter {
            storage: self.storage,
            buckets: self.buckets.clone(),
            map: PhantomData,
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let storage = self.storage?;
        let bucket = self.buckets.next(storage)?;
        // SAFETY: a full bucket of a map that is borrowed for `'a`.
        let Pair { key, value } = unsafe { &*storage.pair(bucket) };
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.buckets.left(), Some(self.buckets.left()))
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, mut f: F) -> B {
        let Some(storage) = self.storage else {
            return init;
        };
        let mut folded = init;
        while let Some((group, buckets)) = self.buckets.next_group(storage) {
            let pairs = storage.pair(group);
            for bucket in buckets {
                // SAFETY: a full bucket of a map that is borrowed for `'a`.
                let Pair { key, value } = unsafe { &*pairs.add(bucket) };
                folded = f(folded, (key, value));
            }
        }
        folded
    }
}

/// Goes through the keys of a map. Made by [`HashMap::keys`].
pub struct Keys<'a, K, V>(pub(super) Iter<'a, K, V>);

/// Goes through the values of a map. Made by [`HashMap::values`].
pub struct Values<'a, K, V>(pub(super) Iter<'a, K, V>);

/// Goes through the pairs of a map, to change values. Made by [`HashMap::iter_mut`].
///
/// Not `Send`: each value is recorded in this thread's section as it is handed out.
pub struct IterMut<'a, K, V> {
    map: *mut HashMap<K, V>,
    storage: Option<Storage<K, V>>,
    buckets: FullBuckets,
    borrow: PhantomData<&'a mut HashMap<K, V>>,
}

impl<'a, K, V> IterMut<'a, K, V> {
    pub(super) fn new(map: &'a mut HashMap<K, V>) -> Self {
        let (storage, buckets) = map.full_buckets();
        IterMut {
            map,
            storage,
            buckets,
            borrow: PhantomData,
        }
    }
}

impl<'a, K: Share, V: Share> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    /// # Panics
    ///
    /// If the arena is so full that the value cannot be recorded.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let storage = self.storage?;
        let mut buckets = self.buckets.clone();
        let bucket = buckets.next(storage)?;
        // SAFETY: the map is borrowed mutably for `'a`; only its header is used here, which no
        // reference that was handed out covers.
        or_panic(unsafe { (*self.map).record_only_value(bucket) });
        self.buckets = buckets;
        // SAFETY: a full bucket, recorded, which is handed out once.
        let Pair { key, value } = unsafe { &mut *storage.pair(bucket) };
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.buckets.left(), Some(self.buckets.left()))
    }
}

/// Goes through the values of a map, to change them. Made by [`HashMap::values_mut`].
pub struct ValuesMut<'a, K, V>(pub(super) IterMut<'a, K, V>);

/// Takes everything out of a map. Made by [`HashMap::drain`].
pub struct Drain<'a, K: Share, V: Share> {
    map: *mut HashMap<K, V>,
    storage: Option<Storage<K, V>>,
    buckets: FullBuckets,
    borrow: PhantomData<&'a mut HashMap<K, V>>,
}

impl<'a, K: Share, V: Share> Drain<'a, K, V> {
    pub(super) fn new(map: &'a mut HashMap<K, V>) -> Self {
        let (storage, buckets) = map.full_buckets();
        Drain {
            map,
            storage,
            buckets,
            borrow: PhantomData,
        }
    }
}

impl<'a, K: Share, V: Share> Iterator for Drain<'a, K, V> {
    type Item = Removed<'a, K, V>;

    /// # Panics
    ///
    /// If the arena is so full that the pair cannot be recorded.
    fn next(&mut self) -> Option<Self::Item> {
        let storage = self.storage?;
        let mut buckets = self.buckets.clone();
        let bucket = buckets.next(storage)?;
        // SAFETY: as in `IterMut`: only the header is used.
        let writer = or_panic(unsafe { (*self.map).record_removal(storage, bucket) });
        self.buckets = buckets;
        // SAFETY: a full bucket, recorded, of which no other guard was made: each is met once.
        Some(unsafe { Removed::new(self.map, writer, storage, bucket) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.buckets.left(), Some(self.buckets.left()))
    }
}

impl<K: Share, V: Share> Drop for Drain<'_, K, V> {
    /// Drops what is left. What cannot be recorded, in a full arena, stays.
    fn drop(&mut self) {
        let Some(storage) = self.storage else {
            return;
        };
        while let Some(bucket) = self.buckets.next(storage) {
            // SAFETY: as in `next`.
            unsafe {
                let Ok(writer) = (*self.map).record_removal(storage, bucket) else {
                    return;
                };
                drop(Removed::new(self.map, writer, storage, bucket));
            }
        }
    }
}

macro_rules! of_pairs {
    ($($name:ident: $bound:ident, $item:ty, $pick:expr;)*) => { $(
        impl<'a, K: $bound, V: $bound> Iterator for $name<'a, K, V> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                self.0.next().map($pick)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }

            #[inline]
            fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
                self.0.fold(init, |folded, pair| f(folded, $pick(pair)))
            }
        }

        impl<K: $bound, V: $bound> ExactSizeIterator for $name<'_, K, V> {}
        impl<K: $bound, V: $bound> FusedIterator for $name<'_, K, V> {}
    )* };
}

/// No bound at all.
trait Any {}
impl<T> Any for T {}

of_pairs! {
    Keys: Any, &'a K, |(key, _)| key;
    Values: Any, &'a V, |(_, value)| value;
    ValuesMut: Share, &'a mut V, |(_, value)| value;
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}
impl<K: Share, V: Share> ExactSizeIterator for IterMut<'_, K, V> {}
impl<K: Share, V: Share> FusedIterator for IterMut<'_, K, V> {}
impl<K: Share, V: Share> ExactSizeIterator for Drain<'_, K, V> {}
impl<K: Share, V: Share> FusedIterator for Drain<'_, K, V> {}

impl<K, V> Clone for Keys<'_, K, V> {
    fn clone(&self) -> Self {
        Keys(self.0.clone())
    }
}

impl<K, V> Clone for Values<'_, K, V> {
    fn clone(&self) -> Self {
        Values(self.0.clone())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K: fmt::Debug, V> fmt::Debug for Keys<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, V: fmt::Debug> fmt::Debug for Values<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a, K, V> IntoIterator for &'a HashMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K: Share, V: Share> IntoIterator for &'a mut HashMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}
