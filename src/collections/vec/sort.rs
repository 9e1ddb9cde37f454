//! Sorting.
//!
//! `std` sorts by moving elements to the stack and to the heap, and compares them there. What owns
//! arena memory cannot be read in such places. So where elements may own any, their positions are
//! sorted, with the elements in place; then the elements are moved. The caller's code sees a vector
//! that does not change, and when it panics the vector is as it was.

use super::Vec;
use crate::share::Share;
use std::{cmp::Ordering, mem, ptr};

impl<T: Share> Vec<T> {
    /// Sorts the elements; equal ones keep their order. *O*(n log n).
    ///
    /// Records all elements. Unlike sorting a slice of the vector, this works for elements that own
    /// memory, too.
    #[track_caller]
    pub fn sort(&mut self)
    where
        T: Ord,
    {
        self.sort_by(T::cmp);
    }

    /// Sorts by a comparison; equal elements keep their order.
    #[track_caller]
    pub fn sort_by(&mut self, mut compare: impl FnMut(&T, &T) -> Ordering) {
        if !mem::needs_drop::<T>() {
            return self.as_mut_slice().sort_by(compare);
        }
        self.sort_in_place(|elements, order| {
            order.sort_by(|&a, &b| compare(&elements[a], &elements[b]));
        });
    }

    /// Sorts by a key; elements with equal keys keep their order.
    #[track_caller]
    pub fn sort_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.sort_by(|a, b| key(a).cmp(&key(b)));
    }

    /// Sorts by a key that is computed once for each element.
    #[track_caller]
    pub fn sort_by_cached_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        // Its elements change places, and are not looked at meanwhile.
        self.as_mut_slice().sort_by_cached_key(key);
    }

    /// Sorts the elements; equal ones may change places.
    #[track_caller]
    pub fn sort_unstable(&mut self)
    where
        T: Ord,
    {
        self.sort_unstable_by(T::cmp);
    }

    /// Sorts by a comparison; equal elements may change places.
    #[track_caller]
    pub fn sort_unstable_by(&mut self, mut compare: impl FnMut(&T, &T) -> Ordering) {
        if !mem::needs_drop::<T>() {
            return self.as_mut_slice().sort_unstable_by(compare);
        }
        self.sort_in_place(|elements, order| {
            order.sort_unstable_by(|&a, &b| compare(&elements[a], &elements[b]));
        });
    }

    /// Sorts by a key; elements with equal keys may change places.
    #[track_caller]
    pub fn sort_unstable_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    }

    /// Lets `sort` put the positions of the elements in order, and then the elements themselves.
    #[track_caller]
    fn sort_in_place(&mut self, sort: impl FnOnce(&[T], &mut [usize])) {
        let mut order: std::vec::Vec<usize> = (0..self.len()).collect();
        sort(self.as_slice(), &mut order);
        if order.is_sorted() {
            return;
        }
        let elements = self.as_mut_slice();
        assert_eq!(elements.len(), order.len());
        // SAFETY: positions of elements, each once: they were only sorted.
        unsafe { permute(elements, &mut order) };
    }
}

/// Puts at each position the element whose position `order` names there.
///
/// # Safety
///
/// `order` names each position of `elements` once.
unsafe fn permute<T>(elements: &mut [T], order: &mut [usize]) {
    let start = elements.as_mut_ptr();
    for first in 0..order.len() {
        if order[first] == first {
            continue;
        }
        // SAFETY: all positions are inside; along a cycle each element moves once, into the place
        // of one that moved before, the first of them by way of the stack. Nothing here panics.
        unsafe {
            let held = ptr::read(start.add(first));
            let mut gap = first;
            loop {
                let from = mem::replace(&mut order[gap], gap);
                if from == first {
                    break;
                }
                ptr::copy_nonoverlapping(start.add(from), start.add(gap), 1);
                gap = from;
            }
            ptr::write(start.add(gap), held);
        }
    }
}
