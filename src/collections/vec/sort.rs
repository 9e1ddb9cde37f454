//! Sorting: as slices do it, but the elements may be containers.
//!
//! Sorting moves elements to its own stack and compares them there, where a container of this
//! arena could not be read otherwise. So these stand in front of the slice's methods.

use super::Vec;
use crate::{collections::raw::while_moving, share::Share};
use std::cmp::Ordering;

impl<T: Share> Vec<T> {
    /// Sorts the elements, keeping the order of equal ones. As [`slice::sort`].
    ///
    /// Records the whole buffer first, once per section.
    ///
    /// # Panics
    ///
    /// If the arena is so full that the buffer cannot be recorded; nothing is changed then.
    pub fn sort(&mut self)
    where
        T: Ord,
    {
        while_moving(|| self.as_mut_slice().sort());
    }

    /// Sorts the elements by a comparison, keeping the order of equal ones. As
    /// [`slice::sort_by`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_by(&mut self, compare: impl FnMut(&T, &T) -> Ordering) {
        while_moving(|| self.as_mut_slice().sort_by(compare));
    }

    /// Sorts the elements by a key, keeping the order of equal ones. As [`slice::sort_by_key`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        while_moving(|| self.as_mut_slice().sort_by_key(key));
    }

    /// Sorts the elements by a key that is computed once for each. As
    /// [`slice::sort_by_cached_key`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_by_cached_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        while_moving(|| self.as_mut_slice().sort_by_cached_key(key));
    }

    /// Sorts the elements; equal ones may change places. As [`slice::sort_unstable`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_unstable(&mut self)
    where
        T: Ord,
    {
        while_moving(|| self.as_mut_slice().sort_unstable());
    }

    /// Sorts the elements by a comparison; equal ones may change places. As
    /// [`slice::sort_unstable_by`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_unstable_by(&mut self, compare: impl FnMut(&T, &T) -> Ordering) {
        while_moving(|| self.as_mut_slice().sort_unstable_by(compare));
    }

    /// Sorts the elements by a key; equal ones may change places. As
    /// [`slice::sort_unstable_by_key`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_unstable_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        while_moving(|| self.as_mut_slice().sort_unstable_by_key(key));
    }
}
