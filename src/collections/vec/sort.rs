//! Sorting: as slices do it, but elements may be containers.
//!
//! A slice's sort moves elements to its own stack and compares them there, where a container
//! cannot be read. So elements that own memory are compared where they lie: first the order is
//! found, then the elements are put into it. No user code runs while they are out of place.

use super::Vec;
use crate::share::Share;
use std::{
    cmp::Ordering,
    mem::{self, MaybeUninit},
    ptr,
};

impl<T: Share> Vec<T> {
    /// Sorts the elements, keeping the order of equal ones. As [`slice::sort`].
    ///
    /// Records the whole buffer first, once per section.
    ///
    /// # Panics
    ///
    /// If the arena is so full that the buffer cannot be recorded; nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, collections::{String, Vec}, sync::Mutex};
    ///
    /// let arena = Arena::in_memory()?;
    /// let root = arena.root::<Mutex<Vec<String>>>("words")?;
    /// let mut words = root.lock()?;
    /// for word in ["b", "c", "a"] {
    ///     words.push_from(word)?;
    /// }
    /// words.sort();
    /// assert_eq!(words[0], *"a");
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn sort(&mut self)
    where
        T: Ord,
    {
        self.sort_by(T::cmp);
    }

    /// Sorts the elements by a comparison, keeping the order of equal ones. As
    /// [`slice::sort_by`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_by(&mut self, mut compare: impl FnMut(&T, &T) -> Ordering) {
        if !mem::needs_drop::<T>() {
            self.as_mut_slice().sort_by(compare);
            return;
        }
        let elements = self.as_slice();
        let mut order: std::vec::Vec<usize> = (0..elements.len()).collect();
        order.sort_by(|&a, &b| compare(&elements[a], &elements[b]));
        arrange(self.as_mut_slice(), &order);
    }

    /// Sorts the elements by a key, keeping the order of equal ones. As [`slice::sort_by_key`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.sort_by(|a, b| key(a).cmp(&key(b)));
    }

    /// Sorts the elements by a key that is computed once for each. As
    /// [`slice::sort_by_cached_key`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_by_cached_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        let keys: std::vec::Vec<K> = self.iter().map(key).collect();
        let mut order: std::vec::Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
        arrange(self.as_mut_slice(), &order);
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
        self.sort_unstable_by(T::cmp);
    }

    /// Sorts the elements by a comparison; equal ones may change places. As
    /// [`slice::sort_unstable_by`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_unstable_by(&mut self, compare: impl FnMut(&T, &T) -> Ordering) {
        if mem::needs_drop::<T>() {
            self.sort_by(compare);
        } else {
            self.as_mut_slice().sort_unstable_by(compare);
        }
    }

    /// Sorts the elements by a key; equal ones may change places. As
    /// [`slice::sort_unstable_by_key`].
    ///
    /// # Panics
    ///
    /// As [`sort`](Vec::sort).
    pub fn sort_unstable_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    }
}

/// Moves the element at `order[i]` to place `i`, for each place. `order` is a permutation.
fn arrange<T>(elements: &mut [T], order: &[usize]) {
    assert_eq!(elements.len(), order.len());
    let mut arranged: std::vec::Vec<MaybeUninit<T>> = std::vec::Vec::with_capacity(order.len());
    for &from in order {
        // SAFETY: in bounds by the index; the copies are never dropped, only moved back below, and
        // nothing that can panic runs in between: each element is there exactly once at the end.
        arranged.push(MaybeUninit::new(unsafe {
            ptr::read(&raw const elements[from])
        }));
    }
    // SAFETY: as many elements as there are places; a permutation puts each back once.
    unsafe {
        let from = arranged.as_ptr().cast::<T>();
        ptr::copy_nonoverlapping(from, elements.as_mut_ptr(), order.len());
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Arena,
        collections::{String, Vec},
        sync::Mutex,
    };

    #[test]
    fn sorts_owning_elements_as_slices_do() {
        let arena = Arena::in_memory().unwrap();
        let root = arena.root::<Mutex<Vec<String>>>("words").unwrap();
        let mut words = root.lock().unwrap();
        let mut model: std::vec::Vec<std::string::String> = std::vec::Vec::new();
        for n in 0..500u32 {
            // Some in the strings, some in blocks.
            let width = 14 + n as usize % 5;
            let word = format!("{:0width$}", n.wrapping_mul(2_654_435_761) % 97);
            words.push_from(word.as_str()).unwrap();
            model.push(word);
        }
        words.sort_by_key(|word| word.len());
        model.sort_by_key(|word| word.len());
        assert!(
            words
                .iter()
                .map(String::as_str)
                .eq(model.iter().map(|s| s.as_str()))
        );
        words.sort();
        model.sort();
        assert!(
            words
                .iter()
                .map(String::as_str)
                .eq(model.iter().map(|s| s.as_str()))
        );
    }
}
